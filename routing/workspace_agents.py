"""What an input about agents changes: their records, their presence, and the policy's word on them.

Presence is a lease where the policy has a ``presence_ttl``: a heartbeat is recorded once a quarter of it has passed
since the last one, and whose lease ends counts as offline. The room that ended conversations take is freed here too.
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
    DeadlinePassed,
    Event,
    PresenceStatus,
)
from routing.workspace_index import Desk
from routing.workspace_parts import AgentPart
from routing.workspace_records import of_nobody
from routing.workspace_state import input_id

What: TypeAlias = Literal[
    "updated", "presence", "heartbeat", "lapsed", "missed", "wrapped-up", "removed", "configured"
]  # fmt: skip


class _Case(NamedTuple):
    """An agent's event, and what is known of him."""

    desk: Desk
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
    return decider(_Case(desk, agent, part, event, now_ms))


def ignored_by_nobody(desk: Desk, reason: str) -> Decision:
    """The record of an input that names nobody whom it could concern."""
    return of_nobody(desk.config(), "input.ignored", {"reason": reason})


def decide_agents_time(desk: Desk, agent: str, body: DeadlinePassed, now_ms: int) -> Decision | None:
    """What it leads to that an agent's lease or wrap-up time has passed; None: it is not current any more."""
    part = desk.agent_part(agent)
    if part.record is None or part.seq != body.seq:
        return None
    if body.kind == "lease" and part.presence not in {None, "offline"} and part.presence_time_ms is not None:
        end_ms = desk.lease_end_ms(part.presence_time_ms)
        if end_ms is not None and end_ms <= now_ms:
            return _changed(agent, part, "lapsed", presence="offline", held="lapsed")
    if body.kind == "wrap-up" and part.wrapping and part.wrapping[0] <= now_ms:
        wrapping = [until_ms for until_ms in part.wrapping if until_ms > now_ms]
        return _changed(agent, part, "wrapped-up", wrapping=wrapping)
    return None


def rest_next(desk: Desk) -> Decision:
    """Let the next agent who has let too many offers pass count as away."""
    agent = min(desk.missing)
    return _changed(agent, desk.agent_part(agent), "missed", presence="away", held="missed")


def configure_next(desk: Desk) -> Decision:
    """Take the policy's word on the next agent whose part does not say so yet."""
    agent = min(desk.unconfigured)
    part = desk.agent_part(agent)
    record = desk.config().agents.get(agent)
    what: What = "removed" if record is None else "configured"
    return _changed(agent, part, what, record=record, set_by="policy")


def _configured(desk: Desk, body: AgentsConfigured) -> Decision | None:
    config = desk.config()
    if config.seq > 0 and all(getattr(config, name) == getattr(body, name) for name in ("max_open", *_RULES, "agents")):
        return None
    rules = {name: getattr(body, name) for name in _RULES if getattr(body, name) != getattr(_NO_RULES, name)}
    data = {"config": {"max_open": body.max_open, "agents": to_builtins(body.agents), **to_builtins(rules)}}
    return of_nobody(config, "agents.recorded", data, more=True)


def _updated(case: _Case) -> Decision | None:
    part, event = case.part, case.event
    body = event.body
    assert isinstance(body, AgentUpdated)
    wrong = _wrong_number(body)
    if wrong is not None:
        return _ignored(case.agent, part, wrong)
    if _stale(event, part.record_time_ms):
        return _ignored(case.agent, part, "stale")
    record = ConfiguredAgent(
        teams=tuple(sorted(set(body.teams))),
        max_open=body.max_open,
        name=body.name,
        email=body.email,
        weight=body.weight,
        languages=tuple(sorted(set(body.languages))),
        skills=tuple(sorted(set(body.skills))),
        wrap_up_ms=body.wrap_up_ms,
    )
    if part.record == record and part.set_by == "event":
        return None
    time_ms = min(event.time_ms, case.now_ms)
    return _changed(case.agent, part, "updated", record=record, set_by="event", time_ms=time_ms)


def _wrong_number(body: AgentUpdated) -> str | None:
    if body.max_open is not None and body.max_open < 0:
        return "negative-max-open"
    if body.wrap_up_ms is not None and body.wrap_up_ms < 0:
        return "negative-wrap-up"
    return None if body.weight > 0 else "no-weight"


def _presence(case: _Case) -> Decision | None:
    part, event = case.part, case.event
    body = event.body
    assert isinstance(body, AgentPresence)
    if part.record is None:
        return _ignored(case.agent, part, _not_ours(part))
    if _stale(event, part.presence_time_ms):
        return _ignored(case.agent, part, "stale")
    time_ms = min(event.time_ms, case.now_ms)
    if _is_heartbeat(case, body.status):
        return _heartbeat(case, time_ms)
    if body.status != "offline" and _is_over(case, time_ms):
        return _ignored(case.agent, part, "lease-over")
    return _changed(case.agent, part, "presence", presence=body.status, time_ms=time_ms)


def _is_heartbeat(case: _Case, status: PresenceStatus) -> bool:
    """Whether it only says again what is known; one who has missed offers is not back because his client beats on."""
    if case.part.held == "missed":
        return status == "online" and case.desk.config().presence_ttl_ms is not None
    return case.part.presence == status


def _heartbeat(case: _Case, time_ms: int) -> Decision | None:
    """Renew the lease, if there is one and a quarter of it has passed."""
    ttl_ms, part = case.desk.config().presence_ttl_ms, case.part
    if ttl_ms is None or part.presence == "offline" or _is_over(case, time_ms):
        return None
    if part.presence_time_ms is not None and time_ms - part.presence_time_ms < max(ttl_ms // 4, 1):
        return None
    return _changed(case.agent, part, "heartbeat", time_ms=time_ms)


def _is_over(case: _Case, time_ms: int) -> bool:
    """Whether a presence of that time would hold no more: it is a late copy, or was on its way for too long."""
    end_ms = case.desk.lease_end_ms(time_ms)
    return end_ms is not None and end_ms <= case.now_ms


def _removed(case: _Case) -> Decision | None:
    agent, part, event = case.agent, case.part, case.event
    if part.record is None:
        return _ignored(agent, part, _not_ours(part))
    if _stale(event, part.record_time_ms):
        return _ignored(agent, part, "stale")
    time_ms = min(event.time_ms, case.now_ms)
    return _changed(agent, part, "removed", record=None, set_by="event", time_ms=time_ms)


def _offer_answered(case: _Case) -> Decision | None:
    return _ignored(case.agent, case.part, "no-offer")


def _stale(event: Event, applied_ms: int | None) -> bool:
    """Whether something later was applied before. What is remembered never lies in the future (``min`` with now)."""
    return applied_ms is not None and event.time_ms < applied_ms


def _not_ours(part: AgentPart) -> str:
    return "unknown-agent" if part.set_by is None else "removed-agent"


def _changed(agent: str, part: AgentPart, what: What, **changes: Any) -> Decision:
    """The record of a change. What ``changes`` does not name stays; that an agent is ``held`` until he says more."""
    known: dict[str, Any] = {"record": part.record, "set_by": part.set_by or "event", "presence": part.presence}
    now = {"held": None if what == "presence" else part.held, **known, **changes}
    record: ConfiguredAgent | None = now["record"]
    data: dict[str, Any] = {
        "what": what,
        "agent": None if record is None else to_builtins(record),
        "set_by": now["set_by"],
        "presence": now["presence"],
        "time_ms": changes.get("time_ms"),
    }
    if now["held"] is not None:
        data["held"] = now["held"]
    if "wrapping" in changes:
        data["wrapping"] = changes["wrapping"]
    if now["presence"] != part.presence or what == "presence":
        data |= {"from": part.presence, "to": now["presence"]}
    return _record("agent.changed", agent, part, data, more=True)


def _ignored(agent: str, part: AgentPart, reason: str) -> Decision:
    return _record("input.ignored", agent, part, {"reason": reason}, more=False)


def _record(type: str, agent: str, part: AgentPart, data: dict[str, Any], *, more: bool) -> Decision:
    return Decision(
        type=type, contact="", subject=agent, seq=part.seq + 1, prev=part.prev, policy=None, data=data, more=more
    )


_RULES: Final = ("presence_ttl_ms", "wrap_up_ms", "missed_offers_max", "rules", "hours", "zones")
_NO_RULES: Final = AgentsConfigured(max_open=0)
_BODIES: Final[Mapping[type, Callable[[_Case], Decision | None]]] = {
    AgentUpdated: _updated,
    AgentPresence: _presence,
    AgentRemoved: _removed,
    AssignmentAccepted: _offer_answered,
    AssignmentDeclined: _offer_answered,
}
