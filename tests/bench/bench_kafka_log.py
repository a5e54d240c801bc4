"""The Kafka adapter beside bare aiokafka, in one run: appends, publishes, reads, and how soon a reader has a record.

    python -m tests.bench.bench_kafka_log HOST:PORT

Prints times and ratios; what counts are the ratios, the broker and the machine are in both. Topics of its own are made
and left.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition as KafkaPartition

from events.chain import NOTHING_BEFORE, Entry, seal
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import NewRecord, TopicPartition
from tests.bench.printing import Row, print_table
from tests.kafka_given import own_log, own_settings

OURS: Final = TopicPartition("routing.log", 0)
BARE: Final = TopicPartition("routing.log", 1)
INPUT: Final = TopicPartition("conversations.events", 0)
VALUE: Final = b"x" * 400
BATCH: Final = 200
ROUNDS: Final = 200
WARM_UP: Final = 10


def records(begin: int, count: int) -> list[NewRecord]:
    """One append."""
    entries = [Entry(b"contact", VALUE, "sha256:" + "0" * 64)] * count
    return seal(OURS, entries, expected=begin, log_id="b" * 32, after=NOTHING_BEFORE, progress=None)


async def timed(rounds: int, call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """The median of a call and its CPU time, milliseconds."""
    for _ in range(WARM_UP):
        await call()
    took: list[float] = []
    cpu_s = time.process_time()
    for _ in range(rounds):
        begin_s = time.perf_counter()
        await call()
        took.append((time.perf_counter() - begin_s) * 1e3)
    return statistics.median(took), (time.process_time() - cpu_s) / rounds * 1e3


class Bare:
    """aiokafka, used as one would without a rule."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.producer = AIOKafkaProducer(
            **settings.client_options(), enable_idempotence=True, acks="all", linger_ms=0, max_batch_size=2_000_000,
            max_request_size=2_100_000,
        )  # fmt: skip

    async def append(self, made: list[NewRecord]) -> None:
        """One batch, acknowledged."""
        batch = self.producer.create_batch()
        for _topic, _partition, key, value, headers in made:
            batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        await (await self.producer.send_batch(batch, self._settings.topic(BARE.topic), partition=BARE.partition))

    async def append_some(self, count: int) -> None:
        """As many records as an append of ours has."""
        await self.append(records(0, count))

    def consumer(self) -> AIOKafkaConsumer:
        """A consumer without a group."""
        return AIOKafkaConsumer(
            **self._settings.client_options(), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
        )  # fmt: skip


async def bare_read(bare: Bare, settings: KafkaSettings, count: int) -> tuple[float, float]:
    consumer = bare.consumer()
    await consumer.start()
    place = KafkaPartition(settings.topic(BARE.topic), BARE.partition)
    consumer.assign([place])
    begin_s, cpu_s, seen = time.perf_counter(), time.process_time(), 0
    while seen < count:
        for found in (await consumer.getmany(timeout_ms=1_000, max_records=500)).values():
            seen += len(found)
    took = (time.perf_counter() - begin_s) * 1e6 / count, (time.process_time() - cpu_s) * 1e6 / count
    await consumer.stop()
    return took


async def our_read(log: KafkaLog, count: int) -> tuple[float, float]:
    reader = log.reader({OURS: 0})
    begin_s, cpu_s, seen = time.perf_counter(), time.process_time(), 0
    while seen < count:
        seen += len(await reader.fetch(records_max=500, timeout_s=None))
    took = (time.perf_counter() - begin_s) * 1e6 / count, (time.process_time() - cpu_s) * 1e6 / count
    await reader.close()
    return took


async def our_delivery(log: KafkaLog, other: KafkaLog) -> Callable[[], Awaitable[object]]:
    reader = other.reader({INPUT: await other.end_offset(INPUT)})

    async def deliver() -> None:
        fetching = asyncio.create_task(reader.fetch(records_max=10, timeout_s=None))
        await log.publish([NewRecord(*INPUT, b"k", VALUE)])
        await fetching

    return deliver


async def bare_delivery(
    bare: Bare, settings: KafkaSettings, consumer: AIOKafkaConsumer
) -> Callable[[], Awaitable[object]]:
    place = KafkaPartition(settings.topic(INPUT.topic), 1)
    await consumer.start()
    consumer.assign([place])
    await consumer.seek_to_end(place)

    async def deliver() -> None:
        fetching = asyncio.create_task(consumer.getmany(timeout_ms=10_000, max_records=10))
        await bare.producer.send_and_wait(place.topic, VALUE, key=b"k", partition=1)
        await fetching

    return deliver


async def measured(bootstrap: str, rounds: int) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Per row (ours, bare), each (elapsed, CPU)."""
    settings = own_settings(bootstrap)
    bare = Bare(settings)
    found: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {}
    async with own_log(settings) as log, KafkaLog(settings) as other:
        await bare.producer.start()
        end = 0

        async def append(count: int) -> None:
            nonlocal end
            end = (await log.append(OURS, records(end, count), expected=end)).offset_next

        for count in (1, BATCH):
            ours = await timed(rounds, partial(append, count))
            found[f"append {count}, ms"] = (ours, await timed(rounds, partial(bare.append_some, count)))
        total = (rounds + WARM_UP) * (BATCH + 1)
        found["read, us a record"] = (await our_read(log, total), await bare_read(bare, settings, total))
        consumer = bare.consumer()
        ours = await timed(rounds, await our_delivery(log, other))
        found["publish until read, ms"] = (ours, await timed(rounds, await bare_delivery(bare, settings, consumer)))
        await consumer.stop()
        await bare.producer.stop()
    return found


def main(bootstrap: str, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Measure and print; gives each row's ratio of elapsed times."""
    found = asyncio.run(measured(bootstrap, rounds))
    rows = [
        Row(name, f"{ours[0]:.2f}", f"{bare[0]:.2f} ({ours[0] / bare[0]:.2f} x; CPU {ours[1] / bare[1]:.2f} x)")
        for name, (ours, bare) in found.items()
    ]
    print_table("the log on Kafka", ("", "ours", "bare aiokafka"), rows)
    return {name: ours[0] / bare[0] for name, (ours, bare) in found.items()}


if __name__ == "__main__":
    main(sys.argv[1])
