"""What a message does: an answer while we ask, and later hardly anything.

The text was read before (``Contacts.read``): here stands only what was found in it.
"""

from __future__ import annotations

from typing import Final

from routing.contact import Contact, Conversation, event_key, has_message
from routing.decider import Decision, Policies
from routing.facts import Facts
from routing.inputs import Event, MessageReceived
from routing.policy import Policy
from routing.steps import (
    ROUTES,
    ask_crm,
    compose,
    escalated,
    find,
    ignored,
    next_state,
    take,
    transition,
)

HEARD_PARTS: Final = 10  #: a message after routing makes a record at most once in a tenth of ``forget_after``
INVALID_REASONS: Final = {"none": "no-address", "two": "two-addresses", "no-text": "no-text"}


def message(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision | None:
    """A message was received."""
    body = event.body
    assert isinstance(body, MessageReceived)
    conversation = find(contact, event)
    if conversation is None or (conversation.state is None and not conversation.refused):
        return ignored(contact, conversation, event, "not-opened", email=body.answer_email)
    if not conversation.is_open:
        return None if conversation.refused else ignored(contact, conversation, event, "closed")
    if conversation.is_asking:
        return _message_while_asking(contact, conversation, event, body, policies, now_ms)
    if conversation.state in ROUTES:
        return _message_after_routing(contact, conversation, event, body, now_ms)
    reason = "joined" if conversation.is_waiting_to_join else "looking-up"
    return ignored(contact, conversation, event, reason, email=body.answer_email)


def _message_after_routing(
    contact: Contact, conversation: Conversation, event: Event, body: MessageReceived, now_ms: int
) -> Decision | None:
    """Later messages are only counted, but for an address not known yet, and now and then to say that it is alive."""
    if body.answer_email is not None and contact.email is None:
        return ignored(contact, conversation, event, "routed", email=body.answer_email)
    if (now_ms - conversation.heard_ms) * HEARD_PARTS >= conversation.forget_after_ms:
        return ignored(contact, conversation, event, "heard")
    return None


def _message_while_asking(
    contact: Contact,
    conversation: Conversation,
    event: Event,
    body: MessageReceived,
    policies: Policies,
    now_ms: int,
) -> Decision:
    if event_key(event) in conversation.seen:
        return ignored(contact, conversation, event, "duplicate")
    if body.sender == "agent":
        return take(contact, conversation, event, policies, body.agent, None)
    if body.sender != "contact":
        return ignored(contact, conversation, event, f"from-{body.sender}")
    policy = policies.pinned(str(conversation.policy))
    found = "none" if body.answer is None else body.answer.found
    if found == "address" and body.answer_email is not None:
        return _accepted(contact, conversation, policy, body.answer_email, now_ms)
    if body.kind == "reaction":
        return ignored(contact, conversation, event, "reaction")
    if has_message(conversation, body):
        return ignored(contact, conversation, event, "edited")
    if found == "stop":
        return escalated(
            contact, conversation, policy, "email.rejected", "answer", Facts(stop_word=True), "asked",
            now_ms=now_ms,
        )  # fmt: skip
    if policy.email.grace_ms > 0 and body.sent_at_ms <= conversation.asked_at_ms + policy.email.grace_ms:
        return ignored(contact, conversation, event, "grace")
    return _rejected(contact, conversation, policy, INVALID_REASONS[found], now_ms)


def _accepted(contact: Contact, conversation: Conversation, policy: Policy, email: str, now_ms: int) -> Decision:
    """An answer with an address: thank, tell whoever keeps the contact's record, and look him up."""
    to = next_state(policy, conversation, "answer", Facts(address=True))
    language = policy.language(contact.language)
    reply, pii = compose(policy, "success", conversation.attempt, language, contact.name, now_ms)
    adds = {
        "from": conversation.state,
        "to": to,
        "email_source": "answer",
        "captured": True,
        "language": language,
        "reply": reply,
        "lookup": ask_crm(conversation.id, conversation.seq, policy, now_ms),
    }
    return transition("email.accepted", contact, conversation, policy, adds, {"email": email, **pii})


def _rejected(contact: Contact, conversation: Conversation, policy: Policy, reason: str, now_ms: int) -> Decision:
    """An invalid answer: ask again, or hand over after the last attempt."""
    to = next_state(policy, conversation, "answer", Facts())
    if to == "escalated":
        return escalated(
            contact, conversation, policy, "email.rejected", "answer", Facts(), "invalid-answers",
            now_ms=now_ms, why=reason, tell=True,
        )  # fmt: skip
    language = policy.language(contact.language)
    reply, pii = compose(policy, "retry", conversation.attempt + 1, language, contact.name, now_ms)
    adds = {"from": conversation.state, "to": to, "reason": reason, "language": language, "reply": reply}
    return transition("email.rejected", contact, conversation, policy, adds, pii)


def address_known(contact: Contact, conversation: Conversation, policies: Policies, now_ms: int) -> Decision:
    """The address came another way (the contact's record, another conversation): nobody is thanked."""
    policy = policies.pinned(str(conversation.policy))
    adds = {
        "from": conversation.state,
        "to": next_state(policy, conversation, "email_known", Facts()),
        "email_source": "record",
        "language": policy.language(contact.language),
        "lookup": ask_crm(conversation.id, conversation.seq, policy, now_ms),
    }
    return transition("email.accepted", contact, conversation, policy, adds, {"email": contact.email})
