"""Logs with one planted fault each: the contract's checks must turn red on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from events.following import Bell, Chunk, FollowingReader, Wanted
from events.log import Appended, NewRecord, StoredRecord, TopicPartition
from events.memory import MemoryLog


class UncheckedLog(MemoryLog):
    """Appends at whatever end there is."""

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),  # noqa: ARG002 - nobody gives any here
    ) -> Appended:
        await self._turn()
        self._write(records, self._clock_ms())
        partition = self._partition(place)
        return Appended(offset_next=max(expected, partition.end), time_ms=partition.time_ms)


class TornLog(MemoryLog):
    """Checks the condition once, then writes record by record, giving way between."""

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),  # noqa: ARG002 - nobody gives any here
    ) -> Appended:
        appended = await super().append(place, records[:1], expected=expected)
        for record in records[1:]:
            appended = await super().append(place, [record], expected=await self.end_offset(place))
        return appended


class ReorderingLog(MemoryLog):
    """Writes what was published together in the opposite order."""

    async def publish(self, records: Sequence[NewRecord]) -> None:
        await super().publish(list(reversed(records)))


class ForgetfulClockLog(MemoryLog):
    """Takes the clock's time even when it went back."""

    def _write(self, records: Sequence[NewRecord], now_ms: int) -> None:
        for record in records:
            self._partition(TopicPartition(record.topic, record.partition)).time_ms = 0
        super()._write(records, now_ms)


class BoastfulLog(MemoryLog):
    """Says that it has a clock of its own."""

    keeps_time = True


class DeafLog(MemoryLog):
    """Wakes nobody."""

    def _write(self, records: Sequence[NewRecord], now_ms: int) -> None:
        bell, self.bell = self.bell, Bell()
        super()._write(records, now_ms)
        self.bell = bell


class EagerReader(FollowingReader):
    """Moves its positions before the records are handed out."""

    async def _look(self, records_max: int) -> list[StoredRecord]:
        records = await super()._look(records_max)
        await asyncio.sleep(0)
        return records


class LossyLog(MemoryLog):
    """Loses what a cancelled fetch had taken."""

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        return EagerReader(self, positions)


class StubbornReader(FollowingReader):
    """Hands out what it had begun to read although it was moved meanwhile."""

    def _hand_out(self, chunks: Sequence[Chunk]) -> list[StoredRecord]:
        for chunk in chunks:
            self._positions[chunk.wanted.place] = chunk.wanted.offset
        return super()._hand_out(chunks)


class StubbornLog(MemoryLog):
    """Ignores a seek during a fetch."""

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        return StubbornReader(self, positions)


class UnfairReader(FollowingReader):
    """Always begins with its first partition."""

    def _hand_out(self, chunks: Sequence[Chunk]) -> list[StoredRecord]:
        order = list(self._order)
        records = super()._hand_out(chunks)
        self._order = order
        return records


class UnfairLog(MemoryLog):
    """Lets a partition with many records starve the others."""

    def reader(self, positions: Mapping[TopicPartition, int]) -> FollowingReader:
        return UnfairReader(self, positions)


class HoleLog(MemoryLog):
    """Takes a stretch of holes for the end."""

    async def take(self, wanted: Sequence[Wanted], *, records_max: int) -> Sequence[Chunk]:
        await self._turn()
        chunks = []
        for want in wanted:
            stretch = self._partition(want.place).records[want.offset : want.offset + records_max]
            if found := [record for record in stretch if record is not None]:
                chunks.append(Chunk(want, found, found[-1].offset + 1))
        return chunks


class HeadlessLog(MemoryLog):
    """Keeps no headers."""

    async def publish(self, records: Sequence[NewRecord]) -> None:
        await super().publish([record._replace(headers=()) for record in records])


class HalfLog(MemoryLog):
    """Notices a record that is too large only when it comes to it."""

    async def publish(self, records: Sequence[NewRecord]) -> None:
        for index, record in enumerate(records):
            try:
                await super().publish([record])
            except Exception as error:
                if hasattr(error, "index"):
                    error.index = index
                raise
