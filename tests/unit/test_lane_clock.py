"""What time it is for a lane: its machine's clock, and while the log is ahead of that, the log's own time going on."""

import asyncio
import logging
from functools import wraps

import pytest

from consumers.lane_clock import LOSES_ONE_IN, ClockError, LaneClock
from consumers.lane_spec import LaneLimits
from events.log import TopicPartition
from tests.simulation.virtual_loop import run_virtual

NOON_MS = 1_795_300_000_000
HOUR_MS = 3_600_000
LIMITS = LaneLimits()


class Machine:
    """A clock that somebody sets; it stands while only the loop's time passes."""

    def __init__(self):
        self.now_ms = NOON_MS

    def __call__(self):
        return self.now_ms

    async def goes_on(self, seconds):
        self.now_ms += seconds * 1_000
        await asyncio.sleep(seconds)


def in_virtual_time(test):
    @wraps(test)
    def run(**fixtures):
        run_virtual(test(**fixtures))

    return run


def lane_clock():
    machine = Machine()
    return machine, LaneClock(TopicPartition("routing.log", 3), machine, LIMITS)


@in_virtual_time
async def test_it_is_the_machines_clock_as_long_as_the_log_is_not_ahead():
    """Also when that stands still, or goes back by less than lies between it and the last record."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS)
    await asyncio.sleep(1_000)
    assert clock.now_ms() == NOON_MS
    await machine.goes_on(60)
    assert clock.now_ms() == NOON_MS + 60_000
    machine.now_ms -= 59_000
    assert clock.now_ms() == NOON_MS + 1_000


@pytest.mark.parametrize("ahead_ms", [1_000, HOUR_MS, 365 * 24 * HOUR_MS])
@in_virtual_time
async def test_while_the_log_is_ahead_its_time_goes_on_from_the_last_record(ahead_ms):
    """By what has elapsed less a hundredth: a deadline is never early, and at most a hundredth of its length late."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + ahead_ms)
    assert clock.now_ms() == NOON_MS + ahead_ms
    await machine.goes_on(10)
    assert clock.now_ms() == NOON_MS + ahead_ms + 10_000 - 10_000 // LOSES_ONE_IN


@in_virtual_time
async def test_what_is_recorded_meanwhile_takes_nothing_away_from_the_time_that_elapses():
    """An append every second makes a minute no longer than a minute without one."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + HOUR_MS)
    for _ in range(60):
        await machine.goes_on(0.5)
        decided_ms = clock.now_ms()
        await machine.goes_on(0.5)
        clock.recorded(decided_ms)
    assert clock.now_ms() == NOON_MS + HOUR_MS + 60_000 - 60_000 // LOSES_ONE_IN


@in_virtual_time
async def test_when_the_clock_has_caught_up_it_is_followed_again():
    """By itself after a hundred times the difference, or at once when it is set."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + 5_000)
    assert clock.now_ms() > machine.now_ms
    await machine.goes_on(5 * LOSES_ONE_IN)
    assert clock.now_ms() == machine.now_ms
    clock.recorded(machine.now_ms + HOUR_MS)
    assert clock.now_ms() > machine.now_ms
    machine.now_ms += 2 * HOUR_MS
    assert clock.now_ms() == machine.now_ms


@in_virtual_time
async def test_time_never_falls_while_it_is_ahead_although_the_clock_passes_the_last_record():
    """The clock reaches the record's time long before it reaches the log's: until then the log's goes on."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + 60_000)
    seen = []
    for _ in range(200):
        seen.append(clock.now_ms())
        await machine.goes_on(1)
    assert seen == sorted(seen)
    assert seen[-1] > machine.now_ms


@in_virtual_time
async def test_a_jump_of_the_clock_that_nothing_was_recorded_of_leaves_no_trace():
    """Time is what the log says: a look at a wrong clock is not in it."""
    machine, clock = lane_clock()
    clock.recorded(NOON_MS)
    machine.now_ms += HOUR_MS
    assert clock.now_ms() == NOON_MS + HOUR_MS
    machine.now_ms -= HOUR_MS
    assert clock.now_ms() == NOON_MS


@in_virtual_time
async def test_a_later_record_of_somebody_else_moves_it_on():
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + 10_000)
    assert clock.now_ms() == NOON_MS + 10_000
    clock.recorded(NOON_MS + HOUR_MS)
    await machine.goes_on(1)
    assert clock.now_ms() == NOON_MS + HOUR_MS + 990


@in_virtual_time
async def test_who_is_far_behind_the_log_is_told_once_until_the_clock_has_caught_up(caplog):
    """It says where, by how much, what follows from it, and what to do if the clock is the wrong one."""
    caplog.set_level(logging.WARNING)
    machine, clock = lane_clock()
    clock.recorded(NOON_MS + LIMITS.clock_warn_ms)
    clock.now_ms()
    assert caplog.messages == []
    clock.recorded(NOON_MS + HOUR_MS)
    for _ in range(3):
        clock.now_ms()
    (said,) = caplog.messages
    assert "routing.log/3: the log is 3600.0 s ahead of this machine's clock" in said
    assert "run ahead until the clock has caught up" in said
    assert "If this machine's clock is the wrong one, set it" in said
    machine.now_ms += 2 * HOUR_MS
    clock.now_ms()
    machine.now_ms -= 2 * HOUR_MS
    clock.now_ms()
    assert len(caplog.messages) == 2


@in_virtual_time
async def test_a_clock_that_is_far_from_the_logs_own_is_an_error(caplog):
    """In both directions; at the limit it is a warning still, and within the smaller limit nothing."""
    caplog.set_level(logging.WARNING)
    machine, clock = lane_clock()
    for off in (1, -1):
        clock.compare(machine.now_ms + off * LIMITS.clock_warn_ms)
        assert caplog.messages == []
        clock.compare(machine.now_ms + off * LIMITS.clock_stop_ms)
        assert caplog.messages == ["this machine's clock and the log's differ by 60.0 s"]
        caplog.clear()
        with pytest.raises(ClockError, match="differ by 61 s: set the clock"):
            clock.compare(machine.now_ms + off * (LIMITS.clock_stop_ms + 1_000))
