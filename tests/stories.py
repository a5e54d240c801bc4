"""Given / when / then for the conversation decider: inputs go in one by one, the records that they made come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from consumers.policy_book import LanePolicies, PolicyBook
from events.outputs import Origin, routing_outputs
from events.records import Moment, decided
from events.topics import ROUTING_LOG
from routing.contact import Contact, Conversation
from routing.contacts import Contacts
from routing.decider import LogRecord
from routing.inputs import (
    AssigneeChanged,
    Cause,
    Channel,
    Closed,
    ContactUpdated,
    CrmAnswered,
    CrmFailed,
    DeadlinePassed,
    Event,
    MessageReceived,
    Opened,
    OpeningMessage,
    ReplyFailed,
)
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text

START_MS = 1_795_300_000_000
MINUTE_MS = 60_000


def policy(*changes: tuple[str, str]) -> Policy:
    """The template's policy with lines of it changed."""
    text = template_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_policy(text, source="test")


@dataclass
class Story:
    """One contact's story. Every step advances the clock by a minute and returns the records that it made."""

    policy: Policy = field(default_factory=policy)
    contact: str = "c1"
    now_ms: int = START_MS
    state: Contacts = field(default_factory=Contacts)
    records: list[LogRecord] = field(default_factory=list)
    inputs: int = 0

    def __post_init__(self) -> None:
        self.book = PolicyBook({"default": self.policy})
        self.policies = LanePolicies(self.book)
        self.policies.add(self.policy, "default", 1)

    # --- inputs ---

    def opened(self, conversation: str = "v1", **fields: Any) -> list[LogRecord]:
        event, rest = _split(fields)
        text = rest.pop("text", None)
        if text is not None:
            rest["message"] = OpeningMessage(id="m0", text=text)
        if "channel" in rest:
            rest["channel"] = Channel(type=rest["channel"])
        return self.put(conversation, Opened(**rest), **event)

    def message(self, text: str | None, conversation: str | None = "v1", **fields: Any) -> list[LogRecord]:
        event, rest = _split(fields)
        rest.setdefault("sent_at_ms", self.now_ms + MINUTE_MS)
        rest.setdefault("message_id", f"m{self.inputs + 1}")
        return self.put(conversation, MessageReceived(text=text, **rest), **event)

    def answers(self, *texts: str) -> list[LogRecord]:
        return [record for text in texts for record in self.message(text)]

    def updated(self, **fields: Any) -> list[LogRecord]:
        return self.put(None, ContactUpdated(**fields))

    def taken(self, agent: str | None, conversation: str | None = "v1", **fields: Any) -> list[LogRecord]:
        event, rest = _split(fields)
        return self.put(conversation, AssigneeChanged(agent=agent, **rest), **event)

    def closed(self, conversation: str | None = "v1", **fields: Any) -> list[LogRecord]:
        event, rest = _split(fields)
        return self.put(conversation, Closed(**rest), **event)

    def reply_failed(self, seq: int, conversation: str | None = "v1") -> list[LogRecord]:
        return self.put(conversation, ReplyFailed(reply=f"{self.contact}/{conversation}/{seq}/1", reason="blocked"))

    def crm(self, lookup: str | None = None, status: int = 200, **variables: Any) -> list[LogRecord]:
        """The CRM answers the look-up that v1 waits for."""
        lookup = lookup or f"v1/{self.conversation().seq}"
        body = CrmAnswered(lookup_id=lookup, status=status, variables=variables, attempts=1, latency_ms=5)
        return self.put(lookup.rpartition("/")[0], body)

    def crm_failed(self, reason: str = "time-out") -> list[LogRecord]:
        lookup = f"v1/{self.conversation().seq}"
        return self.put("v1", CrmFailed(lookup_id=lookup, reason=reason, attempts=3))

    def passes(self, ms: int) -> list[LogRecord]:
        """Time passes, and every deadline that it passes fires."""
        self.now_ms += ms
        made: list[LogRecord] = []
        for event in self.state.due(self.now_ms, 100):
            made += self._decide(event)
        return made

    def deadline(self, kind: Any, seq: int, conversation: str = "v1") -> list[LogRecord]:
        return self.put(conversation, DeadlinePassed(kind=kind, seq=seq))

    def put(self, conversation: str | None, body: Any, **event: Any) -> list[LogRecord]:
        self.inputs += 1
        self.now_ms += MINUTE_MS
        return self._decide(
            Event(
                workspace="default",
                contact=self.contact,
                conversation=conversation,
                source=event.pop("source", "/whatsapp"),
                time_ms=event.pop("time_ms", self.now_ms),
                cause=Cause(
                    topic="conversations.events", partition=0, offset=self.inputs, id=event.pop("id", f"e{self.inputs}")
                ),
                body=body,
            )
        )

    def _decide(self, event: Event) -> list[LogRecord]:
        made: list[LogRecord] = []
        now = Moment.at(self.now_ms)
        event = self.state.read(event, self.policies)
        decision = self.state.decide(event, self.policies, now.ms)
        while decision is not None:
            offset = len(self.records) + len(made) + 2
            built = decided(ROUTING_LOG, decision, event, now, first=not made, offset=offset, policy_offset=1)
            self.state.evolve(built.record)
            made.append(built.record)
            decision = self.state.follow_up(event, self.policies, now.ms) if decision.more else None
        self.state.confirm()
        self.records += made
        return made

    # --- what came of it ---

    def person(self) -> Contact:
        return self.state.contact("default", self.contact)

    def conversation(self, name: str = "v1") -> Conversation:
        return self.person().conversations[name]

    def outputs(self, record: LogRecord) -> list[Any]:
        return [
            orjson.loads(output.value or b"") for output in routing_outputs(record, Origin(ROUTING_LOG, 0, "log", 4, 1))
        ]


def _split(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [name for name in ("id", "source", "time_ms") if name in fields]
    event: dict[str, Any] = {name: fields.pop(name) for name in names}
    return event, fields


def kinds(records: list[LogRecord]) -> list[str]:
    """Types of the records."""
    return [record.type for record in records]


def then(records: list[LogRecord], type: str, **data: Any) -> LogRecord:
    """Assert that exactly one record was made, of this type and with this data (``from_`` is ``from``)."""
    assert kinds(records) == [type]
    for name, value in data.items():
        assert records[0].data.get(name.rstrip("_")) == value, name
    return records[0]
