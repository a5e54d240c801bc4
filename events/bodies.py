"""The ``data`` of each input type to the body that deciders take.

What is too long: ids are refused (``events/wire.py``); names, language tags, channel types and reasons are cut; an
e-mail address counts as none. Texts of messages are kept whole, their reader caps them. Unknown enumeration values
become ``other``. Envelopes, and whom an event concerns, are ``events/decode.py``'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from msgspec import UNSET, UnsetType

from events import wire
from events.cloudevents import checked_time, plain_id
from routing import inputs
from routing.answers import normalise_email

EMAIL_CHARS_MAX: Final = 320  #: of an address; what is longer is none

ConversationReader: TypeAlias = Callable[[Any, int], inputs.ConversationBody]
WorkspaceReader: TypeAlias = Callable[[Any], inputs.WorkspaceBody]


class Conversational(NamedTuple):
    """How events of one type that concern a contact are read: from their data and their time in ms."""

    data: type[wire.Data]
    read: ConversationReader


class Workspace(NamedTuple):
    """How events of one type that concern a workspace are read."""

    data: type[wire.Data]
    read: WorkspaceReader


def _id(value: str | int | None, field: str) -> str | None:
    return None if value is None else plain_id(value, field, "bad-data")


def _email(text: str | None) -> str | None:
    return normalise_email(text) if text and len(text) <= EMAIL_CHARS_MAX else None


def _short(text: str | None, chars_max: int) -> str | None:
    """One line without blanks around it; None if nothing is left."""
    if text is None:
        return None
    return " ".join(text[: 4 * chars_max].split())[:chars_max].rstrip() or None


def _channel(channel: wire.Channel | None) -> inputs.Channel | None:
    if channel is None:
        return None
    type_ = _short(channel.type, wire.CHANNEL_TYPE_CHARS_MAX)
    return inputs.Channel(id=_id(channel.id, "data.channel.id"), type=type_)


def _known(names: Any) -> dict[str, Any]:
    return {name: name for name in get_args(names)}


_OPENED_BY: Final[dict[str, inputs.OpenedBy]] = _known(inputs.OpenedBy)
_KINDS: Final[dict[str, inputs.MessageKind]] = _known(inputs.MessageKind)
_SENDERS: Final[dict[str, inputs.Sender]] = _known(inputs.Sender)
_PRESENCE: Final[dict[str, inputs.PresenceStatus]] = _known(inputs.PresenceStatus)


def _opened(data: wire.ConversationOpened, time_ms: int) -> inputs.Opened:
    return inputs.Opened(
        email=_email(data.contact.email),
        name=_short(data.contact.name, wire.NAME_CHARS_MAX),
        language=_short(data.contact.language, wire.LANGUAGE_CHARS_MAX),
        channel=_channel(data.channel),
        opened_by="contact" if data.opened_by is None else _OPENED_BY.get(data.opened_by, "other"),
        message=None if data.message is None else _opening_message(data.message, time_ms),
        agent=_id(data.agent, "data.agent"),
    )


def _opening_message(message: wire.FirstMessage, time_ms: int) -> inputs.OpeningMessage:
    sent_at = message.sent_at
    return inputs.OpeningMessage(
        id=_id(message.id, "data.message.id"),
        text=message.text,
        sent_at_ms=time_ms if sent_at is None else checked_time(sent_at, "data.message.sent_at", "bad-data"),
    )


def _message(data: wire.MessageReceived, time_ms: int) -> inputs.MessageReceived:
    sent_at = data.sent_at
    return inputs.MessageReceived(
        message_id=_id(data.message_id, "data.message_id"),
        text=data.text,
        kind="text" if data.kind is None else _KINDS.get(data.kind, "other"),
        sent_at_ms=time_ms if sent_at is None else checked_time(sent_at, "data.sent_at", "bad-data"),
        sender="contact" if data.sender is None else _SENDERS.get(data.sender, "other"),
        agent=_id(data.agent, "data.agent"),
    )


def _contact_updated(data: wire.ContactUpdated, _time_ms: int) -> inputs.ContactUpdated:
    contact = data.contact
    email: str | UnsetType | None = contact.email
    if isinstance(email, str):
        email = _email(email) or UNSET  # a slip of the pen in the contact's record must not erase a good address
    return inputs.ContactUpdated(
        email=email,
        name=UNSET if contact.name is UNSET else _short(contact.name, wire.NAME_CHARS_MAX),
        language=UNSET if contact.language is UNSET else _short(contact.language, wire.LANGUAGE_CHARS_MAX),
    )


def _assignee_changed(data: wire.AssigneeChanged, _time_ms: int) -> inputs.AssigneeChanged:
    return inputs.AssigneeChanged(agent=_id(data.agent, "data.agent"), team=_id(data.team, "data.team"))


def _closed(data: wire.ConversationClosed, _time_ms: int) -> inputs.Closed:
    return inputs.Closed(reason=_short(data.reason, wire.REASON_CHARS_MAX))


def _reply_failed(data: wire.ReplyFailed, _time_ms: int) -> inputs.ReplyFailed:
    reply = plain_id(data.reply, "data.reply", "bad-data")
    return inputs.ReplyFailed(reply=reply, reason=_short(data.reason, wire.REASON_CHARS_MAX) or "")


def _crm_answered(data: wire.CrmAnswered, _time_ms: int) -> inputs.CrmAnswered:
    return inputs.CrmAnswered(
        lookup_id=data.lookup_id,
        status=data.status,
        variables=data.variables,
        personal_variables=data.personal_variables,
        attempts=data.attempts,
        latency_ms=data.latency_ms,
        age_ms=data.age_ms,
    )


def _crm_failed(data: wire.CrmFailed, _time_ms: int) -> inputs.CrmFailed:
    return inputs.CrmFailed(lookup_id=data.lookup_id, reason=data.reason, status=data.status, attempts=data.attempts)


def _agent_updated(data: wire.AgentUpdated) -> inputs.AgentUpdated:
    return inputs.AgentUpdated(
        name=_short(data.name, wire.NAME_CHARS_MAX),
        email=_short(data.email, EMAIL_CHARS_MAX),
        teams=tuple(dict.fromkeys(plain_id(team, "data.teams", "bad-data") for team in data.teams)),
        max_open=data.max_open,
        weight=data.weight,
        languages=_languages(data.languages),
        skills=tuple(dict.fromkeys(plain_id(skill, "data.skills", "bad-data") for skill in data.skills)),
        wrap_up_ms=None if data.wrap_up_s is None else data.wrap_up_s * 1000,
    )


def _languages(tags: list[str]) -> tuple[str, ...]:
    shown = (_short(tag, wire.LANGUAGE_CHARS_MAX) for tag in tags)
    return tuple(dict.fromkeys(tag for tag in shown if tag is not None))


def _presence(data: wire.AgentPresence) -> inputs.AgentPresence:
    return inputs.AgentPresence(status=_PRESENCE.get(data.status, "other"))


def _removed(_data: wire.AgentRemoved) -> inputs.AgentRemoved:
    return inputs.AgentRemoved()


def _accepted(data: wire.OfferAnswered) -> inputs.AssignmentAccepted:
    return inputs.AssignmentAccepted(**_offer(data))


def _declined(data: wire.OfferAnswered) -> inputs.AssignmentDeclined:
    return inputs.AssignmentDeclined(**_offer(data))


def _offer(data: wire.OfferAnswered) -> dict[str, str]:
    return {
        "conversation": plain_id(data.conversation, "data.conversation", "bad-data"),
        "contact": plain_id(data.contact.id, "data.contact.id", "bad-data"),
        "token": plain_id(data.token, "data.token", "bad-data"),
    }


def _requested(data: wire.AssignmentRequest) -> inputs.AssignmentRequested:
    return inputs.AssignmentRequested(
        route=data.route,
        route_reason=data.route_reason,
        target=data.target,
        escalation=data.escalation,
        variables=data.variables,
        policy=data.policy,
        language=data.language,
        channel=_channel(data.channel),
        join=data.join,
    )


def _ended(data: wire.AssignmentEnd) -> inputs.AssignmentEnded:
    return inputs.AssignmentEnded(reason=data.reason)


def _refused(data: wire.AssignmentEnd) -> inputs.AssignmentRefused:
    return inputs.AssignmentRefused(reason=data.reason)


def _taken(data: wire.AssignmentTake) -> inputs.AssignmentTaken:
    return inputs.AssignmentTaken(agent=data.agent, team=data.team, fallback=data.fallback)


CONVERSATION_EVENTS: Final[dict[str, Conversational]] = {
    "conversation.opened": Conversational(wire.ConversationOpened, _opened),
    "message.received": Conversational(wire.MessageReceived, _message),
    "contact.updated": Conversational(wire.ContactUpdated, _contact_updated),
    "assignee.changed": Conversational(wire.AssigneeChanged, _assignee_changed),
    "conversation.closed": Conversational(wire.ConversationClosed, _closed),
    "reply.failed": Conversational(wire.ReplyFailed, _reply_failed),
}
CRM_ANSWERS: Final[dict[str, Conversational]] = {
    "crm.answered": Conversational(wire.CrmAnswered, _crm_answered),
    "crm.failed": Conversational(wire.CrmFailed, _crm_failed),
}
AGENT_EVENTS: Final[dict[str, Workspace]] = {
    "agent.updated": Workspace(wire.AgentUpdated, _agent_updated),
    "agent.presence": Workspace(wire.AgentPresence, _presence),
    "agent.removed": Workspace(wire.AgentRemoved, _removed),
    "assignment.accepted": Workspace(wire.OfferAnswered, _accepted),
    "assignment.declined": Workspace(wire.OfferAnswered, _declined),
}
REQUESTS: Final[dict[str, Workspace]] = {
    "assignment.requested": Workspace(wire.AssignmentRequest, _requested),
    "assignment.ended": Workspace(wire.AssignmentEnd, _ended),
    "assignment.taken": Workspace(wire.AssignmentTake, _taken),
    "assignment.refused": Workspace(wire.AssignmentEnd, _refused),
}
