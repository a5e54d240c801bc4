"""The CRM role over the log in memory: nothing is lost, nothing asked twice but after a crash, in any order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import orjson
import pytest
from msgspec import structs

from consumers.crm import consumer as crm_consumer
from consumers.crm.bounds import Bounds
from consumers.crm.consumer import COMMIT_EVERY_S, CrmConsumer
from consumers.crm.outcomes import Answered, Failed, LookUp
from consumers.crm.watermark import Watermark
from events import records
from events.decode import decode_crm_answer
from events.ids import crm_answer_id
from events.log import IndefiniteError, LogUnavailableError, NewRecord, RecordTooLargeError, TopicPartition
from events.memory import MemoryLog
from events.topics import CRM_ANSWERS, ROUTING_LOG
from routing.decider import Decision
from routing.inputs import Cause, CrmAnswered, CrmFailed, Event, MessageReceived
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.steps import ask_crm
from tests.crm_support import EMAIL, NOW_MS, Pauses

PARTITION = 1
PLACE = TopicPartition(ROUTING_LOG, PARTITION)
ANSWERS = TopicPartition(CRM_ANSWERS, PARTITION)
TEXT = """
[crm]
url = "http://127.0.0.1:1/?email={email}"
[crm.variables]
customer_type = "$.customerType"
[branch.vip]
conditions = [{ variable = "customer_type", operator = "is equal to", value = "VIP" }]
[route.vip]
workspace = true
[route.regular]
workspace = true
[route.escalated]
workspace = true
"""
POLICY = parse_policy(TEXT, source="test")
VERSION = POLICY.version
ANSWER = Answered(
    status=200, variables={"customer_type": "VIP"}, personal={"owner": EMAIL}, notes={}, attempts=1, latency_ms=3
)


class Log(MemoryLog):
    """The log in memory, with a list of errors that the next publishes raise, and what was committed, in order."""

    def __init__(self) -> None:
        topics = {ROUTING_LOG: 2, CRM_ANSWERS: 2}
        super().__init__(cluster_id="test", clock_ms=lambda: NOW_MS, topics=topics)
        self.publish_errors: list[Exception] = []
        self.commit_errors: list[Exception] = []
        self.commits: list[int] = []

    async def publish(self, records: Sequence[NewRecord]) -> None:
        if self.publish_errors:
            raise self.publish_errors.pop(0)
        await super().publish(records)

    async def commit(self, group: str, positions: Any) -> None:
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        await super().commit(group, positions)
        self.commits.append(positions[PLACE])

    async def add(self, *values: bytes) -> None:
        new = [NewRecord(ROUTING_LOG, PARTITION, b"k", value) for value in values]
        await self.append(PLACE, new, expected=await self.end_offset(PLACE))

    async def answers(self) -> list[CrmAnswered | CrmFailed]:
        found = await self.read(ANSWERS, 0, records_max=10_000)
        bodies = [decode_crm_answer(record).body for record in found.records]
        assert all(isinstance(body, CrmAnswered | CrmFailed) for body in bodies)
        return bodies  # type: ignore[return-value]


class Crm:
    """A CRM whose every answer waits for the test; ``automatic`` answers at once."""

    def __init__(self, *, automatic: bool = False) -> None:
        self.automatic = automatic
        self.asked: list[LookUp] = []
        self.policies: list[Policy] = []
        self.waiting: dict[str, asyncio.Future[Answered | Failed]] = {}
        self.most_at_once = 0

    async def look_up(self, ask: LookUp, policy: Policy) -> Answered | Failed:
        self.asked.append(ask)
        self.policies.append(policy)
        if self.automatic:
            return ANSWER
        waiting: asyncio.Future[Answered | Failed] = asyncio.get_running_loop().create_future()
        self.waiting[ask.lookup_id] = waiting
        self.most_at_once = max(self.most_at_once, len(self.waiting))
        try:
            return await waiting
        finally:
            del self.waiting[ask.lookup_id]

    def answer(self, number: int, outcome: Answered | Failed = ANSWER) -> None:
        self.waiting[f"v-{number}/2"].set_result(outcome)

    @property
    def numbers(self) -> list[int]:
        return [int(ask.conversation.removeprefix("v-")) for ask in self.asked]


def policy_record(text: str = TEXT) -> bytes:
    policy = structs.replace(POLICY, text=text)
    return records.policy_recorded(ROUTING_LOG, policy, "default", PARTITION, records.Moment.at(NOW_MS))


def asking(number: int, *, deadline_ms: int = NOW_MS + 5_000, policy_offset: int = 0) -> bytes:
    """A record that asks for a look-up, as a lane writes it."""
    contact, conversation = f"c-{number}", f"v-{number}"
    event = Event(
        workspace="default",
        contact=contact,
        conversation=conversation,
        source="/test",
        time_ms=NOW_MS,
        cause=Cause(id="e-1"),
        body=MessageReceived(sent_at_ms=NOW_MS, answer_email=EMAIL),
    )
    decision = Decision(
        type="email.accepted",
        contact=contact,
        subject=conversation,
        run=1,
        seq=2,
        prev=None,
        policy=VERSION,
        data={"to": "fetching-crm", "lookup": {**ask_crm(conversation, 1, POLICY, NOW_MS), "deadline_ms": deadline_ms}},
        pii={"email": EMAIL},
    )
    now = records.Moment.at(NOW_MS)
    return records.decided(ROUTING_LOG, decision, event, now, first=True, offset=1, policy_offset=policy_offset).value


def asking_late(number: int, for_ms: int = 60_000) -> bytes:
    """A record that asks for a failed look-up to be kept trying."""
    value = orjson.loads(asking(number, deadline_ms=NOW_MS + for_ms))
    value["data"]["lookup"]["late"] = True
    return orjson.dumps(value)


def other(number: int) -> bytes:
    """A record that asks for nothing, although the word stands in it."""
    return b'{"type":"crm.resolved","subject":"v-%d","data":{"input":{"lookup_id":"x"},"lookup":null}}' % number


class Running:
    """A consumer that runs beside the test. Leaving it stops it cleanly; ``crash`` does not."""

    def __init__(self, log: Log, crm: Crm, **options: Any) -> None:
        self.pauses = Pauses()
        self.consumer = CrmConsumer(
            log,
            [PARTITION],
            client=crm,
            sleep=self.pauses,
            random_fraction=lambda: 1.0,
            **{"clock": lambda: NOW_MS, "drain_s": 0.0, **options},
        )
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.consumer.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            self.stop.set()
            await self.task

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def settle(rounds: int = 60) -> None:
    """Let every task go as far as it can; nothing in these tests waits for real time."""
    for _ in range(rounds):
        await asyncio.sleep(0)


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    async with Log() as log:
        await log.add(policy_record())
        yield log


async def test_an_ask_is_answered_on_its_partition_under_its_id(log: Log) -> None:
    crm = Crm(automatic=True)
    await log.add(other(1), asking(7), other(2))
    async with Running(log, crm):
        await settle()
    (record,) = (await log.read(ANSWERS, 0, records_max=10)).records
    event = decode_crm_answer(record)
    assert (record.key, event.contact, event.conversation, event.time_ms) == (b"c-7", "c-7", "v-7", NOW_MS)
    assert event.cause.id == crm_answer_id("c-7", "v-7", 2)
    assert event.body == CrmAnswered(
        lookup_id="v-7/2",
        status=200,
        variables={"customer_type": "VIP"},
        personal_variables={"owner": EMAIL},
        attempts=1,
        latency_ms=3,
    )
    assert crm.asked[0].email == EMAIL
    assert crm.policies[0] == POLICY


async def test_a_failed_look_up_is_told_with_its_reason(log: Log) -> None:
    crm = Crm()
    await log.add(asking(1))
    async with Running(log, crm):
        await settle()
        crm.answer(1, Failed(reason="http-503", status=503, attempts=3))
        await settle()
    assert await log.answers() == [CrmFailed(lookup_id="v-1/2", reason="http-503", status=503, attempts=3)]


async def test_never_more_look_ups_than_allowed_and_the_rest_follow_in_order(log: Log) -> None:
    crm = Crm()
    await log.add(*(asking(number) for number in range(20)))
    async with Running(log, crm, bounds=Bounds(in_flight_max=4)):
        await settle()
        assert crm.numbers == [0, 1, 2, 3]
        while crm.waiting:
            crm.answer(int(next(reversed(crm.waiting)).partition("/")[0].removeprefix("v-")))
            await settle()
    assert crm.most_at_once == 4
    assert crm.numbers == list(range(20))
    assert len(await log.answers()) == 20


async def lose_nothing_when_answers_come_in_any_order(log: Log) -> None:
    """The oracle of the watermark: after a crash everything unanswered is asked again, and nothing else."""
    first, second = Crm(), Crm(automatic=True)
    await log.add(*(asking(number) for number in range(6)), other(9))
    running = Running(log, first)
    async with running:
        await settle()
        for number in (0, 1, 5, 3):
            first.answer(number)
            await settle()
        await running.crash()
    assert log.commits[-1] == 3, "offset 0 is the policy, 1 and 2 are done, 3 is not"
    async with Running(log, second):
        await settle()
    assert second.numbers == [2, 3, 4, 5]
    assert {answer.lookup_id for answer in await log.answers()} == {f"v-{number}/2" for number in range(6)}
    assert log.commits == sorted(log.commits)
    assert log.commits[-1] == await log.end_offset(PLACE)


async def test_a_restart_repeats_what_was_on_its_way_and_loses_nothing(log: Log) -> None:
    await lose_nothing_when_answers_come_in_any_order(log)


async def test_committing_the_highest_finished_is_found_out(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a watermark that jumps to the highest finished offset turns the test above red."""

    class Highest(Watermark):
        highest = 0

        @property
        def position(self) -> int:
            return self.highest if self.open else super().position

        def finish(self, offset: int) -> None:
            super().finish(offset)
            self.highest = max(self.highest, offset + 1)

    monkeypatch.setattr("consumers.crm.consumer.Watermark", Highest)
    with pytest.raises(AssertionError):
        await lose_nothing_when_answers_come_in_any_order(log)


async def test_after_a_clean_stop_nothing_is_repeated(log: Log) -> None:
    crm, again = Crm(), Crm()
    await log.add(asking(1), asking(2))
    async with Running(log, crm, drain_s=60.0) as running:
        await settle()
        running.stop.set()
        await settle()
        assert not running.task.done(), "it waits for the look-ups that are on their way"
        crm.answer(2)
        crm.answer(1)
        await running.task
    async with Running(log, again):
        await settle()
        assert again.asked == []
    assert len(await log.answers()) == 2


async def test_a_stop_does_not_wait_for_a_crm_that_hangs(log: Log) -> None:
    crm, again = Crm(), Crm(automatic=True)
    await log.add(asking(1))
    async with Running(log, crm, drain_s=0.0):
        await settle()
    async with Running(log, again):
        await settle()
    assert again.numbers == [1]


def decided_without(number: int) -> bytes:
    """What the router records when the deadline of a look-up has passed."""
    value = orjson.loads(asking(number))
    value["type"] = "crm.unresolved"
    value["data"] |= {"to": "routed-regular", "lookup": None}
    return orjson.dumps(value)


def heard(number: int) -> bytes:
    """A message while the look-up is under way: it moves nothing."""
    value = orjson.loads(asking(number))
    value["type"] = "input.ignored"
    del value["data"]["to"], value["data"]["lookup"]
    return orjson.dumps(value)


async def test_an_ask_past_its_deadline_is_done_unless_the_log_has_decided_without(log: Log) -> None:
    """Nobody was there to do it: a restart must not make a regular contact out of a VIP."""
    crm = Crm(automatic=True)
    await log.add(asking(1, deadline_ms=NOW_MS), asking(2, deadline_ms=NOW_MS + 1), asking(3, deadline_ms=0))
    await log.add(decided_without(1), heard(3))
    async with Running(log, crm) as running:
        await settle()
        assert await running.consumer.is_caught_up()
    assert crm.numbers == [2, 3]
    assert {answer.lookup_id for answer in await log.answers()} == {"v-2/2", "v-3/2"}
    assert log.commits[-1] == 6


async def test_what_a_role_takes_over_gets_its_full_time_once_more(log: Log) -> None:
    """As the router gives it; later asks keep their own deadline."""
    crm = Crm(automatic=True)
    now = [NOW_MS]
    full_ms = POLICY.crm.deadline_ms
    await log.add(asking(1, deadline_ms=NOW_MS - 1), asking(2, deadline_ms=NOW_MS + 1))
    async with Running(log, crm, clock=lambda: now[0]):
        await settle()
        now[0] += 1_000
        await log.add(asking(3, deadline_ms=now[0] + full_ms))
        await settle()
    deadlines_ms = {ask.conversation: ask.deadline_ms for ask in crm.asked}
    assert deadlines_ms == {"v-1": NOW_MS + full_ms, "v-2": NOW_MS + full_ms, "v-3": now[0] + full_ms}


async def test_one_that_is_kept_for_the_logs_end_is_not_passed_by_the_commit(log: Log) -> None:
    """Whoever comes after a crash finds it again."""
    first, second = Crm(), Crm(automatic=True)
    await log.add(asking(1, deadline_ms=0), asking(2), asking(3, deadline_ms=0))
    running = Running(log, first)
    async with running:
        await settle()
        assert sorted(first.numbers) == [1, 2, 3]
        for number in (2, 3):
            first.answer(number)
        await settle()
        await running.crash()
    assert all(offset <= 1 for offset in log.commits), "the first one is not done"
    async with Running(log, second):
        await settle()
    assert 1 in second.numbers


async def test_in_a_log_that_never_rests_overdue_asks_are_started_too(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for where the log ended after they were read, not for silence."""
    crm = Crm(automatic=True)
    await log.add(asking(1, deadline_ms=0))
    fetch = CrmConsumer._fetch

    async def one_more(self: CrmConsumer, reader: Any, tasks: Any) -> Any:
        if len(crm.asked) < 1:
            await log.add(other(9))
        return await fetch(self, reader, tasks)

    monkeypatch.setattr(CrmConsumer, "_fetch", one_more)
    async with Running(log, crm):
        await settle()
    assert crm.numbers == [1]


async def test_whoever_keeps_an_ask_is_not_caught_up(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    crm = Crm(automatic=True)
    await log.add(asking(1, deadline_ms=0))

    async def not_yet(*_: object) -> None:
        """The log's end is not known yet."""

    monkeypatch.setattr(CrmConsumer, "_settle_overdue", not_yet)
    async with Running(log, crm) as running:
        await settle()
        assert crm.numbers == []
        assert not await running.consumer.is_caught_up()


async def test_without_room_to_keep_it_the_routers_deadline_covers_an_ask(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crm_consumer, "OVERDUE_MAX", 1)
    crm = Crm(automatic=True)
    await log.add(asking(1, deadline_ms=0), asking(2, deadline_ms=0))
    async with Running(log, crm):
        await settle()
    assert crm.numbers == [1]
    assert log.commits[-1] == 3


@pytest.mark.parametrize("error", [IndefiniteError("no answer"), LogUnavailableError("disk full")])
async def test_answers_that_cannot_be_published_are_repeated_and_not_passed(log: Log, error: Exception) -> None:
    crm = Crm(automatic=True)
    log.publish_errors = [error] * 8
    await log.add(asking(1))
    async with Running(log, crm) as running:
        await settle(3)
        assert all(offset <= 1 for offset in log.commits)
        await settle()
        assert len(await log.answers()) == 1
        waits_s = [wait_s for wait_s in running.pauses.waited_s if wait_s != COMMIT_EVERY_S]
    assert waits_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert crm.numbers == [1]


async def test_one_that_is_kept_trying_holds_up_nobody_and_is_answered_in_the_end(log: Log) -> None:
    """It takes no place from others, and only what has to be repeated after a crash is not committed."""
    crm = Crm(automatic=True)
    now = [NOW_MS]
    await log.add(asking_late(1), *(asking(number) for number in range(2, 6)))
    async with Running(log, crm, bounds=Bounds(in_flight_max=1), clock=lambda: now[0]) as running:
        await settle()
        assert crm.numbers == [2, 3, 4, 5]
        assert await running.consumer.is_caught_up()
        assert log.commits == [1]
        now[0] += 5_000
        await settle()
    assert crm.numbers == [2, 3, 4, 5, 1]
    assert {answer.lookup_id for answer in await log.answers()} == {f"v-{number}/2" for number in range(1, 6)}
    assert log.commits[-1] == 6


async def test_after_a_crash_a_successor_keeps_trying(log: Log) -> None:
    """Those that were answered before are decided by then, and not asked again."""
    crm = Crm(automatic=True)
    now = [NOW_MS]
    await log.add(asking_late(1), asking(2), decided_without(2))
    first = Running(log, crm, clock=lambda: now[0])
    async with first:
        await settle()
        await first.crash()
    now[0] += 10_000
    async with Running(log, crm, clock=lambda: now[0]):
        await settle()
        now[0] += 5_000
        await settle()
    assert crm.numbers == [2, 1]


async def test_one_whose_time_is_over_is_let_go_without_a_word(log: Log) -> None:
    """The router does not wait for it: an answer would say nothing."""
    crm = Crm()
    now = [NOW_MS]
    await log.add(asking_late(1))
    async with Running(log, crm, clock=lambda: now[0]):
        await settle()
        now[0] += 60_000
        await settle()
    assert crm.numbers == []
    assert await log.answers() == []
    assert log.commits[-1] == 2


async def test_a_consumer_that_is_cut_short_gives_its_places_back(log: Log) -> None:
    """The consumers of other partitions share them."""
    crm, bounds = Crm(), Bounds(in_flight_max=2)
    await log.add(asking(1), asking(2), asking(3))
    running = Running(log, crm, bounds=bounds)
    async with running:
        await settle()
        assert bounds.held == {"default": 2}
        await running.crash()
    assert bounds.held == {}
    async with Running(log, Crm(automatic=True), bounds=bounds):
        await settle()
    assert len(await log.answers()) == 3


async def test_while_answers_cannot_be_published_no_further_look_ups_start(log: Log) -> None:
    crm = Crm(automatic=True)
    log.publish_errors = [LogUnavailableError("disk full")] * 1_000_000
    await log.add(*(asking(number) for number in range(10)))
    async with Running(log, crm, bounds=Bounds(in_flight_max=3)):
        await settle()
        assert crm.numbers == [0, 1, 2]
        log.publish_errors.clear()
        await settle()
    assert sorted(crm.numbers) == list(range(10))


async def test_an_answer_that_no_topic_takes_does_not_hold_up_the_others(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    crm = Crm(automatic=True)
    log.publish_errors = [RecordTooLargeError(0, 2, 1)]
    await log.add(asking(1), asking(2))
    async with Running(log, crm):
        await settle()
    assert [answer.lookup_id for answer in await log.answers()] == ["v-2/2"]
    assert "the router's deadline covers it" in caplog.text
    assert log.commits[-1] == 3


async def test_an_error_that_no_repetition_mends_ends_the_role(log: Log) -> None:
    await log.add(asking(1))
    async with Running(log, Crm(automatic=True)) as running:
        await settle()
        await log.close()
        with pytest.raises(Exception, match="the log is closed"):
            await running.task


async def test_a_commit_that_fails_is_made_up_for(log: Log) -> None:
    log.commit_errors = [IndefiniteError("no answer")] * 2
    await log.add(asking(1))
    async with Running(log, Crm(automatic=True)):
        await settle()
        assert log.commits[-1] == 2


async def test_at_most_one_commit_between_two_pauses(log: Log) -> None:
    """Commits are a second apart while asks come in one by one."""
    async with Running(log, Crm(automatic=True)) as running:
        for number in range(10):
            await log.add(asking(number))
            await settle()
        assert set(running.pauses.waited_s) == {COMMIT_EVERY_S}
        assert len(log.commits) <= len(running.pauses.waited_s)


async def test_it_is_idle_only_at_the_logs_end_with_nothing_on_its_way(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.crm.consumer.AT_END_AFTER_S", 0)
    crm = Crm()
    await log.add(asking(1))
    async with Running(log, crm) as running:
        assert not running.consumer.is_idle()
        await settle()
        assert crm.numbers == [1]
        assert not running.consumer.is_idle()
        crm.answer(1)
        await settle()
        assert running.consumer.is_idle()
        await log.add(other(1))
        await settle()
        assert running.consumer.is_idle()
    assert not running.consumer.is_idle()


@pytest.mark.parametrize(
    "record",
    [policy_record(text="[crm"), policy_record(text=TEXT + "\n# another"), other(1), b'{"type":"policy.recorded"}'],
)
async def test_a_policy_that_the_log_does_not_hold_fails_the_look_up(log: Log, record: bytes) -> None:
    crm = Crm(automatic=True)
    await log.add(record, asking(1, policy_offset=1))
    async with Running(log, crm):
        await settle()
    assert crm.asked == []
    assert await log.answers() == [CrmFailed(lookup_id="v-1/2", reason="unusable-policy", attempts=0)]


async def test_a_policy_is_read_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = log.read

    async def counted(place: TopicPartition, offset: int, *, records_max: int) -> Any:
        reads.append(offset)
        return await read(place, offset, records_max=records_max)

    monkeypatch.setattr(log, "read", counted)
    async with Running(log, Crm(automatic=True)):
        for number in range(5):
            await log.add(asking(number))
            await settle()
    assert reads == [0]


async def test_an_ask_that_cannot_be_read_is_passed_and_told_without_its_content(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    broken = orjson.loads(asking(1))
    broken["data"]["lookup"]["deadline_ms"] = EMAIL
    without_address = orjson.loads(asking(2))
    del without_address["data"]["pii"]
    await log.add(orjson.dumps(broken), orjson.dumps(without_address), asking(3))
    async with Running(log, crm := Crm(automatic=True)):
        await settle()
    assert crm.numbers == [3]
    assert "routing.log/1 at offset 1" in caplog.text
    assert "routing.log/1 at offset 2" in caplog.text
    assert EMAIL not in caplog.text


async def test_no_address_is_logged_whatever_happens(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    crm = Crm()
    log.publish_errors = [IndefiniteError("no answer")]
    await log.add(asking(1), asking(2))
    async with Running(log, crm):
        await settle()
        crm.answer(1)
        crm.answer(2, Failed(reason="time-out", attempts=3))
        await settle()
    assert "time-out" in caplog.text
    assert EMAIL not in caplog.text


async def test_an_answer_in_the_cache_goes_past_those_who_wait(log: Log) -> None:
    """With every look-up at a CRM that hangs, who needs none is answered, with the age of the answer."""
    crm = Crm()
    policies = []

    def cached(ask: LookUp, policy: Policy) -> Answered | None:
        policies.append(policy)
        return structs.replace(ANSWER, attempts=0, age_ms=7) if ask.conversation == "v-3" else None

    await log.add(*(asking(number) for number in (0, 1, 2)))
    async with Running(log, crm, cached=cached):
        await settle()
        await log.add(asking(3))
        await settle()
        (answer,) = await log.answers()
    assert isinstance(answer, CrmAnswered)
    assert (answer.lookup_id, answer.attempts, answer.age_ms) == ("v-3/2", 0, 7)
    assert crm.numbers == [0, 1, 2]
    assert all(policy == POLICY for policy in policies)


async def test_a_workspace_with_too_many_look_ups_fails_alone_and_at_once(log: Log) -> None:
    crm = Crm()
    elsewhere = orjson.loads(asking(9))
    elsewhere["workspace"] = "another"
    await log.add(*(asking(number) for number in range(4)), orjson.dumps(elsewhere))
    async with Running(log, crm, bounds=Bounds(workspace_max=2)):
        await settle()
        assert crm.numbers == [0, 1, 9]
        assert await log.answers() == [
            CrmFailed(lookup_id=f"v-{number}/2", reason="overloaded", attempts=0) for number in (2, 3)
        ]
        crm.answer(0)
        await settle()
        await log.add(asking(5))
        await settle()
        assert crm.numbers == [0, 1, 9, 5], "there is room again"


def test_a_watermark_never_falls_and_passes_nothing_unfinished() -> None:
    mark = Watermark(10)
    mark.begin(11)
    mark.begin(14)
    mark.read_to(20)
    assert (mark.position, mark.open) == (11, 2)
    mark.finish(14)
    assert mark.position == 11
    mark.finish(11)
    assert (mark.position, mark.open) == (20, 0)
    mark.read_to(15)
    assert mark.position == 20
