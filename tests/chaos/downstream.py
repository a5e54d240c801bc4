"""What a downstream consumer sees must never contradict itself, whatever happens to those who write.

It keeps the one rule of the contract, drops what is not greater than the last ``(seq, n)`` of topic and conversation,
and looks at everything, also at what it drops. Records come in as they were read, while faults happen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, Final

import orjson

from events.topics import ASSIGNMENTS, DEAD_LETTERS, REPLIES

TOPICS: Final = (REPLIES, ASSIGNMENTS, DEAD_LETTERS)
FAULTS_OF_OURS: Final = frozenset({"fault", "batch-full"})  #: reasons of dead letters that no input can be blamed for
NEXT_ASKS: Final = frozenset({"ask", "retry"})

Violated = Callable[[str, str], None]
Conversation = tuple[str, str, str]  # workspace, contact, conversation


class Downstream:
    """Follows the public topics. ``assigned`` is called with every assignment that the rule lets through."""

    def __init__(self, violated: Violated, assigned: Callable[[Conversation, dict[str, Any]], None]) -> None:
        self._violated = violated
        self._assigned = assigned
        self._contents: dict[Hashable, bytes] = {}
        self._ids: dict[Hashable, str] = {}
        self._last: dict[Hashable, tuple[int, int]] = {}
        self._owners: dict[Conversation, str] = {}
        self._asked: set[Hashable] = set()
        self._offsets: dict[Hashable, int] = {}
        self.outputs = 0
        self.repeated = 0

    def feed(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """Take the next record of a partition."""
        last = self._offsets.get((topic, partition), -1)
        if offset <= last:
            self._violated("vanished", f"{topic}/{partition}: offset {offset} comes after {last}")
        self._offsets[(topic, partition)] = offset
        event = orjson.loads(value)
        if topic == DEAD_LETTERS:
            if event["data"]["reason"] in FAULTS_OF_OURS:
                self._violated("outcome", f"{topic}/{partition}@{offset}: {event['data']}"[:500])
            return
        self.outputs += 1
        data = event["data"]
        conversation = (event["workspace"], data["contact"]["id"], event["subject"])
        place = (data["seq"], data["n"])
        if self._is_new(topic, event, value, conversation, place):
            self._take(topic, event, conversation)

    def _is_new(
        self, topic: str, event: dict[str, Any], value: bytes, conversation: Conversation, place: tuple[int, int]
    ) -> bool:
        """Judge the event by what was seen before; whether the rule lets it through."""
        name = (topic, event["source"], event["id"])
        digest = blake2b(value, digest_size=16).digest()
        known = self._contents.setdefault(name, digest)
        if known != digest:
            self._violated("contents", f"{topic}: one id, two contents: {event['id']}")
        at = event["data"]["log"]
        for where in ((topic, conversation, place), (topic, at["id"], at["partition"], at["offset"], place[1])):
            if self._ids.setdefault(where, event["id"]) != event["id"]:
                self._violated("places", f"{topic}: {where} is {event['id']} and was {self._ids[where]}")
        last = self._last.get((topic, conversation), (0, 0))
        if place <= last:
            self.repeated += 1
            return False
        self._last[(topic, conversation)] = place
        return True

    def _take(self, topic: str, event: dict[str, Any], conversation: Conversation) -> None:
        data, kind = event["data"], event["type"]
        if kind == "reply.requested":
            ask = (conversation, data["run"], "ask" if data["kind"] in NEXT_ASKS else data["kind"], data["attempt"])
            if ask in self._asked:
                self._violated("asked", f"{topic}: {ask} is asked twice, again by {event['id']}")
            self._asked.add(ask)
        elif kind == "conversation.assigned":
            if conversation in self._owners:
                self._violated("owner", f"{event['id']}: given to {data['agent']}, {self._owners[conversation]} has it")
            self._owners[conversation] = data["agent"]
            self._assigned(conversation, event)
        elif kind == "conversation.released":
            owner = self._owners.pop(conversation, None)
            if owner != data["agent"]:
                self._violated("owner", f"{event['id']}: released by {data['agent']}, {owner} has it")
        elif kind == "conversation.queued" and conversation in self._owners:
            self._violated("owner", f"{event['id']}: waits, but {self._owners[conversation]} has it")
