"""The contact who is played: what he does, as the CloudEvents that a chat platform would send."""

from __future__ import annotations

from typing import Any, Final

import orjson
from msgspec import Struct

from events.cloudevents import STRUCTURED_HEADERS
from events.log import NewRecord
from events.topics import CONVERSATION_EVENTS, partition_of

SOURCE: Final = "/vip-router/chat"


class Person(Struct, frozen=True, kw_only=True):
    """Who is played."""

    id: str
    language: str
    channel: str
    name: str | None = None
    email: str | None = None
    workspace: str = "default"  #: where he comes


class Sent(Struct, frozen=True, kw_only=True):
    """An event to publish, and its id."""

    id: str
    record: NewRecord


class ContactEvents:
    """Makes the events of one contact with one conversation; each has an id of its own and a time: the log's."""

    def __init__(self, person: Person, *, partitions: int) -> None:
        self.person = person
        self.conversation = f"{person.id}-1"
        self.partition = partition_of(person.id, partitions)
        self._count = 0

    def opened(self, text: str) -> Sent:
        """The contact opens the conversation, or opens it again, with a first message."""
        person = self.person
        contact = {"id": person.id, "language": person.language}
        contact |= {name: value for name in ("name", "email") if (value := getattr(person, name)) is not None}
        data: dict[str, Any] = {"contact": contact, "channel": {"type": person.channel}}
        if text:
            data["message"] = {"id": f"{self.conversation}/m{self._count + 1}", "text": text}
        return self._event("conversation.opened", data)

    def said(self, text: str) -> Sent:
        """The contact writes."""
        message_id = f"{self.conversation}/m{self._count + 1}"
        return self._event("message.received", {"message_id": message_id, "text": text})

    def closed(self) -> Sent:
        """The conversation is closed."""
        return self._event("conversation.closed", {"reason": "closed in the chat"})

    def updated(self, email: str) -> Sent:
        """Somebody enters the contact's address into his record."""
        return self._event("contact.updated", {"contact": {"id": self.person.id, "email": email}})

    def taken(self, agent: str) -> Sent:
        """An agent takes the conversation by hand."""
        return self._event("assignee.changed", {"agent": agent})

    def _event(self, kind: str, data: dict[str, Any]) -> Sent:
        self._count += 1
        event = {
            "specversion": "1.0",
            "type": kind,
            "id": f"{self.conversation}/{self._count}",
            "source": SOURCE,
            "subject": self.conversation,
            "partitionkey": self.person.id,
            "workspace": self.person.workspace,
            "data": data,
        }
        key = self.person.id.encode()
        value = orjson.dumps(event)
        return Sent(
            id=str(event["id"]),
            record=NewRecord(CONVERSATION_EVENTS, self.partition, key, value, STRUCTURED_HEADERS),
        )
