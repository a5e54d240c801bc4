"""Brings a lane's state to the end of its log: from the newest snapshot that can be trusted, or from the beginning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from consumers.policy_book import LanePolicies
from events.chain import NOTHING_BEFORE, ChainError, Entry, Progress, follows, seal
from events.log import FencedError, IndefiniteError, Log, LogError, StoredRecord, TopicPartition
from events.records import LANE_TYPES, POLICY_RECORDED, Moment, genesis, hash_of, parse
from events.topics import ASSIGNMENTS_LOG
from routing.decider import LaneState, LogRecord

logger = logging.getLogger(__name__)

READ_RECORDS: Final = 2_000
GROUP_RECORDS: Final = 64  #: parsed, then folded, together: see ``deciding.GROUP_INPUTS``


class PositionError(LogError):
    """An input topic no longer holds what the lane has to read next, or has less than it has read."""


class PartitionCountError(LogError):
    """The log was made for another number of partitions."""


@dataclass(slots=True, kw_only=True)
class Tail:
    """Where a lane's log ends, as far as it is folded, and what the fold says of the lane itself."""

    log_id: str
    end: int = 0
    after: str = NOTHING_BEFORE
    at_ms: int = 0  #: of the last record: time does not run backwards in a log
    positions: dict[str, int] = field(default_factory=dict)
    mark: int = 0

    def advance(self, progress: Progress) -> None:
        """Take over what the end of an append says."""
        self.positions = dict(progress.positions)
        self.mark = max(self.mark, progress.mark)


async def ensure_genesis(log: Log, place: TopicPartition, now: Moment) -> str:
    """The log's id, from its first record; written now if the partition is empty.

    Raises ``PartitionCountError`` if the log was made for another number of partitions, ``ChainError`` if its first
    record is missing.
    """
    count = await log.partition_count(place.topic)
    while True:
        first = (await log.read(place, 0, records_max=1)).records
        if first:
            return _checked_genesis(first[0], count)
        log_id = uuid4().hex
        value = genesis(
            place.topic, place.partition, now, log_id=log_id, cluster_id=await log.cluster_id(), count=count
        )
        entry = Entry(b"", value, hash_of(value))
        records = seal(place, [entry], expected=0, log_id=log_id, after=NOTHING_BEFORE, progress=None)
        try:
            await log.append(place, records, expected=0)
        except (FencedError, IndefiniteError) as error:
            logger.info("%s/%d: beginning this log: %r; looking what is there", *place, error)


def _checked_genesis(record: StoredRecord, count: int) -> str:
    if record.offset > 0:
        raise ChainError(
            f"{record.topic}/{record.partition} begins at offset {record.offset}: its beginning is missing"
        )
    found = parse(record)
    if found.type != "log.genesis":
        raise LogError(f"{record.topic}/{record.partition} does not begin with log.genesis: it is no log of ours")
    made_for = found.data["partitions"]
    if made_for != count:
        raise PartitionCountError(
            f"{record.topic} was made with {made_for} partitions and has {count} now: contacts would change places. "
            "Make new topics with the count that you need and import the log into them"
        )
    log_id: str = found.data["log_id"]
    return log_id


async def fold(
    log: Log, place: TopicPartition, state: LaneState, tail: Tail, policies: LanePolicies, *, until: int | None = None
) -> int:
    """Fold everything from ``tail.end`` to the log's end (or to ``until``); returns how many records that were.

    The changes are left for the caller to confirm. Raises ``ChainError`` where the records do not fit each other.
    """
    folded = 0
    position = tail.end
    whole = place.topic != ASSIGNMENTS_LOG  # there nothing else may be named as what is left out
    while until is None or position < until:
        wanted = READ_RECORDS if until is None else min(READ_RECORDS, until - position)
        fetched = await log.read(place, position, records_max=wanted)
        for first in range(0, len(fetched.records), GROUP_RECORDS):
            group = fetched.records[first : first + GROUP_RECORDS]
            for record, found in zip(group, [parse(record, whole=whole) for record in group], strict=True):
                _fold_one(record, found, state, tail, policies)
            folded += len(group)
        if fetched.offset_next == position:
            break
        position = fetched.offset_next
    tail.end = position
    return folded


def _fold_one(record: StoredRecord, found: LogRecord, state: LaneState, tail: Tail, policies: LanePolicies) -> None:
    """Fold one record, stored and parsed, after checking that it follows the one before it."""
    progress = follows(record, log_id=tail.log_id, after=tail.after)
    if found.type == POLICY_RECORDED:
        policies.record(found.data["version"], found.data["text"], found.data["workspace"], record.offset)
    elif found.type not in LANE_TYPES:
        state.evolve(found)
    tail.after = found.hash
    tail.at_ms = found.at_ms
    tail.end = record.offset + 1
    if progress is not None:
        tail.advance(progress)


async def starting_positions(log: Log, tail: Tail, topics: Sequence[str], partition: int) -> dict[TopicPartition, int]:
    """Where each input goes on; raises ``PositionError`` if a topic does not reach from there."""
    positions: dict[TopicPartition, int] = {}
    for topic in topics:
        place = TopicPartition(topic, partition)
        position = tail.positions.get(topic)
        if position is None:
            position = await log.start_offset(place)
        positions[place] = position
    await check_positions(log, positions)
    return positions


async def check_positions(log: Log, positions: Mapping[TopicPartition, int]) -> None:
    """Raise ``PositionError``, with what to do, if a topic does not reach from the position in it."""
    for place, position in positions.items():
        start, end = await log.start_offset(place), await log.end_offset(place)
        if not start <= position <= end:
            topic, partition = place
            why = "records were deleted before they were read" if position < start else "the topic was made anew"
            raise PositionError(
                f"{topic}/{partition} holds offsets {start} to {end}, and the log has decided all below {position}: "
                f"{why}. Restore the topic from a copy that keeps offsets; if there is none, stop all serve and go on "
                f"with vip-router topics skip {topic} --partition {partition} --to start --reason TEXT"
            )
