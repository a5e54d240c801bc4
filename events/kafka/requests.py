"""What is asked of Kafka's brokers beside producing: records, offsets, a group's positions.

Every function is one question with its answer; aiokafka's errors come as they are, for ``KafkaClient.until_answered``
to judge. Logs are read uncommitted (their writer has no transactions, and nobody else's may hold them up), all other
topics committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from events.adapter import is_log
from events.kafka.client import KafkaClient
from events.log import TopicPartition

EARLIEST: Final = -2
LATEST: Final = -1

_FETCH_VERSION_MIN: Final = 5  #: since Kafka 1.0: answers with the partition's start, batches always whole
_NO_GENERATION: Final = -1  #: positions committed by nobody who is a member
_BROKERS_RETENTION: Final = -1


class Wanted(NamedTuple):
    """From where a partition is fetched."""

    place: TopicPartition
    offset: int


class Answer(NamedTuple):
    """What a broker said to one ``Wanted``. ``end`` is how far may be read; -1 with an error."""

    code: int  #: Kafka's error code, 0: none
    end: int
    aborted: Sequence[tuple[int, int]]
    data: bytes


def isolation(topic: str) -> int:
    """Kafka's number for what a reader may see: 0 uncommitted, 1 committed."""
    return 0 if is_log(topic) else 1


async def fetch(
    client: KafkaClient,
    node: int,
    wanted: Sequence[Wanted],
    *,
    wait_ms: int,
    partition_bytes_max: int,
    bytes_max: int,
    slot: int = 0,
) -> dict[TopicPartition, Answer]:
    """What there is from the given offsets on, of partitions with one isolation; waits ``wait_ms`` for a byte."""
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for place, offset in wanted:
        topics[client.settings.topic(place.topic)].append((place.partition, offset, partition_bytes_max))
    request = FetchRequest(
        max_wait_time=wait_ms,
        min_bytes=1,
        max_bytes=bytes_max,
        isolation_level=isolation(wanted[0].place.topic),
        topics=list(topics.items()),
        rack_id="",  # from the leader alone: a follower may not have the end yet
    )
    answer = await client.ask(node, request, slot)
    if answer.API_VERSION < _FETCH_VERSION_MIN:
        raise errors.IncompatibleBrokerVersion("Kafka 1.0 or newer is needed")
    if getattr(answer, "error_code", 0):
        raise errors.for_code(answer.error_code)("fetch")
    committed = isolation(wanted[0].place.topic) == 1
    return {
        TopicPartition(client.settings.name_of(topic), partition): Answer(
            code, stable if committed and stable >= 0 else high, aborted or (), data or b""
        )
        for topic, partitions in answer.topics
        for partition, code, high, stable, _start, aborted, *_, data in partitions
    }


async def offsets(client: KafkaClient, places: Sequence[TopicPartition], which: int) -> dict[TopicPartition, int]:
    """The first (``EARLIEST``) or next (``LATEST``) offset of each partition that may be read."""
    by_question: dict[tuple[int, int], list[TopicPartition]] = defaultdict(list)
    for place in places:
        by_question[await client.leader(place), isolation(place.topic)].append(place)
    found: dict[TopicPartition, int] = {}
    for (node, level), group in by_question.items():
        topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place in group:
            topics[client.settings.topic(place.topic)].append((place.partition, which))
        answer = await client.ask(node, OffsetRequest(-1, level, list(topics.items())))
        for topic, partitions in answer.topics:
            for partition, code, _time_ms, offset, *_ in partitions:
                raise_for(client, code, topic)
                found[TopicPartition(client.settings.name_of(topic), partition)] = offset
    return found


def raise_for(client: KafkaClient, code: int, topic: str) -> None:
    """Raise aiokafka's error for Kafka's code, if it is one; a partition may have a new leader then."""
    if code:
        client.look_again()
        raise errors.for_code(code)(topic)


async def commit(client: KafkaClient, group: str, positions: Mapping[TopicPartition, int]) -> None:
    """Set positions of a group that has no members."""
    topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for place, offset in positions.items():
        topics[client.settings.topic(place.topic)].append((place.partition, offset, ""))
    request = OffsetCommitRequest(group, _NO_GENERATION, "", _BROKERS_RETENTION, list(topics.items()))
    answer = await client.ask(await client.coordinator(group), request)
    for topic, partitions in answer.topics:
        for _partition, code in partitions:
            raise_for(client, code, topic)


async def committed(client: KafkaClient, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """A group's positions, as far as it has some."""
    topics: dict[str, list[int]] = defaultdict(list)
    for place in places:
        topics[client.settings.topic(place.topic)].append(place.partition)
    answer: Any = await client.ask(await client.coordinator(group), OffsetFetchRequest(group, list(topics.items())))
    raise_for(client, getattr(answer, "error_code", 0), group)
    found: dict[TopicPartition, int] = {}
    for topic, partitions in answer.topics:
        for partition, offset, _metadata, code in partitions:
            raise_for(client, code, topic)
            if offset >= 0:
                found[TopicPartition(client.settings.name_of(topic), partition)] = offset
    return found
