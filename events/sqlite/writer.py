"""The thread that writes a SQLite log: group commit.

All writes that are pending go into one transaction, so that they share one ``fsync``. Each append checks its own
condition inside it and fails alone. Rows are inserted many at a time: SQLite gives up the interpreter lock at every
step, and with a busy event loop each step may wait milliseconds to get it back.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from msgspec import msgpack

from events.adapter import is_compacted
from events.log import Appended, FencedError, IndefiniteError, LogError, NewRecord
from events.sqlite.file import Whereabouts
from events.sqlite.lock_wait import SLICE_MS, LockWait
from events.sqlite.reader import CHANGED
from events.sqlite.schema import explained, is_busy, make_topics

GROUP_RECORDS_MAX: Final = 4096  #: records in one transaction, unless a single write has more
TOMBSTONE_KEPT_MS: Final = 24 * 60 * 60 * 1000  #: so long a reader can still learn that a key was deleted
TOMBSTONES_SWEPT_MAX: Final = 64  #: old tombstones removed in one transaction, unless it writes more keys than that

_STEPS: Final = (64, 16, 4, 1)  #: rows in one statement
_DELETE_EARLIER: Final = (
    ' DELETE FROM record WHERE (tp, "offset") IN (SELECT latest.tp, latest."offset" FROM written CROSS JOIN latest'
    " ON latest.tp = written.tp AND latest.key = written.key)"
)
_OLD_TOMBSTONES: Final = 'SELECT tp, "offset", key FROM latest WHERE deleted_ms < ? ORDER BY deleted_ms LIMIT ?'

Row: TypeAlias = tuple[int | bytes | str | None, ...]


class Part(NamedTuple):
    """A partition as the writer knows it."""

    start: int
    end: int
    time_ms: int


@dataclass(slots=True, kw_only=True)
class Write:
    """One call; ``expected`` makes it conditional on the end of a partition."""

    done: asyncio.Future[Appended]
    records: Sequence[tuple[int, NewRecord]] = ()  #: with their partition ids
    expected: tuple[int, int] | None = None  #: partition id, offset
    positions: Sequence[tuple[str, int, int]] = ()  #: group, partition id, offset
    topics: Mapping[str, int] = field(default_factory=dict)


class Run(NamedTuple):
    """Records that were written one after the other to one partition."""

    tp: int
    offset: int  #: of the first
    time_ms: int
    records: Sequence[NewRecord]


class Outcome(NamedTuple):
    """What became of a write."""

    done: asyncio.Future[Appended]
    result: Appended | Exception


_NOTHING: Final = Appended(offset_next=0, time_ms=0)


class _Group:
    """The rows of one transaction, gathered before the first is written."""

    def __init__(self, parts: Mapping[int, Part], now_ms: int) -> None:
        self.now_ms = now_ms
        self.touched: dict[int, Part] = {}
        self.records: list[Row] = []
        self.latest: dict[tuple[int, bytes], Row] = {}  #: by partition id and key, compacted topics only
        self.positions: list[Row] = []
        self.runs: list[Run] = []
        self._parts = parts

    def part(self, tp: int) -> Part:
        return self.touched.get(tp) or self._parts[tp]

    def add(self, write: Write) -> Appended | FencedError:
        """Take a write in, or say why it does not exist."""
        if write.expected is not None and (end := self.part(write.expected[0]).end) != write.expected[1]:
            return FencedError(f"the end is {end}, expected was {write.expected[1]}")
        self._add_records(write.records)
        self.positions += write.positions
        if write.expected is None:
            return _NOTHING
        part = self.part(write.expected[0])
        return Appended(offset_next=part.end, time_ms=max(part.time_ms, self.now_ms))

    def _add_records(self, records: Sequence[tuple[int, NewRecord]]) -> None:
        for tp, run in groupby(records, key=itemgetter(0)):
            start, end, time_ms = self.part(tp)
            time_ms = max(time_ms, self.now_ms)
            written = [record for _tp, record in run]
            self.runs.append(Run(tp, end, time_ms, written))
            for topic, _partition, key, value, headers in written:
                row = (tp, end, time_ms, key, value, msgpack.encode(headers) if headers else None)
                if key is None or not is_compacted(topic):
                    self.records.append(row)
                else:
                    self.latest[tp, key] = row
                end += 1
            self.touched[tp] = Part(start, end, time_ms)


class WritingThread:
    """Writes on one connection, off the event loop.

    ``on_written`` is called in the loop with what was written, before the writes are answered. While another process
    has the file's write lock, writes wait until that lets go or they are cancelled; for no longer than ``give_up_ms``
    when topics are to be made or the thread is to end: then they raise ``LogUnavailableError``.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        clock_ms: Callable[[], int],
        on_written: Callable[[Sequence[Run]], None],
        give_up_ms: int,
    ) -> None:
        self._connection = connection
        self._path = path
        self._whereabouts = Whereabouts(path)
        self._give_up_s = give_up_ms / 1000
        self.wait = LockWait(path)
        self._clock_ms = clock_ms
        self._on_written = on_written
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._parts: dict[int, Part] = {}
        self._version: int | None = None  #: of the file, as ``_parts`` has it; None: look again
        self._changed = 0
        self._ended: asyncio.Future[Appended] | None = None
        self.transactions = 0
        self._thread = threading.Thread(target=self._work, name="vip-router-log-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Have it written; ``write.done`` tells when it is durable. If cancelled before its turn it is left out."""
        self._writes.put(write)

    async def close(self) -> None:
        """Finish the writes that were submitted, if the file can be written, and close the connection."""
        self._ended = asyncio.get_running_loop().create_future()
        self._writes.put(None)
        await self._ended

    def _work(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {SLICE_MS}")
        go_on = True
        while go_on:
            writes, go_on = self._next_group()
            if writes:
                self._answer(self._write(writes))
        self._leave_whole()
        self._connection.close()
        if self._ended is not None:
            self._answer([Outcome(self._ended, _NOTHING)])

    def _leave_whole(self) -> None:
        """Empty the journal of a file that was moved or replaced, as SQLite does not.

        It stands under the old name: the moved file would lack what is in it, the one in its place would be given it.
        """
        try:
            self._whereabouts.check_now()
        except LogError:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _next_group(self) -> tuple[list[Write], bool]:
        """All that is pending, up to the limit, and whether there may be more."""
        writes: list[Write] = []
        count = 0
        write = self._writes.get()
        while write is not None:
            if not write.done.cancelled():
                writes.append(write)
                count += len(write.records)
            if count >= GROUP_RECORDS_MAX or self._writes.empty():
                return writes, True
            write = self._writes.get()
        return writes, False

    def _write(self, writes: list[Write]) -> list[Outcome]:
        committing = False
        try:
            writes = self._begin(writes)
            self._whereabouts.check()
            outcomes, group = self._fill(writes)
            committing = True
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must be told
            return [Outcome(write.done, self._undone(error, committing=committing)) for write in writes]
        self.transactions += 1
        self._parts.update(group.touched)
        if group.runs:
            self._tell(writes[0].done, self._on_written, group.runs)
        return outcomes

    def _begin(self, writes: list[Write]) -> list[Write]:
        """Begin a transaction once nobody else has one; returns the writes that somebody still waits for, maybe none.

        Raises SQLite's error if that takes too long for writes that cannot wait.
        """
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or self._gives_up(writes):
                    self.wait.end()
                    raise
                self.wait.note()
            else:
                self.wait.end()
                return [write for write in writes if not write.done.cancelled()]

    def _gives_up(self, writes: list[Write]) -> bool:
        """Whether what was submitted has waited for the lock as long as it may."""
        if all(write.done.cancelled() for write in writes):
            return True
        is_bounded = self._ended is not None or all(write.topics for write in writes)
        return is_bounded and self.wait.waited_s >= self._give_up_s

    def _fill(self, writes: list[Write]) -> tuple[list[Outcome], _Group]:
        self._catch_up()
        outcomes = [Outcome(write.done, self._make_topics(write.topics)) for write in writes if write.topics]
        group = _Group(self._parts, self._clock_ms())
        outcomes += [Outcome(write.done, group.add(write)) for write in writes if not write.topics]
        self._store(group)
        return outcomes, group

    def _catch_up(self) -> None:
        """Learn what other processes have written since the last transaction."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        if self._version is None:
            self._changed = -1
        for tp, start, end, time_ms, changed in self._connection.execute(CHANGED, (self._changed,)).fetchall():
            self._parts[tp] = Part(start, end, time_ms)
            self._changed = max(self._changed, changed)
        self._version = version

    def _make_topics(self, topics: Mapping[str, int]) -> Appended | Exception:
        try:
            make_topics(self._connection, topics)
        except (LogError, ValueError) as error:  # raised before anything is made
            return error
        self._version = None
        self._catch_up()
        return _NOTHING

    def _store(self, group: _Group) -> None:
        connection = self._connection
        if group.latest:
            self._compact(group)
        _insert(connection, "INSERT INTO record VALUES ", 6, group.records)
        if group.touched:
            self._changed += 1
            parts: list[Row] = [(tp, *part, self._changed) for tp, part in group.touched.items()]
            _insert(connection, "INSERT OR REPLACE INTO partition VALUES ", 5, parts)
        _insert(connection, "INSERT OR REPLACE INTO committed VALUES ", 3, group.positions)

    def _compact(self, group: _Group) -> None:
        """Put each key's last record in the place of the one before it."""
        keys: list[Row] = list(group.latest)
        for piece in _cut(keys):
            written = f"WITH written (tp, key) AS (VALUES {_rows(2, len(piece))})"
            self._connection.execute(written + _DELETE_EARLIER, _flat(piece))
        # as fast as they come, or they would pile up
        self._sweep(group.now_ms - TOMBSTONE_KEPT_MS, max(TOMBSTONES_SWEPT_MAX, len(group.latest)))
        group.records += group.latest.values()
        latest: list[Row] = [
            (tp, key, at, time_ms if value is None else None)
            for tp, at, time_ms, key, value, _headers in group.latest.values()
        ]
        _insert(self._connection, "INSERT OR REPLACE INTO latest VALUES ", 4, latest)

    def _sweep(self, before_ms: int, swept_max: int) -> None:
        """Remove a few of the tombstones that are older than ``before_ms``."""
        found = self._connection.execute(_OLD_TOMBSTONES, (before_ms, swept_max)).fetchall()
        for tp, offset, key in found:
            self._connection.execute('DELETE FROM record WHERE tp = ? AND "offset" = ?', (tp, offset))
            self._connection.execute("DELETE FROM latest WHERE tp = ? AND key = ?", (tp, key))

    def _undone(self, error: Exception, *, committing: bool) -> Exception:
        """Take the transaction back, and say to its callers what is known of it."""
        self._version = None
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):  # SQLite has taken it back itself
                self._connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.Error):
            return error
        code: int = getattr(error, "sqlite_errorcode", 0)
        if committing and code & 0xFF == sqlite3.SQLITE_IOERR and code != sqlite3.SQLITE_IOERR_WRITE:
            return IndefiniteError(f"{explained(error, self._path)}; whether the records were written, nobody can say")
        return explained(error, self._path)

    def _answer(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            self._tell(outcomes[0].done, _settle, outcomes)

    def _tell(self, done: asyncio.Future[Appended], what: Callable[..., None], argument: object) -> None:
        with suppress(RuntimeError):  # the loop has ended without closing the log: nobody is left to be told
            done.get_loop().call_soon_threadsafe(what, argument)


def _settle(outcomes: list[Outcome]) -> None:
    for done, result in outcomes:
        if done.done():  # cancelled meanwhile
            continue
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)


def _insert(connection: sqlite3.Connection, head: str, columns: int, rows: Sequence[Row]) -> None:
    for piece in _cut(rows):
        connection.execute(_insertion(head, columns, len(piece)), _flat(piece))


def _cut(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """``rows`` in pieces of few different sizes, so that SQLite's statements are prepared once."""
    pieces: list[Sequence[Row]] = []
    at = 0
    for size in _STEPS:
        while len(rows) - at >= size:
            pieces.append(rows[at : at + size])
            at += size
    return pieces


@lru_cache(maxsize=64)
def _insertion(head: str, columns: int, count: int) -> str:
    return head + _rows(columns, count)


def _rows(columns: int, count: int) -> str:
    one = f"({', '.join('?' * columns)})"
    return ", ".join([one] * count)


def _flat(rows: Sequence[Row]) -> list[int | bytes | str | None]:
    return list(chain.from_iterable(rows))
