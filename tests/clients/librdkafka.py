"""librdkafka, the client of most languages that are not Java: through confluent-kafka, with its own partitioner.

That partitioner takes the CRC32 of the key, so most of its records lie on other partitions than Java's would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from tests.clients.wire import Wire

TIMEOUT_S = 30.0


def produce(bootstrap: str, topic: str, records: Sequence[Wire]) -> None:
    """Write records in order, partitioned as the client does by default; returns when all are acknowledged."""
    refused: list[str] = []

    def told(error: Any, _message: Any) -> None:
        if error is not None:
            refused.append(str(error))

    producer = Producer({"bootstrap.servers": bootstrap})
    for key, value, headers in records:
        content: list[Any] = [(name, text.encode()) for name, text in headers]
        producer.produce(topic, key=key.encode(), value=value.encode(), headers=content, on_delivery=told)
    unsent_n = producer.flush(TIMEOUT_S)
    assert unsent_n == 0, f"librdkafka: {unsent_n} records were not acknowledged within {TIMEOUT_S} s"
    assert not refused, refused


def put(bootstrap: str, topic: str, partition: int, record: Wire) -> None:
    """Write one record to a partition of the caller's choice."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, partition=partition, key=record.key.encode(), value=record.value.encode())
    assert producer.flush(TIMEOUT_S) == 0, f"librdkafka: no acknowledgement within {TIMEOUT_S} s"


def consume(bootstrap: str, topic: str) -> list[Wire]:
    """Every record that the topic has now, in the order in which this client got them."""
    return [record for _partition, record in placed(bootstrap, topic)]


def placed(bootstrap: str, topic: str) -> list[tuple[int, Wire]]:
    """The same with each record's partition."""
    message: Any
    found: list[tuple[int, Wire]] = []
    with new_consumer(bootstrap) as consumer:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        unread = set(partitions)
        while unread:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"librdkafka: {topic} did not come to its end within {TIMEOUT_S} s"
            error = message.error()
            if error is None:
                found.append((message.partition(), _wire(message)))
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise AssertionError(f"librdkafka: {error}")
    return found


@contextmanager
def new_consumer(bootstrap: str) -> Iterator[Consumer]:
    """A consumer that is in no group, and tells where a partition ends."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "librdkafka",  # it wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _wire(message: Any) -> Wire:
    headers = tuple((name, value.decode()) for name, value in message.headers() or ())
    return Wire(message.key().decode(), message.value().decode(), headers)
