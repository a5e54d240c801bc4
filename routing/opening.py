"""How a conversation begins: taken or not, owned already, joining another, or asking on its own."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, to_builtins

from routing.closed import tell_if_closed
from routing.contact import Contact, Conversation, event_key
from routing.decider import Decision, Policies
from routing.facts import Facts
from routing.inputs import Channel, Event, Opened
from routing.policy import MessageName, Policy
from routing.routes import request as route_request
from routing.steps import (
    ROUTES,
    ask_crm,
    compose,
    ignored,
    last_seq,
    make_record,
    next_state,
    request_owner,
    taken_request,
    transition,
)
from routing.table import table_for


def opened(contact: Contact, event: Event, policies: Policies, now_ms: int) -> Decision:
    """A conversation was opened."""
    body = event.body
    assert isinstance(body, Opened)
    assert event.conversation is not None
    conversation = contact.conversations.get(event.conversation)
    if conversation is not None and (reason := _not_new(conversation, event)) is not None:
        return ignored(contact, conversation, event, reason)
    policy = policies.current(event.workspace)
    if body.agent is None and (reason := _not_taken(contact, body, policy)) is not None:
        refusal = {"type": "assignment.refused", "reason": reason}
        adds = {"reason": reason, "to": "closed", "closed_ms": event.time_ms, "request": refusal}
        return make_record("input.ignored", contact, event.conversation, conversation, adds, policy=policy.version)
    first = _first_open(contact) if policy.trigger.one_open_per_contact and body.agent is None else None
    email = body.email or contact.email
    answered = email is None and body.answer_email is not None
    start = _Start(
        contact=contact,
        id=event.conversation,
        before=conversation,
        run=(0 if conversation is None else conversation.run) + 1,
        policy=policy,
        channel=body.channel,
        language=policy.language(body.language or contact.language),
        name=body.name or contact.name,
        now_ms=now_ms,
    )
    if body.agent is not None:
        return start.owned(body.agent, email)
    if first is not None:
        return start.joining(first, email or body.answer_email)
    return start.alone(body.answer_email if answered else email, answered=answered)


def _not_new(conversation: Conversation, event: Event) -> str | None:
    """Why this opening starts nothing; None if it does."""
    if event_key(event) in conversation.openings:
        return "duplicate"
    if conversation.is_open:
        return "already-open"
    if conversation.closed_ms is not None and event.time_ms <= conversation.closed_ms:
        return "before-close"
    return None


def _not_taken(contact: Contact, body: Opened, policy: Policy) -> str | None:
    """Why the trigger does not take this conversation; None if it does."""
    if body.opened_by not in policy.trigger.opened_by:
        return f"opened-by-{body.opened_by}"
    if policy.trigger.once_per_contact and contact.taken:
        return "once-per-contact"
    return None


def _first_open(contact: Contact) -> Conversation | None:
    """The conversation that a new one joins."""
    for name in contact.open:
        conversation = contact.conversations[name]
        if not conversation.is_waiting_to_join:
            return conversation
    return None


class _Start(Struct, frozen=True, kw_only=True):
    """A conversation that begins: what is known, and the record for each way to begin."""

    contact: Contact
    id: str
    before: Conversation | None
    run: int
    policy: Policy
    channel: Channel | None
    language: str
    name: str | None
    now_ms: int

    def owned(self, agent: str, email: str | None) -> Decision:
        """Somebody has it already: it is counted, not routed."""
        to = self._step("open", Facts(owned=True))
        return self._started(to, email, {"request": self._taken(agent)})

    def joining(self, first: Conversation, email: str | None) -> Decision:
        """The contact has an open conversation: this one follows it."""
        to = self._step("join", facts_of_first(first))
        adds: dict[str, Any] = {"join": first.id}
        if to in ROUTES:
            adds["request"] = self._request(to, "joined", join=first.id)
        return self._started(to, email, adds)

    def alone(self, email: str | None, *, answered: bool) -> Decision:
        """It goes through the workflow by itself. ``answered``: the address stood in the opening message."""
        askable = self.channel is None or self.channel.type not in self.policy.email.skip_channels
        to = self._step("open", Facts(email_known=email is not None, askable=askable))
        if email is not None:
            adds: dict[str, Any] = {"email_source": "answer" if answered else "record", "lookup": self._lookup()}
            if not answered:
                return self._started(to, email, adds)
            return self._started(to, email, {**adds, "captured": True}, kind="success")
        if not askable:
            return self._started(to, None, {"request": self._request(to, "unreachable")})
        return self._started(to, None, {}, kind="ask", attempt=1)

    def _step(self, event: str, facts: Facts) -> str:
        return table_for(self.policy.email.retries).step("opened", event, facts)

    def _lookup(self) -> dict[str, Any]:
        return ask_crm(self.id, last_seq(self.before), self.policy, self.now_ms)

    def _request(self, to: str, reason: str, *, join: str | None = None) -> dict[str, Any]:
        return route_request(
            self.policy,
            ROUTES[to],
            reason,
            language=self.language,
            channel=self.channel,
            join=join,
        )

    def _taken(self, agent: str) -> dict[str, Any]:
        return taken_request(agent, None, self._request("escalated", "taken"))

    def _started(
        self,
        to: str,
        email: str | None,
        adds: dict[str, Any],
        *,
        kind: MessageName | None = None,
        attempt: int = 0,
    ) -> Decision:
        data: dict[str, Any] = {
            "from": "opened",
            "to": to,
            "language": self.language,
            "forget_after_ms": self.policy.workflow.forget_after_ms,
            **adds,
        }
        if self.channel is not None:
            data["channel"] = to_builtins(self.channel)
        pii: dict[str, Any] = {}
        tell_if_closed(
            self.policy, data, pii, attempt=attempt, language=self.language, name=self.name, now_ms=self.now_ms
        )
        if kind is not None:
            data["reply"], pii = compose(self.policy, kind, attempt, self.language, self.name, self.now_ms)
        if email is not None:
            pii["email"] = email
        return make_record(
            "conversation.started", self.contact, self.id, self.before, data, pii,
            policy=self.policy.version, run=self.run, more=bool(self.contact.open),
        )  # fmt: skip


def facts_of_first(first: Conversation) -> Facts:
    """What the conversation that is joined says about the one that joins it."""
    return Facts(
        first_vip=first.state == "routed-vip",
        first_regular=first.state == "routed-regular",
        first_escalated=first.state == "escalated",
    )


def joined(contact: Contact, conversation: Conversation, first: Conversation, policies: Policies) -> Decision:
    """The conversation that this one waited for was routed: it goes the same way, to the same owner."""
    policy = policies.pinned(str(conversation.policy))
    to = next_state(policy, conversation, "join", facts_of_first(first))
    adds = {
        "from": conversation.state,
        "to": to,
        "join": first.id,
        "request": request_owner(contact, conversation, policy, ROUTES[to], "joined", join=first.id),
    }
    return transition("conversation.joined", contact, conversation, policy, adds)


def starts_alone(contact: Contact, conversation: Conversation, policies: Policies, now_ms: int) -> Decision:
    """The conversation that this one waited for ended before it was routed: this one begins, or joins another."""
    policy = policies.pinned(str(conversation.policy))
    start = _Start(
        contact=contact,
        id=conversation.id,
        before=conversation,
        run=conversation.run,
        policy=policy,
        channel=conversation.channel,
        language=policy.language(contact.language),
        name=contact.name,
        now_ms=now_ms,
    )
    first = _first_open(contact)
    if first is not None:
        return start.joining(first, contact.email)
    return start.alone(contact.email, answered=False)
