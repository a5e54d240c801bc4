"""A log whose length is all that matters to snapshots of one lane, and what stands in their topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from consumers.lane_spec import LaneSpec
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail
from consumers.snapshots import Snapshots
from events.chain import NOTHING_BEFORE, Entry, seal
from events.log import LogUnavailableError, NewRecord, TopicPartition
from events.memory import MemoryLog
from events.records import Moment, genesis, hash_of
from events.topics import partition_counts
from routing.decider import LaneState


class FailingLog(MemoryLog):
    """Takes so many publishes, then none."""

    takes = -1  # no limit

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Write them, or fail as a full disk does."""
        if self.takes == 0:
            raise LogUnavailableError("full")
        self.takes -= 1
        await super().publish(records)


class SnapshotWorld:
    """The log, where it ends, and a writer of snapshots; whose state it is, the tests say."""

    def __init__(self, spec: LaneSpec) -> None:
        self.spec = spec
        self.place = TopicPartition(spec.log_topic, 0)
        self.log = FailingLog(cluster_id="here", clock_ms=lambda: 0, topics=partition_counts(1, 1))
        self.tail = Tail(log_id="here")
        self.policies = LanePolicies(PolicyBook({}))
        self.writer = self.another()

    def another(self) -> Snapshots:
        """The writer of another process."""
        return Snapshots(self.log, self.spec, 0)

    async def grow(self) -> None:
        """One more record."""
        topic, end = self.spec.log_topic, self.tail.end
        value = genesis(topic, 0, Moment.at(end), log_id="here", cluster_id="here", count=1)
        records = seal(
            self.place, [Entry(b"", value, hash_of(value))],
            expected=end, log_id="here", after=NOTHING_BEFORE, progress=None,
        )  # fmt: skip
        self.tail.end = (await self.log.append(self.place, records, expected=end)).offset_next
        self.tail.after = hash_of(value)

    async def write(self, writer: Snapshots, state: LaneState, changed: Mapping[str, msgspec.Struct | None]) -> None:
        """Have ``writer`` write a snapshot of what is there."""
        writer.note(changed, 1)
        writer.begin(state, self.tail, self.policies)
        await writer.settle()

    async def alive(self) -> dict[str, bytes]:
        """Key and value of each entry that is there, the removed ones left out."""
        last: dict[str, bytes | None] = {}
        for record in (await self.log.read(TopicPartition(self.spec.snapshot_topic, 0), 0, records_max=10_000)).records:
            last[(record.key or b"").decode()] = record.value
        return {key: value for key, value in last.items() if value is not None}
