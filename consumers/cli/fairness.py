"""``vip-router fairness``: how evenly conversations were given to agents, and how long contacts waited for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import typer

from consumers.cli.desk_options import desk_errors, short_time, time_of
from consumers.cli.errors import CommandError, as_unusable
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption, WorkspaceOption
from consumers.cli.output import duration_text, flush, notice, out, progress_of, visible, write_bytes
from events.clock import unix_ms

if TYPE_CHECKING:
    from rich.table import Table

    from consumers.desk.periods import By
    from consumers.desk.reports import FairnessReport, PeriodReport, PoolReport

AGENTS_MAX: Final = 50  #: of one pool in a table; --json has them all


def fairness_command(
    *,
    workspace: WorkspaceOption = "default",
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            envvar="VIP_ROUTER_SINCE",
            metavar="TIME",
            help="From then on: RFC 3339 (2026-11-22T10:00:00Z), or a day (UTC). Default: the log's beginning",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", envvar="VIP_ROUTER_UNTIL", metavar="TIME", help="Until before then. Default: its end"),
    ] = None,
    by: Annotated[
        str,
        typer.Option("--by", envvar="VIP_ROUTER_BY", metavar="day|week|whole", help="Periods, UTC; weeks from Monday"),
    ] = "whole",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", envvar="VIP_ROUTER_PLOT", metavar="FILE.svg", help="Draw it as SVG, too"),
    ] = None,
    as_json: JsonOption = False,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
) -> None:
    """Show how evenly agents were given conversations and how long contacts waited, per pool and period.

    A pool is a team or the workspace, with what its agents must speak and know, and the strategy that chose. max-min
    and Jain's index (1: all the same, 1/n: one got all; also by weight, where weights are set) count agents who could
    have got something; "eligible" is the share of the period in which an agent was a member, online (if that matters)
    and had room, and "always" max-min among those who were so all the time: at most 1 in round robin with equal
    weights. Time to assign is from queueing to the owner; percentiles (nearest rank) are exact up to 10,000 of a pool,
    class and period, above that within half a per cent.

    Nothing is known of the time after the log's last record. Exit 1 if the log has nothing of the workspace.
    """
    since_ms = None if since is None else time_of("--since", since)
    until_ms = None if until is None else time_of("--until", until)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise CommandError("--since must be before --until")
    _check_plot(plot)
    report = asyncio.run(_report(log, topic_prefix, workspace, _by(by), since_ms, until_ms))
    if as_json:
        from msgspec import json  # noqa: PLC0415  # keeps --help quick

        write_bytes(json.encode(report))
    else:
        _print(report)
    flush()
    if plot is not None:
        _plot(report, plot)


def _by(text: str) -> By:
    from consumers.desk.periods import By  # noqa: PLC0415  # keeps --help quick

    names: tuple[By, ...] = get_args(By)
    for name in names:
        if name == text:
            return name
    raise CommandError(f"--by {visible(text)}: give one of {', '.join(names)}")


def _check_plot(path: Path | None) -> None:
    """Raise now what would otherwise be raised after a long reading."""
    if path is None:
        return
    if path.suffix.lower() != ".svg":
        raise CommandError(
            f"--plot {visible(str(path))}: only SVG is drawn, which browsers show: name the file *.svg. "
            "For a PNG convert it, for example with rsvg-convert of librsvg: rsvg-convert -o plot.png plot.svg"
        )
    if not path.parent.is_dir():
        raise CommandError(f"--plot {visible(str(path))}: there is no folder {visible(str(path.parent))}; make it")


def _plot(report: FairnessReport, path: Path) -> None:
    from consumers.desk.charts import fairness_page  # noqa: PLC0415  # keeps --help quick

    if not report.periods:
        notice("--plot: there is nothing to draw")
        return
    text = fairness_page(report, lambda value: duration_text(round(value)))
    with as_unusable(f"--plot {path}"):
        path.write_text(text, encoding="utf-8")
    notice(f"drawn: {path}")


async def _report(
    url: str, topic_prefix: str, workspace: str, by: By, since_ms: int | None, until_ms: int | None
) -> FairnessReport:
    from consumers.desk.fairness import fairness  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import opened  # noqa: PLC0415

    with desk_errors():
        async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
            with progress_of("counting") as on_progress:
                return await fairness(
                    log, workspace, by, since_ms=since_ms, until_ms=until_ms, now_ms=unix_ms(), on_progress=on_progress
                )


def _print(report: FairnessReport) -> None:
    console = out()
    console.print(visible(f"Workspace {report.workspace}, by {report.by}"), style="bold", soft_wrap=True)
    console.print(f"the log's last record is of {short_time(report.log_end_time)} (UTC)", style="dim")
    if not report.periods:
        console.print("\nno conversation needed an agent in that time")
    for period in report.periods:
        console.print(f"\n{short_time(period.from_time)} to {short_time(period.to_time)}", style="bold")
        for number, table in enumerate((_shares, _outcomes, _waits, _agents)):
            if number:
                console.print()
            console.print(table(period))


def _table(*columns: str, left: int) -> Table:
    from rich.table import Table  # noqa: PLC0415  # keeps --help quick

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        is_text = number < left
        table.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    return table


def _shares(period: PeriodReport) -> Table:
    table = _table("pool", "given", "agents", "each", "max-min", "always", "Jain", "by weight", left=1)
    for pool in period.pools:
        counts = [row.given for row in pool.agents]
        table.add_row(
            visible(_label(pool)),
            f"{pool.given:,}",
            str(len(pool.agents)),
            f"{min(counts)}-{max(counts)}" if counts else "-",
            _or_dash(pool.spread),
            _or_dash(pool.spread_always_eligible),
            *("-" if index is None else f"{index:.4f}" for index in (pool.jain, pool.jain_by_weight)),
        )
    return table


def _outcomes(period: PeriodReport) -> Table:
    table = _table("who waited for", "longest wait", "still waiting", "to fallback", "escalated", left=1)
    for pool in period.pools:
        counts = (pool.waiting, pool.to_fallback, pool.escalated)
        table.add_row(visible(_label(pool)), _wait(pool.longest_wait_ms), *(f"{count:,}" for count in counts))
    return table


def _waits(period: PeriodReport) -> Table:
    table = _table("time to assign", "class", "assigned", "p50", "p95", "p99", "longest", left=2)
    for pool in period.pools:
        for name, row in pool.classes.items():
            times = (row.p50_ms, row.p95_ms, row.p99_ms, row.longest_ms)
            table.add_row(visible(_label(pool)), visible(name), f"{row.assigned:,}", *map(_wait, times))
    return table


def _agents(period: PeriodReport) -> Table:
    table = _table("given to", "pool", "given", "eligible", "weight", left=2)
    for pool in period.pools:
        for row in pool.agents[:AGENTS_MAX]:
            whose = (row.agent, _label(pool))
            share = "-" if pool.spread is None else f"{row.eligible:.1%}"
            table.add_row(*map(visible, whose), f"{row.given:,}", share, str(row.weight))
        if len(pool.agents) > AGENTS_MAX:
            table.add_row(f"and {len(pool.agents) - AGENTS_MAX} more: --json has them all")
    return table


def _label(pool: PoolReport) -> str:
    return pool.pool if pool.spread is None and "/" not in pool.pool else f"{pool.pool} {pool.strategy}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _wait(duration_ms: int | None) -> str:
    return "-" if duration_ms is None else duration_text(duration_ms)
