"""Reads a workspace's fairness out of the assigner's log: one pass from its beginning, read-only."""

from __future__ import annotations

from typing import Final

from consumers.audit.report import Counts, OnProgress
from consumers.desk.ledger import Closed, Ledger
from consumers.desk.lines import read_line
from consumers.desk.periods import By
from consumers.desk.reading import NothingToTellError, check_known, extent_of, linked_records, offset_after, unknown
from consumers.desk.reports import FairnessReport, PeriodReport, period_report
from events.log import Log
from events.times import TIME_MS_MAX, TIME_MS_MIN, format_time

PERIODS_MAX: Final = 1_000  #: in one report
WORKSPACES_MAX: Final = 1_000  #: that are remembered for an error


class TooManyPeriodsError(Exception):
    """The time asked for has more periods than a report takes; ``str()`` says what to do."""


async def fairness(
    log: Log,
    workspace: str,
    by: By,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    now_ms: int,
    on_progress: OnProgress | None = None,
) -> FairnessReport:
    """The report of a workspace, from ``since_ms`` (the log's beginning) until before ``until_ms`` (its end).

    Raises ``NothingToTellError``, ``FutureError``, ``TooManyPeriodsError``, ``DamagedError``, ``LogError``.
    """
    extent = await extent_of(log, workspace)
    if since_ms is not None:
        check_known(extent, since_ms, now_ms)
    if until_ms is not None and until_ms <= extent.first_ms:
        raise NothingToTellError(
            f"the log's first record is of {format_time(extent.first_ms)}: give a later --until, or none"
        )
    last_ms = extent.last_ms + 1 if until_ms is None else min(until_ms, extent.last_ms + 1)
    end = extent.end if until_ms is None else await offset_after(log, extent, until_ms - 1)
    periods: list[PeriodReport] = []

    def on_closed(closed: Closed) -> None:
        if len(periods) == PERIODS_MAX:
            raise TooManyPeriodsError(f"more than {PERIODS_MAX:,} periods: give --since or --until, or a longer --by")
        periods.append(period_report(closed))

    ledger = Ledger(by, on_closed, since_ms=TIME_MS_MIN if since_ms is None else since_ms)
    known: set[str] = set()
    counts = Counts(on_progress)
    counts.total = end
    async for stored in linked_records(log, extent._replace(end=end)):
        line = read_line(stored)
        if line.workspace == workspace:
            ledger.take(line)
        if line.workspace is not None and len(known) < WORKSPACES_MAX:
            known.add(line.workspace)
        counts.step()
    if workspace not in known:
        raise unknown(workspace, known, extent, None if until_ms is None else min(until_ms, TIME_MS_MAX))
    ledger.close(last_ms)
    return FairnessReport(workspace=workspace, by=by, log_end_time=format_time(extent.last_ms), periods=periods)
