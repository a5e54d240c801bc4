"""What a period of a workspace looked like: how evenly each pool gave, how long who waited. The shape of ``--json``.

How the counts come about is ``ledger.py``'s business, how they look on a terminal the command line's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from consumers.desk.attendance import Attendance
from consumers.desk.figures import Waits, shares
from consumers.desk.ledger import Closed, Tally
from consumers.desk.lines import UNSHARED
from events.times import format_time

CLASSES: Final = ("vip", "escalated", "regular")  #: in the order in which they are served


class ClassReport(Struct, frozen=True, kw_only=True):
    """How long the conversations of one class waited for their owner, milliseconds; None: none was assigned."""

    assigned: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    longest_ms: int | None
    exact: bool  #: False: percentiles may be off by half a per cent
    waiting: int  #: still, at the period's end


class AgentReport(Struct, frozen=True, kw_only=True):
    """What one agent was given out of a pool."""

    agent: str
    given: int
    weight: int
    eligible: float  #: share of the period in which he was a member, was online (if that matters) and had room


class PoolReport(Struct, frozen=True, kw_only=True):
    """What became of a pool's conversations."""

    pool: str
    strategy: str
    given: int
    to_fallback: int  #: waited here, and somebody of the fallback got them
    escalated: int  #: waited here for as long as the route allows
    waiting: int  #: still, at the period's end
    longest_wait_ms: int | None  #: of those that were assigned out of it or still wait for it
    spread: int | None  #: the most minus the least of one agent; None: nothing is shared out in turn or by load
    spread_always_eligible: int | None  #: the same among those who were eligible all the time; None: fewer than two
    jain: float | None  #: 1: all eligible agents got the same
    jain_by_weight: float | None  #: None where all weights are 1
    classes: dict[str, ClassReport]
    agents: list[AgentReport]  #: who got the most first; those who could have got nothing are left out


class PeriodReport(Struct, frozen=True, kw_only=True):
    """A period; ``to`` is not part of it."""

    from_ms: int
    to_ms: int
    from_time: str
    to_time: str
    pools: list[PoolReport]


class FairnessReport(Struct, frozen=True, kw_only=True):
    """What ``vip-router fairness --json`` prints: periods in which nothing was to be assigned are left out."""

    workspace: str
    by: str
    log_end_time: str  #: when the log's last record was decided: nothing is known of later
    periods: list[PeriodReport]


def period_report(closed: Closed) -> PeriodReport:
    """The report of a period at its end."""
    span = closed.span
    length_ms = span.until_ms - span.from_ms
    return PeriodReport(
        from_ms=span.from_ms,
        to_ms=span.until_ms,
        from_time=format_time(span.from_ms),
        to_time=format_time(span.until_ms),
        pools=[_pool_report(tally, closed.agents, length_ms) for tally in closed.tallies],
    )


def _pool_report(tally: Tally, agents: Mapping[str, Attendance], length_ms: int) -> PoolReport:
    is_shared = tally.pool.pool.strategy not in UNSHARED
    rows = _agent_rows(tally, agents, length_ms, is_shared=is_shared)
    even = shares([row.given for row in rows], [row.weight for row in rows])
    always = shares([row.given for row in rows if row.eligible == 1])
    longest_ms = max(
        (waits.longest for waits in tally.waits.values() if waits.longest is not None),
        default=tally.waiting_longest_ms,
    )
    return PoolReport(
        pool=tally.pool.pool.name,
        strategy=tally.pool.pool.strategy,
        given=tally.given.total(),
        to_fallback=tally.to_fallback,
        escalated=tally.escalated,
        waiting=tally.waiting.total(),
        longest_wait_ms=None if longest_ms is None else max(longest_ms, tally.waiting_longest_ms or 0),
        spread=even.spread if is_shared and rows else None,
        spread_always_eligible=always.spread if is_shared and always.agents > 1 else None,
        jain=even.jain if is_shared else None,
        jain_by_weight=even.jain_by_weight if is_shared and any(row.weight != 1 for row in rows) else None,
        classes=_classes(tally),
        agents=rows,
    )


def _agent_rows(
    tally: Tally, agents: Mapping[str, Attendance], length_ms: int, *, is_shared: bool
) -> list[AgentReport]:
    rows: list[AgentReport] = []
    for name, agent in agents.items():
        eligible_ms = agent.eligible_ms(tally.pool) if is_shared else 0
        given = tally.given[name]
        if given or eligible_ms:
            share = eligible_ms / length_ms if length_ms else 0.0
            rows.append(AgentReport(agent=name, given=given, weight=agent.weight, eligible=share))
    return sorted(rows, key=lambda row: (-row.given, row.agent))


def _classes(tally: Tally) -> dict[str, ClassReport]:
    names = {*tally.waits, *tally.waiting}
    ordered = [name for name in CLASSES if name in names] + sorted(names.difference(CLASSES))
    return {name: _class(tally, name) for name in ordered}


def _class(tally: Tally, name: str) -> ClassReport:
    waits = tally.waits[name].waits() if name in tally.waits else Waits(0, None, None, None, None)
    return ClassReport(
        assigned=waits.number,
        p50_ms=waits.p50,
        p95_ms=waits.p95,
        p99_ms=waits.p99,
        longest_ms=waits.longest,
        exact=waits.is_exact,
        waiting=tally.waiting[name],
    )
