"""Judges what a run has left in the topics, with the simulation's oracles.

They read a run of the simulation; here its place is taken by what was read out of Kafka. What the simulation knows and
Kafka does not tell, which process wrote a record, is left out: deadlines are judged with ``SLACK_MS`` of patience.
Two more look at what only a real log can do: lose what was acknowledged, and lose what was there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Final, NamedTuple, cast
from unittest.mock import patch

from events.kafka.log import KafkaLog
from events.log import StoredRecord, TopicPartition
from events.topics import ASSIGNMENTS_SNAPSHOTS, ROUTING_SNAPSHOTS
from routing.policy import Policy
from tests.brokers.node import CLUSTER_ID
from tests.chaos.load import COUNTS, WORKSPACE_NAMES
from tests.chaos.tally import Tally
from tests.chaos.watching import LOGS, places_of
from tests.simulation import oracle_replay, setting
from tests.simulation.broker import Broker
from tests.simulation.kept import Kept
from tests.simulation.observer import SNAPSHOT_TOPICS, Observer, ViolationError, Written
from tests.simulation.oracle_outputs import check_outputs
from tests.simulation.oracle_owners import check_owners
from tests.simulation.oracle_replay import check_replay
from tests.simulation.oracle_time import check_time
from tests.simulation.oracles import Oracle, check_snapshot_facts
from tests.simulation.oracles_log import check_chain, check_effects, check_sequence, check_transitions
from tests.simulation.world import World

ORACLES: Final[tuple[Oracle, ...]] = (
    check_chain,
    check_sequence,
    check_transitions,
    check_effects,
    check_time,
    check_owners,
    check_replay,
    check_outputs,
    check_snapshot_facts,
)
READ_RECORDS: Final = 5_000
SLACK_MS: Final = 120_000  #: an input that came so long before a deadline must have been decided before it
WRITER: Final = "serve"

Topics = Mapping[TopicPartition, list[StoredRecord]]


class Stored:
    """What was read of all topics, where oracles expect the simulation's broker."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.partitions = COUNTS

    def records(self, place: TopicPartition, start: int = 0) -> list[StoredRecord]:
        """The records from an offset on."""
        return [record for record in self.topics[place] if record.offset >= start]

    def end(self, place: TopicPartition) -> int:
        """The offset after the last record."""
        return self.topics[place][-1].offset + 1 if self.topics[place] else 0


async def read_all(log: KafkaLog) -> Topics:
    """Every record that exists, of every topic."""
    return {place: await _read(log, place) for topic in COUNTS for place in places_of(topic)}


async def _read(log: KafkaLog, place: TopicPartition) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    offset, end = 0, await log.end_offset(place)
    while offset < end:
        fetched = await log.read(place, offset, records_max=READ_RECORDS)
        found += fetched.records
        offset = fetched.offset_next
    return found


class Left(NamedTuple):
    """What a run has left to judge."""

    topics: Topics
    acknowledged: Mapping[tuple[str, int], Counter[bytes]]  #: what producers wrote, by topic and partition
    seen: Topics  #: the logs as they were seen meanwhile


def judge(left: Left, policy: Policy, tally: Tally) -> None:
    """Let every oracle judge what is there."""
    check_acknowledged(left, tally)
    check_seen(left, tally)
    kept = kept_of(left.topics)
    with ExitStack() as stack:
        stack.enter_context(patch.object(oracle_replay, "CLUSTER_ID", CLUSTER_ID))
        stack.enter_context(patch.object(setting, "POLICIES", (policy,)))
        stack.enter_context(patch.object(setting, "policies", lambda _: dict.fromkeys(WORKSPACE_NAMES, policy)))
        for oracle in ORACLES:
            try:
                oracle(kept)
            except ViolationError as violation:
                tally.add(violation)
            except Exception as error:  # noqa: BLE001 - a log that cannot even be judged is as bad
                tally.violated(oracle.__name__.removeprefix("check_"), f"cannot be judged: {error!r}")


def kept_of(topics: Topics) -> Kept:
    """The topics as the oracles read a run."""
    stored = cast("Broker", Stored(topics))
    observer = Observer(stored)
    observer.processes = {WRITER: (SLACK_MS, 0)}
    for place, records in topics.items():
        if place.topic in LOGS:
            observer.written[place] = {record.offset: Written(WRITER, record.time_ms) for record in records}
    for topic in (ROUTING_SNAPSHOTS, ASSIGNMENTS_SNAPSHOTS):
        for place in places_of(topic):
            for record in topics[place]:
                key, _, end = (record.key or b"").decode().rpartition("@")
                if record.value is not None:
                    log = TopicPartition(SNAPSHOT_TOPICS[topic], place.partition)
                    observer.snapshot_entries.append((log, key, int(end), record.value))
    ended_ms = max(records[-1].time_ms for records in topics.values() if records)
    world = SimpleNamespace(
        broker=stored,
        observer=observer,
        plan=SimpleNamespace(calm=False, crash_at=None),
        survivors=[],
        now_ms=lambda: ended_ms,
    )
    return Kept(cast("World", world))


def check_acknowledged(left: Left, tally: Tally) -> None:
    """Every event that a producer was told to be there is there, at least as often."""
    for (topic, partition), values in left.acknowledged.items():
        there = Counter(record.value or b"" for record in left.topics[TopicPartition(topic, partition)])
        missing = values - there
        if missing:
            tally.violated("acknowledged", f"{topic}/{partition}: {missing.total()} are gone: {next(iter(missing))!r}")


def check_seen(left: Left, tally: Tally) -> None:
    """What was seen in a log while faults happened stands there afterwards, as it was, and nothing before it."""
    for place, records in left.seen.items():
        there = left.topics[place][: len(records)]
        if there != records:
            at = next((a.offset for a, b in zip(records, there, strict=False) if a != b), len(there))
            tally.violated("vanished", f"{place}: at {at} stands something else than was seen there")
