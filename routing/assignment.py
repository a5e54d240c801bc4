"""What happens next to a conversation that needs an owner.

``decide`` turns an input of a workspace into at most one record, ``follow_up`` into the next one that it makes
possible. Both are pure and look only at the heads of queues: a decision costs the same whoever waits.
The state is ``workspace_state.py``'s, agents' inputs are ``workspace_agents.py``'s, offers ``offers.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from routing.choosing import armed, choose, new_routing
from routing.decider import Decision
from routing.desk_hours import turn_next
from routing.inputs import (
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentRequested,
    AssignmentTaken,
    DeadlinePassed,
    Event,
)
from routing.offers import decide_answer, missed
from routing.strategies import Chosen
from routing.waits import caught_up, has_passed
from routing.workspace_agents import configure_next, decide_agent, decide_agents_time, ignored_by_nobody, rest_next
from routing.workspace_index import LIVE, Desk
from routing.workspace_parts import ConversationId, ConversationPart, Routing, routing_data
from routing.workspace_records import given, made, queued, record, shown, withdrawn

FOLLOW_UPS_MAX: Final = 100  #: records that one input may cause after its own; a drain deadline does the rest


class _Case(NamedTuple):
    """A request, and the conversation that it is about."""

    desk: Desk
    event: Event
    id: ConversationId
    part: ConversationPart
    now_ms: int

    def ignored(self, reason: str) -> Decision:
        """The record of a request without effect."""
        return record("input.ignored", self.id, self.part, {"reason": reason}, more=False)

    def routing(self, body: AssignmentRequested) -> Routing:
        """Where a request that comes now puts the conversation."""
        return new_routing(body, order=self.event.cause.offset or 0, now_ms=self.now_ms)


def decide(desk: Desk, event: Event, now_ms: int) -> Decision | None:
    """What an input leads to; None: nothing (taken before, a deadline that is not current, a heartbeat)."""
    decision = _decide(desk, event, now_ms)
    return decision if desk.hours is None else desk.hours.explained(decision)


def _decide(desk: Desk, event: Event, now_ms: int) -> Decision | None:
    if event.origin is not None and not desk.is_new(event.origin):
        return None
    if isinstance(event.body, DeadlinePassed):
        return _deadline(desk, event, event.body, now_ms)
    decider = _REQUESTS.get(type(event.body))
    if decider is None:
        answers = isinstance(event.body, AssignmentAccepted | AssignmentDeclined)
        answer = decide_answer(desk, event, now_ms) if answers else None
        return answer or decide_agent(desk, event, now_ms)
    if event.conversation is None or not event.contact:
        return ignored_by_nobody(desk, "no-conversation")
    conversation = ConversationId(event.contact, event.conversation)
    return decider(_Case(desk, event, conversation, desk.conversation(conversation), now_ms))


def follow_up(desk: Desk, follow_ups: int, now_ms: int) -> Decision | None:
    """The next thing to do that waits for no input, after ``follow_ups`` others of the same input."""
    decision = next_step(desk, now_ms) if follow_ups < FOLLOW_UPS_MAX else None
    return decision if desk.hours is None else desk.hours.explained(decision)


def next_step(desk: Desk, now_ms: int) -> Decision | None:
    """What is left to do: open and close teams, then whatever is to be done for agents, then serve who waits."""
    if desk.hours is not None and desk.hours.due_ms <= now_ms:
        return turn_next(desk.config(), desk.hours, now_ms)
    if desk.releasing:
        return _release_next(desk, min(desk.releasing), now_ms)
    if desk.unconfigured:
        return configure_next(desk)
    if desk.missing:
        return rest_next(desk)
    return _serve_next(desk, now_ms) if desk.ready else None


def _serve_next(desk: Desk, now_ms: int) -> Decision:
    """Give the foremost of those for whom somebody is free to whom it is due."""
    heads = [head for pool in desk.pools.ready_pools() if (head := pool.waiting.head()) is not None]
    _, conversation = min(heads)
    part = desk.conversation(conversation)
    assert part.routing is not None
    chosen = choose(desk, conversation, part.routing, now_ms)
    assert chosen is not None, f"{conversation}: somebody is free but nobody can have it"
    return given(conversation, part, part.routing, chosen, now_ms)


def _release_next(desk: Desk, agent: str, now_ms: int) -> Decision:
    """Put the oldest conversation of a removed agent back; one that has no route ends with him."""
    parts = {conversation: desk.conversation(conversation) for conversation in desk.owned(agent)}
    conversation = min(parts, key=lambda each: (_place(parts[each]), each))
    part = parts[conversation]
    routing = part.routing
    if routing is not None:
        waits_on = part.status == "offered"  # it never had an owner
        routing = caught_up(desk, conversation, routing, now_ms) if waits_on else _waits_anew(routing, now_ms)
    return _release(conversation, part, routing, "agent-removed", now_ms)


def _place(part: ConversationPart) -> tuple[int, ...]:
    return () if part.routing is None else part.routing.place


def _waits_anew(routing: Routing, now_ms: int) -> Routing:
    """As it waits after it had an owner: at its old place, with all its time."""
    return armed(replace(routing, queued_ms=now_ms), now_ms)


def _release(
    conversation: ConversationId,
    part: ConversationPart,
    routing: Routing | None,
    reason: str,
    now_ms: int,
    *,
    wrap_up_ms: int = 0,
) -> Decision:
    """Take the owner away; with a ``routing`` it waits so, else it is over.

    ``wrap_up_ms`` is how long it takes the owner's room after its end.
    """
    data: dict[str, Any] = {"from": part.status, "to": "ended", "agent": part.agent, "reason": reason}
    if routing is not None:
        data |= {"to": "waiting", **routing_data(routing)}
    elif part.routing is not None:
        data |= shown(part.routing)
    data |= withdrawn(part)
    if wrap_up_ms:
        data["wrap_up_until_ms"] = now_ms + wrap_up_ms
    return record("assignment.released", conversation, part, data, routing=routing)


def _requested(case: _Case) -> Decision:
    assert isinstance(case.event.body, AssignmentRequested)
    if case.part.status in {"assigned", "offered"}:
        late = case.event.body.route_reason == "late-vip"
        return _rerouted(case, case.event.body) if late else case.ignored(f"already-{case.part.status}")
    return _route(case, case.event.body)


def _rerouted(case: _Case, body: AssignmentRequested) -> Decision:
    """Who has it keeps it and is told; should he lose it, it waits in the new route at its old place."""
    status, old, routing = case.part.status, case.part.routing, case.routing(body)
    if old is not None:
        routing = replace(routing, since_ms=old.since_ms, order=old.order, queued_ms=old.queued_ms)
    data = {"from": status, "to": status, "agent": case.part.agent, **routing_data(routing)}
    return record("assignment.rerouted", case.id, case.part, data, routing=routing, more=False)


def _route(case: _Case, body: AssignmentRequested) -> Decision:
    """Give the conversation to somebody at once, or let it wait; nobody may be overtaken while others are served."""
    desk, part = case.desk, case.part
    routing = case.routing(body)
    if part.routing is not None and part.status == "waiting":
        old = part.routing
        routing = replace(routing, since_ms=old.since_ms, order=old.order, queued_ms=old.queued_ms)
    routing = _joined(desk, case.id, routing)
    comes_first = desk.busy or (desk.hours is not None and desk.hours.due_ms <= case.now_ms)
    chosen = None if comes_first else choose(desk, case.id, routing, case.now_ms)
    if chosen is not None:
        return given(case.id, part, routing, chosen, case.now_ms)
    return record("assignment.queued", case.id, part, queued(part, routing), routing=routing)


def _joined(desk: Desk, conversation: ConversationId, routing: Routing) -> Routing:
    """Join the other conversation if it has or awaits an owner: with one that waits, at its place."""
    if routing.join is None:
        return routing
    other = desk.conversation(ConversationId(conversation.contact, routing.join))
    if other.status not in LIVE or not desk.may_join(conversation, routing.join):
        return replace(routing, join=None)
    if other.status != "assigned" and other.routing is not None:
        return replace(routing, since_ms=other.routing.since_ms, order=other.routing.order)
    return routing


def _taken(case: _Case) -> Decision:
    body, part = case.event.body, case.part
    assert isinstance(body, AssignmentTaken)
    if body.agent is None:
        return _put_back(case, body)
    if part.status == "assigned" and part.agent == body.agent:
        return case.ignored("present-owner")
    chosen = Chosen(agent=body.agent, strategy="by-hand", reason="taken-by-hand", team=body.team)
    return made(case.id, part, _routing_or_fallback(case, body), chosen, case.now_ms)


def _routing_or_fallback(case: _Case, body: AssignmentTaken) -> Routing | None:
    """Where it waits when it is released. What a person took joins no other conversation."""
    if case.part.routing is not None:
        return case.part.routing
    return None if body.fallback is None else replace(case.routing(body.fallback), join=None)


def _put_back(case: _Case, body: AssignmentTaken) -> Decision:
    part = case.part
    if part.status in {"waiting", "offered"}:
        return case.ignored(f"already-{part.status}")
    if part.status == "assigned":
        routing = _routing_or_fallback(case, body)
        if routing is None:
            return case.ignored("no-route")
        return _release(case.id, part, _waits_anew(routing, case.now_ms), "by-hand", case.now_ms)
    return case.ignored(_unowned(part)) if body.fallback is None else _route(case, body.fallback)


def _unowned(part: ConversationPart) -> str:
    return "unknown-conversation" if part.status == "new" else f"already-{part.status}"


def _ended(case: _Case) -> Decision:
    assert isinstance(case.event.body, AssignmentEnded)
    part = case.part
    if part.status not in LIVE:
        return case.ignored(_unowned(part))
    wrap_up_ms = case.desk.wrap_up_ms(part.agent) if part.status == "assigned" else 0
    return _release(case.id, part, None, case.event.body.reason, case.now_ms, wrap_up_ms=wrap_up_ms)


def _refused(case: _Case) -> Decision:
    part = case.part
    assert isinstance(case.event.body, AssignmentRefused)
    if part.status in LIVE or part.status == "not-routed":
        return case.ignored(f"already-{part.status}")
    data = {"from": part.status, "to": "not-routed", "reason": case.event.body.reason}
    return record("assignment.not-routed", case.id, part, data, more=False)


def _hours_due(desk: Desk, body: DeadlinePassed, now_ms: int) -> Decision | None:
    """Teams open or close; None: they have done so meanwhile."""
    hours = desk.hours
    if hours is None or body.seq != desk.config().hours_seq or hours.due_ms > now_ms:
        return None
    return turn_next(desk.config(), hours, now_ms)


def _deadline(desk: Desk, event: Event, body: DeadlinePassed, now_ms: int) -> Decision | None:
    if body.kind == "drain":
        step = next_step(desk, now_ms)
        due_to = None if step is None else (step.contact, step.subject, step.seq - 1)
        return step if due_to == (event.contact, event.conversation, body.seq) else None
    if body.kind == "hours":
        return _hours_due(desk, body, now_ms)
    if not event.contact:
        return decide_agents_time(desk, str(event.conversation), body, now_ms)
    conversation = ConversationId(event.contact, str(event.conversation))
    part = desk.conversation(conversation)
    if part.routing is None or part.armed != body.seq:
        return None
    if body.kind == "offer":
        return missed(desk, conversation, part, now_ms) if part.status == "offered" else None
    waits = part.status == "waiting"
    after = has_passed(desk, conversation, part.routing, body.kind, now_ms) if waits else None
    if after is None:
        return None
    return record("assignment.queued", conversation, part, queued(part, after), routing=after)


_REQUESTS: Final[Mapping[type, Callable[[_Case], Decision]]] = {
    AssignmentRequested: _requested,
    AssignmentTaken: _taken,
    AssignmentEnded: _ended,
    AssignmentRefused: _refused,
}
