"""The chain that holds a log together: what stands beside a record's bytes, and whether the records fit each other.

Every record names the offset that its writer expected (``expected-offset``), the log it belongs to (``log-id``) and
the record before it (``after``). The last record of an append also says how far its lane had read (``positions``) and
which outputs were out (``mark``). On a store without a conditional append, a record that does not stand at its
expected offset, or that names another log, does not exist (DESIGN, "The conditional append").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import orjson

from events.log import DamagedLogError, Headers, NewRecord, StoredRecord, TopicPartition

EXPECTED_OFFSET: Final = "expected-offset"
LOG_ID: Final = "log-id"
AFTER: Final = "after"
POSITIONS: Final = "positions"
MARK: Final = "mark"
NOTHING_BEFORE: Final = ""  #: ``after`` of the first record


class ChainError(DamagedLogError):
    """The log was cut, mixed or made anew under us."""


class Entry(NamedTuple):
    """A record ready to be appended."""

    key: bytes
    value: bytes
    hash: str  #: of ``value``


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a lane was when it appended."""

    positions: dict[str, int]  #: per input topic the offset that comes next
    mark: int  #: the lowest offset of this log with an output not yet confirmed


class Link(NamedTuple):
    """What a stored record says of its place in the log. ``progress`` is None but at the end of an append."""

    expected_offset: int
    log_id: str
    after: str
    progress: Progress | None


def seal(
    place: TopicPartition,
    entries: Sequence[Entry],
    *,
    expected: int,
    log_id: str,
    after: str,
    progress: Progress | None,
) -> list[NewRecord]:
    """The records of one append, each linked to the one before it. ``after`` is the hash of the log's last record."""
    log_header = (LOG_ID, log_id.encode())
    records: list[NewRecord] = []
    for offset, entry in enumerate(entries, start=expected):
        headers: Headers = (
            (EXPECTED_OFFSET, b"%d" % offset),
            log_header,
            (AFTER, after.encode()),
        )
        if progress is not None and offset == expected + len(entries) - 1:
            headers = (*headers, (POSITIONS, orjson.dumps(progress.positions)), (MARK, b"%d" % progress.mark))
        records.append(NewRecord(place.topic, place.partition, entry.key, entry.value, headers))
        after = entry.hash
    return records


def link_of(record: StoredRecord) -> Link:
    """Read a record's headers; raises ``ChainError`` if it is no record of a lane."""
    found = dict(record.headers)
    try:
        progress = None
        if POSITIONS in found:
            positions = msgspec.json.decode(found[POSITIONS], type=dict[str, int])
            progress = Progress(positions=positions, mark=int(found[MARK]))
        return Link(int(found[EXPECTED_OFFSET]), found[LOG_ID].decode(), found[AFTER].decode(), progress)
    except (KeyError, ValueError) as error:
        raise ChainError(f"{_place(record)} was not written by a lane: header {error} is missing or bad") from error


def follows(record: StoredRecord, *, log_id: str, after: str) -> Progress | None:
    """How far the lane was if the record ends an append; raises ``ChainError`` if it does not follow ``after``."""
    headers = record.headers
    if headers == (
        (EXPECTED_OFFSET, b"%d" % record.offset),
        (LOG_ID, log_id.encode()),
        (AFTER, after.encode()),
    ):
        return None  # as most are: written by us, inside an append
    link = link_of(record)
    check_link(record, link, log_id=log_id, after=after)
    return link.progress


def check_link(record: StoredRecord, link: Link, *, log_id: str, after: str) -> None:
    """Raise ``ChainError`` if the record does not follow the one that was read before it."""
    if link.log_id != log_id:
        raise ChainError(
            f"{_place(record)} belongs to log {link.log_id}, this is log {log_id}: was the topic made anew?"
        )
    if link.expected_offset != record.offset:
        raise ChainError(f"{_place(record)} was written for offset {link.expected_offset}: was the log copied or cut?")
    if link.after != after:
        raise ChainError(
            f"{_place(record)} follows {link.after or 'nothing'}, but before it stands {after or 'nothing'}"
        )


def _place(record: StoredRecord) -> str:
    return f"{record.topic}/{record.partition} at offset {record.offset}"
