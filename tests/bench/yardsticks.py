"""What the benchmarks on Kafka are held against: loops by hand over plain aiokafka, without any promise of ours.

*copy* reads, parses, dumps and appends to one topic. *full* is the whole workflow as an if-chain over a dictionary:
three inputs and a CRM answer of each conversation come in; three replies, four log records and an assignment go out.
Both append in batches, idempotent, acknowledged by all, one batch of a partition under way at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition as KafkaPartition

FETCH_RECORDS: Final = 4_000
BATCH_BYTES_MAX: Final = 900_000
QUESTIONS: Final = ("What is your e-mail address?", "That is no address. What is it?", "Thank you.")


class Appending:
    """Batches of one topic's only partition, one under way at a time."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._batch = producer.create_batch()
        self._under_way: Any = None

    async def add(self, key: bytes | None, value: bytes) -> None:
        """Take a record along; sends the batch when it is full."""
        while self._batch.append(key=key, value=value, timestamp=None, headers=[]) is None:
            await self.send()

    async def send(self) -> None:
        """Send what there is, when the batch before it was acknowledged."""
        if self._batch.record_count() == 0:
            return
        await self.settle()
        batch, self._batch = self._batch, self._producer.create_batch()
        batch.close()
        self._under_way = await self._producer.send_batch(batch, self._topic, partition=0)

    async def settle(self) -> None:
        """Wait for the acknowledgement of the batch that is under way."""
        if self._under_way is not None:
            await self._under_way
            self._under_way = None


async def fetched(bootstrap: str, topic: str, count: int) -> AsyncIterator[Sequence[Any]]:
    """The first ``count`` records of a topic's only partition, as they come."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        check_crcs=True,
    )
    consumer.assign([KafkaPartition(topic, 0)])
    await consumer.start()
    try:
        while count > 0:
            for records in (await consumer.getmany(timeout_ms=1_000, max_records=FETCH_RECORDS)).values():
                count -= len(records)
                yield records
    finally:
        await consumer.stop()


def new_producer(bootstrap: str) -> AIOKafkaProducer:
    """A producer as careful as ours."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=BATCH_BYTES_MAX + 65_536,
        compression_type=None,
    )


async def copy(bootstrap: str, source: str, target: str, count: int) -> None:
    """Read, parse, dump, append."""
    async with new_producer(bootstrap) as producer:
        appending = Appending(producer, target)
        async for records in fetched(bootstrap, source, count):
            for record in records:
                await appending.add(record.key, orjson.dumps(orjson.loads(record.value)))
            await appending.send()
        await appending.settle()


async def full(bootstrap: str, source: str, targets: tuple[str, str, str], count: int) -> None:
    """The workflow. ``targets``: for log records, replies and assignments; ``count``: inputs, CRM answers included."""
    async with new_producer(bootstrap) as producer:
        log, replies, assignments = (Appending(producer, topic) for topic in targets)
        chain = Chain()
        async for records in fetched(bootstrap, source, count):
            for record in records:
                logged, reply, assigned = chain.take(orjson.loads(record.value))
                await log.add(record.key, orjson.dumps(logged))
                if reply is not None:
                    await replies.add(record.key, orjson.dumps(reply))
                if assigned is not None:
                    await assignments.add(record.key, orjson.dumps(assigned))
            for appending in (log, replies, assignments):
                await appending.send()
        await asyncio.gather(*(appending.settle() for appending in (log, replies, assignments)))


class Chain:
    """The if-chain and its dictionary."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, Any]] = {}
        self._turn = 0

    def take(self, event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]:
        """The log record of an input, its reply and its assignment, if it leads to one."""
        contact, kind, data = event["partitionkey"], event["type"], event["data"]
        if kind == "conversation.opened":
            state = self._states[contact] = {"seq": 0, "state": "opened", "conversation": event["subject"]}
        else:
            state = self._states[contact]
        before, reply, assigned = state["state"], None, None
        state["seq"] += 1
        if before == "opened":
            state["state"], reply = "awaiting-email", self._reply(event, state, 0)
        elif before == "awaiting-email" and "@" not in data["text"]:
            state["state"], reply = "email-retry-1", self._reply(event, state, 1)
        elif kind == "message.received":
            state["state"], state["email"] = "fetching-crm", data["text"].rsplit(" ", 1)[-1]
            reply = self._reply(event, state, 2)
        elif kind == "crm.answered":
            is_vip = data["variables"]["customer_type"] == "VIP"
            state["state"] = "routed-vip" if is_vip else "routed-regular"
            self._turn += 1
            agent = "anna" if is_vip else f"agent-{self._turn % 50:02}"
            assigned = self._envelope(event, state, "conversation.assigned", {"agent": agent, "route": state["state"]})
        change = {"from": before, "to": state["state"], "input": data, "cause": event["id"]}
        return self._envelope(event, state, "conversation.changed", change), reply, assigned

    def _reply(self, event: dict[str, Any], state: dict[str, Any], number: int) -> dict[str, Any]:
        return self._envelope(event, state, "reply.requested", {"text": QUESTIONS[number], "attempt": number})

    @staticmethod
    def _envelope(event: dict[str, Any], state: dict[str, Any], kind: str, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": f"{event['partitionkey']}/{event['subject']}/{state['seq']}",
            "source": "/yardstick",
            "type": kind,
            "subject": event["subject"],
            "time": event["time"],
            "partitionkey": event["partitionkey"],
            "data": {**data, "seq": state["seq"]},
        }
