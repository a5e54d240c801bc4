"""Reads a log as it stands, record by record, in bounded memory, up to the ends that it had when the audit began."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import orjson

from consumers.audit.report import NOTHING_THERE, BrokenError, Difference, Place
from consumers.lane_spec import LaneSpec
from consumers.specs import ASSIGNER, ROUTER
from events.adapter import is_log
from events.log import (
    DamagedLogError,
    Fetched,
    Log,
    OffsetOutOfRangeError,
    StoredRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.outputs import Origin
from events.records import RecordError, parse
from events.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, ROUTING_LOG
from routing.decider import LogRecord

READ_RECORDS: Final = 1_000
SPECS: Final[tuple[LaneSpec, ...]] = (ROUTER, ASSIGNER)  #: the logs, in the order in which they are looked at


class Seen(NamedTuple):
    """A record of a log, as stored and as read."""

    stored: StoredRecord
    record: LogRecord

    @property
    def event(self) -> dict[str, Any]:
        """The whole CloudEvent, read once more: few need it."""
        event: dict[str, Any] = orjson.loads(self.stored.value or b"")
        return event

    @property
    def data(self) -> dict[str, Any]:
        """The event's data."""
        return self.record.data

    @property
    def moves(self) -> bool:
        """Whether a decider made it: it has a ``seq``."""
        return "seq" in self.record.data


class LogEnd(NamedTuple):
    """A log's partition and its end when the audit began."""

    spec: LaneSpec
    place: TopicPartition
    end: int


async def log_ends(log: Log) -> list[LogEnd]:
    """The partitions of both logs; ``UnknownTopicError`` if this is no log of ours.

    ``BrokenError`` for a file without topics. On Kafka the prefix may be wrong: what the error says helps more.
    """
    try:
        return await _log_ends(log)
    except UnknownTopicError:
        if log.leaves_gaps:
            raise
        raise nothing_there() from None


async def _log_ends(log: Log) -> list[LogEnd]:
    return [LogEnd(spec, place, end) for spec in SPECS for place, end in (await ends_of(log, spec.log_topic)).items()]


async def ends_of(log: Log, topic: str) -> dict[TopicPartition, int]:
    """The ends of a topic's partitions, now."""
    places = [TopicPartition(topic, number) for number in range(await log.partition_count(topic))]
    return {place: await log.end_offset(place) for place in places}


async def stream(log: Log, place: TopicPartition, end: int, *, start: int = 0) -> AsyncIterator[StoredRecord]:
    """The partition's records from ``start`` to ``end``; offsets without a record are passed over.

    Raises ``BrokenError`` for a log that cannot be read any more from where it was read to.
    """
    position = start
    while position < end:
        fetched = await _fetched(log, place, position, min(READ_RECORDS, end - position))
        if fetched.offset_next == position:
            return
        for record in fetched.records:
            if record.offset < end:
                yield record
        position = fetched.offset_next


async def _fetched(log: Log, place: TopicPartition, position: int, records_max: int) -> Fetched:
    try:
        return await log.read(place, position, records_max=records_max)
    except DamagedLogError as error:
        offset = position if error.offset is None else error.offset
        where = Place(topic=place.topic, partition=place.partition, offset=offset)
        raise BrokenError(error.sentence, place=where, check="record") from None
    except OffsetOutOfRangeError:
        start = await log.start_offset(place)
        if not is_log(place.topic) or start <= position:
            raise
        raise _missing(place, position, start) from None


async def whole(log: Log, place: TopicPartition, end: int) -> AsyncIterator[StoredRecord]:
    """All records of a log's partition from its beginning to ``end``; ``BrokenError`` where one is missing.

    Where appends that were fenced leave records that do not exist, no offset has to have one: there the chain tells.
    """
    expected = 0
    async for stored in stream(log, place, end):
        if not log.leaves_gaps and stored.offset != expected:
            raise _missing(place, expected, stored.offset)
        expected = stored.offset + 1
        yield stored
    if not log.leaves_gaps and expected != end:
        raise _missing(place, expected, end)


def are_missing(count: int) -> str:
    """So many records are missing, in words."""
    return "a record is missing" if count == 1 else f"{count} records are missing"


def nothing_there() -> BrokenError:
    """Neither log holds a record: an audit that passed would speak for nothing, and praise an empty copy."""
    return BrokenError(
        "This log holds nothing: nothing was ever decided on it, or it is a bad copy (cp makes such of a SQLite file "
        "in use; VACUUM INTO of sqlite3 does not)",
        place=Place(topic=ROUTING_LOG, partition=0),
        check=NOTHING_THERE,
    )


def _missing(place: TopicPartition, offset: int, found: int) -> BrokenError:
    return BrokenError(
        f"{are_missing(found - offset)}: a log is never cut, somebody has removed what stood there",
        place=Place(topic=place.topic, partition=place.partition, offset=offset),
        check="offsets",
    )


def seen(stored: StoredRecord) -> Seen:
    """Read a stored record; ``BrokenError`` if it is none of ours."""
    try:
        record = parse(stored)
    except RecordError as error:
        raise BrokenError(f"it holds no record of ours: {error}", place=place_of(stored), check="record") from None
    if not isinstance(record.data, dict):
        raise BrokenError("its data are no object", place=place_of(stored), check="record", field="data")
    return Seen(stored, record)


def place_of(stored: StoredRecord) -> Place:
    """Where a record stands."""
    return Place(topic=stored.topic, partition=stored.partition, offset=stored.offset)


def difference_of(broken: BrokenError, now: Seen | None, partition: TopicPartition, *, check: str) -> Difference:
    """What a check has found, placed at the record that it looked at (``now``) unless it names another place."""
    here = Place(topic=partition.topic, partition=partition.partition) if now is None else place_of(now.stored)
    place = here if broken.place is None else broken.place
    whose = now.record if now is not None and place == here else None
    return Difference(
        check=broken.check or check,
        place=place,
        sentence=broken.sentence,
        conversation=None if whose is None else whose.subject,
        contact=None if whose is None else whose.contact,
        workspace=None if whose is None else whose.workspace,
        field=broken.field,
        expected=broken.expected,
        found=broken.found,
    )


async def origin_of(log: Log, place: TopicPartition, log_id: str) -> Origin:
    """What the outputs of this partition's records are made with."""
    return Origin(
        place.topic,
        place.partition,
        log_id,
        contact_partitions=await log.partition_count(ASSIGNMENTS),
        workspace_partitions=await log.partition_count(ASSIGNMENT_REQUESTS),
    )
