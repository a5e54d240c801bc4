"""Writes record batches to Kafka: idempotent, acknowledged by all in-sync replicas, one batch of a partition at a time.

After an error of which nobody can say what it left behind, the producer is thrown away and the next write makes a new
one: an idempotent producer repeats a batch for ever, and refuses a partition whose sequence was broken. What an
acknowledgement means for an append is the log's business (``events/kafka/log.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, errors

from events.adapter import record_bytes
from events.clock import unix_ms
from events.kafka.client import KafkaClient, explained
from events.log import IndefiniteError, NewRecord, RecordTooLargeError
from events.topics import LOG_BATCH_BYTES_MAX, batch_bytes_max

logger = logging.getLogger(__name__)

REQUEST_ROOM_BYTES: Final = 64 * 1024  #: names and lengths that a request holds beside its batch
DELIVERY_TIMEOUTS: Final = 2  #: request time-outs until a write without answer is given up: one for a change of leader

_DEFINITE: Final = (  # refused as it stands: nothing was written
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTopicError,
)


class Acknowledged(NamedTuple):
    """A batch that the broker has taken. ``offset`` is its first record's; -1: the broker did not say."""

    offset: int
    time_ms: int


class _Producer:
    """A producer and how many writes use it."""

    def __init__(self, kafka: AIOKafkaProducer) -> None:
        self.kafka = kafka
        self.users = 0
        self.retired = False
        self.disposed = False


class KafkaWriter:
    """Sends batches through a producer of its own."""

    def __init__(self, client: KafkaClient, *, name: str) -> None:
        self._client = client
        self._settings = client.settings
        self._name = name  #: for the brokers' logs
        self._current: _Producer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._trusts_known = True
        self._disposals: set[asyncio.Task[None]] = set()
        self.delivery_timeout_s = DELIVERY_TIMEOUTS * self._settings.request_timeout_ms / 1000

    async def send(self, records: Sequence[NewRecord]) -> Acknowledged:
        """Write records of one partition as one batch.

        Raises ``RecordTooLargeError`` (nothing was written), ``IndefiniteError``
        when nobody can say, and ``LogError`` for what the brokers refuse.
        """
        topic, partition = records[0].topic, records[0].partition
        where = f"{topic}/{partition}"
        try:
            producer = await self._producer()
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise IndefiniteError(f"{where}: no broker can be reached ({_words(error)})") from error
        batch = _batch(producer.kafka, records)
        producer.users += 1
        try:
            async with asyncio.timeout(self.delivery_timeout_s):
                sent = await producer.kafka.send_batch(batch, self._settings.topic(topic), partition=partition)
                done = await sent
        except (errors.KafkaError, OSError, TimeoutError, AssertionError) as error:
            self._retire(producer)
            if isinstance(error, _DEFINITE):
                raise explained(error, where) from error
            raise IndefiniteError(f"{where}: no answer that says what was written ({_words(error)})") from error
        finally:
            producer.users -= 1
            self._dispose_if_idle(producer)
        if done is None:
            return Acknowledged(-1, 0)
        return Acknowledged(done.offset, done.timestamp if done.timestamp_type == 1 else unix_ms())

    def throw_away(self) -> None:
        """Write nothing more through the present producer; what is under way in it may still be written."""
        producer = self._current
        if producer is not None:
            self._retire(producer)
            self._dispose_if_idle(producer)

    async def close(self) -> None:
        """Finish what is under way, within the delivery time-out, and hang up."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        producer, self._current = self._current, None
        if producer is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.kafka.flush(), self.delivery_timeout_s)
            await self._dispose(producer.kafka)
        for disposal in list(self._disposals):
            with suppress(asyncio.CancelledError):
                await disposal

    async def _producer(self) -> _Producer:
        """The present producer; one that is slow to start goes on starting for the next write."""
        self._client.check_open()
        while self._current is None:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
                self._starting.add_done_callback(_seen)
            async with asyncio.timeout(self.delivery_timeout_s):
                await asyncio.shield(self._starting)
        return self._current

    async def _start(self) -> None:
        await self._client.connect()
        known = self._client.known_brokers() if self._trusts_known else []
        kafka = AIOKafkaProducer(**(self._options() | ({"bootstrap_servers": known} if known else {})))
        self._trusts_known = False  # if this fails, the next one begins with the brokers that the URL names
        try:
            await kafka.start()  # which waits without end for a producer id
        except BaseException:
            await self._dispose(kafka)
            raise
        self._trusts_known = True
        self._current = _Producer(kafka)

    def _options(self) -> dict[str, Any]:
        common = self._settings.client_options()
        return common | {
            "client_id": f"{common['client_id']}-{self._name}",
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": LOG_BATCH_BYTES_MAX,
            "max_request_size": LOG_BATCH_BYTES_MAX + REQUEST_ROOM_BYTES,
            "compression_type": None,  # latency; and a batch's size is known before it is sent
            "key_serializer": None,
            "value_serializer": None,
            "transactional_id": None,
            "transaction_timeout_ms": 60_000,  # no meaning without a transactional id
        }

    def _retire(self, producer: _Producer) -> None:
        producer.retired = True
        if self._current is producer:
            self._current = None

    def _dispose_if_idle(self, producer: _Producer) -> None:
        """Hang up in the background once nobody waits for this producer any more."""
        if producer.retired and producer.users == 0 and not producer.disposed:
            producer.disposed = True
            task = asyncio.create_task(self._dispose(producer.kafka))
            self._disposals.add(task)
            task.add_done_callback(self._disposals.discard)

    async def _dispose(self, kafka: AIOKafkaProducer) -> None:
        """End a producer without waiting for what it would repeat for ever.

        aiokafka's ``stop`` waits until every batch is through, which an idempotent one may never be. So its parts are
        ended here, which needs attributes that are not public.
        """
        with suppress(errors.KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(kafka._sender.close(), self.delivery_timeout_s)  # noqa: SLF001
        kafka._closed = True  # noqa: SLF001
        with suppress(errors.KafkaError, OSError):
            await kafka.client.close()


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever waited was told; perhaps nobody waits any more."""
    if not task.cancelled():
        task.exception()


def split(records: Sequence[NewRecord], indices: Sequence[int]) -> list[Sequence[NewRecord]]:
    """Records of one partition in batches that its topic takes, in order.

    Raises ``RecordTooLargeError`` for one that fits into none; ``indices`` are their places in the caller's call.
    """
    limit_bytes = batch_bytes_max(records[0].topic)
    parts: list[Sequence[NewRecord]] = []
    begin, size_bytes = 0, _BATCH_BYTES
    for number, record in enumerate(records):
        more_bytes = _wire_bytes(record)
        if _BATCH_BYTES + more_bytes > limit_bytes:
            raise RecordTooLargeError(indices[number], record_bytes(record), limit_bytes)
        if size_bytes + more_bytes > limit_bytes:
            parts.append(records[begin:number])
            begin, size_bytes = number, _BATCH_BYTES
        size_bytes += more_bytes
    parts.append(records[begin:])
    return parts


_BATCH_BYTES: Final = 61  #: a batch's own header
_RECORD_BYTES: Final = 32  #: at most, of lengths and deltas
_HEADER_BYTES: Final = 10


def _wire_bytes(record: NewRecord) -> int:
    """At most so many bytes of a batch."""
    return record_bytes(record) + _RECORD_BYTES + _HEADER_BYTES * len(record.headers)


def _batch(kafka: AIOKafkaProducer, records: Sequence[NewRecord]) -> Any:
    """A batch of all records; ``RecordTooLargeError`` names the one that does not fit any more."""
    limit_bytes = batch_bytes_max(records[0].topic)
    batch = kafka.create_batch()
    now_ms = unix_ms()
    for index, (_topic, _partition, key, value, headers) in enumerate(records):
        taken = batch.append(timestamp=now_ms, key=key, value=value, headers=list(headers))
        if taken is None or batch.size() > limit_bytes:
            batch.close()
            raise RecordTooLargeError(index, record_bytes(records[index]), limit_bytes)
    batch.close()
    return batch


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
