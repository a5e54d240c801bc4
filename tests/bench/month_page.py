"""The comparison of strategies as one HTML page that needs nothing else: tables, and plots as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from consumers.desk.plot import Series, chart
from tests.bench.month_model import MINUTE_MS, ROUTES, SHIFT_MS, STICKY_MS, Setting
from tests.bench.month_results import HOURS, Result

POINTS: Final = 60  #: of a line over all agents
_SECOND_MS, _MINUTE_MS, _HOUR_MS, _DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
_HOURS: Final = [f"{hour:02}:00" for hour in range(HOURS)]
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } svg { max-width: 100%; height: auto; margin: 1rem 0 }
"""


class Table(NamedTuple):
    """For the terminal and the page alike."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def duration(value_ms: float | None) -> str:
    """A duration as people read it."""
    if value_ms is None:
        return "-"
    if value_ms < _MINUTE_MS:
        return f"{value_ms / _SECOND_MS:.0f} s"
    if value_ms < 2 * _HOUR_MS:
        return f"{value_ms / _MINUTE_MS:.1f} min"
    return f"{value_ms / _HOUR_MS:.1f} h"


def waits_table(results: Sequence[Result]) -> Table:
    """Time to assign, by class."""
    rows = [
        (
            f"{route}, {result.strategy}",
            f"{result.waits[route].number:,}",
            f"{result.at_once[route]:.1%}",
            *(duration(value) for value in result.waits[route][1:5]),
        )
        for route in ROUTES
        for result in results
    ]
    return Table("Time to assign", ("", "conversations", "at once", "p50", "p95", "p99", "longest"), rows)


def fairness_table(results: Sequence[Result]) -> Table:
    """How evenly agents were used."""
    rows = [
        (
            result.strategy,
            f"{result.jain_given:.4f}",
            f"{result.an_hour[0]:.2f} to {result.an_hour[-1]:.2f}",
            f"{result.jain_busy:.4f}",
            duration(result.handling_ms),
            f"{result.same_agent:.1%}",
        )
        for result in results
    ]
    columns = ("", "Jain, given", "least to most", "Jain, busy", "handling", "same agent again")
    return Table("Fairness among agents, for each hour on shift", columns, rows)


def page(setting: Setting, results: Sequence[Result], took_s: float) -> str:
    """The whole page."""
    title = f"{setting.days} days of a desk, by strategy"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(f"<p>{escape(text)}</p>" for text in _told(setting, results, took_s))
        + "\n".join(map(_html, (waits_table(results), fairness_table(results))))
        + "\n".join(_plots(results))
        + "\n</body>\n</html>\n"
    )


def _told(setting: Setting, results: Sequence[Result], took_s: float) -> list[str]:
    """What was simulated, and why it may be believed."""
    who = (
        f"{setting.agents} agents with shifts of {duration(SHIFT_MS)} on five days of seven, up to {setting.max_open} "
        f"conversations each; {setting.conversations_a_day:,} conversations a day, {setting.vip_share:.0%} of the "
        f"contacts are VIPs and {setting.escalated_share:.0%} of the other conversations are escalated. One agent in "
        "ten is on the VIP desk too and one in fifteen is a manager too; after one and two minutes VIPs and escalated "
        "conversations may go to anybody."
    )
    work = (
        f"An agent with nothing else to do needs {duration(setting.work_ms)} for a conversation (the median of a "
        f"log-normal distribution, sigma {setting.work_sigma}), {setting.crowding:.0%} more for each other one that "
        f"he has; agents' pace differs (sigma {setting.pace_sigma}). Contacts come again: sticky prefers the agent "
        f"whom they had in the last {STICKY_MS // _DAY_MS} days, else who is idle for longest."
    )
    seed = (
        f"Arrivals, shifts, pace and work are the same for every strategy, drawn from seed {setting.seed}. Who gets "
        "what is chosen by the router's own pools, turns and queues."
    )
    cpu_s = sum(result.cpu_s for result in results)
    took = f"Simulated and checked in {took_s:.0f} s; the simulations alone took {cpu_s:.0f} s of one core."
    return [who, work, seed, _checked(results), took]


def _checked(results: Sequence[Result]) -> str:
    checked = [result.checked for result in results]
    conversations, waited = sum(each.conversations for each in checked), sum(each.waited for each in checked)
    told = (
        "Some hours of the first day went through the whole decider with its records too, for each strategy: "
        f"{conversations:,} conversations, {waited:,} of which waited. "
    )
    for each in checked:
        if each.first_difference is not None:
            return f"{told}IT DECIDED OTHERWISE: {each.first_difference}."
    return f"{told}It gave each to the same agent at the same time."


def _plots(results: Sequence[Result]) -> list[str]:
    labels = [f"{route}, {name}" for route in ROUTES for name in ("p95", "p99")]
    waits = [
        Series(
            result.strategy,
            _minutes(value for route in ROUTES for value in (result.waits[route].p95, result.waits[route].p99)),
        )
        for result in results
    ]
    agents = len(results[0].an_hour)
    places = range(0, agents, max(agents // POINTS, 1))
    given = [Series(result.strategy, [result.an_hour[place] for place in places]) for result in results]
    load = [Series("all strategies", results[0].load_by_hour)]
    by_hour = [Series(result.strategy, _minutes(result.p95_by_hour)) for result in results]
    return [
        chart("bars", "Time to assign by class", labels, waits, y_label="minutes", logarithmic=True),
        chart(
            "lines", "Time to assign of regular conversations, p95", _HOURS, by_hour,
            y_label="minutes, by hour of the day",
        ),
        chart("lines", "Conversations that come in an hour for each agent online", _HOURS, load),
        chart(
            "lines", "Conversations for each hour on shift, agent by agent",
            [f"agent {place + 1}" for place in places], given,
            y_label="agents in the order of how many they got",
        ),
    ]  # fmt: skip


def _minutes(values_ms: Iterable[float | None]) -> list[float | None]:
    return [None if value_ms is None else value_ms / MINUTE_MS for value_ms in values_ms]


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table>\n<caption>{escape(table.title)}</caption>\n<tr>{head}</tr>\n{rows}\n</table>"
