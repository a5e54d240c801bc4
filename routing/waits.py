"""What time does to one that waits: its fallback opens, it ranks higher, asks for less, and is escalated in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from routing.choosing import armed
from routing.inputs import DeadlineKind
from routing.workspace_index import Desk
from routing.workspace_parts import ConversationId, Routing


def has_passed(
    desk: Desk, conversation: ConversationId, routing: Routing, kind: DeadlineKind, now_ms: int
) -> Routing | None:
    """Where it waits once this deadline of its wait has passed; None: it has no such deadline."""
    if getattr(routing.deadlines, kind, None) is None:
        return None
    if kind == "wait":
        return _waited(desk, conversation, routing, now_ms)
    return _PASSED[kind](routing)


def caught_up(desk: Desk, conversation: ConversationId, routing: Routing, now_ms: int) -> Routing:
    """Where it waits on after an offer came to nothing: what passed meanwhile has its effect."""
    kinds: tuple[DeadlineKind, ...] = (*_PASSED, "wait")
    for kind in kinds:
        due_ms = getattr(routing.deadlines, kind)
        if due_ms is not None and due_ms <= now_ms:
            routing = has_passed(desk, conversation, routing, kind, now_ms) or routing
    return routing


def _waited(desk: Desk, conversation: ConversationId, routing: Routing, now_ms: int) -> Routing:
    """It waited long enough: to the escalation, at its place, or overdue where there is none.

    One that waited for room with another's owner waits for him no longer; one whose other still waits stays with it.
    """
    leader = desk.leader(conversation, routing)
    join = routing.join if leader is not None and leader.status != "assigned" else None
    if routing.escalation is None:
        return replace(routing, join=join, overdue=True, deadlines=replace(routing.deadlines, wait=None))
    escalated = replace(
        routing,
        route="escalated",
        route_reason="waited",
        target=routing.escalation,
        escalation=None,
        overdue=False,
        promoted=False,
        join=join,
    )
    return armed(escalated, now_ms)


def _fallback(routing: Routing) -> Routing:
    return replace(routing, fallback_open=True, deadlines=replace(routing.deadlines, fallback=None))


def _promote(routing: Routing) -> Routing:
    return replace(routing, promoted=True, deadlines=replace(routing.deadlines, promote=None))


def _relax(routing: Routing) -> Routing:
    return replace(routing, relaxed=True, deadlines=replace(routing.deadlines, relax=None))


_PASSED: Final[Mapping[DeadlineKind, Callable[[Routing], Routing]]] = {
    "fallback": _fallback,
    "promote": _promote,
    "relax": _relax,
}
