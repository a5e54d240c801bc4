"""How soon an assignment can be read, with ``serve`` as a process on a broker and conversations at a steady rate.

Inputs are written and assignments read by librdkafka: what makes the load shares the machine with what is measured, so
it has to cost little.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from events.kafka.settings import KafkaSettings
from events.topics import ASSIGNMENTS
from tests.bench.kafka_live import PATIENCE_S, ROLES, conversations_of, served
from tests.bench.printing import Row
from tests.bench.workload import Conversation
from tests.clients.librdkafka import new_consumer

POLL_S: Final = 0.5
WARM_UP: Final = 0.1  #: of the measured answers


def latency_rows(bootstrap: str, rates: Sequence[int], seconds: float) -> list[Row]:
    """From the last input, the address, to its assignment's being readable, all roles in one process."""
    rows: list[Row] = []
    for rate in rates:
        with served(bootstrap) as (made, stack):
            made.start(stack, ",".join(ROLES))
            took_ms = sorted(_latencies(made.settings, rate, seconds))
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = took_ms[min(int(len(took_ms) * share), len(took_ms) - 1)]
            rows.append(Row(f"address to assignment, ms: {name} at {rate}/s", f"{value:.1f}"))
    return rows


def _latencies(settings: KafkaSettings, rate: int, seconds: float) -> list[float]:
    """Milliseconds of each conversation. Their three inputs lie half a second apart, and overlap with the others'."""
    count = max(int(rate * seconds), 1)
    talks = conversations_of(count)
    half = max(rate // 2, 1)
    sent: dict[bytes, float] = {}
    producer = Producer({"bootstrap.servers": _bootstrap(settings), "linger.ms": 0})
    with _watched(settings, count) as (arrived, are_all_there):
        began_s = time.perf_counter()
        for turn in range(count + 2 * half):
            for step, number in (
                (Conversation.opened, turn),
                (Conversation.invalid, turn - half),
                (Conversation.valid, turn - 2 * half),
            ):
                if 0 <= number < count:
                    topic, partition, key, value, _headers = step(talks[number])
                    if step is Conversation.valid:
                        sent[key or b""] = time.perf_counter()
                    producer.produce(settings.topic(topic), value, key, partition)
            producer.poll(0)
            time.sleep(max(began_s + (turn + 1) / rate - time.perf_counter(), 0))
        assert producer.flush(PATIENCE_S) == 0
        assert are_all_there.wait(PATIENCE_S), f"{len(arrived)} of {count} assignments came"
    measured = list(sent)[int(count * WARM_UP) :]
    return [(arrived[key] - sent[key]) * 1_000 for key in measured]


def _bootstrap(settings: KafkaSettings) -> str:
    return ",".join(map(str, settings.brokers))


@contextmanager
def _watched(settings: KafkaSettings, count: int) -> Iterator[tuple[dict[bytes, float], threading.Event]]:
    """When the first assignment of each key could be read, seconds; and whether those of ``count`` keys were."""
    arrived: dict[bytes, float] = {}
    are_all_there, is_over = threading.Event(), threading.Event()

    def watch(consumer: Consumer) -> None:
        while not is_over.is_set():
            message = consumer.poll(POLL_S)
            if message is not None and message.error() is None:
                arrived.setdefault(message.key() or b"", time.perf_counter())
                if len(arrived) == count:
                    are_all_there.set()

    with new_consumer(_bootstrap(settings)) as consumer:
        consumer.assign([TopicPartition(settings.topic(ASSIGNMENTS), 0, OFFSET_BEGINNING)])
        thread = threading.Thread(target=watch, args=(consumer,))
        thread.start()
        try:
            yield arrived, are_all_there
        finally:
            is_over.set()
            thread.join()
