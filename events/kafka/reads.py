"""Reads of one partition at once: what ``Log.read`` answers, with the next stretch fetched while this one is used.

Following partitions is ``events/kafka/reader.py``'s business; both judge a broker's answer here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from aiokafka import errors

from events.adapter import check_range, is_log
from events.kafka.batches import Span, Unreadable, stand_in
from events.kafka.client import KafkaClient
from events.kafka.existing import LogIds
from events.kafka.requests import EARLIEST, LATEST, Answer, Wanted, fetch, offsets
from events.log import DamagedLogError, Fetched, LogError, OffsetOutOfRangeError, StoredRecord, TopicPartition

PARTITION_BYTES_MAX: Final = 1024 * 1024  #: of one answer for one partition, but for a first batch that is larger
READ_BYTES_MAX: Final = 16 * 1024 * 1024  #: of one ``read``; whoever wants more asks again
AHEAD_MAX: Final = 32  #: partitions with a stretch that was fetched before it was asked for
OUT_OF_RANGE: Final = 1
_AWAY: Final = (3, 5, 6, 9)  #: topic or leader is not where we looked


class Stretch(NamedTuple):
    """What one fetch brought, and how far may be read; no span: nothing."""

    span: Span | None
    end: int


class KafkaReads:
    """Reads partitions of one cluster."""

    def __init__(self, client: KafkaClient) -> None:
        self.client = client
        self.log_ids = LogIds(self._first)
        self._ahead: dict[TopicPartition, tuple[int, asyncio.Task[Stretch]]] = {}

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records from ``offset`` on, as many as there are up to ``records_max``, or to 16 MiB."""
        if offset < 0:
            check_range(place, offset, start=0, end=await self.offset(place, LATEST))
        records: list[StoredRecord] = []
        size_bytes = 0
        span: Span | None = None
        end = offset
        while len(records) < records_max and size_bytes < READ_BYTES_MAX:
            if span is None:
                span, end = await self._stretch(place, offset)
                if span is None:
                    break
                size_bytes += span.size_bytes
            records += self._taken(place, span, records_max - len(records))
            offset = span.offset_next
            if span.is_empty:
                span = None
        if is_log(place.topic):
            await self.log_ids.rule(place)  # if it came into doubt
        self._keep_ahead(place, offset, span, end)
        return Fetched(records, offset)

    async def range(self, place: TopicPartition) -> tuple[int, int]:
        """The first offset and the end of what may be read."""
        return await self.offset(place, EARLIEST), await self.offset(place, LATEST)

    async def offset(self, place: TopicPartition, which: int) -> int:
        """The first (``EARLIEST``) or next (``LATEST``) offset of the partition, when a broker has said it."""

        async def attempt() -> int:
            return (await offsets(self.client, [place], which))[place]

        return await self.client.until_answered(f"{place.topic}/{place.partition}", attempt)

    async def judged(self, wanted: Wanted, answer: Answer) -> Stretch:
        """What an answer holds. Raises aiokafka's error if it is worth to ask again, else ``LogError``."""
        place, offset = wanted
        if answer.code == OUT_OF_RANGE:
            start, end = await self.range(place)
            if is_log(place.topic) and offset > end:
                raise OffsetOutOfRangeError(
                    f"{place.topic}/{place.partition} ends at {end}, and was read up to {offset} before: it was cut or "
                    "made anew under us. Stop all serve of this log; restore the topic from a copy that keeps offsets"
                )
            check_range(place, offset, start=start, end=end)
            raise errors.OffsetOutOfRangeError(f"{place.topic}/{place.partition}: {offset}, now it is in range")
        if answer.code:
            if answer.code in _AWAY:
                self.log_ids.doubt(place)
            self.client.look_again()
            raise errors.for_code(answer.code)(place.topic)
        if not answer.data:
            if answer.end > offset:
                raise errors.ReplicaNotAvailableError(f"{place.topic}/{place.partition}: nothing at {offset} yet")
            return Stretch(None, answer.end)
        exists = await self.log_ids.rule(place) if is_log(place.topic) else None
        span = Span(place, offset, answer.data, answer.aborted, exists)
        if span.is_empty:
            raise LogError(
                f"{place.topic}/{place.partition}: what stands at offset {offset} is no record batch: the broker's "
                "files are damaged; restore the partition from a copy, or set the position past it"
            )
        return Stretch(span, answer.end)

    async def close(self) -> None:
        """Fetch nothing ahead any more."""
        for _offset, task in self._ahead.values():
            task.cancel()
        self._ahead.clear()

    @staticmethod
    def taken(place: TopicPartition, bad: Unreadable) -> StoredRecord:
        """What stands for an unreadable batch; ``DamagedLogError`` for a log, of which nothing may be passed over."""
        if is_log(place.topic):
            raise DamagedLogError(
                f"{place.topic}/{place.partition}: offsets {bad.offset} to {bad.offset_next - 1} cannot be read: "
                f"{bad.why}. A log has no gaps: restore the partition from a replica or from an export"
            )
        return stand_in(place, bad)

    def _taken(self, place: TopicPartition, span: Span, records_max: int) -> Sequence[StoredRecord]:
        taken = span.take(records_max)
        return [self.taken(place, taken)] if isinstance(taken, Unreadable) else taken

    async def _stretch(self, place: TopicPartition, offset: int) -> Stretch:
        known = self._ahead.pop(place, None)
        if known is not None and known[0] == offset:
            stretch = await known[1]
            if stretch.span is not None:
                return stretch
        elif known is not None:
            known[1].cancel()
        return await self._fetched(place, offset, PARTITION_BYTES_MAX)

    async def _fetched(self, place: TopicPartition, offset: int, bytes_max: int) -> Stretch:
        async def attempt() -> Stretch:
            wanted = Wanted(place, offset)
            node = await self.client.leader(place)
            answers = await fetch(
                self.client, node, [wanted], wait_ms=0, partition_bytes_max=bytes_max, bytes_max=bytes_max
            )
            return await self.judged(wanted, answers[place])

        return await self.client.until_answered(f"{place.topic}/{place.partition}", attempt)

    def _keep_ahead(self, place: TopicPartition, offset: int, span: Span | None, end: int) -> None:
        """Keep what was not given out, or fetch what comes next: whoever reads on is served at once."""
        if span is None and offset >= end:
            return
        if len(self._ahead) >= AHEAD_MAX:
            _offset, oldest = self._ahead.pop(next(iter(self._ahead)))
            oldest.cancel()
        ahead = _ready(Stretch(span, end)) if span is not None else self._fetched(place, offset, PARTITION_BYTES_MAX)
        task = asyncio.create_task(ahead)
        task.add_done_callback(_seen)
        self._ahead[place] = (offset, task)

    async def _first(self, place: TopicPartition) -> StoredRecord | None:
        """The record at offset 0, whether it exists or not; None if nothing stands there yet."""

        async def attempt() -> StoredRecord | None:
            node = await self.client.leader(place)
            wanted = Wanted(place, 0)
            answers = await fetch(self.client, node, [wanted], wait_ms=0, partition_bytes_max=1, bytes_max=1)
            answer = answers[place]
            if answer.code == OUT_OF_RANGE:
                raise OffsetOutOfRangeError(
                    f"{place.topic}/{place.partition}: its first records were deleted. Restore it from an export, and "
                    "set the topic's retention.ms and retention.bytes to -1"
                )
            if answer.code:
                self.client.look_again()
                raise errors.for_code(answer.code)(place.topic)
            taken = Span(place, 0, answer.data).take(1)
            if isinstance(taken, Unreadable):
                return self.taken(place, taken)
            return taken[0] if taken else None

        return await self.client.until_answered(f"{place.topic}/{place.partition}", attempt)


async def _ready(stretch: Stretch) -> Stretch:
    return stretch


def _seen(task: asyncio.Task[Stretch]) -> None:
    """An error of what was fetched ahead is told to whoever asks; nobody may."""
    if not task.cancelled():
        task.exception()
