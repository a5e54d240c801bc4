"""What the writer makes of the brokers' answers: sent again only what was certainly not written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from aiokafka import errors
from aiokafka.record.default_records import DefaultRecordBatch

from events.kafka import writer
from events.kafka.settings import kafka_settings
from events.kafka.writer import Acknowledged, KafkaWriter, Outcome
from events.log import IndefiniteError, LogError, NewRecord, RecordTooLargeError, TopicPartition, UnknownTopicError
from events.topics import ASSIGNMENT_REQUESTS, REPLIES, batch_bytes_max

SETTINGS = kafka_settings("kafka://127.0.0.1:1", {"VIP_ROUTER_KAFKA_REQUEST_TIMEOUT": "1s"}, topic_prefix="p.")
OK, REQUEST_TIMED_OUT, NOT_LEADER, NOT_ENOUGH, AFTER_APPEND, NOT_ALLOWED, NO_TOPIC, STORAGE = 0, 7, 6, 19, 20, 29, 3, 56
A, B = TopicPartition(REPLIES, 0), TopicPartition(ASSIGNMENT_REQUESTS, 1)


class Part(NamedTuple):
    """One partition of an answer, as version 7 of the protocol has it."""

    partition: int
    code: int
    offset: int = 40
    time_ms: int = 1_700_000_000_000
    start: int = 0


class Answer(NamedTuple):
    topics: Sequence[tuple[str, Sequence[Part]]]


Say = Callable[[TopicPartition], int]


class Brokers:
    """Stands for ``KafkaClient``: each request is answered as the next of ``sayings`` has it, the last one repeats.

    One is Kafka's code for every partition, a function that gives it, or an error to raise.
    """

    settings = SETTINGS

    def __init__(self, *sayings: int | Say | Exception, leaders: dict[TopicPartition, Any] | None = None) -> None:
        self._sayings = list(sayings)
        self._leaders = leaders or {}
        self.requests: list[tuple[int, dict[TopicPartition, bytes]]] = []
        self.slots_taken = 0
        self.looked_again = 0

    async def connect(self) -> None:
        pass

    async def leader(self, place: TopicPartition) -> int:
        found = self._leaders.get(place, 1)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return int(found)

    def look_again(self) -> None:
        self.looked_again += 1

    def take_slot(self, _node: int) -> int:
        self.slots_taken += 1
        return 7

    def give_slot(self, _node: int, slot: int) -> None:
        assert slot == 7
        self.slots_taken -= 1

    async def ask(self, node: int, request: Any, _slot: int) -> Answer:
        assert request.required_acks == -1
        topics = request._topics
        assert all(topic.startswith("p.") for topic, _ in topics)
        sent = {
            TopicPartition(topic[2:], partition): batch
            for topic, partitions in topics
            for partition, batch in partitions
        }
        self.requests.append((node, sent))
        say = self._sayings.pop(0) if len(self._sayings) > 1 else self._sayings[0]
        if isinstance(say, Exception):
            raise say
        code = say if callable(say) else lambda _place: say
        return Answer(
            [
                (topic, [Part(number, code(TopicPartition(topic[2:], number))) for number, _ in partitions])
                for topic, partitions in topics
            ]
        )


def group(place: TopicPartition, *values: bytes) -> list[NewRecord]:
    return [NewRecord(*place, b"k", value, (("h", b"v"),)) for value in values or (b"x",)]


async def outcomes(brokers: Brokers, *groups: Sequence[NewRecord]) -> list[Outcome]:
    made = await KafkaWriter(brokers).send(groups)  # type: ignore[arg-type]
    assert brokers.slots_taken == 0, "every connection is given back"
    return made


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSE_FIRST_S", 0.0)
    monkeypatch.setattr(writer, "PAUSE_MAX_S", 0.0)


async def test_what_was_acknowledged_says_where_and_when() -> None:
    brokers = Brokers(OK)
    assert await outcomes(brokers, group(A, b"one", b"two")) == [Acknowledged(40, 1_700_000_000_000)]
    ((_node, sent),) = brokers.requests
    batch = DefaultRecordBatch(sent[A])
    assert batch.validate_crc()
    assert [(each.key, each.value, list(each.headers)) for each in batch] == [
        (b"k", b"one", [("h", b"v")]),
        (b"k", b"two", [("h", b"v")]),
    ]


async def test_partitions_of_one_leader_share_a_request() -> None:
    brokers = Brokers(OK)
    assert len(await outcomes(brokers, group(A), group(B))) == 2
    assert [set(sent) for _, sent in brokers.requests] == [{A, B}]
    apart = Brokers(OK, leaders={A: 1, B: 2})
    assert len(await outcomes(apart, group(A), group(B))) == 2
    assert [(node, set(sent)) for node, sent in apart.requests] == [(1, {A}), (2, {B})]


async def test_a_request_holds_a_bounded_number_of_batches() -> None:
    brokers = Brokers(OK)
    places = [TopicPartition(REPLIES, number) for number in range(70)]
    assert len(await outcomes(brokers, *map(group, places))) == 70
    assert [len(sent) for _, sent in brokers.requests] == [32, 32, 6]


@pytest.mark.parametrize("code", [NOT_LEADER, NOT_ENOUGH, NO_TOPIC])
async def test_what_was_certainly_not_written_is_sent_again(code: int) -> None:
    brokers = Brokers(code, code, OK)
    assert isinstance((await outcomes(brokers, group(A)))[0], Acknowledged)
    assert len(brokers.requests) == 3
    assert all(before == after for (_, before), (_, after) in pairwise(brokers.requests))
    assert brokers.looked_again == 2


async def test_a_broker_without_a_connection_and_a_partition_without_a_leader_are_tried_again() -> None:
    brokers = Brokers(errors.NodeNotReadyError("1"), OK, leaders={A: [errors.LeaderNotAvailableError(), 2, 3]})
    assert isinstance((await outcomes(brokers, group(A)))[0], Acknowledged)
    assert [node for node, _ in brokers.requests] == [2, 3]


async def test_only_what_failed_is_sent_again() -> None:
    brokers = Brokers(lambda place: NOT_LEADER if place == B else OK, OK)
    assert len([one for one in await outcomes(brokers, group(A), group(B)) if isinstance(one, Acknowledged)]) == 2
    assert [set(sent) for _, sent in brokers.requests] == [{A, B}, {B}]


@pytest.mark.parametrize(
    "saying",
    [errors.KafkaConnectionError("closed"), errors.RequestTimedOutError(), REQUEST_TIMED_OUT, AFTER_APPEND, STORAGE],
    ids=str,
)
async def test_what_may_have_been_written_is_never_sent_again(saying: Any) -> None:
    """It would stand there twice; an append that waits for its answer is told that nobody can say."""
    brokers = Brokers(saying)
    (outcome,) = await outcomes(brokers, group(A))
    assert isinstance(outcome, IndefiniteError)
    assert "conversations.replies/0" in str(outcome)
    assert len(brokers.requests) == 1


async def test_what_is_refused_is_told_and_the_rest_is_written() -> None:
    brokers = Brokers(lambda place: NOT_ALLOWED if place == A else OK)
    refused, written = await outcomes(brokers, group(A), group(B))
    assert isinstance(refused, LogError)
    assert not refused.retriable
    assert "give it the rights" in str(refused)
    assert isinstance(written, Acknowledged)
    assert len(brokers.requests) == 1


async def test_a_topic_that_was_deleted_is_told() -> None:
    gone = UnknownTopicError("the topic was deleted")
    assert await outcomes(Brokers(OK, leaders={A: gone}), group(A)) == [gone]


async def test_what_nobody_takes_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELIVERY_TIMEOUTS", 0)
    (outcome,) = await outcomes(Brokers(NOT_LEADER), group(A))
    assert isinstance(outcome, IndefiniteError)
    assert "no broker takes it" in str(outcome)


async def test_a_record_that_fits_into_no_batch_is_named_before_anything_is_sent() -> None:
    brokers = Brokers(OK)
    with pytest.raises(RecordTooLargeError) as raised:
        await outcomes(brokers, group(A, b"small", bytes(batch_bytes_max(REPLIES))))
    assert raised.value.index == 1
    assert brokers.requests == []
