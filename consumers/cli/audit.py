"""``vip-router audit``: what happened to a conversation, would it happen again, did anybody meddle with the log."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.errors import BAD_NEWS, CommandError
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption, WorkspaceOption
from consumers.cli.output import (
    duration_text,
    flush,
    notice,
    out,
    progress_of,
    time_text,
    visible,
    write_bytes,
    write_json,
)

if TYPE_CHECKING:
    from rich.text import Text

    from consumers.audit.finding import Found
    from consumers.audit.report import Report
    from consumers.audit.show import Step, Story
    from events.log import Log

    Audit = Callable[..., Awaitable[Report]]

app = typer.Typer(help="Ask the log: what happened and why, and is it whole.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Ask the log: what happened to a conversation and why, would it happen again, and did anybody meddle with it."""


@app.command("show")
def show_command(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="The conversation's id")],
    *,
    workspace: WorkspaceOption = "default",
    contact: Annotated[
        str | None,
        typer.Option("--contact", envvar="VIP_ROUTER_CONTACT", metavar="ID", help="Whose, if several have this id"),
    ] = None,
    personal: Annotated[
        bool, typer.Option("--personal", envvar="VIP_ROUTER_PERSONAL", help="Show addresses, names and texts too")
    ] = False,
    as_json: JsonOption = False,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
) -> None:
    """Tell a conversation's history: when, what, why, which policy, who could have had it, who got it.

    --json prints its records of both logs in order, one CloudEvent a line, exactly as they are stored: personal data
    included. Exit 1 if the chain of the logs does not hold there: a record was changed, or one is missing; --json then
    ends with a line {"passed":false,"first_difference":...}. It reads both logs once; with --contact, of each the one
    partition that the conversation can be on.
    """
    asyncio.run(
        _show(
            log,
            topic_prefix,
            conversation,
            workspace=workspace,
            contact=contact,
            personal=personal,
            as_json=as_json,
        )
    )


@app.command("replay")
def replay_command(
    *, log: LogOption = DEFAULT_LOG, topic_prefix: TopicPrefixOption = "", as_json: JsonOption = False
) -> None:
    """Decide every recorded input again and compare byte by byte; exit 1 at the first difference.

    It uses this program's deciders and the policies that the log has recorded.
    """
    from consumers.audit.replay import replay  # noqa: PLC0415  # keeps --help quick

    _run(log, topic_prefix, replay, "replaying", "Every record comes out again, byte by byte.", as_json=as_json)


@app.command("verify")
def verify_command(
    *, log: LogOption = DEFAULT_LOG, topic_prefix: TopicPrefixOption = "", as_json: JsonOption = False
) -> None:
    """Check a whole log: hashes, order, ids, transitions, owners, loads, policies, outputs; exit 1 on a break."""
    from consumers.audit.verify import verify  # noqa: PLC0415  # keeps --help quick

    _run(log, topic_prefix, verify, "verifying", "Nothing is broken.", as_json=as_json)


# --- replay and verify ---


def _run(url: str, topic_prefix: str, audit_of: Audit, doing: str, good_news: str, *, as_json: bool) -> None:
    begun_s = time.monotonic()
    report = asyncio.run(_audited(url, topic_prefix, audit_of, doing))
    if as_json:
        write_json(report.as_json())
    else:
        _print_report(report, time.monotonic() - begun_s, good_news)
    flush()
    if not report.passed:
        raise typer.Exit(code=BAD_NEWS)


async def _audited(url: str, topic_prefix: str, audit_of: Audit, doing: str) -> Report:
    from consumers.opening import opened  # noqa: PLC0415  # keeps --help quick

    async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
        with progress_of(doing) as on_progress:
            return await audit_of(log, on_progress=on_progress)


def _print_report(report: Report, took_s: float, good_news: str) -> None:
    from rich.table import Table  # noqa: PLC0415  # keeps --help quick

    from consumers.audit.report import NOTHING_THERE  # noqa: PLC0415  # keeps --help quick

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    for name, count in report.checked.items():
        table.add_row(f"{count:,}", visible(name))
    console = out()
    console.print(table)
    records = report.checked.get("records", 0)
    if took_s > 1:
        console.print(f"\n{took_s:.1f} s, {records / took_s:,.0f} records/s")
    if report.first_difference is None:
        console.print(f"\n{good_news}", style="green", soft_wrap=True)
    elif report.first_difference.check == NOTHING_THERE:
        console.print(f"\n{report.first_difference.sentence}", style="bold red", soft_wrap=True)
    else:
        console.print("\nThe first difference (what is behind it was not looked at):", style="bold red")
        for line in str(report.first_difference).splitlines():
            console.print(f"  {visible(line)}", soft_wrap=True)
    for line in report.not_checked:
        console.print(f"Not checked: {line}", style="dim", soft_wrap=True)


# --- show ---


async def _show(
    url: str,
    topic_prefix: str,
    conversation: str,
    *,
    workspace: str,
    contact: str | None,
    personal: bool,
    as_json: bool,
) -> None:
    from consumers.audit.finding import NotFoundError, SeveralContactsError, find  # noqa: PLC0415  # keeps --help quick
    from consumers.audit.report import BrokenError  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import opened  # noqa: PLC0415  # keeps --help quick

    async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
        try:
            with progress_of("searching") as on_progress:
                found = await find(log, conversation, workspace=workspace, contact=contact, on_progress=on_progress)
            await (_print_records if as_json else _print_story)(log, found, personal=personal)
            if found.damage is not None:
                raise _damaged(f"{found.damage.place}: {found.damage.sentence}")
        except SeveralContactsError as error:
            raise CommandError(visible(str(error))) from None
        except NotFoundError as error:
            raise CommandError(visible(str(error)), code=BAD_NEWS) from None
        except BrokenError as broken:
            where = "" if broken.place is None else f"{broken.place}: "
            raise _damaged(f"{where}{broken.sentence}") from None


def _damaged(what: str) -> CommandError:
    return CommandError(visible(f'the log is damaged: {what}; "vip-router audit verify" says more'), code=BAD_NEWS)


async def _print_records(log: Log, found: Found, *, personal: bool) -> None:
    del personal  # as they are stored
    from consumers.audit.finding import records  # noqa: PLC0415  # keeps --help quick

    async for record in records(log, found):
        write_bytes(record.stored.value or b"")
    if found.damage is not None:
        write_json({"passed": False, "first_difference": found.damage.as_json()})
    flush()


async def _print_story(log: Log, found: Found, *, personal: bool) -> None:
    from rich.table import Table  # noqa: PLC0415  # keeps --help quick

    from consumers.audit.show import Story  # noqa: PLC0415  # keeps --help quick

    story = Story(log, found, personal=personal, duration=duration_text)
    console = out()
    console.print(
        visible(f"Conversation {found.conversation} of contact {found.contact}, workspace {found.workspace}"),
        style="bold",
        soft_wrap=True,
    )
    if found.damage is not None:
        line = f"The log is damaged: {found.damage.place}: {found.damage.sentence}"
        console.print(visible(line), style="bold red", soft_wrap=True)
    day = ""
    async for step in story.steps():
        moment = time_text(step.at_ms)
        if moment[:10] != day:
            day = moment[:10]
            console.print(f"\n{day} (UTC)", style="bold")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=12, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(moment[11:], _step_text(step))
        console.print(grid)
    _print_summary(story, is_whole=found.damage is None)
    if not personal:
        notice("personal data are hidden: --personal shows them")


def _step_text(step: Step) -> Text:
    from rich.text import Text  # noqa: PLC0415  # keeps --help quick

    text = Text(visible(step.what), style="bold")
    if step.to is not None and step.from_ is not None:
        text.append(f"  {visible(step.from_)} -> {visible(step.to)}", style="not bold cyan")
    if step.why is not None:
        text.append(f"\nwhy: {visible(step.why)}", style="not bold")
    for line in step.details:
        text.append(f"\n{visible(line)}", style="not bold dim")
    text.append(f"\n{visible(step.where)}", style="not bold dim italic")
    return text


def _print_summary(story: Story, *, is_whole: bool) -> None:
    summary = story.summary
    policy = f"policy {summary.policy_name or '?'} {summary.policy}" if summary.policy else "no policy"
    now = "Now" if is_whole else "Now, if the records were true"
    out().print()
    out().print(visible(f"{now}: {summary.stands}; run {summary.run}; {policy}"), soft_wrap=True)
    sys.stdout.flush()
