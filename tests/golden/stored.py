"""A whole log store as JSON Lines: one record a line, as it stands in its partition. Text where it is text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import msgspec

from events.chain import EXPECTED_OFFSET
from events.log import Log, NewRecord, TopicPartition
from events.memory import MemoryLog
from events.topics import TOPICS


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stored record."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None
    headers: dict[str, str] = {}
    time_ms: int


async def dump(log: Log) -> list[bytes]:
    """Every record of every topic."""
    lines: list[bytes] = []
    for topic in TOPICS:
        for partition in range(await log.partition_count(topic)):
            lines += [line async for line in _partition(log, TopicPartition(topic, partition))]
    return lines


async def _partition(log: Log, place: TopicPartition) -> AsyncIterator[bytes]:
    for record in (await log.read(place, 0, records_max=100_000)).records:
        yield msgspec.json.encode(
            Line(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                key=None if record.key is None else record.key.decode(),
                value=None if record.value is None else record.value.decode(),
                headers={name: value.decode() for name, value in record.headers},
                time_ms=record.time_ms,
            )
        )


async def load(lines: Iterable[bytes], partitions: dict[str, int]) -> MemoryLog:
    """A log in memory that holds the same records at the same offsets."""
    now_ms = 0
    log = MemoryLog(cluster_id="golden", clock_ms=lambda: now_ms)
    await log.create_topics(partitions)
    for raw in lines:
        line = msgspec.json.decode(raw, type=Line)
        now_ms = line.time_ms
        record = NewRecord(
            line.topic,
            line.partition,
            None if line.key is None else line.key.encode(),
            None if line.value is None else line.value.encode(),
            tuple((name, value.encode()) for name, value in line.headers.items()),
        )
        if EXPECTED_OFFSET in line.headers:
            await log.append(TopicPartition(line.topic, line.partition), [record], expected=line.offset)
        else:
            await log.publish([record])
    return log
