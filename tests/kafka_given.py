"""What tests of the Kafka adapter begin with: a log on topics of its own, and writers that keep no rule."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings, kafka_settings
from events.log import Log, NewRecord, StoredRecord, TopicPartition
from events.topics import partition_counts

COUNTS = partition_counts(contacts=4, workspaces=2)


def own_settings(bootstrap: str, **variables: str) -> KafkaSettings:
    """Settings with a topic prefix that no other test has; ``variables`` without their prefix."""
    environment = {f"VIP_ROUTER_KAFKA_{name}": value for name, value in variables.items()}
    return kafka_settings(f"kafka://{bootstrap}", environment, topic_prefix=f"{uuid.uuid4().hex[:8]}.")


def own_log(settings: KafkaSettings) -> KafkaLog:
    """A handle that makes its topics when it is entered."""
    return KafkaLog(settings, create=COUNTS)


@asynccontextmanager
async def stranger(settings: KafkaSettings, *, transactional_id: str | None = None) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that writes what it likes."""
    producer = AIOKafkaProducer(
        bootstrap_servers=[str(broker) for broker in settings.brokers],
        acks="all",
        linger_ms=0,
        transactional_id=transactional_id,
        enable_idempotence=True,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, settings: KafkaSettings, records: Sequence[NewRecord]) -> None:
    """Write records as they are, whatever rule their topic has."""
    for topic, partition, key, value, headers in records:
        await producer.send_and_wait(settings.topic(topic), value, key=key, partition=partition, headers=list(headers))


@asynccontextmanager
async def admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Whoever runs the brokers."""
    client = AIOKafkaAdminClient(bootstrap_servers=[str(broker) for broker in settings.brokers])
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def delete(settings: KafkaSettings, topic: str) -> None:
    """Delete a topic."""
    async with admin(settings) as client:
        await client.delete_topics([settings.topic(topic)])


async def made_anew(settings: KafkaSettings, topic: str) -> None:
    """Delete a topic and make it again, empty."""
    async with admin(settings) as client:
        await client.delete_topics([settings.topic(topic)])
        while True:
            answer = await client.create_topics([NewTopic(settings.topic(topic), COUNTS[topic], 1)])
            if answer.topic_errors[0][1] == 0:
                return


async def everything(log: Log, place: TopicPartition) -> list[StoredRecord]:
    """All records of a partition."""
    records: list[StoredRecord] = []
    offset = await log.start_offset(place)
    while True:
        found, offset_next = await log.read(place, offset, records_max=1_000)
        records += found
        if offset_next == offset:
            return records
        offset = offset_next
