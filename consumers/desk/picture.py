"""A workspace as it stands at one moment: its agents, who waits for whom, offers under way. The shape of ``--json``.

Read from the state that a lane folds, and from nothing else; restoring that is ``standing.py``'s business, how it looks
on a terminal the command line's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from msgspec import Struct

from consumers.desk.estimates import Pace
from events.times import format_time
from routing.hours import clock
from routing.inputs import ConfiguredAgent, PoolTarget
from routing.strategies import Pool, PoolKey, owner_key, pool_key
from routing.workspace_index import Desk
from routing.workspace_parts import AgentPart, ConversationId, ConversationPart, Routing, parse_key
from routing.workspace_state import WorkspacesState


class AgentView(Struct, frozen=True, kw_only=True):
    """An agent. Times are RFC 3339."""

    agent: str
    name: str | None
    teams: list[str]
    presence: str
    presence_reason: str | None  #: lapsed (no heartbeat came), missed (offers let pass); None: as he said
    lease_until: str | None  #: until when his presence holds if nothing more is heard of him
    lease_over: bool  #: that has passed, and the assigner has not said so yet
    open: int  #: owned, and offered
    max_open: int
    wrapping: int  #: ended conversations that still take room
    wrapping_until: str | None  #: when the next of them gives it back
    weight: int
    skills: list[str]
    languages: list[str]
    assigned_last: str | None  #: when he was last given or offered one, accepted or not: what makes his turn


class WaitingView(Struct, frozen=True, kw_only=True):
    """A conversation that waits."""

    position: int  #: in the workspace's one queue, 1 is next
    conversation: str
    contact: str
    route: str
    route_reason: str
    ranks_as: str  #: its class, ageing included
    since: str  #: what orders it inside its class
    waited_ms: int  #: since it was queued, the last time
    waits_for: list[str]
    because: str  #: why nobody has it
    overdue: bool
    fallback_at: str | None
    promoted_at: str | None
    relaxed_at: str | None
    escalated_at: str | None
    estimated_wait_ms: int | None  #: None: unknown


class OfferView(Struct, frozen=True, kw_only=True):
    """A conversation that an agent was asked to accept."""

    conversation: str
    contact: str
    agent: str
    route: str
    until: str
    waited_ms: int


class Picture(Struct, frozen=True, kw_only=True):
    """What ``vip-router workspace show --json`` prints."""

    workspace: str
    as_of: str
    log_end_time: str  #: when the last record that this shows was decided
    agents: list[AgentView]
    waiting: list[WaitingView]
    offers: list[OfferView]
    pace_window_ms: int  #: the estimates' window
    assigned_in_window: dict[str, int]  #: by pool, by hand left out


class _Queued(Struct, frozen=True):
    """A conversation that waits or is offered."""

    id: ConversationId
    part: ConversationPart
    routing: Routing


class _Line(Struct, frozen=True):
    """One of the lines that a conversation waits in."""

    name: str  #: of pools that give out of the same people
    words: str
    pool: Pool | None
    agent: str | None = None  #: the one agent whom it waits for
    opens_ms: int | None = None  #: while it is out of hours: when that ends, as far as anybody can know


def picture(
    state: WorkspacesState, workspace: str, *, as_of_ms: int, last_ms: int, pace: Pace, assigned_ms: Mapping[int, int]
) -> Picture:
    """The workspace as the state has it. ``assigned_ms``: when records of ``AgentPart.assigned_last`` were decided."""
    desk = state.desk(workspace)
    queued = sorted(_queued(state, workspace), key=lambda each: each.routing.place)
    return Picture(
        workspace=workspace,
        as_of=format_time(as_of_ms),
        log_end_time=format_time(last_ms),
        agents=[_agent(desk, agent, as_of_ms, assigned_ms) for agent in known_agents(desk)],
        waiting=list(_waiting(desk, [each for each in queued if each.part.status == "waiting"], as_of_ms, pace)),
        offers=[view for each in queued if (view := _offer(each, as_of_ms)) is not None],
        pace_window_ms=pace.window_ms,
        assigned_in_window=dict(sorted(pace.by_pool.items())),
    )


def known_agents(desk: Desk) -> list[str]:
    """The ids of the workspace's agents, and of others who own something."""
    return sorted(agent.id for agent in desk.agents.values() if agent.record is not None or agent.open)


def _queued(state: WorkspacesState, workspace: str) -> Iterator[_Queued]:
    for key, part in state.parts.values.items():
        if isinstance(part, ConversationPart) and part.status in {"waiting", "offered"}:
            space, _, ids = parse_key(key)
            if space == workspace:
                assert part.routing is not None
                yield _Queued(ConversationId(*ids), part, part.routing)


# --- agents ---


def _agent(desk: Desk, name: str, as_of_ms: int, assigned_ms: Mapping[int, int]) -> AgentView:
    now, part = desk.agents[name], desk.agent_part(name)
    record = part.record or ConfiguredAgent()
    lease_ms = _lease_ms(desk, part)
    return AgentView(
        agent=name,
        name=record.name,
        teams=list(record.teams),
        presence=now.presence if part.record is not None else "unknown",
        presence_reason=part.held,
        lease_until=_time(lease_ms),
        lease_over=lease_ms is not None and lease_ms <= as_of_ms,
        open=now.open,
        max_open=now.max_open,
        wrapping=now.wrapping,
        wrapping_until=_time(part.wrapping[0]) if part.wrapping else None,
        weight=now.weight,
        skills=list(record.skills),
        languages=list(record.languages),
        assigned_last=_time(assigned_ms.get(part.assigned_last)),
    )


def _lease_ms(desk: Desk, part: AgentPart) -> int | None:
    if part.record is None or part.presence_time_ms is None or part.presence == "offline":
        return None
    return desk.lease_end_ms(part.presence_time_ms)


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_time(time_ms)


# --- who waits ---


def _waiting(desk: Desk, queued: list[_Queued], as_of_ms: int, pace: Pace) -> Iterator[WaitingView]:
    places: Counter[str] = Counter()
    classes = ("vip", "escalated", "regular")
    for position, each in enumerate(queued, start=1):
        routing = each.routing
        lines = list(_lines(desk, each))
        places.update({line.name for line in lines})
        deadlines = routing.deadlines
        yield WaitingView(
            position=position,
            conversation=each.id.conversation,
            contact=each.id.contact,
            route=routing.route,
            route_reason=routing.route_reason,
            ranks_as=classes[routing.rank],
            since=format_time(routing.since_ms),
            waited_ms=max(as_of_ms - routing.queued_ms, 0),
            waits_for=[line.words for line in lines],
            because="; ".join(_because(line) for line in lines) or "it waits with another conversation of the contact",
            overdue=routing.overdue,
            fallback_at=_time(deadlines.fallback),
            promoted_at=_time(deadlines.promote),
            relaxed_at=_time(deadlines.relax),
            escalated_at=_time(deadlines.wait),
            estimated_wait_ms=_estimate_ms(desk, lines, places, pace),
        )


def _lines(desk: Desk, each: _Queued) -> Iterator[_Line]:
    """The lines that it waits in; none while the contact's other conversation, whose owner it gets, waits itself."""
    leader = desk.leader(each.id, each.routing)
    if leader is not None:
        if leader.status == "assigned" and leader.agent is not None:
            pool = desk.pools.by_key.get(owner_key(leader.agent))
            words = f"{leader.agent}, who has {each.routing.join}"
            yield _Line(f"agent/{leader.agent}", words, pool, leader.agent)
        return
    for target in each.routing.targets if desk.hours is None else desk.hours.all_of(each.routing):
        key = pool_key(target, each.routing.speaks_for(target))
        pool = desk.pools.by_key.get(key)
        if key.while_closed and (pool is None or pool.is_shut):
            continue  # who stands in only while others are out of hours
        if target.agent is None:
            yield _Line(key.turn_name, _pool_words(key, target), pool, opens_ms=_opens_ms(desk, target))
        else:
            agent = desk.pools.resolve(target.agent)
            name = target.agent if agent is None else agent.id
            yield _Line(f"agent/{name}", f"agent {name}", pool, name)


def _pool_words(key: PoolKey, target: PoolTarget) -> str:
    words = "the workspace" if target.team is None else f"team {target.team}"
    if key.language is not None:
        words += f", who speak {key.language}"
    return words if not key.skills else f"{words}, who know {', '.join(key.skills)}"


def _opens_ms(desk: Desk, target: PoolTarget) -> int | None:
    """When the hours of a team, or of the workspace, begin next; None: they have, or never will."""
    config = desk.config()
    for name, rules in config.hours.items():
        if rules.workspace if target.workspace else target.team in rules.teams:
            now = config.hours_now.get(name)
            if now is None or now.open or not clock(rules, config.zones[rules.zone]).is_open(now.until_ms):
                return None
            return now.until_ms
    return None


def _because(line: _Line) -> str:
    """Why nobody of the pool takes it."""
    pool = line.pool
    if pool is None or not pool.members:
        return f"{line.words}: nobody belongs to it" if line.agent is None else f"{line.words}: no such agent"
    if pool.is_shut:
        opens = "" if line.opens_ms is None else f", opens {_minute(line.opens_ms)}"
        return f"{line.words}: out of hours{opens}"
    if pool.free:
        return f"{line.words}: about to be given"
    hindered = ", ".join(f"{count} {why}" for why, count in sorted(pool.counts.items()) if count)
    if line.agent is not None:
        hindered = hindered.removeprefix("1 ")
    return f"{line.words}: {hindered}"


def _minute(time_ms: int) -> str:
    text = format_time(time_ms)
    return f"{text[:10]} {text[11:16]} UTC"


def _is_manned(desk: Desk, line: _Line) -> bool:
    """Whether somebody of the pool is there. One agent has to be, also where he might be given something without."""
    pool = line.pool
    if pool is None or pool.is_shut:
        return False
    if line.agent is not None:
        agent = desk.agents.get(line.agent)
        return agent is not None and agent.presence == "online" and bool(pool.members)
    return len(pool.members) > pool.counts.get("offline", 0) + pool.counts.get("away", 0)


def _estimate_ms(desk: Desk, lines: list[_Line], places: Counter[str], pace: Pace) -> int | None:
    estimates: list[int | None] = []
    for line in lines:
        if not _is_manned(desk, line):
            continue
        of_agent = line.agent is not None
        estimates.append((pace.of_agent if of_agent else pace.of_pool)(line.agent or line.name, places[line.name]))
    return min((estimate for estimate in estimates if estimate is not None), default=None)


def _offer(each: _Queued, as_of_ms: int) -> OfferView | None:
    part = each.part
    if part.status != "offered" or part.offer is None or part.agent is None:
        return None
    return OfferView(
        conversation=each.id.conversation,
        contact=each.id.contact,
        agent=part.agent,
        route=each.routing.route,
        until=format_time(part.offer.until_ms),
        waited_ms=max(as_of_ms - each.routing.queued_ms, 0),
    )
