"""What ``/livez`` and ``/readyz`` say of every state that a process can be in, and how the log is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus

import pytest

from consumers.policy_book import PolicyBook
from consumers.telemetry.health import Health, liveness, readiness
from consumers.telemetry.readings import Lately, Reading, read_answer, read_lags
from consumers.telemetry.views import Followed, LaneFigures, LaneView, RoleView, Watched
from events.log import LogUnavailableError, NewRecord, TopicPartition
from events.memory import MemoryLog
from events.topics import CONVERSATION_EVENTS, ROUTING_LOG, partition_counts

ANSWERS = Reading(log_answers=True, lags={})
SILENT = Reading(log_answers=False, lags={})


class FakeLane:
    """A lane that stands as it is told."""

    def __init__(self, partition: int, *, is_ready: bool, positions: dict[str, int] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.is_ready = is_ready
        self.state: object = None
        self._figures = LaneFigures(partition, 7, positions or {}, None, is_full=False, passed_ms=None)

    def figures(self) -> LaneFigures:
        return self._figures


class FakeRole:
    """A role that stands as it is told."""

    def __init__(
        self,
        name: str,
        *lanes: FakeLane,
        owned: bool = True,
        standby: bool = False,
        error: str | None = None,
        reads: dict[int, bool] | None = None,
    ) -> None:
        self.name = name
        self.is_owned = owned
        self.is_standby = standby
        self.error = error
        self.lanes: Sequence[LaneView] = lanes
        self.reads = {lane.figures().partition: lane.is_ready for lane in lanes} if reads is None else reads

    def is_ready(self) -> bool:
        return self.is_owned and all(lane.is_ready for lane in self.lanes)


def log_of(partitions: int = 2) -> MemoryLog:
    return MemoryLog(cluster_id="c", clock_ms=lambda: 1_000, topics=partition_counts(partitions, 1))


def watched(*roles: FakeRole, log: MemoryLog | None = None, followed: Sequence[Followed] = ()) -> Watched:
    return Watched(log=log or log_of(), roles=roles, book=PolicyBook({}), followed=followed)


READY = FakeRole("router", FakeLane(0, is_ready=True), FakeLane(1, is_ready=True))
HALF = FakeRole("router", FakeLane(0, is_ready=True), FakeLane(1, is_ready=False))
STANDBY = FakeRole("assigner", owned=False, standby=True)
STARTING = FakeRole("assigner", owned=False)
FAILED = FakeRole("assigner", FakeLane(0, is_ready=False), error="ClockError")
NO_LANES = FakeRole("crm", reads={3: True, 0: False})

Ready = Callable[[Watched | None, Reading | None, asyncio.Event], Health]

#: Roles, whether the log answers, whether it stops, the status and the word that are right.
STATES: list[tuple[list[FakeRole], Reading, bool, int, str]] = [
    ([READY, NO_LANES], ANSWERS, False, 200, "ready"),
    ([READY, STANDBY], ANSWERS, False, 200, "ready"),
    ([STANDBY], ANSWERS, False, 200, "standby"),
    ([READY, STARTING], ANSWERS, False, 503, "starting"),
    ([HALF], ANSWERS, False, 503, "taking-over"),
    ([READY], SILENT, False, 503, "log-unreachable"),
    ([STANDBY], SILENT, False, 503, "log-unreachable"),
    ([READY], ANSWERS, True, 503, "stopping"),
    ([READY, FAILED], ANSWERS, False, 503, "failed"),
]


def wrong_states(ready: Ready) -> list[str]:
    """The oracle: the states of which ``ready`` does not say what is right."""
    wrong = []
    for roles, reading, stopping, status, word in STATES:
        stop = asyncio.Event()
        if stopping:
            stop.set()
        found = ready(watched(*roles), reading, stop)
        if (found.status.value, found.body["status"]) != (status, word):
            wrong.append(word)
    return wrong


def test_a_process_is_ready_when_all_that_it_owns_reads_and_the_log_answers_or_when_it_stands_by():
    assert wrong_states(readiness) == []


def without(wanted: Callable[[RoleView], bool]) -> Ready:
    """A planted readiness that looks only at some roles."""

    def ready(given: Watched | None, reading: Reading | None, stop: asyncio.Event) -> Health:
        assert given is not None
        roles = [role for role in given.roles if wanted(role)]
        return readiness(Watched(log=given.log, roles=roles, book=given.book), reading, stop)

    return ready


def standby_is_not_ready(given: Watched | None, reading: Reading | None, stop: asyncio.Event) -> Health:
    """A planted readiness on which a rolling upgrade would hang."""
    found = readiness(given, reading, stop)
    return found._replace(status=HTTPStatus.SERVICE_UNAVAILABLE) if found.body["status"] == "standby" else found


PLANTED: list[tuple[Ready, set[str]]] = [
    (lambda w, _, s: readiness(w, ANSWERS, s), {"log-unreachable"}),
    (lambda w, r, _: readiness(w, r, asyncio.Event()), {"stopping"}),
    (without(lambda role: role.error is None), {"failed"}),
    (standby_is_not_ready, {"standby"}),
    (without(lambda role: role.is_ready()), {"starting", "taking-over"}),
]


@pytest.mark.parametrize(("ready", "found"), PLANTED)
def test_a_readiness_that_leaves_something_out_is_found(ready: Ready, found: set[str]):
    assert found <= set(wrong_states(ready))


def test_it_is_starting_until_the_log_is_open():
    before = readiness(None, None, asyncio.Event())
    assert (before.status.value, before.body["status"]) == (503, "starting")
    assert liveness(None).status.value == 200, "and alive: a long start is no reason to kill it"


def test_the_body_names_every_role_and_partition():
    """Also those of a role whose workers are no lanes."""
    assert readiness(watched(HALF, STANDBY, NO_LANES), ANSWERS, asyncio.Event()).body == {
        "status": "taking-over",
        "log": "answers",
        "roles": {
            "router": {"state": "taking-over", "partitions": {"0": "ready", "1": "taking-over"}},
            "assigner": {"state": "standby", "partitions": {}},
            "crm": {"state": "ready", "partitions": {"0": "taking-over", "3": "ready"}},
        },
    }


def test_a_process_is_alive_until_a_role_has_failed_whatever_the_log_does():
    for role in (READY, HALF, STANDBY, STARTING):
        assert liveness(watched(role)).status.value == 200
    dead = liveness(watched(READY, FAILED))
    assert (dead.status.value, dead.body) == (503, {"status": "failed", "failed": {"assigner": "ClockError"}})


class Troubled(MemoryLog):
    """A log that does not say where it ends: it fails, or it never answers."""

    trouble: str | None = None
    asked = 0

    async def end_offset(self, place: TopicPartition) -> int:
        self.asked += 1
        if self.trouble == "error":
            raise LogUnavailableError("no broker")
        if self.trouble == "silence":
            await asyncio.Event().wait()
        return await super().end_offset(place)


@pytest.mark.parametrize(("trouble", "answers"), [(None, True), ("error", False), ("silence", False)])
async def test_a_log_that_fails_or_is_silent_does_not_answer(trouble: str | None, *, answers: bool):
    log = Troubled(cluster_id="c", clock_ms=lambda: 1, topics=partition_counts(1, 1))
    log.trouble = trouble
    reading = await read_answer(log, timeout_s=0.02 if trouble == "silence" else 20.0)
    assert reading.log_answers is answers


@pytest.mark.parametrize("trouble", ["error", "silence"])
async def test_lags_that_the_log_does_not_say_are_left_out(trouble: str):
    log = Troubled(cluster_id="c", clock_ms=lambda: 1, topics=partition_counts(1, 1))
    log.trouble = trouble
    role = FakeRole("router", FakeLane(0, is_ready=True, positions={CONVERSATION_EVENTS: 0}))
    assert await read_lags(watched(role, log=log), timeout_s=0.02) == SILENT._replace(partitions={"router": 1})


async def test_a_lag_is_what_lies_between_the_position_and_the_end():
    log = log_of()
    records = [NewRecord(CONVERSATION_EVENTS, number, b"k", b"v") for number in (0, 0, 0, 1)]
    await log.publish(records)
    await log.commit("crm", {TopicPartition(ROUTING_LOG, 1): 0})
    lanes = [FakeLane(0, is_ready=True, positions={CONVERSATION_EVENTS: 1})]
    lanes.append(FakeLane(1, is_ready=True, positions={CONVERSATION_EVENTS: 5}))
    places = [TopicPartition(ROUTING_LOG, 0), TopicPartition(ROUTING_LOG, 1)]
    followed = Followed("crm", "crm", lambda: places)
    standby = FakeRole("assigner", FakeLane(0, is_ready=False, positions={"agents.events": 0}), owned=False)
    found = await read_lags(watched(FakeRole("router", *lanes), standby, NO_LANES, log=log, followed=[followed]))
    assert found == Reading(
        log_answers=True,
        lags={
            ("router", TopicPartition(CONVERSATION_EVENTS, 0)): 2,
            ("router", TopicPartition(CONVERSATION_EVENTS, 1)): 0,
            ("crm", TopicPartition(ROUTING_LOG, 0)): 0,
            ("crm", TopicPartition(ROUTING_LOG, 1)): 0,
        },
        partitions={"router": 2, "assigner": 1, "crm": 2},
    )


async def test_all_who_ask_at_once_share_one_answer_and_an_old_one_is_asked_for_again():
    calls = 0
    answer = asyncio.Event()

    async def call() -> int:
        nonlocal calls
        calls += 1
        await answer.wait()
        return calls

    lately = Lately(call, age_max_s=1_000.0)
    asking = [asyncio.create_task(lately.get()) for _ in range(5)]
    await asyncio.sleep(0)
    asking.pop(0).cancel()  # who asked first has gone: the others are answered all the same
    answer.set()
    assert set(await asyncio.gather(*asking)) == {2}
    old = Lately(call, age_max_s=-1.0)
    assert await old.get() != await old.get()
