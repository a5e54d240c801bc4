"""Lines, rates and breakers, under a clock that jumps: in order, never too many, and never for ever."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from consumers.crm import protection
from consumers.crm.protection import FAILURES_MAX, OPEN_MAX_S, OPEN_S, PAUSE_MAX_S, Breaker, HostGate, State
from consumers.crm.slots import Slots
from routing.policy import CrmRate
from tests.simulation.virtual_loop import run_virtual


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def enter(slots: Slots, name: int, order: list[int]) -> None:
    await slots.enter()
    order.append(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_allowed_hold_a_slot_and_the_others_follow_in_order() -> None:
    slots, order = Slots(2), list[int]()
    tasks = [asyncio.create_task(enter(slots, name, order)) for name in range(5)]
    await settle()
    assert (order, slots.taken, slots.waiting) == ([0, 1], 2, 3)
    for _ in range(3):
        slots.leave()
        await settle()
    assert order == [0, 1, 2, 3, 4]
    await asyncio.gather(*tasks)


async def test_who_leaves_the_line_takes_no_slot_along() -> None:
    """Whether still in line or called up in the same moment, a cancelled one blocks nobody."""
    slots, order = Slots(1), list[int]()
    tasks = [asyncio.create_task(enter(slots, name, order)) for name in range(4)]
    await settle()
    tasks[1].cancel()
    await settle()
    slots.leave()  # calls 2 up, who is cancelled before he runs
    tasks[2].cancel()
    await settle()
    assert (order, slots.taken, slots.waiting) == ([0, 3], 1, 0)
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(20))
async def test_slots_are_neither_lost_nor_doubled_whoever_is_cancelled(seed: int) -> None:
    chance, slots, inside = random.Random(seed), Slots(3), [0]

    async def visit() -> None:
        await slots.enter()
        inside[0] += 1
        assert inside[0] <= 3
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            inside[0] -= 1
            slots.leave()

    tasks = [asyncio.create_task(visit()) for _ in range(50)]
    while not all(task.done() for task in tasks):
        chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert (slots.taken, slots.waiting) == (0, 0)


def gate(**rate: Any) -> HostGate:
    return HostGate("crm.example.com", CrmRate(**rate), now_s)


async def starts_of(gate: HostGate, count: int, *, spends_s: float = 0.0) -> list[float]:
    """When each of ``count`` attempts that come at once may begin."""
    starts: list[float] = []

    async def visit() -> None:
        await gate.enter()
        starts.append(now_s())
        if spends_s:
            await asyncio.sleep(spends_s)
        gate.end(gate.breaker.epoch, good=True)

    await asyncio.gather(*(visit() for _ in range(count)))
    return starts


def most_in_a_second(starts: list[float]) -> int:
    return max(sum(1 for one in starts if begin <= one < begin + 1 - 1e-6) for begin in starts)


@pytest.mark.parametrize("per_second", [1, 3, 7, 20, 50, 100, 333])
def test_in_no_second_more_begin_than_the_rate_says_and_none_is_wasted(per_second: int) -> None:
    count = per_second * 3 + 5
    starts = run_virtual(starts_of(gate(per_second=per_second), count))
    assert most_in_a_second(starts) <= per_second
    assert starts[-1] <= count / per_second * 1.3
    assert starts == sorted(starts)


def test_a_rate_that_saves_up_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a bucket that was filled during a pause lets twice the rate through."""

    def saves_up(self: HostGate, at_s: float) -> float:
        allowed = 50 + at_s * 50
        return 0.0 if self.breaker.epoch == 0 and len(begun) < allowed else 0.02

    begun: list[float] = []
    take = HostGate._take

    def noted(self: HostGate) -> None:
        begun.append(now_s())
        take(self)

    monkeypatch.setattr(HostGate, "_rate_wait_s", saves_up)
    monkeypatch.setattr(HostGate, "_take", noted)
    assert most_in_a_second(run_virtual(starts_of(gate(per_second=50), 150))) > 50


def test_only_so_many_are_inside_at_a_time() -> None:
    assert run_virtual(starts_of(gate(concurrency=2), 6, spends_s=1.0)) == pytest.approx([0, 0, 1, 1, 2, 2])


def test_a_pause_that_the_crm_asked_for_is_kept_by_all_but_not_for_ever() -> None:
    async def paused(seconds: float) -> float:
        one = gate()
        one.pause(seconds)
        return (await starts_of(one, 3))[-1]

    assert run_virtual(paused(7)) == pytest.approx(7)
    assert run_virtual(paused(86_400)) == pytest.approx(PAUSE_MAX_S)


def test_a_deadline_ends_the_waiting_at_a_closed_gate() -> None:
    async def wait() -> int:
        one = gate()
        one.pause(30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await one.enter()
        return one.waiting

    assert run_virtual(wait()) == 0


def breaker() -> tuple[Breaker, list[State]]:
    changes: list[State] = []
    return Breaker(changes.append), changes


def attempt(one: Breaker, at_s: float, *, good: bool | None) -> None:
    assert one.wait_s(at_s) == 0
    one.begin()
    one.end(one.epoch, at_s, good=good)


def test_a_breaker_opens_at_the_first_failure_too_many_and_not_before() -> None:
    one, changes = breaker()
    for _ in range(FAILURES_MAX):
        attempt(one, 0.0, good=False)
    assert one.state is State.CLOSED
    attempt(one, 0.0, good=False)
    assert (one.state, changes) == (State.OPEN, [State.OPEN])
    assert one.wait_s(1.0) == OPEN_S - 1


def test_a_host_that_fails_half_of_the_time_stays_open_to_requests() -> None:
    one, changes = breaker()
    for number in range(200):
        attempt(one, 0.0, good=number % 2 == 0)
    assert changes == []


def test_after_a_while_one_request_tries_and_the_others_wait_for_it() -> None:
    one, changes = breaker()
    for _ in range(FAILURES_MAX + 1):
        attempt(one, 0.0, good=False)
    one.begin()
    assert one.state is State.HALF_OPEN
    assert one.wait_s(1e9) == float("inf")
    one.end(one.epoch, 5.0, good=True)
    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert one.wait_s(5.0) == 0


def test_a_host_that_stays_down_is_tried_less_and_less_often_up_to_a_bound() -> None:
    one, _ = breaker()
    for _ in range(FAILURES_MAX + 1):
        attempt(one, 0.0, good=False)
    at_s, pauses = OPEN_S, []
    for _ in range(6):
        attempt(one, at_s, good=False)
        pauses.append(one.wait_s(at_s))
        at_s += pauses[-1]
    assert pauses == [10, 20, 40, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S]


def test_what_began_before_the_breaker_opened_says_nothing_about_now() -> None:
    one, _ = breaker()
    epoch = one.epoch
    for _ in range(FAILURES_MAX + 1):
        attempt(one, 0.0, good=False)
    one.end(epoch, 1.0, good=True)
    assert one.wait_s(1.0) == OPEN_S - 1, "it is open"
    one.begin()
    one.end(epoch, 6.0, good=False)
    assert one.wait_s(6.0) == float("inf"), "the attempt that tries is still under way"


def test_a_try_that_says_nothing_makes_room_for_another() -> None:
    one, _ = breaker()
    for _ in range(FAILURES_MAX + 1):
        attempt(one, 0.0, good=False)
    attempt(one, 5.0, good=None)
    assert (one.state, one.wait_s(5.0)) == (State.HALF_OPEN, 0)


async def outage(one: HostGate, down_until_s: float, count: int) -> list[float]:
    """When each of many look-ups, which come at once, asked a host that is down until then."""
    asked: list[float] = []

    async def visit() -> None:
        while True:
            await one.enter()
            epoch = one.breaker.epoch
            asked.append(now_s())
            await asyncio.sleep(0.01)
            good = now_s() > down_until_s
            one.end(epoch, good=good)
            if good:
                return

    await asyncio.gather(*(visit() for _ in range(count)))
    return asked


def test_a_host_that_is_down_is_hardly_asked_and_one_that_comes_back_not_more_than_the_rate() -> None:
    asked = run_virtual(outage(gate(per_second=50, concurrency=10), 60.0, 500))
    while_down = [one for one in asked if one < 60]
    assert len(while_down) <= FAILURES_MAX + 10 + 10
    assert len([one for one in asked if one >= 60]) >= 500
    assert most_in_a_second(asked) <= 50


def test_without_a_breaker_it_would_be_asked_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    monkeypatch.setattr(protection, "FAILURES_MAX", 10_000)
    asked = run_virtual(outage(gate(per_second=50, concurrency=10), 60.0, 500))
    assert len([one for one in asked if one < 60]) > 1_000


async def test_changes_of_the_breaker_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    one = gate()
    enter_and_fail: Callable[[], Awaitable[None]] = one.enter
    for _ in range(FAILURES_MAX + 1):
        await enter_and_fail()
        one.end(one.breaker.epoch, good=False)
    assert one.counts == {"open": 1}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the CRM at crm.example.com: circuit breaker open")
    ]
