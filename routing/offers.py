"""What agents say to what they are offered, and what happens when they say nothing.

Whom a conversation is offered to is ``choosing.py``'s business; that an agent who lets too many offers pass counts as
away that of ``workspace_agents.py``.
"""

from __future__ import annotations

from routing.decider import Decision
from routing.inputs import AssignmentAccepted, AssignmentDeclined, Event
from routing.waits import caught_up
from routing.workspace_index import Desk
from routing.workspace_parts import ConversationId, ConversationPart, Routing
from routing.workspace_records import accepted, passed_on, record


def decide_answer(desk: Desk, event: Event, now_ms: int) -> Decision | None:
    """What an agent's answer to an offer leads to; None: the conversation was never offered to anybody."""
    body = event.body
    assert isinstance(body, AssignmentAccepted | AssignmentDeclined)
    conversation = ConversationId(body.contact, body.conversation)
    part = desk.conversation(conversation)
    agent = event.conversation
    if part.offers == 0 or not agent:
        return None
    reason = _refusal(part, agent, body.token, now_ms)
    if reason is not None:
        return _ignored(conversation, part, body, agent, reason)
    assert part.routing is not None
    assert part.offer is not None
    if isinstance(body, AssignmentDeclined):
        return passed_on(conversation, part, _after(desk, conversation, part, now_ms), "declined")
    return accepted(conversation, part, part.routing, part.offer, now_ms)


def _refusal(part: ConversationPart, agent: str, token: str, now_ms: int) -> str | None:
    """Why the answer comes to nothing; None: it counts."""
    offer = part.offer
    if part.status == "assigned" and part.agent == agent and offer is not None and offer.token == token:
        return "already-accepted"
    if part.status != "offered" or offer is None:
        return "offer-over"
    if part.agent != agent or offer.token != token:
        return "wrong-token"
    return "offer-over" if now_ms >= offer.until_ms else None


def _ignored(
    conversation: ConversationId,
    part: ConversationPart,
    body: AssignmentAccepted | AssignmentDeclined,
    agent: str,
    reason: str,
) -> Decision:
    """The record of an answer without effect. Who accepted in vain is told so; who has it already need not be."""
    data = {"reason": reason}
    if isinstance(body, AssignmentAccepted) and reason != "already-accepted":
        refused = {"agent": agent, "token": body.token}
        return record("input.ignored", conversation, part, {**data, "refused": refused}, more=False)
    return record("input.ignored", conversation, part, data, more=False)


def missed(desk: Desk, conversation: ConversationId, part: ConversationPart, now_ms: int) -> Decision:
    """The record that passes an offer on which was not answered in time."""
    return passed_on(conversation, part, _after(desk, conversation, part, now_ms), "offer-missed")


def _after(desk: Desk, conversation: ConversationId, part: ConversationPart, now_ms: int) -> Routing:
    assert part.routing is not None
    return caught_up(desk, conversation, part.routing, now_ms)
