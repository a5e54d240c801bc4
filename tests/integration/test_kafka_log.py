"""The log on a real broker: what exists, what does not, and what happens when brokers or topics go away."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest

from events.adapter import UNREADABLE
from events.chain import ChainError
from events.kafka import client as kafka_client
from events.kafka.existing import Existing
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.kafka.writer import Acknowledged, KafkaWriter, Outcome
from events.log import (
    FencedError,
    IndefiniteError,
    LogError,
    LogUnavailableError,
    NewRecord,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    StoredRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.topics import INPUT_BYTES_MAX, RECORD_BYTES_MAX
from tests.brokers.cluster import Cluster
from tests.brokers.fixtures import Brokers
from tests.contract import log_checks
from tests.contract.indefinite import append_found_out, publish_until_confirmed
from tests.contract.log_checks import Check
from tests.contract.sealing import sealed
from tests.contract.stores import KafkaStore
from tests.kafka_given import COUNTS, delete, everything, made_anew, own_log, own_settings, send, stranger

LOG = TopicPartition("routing.log", 1)
INPUT = TopicPartition("conversations.events", 2)
PATIENCE_S = 30.0


def new(place: TopicPartition, *values: bytes) -> list[NewRecord]:
    return [NewRecord(*place, b"k", value) for value in values]


def of_another_log(records: list[NewRecord]) -> list[NewRecord]:
    return [record._replace(headers=(record.headers[0], ("log-id", b"other"), record.headers[2])) for record in records]


def values(records: Any) -> list[bytes | None]:
    return [record.value for record in records]


@pytest.fixture
def settings(kafka: Cluster) -> KafkaSettings:
    return own_settings(kafka.bootstrap, REQUEST_TIMEOUT="1s")


async def test_what_was_written_elsewhere_does_not_exist(settings: KafkaSettings) -> None:
    """A fenced append leaves records in the topic that no reader gives; each counts once, the end is behind."""
    async with own_log(settings) as log:
        await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        with pytest.raises(FencedError, match="written at 1, expected was 0"):
            await log.append(LOG, sealed(LOG, 0, b"x", b"y"), expected=0)
        assert await log.end_offset(LOG) == 3
        await log.append(LOG, sealed(LOG, 3, b"b"), expected=3)
        for _ in range(2):
            assert values(await everything(log, LOG)) == [b"a", b"b"]
        found = await log.read(LOG, 1, records_max=1)
        assert (values(found.records), found.offset_next) == ([b"b"], 4)
        reader = log.reader({LOG: 1})
        assert values(await reader.fetch(records_max=10, timeout_s=PATIENCE_S)) == [b"b"]
        assert reader.position(LOG) == 4
        assert log.fenced_records() == {LOG: 2}


async def test_records_of_another_log_do_not_exist(settings: KafkaSettings) -> None:
    """The right offset is not enough: the record must name the log that offset 0 names."""
    async with own_log(settings) as log, stranger(settings) as producer:
        await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        await send(producer, settings, of_another_log(sealed(LOG, 1, b"foreign")))
        await send(producer, settings, new(LOG, b"bare"))
        await log.append(LOG, sealed(LOG, 3, b"b"), expected=3)
        assert values(await everything(log, LOG)) == [b"a", b"b"]
        reader = log.reader({LOG: 0})
        assert values(await reader.fetch(records_max=10, timeout_s=PATIENCE_S)) == [b"a", b"b"]
        assert log.fenced_records() == {LOG: 2}


async def test_a_log_that_begins_with_something_else_is_refused(settings: KafkaSettings) -> None:
    """Nothing could ever exist behind it: the error says what to do."""
    async with own_log(settings) as log, stranger(settings) as producer:
        await send(producer, settings, new(LOG, b"first"))
        with pytest.raises(ChainError, match=r"does not begin with a record of a log.*make the topic anew"):
            await log.read(LOG, 0, records_max=1)
        with pytest.raises(ChainError, match="somebody else has written"):
            await log.reader({LOG: 0}).fetch(records_max=1, timeout_s=None)


async def test_a_log_made_anew_is_noticed(settings: KafkaSettings) -> None:
    """Whether it is empty, shorter, or already holds more than before: an error, never a silent restart."""
    async with own_log(settings) as log:
        await log.append(LOG, sealed(LOG, 0, b"a", b"b"), expected=0)
        reader = log.reader({LOG: 0})
        assert len(await reader.fetch(records_max=10, timeout_s=PATIENCE_S)) == 2
        waiting = asyncio.create_task(reader.fetch(records_max=10, timeout_s=None))
        await made_anew(settings, LOG.topic)
        with pytest.raises((ChainError, OffsetOutOfRangeError)):
            await asyncio.wait_for(waiting, PATIENCE_S)
        with pytest.raises(OffsetOutOfRangeError):
            await log.read(LOG, 2, records_max=1)
        async with KafkaLog(settings) as other:
            await other.append(LOG, of_another_log(sealed(LOG, 0, b"1", b"2", b"3")), expected=0)
        with pytest.raises(ChainError, match="made anew under us"):
            await log.read(LOG, 2, records_max=1)


async def test_an_input_topic_that_is_deleted_is_said(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following it ends with a sentence, after it was missing for a while."""
    monkeypatch.setattr(kafka_client, "GONE_AFTER_S", 0.2)
    async with own_log(settings) as log, KafkaLog(settings) as other:
        reader = log.reader({INPUT: 0})
        waiting = asyncio.create_task(reader.fetch(records_max=10, timeout_s=None))
        await delete(settings, INPUT.topic)
        with pytest.raises(UnknownTopicError, match="was deleted: restore it"):
            await asyncio.wait_for(waiting, PATIENCE_S)
        with pytest.raises(UnknownTopicError):
            await other.partition_count(INPUT.topic)


async def test_an_aborted_transaction_is_not_read(settings: KafkaSettings) -> None:
    """Inputs are read committed: what a producer took back never comes, and the position goes past it."""
    async with own_log(settings) as log, stranger(settings, transactional_id=settings.topic("tx")) as producer:
        async with producer.transaction():
            await send(producer, settings, new(INPUT, b"kept"))
        await producer.begin_transaction()
        await send(producer, settings, new(INPUT, b"taken back"))
        await producer.abort_transaction()
        async with producer.transaction():
            await send(producer, settings, new(INPUT, b"kept, too"))
        assert values(await everything(log, INPUT)) == [b"kept", b"kept, too"]
        reader = log.reader({INPUT: 0})
        found: list[StoredRecord] = []
        while reader.position(INPUT) < (await reader.end_offsets())[INPUT]:
            found += await reader.fetch(records_max=1, timeout_s=0)
        assert values(found) == [b"kept", b"kept, too"]


def spoiling(log: KafkaLog, topic: str, spoil: Callable[[bytes], bytes]) -> Callable[..., Any]:
    """The client's ``ask``, with the first batch of a topic spoiled in every answer that has it."""
    ask = log.client.ask

    async def spoiled(node: int, request: Any, slot: int = 0) -> Any:
        answer = await ask(node, request, slot)
        if isinstance(request, FetchRequest):
            for name, partitions in answer.topics:
                for index, (*head, data) in enumerate(partitions):
                    if name.endswith(topic) and data and struct.unpack_from(">q", data)[0] == 0:
                        partitions[index] = (*head, spoil(data))
        return answer

    return spoiled


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "checksum is wrong": lambda data: data[:61] + bytes([data[61] ^ 255]) + data[62:],
    "damaged|checksum": lambda data: data[:22] + bytes([7]) + data[23:],
}


@pytest.mark.parametrize("why", SPOILED)
async def test_an_unreadable_batch_is_passed_in_inputs_and_stops_a_log(
    settings: KafkaSettings, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs go on behind it, with one record that names the range; a log has no gaps."""
    async with own_log(settings) as log:
        for place in (INPUT, LOG):
            write = log.publish if place is INPUT else None
            records = new(place, b"a", b"b") if write else sealed(place, 0, b"a", b"b")
            await (write(records) if write else log.append(place, records, expected=0))
        await log.publish(new(INPUT, b"c"))
        await log.append(LOG, sealed(LOG, 2, b"c"), expected=2)
        await log.read(LOG, 0, records_max=1)  # it knows the log from better days
        monkeypatch.setattr(log.client, "ask", spoiling(log, INPUT.topic, SPOILED[why]))
        reader = log.reader({INPUT: 0})
        bad, good = await reader.fetch(records_max=10, timeout_s=PATIENCE_S)
        assert (bad.offset, bad.headers[0][0], good.value) == (1, UNREADABLE, b"c")
        assert b"offsets 0 to 1 cannot be read" in bad.headers[0][1]
        assert values((await log.read(INPUT, 0, records_max=10)).records) == [None, b"c"]
        monkeypatch.undo()
        monkeypatch.setattr(log.client, "ask", spoiling(log, LOG.topic, SPOILED[why]))
        follower = log.reader({LOG: 0})
        for _ in range(2):
            with pytest.raises(LogError, match=r"offsets 0 to 1 cannot be read.*restore the partition"):
                await follower.fetch(records_max=10, timeout_s=PATIENCE_S)
        assert follower.position(LOG) == 0


async def test_a_record_without_room_for_its_batch_is_refused_before_anything_is_written(
    settings: KafkaSettings,
) -> None:
    """A topic's limit is one of batches on Kafka; a call with such a record writes nothing of it."""
    async with own_log(settings) as log:
        many = (("", b""),) * 10_000  # each header takes room in the batch, also one that holds nothing
        large = new(INPUT, b"x" * (RECORD_BYTES_MAX - 1))[0]._replace(headers=many)
        with pytest.raises(RecordTooLargeError, match="record 2"):
            await log.publish([*new(INPUT, b"a", b"b"), large])
        assert await log.end_offset(INPUT) == 0
        await log.publish(
            new(INPUT, *[b"%d" % number * 50_000 for number in range(10)], b"x" * (INPUT_BYTES_MAX - 200))
        )
        assert [record.value[:1] for record in await everything(log, INPUT) if record.value] == [
            *[b"%d" % number for number in range(10)],
            b"x",
        ]
        too_much = sealed(LOG, 0, *[b"x" * 900_000] * 3)
        with pytest.raises(RecordTooLargeError, match="record 2"):
            await log.append(LOG, too_much, expected=0)
        assert await log.end_offset(LOG) == 0


async def test_a_writer_does_not_read_back_what_it_wrote(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane follows its own log: while it appends and seeks, next to nothing of that is asked for."""
    async with own_log(settings) as log:
        asked = 0
        ask = log.client.ask

        async def counting(node: int, request: Any, slot: int = 0) -> Any:
            nonlocal asked
            asked += isinstance(request, FetchRequest)
            return await ask(node, request, slot)

        monkeypatch.setattr(log.client, "ask", counting)
        reader = log.reader({LOG: 0})
        following = asyncio.create_task(reader.fetch(records_max=10, timeout_s=None))
        for end in range(50):
            await log.append(LOG, sealed(LOG, end, b"mine"), expected=end)
            reader.seek(LOG, end + 1)
        assert not following.done()
        assert asked < 10
        async with KafkaLog(settings) as other:
            await other.append(LOG, sealed(LOG, 50, b"not mine"), expected=50)
        assert values(await asyncio.wait_for(following, PATIENCE_S)) == [b"not mine"]


async def test_brokers_that_are_away_are_waited_for(brokers: Brokers, caplog: pytest.LogCaptureFixture) -> None:
    """A write ends without an answer, in time; who reads waits; both go on when the broker is back.

    On a broker of its own: one that is killed and has all other tests' topics needs half a minute to come back.
    """
    with brokers(1) as kafka:
        await goes_away_and_comes_back(kafka, own_settings(kafka.bootstrap, REQUEST_TIMEOUT="1s"), caplog)


async def goes_away_and_comes_back(kafka: Cluster, settings: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    async with own_log(settings) as log:
        await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        await log.publish(new(INPUT, b"a"))
        reader = log.reader({INPUT: 1, LOG: 1})
        waiting = asyncio.create_task(reader.fetch(records_max=10, timeout_s=None))
        reading = None
        kafka[1].kill()
        with caplog.at_level(logging.WARNING):
            for call in (
                log.append(LOG, sealed(LOG, 1, b"b"), expected=1),
                log.publish(new(INPUT, b"b")),
                log.append(LOG, sealed(LOG, 1, b"b"), expected=1),
            ):
                with pytest.raises(IndefiniteError):
                    await asyncio.wait_for(call, PATIENCE_S)
            reading = asyncio.create_task(log.read(LOG, 0, records_max=10))
            await asyncio.wait([reading, waiting], timeout=2.0)
        assert not reading.done()
        assert not waiting.done()
        assert len(caplog.records) < 60
        kafka[1].restart()
        found = await asyncio.wait_for(reading, PATIENCE_S)
        end = found.offset_next
        await append_found_out(log, log, LOG, [b"c"], expected=end)  # a broker that has just come back may not answer
        await publish_until_confirmed(log, new(INPUT, b"c"))
        records = list(await asyncio.wait_for(waiting, PATIENCE_S))
        while b"c" not in values(record for record in records if record.topic == INPUT.topic):
            records += await reader.fetch(records_max=10, timeout_s=PATIENCE_S)
        kept = values(await everything(log, LOG))
        assert (kept[0], kept[-1], kept.count(b"c")) == (b"a", b"c", 1)


async def test_a_paused_broker_does_not_hold_an_append(kafka: Cluster, settings: KafkaSettings) -> None:
    """No answer is an answer after the delivery time-out; the late batch does not exist, or is found."""
    async with own_log(settings) as log:
        await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        kafka[1].pause()
        with pytest.raises(IndefiniteError, match="no answer"):
            await asyncio.wait_for(log.append(LOG, sealed(LOG, 1, b"late"), expected=1), PATIENCE_S)
        kafka[1].resume()
        end = 0
        while not end or (await log.read(LOG, end, records_max=10)).records:
            end = (await log.read(LOG, 0, records_max=10)).offset_next
        while True:
            try:
                await log.append(LOG, sealed(LOG, end, b"b"), expected=end)
            except (FencedError, IndefiniteError):
                end = (await log.read(LOG, 0, records_max=10)).offset_next
            else:
                break
        assert values(await everything(log, LOG)) in ([b"a", b"b"], [b"a", b"late", b"b"])


async def test_no_broker_at_all_is_said_in_a_sentence(settings: KafkaSettings) -> None:
    """At the first contact it is not waited: the address may be wrong."""
    nobody = own_settings("127.0.0.1:1", REQUEST_TIMEOUT="1s")
    with pytest.raises(LogUnavailableError, match="start the broker, or correct the host"):
        async with asyncio.timeout(PATIENCE_S):
            await KafkaLog(nobody).__aenter__()
    async with own_log(settings) as log:
        assert await log.partition_count("routing.log") == COUNTS["routing.log"]


async def believes_every_answer(self: KafkaWriter, batches: Sequence[Sequence[NewRecord]]) -> list[Outcome]:
    """Takes any acknowledgement for the one that it wanted."""
    outcomes = await SEND(self, batches)
    wanted = [int(dict(records[0].headers)["expected-offset"]) for records in batches]
    return [
        outcome._replace(offset=offset) if isinstance(outcome, Acknowledged) else outcome
        for outcome, offset in zip(outcomes, wanted, strict=True)
    ]


SEND = KafkaWriter.send
FAULTS: dict[str, tuple[type, str, Any, Check]] = {
    "everything exists": (Existing, "__call__", lambda _rule, records: records, log_checks.append_elsewhere_is_fenced),
    "never fenced": (KafkaWriter, "send", believes_every_answer, log_checks.one_of_two_writers_wins_each_offset),
    "halves of an append": (
        Existing,
        "__call__",
        lambda _rule, records: [record for record in records if record.offset % 2],
        log_checks.append_is_atomic,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_rule_that_is_left_out_turns_the_contract_red(
    kafka: Cluster, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks that pass on Kafka fail when the adapter forgets what makes its append conditional."""
    owner, name, broken, check = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        async with asyncio.timeout(PATIENCE_S):
            await check(KafkaStore(kafka.bootstrap))
