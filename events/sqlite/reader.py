"""The thread that reads a SQLite log, and that notices what others have written.

While somebody waits it asks SQLite every few milliseconds whether the file has changed; when nobody waits it sleeps.
What it noticed always goes to ``on_ends`` in the event loop, never through a call's result: a call may be cancelled,
and the news with it. What somebody else has changed in the file so that it cannot be read any more comes, as damaged
batches of Kafka do, as one record with the header ``UNREADABLE``; in a log it is an error.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from events.adapter import UNREADABLE, is_log
from events.following import Chunk, Wanted
from events.log import DamagedLogError, Headers, LogError, StoredRecord, TopicPartition
from events.sqlite.file import Whereabouts
from events.sqlite.schema import explained

READ_BYTES_MAX: Final = 16 * 1024 * 1024  #: of values in one answer; whoever wants more asks again
CHANGED: Final = 'SELECT tp, start, "end", time_ms, changed FROM partition WHERE changed > ?'

# A record with a value of a kind that we do not write gets headers that cannot be read: cheaper than looking here.
_RECORDS: Final = (
    'SELECT "offset", time_ms, key, value, '
    """CASE WHEN typeof(time_ms) = 'integer' AND typeof("offset") = 'integer' AND typeof(key) IN ('blob', 'null') """
    "AND typeof(value) IN ('blob', 'null') THEN headers ELSE '' END "
    'FROM record WHERE tp = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?'
)
_KINDS: Final = (
    'SELECT "offset", time_ms, CAST(headers AS BLOB), typeof(time_ms), typeof(key), typeof(value), typeof(headers) '
    """FROM record WHERE tp = ? AND "offset" >= ? AND typeof("offset") = 'integer' ORDER BY "offset" LIMIT ?"""
)
_read_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode

ResultT = TypeVar("ResultT")
Ends = dict[int, int]  #: partition ids to ends


class Place(NamedTuple):
    """A partition with its id in the file."""

    tp: int
    topic: str
    partition: int


class Span(NamedTuple):
    """Records of one partition, and how many bytes of values they have."""

    records: list[StoredRecord]
    offset_next: int
    size_bytes: int


def read_span(
    connection: sqlite3.Connection, place: Place, offset: int, *, end: int, records_max: int, bytes_max: int
) -> Span:
    """Records from ``offset`` on. ``end``: the partition is known to reach this far.

    Ends before a record that cannot be read. Where one stands at ``offset``, it comes alone, with the header
    ``UNREADABLE``; in a log ``DamagedLogError`` is raised instead.
    """
    try:
        return _read_span(connection, place, offset, end=end, records_max=records_max, bytes_max=bytes_max)
    except (sqlite3.OperationalError, msgspec.DecodeError, TypeError):  # the first: text that is no UTF-8
        bad = _first_damaged(connection, place, offset, records_max)
        if bad is None:
            raise
    if bad.before:
        return _read_span(connection, place, offset, end=end, records_max=bad.before, bytes_max=bytes_max)
    at = TopicPartition(place.topic, place.partition)
    if is_log(place.topic):
        raise DamagedLogError(f"{bad.why}: the file was changed or damaged", place=at, offset=bad.offset)
    text = f"the record at offset {bad.offset} cannot be read: {bad.why}"
    stand_in = StoredRecord(*at, bad.offset, None, None, ((UNREADABLE, text.encode()),), bad.time_ms)
    return Span([stand_in], bad.offset + 1, 0)


def _read_span(
    connection: sqlite3.Connection, place: Place, offset: int, *, end: int, records_max: int, bytes_max: int
) -> Span:
    tp, topic, partition = place
    found: list[StoredRecord] = []
    size_bytes = 0
    for at, time_ms, key, value, headers in connection.execute(_RECORDS, (tp, offset, records_max)):
        decoded: Headers = () if headers is None else _read_headers(headers)
        found.append(StoredRecord(topic, partition, at, key, value, decoded, time_ms))
        if value is not None:
            size_bytes += len(value)
            if size_bytes >= bytes_max:
                return Span(found, at + 1, size_bytes)
    if len(found) == records_max:
        return Span(found, found[-1].offset + 1, size_bytes)
    beyond = found[-1].offset + 1 if found else 0
    return Span(found, max(beyond, end), size_bytes)


class _Damaged(NamedTuple):
    """The first record that cannot be read, and how many stand before it."""

    before: int
    offset: int
    time_ms: int
    why: str  #: a sentence without a full stop; quotes nothing of the record


def _first_damaged(connection: sqlite3.Connection, place: Place, offset: int, records_max: int) -> _Damaged | None:
    """The first damaged one of so many records; None: there is none among them."""
    rows = connection.execute(_KINDS, (place.tp, offset, records_max))
    for before, (at, time_ms, headers, *kinds) in enumerate(rows):
        why = _fault(headers, kinds)
        if why is not None:
            return _Damaged(before, at, time_ms if kinds[0] == "integer" else 0, why)
    return None


def _fault(headers: bytes | None, kinds: Sequence[str]) -> str | None:
    for name, kind in zip(("time", "key", "value", "headers"), kinds, strict=True):
        if kind not in (("integer",) if name == "time" else ("blob", "null")):
            return f"its {name} {'are' if name == 'headers' else 'is'} stored as {kind}"
    try:
        if headers is not None:
            _read_headers(headers)
    except msgspec.DecodeError:
        return "its headers are damaged"
    return None


def read_chunks(
    connection: sqlite3.Connection, wanted: Sequence[tuple[Wanted, int, int]], records_max: int
) -> list[Chunk]:
    """Chunks for readers that want (what, partition id, known end), in this order."""
    chunks: list[Chunk] = []
    bytes_left = READ_BYTES_MAX
    for want, tp, end in wanted:
        if records_max < 1 or bytes_left < 1:
            break
        place = Place(tp, want.place.topic, want.place.partition)
        span = read_span(connection, place, want.offset, end=end, records_max=records_max, bytes_max=bytes_left)
        chunks.append(Chunk(want, span.records, span.offset_next))
        records_max -= len(span.records)
        bytes_left -= span.size_bytes
    return chunks


class _Call(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class ReadingThread:
    """Runs calls on one connection, one after the other, off the event loop."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, poll_interval_ms: int, on_ends: Callable[[Ends], None]
    ) -> None:
        self._connection = connection
        self._path = path
        self.whereabouts = Whereabouts(path)  #: to be asked in calls only
        self._interval_s = poll_interval_ms / 1000
        self._on_ends = on_ends
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._polling = False
        self._version = -1
        self._changed = -1
        self._next_poll_s = 0.0
        self.polls = 0  #: how often the file was asked whether it has changed
        self._thread = threading.Thread(target=self._work, name="vip-router-log-reader", daemon=True)
        self._thread.start()

    async def call(self, run: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """What ``run`` returns; SQLite's errors come as ``LogUnavailableError``."""
        loop = self._loop = asyncio.get_running_loop()
        done: asyncio.Future[ResultT] = loop.create_future()
        self._calls.put(_Call(run, done))
        return await done

    async def refresh(self) -> None:
        """Look for what others have written; ``on_ends`` has been told when this returns.

        Raises ``LogError`` if the file was moved or replaced.
        """
        await self.call(lambda _connection: self._poll())

    def watch(self) -> None:
        """Somebody begins to wait: look for changes from now on."""
        self._waiting += 1
        if not self._polling:
            self._calls.put(None)  # wakes the thread out of a wait without end

    def unwatch(self) -> None:
        """Undo one ``watch``."""
        self._waiting -= 1

    async def close(self) -> None:
        """Finish the calls that were made and close the connection."""
        with suppress(_StoppedError):
            await self.call(_stop)

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._patience_s())
            except queue.Empty:
                call = None
            if call is not None and not self._answer(call):
                return
            if call is None and self._waiting > 0:
                self._polling = True
            if self._polling and time.monotonic() >= self._next_poll_s and self._is_watched():
                self._poll_quietly()

    def _patience_s(self) -> float | None:
        """How long to wait for a call before the next poll; None: until there is one."""
        return max(0.0, self._next_poll_s - time.monotonic()) if self._polling else None

    def _is_watched(self) -> bool:
        """Whether anybody waits; if not, polling ends until ``watch``."""
        self._polling = self._waiting > 0
        if self._waiting > 0:  # looked at again: ``watch`` may have come between, and seen that we still poll
            self._polling = True
        return self._polling

    def _answer(self, call: _Call) -> bool:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = call.run(self._connection)
        except _StoppedError as stopped:
            self._connection.close()
            failure = stopped
        except sqlite3.Error as error:
            failure = explained(error, self._path)
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller, not to the thread
            failure = error
        self._tell(_settle, call.done, result, failure)
        return not isinstance(failure, _StoppedError)

    def _poll(self) -> None:
        self.polls += 1
        self.whereabouts.check()
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        rows = self._connection.execute(CHANGED, (self._changed,)).fetchall()
        self._version = version
        if rows:
            self._changed = max(changed for *_, changed in rows)
            self._tell(self._on_ends, {tp: end for tp, _start, end, _time_ms, _changed in rows})

    def _poll_quietly(self) -> None:
        self._next_poll_s = time.monotonic() + self._interval_s
        try:
            self._poll()
        except (sqlite3.Error, LogError):
            self._tell(self._on_ends, {})  # who waits looks for himself, and is told the error

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended without closing the log: nobody is left to be told
                self._loop.call_soon_threadsafe(what, *arguments)


class _StoppedError(Exception):
    """Ends the thread."""


def _stop(_connection: sqlite3.Connection) -> None:
    raise _StoppedError


def _settle(done: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if done.done():  # cancelled meanwhile
        return
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)
