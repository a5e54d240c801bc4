"""Planted omissions in the deciders: rules of P1 to P3 left out. See ``omissions.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from consumers.specs import ASSIGNER
from events.decode import decode_request
from events.ids import parse_event_id
from events.log import StoredRecord
from events.topics import ASSIGNMENT_REQUESTS
from routing import assignment as assignment_module
from routing import contact as contact_module
from routing import conversation as conversation_module
from routing import messages as messages_module
from routing import offers as offers_module
from routing import steps as steps_module
from routing import workspace_parts, workspace_records
from routing.desk_agents import Agent
from routing.desk_hours import DeskHours
from routing.facts import Facts
from routing.hours import Clock
from routing.inputs import CrmAnswered, CrmFailed, DeadlinePassed, Event
from routing.pools import Pools
from routing.workspace_index import Desk
from routing.workspace_parts import Routing
from tests.simulation.omissions import BUSY, Omission, omission
from tests.simulation.omitted_appends import APPEND_OMISSIONS
from tests.simulation.omitted_outputs import OUTPUT_OMISSIONS
from tests.simulation.world import HOURS_POLICY


def forget_ids() -> Any:
    """The state does not remember the ids of inputs that took effect."""
    return patch.object(contact_module, "_seen", lambda *_: ())


def dedupe_by_seq_alone() -> Any:
    """The assigner compares the conversation's ``seq`` instead of the place in the router's log."""

    def decode(record: StoredRecord) -> Event:
        event = decode_request(record)
        assert event.origin is not None
        return replace(event, origin=replace(event.origin, offset=parse_event_id(event.cause.id).seq))

    return patch.dict(ASSIGNER.decoders, {ASSIGNMENT_REQUESTS: decode})


def take_requests_twice() -> Any:
    """The assigner does not know which requests it has had."""
    return patch.object(Desk, "is_new", lambda *_: True)


def no_cap() -> Any:
    """Nobody is ever full."""

    def hindrance(self: Agent, *, only_online: bool) -> str | None:
        return self.presence if only_online and self.presence != "online" else None

    return patch.object(Agent, "hindrance", hindrance)


def youngest_first() -> Any:
    """Those who came last are served first."""
    place = property(lambda self: (workspace_parts.RANKS[self.route], -self.since_ms, -self.order))
    return patch.object(Routing, "place", place)


def no_urgency() -> Any:
    """VIP, escalated and regular wait in one line."""
    return patch.dict(workspace_parts.RANKS, dict.fromkeys(workspace_parts.RANKS, 0))


def never_drained() -> Any:
    """Who waits is not served when somebody becomes free."""
    return patch.object(Pools, "_note", lambda *_: None)


@contextmanager
def leave_the_table() -> Iterator[None]:
    """A rejected answer leads where the machine has no transition to."""
    real = steps_module.next_state

    def next_state(policy: Any, conversation: Any, event: str, facts: Facts) -> str:
        to = real(policy, conversation, event, facts)
        return "email-retry-3" if to == "email-retry-1" else to

    with patch.object(messages_module, "next_state", next_state):
        yield


@contextmanager
def stale_deadlines_fire() -> Iterator[None]:
    """A deadline fires although another record has replaced it."""
    real = conversation_module._CASES[DeadlinePassed]

    def deadline(contact: Any, event: Event, policies: Any, now_ms: int) -> Any:
        body = event.body
        assert isinstance(body, DeadlinePassed)
        current = contact.conversations[str(event.conversation)].deadline
        if current is not None and current.kind == body.kind:
            event = replace(event, body=replace(body, seq=current.seq))
        return real(contact, event, policies, now_ms)

    with patch.dict(conversation_module._CASES, {DeadlinePassed: deadline}):
        yield


def any_answer_will_do() -> Any:
    """The router takes an answer to another look-up than the one that it waits for."""

    def waiting_for(contact: Any, event: Event, _lookup_id: str) -> Any:
        assert isinstance(event.body, CrmAnswered | CrmFailed)
        conversation = contact.conversations.get(str(event.conversation))
        waits = conversation is not None and conversation.deadline is not None and conversation.deadline.kind == "crm"
        return conversation if waits else None

    return patch.multiple(conversation_module, waiting_for=waiting_for)


def give_away_without_release() -> Any:
    """A conversation goes to somebody else and the record does not say that the one before has lost it."""
    real = workspace_records.made

    def made(*given: Any) -> Any:
        decision = real(*given)
        decision.data.pop("released", None)
        return decision

    return patch.object(assignment_module, "made", made)


def late_accepts_count() -> Any:
    """Whoever accepts has it, whatever the token and however late."""
    return patch.object(offers_module, "_refusal", lambda part, *_: None if part.status == "offered" else "offer-over")


def leases_never_end() -> Any:
    """An agent who is not heard of any more counts as there for ever."""
    return patch.object(Desk, "lease_end_ms", lambda *_: None)


def nobody_wraps_up() -> Any:
    """What has ended takes no room."""

    def hindrance(self: Agent, *, only_online: bool) -> str | None:
        if only_online and self.presence != "online":
            return self.presence
        return "full" if self.open >= self.max_open else None

    return patch.object(Agent, "hindrance", hindrance)


def never_promoted() -> Any:
    """However long it has waited, it ranks as its route does."""
    return patch.object(Routing, "rank", property(lambda self: workspace_parts.RANKS[self.route]))


def everybody_speaks_everything() -> Any:
    """A contact's language does not matter."""
    return patch.object(Agent, "speaks", lambda *_: True)


@contextmanager
def nobody_is_closed() -> Iterator[None]:
    """Who is out of hours is given conversations like everybody."""
    never = lambda *_: False  # noqa: E731
    with patch.object(DeskHours, "is_shut", never), patch.object(DeskHours, "_is_closed", never):
        yield


def an_hour_late() -> Any:
    """Teams open and close, but not when their hours say."""
    real = DeskHours.__init__

    def late(self: DeskHours, config: Any) -> None:
        real(self, config)
        if self.due_ms:
            self.due_ms += 3_600_000

    return patch.object(DeskHours, "__init__", late)


def never_opened() -> Any:
    """What was decided once of hours is never decided again."""
    standing = Clock.standing
    return patch.object(Clock, "standing", lambda *given: standing(*given)._replace(until_ms=2**52))


def skip_a_seq() -> Any:
    """After the second record of a conversation comes the fourth."""
    real = steps_module.last_seq
    return patch.object(steps_module, "last_seq", lambda before: real(before) + (real(before) == 2))


def impure_decision() -> Any:
    """Who is a VIP depends on something that is not in the record."""
    turns = count()
    return patch.object(conversation_module, "matches", lambda *_: next(turns) % 2 == 0)


def fault_at_a_deadline() -> Any:
    """A decider that fails where there is no input to blame."""

    def fail(*_: Any) -> None:
        raise ValueError("planted")

    return patch.dict(conversation_module._CASES, {DeadlinePassed: fail})


PROMOTING: dict[str, Any] = {**BUSY, "policy": 2, "mixed": False, "agents": 2, "contacts": 12}
HOURLY: dict[str, Any] = {**BUSY, "policy": HOURS_POLICY, "mixed": False}
RULE_OMISSIONS: Sequence[Omission] = (
    omission("ids of inputs are remembered", forget_ids, "effects"),
    omission("requests are known by their place in the log", dedupe_by_seq_alone, "progress"),
    omission("a request is taken once", take_requests_twice, "effects"),
    omission("nobody beyond max_open", no_cap, "cap"),
    omission("oldest first", youngest_first, "order"),
    omission("VIP before escalated before regular", no_urgency, "order"),
    omission("the queue is drained", never_drained, "progress", start=9),
    omission("transitions are the table's", leave_the_table, "transitions"),
    omission(
        "a deadline that was replaced is void",
        stale_deadlines_fire,
        "time",
        start=1,
        **{**BUSY, "contacts": 12, "policy": 1, "mixed": False},
    ),
    omission("an answer belongs to its look-up", any_answer_will_do, "effects"),
    omission("a record holds all that it was decided from", impure_decision, "replay"),
    omission("deciders do not fail", fault_at_a_deadline, "alive"),
    omission("who was offered it accepts, in time", late_accepts_count, "offer", start=1, **{**BUSY, "policy": 1}),
    omission("presence is a lease", leases_never_end, "progress", "time", start=2, policy=2, mixed=False),
    omission("wrap-up takes room", nobody_wraps_up, "cap", start=1, **{**BUSY, "policy": 1, "mixed": False}),
    omission("who has waited long ranks higher", never_promoted, "order", start=14, **PROMOTING),
    omission("a contact's language is spoken", everybody_speaks_everything, "owner", start=2, **{**BUSY, "policy": 2}),
    omission("nobody is given anything out of hours", nobody_is_closed, "hours", **HOURLY),
    omission("teams open and close in time", an_hour_late, "hours", "progress", **HOURLY),
    omission("hours are decided until they change", never_opened, "hours", **HOURLY),
    omission("one owner", give_away_without_release, "owner"),
    omission("seq has no gap", skip_a_seq, "sequence"),
)
OMISSIONS: Sequence[Omission] = (*APPEND_OMISSIONS, *OUTPUT_OMISSIONS, *RULE_OMISSIONS)
