"""The pieces that every rule of a conversation is made of: finding it, stepping through the table, building records."""

from __future__ import annotations

from typing import Any, Final

from msgspec import to_builtins

from routing.closed import tell_if_closed
from routing.contact import Contact, Conversation, event_key
from routing.decider import Decision, Policies
from routing.errors import InputRefusedError
from routing.facts import Facts
from routing.inputs import Event, RouteName
from routing.policy import MessageName, Policy
from routing.routes import request as route_request
from routing.table import table_for

ROUTES: Final[dict[str, RouteName]] = {"routed-vip": "vip", "routed-regular": "regular", "escalated": "escalated"}


def find(contact: Contact, event: Event) -> Conversation | None:
    """The conversation that an event names; the contact's latest open one if it names none.

    A copy of one that names none concerns the conversation that it concerned at first, not one opened since.
    """
    if event.conversation is not None:
        return contact.conversations.get(event.conversation)
    key = event_key(event)
    for conversation in contact.conversations.values():
        if key in conversation.seen:
            return conversation
    if not contact.open:
        raise InputRefusedError(
            "no-open-conversation", "no subject, and the contact has no open conversation: name one in subject"
        )
    return contact.conversations[contact.open[-1]]


def waiting_for(contact: Contact, event: Event, lookup_id: str) -> Conversation | None:
    """The conversation that waits for this look-up, or would still like to know its late answer, if any does."""
    conversation = contact.conversations.get(str(event.conversation))
    if conversation is None:
        return None
    deadline = conversation.deadline
    seq = deadline.seq if deadline is not None and deadline.kind == "crm" else conversation.late_seq
    return conversation if seq and lookup_id == f"{conversation.id}/{seq}" else None


def why_not_open(conversation: Conversation | None) -> str:
    """The reason code for an input that needs an open conversation."""
    if conversation is None or conversation.state is None:
        return "not-opened"
    return "not-routed" if conversation.refused else "closed"


def next_state(policy: Policy, conversation: Conversation, event: str, facts: Facts) -> str:
    """Where the table leads; raises ``TransitionError`` if it leads nowhere."""
    return table_for(policy.email.retries).step(str(conversation.state), event, facts)


def last_seq(conversation: Conversation | None) -> int:
    """The ``seq`` of the last record; 0 before the first."""
    return 0 if conversation is None else conversation.seq


def ask_crm(conversation_id: str, seq: int, policy: Policy, now_ms: int) -> dict[str, Any]:
    """The look-up that the next record asks for; its id names that record."""
    return {"id": f"{conversation_id}/{seq + 1}", "deadline_ms": now_ms + policy.crm.deadline_ms}


def ask_crm_late(conversation_id: str, seq: int, late_ms: int, now_ms: int) -> dict[str, Any]:
    """A look-up that failed, to be kept trying while the conversation goes on without its answer."""
    return {"id": f"{conversation_id}/{seq + 1}", "deadline_ms": now_ms + late_ms, "late": True}


def compose(
    policy: Policy, kind: MessageName, attempt: int, language: str, name: str | None, now_ms: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A message to the contact: what is public of it, and its text. An empty text is not sent."""
    public: dict[str, Any] = {"kind": kind, "attempt": attempt}
    if kind in {"ask", "retry"}:
        public["expires_ms"] = now_ms + policy.email.answer_timeout_ms
    text_attempt = attempt - 1 if kind == "retry" else attempt
    text = policy.message(kind, language=language, attempt=text_attempt, name=name)
    return public, {"reply": text} if text else {}


def request_owner(
    contact: Contact,
    conversation: Conversation,
    policy: Policy,
    route: RouteName,
    reason: str,
    *,
    join: str | None = None,
) -> dict[str, Any]:
    """The ``assignment.requested`` of a conversation, for a route that needs no variables."""
    return route_request(
        policy,
        route,
        reason,
        language=policy.language(contact.language),
        channel=conversation.channel,
        join=join,
    )


def taken_request(agent: str | None, team: str | None, fallback: dict[str, Any]) -> dict[str, Any]:
    """An ``assignment.taken``; ``fallback`` is where it queues when it is released and has no route yet."""
    values: dict[str, Any] = {"type": "assignment.taken", "agent": agent, "fallback": fallback}
    if team is not None:
        values["team"] = team
    return values


def escalated(
    contact: Contact,
    conversation: Conversation,
    policy: Policy,
    type: str,
    event: str,
    facts: Facts,
    reason: str,
    *,
    now_ms: int,
    why: str | None = None,
    tell: bool = False,
) -> Decision:
    """A transition that ends the asking or the look-up and asks for an owner. ``tell``: the contact is told so."""
    to = next_state(policy, conversation, event, facts)
    adds: dict[str, Any] = {"from": conversation.state, "to": to, "reason": why or reason}
    pii: dict[str, Any] = {}
    language = policy.language(contact.language)
    if tell:
        adds["language"] = language
        adds["reply"], pii = compose(policy, "escalated", conversation.attempt, language, contact.name, now_ms)
    adds["request"] = request_owner(contact, conversation, policy, ROUTES[to], reason)
    tell_if_closed(policy, adds, pii, attempt=conversation.attempt, language=language, name=contact.name, now_ms=now_ms)
    return transition(type, contact, conversation, policy, adds, pii)


def transition(
    type: str,
    contact: Contact,
    conversation: Conversation,
    policy: Policy,
    adds: dict[str, Any],
    pii: dict[str, Any] | None = None,
) -> Decision:
    """A record that moves an open conversation. One that is to be told to the contact says over which channel."""
    if ("reply" in adds or "closed" in adds) and conversation.channel is not None:
        adds["channel"] = to_builtins(conversation.channel)
    more = len(contact.open) > 1
    return make_record(type, contact, conversation.id, conversation, adds, pii, policy=policy.version, more=more)


def ignored(
    contact: Contact, conversation: Conversation | None, event: Event, reason: str, *, email: str | None = None
) -> Decision:
    """A record that says why an input has no effect. An address seen in it is remembered for the contact."""
    new = email is not None and contact.email is None
    return make_record(
        "input.ignored",
        contact,
        str(event.conversation if conversation is None else conversation.id),
        conversation,
        {"reason": reason},
        {"email": email} if new else {},
        policy=None if conversation is None else conversation.policy,
        more=new and bool(contact.open),
    )


def make_record(
    type: str,
    contact: Contact,
    subject: str,
    before: Conversation | None,
    data: dict[str, Any],
    pii: dict[str, Any] | None = None,
    *,
    policy: str | None,
    run: int | None = None,
    more: bool = False,
) -> Decision:
    """The next record of ``subject``, chained to the one before it."""
    if run is None:
        run = 0 if before is None else before.run
    return Decision(
        type=type, contact=contact.id, subject=subject, run=run, seq=last_seq(before) + 1,
        prev=None if before is None else before.hash, policy=policy, data=data, pii=pii or {}, more=more,
    )  # fmt: skip


def take(
    contact: Contact, conversation: Conversation, event: Event, policies: Policies, agent: str | None, team: str | None
) -> Decision:
    """A person takes the conversation, or releases it: what was being asked or looked up is over."""
    if agent is None and conversation.state not in ROUTES:
        return ignored(contact, conversation, event, "not-assigned")
    policy = policies.pinned(str(conversation.policy))
    fallback = request_owner(contact, conversation, policy, "escalated", "taken")
    adds = {
        "from": conversation.state,
        "to": next_state(policy, conversation, "take", Facts()),
        "agent": agent,
        "request": taken_request(agent, team, fallback),
    }
    return transition("conversation.taken", contact, conversation, policy, adds)
