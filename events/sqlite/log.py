"""The embedded log: one SQLite file, one machine, several processes.

Everything acknowledged has been through ``fsync``. All work on the file happens in two threads
(``events/sqlite/writer.py``, ``events/sqlite/reader.py``); this class keeps what the event loop knows: topics' ids and
partitions' ends. ``serve`` owns its roles through ``lock``; anybody else may publish and read meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from events.adapter import check_append, check_outputs, check_publish, check_range, is_compacted
from events.clock import unix_ms
from events.following import Bell, Chunk, FollowingReader, Wanted
from events.log import (
    Appended,
    FencedError,
    Fetched,
    Flaw,
    LogError,
    NewRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.ownership import FileOwnership, HeldWhole
from events.sqlite.file import file_flaws
from events.sqlite.lock_wait import HELD
from events.sqlite.reader import READ_BYTES_MAX, Ends, Place, ReadingThread, read_chunks, read_span
from events.sqlite.recent import Recent
from events.sqlite.schema import are_made, open_file
from events.sqlite.writer import Run, Write, WritingThread

BUSY_TIMEOUT_MS: Final = 5_000  #: how long another process' transaction may hold up what cannot wait for ever
POLL_INTERVAL_MS: Final = 3  #: how often others' writes are looked for while somebody waits


class SqliteLog(HeldWhole):
    """A log in one SQLite file.

    ``create``: topics to make, and the file with them if there is none; None: the file must exist. ``read_only``: works
    on files and folders that may not be written, and every write raises ``LogError``. Opening blocks for a moment;
    it raises ``LogUnavailableError`` with what to do about it. To be used in one event loop.

    While another process holds the file's write lock, writes wait until it lets go or they are cancelled; opening,
    making topics and closing wait ``busy_timeout_ms``. When the file is moved or replaced, writes, readers that wait
    and questions for a partition's start or end raise ``LogError``, at most a moment later.
    """

    joins_outputs = True
    leaves_gaps = False
    keeps_time = False

    def __init__(
        self,
        path: Path | str,
        *,
        create: Mapping[str, int] | None = None,
        read_only: bool = False,
        clock_ms: Callable[[], int] = unix_ms,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> None:
        if read_only and create is not None:
            raise ValueError("a log that is opened read_only cannot create topics: leave one of the two out")
        self.path = Path(path)
        self.bell = Bell()
        self._closed = False
        self._counts: dict[str, int] = {}  #: partitions of each topic
        self._tps: dict[tuple[str, int], int] = {}  #: ids by place
        self._places: dict[int, TopicPartition] = {}  #: places by id
        self._ends: dict[int, int] = {}  #: by id
        self._recent: dict[int, Recent] = {}  #: by id, of partitions that somebody here follows
        self._writer: WritingThread | None = None
        opened = open_file(self.path, create=create, read_only=read_only, busy_timeout_ms=busy_timeout_ms)
        self._ownership = FileOwnership(self.path)
        self._cluster_id = opened.cluster_id
        self._reader = ReadingThread(opened.reader, self.path, poll_interval_ms=poll_interval_ms, on_ends=self._on_ends)
        if opened.writer is not None:
            self._writer = WritingThread(
                opened.writer,
                self.path,
                clock_ms=clock_ms,
                on_written=self._on_written,
                give_up_ms=busy_timeout_ms,
            )

    async def cluster_id(self) -> str:
        """Names this store for ever: random, made with the file."""
        return self._cluster_id

    async def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Make the topics that do not exist yet; nothing is made if one exists with another count (``LogError``)."""
        self.check_open()
        if not await self._reader.call(lambda connection: are_made(connection, partitions)):
            await self._write(Write(done=self._future(), topics=dict(partitions)))

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic has; ``UnknownTopicError`` if there is no such topic."""
        self.check_open()
        if topic not in self._counts:
            await self._learn_topics()
        if topic not in self._counts:
            raise UnknownTopicError(f"there is no topic {topic} in this log")
        return self._counts[topic]

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """Append all records or none, if the partition's end is ``expected``; ``outputs`` in the same transaction.

        A call that is cancelled may or may not have been written, as after ``IndefiniteError``.
        """
        check_append(place, records)
        check_outputs(self, outputs)
        tp, *others = await self._ids([place, *[record[:2] for record in outputs]])
        rows = [(tp, record) for record in records]
        rows += zip(others, outputs, strict=True)
        write = Write(done=self._future(), records=rows, expected=(tp, expected))
        try:
            return await self._write(write)
        except FencedError as error:
            raise FencedError(f"{place.topic}/{place.partition}: {error}") from None

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append records to any partitions, in order per partition; all or none."""
        check_publish(records)
        ids = await self._ids([record[:2] for record in records])
        if ids:
            await self._write(Write(done=self._future(), records=list(zip(ids, records, strict=True))))

    async def start_offset(self, place: TopicPartition) -> int:
        """The lowest offset that may hold a record."""
        return (await self._range(place))[0]

    async def end_offset(self, place: TopicPartition) -> int:
        """The offset after the last record."""
        return (await self._range(place))[1]

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records from ``offset`` on, at once; fewer than there are if they have more than 16 MiB."""
        (tp,) = await self._ids([place])

        def run(connection: sqlite3.Connection) -> Fetched:
            start, end = _range(connection, tp)
            check_range(place, offset, start=start, end=end)
            where = Place(tp, *place)
            span = read_span(connection, where, offset, end=end, records_max=records_max, bytes_max=READ_BYTES_MAX)
            return Fetched(span.records, span.offset_next)

        return await self._reader.call(run)

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        """A reader that follows these partitions from these offsets."""
        self.check_open()
        return FollowingReader(self, positions)

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Remember a group's positions."""
        ids = await self._ids(list(positions))
        rows = [(group, tp, offset) for tp, offset in zip(ids, positions.values(), strict=True)]
        if rows:
            await self._write(Write(done=self._future(), positions=rows))

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """A group's positions; partitions without one are absent."""
        ids = dict(zip(await self._ids(places), places, strict=True))
        rows = await self._reader.call(
            lambda connection: connection.execute(
                'SELECT tp, "offset" FROM committed WHERE "group" = ?', (group,)
            ).fetchall()
        )
        return {ids[tp]: offset for tp, offset in rows if tp in ids}

    async def close(self) -> None:
        """Finish what is under way, wake who waits (``LogError``), give everything back. May be called again.

        What waits for another process' write lock is given up if that does not let go within ``busy_timeout_ms``.
        """
        if self._closed:
            return
        self._closed = True
        self.bell.ring_all()
        if self._writer is not None:
            await self._writer.close()
        await self._reader.close()

    async def take(self, wanted: Sequence[Wanted], *, records_max: int) -> Sequence[Chunk]:
        """Records for a reader, as ``Source`` has it."""
        if not wanted:
            return []
        ids = await self._ids([want.place for want in wanted])
        known = [self._ends[tp] for tp in ids]
        if all(want.offset >= end for want, end in zip(wanted, known, strict=True)) or any(
            want.offset > end for want, end in zip(wanted, known, strict=True)
        ):
            await self._reader.refresh()
        ready: list[tuple[Wanted, int, int]] = []
        for want, tp in zip(wanted, ids, strict=True):
            end = self._ends[tp]
            check_range(want.place, want.offset, start=0, end=end)
            if want.offset < end:
                ready.append((want, tp, end))
        recent = self._from_recent(ready, records_max)
        if recent or not ready:
            return recent
        return await self._reader.call(lambda connection: read_chunks(connection, ready, records_max))

    def _from_recent(self, ready: Sequence[tuple[Wanted, int, int]], records_max: int) -> list[Chunk]:
        """What was just written by this process, without asking the file; empty unless all can be had so."""
        chunks: list[Chunk] = []
        for want, tp, end in ready:
            recent = self._recent.get(tp)
            if recent is None or not recent.first <= want.offset or recent.end != end:
                return []
            records = recent.since(want.offset, records_max)
            records_max -= len(records)
            if records:
                chunks.append(Chunk(want, records, records[-1].offset + 1))
        return chunks

    async def ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends, as ``Source`` has it."""
        ids = await self._ids(places)
        await self._reader.refresh()
        return {place: self._ends[tp] for place, tp in zip(places, ids, strict=True)}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Others' writes are looked for while this is entered."""
        self._reader.watch()
        try:
            yield
        finally:
            self._reader.unwatch()

    async def flaws(self) -> Sequence[Flaw]:
        """What others on this machine may do with the file that they should not."""
        return await asyncio.to_thread(file_flaws, self.path)

    def held_up(self) -> str | None:
        """Why writes have been waiting for a while; None: they have not."""
        if self._writer is None or not self._writer.wait.is_long:
            return None
        return f"the log {self.path} {HELD}: writes wait for it"

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""
        if self._closed:
            raise LogError("the log is closed")

    @staticmethod
    def _future() -> asyncio.Future[Appended]:
        return asyncio.get_running_loop().create_future()

    async def _write(self, write: Write) -> Appended:
        self.check_open()
        if self._writer is None:
            raise LogError(f"the log {self.path} was opened to be read only")
        self._writer.submit(write)
        return await write.done

    async def _ids(self, places: Sequence[tuple[str, int]]) -> list[int]:
        """The ids of partitions, given as ``TopicPartition`` or as pairs; ``UnknownTopicError`` if one is missing."""
        self.check_open()
        try:
            return [self._tps[place] for place in places]
        except KeyError:
            await self._learn_topics()
        for topic, partition in places:
            if (topic, partition) not in self._tps:
                raise UnknownTopicError(f"there is no partition {topic}/{partition} in this log")
        return [self._tps[place] for place in places]

    async def _learn_topics(self) -> None:
        """Read the topics again: somebody else may have made some."""
        rows = await self._reader.call(
            lambda connection: connection.execute("SELECT name, first, partitions FROM topic").fetchall()
        )
        for name, first, partitions in rows:
            self._counts[name] = partitions
            for number in range(partitions):
                place = TopicPartition(name, number)
                self._tps[place] = first + number
                self._places[first + number] = place
                self._ends.setdefault(first + number, 0)

    async def _range(self, place: TopicPartition) -> tuple[int, int]:
        (tp,) = await self._ids([place])

        def run(connection: sqlite3.Connection) -> tuple[int, int]:
            self._reader.whereabouts.check_now()
            return _range(connection, tp)

        return await self._reader.call(run)

    def _on_written(self, runs: Sequence[Run]) -> None:
        """Learn what this process has written."""
        for run in runs:
            place = self._places.get(run.tp)
            if place is None or is_compacted(place.topic) or not self.bell.is_heard(place):
                self._recent.pop(run.tp, None)
                continue
            recent = self._recent.get(run.tp)
            if recent is None or recent.end != run.offset:  # somebody else has written in between
                recent = self._recent[run.tp] = Recent(place, run.offset)
            recent.add(run.records, run.time_ms)
        self._on_ends({run.tp: run.offset + len(run.records) for run in runs})

    def _on_ends(self, ends: Ends) -> None:
        """Learn how far partitions reach, and wake their readers; none: a look has failed, let all look themselves."""
        if not ends:
            self.bell.ring_all()
        for tp, end in ends.items():
            if end > self._ends.get(tp, 0):
                self._ends[tp] = end
                if tp in self._places:
                    self.bell.ring(self._places[tp])


def _range(connection: sqlite3.Connection, tp: int) -> tuple[int, int]:
    start, end = connection.execute('SELECT start, "end" FROM partition WHERE tp = ?', (tp,)).fetchone()
    return start, end
