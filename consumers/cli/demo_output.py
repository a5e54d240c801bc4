"""How the demo looks: stages as they go, then who got what and why, each agent's share, and what was checked."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from consumers.cli.output import duration_text, err, notice, out, visible
from consumers.demo.comparing import what_happened
from consumers.demo.observed import Story

if TYPE_CHECKING:
    from consumers.demo.examples import Examples
    from consumers.demo.player import OnProgress
    from consumers.demo.running import Played

WIDTH_WITHOUT_TERMINAL: Final = 160
WIDTH_OF_ALL: Final = 110  #: a narrower terminal does without the contacts' names


class Stages:
    """The stages of the demo on stderr: bars on a terminal, else a line for each when it has ended."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        if err().is_terminal:
            columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=err(), transient=False)
        self._what = ""
        self._task: TaskID | None = None
        self._done = self._total = 0
        self._began_s = 0.0

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begins(self, what: str) -> OnProgress:
        """A stage begins."""
        self._what, self._done, self._total, self._began_s = what, 0, 1, time.monotonic()
        if self._progress is not None:
            self._task = self._progress.add_task(what, total=None)
        return self._advance

    def ends(self) -> None:
        """The stage has ended."""
        self._advance(self._total, self._total)
        if self._progress is None:
            many = f" {self._total:,}" if self._total > 1 else ""
            notice(f"{self._what}:{many} done in {time.monotonic() - self._began_s:.1f} s")

    def _advance(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)


def print_result(examples: Examples, played: Played) -> None:
    """Everything that there is to say, on stdout; without a terminal nothing is folded to a width."""
    console = out() if out().is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL, markup=False, highlight=False)
    console.print(_conversations(examples, played, is_narrow=console.width < WIDTH_OF_ALL))
    console.print(_agents(examples, played))
    console.print("Checked over the log, from the file alone")
    console.print(_checked(examples, played))
    for line in _bad_news(played):
        console.print(visible(line), soft_wrap=True)


def _conversations(examples: Examples, played: Played, *, is_narrow: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Who got what, and why", title_justify="left", pad_edge=False)
    columns = ("conversation", "contact", "language", "what happened", "route", "why", "agent", "waited")
    left_out = {"contact"} if is_narrow else set()
    for name in columns:
        if name not in left_out:
            table.add_column(
                "id" if is_narrow and name == "conversation" else name,
                no_wrap=name not in {"what happened", "language"},
                overflow="fold" if name == "what happened" else "ellipsis",
                justify="right" if name == "waited" else "left",
            )
    names = examples.names()
    for conversation in examples.expected:
        story = played.observed.stories.get(conversation, Story())
        is_owned = story.outcome == "assigned"
        waited = duration_text(story.waited_ms) if story.waited and story.waited_ms is not None else None
        cells = (
            conversation, names.get(conversation), story.language, what_happened(story),
            story.route if is_owned else story.outcome, story.reason, story.agent, waited,
        )  # fmt: skip
        told = zip(columns, cells, strict=True)
        table.add_row(*(visible(cell or "") for name, cell in told if name not in left_out))
    return table


def _agents(examples: Examples, played: Played) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Who has what", title_justify="left", pad_edge=False)
    for name in ("agent", "name", "teams", "vip", "regular", "escalated", "open now", "room"):
        table.add_column(name, justify="left" if name in {"agent", "name", "teams"} else "right")
    stories = [story for story in played.observed.stories.values() if story.agent is not None]
    for step in examples.steps:
        if step.of_agent and "teams" in step.data:
            routes = Counter(story.route for story in stories if story.agent == step.subject)
            is_open = sum(story.agent == step.subject and not story.closed for story in stories)
            counts = (routes["vip"], routes["regular"], routes["escalated"], is_open, step.data.get("max_open", ""))
            texts = (step.subject or "", step.data.get("name", ""), ", ".join(step.data["teams"]))
            table.add_row(*map(visible, texts), *(str(count or "") for count in counts))
    return table


def _checked(examples: Examples, played: Played) -> Table:
    """What the audit of the log says of the promises, with its counts."""
    verified, replayed, observed = played.verified, played.replayed, played.observed
    outcomes = Counter(story.outcome for story in observed.stories.values())
    deliveries = Counter(step.raw for step in examples.steps)
    twice = sum(count - 1 for count in deliveries.values())
    made = verified.checked.get("assignments.log assignment.made", 0)
    counted, again = verified.checked.get("records", 0), replayed.checked.get("decisions", 0)
    missing = len(examples.expected.keys() - observed.stories.keys())
    owners = "never two owners at a time, nobody above his room"
    partitions = verified.checked.get("partitions", 0)
    ends = (
        f"{outcomes['assigned']:,} assigned, {outcomes['not-routed']:,} not for this workflow, "
        f"{outcomes['dead-letter']:,} dead letter; {outcomes['nothing'] + missing:,} without an outcome"
    )
    effects = f"{observed.outputs:,} outputs took effect, {observed.copies:,} copies of them were dropped"
    chain = "hashes, numbers, states, times and outputs hold"
    facts = (
        (verified, "P1 one owner", f"{made:,} assignments of {outcomes['assigned']:,} conversations: {owners}"),
        (None, "P2 nothing lost", f"{len(observed.stories):,} conversations: {ends}"),
        (verified, "P3 exactly once", f"{played.published:,} events published, {twice:,} of them copies; {effects}"),
        (replayed, "P4 log is the truth", f"{again:,} decisions taken again from the log: the same, byte for byte"),
        (verified, "P7 nobody meddled", f"{counted:,} records of {partitions:,} partitions: {chain}"),
    )  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for report, promise, count in facts:
        holds = missing + outcomes["nothing"] == 0 if report is None else report.passed
        table.add_row("holds" if holds else "BROKEN", promise, count)
    return table


def _bad_news(played: Played) -> list[str]:
    lines: list[str] = []
    for report, what in ((played.verified, "verify"), (played.replayed, "replay")):
        if report.first_difference is not None:
            lines += ["", f"{what} found:", *str(report.first_difference).splitlines()]
    if played.unsettled:
        lines += ["", f"Not settled, so the demo went no further: {', '.join(played.unsettled)}"]
    if played.differences:
        count = len(played.differences)
        lines += ["", f"{count:,} thing{'' if count == 1 else 's'} came out other than expected:", *played.differences]
    return lines
