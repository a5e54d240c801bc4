"""The event types of the contract: their names, the topics that they travel on, and their data (``events/wire.py``)."""

from __future__ import annotations

from typing import Final, NamedTuple

from events import topics, wire


class EventType(NamedTuple):
    """One type of the contract: its name, the topic it travels on, and its data."""

    name: str
    topic: str
    data: type[wire.Data]


EVENT_TYPES: Final[tuple[EventType, ...]] = (
    EventType("conversation.opened", topics.CONVERSATION_EVENTS, wire.ConversationOpened),
    EventType("message.received", topics.CONVERSATION_EVENTS, wire.MessageReceived),
    EventType("contact.updated", topics.CONVERSATION_EVENTS, wire.ContactUpdated),
    EventType("assignee.changed", topics.CONVERSATION_EVENTS, wire.AssigneeChanged),
    EventType("conversation.closed", topics.CONVERSATION_EVENTS, wire.ConversationClosed),
    EventType("reply.failed", topics.CONVERSATION_EVENTS, wire.ReplyFailed),
    EventType("agent.updated", topics.AGENT_EVENTS, wire.AgentUpdated),
    EventType("agent.presence", topics.AGENT_EVENTS, wire.AgentPresence),
    EventType("agent.removed", topics.AGENT_EVENTS, wire.AgentRemoved),
    EventType("assignment.accepted", topics.AGENT_EVENTS, wire.OfferAnswered),
    EventType("assignment.declined", topics.AGENT_EVENTS, wire.OfferAnswered),
    EventType("crm.answered", topics.CRM_ANSWERS, wire.CrmAnswered),
    EventType("crm.failed", topics.CRM_ANSWERS, wire.CrmFailed),
    EventType("reply.requested", topics.REPLIES, wire.ReplyRequested),
    EventType("contact.email-captured", topics.REPLIES, wire.EmailCaptured),
    EventType("conversation.queued", topics.ASSIGNMENTS, wire.ConversationQueued),
    EventType("conversation.offered", topics.ASSIGNMENTS, wire.ConversationOffered),
    EventType("conversation.offer-withdrawn", topics.ASSIGNMENTS, wire.OfferWithdrawn),
    EventType("conversation.accept-refused", topics.ASSIGNMENTS, wire.AcceptRefused),
    EventType("conversation.assigned", topics.ASSIGNMENTS, wire.ConversationAssigned),
    EventType("conversation.rerouted", topics.ASSIGNMENTS, wire.ConversationRerouted),
    EventType("conversation.released", topics.ASSIGNMENTS, wire.ConversationReleased),
    EventType("conversation.not-routed", topics.ASSIGNMENTS, wire.ConversationNotRouted),
    EventType("assignment.requested", topics.ASSIGNMENT_REQUESTS, wire.AssignmentRequest),
    EventType("assignment.ended", topics.ASSIGNMENT_REQUESTS, wire.AssignmentEnd),
    EventType("assignment.taken", topics.ASSIGNMENT_REQUESTS, wire.AssignmentTake),
    EventType("assignment.refused", topics.ASSIGNMENT_REQUESTS, wire.AssignmentEnd),
    EventType("dead.letter", topics.DEAD_LETTERS, wire.DeadLetter),
)
PUBLIC_TOPICS: Final = (
    topics.CONVERSATION_EVENTS, topics.AGENT_EVENTS, topics.REPLIES, topics.ASSIGNMENTS, topics.DEAD_LETTERS,
)  # fmt: skip
