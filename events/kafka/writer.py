"""Writes record batches to Kafka: acknowledged by all in-sync replicas, one batch of a partition at a time.

A producer of our own size, on the connections that ``KafkaClient`` has. Kafka's idempotent producers would have nothing
to do here: of an append whose answer is lost nobody needs to know more than its offset tells, and what was published
twice is the same event twice. What was certainly not written is sent again; anything else is for the caller to judge
(``events/kafka/log.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from aiokafka import errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from events.adapter import record_bytes
from events.clock import unix_ms
from events.kafka.client import PAUSE_FIRST_S, KafkaClient, explained
from events.log import IndefiniteError, LogError, NewRecord, RecordTooLargeError, TopicPartition
from events.topics import batch_bytes_max, packed_bytes_max

logger = logging.getLogger(__name__)

DELIVERY_TIMEOUTS: Final = 2  #: request time-outs until a write that nobody takes is given up: one for a new leader
PAUSE_MAX_S: Final = 0.4  #: between attempts: a new leader is found soon
REQUEST_BATCHES_MAX: Final = 32  #: of one request: with the largest ones it stays below what a broker reads at once
ALL_IN_SYNC: Final = -1

_REFUSED: Final = (  # refused as it stands: nothing was written, and nothing ever will be
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTopicError,
)
_NOT_WRITTEN: Final = (  # certainly: said by a broker that has looked at it
    errors.UnknownTopicOrPartitionError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.BrokerNotAvailableError,
    errors.NotEnoughReplicasError,
)


class Acknowledged(NamedTuple):
    """A batch that the broker has taken. ``offset`` is its first record's; -1: the broker did not say."""

    offset: int
    time_ms: int


Outcome: TypeAlias = Acknowledged | LogError  #: the error that the port has for it, to be raised
Batches: TypeAlias = Mapping[TopicPartition, bytes]


class KafkaWriter:
    """Sends batches to the leaders of their partitions."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._request_timeout_ms = client.settings.request_timeout_ms

    async def send(self, batches: Sequence[Sequence[NewRecord]]) -> list[Outcome]:
        """Write each group of records as one batch; no two groups may be of one partition. Their outcomes, in order.

        An outcome is an ``IndefiniteError`` where nobody can say, or no broker took it in time, and another
        ``LogError`` for what the brokers refuse. Raises ``RecordTooLargeError`` before anything is written.
        """
        places = [TopicPartition(records[0].topic, records[0].partition) for records in batches]
        waiting = {place: _batch(records) for place, records in zip(places, batches, strict=True)}
        outcomes: dict[TopicPartition, Outcome] = {}
        await self._client.connect()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DELIVERY_TIMEOUTS * self._request_timeout_ms / 1000
        pause_s = PAUSE_FIRST_S
        while True:
            outcomes |= await self._attempt(waiting)
            waiting = {place: batch for place, batch in waiting.items() if place not in outcomes}
            if waiting:
                self._client.look_again()
            if not waiting or loop.time() >= until_s:
                return [outcomes.get(place) or _indefinite(place, "no broker takes it") for place in places]
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _attempt(self, batches: Batches) -> dict[TopicPartition, Outcome]:
        """Send each batch once; what was certainly not written, and may be next time, has no outcome."""
        outcomes: dict[TopicPartition, Outcome] = {}
        by_node: dict[int, list[TopicPartition]] = defaultdict(list)
        for place in batches:
            try:
                by_node[await self._client.leader(place)].append(place)
            except LogError as error:
                outcomes[place] = error
            except (errors.KafkaError, OSError, TimeoutError) as error:
                logger.debug("%s/%d: nobody to send to: %r", *place, error)
        requests = [
            self._produce(node, {place: batches[place] for place in led[first : first + REQUEST_BATCHES_MAX]})
            for node, led in by_node.items()
            for first in range(0, len(led), REQUEST_BATCHES_MAX)
        ]
        for answered in [await requests[0]] if len(requests) == 1 else await asyncio.gather(*requests):
            outcomes |= answered
        return outcomes

    async def _produce(self, node: int, batches: Batches) -> dict[TopicPartition, Outcome]:
        """One request to one broker."""
        client = self._client
        topics: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for (topic, partition), batch in batches.items():
            topics[client.settings.topic(topic)].append((partition, batch))
        request = ProduceRequest(None, ALL_IN_SYNC, self._request_timeout_ms, list(topics.items()))
        slot = client.take_slot(node)
        try:
            answer = await client.ask(node, request, slot)
        except errors.NodeNotReadyError as error:  # there was no connection to send it on
            logger.debug("broker %d: %r", node, error)
            return {}
        except (errors.KafkaError, OSError, TimeoutError) as error:
            words = f"{type(error).__name__} {error}".strip()
            return {place: _indefinite(place, f"no answer that says what was written: {words}") for place in batches}
        finally:
            client.give_slot(node, slot)
        outcomes: dict[TopicPartition, Outcome] = {}
        for topic, partitions in answer.topics:
            for partition, code, offset, time_ms, *_ in partitions:
                place = TopicPartition(client.settings.name_of(topic), partition)
                outcome = _outcome(place, f"{topic}/{partition}", code, offset, time_ms)
                if outcome is not None:
                    outcomes[place] = outcome
        return outcomes


def _outcome(place: TopicPartition, at: str, code: int, offset: int, time_ms: int) -> Outcome | None:
    """What a broker's answer for one partition means; None: nothing was written, and it may be next time.

    ``at`` is what the brokers call the partition.
    """
    if code == 0:
        return Acknowledged(offset, time_ms if time_ms >= 0 else unix_ms())
    error = errors.for_code(code)(place.topic)
    if isinstance(error, _REFUSED):
        return explained(error, at)
    if isinstance(error, _NOT_WRITTEN):
        logger.debug("%s/%d: not written: %r", *place, error)
        return None
    return _indefinite(place, f"the broker does not know what was written: {type(error).__name__}")


def _indefinite(place: TopicPartition, why: str) -> IndefiniteError:
    return IndefiniteError(f"{place.topic}/{place.partition}: {why}")


def split(records: Sequence[NewRecord], indices: Sequence[int]) -> list[Sequence[NewRecord]]:
    """Records of one partition in batches that its topic takes, in order.

    Raises ``RecordTooLargeError`` for one that fits into none; ``indices`` are their places in the caller's call.
    """
    limit_bytes, packed_bytes = batch_bytes_max(records[0].topic), packed_bytes_max(records[0].topic)
    parts: list[Sequence[NewRecord]] = []
    begin, size_bytes = 0, _BATCH_BYTES
    for number, record in enumerate(records):
        more_bytes = _wire_bytes(record)
        if _BATCH_BYTES + more_bytes > limit_bytes:
            raise RecordTooLargeError(indices[number], record_bytes(record), limit_bytes)
        if number > begin and size_bytes + more_bytes > packed_bytes:
            parts.append(records[begin:number])
            begin, size_bytes = number, _BATCH_BYTES
        size_bytes += more_bytes
    parts.append(records[begin:])
    return parts


_MAGIC: Final = 2  #: Kafka's message format
_BATCH_BYTES: Final = 61  #: a batch's own header
_RECORD_BYTES: Final = 32  #: at most, of lengths and deltas
_HEADER_BYTES: Final = 10


def _wire_bytes(record: NewRecord) -> int:
    """At most so many bytes of a batch."""
    return record_bytes(record) + _RECORD_BYTES + _HEADER_BYTES * len(record.headers)


def _batch(records: Sequence[NewRecord]) -> bytes:
    """A batch of all records; ``RecordTooLargeError`` names the one that does not fit any more."""
    limit_bytes = batch_bytes_max(records[0].topic)
    builder = DefaultRecordBatchBuilder(
        magic=_MAGIC,
        compression_type=0,  # latency; and a batch's size is known before it is sent
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=limit_bytes,
    )
    now_ms = unix_ms()
    for index, (_topic, _partition, key, value, headers) in enumerate(records):
        taken = builder.append(index, timestamp=now_ms, key=key, value=value, headers=list(headers))
        if taken is None or builder.size() > limit_bytes:
            raise RecordTooLargeError(index, record_bytes(records[index]), limit_bytes)
    return bytes(builder.build())
