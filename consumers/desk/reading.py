"""Finds a workspace's records in ``assignments.log`` as it stands, read-only: where it begins, ends, and was at a time.

What is appended meanwhile is not looked at: the end is the one that the log had first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from consumers.audit.reading import stream
from consumers.audit.report import BrokenError
from events.chain import NOTHING_BEFORE, ChainError, follows, link_of
from events.log import Log, StoredRecord, TopicPartition
from events.records import RecordError, hash_of, parse
from events.times import format_time
from events.topics import ASSIGNMENTS_LOG, partition_of

NAMES_MAX: Final = 20  #: workspaces that an error names


class NothingToTellError(Exception):
    """The log has nothing of what was asked for; ``str()`` says what it has, and what to do."""


class DamagedError(Exception):
    """A record cannot be read, or does not follow the one before it; ``str()`` says where and why."""


class FutureError(Exception):
    """A time that has not come; ``str()`` says so."""


class Extent(NamedTuple):
    """The partition that holds a workspace's records, and how far it reaches."""

    place: TopicPartition
    end: int
    first_ms: int  #: when the log began
    last_ms: int  #: of the last record


async def extent_of(log: Log, workspace: str) -> Extent:
    """Where the workspace's records are.

    Raises ``NothingToTellError`` for a log without a record, ``DamagedError`` for one without its beginning.
    """
    count = await log.partition_count(ASSIGNMENTS_LOG)
    place = TopicPartition(ASSIGNMENTS_LOG, partition_of(workspace, count))
    end = await log.end_offset(place)
    start = await log.start_offset(place)
    first = await _first_from(log, place, start, end) if start == 0 else None
    missing = start if first is None else first.offset
    if missing:
        raise DamagedError(f"{place.topic}/{place.partition} begins at offset {missing}: its beginning is missing")
    if first is None:
        raise NothingToTellError(
            f'{place.topic}/{place.partition} is empty: nobody was ever assigned here; has "vip-router serve" run?'
        )
    last, before = None, end
    while last is None:  # on Kafka, the last offsets may hold records that do not exist
        before -= 1
        last = await _first_from(log, place, before, end)
    return Extent(place, end, at_of(first), at_of(last))


async def records_of(log: Log, place: TopicPartition, end: int, *, start: int = 0) -> AsyncIterator[StoredRecord]:
    """The records from ``start`` to ``end``; raises ``DamagedError`` where one cannot be read."""
    try:
        async for stored in stream(log, place, end, start=start):
            yield stored
    except BrokenError as broken:
        raise DamagedError(f"{broken.place}: {broken.sentence}") from None


async def linked_records(log: Log, extent: Extent) -> AsyncIterator[StoredRecord]:
    """All records up to ``extent.end``; raises ``DamagedError`` at the first that does not follow the one before it."""
    log_id, after = None, NOTHING_BEFORE
    async for stored in records_of(log, extent.place, extent.end):
        try:
            log_id = link_of(stored).log_id if log_id is None else log_id
            follows(stored, log_id=log_id, after=after)
        except ChainError as error:
            raise DamagedError(str(error)) from None
        after = hash_of(stored.value or b"")
        yield stored


async def offset_after(log: Log, extent: Extent, at_ms: int) -> int:
    """The lowest offset from which on every record was decided later than ``at_ms``: times rise along a log."""
    low, high = 0, extent.end
    while low < high:
        middle = (low + high) // 2
        found = await _first_from(log, extent.place, middle, high)
        if found is None or at_of(found) > at_ms:
            high = middle
        else:
            low = found.offset + 1
    return low


def check_known(extent: Extent, from_ms: int, now_ms: int) -> None:
    """Raise ``FutureError`` or ``NothingToTellError`` if the log cannot have a record from this moment on."""
    if from_ms > max(now_ms, extent.last_ms):
        raise FutureError(f"{format_time(from_ms)} is in the future: give a time up to {format_time(now_ms)}")
    if from_ms > extent.last_ms:
        raise NothingToTellError(
            f"the log's last record is of {format_time(extent.last_ms)}: nothing is known of {format_time(from_ms)} on"
        )


def at_of(stored: StoredRecord) -> int:
    """When a record was decided, Unix milliseconds; raises ``DamagedError``."""
    try:
        return parse(stored).at_ms
    except RecordError as error:
        raise DamagedError(str(error)) from None


def unknown(workspace: str, known: set[str], extent: Extent, at_ms: int | None = None) -> NothingToTellError:
    """The error for a workspace without a record; ``known`` are those that have some, until ``at_ms``."""
    when = "" if at_ms is None else f" at {format_time(at_ms)}"
    names = sorted(known)[:NAMES_MAX]
    there = f"it has {', '.join(names)}: correct --workspace" if names else "nor any other"
    return NothingToTellError(
        f"{extent.place.topic}/{extent.place.partition} knows no workspace {workspace!r}{when}; {there}"
    )


async def _first_from(log: Log, place: TopicPartition, offset: int, end: int) -> StoredRecord | None:
    """The first record at ``offset`` or above, below ``end``."""
    position = offset
    while position < end:
        fetched = await log.read(place, position, records_max=1)
        if fetched.records:
            return fetched.records[0] if fetched.records[0].offset < end else None
        if fetched.offset_next == position:
            return None
        position = fetched.offset_next
    return None
