"""The log in memory: the double of the real ones, for tests, simulations and trying out.

It keeps the port's whole contract but durability. It has no threads and no clock of its own, and every call gives way
to other tasks once before it does anything, so that a run under a virtual-time event loop is deterministic and no task
starves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from events.adapter import check_append, check_outputs, check_partitions, check_publish, check_range, is_compacted
from events.following import Bell, Chunk, FollowingReader, Wanted
from events.log import (
    Appended,
    FencedError,
    Fetched,
    LogError,
    NewRecord,
    StoredRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.ownership import HeldWhole, MemoryOwnership


class _Partition:
    """One partition's records by offset; None where compaction has left a hole."""

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.records: list[StoredRecord | None] = []
        self.time_ms = 0
        self._compacted = is_compacted(place.topic)
        self._latest: dict[bytes, int] = {}

    @property
    def end(self) -> int:
        return len(self.records)

    def add(self, record: NewRecord, now_ms: int) -> None:
        self.time_ms = max(self.time_ms, now_ms)
        topic, partition, key, value, headers = record
        if self._compacted and key is not None:
            earlier = self._latest.get(key)
            if earlier is not None:
                self.records[earlier] = None
            self._latest[key] = self.end
        self.records.append(StoredRecord(topic, partition, self.end, key, value, tuple(headers), self.time_ms))

    def read(self, offset: int, records_max: int) -> tuple[list[StoredRecord], int]:
        found: list[StoredRecord] = []
        end = self.end
        while offset < end and len(found) < records_max:
            part = self.records[offset : offset + records_max - len(found)]
            found += [record for record in part if record is not None]
            offset += len(part)
        return found, offset


class MemoryLog(HeldWhole):
    """A log that lives as long as the object; ``clock_ms`` gives Unix milliseconds.

    ``joins_outputs``: whether it is the double of a store that does.
    """

    leaves_gaps = False
    keeps_time = False

    def __init__(
        self,
        *,
        cluster_id: str,
        clock_ms: Callable[[], int],
        topics: Mapping[str, int] | None = None,
        joins_outputs: bool = False,
    ) -> None:
        self.joins_outputs = joins_outputs
        self.bell = Bell()
        self._cluster_id = cluster_id
        self._clock_ms = clock_ms
        self._topics: dict[str, list[_Partition]] = {}
        self._committed: dict[str, dict[TopicPartition, int]] = {}
        self._ownership = MemoryOwnership()
        self._closed = False
        self._make(topics or {})

    async def cluster_id(self) -> str:
        """Names this store for ever."""
        return self._cluster_id

    async def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Make the topics that do not exist yet; nothing is made if one exists with another count (``LogError``)."""
        await self._turn()
        self._make(partitions)

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic has; ``UnknownTopicError`` if there is no such topic."""
        self.check_open()
        if topic not in self._topics:
            raise UnknownTopicError(f"there is no topic {topic} in this log")
        return len(self._topics[topic])

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """Append all records or none, if the partition's end is ``expected``; ``outputs`` in the same step."""
        check_append(place, records)
        check_outputs(self, outputs)
        await self._turn()
        self._check_places(outputs)
        partition = self._partition(place)
        if partition.end != expected:
            raise FencedError(f"{place.topic}/{place.partition}: the end is {partition.end}, expected was {expected}")
        now_ms = self._clock_ms()
        self._write([*records, *outputs], now_ms)
        return Appended(offset_next=partition.end, time_ms=max(now_ms, partition.time_ms))

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append records to any partitions, in order per partition; all or none."""
        check_publish(records)
        await self._turn()
        self._check_places(records)
        self._write(records, self._clock_ms())

    async def start_offset(self, place: TopicPartition) -> int:
        """The lowest offset that may hold a record: always 0."""
        self._partition(place)
        return 0

    async def end_offset(self, place: TopicPartition) -> int:
        """The offset after the last record."""
        await self._turn()
        return self._partition(place).end

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records from ``offset`` on, at once."""
        await self._turn()
        partition = self._partition(place)
        check_range(place, offset, start=0, end=partition.end)
        return Fetched(*partition.read(offset, records_max))

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        """A reader that follows these partitions from these offsets."""
        for place in positions:
            self._partition(place)
        return FollowingReader(self, positions)

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Remember a group's positions."""
        await self._turn()
        for place in positions:
            self._partition(place)
        self._committed.setdefault(group, {}).update(positions)

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """A group's positions; partitions without one are absent."""
        await self._turn()
        known = self._committed.get(group, {})
        return {place: known[place] for place in places if place in known}

    async def close(self) -> None:
        """Wake who waits; every later call raises ``LogError``. The records stay until the object goes."""
        self._closed = True
        self.bell.ring_all()

    async def take(self, wanted: Sequence[Wanted], *, records_max: int) -> Sequence[Chunk]:
        """Records for a reader, as ``Source`` has it."""
        await self._turn()
        chunks: list[Chunk] = []
        for want in wanted:
            partition = self._partition(want.place)
            check_range(want.place, want.offset, start=0, end=partition.end)
            if want.offset < partition.end and records_max > 0:
                records, offset_next = partition.read(want.offset, records_max)
                chunks.append(Chunk(want, records, offset_next))
                records_max -= len(records)
        return chunks

    async def ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends, as ``Source`` has it."""
        await self._turn()
        return {place: self._partition(place).end for place in places}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Nothing to do: nobody else writes into this memory."""
        yield

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""
        if self._closed:
            raise LogError("the log is closed")

    async def _turn(self) -> None:
        """Give way to other tasks, as a call to a real log does."""
        self.check_open()
        await asyncio.sleep(0)
        self.check_open()

    def _partition(self, place: TopicPartition) -> _Partition:
        self.check_open()
        partitions = self._topics.get(place.topic)
        if partitions is None or not 0 <= place.partition < len(partitions):
            raise UnknownTopicError(f"there is no partition {place.topic}/{place.partition} in this log")
        return partitions[place.partition]

    def _check_places(self, records: Sequence[NewRecord]) -> None:
        for record in records:
            self._partition(TopicPartition(record.topic, record.partition))

    def _make(self, partitions: Mapping[str, int]) -> None:
        for topic, count in partitions.items():
            check_partitions(topic, count)
            existing = len(self._topics.get(topic, ()))
            if existing not in (0, count):
                raise LogError(f"{topic} exists with {existing} partitions, not {count}; a topic's count is fixed")
        for topic, count in partitions.items():
            if topic not in self._topics:
                self._topics[topic] = [_Partition(TopicPartition(topic, number)) for number in range(count)]

    def _write(self, records: Sequence[NewRecord], now_ms: int) -> None:
        written: dict[TopicPartition, None] = {}  # in order: a set's order would not be the same in every run
        for record in records:
            partition = self._partition(TopicPartition(record.topic, record.partition))
            partition.add(record, now_ms)
            written[partition.place] = None
        for place in written:
            self.bell.ring(place)
