"""Makes a slow decider (``workspace_reference.py``) of a real state: invariants are judged without its indexes."""

from __future__ import annotations

from routing.workspace_parts import AgentPart, ConfigPart, ContactPart, ConversationPart, TurnPart, parse_key
from routing.workspaces import Workspaces
from tests.workspace_reference import Reference
from tests.workspace_reference_parts import Person, Place, Talk, says


def read_parts(workspaces: Workspaces) -> Reference:
    """The real state as a reference has it: enough to ask who could have what."""
    reference = Reference(0)
    for key, part in workspaces.parts():
        _, _, ids = parse_key(key)
        match part:
            case AgentPart(record=None):
                reference.people[ids[0]] = Person(set_by=part.set_by, releasing=part.releasing)
            case AgentPart(record=record) if record is not None:
                who = reference.people[ids[0]] = Person(
                    set_by=part.set_by,
                    presence=part.presence,
                    presence_ms=part.presence_time_ms,
                    served=part.assigned_last,
                    idle=part.idle_since,
                    held=part.held,
                    missed=part.missed,
                    wrapping=part.wrapping,
                )
                who.hears(says(record))
            case ConversationPart():
                reference.talks[ids[0], ids[1]] = Talk(part.status, part.agent, _read_place(part), part.seq, part.armed)
            case ContactPart():
                reference.contacts[ids[0]] = (part.agent, part.at_ms)
            case TurnPart():
                reference.turns[ids[0]] = (part.agent, part.times)
            case ConfigPart():
                reference.max_open = part.max_open
                reference.configured = {name: says(a) for name, a in part.agents.items()}
                reference.missed_max = part.missed_offers_max or 3
                reference.rules = part.rules
                reference.hours.told(part.hours, part.zones)
                reference.hours.standing = {name: (now.open, now.until_ms) for name, now in part.hours_now.items()}
    return reference


def _read_place(part: ConversationPart) -> Place | None:
    routing = part.routing
    if routing is None:
        return None
    return Place(
        routing.route,
        routing.route_reason,
        routing.target,
        routing.escalation,
        routing.since_ms,
        routing.order,
        routing.queued_ms,
        routing.join,
        routing.overdue,
        routing.fallback_open,
        routing.deadlines.fallback,
        routing.deadlines.wait,
        routing.deadlines.promote,
        routing.deadlines.relax,
        routing.promoted,
        routing.relaxed,
        routing.passed,
        routing.language,
    )
