"""The state of a contact and of his conversations, as the log tells it.

``evolve`` folds one record into a ``Contact``; it reads nothing but the record, so that a restored state equals the
live one. What to decide from the state stands in ``conversation.py``.
"""

from __future__ import annotations

from functools import lru_cache
from sys import intern
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from routing.decider import LogRecord
from routing.inputs import Channel, Event, MessageReceived

SEEN_MAX: Final = 32  #: ids remembered per conversation; an input redelivered after so many others counts as new
OPENINGS_MAX: Final = 64  #: openings remembered per conversation; older ones are caught by their time

OURS: Final = frozenset({"deadline.passed", "crm.answered", "crm.failed"})  #: inputs in which nobody is heard
ASKING: Final = "awaiting-email"
RETRY: Final = "email-retry-"
NOTHING: Final[dict[str, Any]] = {}  #: never changed
ROUTED: Final = frozenset({"routed-vip", "routed-regular", "escalated"})


class Deadline(Struct, frozen=True, kw_only=True, gc=False):
    """When a conversation stops waiting. Absolute, so that it survives a crash."""

    kind: Literal["answer", "crm"]
    due_ms: int  #: fires at or after this instant, never before
    length_ms: int
    seq: int  #: the record that armed it; a deadline that fires for another is ignored


class Conversation(Struct, frozen=True, kw_only=True):
    """One conversation of a contact. ``state`` None: we heard of it but were never told that it was opened."""

    id: str
    seq: int
    hash: str  #: of its last record
    run: int = 0  #: 1 for the first opening, 2 after it was closed and opened again, ...
    state: str | None = None
    policy: str | None = None  #: pinned when it started
    channel: Channel | None = None
    attempt: int = 0  #: how often it asked
    asked_at_ms: int = 0
    deadline: Deadline | None = None
    late_seq: int = 0  #: the record that asked for a look-up to be kept trying; 0: none waits for its answer
    heard_ms: int = 0  #: the last record that an input caused
    heard_seq: int = 0  #: what arms the deadline of a forgotten conversation
    forget_after_ms: int = 0
    email_source: Literal["record", "answer"] = "record"
    join: str | None = None  #: the conversation that it joined
    refused: bool = False  #: the trigger did not take it
    closed_ms: int | None = None  #: the closing event's time
    seen: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the workflow has it: opened and not closed."""
        return self.state is not None and self.state != "closed"

    @property
    def is_asking(self) -> bool:
        """Whether a question is waiting for its answer."""
        return self.state == ASKING or (self.state is not None and self.state.startswith(RETRY))

    @property
    def is_waiting_to_join(self) -> bool:
        """Whether it waits for the conversation that it joined to be routed."""
        return self.state == "opened"

    @property
    def forget_due_ms(self) -> int:
        """When it is closed because nothing was heard of it, Unix milliseconds."""
        return self.heard_ms + self.forget_after_ms


class Contact(Struct, frozen=True, kw_only=True):
    """A contact: what is remembered of him, and his conversations."""

    workspace: str
    id: str
    email: str | None = None
    name: str | None = None
    language: str | None = None
    seq: int = 0  #: records that concern him and no conversation
    hash: str | None = None
    taken: bool = False  #: the trigger took a conversation of his, ever
    seen: tuple[str, ...] = ()  #: the last inputs that concern him and no conversation, so that a copy changes nothing
    open: tuple[str, ...] = ()  #: his open conversations, oldest first
    conversations: dict[str, Conversation] = {}


def event_key(event: Event) -> str:
    """What makes an input the same input: an id is unique per source."""
    return f"{event.source} {event.cause.id}"


def message_key(message_id: str) -> str:
    """What makes a message the same one, however often it is edited and sent again. No source begins with a space."""
    return f" {message_id}"


def evolve(contact: Contact, record: LogRecord) -> Contact:
    """The contact after ``record``."""
    data = record.data
    personal: dict[str, Any] = data.get("pii") or NOTHING
    subject = record.subject
    if subject is None:
        return _evolve_contact(contact, record, personal)
    before = contact.conversations.get(subject)
    after = _evolve_conversation(before, record)
    changes: dict[str, Any] = {"conversations": {**contact.conversations, subject: after}}
    if (before is not None and before.is_open) != after.is_open:
        changes["open"] = (*contact.open, subject) if after.is_open else tuple(i for i in contact.open if i != subject)
    if "email" in personal:
        changes["email"] = personal["email"]
    if record.type == "conversation.started":
        changes["taken"] = True
        told = data.get("input") or NOTHING
        name = personal.get("input", NOTHING).get("name")
        if name is not None:
            changes["name"] = name
        if told.get("language") is not None:
            changes["language"] = intern(told["language"])
    return replace(contact, **changes)


def _evolve_contact(contact: Contact, record: LogRecord, personal: dict[str, Any]) -> Contact:
    changes: dict[str, Any] = {name: personal[name] for name in ("email", "name") if name in personal}
    if "language" in record.data:
        changes["language"] = record.data["language"]
    key = f"{record.data['input']['source']} {record.data['cause']['id']}"
    seen = (*contact.seen, key)[-SEEN_MAX:]
    return replace(contact, seq=record.data["seq"], hash=record.hash, seen=seen, **changes)


def _evolve_conversation(before: Conversation | None, record: LogRecord) -> Conversation:
    data = record.data
    seq = data["seq"]
    changes: dict[str, Any] = {"seq": seq, "hash": record.hash, "run": data["run"]}
    told = data.get("input")
    key = None if told is None else f"{told['source']} {data['cause']['id']}"
    if record.type == "conversation.started":
        _start(changes, before, data, key)
    elif "closed_ms" in data:
        changes["closed_ms"] = data["closed_ms"]
        if record.type != "conversation.ended":  # an opening that the trigger does not take
            changes["refused"] = True
            changes["openings"] = _openings(before, key)
    if "to" in data:
        changes["state"] = intern(data["to"])
        changes["deadline"] = None
        _wait(changes, before, data, seq, record.at_ms)
    if told is not None and told["type"] not in OURS:
        changes["heard_ms"] = record.at_ms
        changes["heard_seq"] = seq
        changes["seen"] = _seen(before, key, told)
    if record.type == "email.accepted":
        changes["email_source"] = data["email_source"]
    if before is None:
        return Conversation(id=str(record.subject), **changes)
    return replace(before, **changes)


def _start(changes: dict[str, Any], before: Conversation | None, data: dict[str, Any], key: str | None) -> None:
    """What a start sets; a conversation that had joined another starts once more, on its own, with no new input."""
    changes["policy"] = intern(data["policy"])
    changes["forget_after_ms"] = data["forget_after_ms"]
    changes["join"] = data.get("join")
    changes["refused"] = False
    changes["closed_ms"] = None
    changes["attempt"] = 0
    changes["email_source"] = data.get("email_source", "record")
    if key is not None:
        channel = data.get("channel")
        changes["channel"] = None if channel is None else _shared_channel(channel.get("id"), channel.get("type"))
        changes["openings"] = _openings(before, key)


@lru_cache(maxsize=1024)  # many conversations come over few channels
def _shared_channel(id: str | None, type: str | None) -> Channel:
    return Channel(id=id, type=type)


def _openings(before: Conversation | None, key: str | None) -> tuple[str, ...]:
    earlier = () if before is None else before.openings
    return earlier if key is None else (*earlier, key)[-OPENINGS_MAX:]


def _wait(changes: dict[str, Any], before: Conversation | None, data: dict[str, Any], seq: int, at_ms: int) -> None:
    """What is waited for after a move, and until when."""
    if before is not None and before.late_seq and (data["to"] != before.state or "late" in data):
        changes["late_seq"] = 0
    question = data.get("reply")
    if question is not None and "expires_ms" in question:
        due_ms = question["expires_ms"]
        changes["deadline"] = Deadline(kind="answer", due_ms=due_ms, length_ms=due_ms - at_ms, seq=seq)
        changes["asked_at_ms"] = at_ms
        changes["attempt"] = question["attempt"]
        return
    asked = data.get("lookup")
    if asked is None:
        return
    if asked.get("late"):
        changes["late_seq"] = seq
    else:
        due_ms = asked["deadline_ms"]
        changes["deadline"] = Deadline(kind="crm", due_ms=due_ms, length_ms=due_ms - at_ms, seq=seq)


def _seen(before: Conversation | None, key: str | None, told: dict[str, Any]) -> tuple[str, ...]:
    """The inputs seen, and their messages. ``key`` is the input's, the same string as in ``openings``."""
    message_id = told.get("message_id")
    if message_id is None and "message" in told:
        message_id = told["message"].get("id")
    seen = () if before is None else before.seen
    if key is not None and key not in seen:
        seen = (*seen, key)
    if message_id is not None and (message := message_key(message_id)) not in seen:
        seen = (*seen, message)
    return seen if len(seen) <= SEEN_MAX else seen[-SEEN_MAX:]


def has_message(conversation: Conversation, body: MessageReceived) -> bool:
    """Whether this message, or another version of it, was here before."""
    return body.message_id is not None and message_key(body.message_id) in conversation.seen
