"""What a simulated month shows of a strategy: how long contacts waited for an owner, how evenly agents were used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from operator import sub
from time import process_time
from typing import NamedTuple

from consumers.desk.figures import Waits, jain, percentile, percentiles
from consumers.runtime import tune_garbage_collection
from routing.inputs import RouteName
from tests.bench.month_check import Checked, checked, hours
from tests.bench.month_loop import Happened, LeanDesk, simulate
from tests.bench.month_model import DAY_MS, HOUR_MS, ROUTES, START_MS, Month, Setting, StrategyName, drawn

CHECKED_FROM_MS = START_MS + 8 * HOUR_MS  #: the hours of the first day that go through the whole decider too
CHECKED_UNTIL_MS = START_MS + 12 * HOUR_MS
HOURS = 24
P95 = 95


class Result(NamedTuple):
    """One strategy's month."""

    strategy: StrategyName
    checked: Checked
    cpu_s: float  #: of the simulation; what it took to draw the month, to check and to sum up is not in it
    waits: dict[RouteName, Waits]
    at_once: dict[RouteName, float]  #: the share that waited for nobody
    p95_by_hour: list[int]  #: milliseconds that regular conversations waited, by the hour of the day in which they came
    load_by_hour: list[float]  #: how many come in an hour for each agent online, on average
    an_hour: list[float]  #: of each agent how many conversations he got for each hour on shift, in ascending order
    jain_given: float  #: of these
    jain_busy: float  #: of the time that agents had conversations, for each hour on shift, each conversation by itself
    handling_ms: float  #: mean
    same_agent: float  #: of those whose contact had come before, how many got the agent whom he had last


def result_of(setting: Setting, strategy: StrategyName) -> Result:
    """Simulate the setting's month with a strategy; made to be run in a process of its own."""
    month = drawn(setting)
    tune_garbage_collection()
    compared = checked(month, strategy, hours(month, CHECKED_FROM_MS, CHECKED_UNTIL_MS))
    began_s = process_time()
    happened = simulate(month, LeanDesk(month, strategy))
    cpu_s = process_time() - began_s
    waited_ms = list(map(sub, happened.given_ms, month.arrives_ms))
    by_route: list[list[int]] = [[] for _ in ROUTES]
    for wait_ms, route in zip(waited_ms, month.routes, strict=True):
        by_route[route].append(wait_ms)
    an_hour = _an_hour(month, Counter(happened.owners))
    busy_ms = _busy_ms(happened)
    return Result(
        strategy=strategy,
        checked=compared,
        cpu_s=cpu_s,
        waits={name: percentiles(waits) for name, waits in zip(ROUTES, by_route, strict=True)},
        at_once={name: waits.count(0) / max(len(waits), 1) for name, waits in zip(ROUTES, by_route, strict=True)},
        p95_by_hour=_by_hour(month, waited_ms),
        load_by_hour=_load_by_hour(month),
        an_hour=sorted(an_hour),
        jain_given=jain(an_hour) or 0,
        jain_busy=jain(_an_hour(month, busy_ms)) or 0,
        handling_ms=busy_ms.total() / len(waited_ms),
        same_agent=_same_agent(month, happened.owners),
    )


def _an_hour(month: Month, counts: Counter[str]) -> list[float]:
    return [counts[agent] * HOUR_MS / shift_ms for agent, shift_ms in month.shift_ms.items() if shift_ms]


def _busy_ms(happened: Happened) -> Counter[str]:
    busy_ms: Counter[str] = Counter()
    for agent, given_ms, ended_ms in zip(happened.owners, happened.given_ms, happened.ended_ms, strict=True):
        busy_ms[agent] += ended_ms - given_ms
    return busy_ms


def _by_hour(month: Month, waited_ms: Sequence[int]) -> list[int]:
    regular = ROUTES.index("regular")
    waits: list[list[int]] = [[] for _ in range(HOURS)]
    for came_ms, route, wait_ms in zip(month.arrives_ms, month.routes, waited_ms, strict=True):
        if route == regular:
            waits[came_ms % DAY_MS // HOUR_MS].append(wait_ms)
    return [percentile(sorted(each), P95) if each else 0 for each in waits]


def _same_agent(month: Month, owners: Sequence[str]) -> float:
    had_last: dict[int, str] = {}
    came_again = same = 0
    for contact, owner in zip(month.contacts, owners, strict=True):
        before = had_last.get(contact)
        came_again += before is not None
        same += before == owner
        had_last[contact] = owner
    return same / max(came_again, 1)


def _load_by_hour(month: Month) -> list[float]:
    came = Counter(at_ms % DAY_MS // HOUR_MS for at_ms in month.arrives_ms)
    online = 0
    online_ms: Counter[int] = Counter()
    for before, after in pairwise(month.shown):
        online += {"online": 1, "away": -1}.get(before.status, 0) - (before.status == "offline" and before.at_ms > 0)
        _spread(online_ms, max(before.at_ms, START_MS), min(after.at_ms, month.setting.end_ms), online)
    return [came[hour] * HOUR_MS / max(online_ms[hour], 1) for hour in range(HOURS)]


def _spread(online_ms: Counter[int], from_ms: int, until_ms: int, online: int) -> None:
    """Add what lies between the two moments to the hours of the day in which it lies."""
    while from_ms < until_ms:
        end_ms = min((from_ms // HOUR_MS + 1) * HOUR_MS, until_ms)
        online_ms[from_ms % DAY_MS // HOUR_MS] += online * (end_ms - from_ms)
        from_ms = end_ms
