"""What an input about agents changes: their records, their presence, and the policy's word on them.

Who gets what because of it is a follow-up (``assignment.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import to_builtins

from routing.decider import Decision
from routing.inputs import (
    AgentPresence,
    AgentRemoved,
    AgentsConfigured,
    AgentUpdated,
    AssignmentAccepted,
    AssignmentDeclined,
    ConfiguredAgent,
    Event,
    PresenceStatus,
)
from routing.workspace_index import Desk
from routing.workspace_parts import AgentPart, SetBy
from routing.workspace_state import input_id

What: TypeAlias = Literal["updated", "presence", "removed", "configured"]


class _Case(NamedTuple):
    """An agent's event, and what is known of him."""

    agent: str
    part: AgentPart
    event: Event
    now_ms: int


def decide_agent(desk: Desk, event: Event, now_ms: int) -> Decision | None:
    """What an agent's event, or the policy's ``[agents]``, leads to; None: nothing that was not so before."""
    if isinstance(event.body, AgentsConfigured):
        return _configured(desk, event.body)
    decider = _BODIES.get(type(event.body))
    if decider is None:
        return ignored_by_nobody(desk, "not-ours")
    if not event.conversation:
        return ignored_by_nobody(desk, "no-agent")
    agent = event.conversation
    part = desk.agent_part(agent)
    if input_id(event.source, event.cause.id) in part.seen:
        return _ignored(agent, part, "duplicate")
    return decider(_Case(agent, part, event, now_ms))


def ignored_by_nobody(desk: Desk, reason: str) -> Decision:
    """The record of an input that names nobody whom it could concern."""
    config = desk.config()
    return Decision(
        type="input.ignored",
        contact="",
        subject=None,
        seq=config.seq + 1,
        prev=config.prev,
        policy=None,
        data={"reason": reason},
    )


def configure_next(desk: Desk) -> Decision:
    """Take the policy's word on the next agent whose part does not say so yet."""
    agent = min(desk.unconfigured)
    part = desk.agent_part(agent)
    record = desk.config().agents.get(agent)
    what: What = "removed" if record is None else "configured"
    return _changed(agent, part, what, record, set_by="policy", presence=part.presence, time_ms=None)


def _configured(desk: Desk, body: AgentsConfigured) -> Decision | None:
    config = desk.config()
    if config.max_open == body.max_open and config.agents == body.agents and config.seq > 0:
        return None
    return Decision(
        type="agents.recorded",
        contact="",
        subject=None,
        seq=config.seq + 1,
        prev=config.prev,
        policy=None,
        data={"config": {"max_open": body.max_open, "agents": to_builtins(body.agents)}},
        more=True,
    )


def _updated(case: _Case) -> Decision | None:
    agent, part, event, now_ms = case
    body = event.body
    assert isinstance(body, AgentUpdated)
    if body.max_open is not None and body.max_open < 0:
        return _ignored(agent, part, "negative-max-open")
    if _stale(event, part.record_time_ms):
        return _ignored(agent, part, "stale")
    record = ConfiguredAgent(
        teams=tuple(sorted(set(body.teams))), max_open=body.max_open, name=body.name, email=body.email
    )
    if part.record == record and part.set_by == "event":
        return None
    time_ms = min(event.time_ms, now_ms)
    return _changed(agent, part, "updated", record, set_by="event", presence=part.presence, time_ms=time_ms)


def _presence(case: _Case) -> Decision | None:
    agent, part, event, now_ms = case
    body = event.body
    assert isinstance(body, AgentPresence)
    if part.record is None:
        return _ignored(agent, part, _not_ours(part))
    if _stale(event, part.presence_time_ms):
        return _ignored(agent, part, "stale")
    if part.presence == body.status:
        return None
    time_ms = min(event.time_ms, now_ms)
    set_by: SetBy = part.set_by or "event"
    return _changed(agent, part, "presence", part.record, set_by=set_by, presence=body.status, time_ms=time_ms)


def _removed(case: _Case) -> Decision | None:
    agent, part, event, now_ms = case
    if part.record is None:
        return _ignored(agent, part, _not_ours(part))
    if _stale(event, part.record_time_ms):
        return _ignored(agent, part, "stale")
    time_ms = min(event.time_ms, now_ms)
    return _changed(agent, part, "removed", None, set_by="event", presence=part.presence, time_ms=time_ms)


def _offer_answered(case: _Case) -> Decision | None:
    return _ignored(case.agent, case.part, "no-offer")


def _stale(event: Event, applied_ms: int | None) -> bool:
    """Whether something later was applied before. What is remembered never lies in the future (``min`` with now)."""
    return applied_ms is not None and event.time_ms < applied_ms


def _not_ours(part: AgentPart) -> str:
    return "unknown-agent" if part.set_by is None else "removed-agent"


def _changed(
    agent: str,
    part: AgentPart,
    what: What,
    record: ConfiguredAgent | None,
    *,
    set_by: SetBy,
    presence: PresenceStatus | None,
    time_ms: int | None,
) -> Decision:
    data: dict[str, Any] = {
        "what": what,
        "agent": None if record is None else to_builtins(record),
        "set_by": set_by,
        "presence": presence,
        "time_ms": time_ms,
    }
    if what == "presence":
        data |= {"from": part.presence, "to": presence}
    return _record("agent.changed", agent, part, data, more=True)


def _ignored(agent: str, part: AgentPart, reason: str) -> Decision:
    return _record("input.ignored", agent, part, {"reason": reason}, more=False)


def _record(type: str, agent: str, part: AgentPart, data: dict[str, Any], *, more: bool) -> Decision:
    return Decision(
        type=type, contact="", subject=agent, seq=part.seq + 1, prev=part.prev, policy=None, data=data, more=more
    )


_BODIES: Final[Mapping[type, Callable[[_Case], Decision | None]]] = {
    AgentUpdated: _updated,
    AgentPresence: _presence,
    AgentRemoved: _removed,
    AssignmentAccepted: _offer_answered,
    AssignmentDeclined: _offer_answered,
}
