"""``tail``: the records of a topic, all partitions merged by time. How they look is the command line's business."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from events.adapter import is_compacted
from events.log import Log, Reader, StoredRecord, TopicPartition

READ_RECORDS: Final = 500
POSITION_MAX: Final = 2**62

Positions = dict[TopicPartition, int]


async def places_of(log: Log, topic: str, partition: int | None) -> list[TopicPartition]:
    """The partitions of a topic, or the one; raises ``UnknownTopicError`` and ``ValueError`` for what is not there."""
    count = await log.partition_count(topic)
    if partition is None:
        return [TopicPartition(topic, number) for number in range(count)]
    if not 0 <= partition < count:
        raise ValueError(f"--partition: {topic} has the partitions 0 to {count - 1}")
    return [TopicPartition(topic, partition)]


async def ends_of(log: Log, places: Sequence[TopicPartition]) -> Positions:
    """The ends, asked for now."""
    return {place: await log.end_offset(place) for place in places}


async def starts_of(log: Log, ends: Mapping[TopicPartition, int], offset: int) -> Positions:
    """Where to begin for ``offset``: no partition is left before its start or beyond its end."""
    return {place: min(max(offset, await log.start_offset(place)), end) for place, end in ends.items()}


async def merged(
    log: Log, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[StoredRecord]:
    """The records between ``starts`` and ``ends`` by the time at which the log took them.

    Within a partition that is their order; across partitions it is as good as the log's clock, and stable.
    """
    positions = dict(starts)
    waiting: dict[TopicPartition, deque[StoredRecord]] = {place: deque() for place in positions}
    while True:
        for place, found in waiting.items():
            while not found and positions[place] < ends[place]:
                fetched = await log.read(place, positions[place], records_max=READ_RECORDS)
                found.extend(record for record in fetched.records if record.offset < ends[place])
                if fetched.offset_next <= positions[place]:
                    break
                positions[place] = fetched.offset_next
        heads = [found[0] for found in waiting.values() if found]
        if not heads:
            return
        first = min(heads, key=_by_time)
        yield waiting[first.place].popleft()


async def last(log: Log, ends: Mapping[TopicPartition, int], count: int) -> list[StoredRecord]:
    """The last ``count`` records of the partitions together, in order."""
    offset_from = 0 if any(is_compacted(place.topic) for place in ends) else None  # those have holes
    starts: Positions = {}
    for place, end in ends.items():
        start = await log.start_offset(place)
        starts[place] = max(start, end - count if offset_from is None else offset_from)
    kept: deque[StoredRecord] = deque(maxlen=count)
    async for record in merged(log, starts, ends):
        kept.append(record)
    return list(kept)


async def followed(reader: Reader, stop: asyncio.Event) -> AsyncIterator[Sequence[StoredRecord]]:
    """What comes from now on, as it comes, until ``stop``."""
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            fetching = asyncio.create_task(reader.fetch(records_max=READ_RECORDS, timeout_s=None))
            try:
                await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if fetching.done():
                    yield sorted(fetching.result(), key=_by_time)
            finally:
                fetching.cancel()
    finally:
        stopping.cancel()


def _by_time(record: StoredRecord) -> tuple[int, int, int]:
    return record.time_ms, record.partition, record.offset
