"""Which of the brokers' errors pass, and what is said of those that do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import errors

from events.kafka import client as kafka_client
from events.kafka.client import KafkaClient, explained, is_passing
from events.kafka.reach import NotLetInError
from events.kafka.settings import kafka_settings
from events.kafka.writer import split
from events.log import LogError, LogUnavailableError, NewRecord, RecordTooLargeError
from events.topics import INPUT_BYTES_MAX, batch_bytes_max

SETTINGS = kafka_settings("kafka://127.0.0.1:1", {})


@pytest.mark.parametrize(
    "error",
    [
        errors.NotLeaderForPartitionError(),
        errors.KafkaConnectionError(),
        errors.NodeNotReadyError(),
        errors.RequestTimedOutError(),
        errors.LeaderNotAvailableError(),
        errors.UnknownTopicOrPartitionError(),
        errors.NotEnoughReplicasError(),
        errors.CoordinatorLoadInProgressError(),
        errors.KafkaStorageError(),
        errors.for_code(78)(),  # OFFSET_NOT_AVAILABLE, which aiokafka does not know
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.TopicAuthorizationFailedError("t"), "give it the rights of its roles"),
        (errors.GroupAuthorizationFailedError("g"), "the consumer group"),
        (errors.MessageSizeTooLargeError(), "max.message.bytes"),
        (errors.InvalidTopicError("x"), "the brokers refuse it (InvalidTopicError"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_does_not_pass_is_explained(error: Exception, words: str) -> None:
    assert not is_passing(error)
    assert words in str(explained(error, "routing.log/0"))


async def test_patience_ends_where_waiting_mends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that are away are waited for; credentials that they refuse end the wait with the sentence."""
    monkeypatch.setattr(kafka_client, "DIAGNOSE_AFTER_S", 0.0)
    monkeypatch.setattr(kafka_client, "WARN_INTERVAL_S", 0.0)
    reasons: list[LogUnavailableError] = [
        LogUnavailableError("b1: nothing listens there"),
        NotLetInError("b1: it refused the user or the password"),
    ]

    async def unreachable(_settings: Any) -> None:
        raise reasons[0]

    monkeypatch.setattr(kafka_client, "ensure_reachable", unreachable)
    client = KafkaClient(SETTINGS)
    away = errors.KafkaConnectionError()
    await client.bear("reading", away, waited_s=1.0)
    reasons.pop(0)
    with pytest.raises(NotLetInError, match="refused the user"):
        await client.bear("reading", away, waited_s=1.0)
    with pytest.raises(LogError, match="rights"):
        await client.bear("reading", errors.TopicAuthorizationFailedError("t"), waited_s=0.0)


async def test_every_question_waiting_or_not_has_a_connection_of_its_own() -> None:
    """A slot is used by one request at a time, and again when it was given back."""
    client = KafkaClient(SETTINGS)
    one, two = client.take_slot(1), client.take_slot(1)
    assert one != two
    client.give_slot(1, one)
    assert client.take_slot(2) not in (one, two)
    assert client.take_slot(1) == one
    client.is_closed = True
    with pytest.raises(LogError, match="closed"):
        await asyncio.wait_for(client.connect(), 1.0)


def test_records_are_split_into_batches_that_their_topic_takes() -> None:
    """In order and none left out; one that fits into no batch is named by its place in the call."""
    records = [NewRecord("conversations.events", 0, b"k", b"%d" % number * 60_000) for number in range(9)]
    parts = split(records, range(9))
    assert [record for part in parts for record in part] == records
    assert [len(part) for part in parts] == [4, 4, 1]
    large = NewRecord("conversations.events", 0, None, b"x" * INPUT_BYTES_MAX)
    assert [len(part) for part in split([records[0], large, records[0]], [3, 7, 9])] == [1, 1, 1]
    large = large._replace(value=b"x" * batch_bytes_max("conversations.events"))
    with pytest.raises(RecordTooLargeError, match="record 7"):
        split([records[0], large], [3, 7])
