"""Counts after any history equal the counts from scratch; each of them is shown to see wrong arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from consumers.desk import attendance, figures, ledger, lines, reports
from consumers.desk.attendance import Attendance, Belonging
from consumers.desk.figures import Durations
from consumers.desk.ledger import Ledger
from consumers.desk.lines import Data, PoolOf
from consumers.desk.periods import By, Span, period_of
from consumers.desk.reports import PeriodReport, PoolReport
from routing.decider import LogRecord
from routing.strategies import PoolKey
from tests.desk_given import DAY_MS, HOUR_MS, lines_of, random_desk, reports_of
from tests.desk_recount import SHARED, Recount, free_after, free_time, recount
from tests.workspace_given import Lane

SEEDS = range(25)


@cache
def desk(seed: int) -> Lane:
    return random_desk(seed)


def check(seed: int, by: By, since_ms: int = 0, until_ms: int | None = None) -> list[PeriodReport]:
    """Compare what the ledger says of a random history with the recount of every period that it names."""
    records = desk(seed).records
    until_ms = until_ms or desk(seed).now_ms
    found = reports_of(lines_of(records), by, since_ms=since_ms, until_ms=until_ms)
    begins_ms = max(records[0].at_ms, since_ms)
    for period in found:
        assert period.from_ms == max(begins_ms, period_of(period.from_ms, by).from_ms)
        assert period.to_ms == min(until_ms, period_of(period.from_ms, by).until_ms)
        counted = recount(records, period.from_ms, period.to_ms)
        assert {(pool.pool, pool.strategy) for pool in period.pools} == set(counted)
        for pool in period.pools:
            _compare(pool, counted[pool.pool, pool.strategy])
        _compare_time(period, seed)
    _nothing_left_out(found, records, by, begins_ms, until_ms)
    return found


def _compare(pool: PoolReport, counted: Recount) -> None:
    assert {row.agent: row.given for row in pool.agents if row.given} == dict(counted.given)
    assert pool.given == counted.given.total()
    assert (pool.to_fallback, pool.escalated) == (counted.to_fallback, counted.escalated)
    assert {name: row.waiting for name, row in pool.classes.items() if row.waiting} == dict(counted.waiting)
    assert {name: row.assigned for name, row in pool.classes.items() if row.assigned} == {
        name: len(waits) for name, waits in counted.waits.items()
    }
    for name, waits in counted.waits.items():
        row = pool.classes[name]
        for percent, value in ((50, row.p50_ms), (95, row.p95_ms), (99, row.p99_ms)):
            assert value == min(w for w in waits if sum(x <= w for x in waits) * 100 >= percent * len(waits))
        assert row.longest_ms == waits[-1]
    longest = [wait for waits in counted.waits.values() for wait in waits]
    longest += [counted.waiting_longest_ms] if counted.waiting_longest_ms is not None else []
    assert pool.longest_wait_ms == max(longest, default=None)
    if pool.strategy in SHARED and pool.agents:
        counts = [row.given for row in pool.agents]
        assert pool.spread == max(counts) - min(counts)
        squares = sum(count**2 for count in counts)
        assert pool.jain == (pytest.approx(sum(counts) ** 2 / len(counts) / squares) if squares else None)


def _compare_time(period: PeriodReport, seed: int) -> None:
    """Each agent's share of the period with room is what the real pools say, moment by moment."""
    for pool in period.pools:
        if pool.strategy in SHARED:
            length_ms = period.to_ms - period.from_ms
            told = {row.agent: round(row.eligible * length_ms) for row in pool.agents if row.eligible}
            free = _free_after(seed, _key(pool))
            assert told == free_time(free, period.from_ms, period.to_ms)


@cache
def _free_after(seed: int, key: PoolKey) -> list[tuple[int, frozenset[str]]]:
    return free_after(desk(seed).records, key)


def _key(pool: PoolReport) -> PoolKey:
    """The real pool of this name; in these histories only round robin over team t serves who is not online."""
    where, *more = pool.pool.removeprefix("team/").split("/")
    language = next((each.removeprefix("language=") for each in more if each.startswith("language=")), None)
    skills = tuple(each for each in more if not each.startswith("language="))
    kind: Any = "team" if pool.pool.startswith("team/") else "workspace"
    only_online = (pool.pool, pool.strategy) != ("team/t", "round-robin")
    strategy: Any = pool.strategy
    return PoolKey(kind, where if kind == "team" else "", strategy, only_online, language, skills)


def _nothing_left_out(
    found: list[PeriodReport], records: list[LogRecord], by: By, begins_ms: int, until_ms: int
) -> None:
    """Periods that are not reported are those in which nothing was."""
    told = {period_of(period.from_ms, by).from_ms for period in found}
    moment_ms = begins_ms
    while moment_ms < until_ms:
        whole = period_of(moment_ms, by)
        if whole.from_ms not in told:
            assert recount(records, moment_ms, min(whole.until_ms, until_ms)) == {}
        moment_ms = whole.until_ms


@pytest.mark.parametrize("by", ["day", "week", "whole"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_report_equals_the_recount_from_scratch(seed, by):
    check(seed, by)


@pytest.mark.parametrize("seed", range(5))
def test_so_it_does_from_and_until_any_time(seed):
    records = desk(seed).records
    middle_ms = records[len(records) // 3].at_ms + HOUR_MS // 3
    check(seed, "day", since_ms=middle_ms)
    check(seed, "whole", since_ms=middle_ms, until_ms=records[-1].at_ms - HOUR_MS)
    check(seed, "week", until_ms=middle_ms + DAY_MS)


@pytest.mark.parametrize("seed", SEEDS)
def test_open_counts_presence_and_room_are_the_states(seed):
    """After every record, the ledger has of each agent what the real fold has."""
    lane = desk(seed)
    fold = Ledger("whole", lambda _: None)
    state = type(lane.workspaces)()
    for record, line in zip(lane.records, lines_of(lane.records), strict=True):
        fold.take(line)
        state.evolve(record)
        state.confirm()
        real = {a.id: a for a in state.state.desk("default").agents.values() if a.record is not None or a.open}
        for name, agent in real.items():
            mine = fold.agents[name]
            assert (mine.open, mine.wrapping) == (agent.open, agent.wrapping), f"{name} after {record.type}"
            assert mine.record == agent.record
            assert mine.presence.replace("other", "away") == agent.presence
        assert sum(agent.open for agent in fold.agents.values()) == sum(a.open for a in real.values())


def test_the_histories_hold_what_is_to_be_counted():
    """Guards the tests above: histories without fallbacks, escalations, offers or quiet days would prove nothing."""
    pools = [pool for seed in SEEDS for period in check(seed, "day") for pool in period.pools]
    strategies = {pool.strategy for pool in pools}
    assert strategies == {*SHARED, "sticky", "dedicated", "joined", "by-hand"}
    for count in ("to_fallback", "escalated", "waiting", "given"):
        assert sum(getattr(pool, count) for pool in pools) > 10, count
    assert any(0 < row.eligible < 1 for pool in pools for row in pool.agents)
    types = {record.type for seed in SEEDS for record in desk(seed).records}
    assert {"assignment.offered", "assignment.released", "assignment.queued", "agents.recorded"} <= types


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _twice(add: Callable[[Durations, int], None]) -> Callable[[Durations, int], None]:
    def added(self: Durations, duration_ms: int) -> None:
        add(self, duration_ms + 1)

    return added


def _asked_if_any(data: Data, *, is_fallback: bool) -> PoolOf:
    return lines.asked_pool(data) if data.target else lines.giving_pool(data, is_fallback=is_fallback)


def _an_hour_late(at_ms: int, by: By) -> Span:
    early = period_of(at_ms - HOUR_MS, by)
    return Span(early.from_ms + HOUR_MS, early.until_ms + HOUR_MS)


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "a rank too low": (figures, "_rank", lambda count, percent: max(-(-count * percent // 100) - 1, 1)),
    "a millisecond more": (Durations, "add", _twice(Durations.add)),
    "an index of Jain without its square": (figures, "jain", lambda counts, _=None: sum(counts) / max(len(counts), 1)),
    "nobody wraps up": (Attendance, "wraps_up", _nothing),
    "time does not count": (Attendance, "lapse", _nothing),
    "time counts from the beginning": (Attendance, "restart", _nothing),
    "everybody belongs everywhere": (Belonging, "is_of", lambda *_: True),
    "any language will do": (attendance, "look_up", lambda *_: "en"),
    "nobody gives anything back": (Ledger, "_moves", _nothing),
    "escalation is not seen": (ledger, "WAITED", "never"),
    "a fallback counts as the first choice": (
        ledger, "giving_pool", lambda data, **_: lines.giving_pool(data, is_fallback=False)
    ),
    "what is asked first is all": (ledger, "giving_pool", _asked_if_any),
    "days begin an hour late": (ledger, "period_of", _an_hour_late),
    "who waits is forgotten": (Ledger, "_waiting", lambda _: iter(())),
    "members without a conversation are left out": (reports, "UNSHARED", SHARED),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_wrong_arithmetic_turns_the_recount_red(name, monkeypatch):
    place, attribute, wrong = PLANTED[name]
    monkeypatch.setattr(place, attribute, wrong)
    with pytest.raises(AssertionError):
        [check(seed, "day") for seed in SEEDS]
