"""Following partitions: positions, turns, pausing and waiting, the same over every adapter that keeps ends in memory.

``FollowingReader`` is the port's ``Reader``; where records come from is a ``Source``'s business.
A position advances in the same step in which its records are handed out, with no await between: a fetch that is
cancelled, or overtaken by a seek, has handed out nothing and moved nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from events.log import LogError, StoredRecord, TopicPartition


class Wanted(NamedTuple):
    """Where a reader would go on."""

    place: TopicPartition
    offset: int


class Chunk(NamedTuple):
    """What was found for one ``Wanted``. ``offset_next`` also goes past offsets that hold no record."""

    wanted: Wanted
    records: Sequence[StoredRecord]
    offset_next: int


class Bell:
    """Wakes the readers of the partitions that have grown, in the order in which they came."""

    def __init__(self) -> None:
        self._listeners: dict[TopicPartition, list[asyncio.Event]] = {}

    def listen(self, places: Iterable[TopicPartition], event: asyncio.Event) -> None:
        """Set ``event`` whenever one of ``places`` rings."""
        for place in places:
            self._listeners.setdefault(place, []).append(event)

    def leave(self, places: Iterable[TopicPartition], event: asyncio.Event) -> None:
        """Undo ``listen``."""
        for place in places:
            self._listeners[place].remove(event)

    def is_heard(self, place: TopicPartition) -> bool:
        """Whether anybody listens to ``place``."""
        return bool(self._listeners.get(place))

    def ring(self, place: TopicPartition) -> None:
        """Wake who listens to ``place``."""
        for event in self._listeners.get(place, ()):
            event.set()

    def ring_all(self) -> None:
        """Wake everybody."""
        for place in self._listeners:
            self.ring(place)


class Source(Protocol):
    """What a ``FollowingReader`` needs of its log."""

    bell: Bell

    async def take(self, wanted: Sequence[Wanted], *, records_max: int) -> Sequence[Chunk]:
        """Records for ``wanted``, served in this order, ``records_max`` in all; chunks without progress are left out.

        Before it says that there is nothing, it has looked at what others may have written.
        Raises ``OffsetOutOfRangeError`` if an offset lies outside its partition.
        """

    async def ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends, asked for now."""

    def waiting(self) -> AbstractContextManager[None]:
        """While it is entered, the bell also rings for what others write."""

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""


class Fetching:
    """What every reader's fetch keeps to: one at a time, and waiting for ``woken``."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self._is_busy = False

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Raise ``RuntimeError`` while another fetch has entered it."""
        if self._is_busy:
            raise RuntimeError("a reader is for one task at a time: another fetch is under way")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    async def wait(self, deadline_s: float | None) -> bool:
        """Wait to be woken; False when the deadline (the loop's time) has passed."""
        if self.woken.is_set():
            return True
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.woken.wait()
        except TimeoutError:
            return False
        return True


class FollowingReader:
    """Follows partitions from given positions; the port's ``Reader`` over a ``Source``."""

    def __init__(self, source: Source, positions: Mapping[TopicPartition, int]) -> None:
        self._source = source
        self._positions = dict(positions)
        for place, offset in positions.items():
            check_offset(place, offset)
        self._order = list(positions)  #: the place whose turn it is stands first
        self._paused: set[TopicPartition] = set()
        self._fetching = Fetching()
        self._woken = self._fetching.woken
        self._closed = False
        source.bell.listen(self._order, self._woken)

    async def fetch(self, *, records_max: int, timeout_s: float | None) -> Sequence[StoredRecord]:
        """Wait for records, as the port has it. Raises ``OffsetOutOfRangeError`` for a position that cannot be read."""
        if records_max < 1:
            raise ValueError(f"records_max is {records_max}; it must be at least 1")
        deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        with self._fetching.one_at_a_time():
            records = await self._look(records_max)
            if records or timeout_s == 0:
                return records
            with self._source.waiting():
                while not records and await self._fetching.wait(deadline_s):
                    records = await self._look(records_max)
            return records

    def position(self, place: TopicPartition) -> int:
        """The offset that the next fetch begins at."""
        return self._positions[place]

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from ``offset``; a fetch that is under way heeds it."""
        check_offset(place, offset)
        if place not in self._positions:
            raise KeyError(f"{place.topic}/{place.partition} is not followed by this reader")
        self._positions[place] = offset
        self._woken.set()

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Fetch nothing from these until ``resume``; a fetch that is under way heeds it."""
        self._paused.update(places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""
        self._paused.difference_update(places)
        self._woken.set()

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """The end of every partition followed, asked for now."""
        self._check_open()
        return await self._source.ends(list(self._positions))

    async def close(self) -> None:
        """Stop following. A fetch that is under way raises ``LogError``."""
        if not self._closed:
            self._closed = True
            self._woken.set()
            self._source.bell.leave(self._positions, self._woken)

    async def _look(self, records_max: int) -> list[StoredRecord]:
        while True:
            self._woken.clear()
            self._check_open()
            wanted = [Wanted(place, self._positions[place]) for place in self._order if place not in self._paused]
            chunks = await self._source.take(wanted, records_max=records_max)
            self._check_open()
            records = self._hand_out(chunks)
            if records or not chunks:
                return records
            # Only holes, or chunks that a seek made void: there may be more behind them.

    def _hand_out(self, chunks: Sequence[Chunk]) -> list[StoredRecord]:
        records: list[StoredRecord] = []
        served: TopicPartition | None = None
        for (place, offset), found, offset_next in chunks:
            if self._positions[place] != offset or place in self._paused:
                continue
            self._positions[place] = offset_next
            records.extend(found)
            served = served or place
        if served is not None:
            turn = self._order.index(served) + 1
            self._order = self._order[turn:] + self._order[:turn]
        return records

    def _check_open(self) -> None:
        self._source.check_open()
        if self._closed:
            raise LogError("the reader is closed")


def check_offset(place: TopicPartition, offset: int) -> None:
    """Raise ``ValueError`` for an offset that no partition has."""
    if offset < 0:
        raise ValueError(f"{place.topic}/{place.partition}: offset {offset} is negative; offsets begin at 0")
