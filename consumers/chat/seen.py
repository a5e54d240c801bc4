"""What comes of a contact's doings, as sentences for whoever plays him, and whether there is more to come.

It follows the contact's partition of the router's log, of the two public topics, and of the dead letters. Sentences go
to ``say`` by kind: ``bot`` is what the contact would read; ``state``, ``crm``, ``desk`` and ``dead`` are what happens
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from events.cloudevents import BadInputError
from events.dead_letters import parse_dead_letter
from events.log import StoredRecord
from events.topics import ASSIGNMENTS, CONVERSATION_EVENTS, DEAD_LETTERS, REPLIES, ROUTING_LOG

Say = Callable[[str, str], None]

ROUTED: Final = frozenset({"routed-vip", "routed-regular", "escalated"})
TOPICS: Final = (ROUTING_LOG, REPLIES, ASSIGNMENTS, DEAD_LETTERS)


class Seen:
    """What is known of the conversation."""

    def __init__(self, contact: str, say: Say) -> None:
        self._contact = contact
        self._say = say
        self.state: str | None = None
        self.agent: str | None = None  #: who has it
        self._causes: set[str] = set()
        self._refused: dict[str, str] = {}  #: events that nobody could use, and why
        self._replies_due = 0  #: those that the log tells of and that have not come yet
        self._desk_due = False  #: the log tells of a request, and the desk has not answered yet

    @property
    def is_asking(self) -> bool:
        """Whether an address is waited for."""
        return self.state is not None and self.state.startswith(("awaiting-", "email-retry-"))

    def has_taken(self, event_id: str) -> bool:
        """Whether an event has come to something."""
        return event_id in self._causes

    def refusal(self, event_id: str) -> str | None:
        """Why an event ended among the dead letters; None: it did not."""
        return self._refused.get(event_id)

    def is_settled(self) -> bool:
        """Whether nothing more comes until somebody does something: it asks, it is with somebody, or it is over."""
        if self._replies_due > 0 or self._desk_due or self.state is None:
            return False
        return self.is_asking or self.state in ROUTED or self.state == "closed"

    def take(self, record: StoredRecord) -> None:
        """Take one record in, and say what it says."""
        if record.topic == DEAD_LETTERS:
            self._dead_letter(record)
            return
        event: dict[str, Any] = orjson.loads(record.value or b"{}")
        if event.get("partitionkey") != self._contact:
            return
        if record.topic == ROUTING_LOG:
            self._transition(event["type"], event["data"])
        elif record.topic == REPLIES:
            self._reply(event["type"], event["data"])
        else:
            self._assignment(event["type"], event["data"])

    def _dead_letter(self, record: StoredRecord) -> None:
        try:
            letter = parse_dead_letter(record)
        except BadInputError:  # whoever else writes there
            return
        if letter.topic != CONVERSATION_EVENTS or letter.key != self._contact.encode() or letter.value is None:
            return
        why = f"{letter.reason}: {letter.detail}"
        self._refused[orjson.loads(letter.value)["id"]] = why
        self._say("dead", f"the router could not use it: {why}")

    def _transition(self, kind: str, data: Mapping[str, Any]) -> None:
        self._causes.add(data["cause"]["id"])
        told = data.get("input", {})
        if kind == "crm.resolved":
            variables = ", ".join(f"{name} {value}" for name, value in told.get("variables", {}).items())
            self._say("crm", f"answered with {told.get('status')}{': ' if variables else ''}{variables}")
        if "reply" in data.get("pii", {}):
            self._replies_due += 1
        if kind == "input.ignored":
            self._say("state", f"ignored: {data['reason']}")
        if "request" in data:
            self._desk_due = self._is_answered(data["request"])
        if "to" in data:
            self._moved(data)

    def _is_answered(self, request: Mapping[str, Any]) -> bool:
        """Whether the desk says something to this request; nothing changes if the owner takes what he has."""
        if request["type"] == "assignment.taken":
            return bool(request["agent"] != self.agent)
        return request["type"] != "assignment.ended" or self.agent is not None

    def _moved(self, data: Mapping[str, Any]) -> None:
        reason = f" ({data['reason']})" if "reason" in data else ""
        self.state = data["to"]
        if data.get("from") != data["to"]:
            self._say("state", f"{data.get('from', 'new')} \N{RIGHTWARDS ARROW} {data['to']}{reason}")

    def _reply(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "reply.requested":
            self._replies_due -= 1
            self._say("bot", data["text"])
        elif kind == "contact.email-captured":
            self._say("state", f"{data['contact']['email']} goes into the contact's record")

    def _assignment(self, kind: str, data: Mapping[str, Any]) -> None:
        self._desk_due = False
        if kind == "conversation.assigned":
            self.agent = data["agent"]
            team = f" of {data['team']}" if "team" in data else ""
            how = ", ".join(dict.fromkeys((data["strategy"], data["reason"])))
            self._say("desk", f"{data['agent']}{team} has it ({data.get('route')}: {data.get('route_reason')}; {how})")
        elif kind == "conversation.queued":
            self.agent = None
            target = data["target"]
            whom = target.get("agent") or target.get("team") or "anybody"
            self._say("desk", f"it waits for {whom} ({data['route']}: {data['route_reason']})")
        elif kind == "conversation.released":
            self.agent = None
            self._say("desk", f"{data['agent']} no longer has it ({data['reason']})")
        elif kind == "conversation.rerouted":
            self._say("desk", f"{data['agent']} is told that it is {data['route']} now ({data['route_reason']})")
        elif kind == "conversation.not-routed":
            self._say("desk", f"it is not routed ({data['reason']})")
