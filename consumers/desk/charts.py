"""A fairness report as charts: who was given how many, and how long who waited, over time where there are periods."""

from __future__ import annotations

from collections import Counter
from typing import Final

from consumers.desk.lines import UNSHARED
from consumers.desk.plot import Series, Words, chart, page
from consumers.desk.reports import CLASSES, FairnessReport, PoolReport

POOLS_MAX: Final = 20  #: that are drawn, those that gave most
AGENTS_MAX: Final = 300  #: of each of them

_PERCENTILES: Final = ("p50", "p95", "p99")


def fairness_page(report: FairnessReport, duration: Words) -> str:
    """The report as one SVG. ``duration``: milliseconds as people read them."""
    pools = _pools(report)
    charts = [_given(report, name, strategy) for name, strategy in pools if strategy not in UNSHARED]
    charts += _times(report, duration) if len(report.periods) > 1 else _classes(report, duration)
    if len(report.periods) > 1:
        charts.append(_evenness(report, pools))
    left_out = "" if len(pools) < POOLS_MAX else f"; the {POOLS_MAX} busiest pools"
    first, last = report.periods[0].from_time, report.periods[-1].to_time
    return page(f"Fairness in workspace {report.workspace}", charts, note=f"{first} to {last}{left_out}")


def _pools(report: FairnessReport) -> list[tuple[str, str]]:
    given: Counter[tuple[str, str]] = Counter()
    for period in report.periods:
        for pool in period.pools:
            given[pool.pool, pool.strategy] += pool.given
    return sorted(pool for pool, _ in given.most_common(POOLS_MAX))


def _named(report: FairnessReport, name: str, strategy: str) -> list[PoolReport | None]:
    """A pool in each period."""
    return [
        next((pool for pool in period.pools if (pool.pool, pool.strategy) == (name, strategy)), None)
        for period in report.periods
    ]


def _given(report: FairnessReport, name: str, strategy: str) -> str:
    given: Counter[str] = Counter()
    for pool in _named(report, name, strategy):
        for row in pool.agents if pool is not None else ():
            given[row.agent] += row.given
    agents = sorted(given)[:AGENTS_MAX]
    left_out = "" if len(agents) == len(given) else f", {len(given) - AGENTS_MAX} more agents left out"
    series = [Series("given", [given[agent] for agent in agents])]
    return chart("bars", f"{name}, {strategy}{left_out}", agents, series, y_label="conversations given to each agent")


def _classes(report: FairnessReport, duration: Words) -> list[str]:
    rows = [
        (pool, name, row) for period in report.periods for pool in period.pools for name, row in pool.classes.items()
    ]
    labels = [f"{pool.pool} {name}" for pool, name, _ in rows]
    series = [Series(at, [getattr(row, f"{at}_ms") for _, _, row in rows]) for at in _PERCENTILES]
    title, label = "Time to assign", "from queueing to the owner, logarithmic"
    return [chart("bars", title, labels, series, y_label=label, words=duration, logarithmic=True)] if rows else []


def _times(report: FairnessReport, duration: Words) -> list[str]:
    """The p95 of each class in each period: the slowest pool's, since percentiles do not add up."""
    days = [period.from_time[:10] for period in report.periods]
    series: list[Series] = []
    for name in CLASSES:
        each = [
            max(
                (row.p95_ms for pool in period.pools if (row := pool.classes.get(name)) and row.p95_ms is not None),
                default=None,
            )
            for period in report.periods
        ]
        if any(value is not None for value in each):
            series.append(Series(name, each))
    title, label = "Time to assign, p95 of the slowest pool", "logarithmic"
    return [chart("lines", title, days, series, y_label=label, words=duration, logarithmic=True)] if series else []


def _evenness(report: FairnessReport, pools: list[tuple[str, str]]) -> str:
    days = [period.from_time[:10] for period in report.periods]
    series = [
        Series(f"{name}, {strategy}", [None if pool is None else pool.jain for pool in _named(report, name, strategy)])
        for name, strategy in pools
        if strategy not in UNSHARED
    ]
    return chart("lines", "Jain's index", days, series, y_label="1: all eligible agents got the same")
