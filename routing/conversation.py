"""What a conversation does next.

``decide`` turns an input into at most one log record, ``follow_up`` into what follows from that for the contact's
other conversations. Both are pure: time arrives as ``now_ms``, never from a clock, so that a replay decides the same.
States and transitions are the table's business (``machine.py``), folding a record is ``contact.py``'s.
The rules are those of the design's "How conversations behave".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from routing.closed import tell_if_closed
from routing.conditions import matches
from routing.contact import Contact, Conversation, event_key
from routing.decider import Decision, Policies
from routing.facts import Facts
from routing.inputs import (
    AssigneeChanged,
    Closed,
    ContactUpdated,
    CrmAnswered,
    CrmFailed,
    DeadlinePassed,
    Event,
    MessageReceived,
    Opened,
    ReplyFailed,
)
from routing.messages import address_known, message
from routing.opening import joined, opened, starts_alone
from routing.policy import Policy
from routing.routes import request as route_request
from routing.steps import (
    ROUTES,
    ask_crm_late,
    escalated,
    find,
    ignored,
    next_state,
    take,
    transition,
    waiting_for,
    why_not_open,
)


def decide(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    """The record that ``event`` leads to; None if it leads to none.

    Raises ``InputRefusedError`` for an input that belongs to no conversation.
    """
    return _CASES[type(event.body)](contact, event, policies, now_ms)


def follow_up(contact: Contact, policies: Policies, now_ms: int) -> Decision | None:
    """What is still to be done for the contact's conversations once a record was evolved; None: nothing.

    A conversation that asks for an address which is known by now goes on, and one that joined another follows it.
    """
    for name in contact.open:
        conversation = contact.conversations[name]
        if conversation.is_asking and contact.email is not None:
            return address_known(contact, conversation, policies, now_ms)
        if conversation.is_waiting_to_join:
            first = contact.conversations[str(conversation.join)]
            if first.state in ROUTES:
                return joined(contact, conversation, first, policies)
            if not first.is_open:
                return starts_alone(contact, conversation, policies, now_ms)
    return None


def _contact_updated(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    body = event.body
    assert isinstance(body, ContactUpdated)
    if event_key(event) in contact.seen:
        return None
    told, personal = body.split()
    pii = {name: value for name, value in personal.items() if value != getattr(contact, name)}
    data: dict[str, Any] = {}
    if "language" in told and told["language"] != contact.language:
        data["language"] = told["language"]
    if not pii and not data:
        return None
    return Decision(
        type="contact.changed", contact=contact.id, subject=None, seq=contact.seq + 1, prev=contact.hash,
        policy=None, data=data, pii=pii, more=bool(contact.open),
    )  # fmt: skip


def _open_and_new(contact: Contact, event: Event) -> Conversation | Decision:
    """The open conversation that an event concerns, if it is no copy; else the record that says why it is ignored."""
    conversation = find(contact, event)
    if conversation is None or not conversation.is_open:
        return ignored(contact, conversation, event, why_not_open(conversation))
    if event_key(event) in conversation.seen:
        return ignored(contact, conversation, event, "duplicate")
    return conversation


def _assignee_changed(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision:
    body = event.body
    assert isinstance(body, AssigneeChanged)
    conversation = _open_and_new(contact, event)
    if isinstance(conversation, Decision):
        return conversation
    return take(contact, conversation, event, policies, body.agent, body.team)


def _closed(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision:
    body = event.body
    assert isinstance(body, Closed)
    conversation = _open_and_new(contact, event)
    if isinstance(conversation, Decision):
        return conversation
    policy = policies.pinned(str(conversation.policy))
    return _ended(contact, conversation, policy, "close", body.reason or "closed", event.time_ms)


def _ended(
    contact: Contact, conversation: Conversation, policy: Policy, event: str, reason: str, closed_ms: int
) -> Decision:
    adds: dict[str, Any] = {
        "from": conversation.state,
        "to": next_state(policy, conversation, event, Facts()),
        "reason": reason,
        "closed_ms": closed_ms,
    }
    if conversation.state in ROUTES:
        adds["request"] = {"type": "assignment.ended", "reason": reason}
    return transition("conversation.ended", contact, conversation, policy, adds)


def _reply_failed(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision:
    body = event.body
    assert isinstance(body, ReplyFailed)
    conversation = find(contact, event)
    if conversation is None or not conversation.is_open:
        return ignored(contact, conversation, event, why_not_open(conversation))
    if not conversation.is_asking or conversation.deadline is None:
        return ignored(contact, conversation, event, "reply-not-current")
    if body.reply.split("/")[-2:-1] != [str(conversation.deadline.seq)]:
        return ignored(contact, conversation, event, "reply-not-current")
    policy = policies.pinned(str(conversation.policy))
    return escalated(
        contact, conversation, policy, "email.unreachable", "unreachable", Facts(), "unreachable", now_ms=now_ms
    )


def _crm_answered(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    body = event.body
    assert isinstance(body, CrmAnswered)
    conversation = waiting_for(contact, event, body.lookup_id)
    if conversation is None:
        return None
    policy = policies.pinned(str(conversation.policy))
    language = policy.language(contact.language)
    variables = {
        **body.variables,
        "crm_status": body.status,
        "email_source": conversation.email_source,
        "channel_type": None if conversation.channel is None else conversation.channel.type,
        "language": language,
    }
    unknown = body.status == 404 and policy.crm.not_found == "regular"  # noqa: PLR2004 - HTTP's "not found"
    vip = not unknown and matches(policy.branch_vip, {**variables, **body.personal_variables})
    is_late = conversation.deadline is None
    to = next_state(policy, conversation, "crm_late" if is_late else "crm_answered", Facts(vip=vip))
    adds: dict[str, Any] = {"from": conversation.state, "to": to, "vip": vip}
    if is_late:
        adds["late"] = True
    if vip or not is_late:  # a late answer that changes nothing is only recorded
        adds["request"] = route_request(
            policy,
            ROUTES[to],
            "late-vip" if is_late else "vip" if vip else "not-vip",
            language=language,
            channel=conversation.channel,
            variables=variables,
            personal=body.personal_variables,
        )
    pii: dict[str, Any] = {}
    if not is_late:
        tell_if_closed(
            policy, adds, pii, attempt=conversation.attempt, language=language, name=contact.name, now_ms=now_ms
        )
    return transition("crm.resolved", contact, conversation, policy, adds, pii)


def _crm_failed(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    body = event.body
    assert isinstance(body, CrmFailed)
    conversation = waiting_for(contact, event, body.lookup_id)
    if conversation is None or conversation.deadline is None:  # one that was kept trying has failed once more
        return None
    return _unresolved(contact, conversation, policies, body.reason, now_ms)


def _unresolved(contact: Contact, conversation: Conversation, policies: Policies, reason: str, now_ms: int) -> Decision:
    policy = policies.pinned(str(conversation.policy))
    facts = Facts(failure_escalates=policy.crm.on_failure == "escalated")
    decision = escalated(
        contact, conversation, policy, "crm.unresolved", "crm_failed", facts, "crm-failed", now_ms=now_ms, why=reason
    )
    if policy.crm.late_ms is None or contact.email is None:
        return decision
    asked = ask_crm_late(conversation.id, conversation.seq, policy.crm.late_ms, now_ms)
    return replace(decision, data={**decision.data, "lookup": asked}, pii={**decision.pii, "email": contact.email})


def _deadline(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    body = event.body
    assert isinstance(body, DeadlinePassed)
    conversation = contact.conversations.get(str(event.conversation))
    if conversation is None or not conversation.is_open:
        return None
    if body.kind == "forget":
        if body.seq != conversation.heard_seq:
            return None
        policy = policies.pinned(str(conversation.policy))
        return _ended(contact, conversation, policy, "forget", "forgotten", now_ms)
    deadline = conversation.deadline
    if deadline is None or (deadline.kind, deadline.seq) != (body.kind, body.seq):
        return None
    if deadline.kind == "crm":
        return _unresolved(contact, conversation, policies, "deadline", now_ms)
    policy = policies.pinned(str(conversation.policy))
    return escalated(
        contact, conversation, policy, "email.timed-out", "time_out", Facts(), "no-answer", now_ms=now_ms, tell=True
    )


_CASES: Final[dict[type, Callable[[Contact, Event, Policies, int], Decision | None]]] = {
    Opened: opened,
    MessageReceived: message,
    ContactUpdated: _contact_updated,
    AssigneeChanged: _assignee_changed,
    Closed: _closed,
    ReplyFailed: _reply_failed,
    CrmAnswered: _crm_answered,
    CrmFailed: _crm_failed,
    DeadlinePassed: _deadline,
}
