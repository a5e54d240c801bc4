"""The one log of a simulated cluster, in memory: with a conditional append, or as plain records like Kafka's.

In the plain variant an append always writes at the end, whatever was expected; readers drop a record that does not
stand at its ``expected-offset`` or that names another log, so that offsets have holes (DESIGN, "The conditional
append"). There are no faults here but those that need the log's inside; ``faulty_log.py`` is what a process sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from events.chain import AFTER, EXPECTED_OFFSET, LOG_ID
from events.following import FollowingReader
from events.log import Appended, FencedError, Fetched, NewRecord, StoredRecord, TopicPartition
from events.memory import MemoryLog
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG, partition_counts

LOGS = frozenset({ROUTING_LOG, ASSIGNMENTS_LOG})
CLUSTER_ID = "simulated"


class Broker:
    """All topics. ``plain``: without a conditional append; ``joins``: an append takes its outputs along."""

    def __init__(
        self, *, contacts: int, workspaces: int, plain: bool, joins: bool, clock_ms: Callable[[], int]
    ) -> None:
        self.plain = plain
        self.joins = joins and not plain
        self.clock_ms = clock_ms
        self.partitions = partition_counts(contacts, workspaces)
        self.memory = MemoryLog(
            cluster_id=CLUSTER_ID, clock_ms=clock_ms, topics=self.partitions, joins_outputs=self.joins
        )

    def end(self, place: TopicPartition) -> int:
        """The offset after the last record, existing or not."""
        return self.memory._partition(place).end

    def exists(self, record: StoredRecord) -> bool:
        """Whether a record of a log exists; records of other topics always do."""
        if not self.plain or record.topic not in LOGS:
            return True
        headers = dict(record.headers)
        first = self.memory._partition(record.place).records[0]
        assert first is not None
        same_log = headers.get(LOG_ID) == dict(first.headers)[LOG_ID]
        return same_log and headers.get(EXPECTED_OFFSET) == b"%d" % record.offset

    def records(self, place: TopicPartition, start: int = 0) -> list[StoredRecord]:
        """Every record that exists from ``start`` on, at once."""
        found = self.memory._partition(place).records[start:]
        return [record for record in found if record is not None and self.exists(record)]

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """Append on condition; in the plain variant always, and say ``FencedError`` if it went elsewhere."""
        if not self.plain:
            return await self.memory.append(place, records, expected=expected, outputs=outputs)
        await self.memory._turn()
        offset = self.end(place)
        self.memory._write(records, self.clock_ms())
        if offset != expected:
            raise FencedError(f"{place.topic}/{place.partition}: acknowledged at {offset}, expected was {expected}")
        return Appended(offset_next=self.end(place), time_ms=self.clock_ms())

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records that exist."""
        fetched = await self.memory.read(place, offset, records_max=records_max)
        return Fetched([record for record in fetched.records if self.exists(record)], fetched.offset_next)

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        """A reader of all records, also of those that do not exist."""
        return self.memory.reader(positions)

    def intrude(self, place: TopicPartition) -> None:
        """Somebody writes a record at the right offset who took the topic for another log (plain variant only)."""
        end = self.end(place)
        headers = ((EXPECTED_OFFSET, b"%d" % end), (LOG_ID, b"another-log"), (AFTER, b""))
        self.memory._write([NewRecord(*place, b"", b'{"type":"nonsense"}', headers)], self.clock_ms())

    def cut(self, place: TopicPartition, records: int) -> None:
        """Lose the last records, as an unclean leader election does."""
        partition = self.memory._partition(place)
        del partition.records[max(len(partition.records) - records, 1) :]
