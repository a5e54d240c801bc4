"""``vip-router workspace``: a workspace's agents, queue and offers, now or as of a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumers.cli.desk_options import desk_errors, short_time, time_of
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption, WorkspaceOption
from consumers.cli.output import counted, duration_text, flush, out, progress_of, visible, write_bytes
from events.clock import unix_ms

if TYPE_CHECKING:
    from rich.table import Table

    from consumers.desk.picture import AgentView, OfferView, Picture, WaitingView

ROWS_MAX: Final = 200  #: of each table; --json has them all

app = typer.Typer(help="What a workspace looks like.", no_args_is_help=True)


@app.callback()
def workspace_commands() -> None:
    """What a workspace looks like: its agents, its queue, offers under way."""


@app.command("show")
def show_command(
    *,
    workspace: WorkspaceOption = "default",
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            envvar="VIP_ROUTER_AT",
            metavar="TIME",
            help="As of then: RFC 3339 (2026-11-22T10:00:00Z), or a day (its beginning, UTC)",
        ),
    ] = None,
    as_json: JsonOption = False,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
) -> None:
    """Show agents with presence and load, the queue with positions and estimated waits, and offers, now or at a time.

    The estimated wait is place * window / given: the place in the line of the pool (or of the one agent) that the
    conversation waits for; the window, the last hour, or the time since the log began if that is less; and how many
    conversations were given out of that pool (to that agent) in it, by hand left out. It is unknown if fewer than 3
    were, or if nobody of the pool (or not that agent) is there. Who waits in two lines has the shorter wait. It does
    not foresee who comes later and ranks higher.

    Exit 1 if the log has nothing to show, 2 for a time that is none or has not come.
    """
    at_ms = None if at is None else time_of("--at", at)
    found = asyncio.run(_picture(log, topic_prefix, workspace, at_ms))
    if as_json:
        from msgspec import json  # noqa: PLC0415  # keeps --help quick

        write_bytes(json.encode(found))
    else:
        _print(found)
    flush()


async def _picture(url: str, topic_prefix: str, workspace: str, at_ms: int | None) -> Picture:
    from consumers.desk.standing import standing  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import opened  # noqa: PLC0415

    with desk_errors():
        async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
            with progress_of("folding") as on_progress:
                return await standing(log, workspace, at_ms=at_ms, now_ms=unix_ms(), on_progress=on_progress)


def _print(found: Picture) -> None:
    console = out()
    online = sum(1 for agent in found.agents if agent.presence == "online")
    console.print(
        visible(f"Workspace {found.workspace} at {short_time(found.as_of)} (UTC)"), style="bold", soft_wrap=True
    )
    console.print(f"the log's last record until then is of {short_time(found.log_end_time)}", style="dim")
    console.print(f"\n{counted(len(found.agents), 'agent')}, {online:,} of them online", style="bold")
    if found.agents:
        console.print(_agents(found.agents[:ROWS_MAX]))
    _more(len(found.agents))
    console.print(f"\n{len(found.waiting):,} waiting", style="bold")
    if found.waiting:
        console.print(_queue(found.waiting[:ROWS_MAX]))
    _more(len(found.waiting))
    console.print(f"\n{len(found.offers):,} offered, not accepted yet", style="bold")
    if found.offers:
        console.print(_offers(found.offers[:ROWS_MAX]))
    _more(len(found.offers))


def _more(count: int) -> None:
    if count > ROWS_MAX:
        out().print(f"and {count - ROWS_MAX:,} more: --json has them all", style="dim")


def _table(*columns: str) -> Table:
    from rich.table import Table  # noqa: PLC0415  # keeps --help quick

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in {"#", "open"} else "left", overflow="fold")
    return table


def _agents(agents: list[AgentView]) -> Table:
    table = _table("agent", "teams", "presence", "open", "more", "last given or offered")
    for each in agents:
        row = (each.agent, ", ".join(each.teams) or "no team", _presence(each), f"{each.open}/{each.max_open}")
        table.add_row(*map(visible, (*row, _of_agent(each), short_time(each.assigned_last))))
    return table


def _presence(agent: AgentView) -> str:
    why = {"lapsed": ", not heard of", "missed": ", missed offers", None: ""}[agent.presence_reason]
    if agent.lease_until is None:
        return f"{agent.presence}{why}"
    until = "lease over" if agent.lease_over else "until"
    return f"{agent.presence}{why}, {until} {short_time(agent.lease_until)}"


def _of_agent(agent: AgentView) -> str:
    told = [agent.name] if agent.name else []
    if agent.wrapping:
        told.append(f"wraps up {agent.wrapping}, until {short_time(agent.wrapping_until)}")
    if agent.weight != 1:
        told.append(f"weight {agent.weight}")
    if agent.skills:
        told.append(f"knows {', '.join(agent.skills)}")
    if agent.languages:
        told.append(f"speaks {', '.join(agent.languages)}")
    return "; ".join(told)


def _queue(waiting: list[WaitingView]) -> Table:
    table = _table("#", "conversation", "class", "since", "waits for", "estimate")
    for each in waiting:
        ranks = each.route if each.ranks_as == each.route else f"{each.route}, ranks as {each.ranks_as}"
        ranks += ", overdue" if each.overdue else ""
        since = f"{short_time(each.since)}, {duration_text(each.waited_ms)}"
        estimate = "unknown" if each.estimated_wait_ms is None else f"~{duration_text(each.estimated_wait_ms)}"
        whom = "\n".join([visible(each.because), *_changes(each)])
        whose = visible(f"{each.conversation} of {each.contact}")
        table.add_row(str(each.position), whose, visible(ranks), since, whom, estimate)
    return table


def _changes(each: WaitingView) -> list[str]:
    """What time will do to it."""
    changes = (
        ("fallback", each.fallback_at),
        ("promoted", each.promoted_at),
        ("relaxed", each.relaxed_at),
        ("escalated", each.escalated_at),
    )
    return [f"{what} {short_time(when)}" for what, when in changes if when is not None]


def _offers(offers: list[OfferView]) -> Table:
    table = _table("conversation", "class", "agent", "until", "waits")
    for each in offers:
        whose = f"{each.conversation} of {each.contact}"
        row = (whose, each.route, each.agent, short_time(each.until), duration_text(each.waited_ms))
        table.add_row(*map(visible, row))
    return table
