"""What became of each conversation, from the public topics alone, as a consumer of them would know it.

It keeps the contract's rule for consumers: what is not greater than the last (``seq``, ``n``) of its topic and
conversation is dropped. Of agents, whom no public topic tells of, it knows from ``assignments.log`` what took effect.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from events.cloudevents import BadInputError
from events.dead_letters import parse_dead_letter
from events.log import Log, Reader, StoredRecord, TopicPartition
from events.topics import ASSIGNMENTS, ASSIGNMENTS_LOG, DEAD_LETTERS, REPLIES

TOPICS: Final = (REPLIES, ASSIGNMENTS, ASSIGNMENTS_LOG, DEAD_LETTERS)
FETCH_RECORDS: Final = 500


@dataclass(slots=True)
class Story:
    """What has happened to a conversation or an agent so far."""

    happened: Counter[str] = field(default_factory=Counter)
    language: str | None = None
    replies: list[str] = field(default_factory=list)
    captured: bool = False  #: an address was taken from what the contact wrote
    route: str | None = None
    reason: str | None = None
    agent: str | None = None  #: who has it, or had it last
    team: str | None = None
    by_hand: bool = False
    assignments: int = 0
    runs: int = 0
    waited: bool = False
    waited_ms: int | None = None
    closed: bool = False
    outcome: Literal["nothing", "assigned", "not-routed", "dead-letter"] = "nothing"


class Observed:
    """All stories, by conversation or agent, and how much was seen. ``changed`` is set whenever one goes on."""

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.agents: dict[str, Story] = {}
        self.changed = asyncio.Event()
        self.copies = 0  #: outputs that came again and were dropped
        self.outputs = 0  #: outputs that counted
        self._last: dict[tuple[str, str, str], tuple[int, int]] = {}

    def of(self, subject: str) -> Story:
        """A conversation's story."""
        return self.stories.setdefault(subject, Story())

    def agent(self, agent: str) -> Story:
        """An agent's story."""
        return self.agents.setdefault(agent, Story())

    async def follow(self, reader: Reader) -> None:
        """Take what comes, until cancelled."""
        while True:
            for record in await reader.fetch(records_max=FETCH_RECORDS, timeout_s=None):
                self.take(record)
            self.changed.set()

    async def catch_up(self, reader: Reader) -> None:
        """Take what there is, up to the ends of now; nobody else may use the reader meanwhile."""
        ends = await reader.end_offsets()
        while any(reader.position(place) < end for place, end in ends.items()):
            for record in await reader.fetch(records_max=FETCH_RECORDS, timeout_s=1.0):
                self.take(record)

    def take(self, record: StoredRecord) -> None:
        """Take one record in."""
        if record.topic == DEAD_LETTERS:
            self._take_dead_letter(record)
            return
        event: dict[str, Any] = orjson.loads(record.value or b"{}")
        data = event.get("data", {})
        if record.topic == ASSIGNMENTS_LOG:
            if event.get("type") == "agent.changed":
                what = data["presence"] if data["what"] == "presence" else data["what"]
                self.agent(event["subject"]).happened.update([what, "changed"])
            return
        tell = _TELL.get(event["type"])
        if tell is not None and self._is_new(record.topic, event):
            story = self.of(event["subject"])
            story.language = data.get("language", story.language)
            tell(story, data)
            self.outputs += 1

    def _is_new(self, topic: str, event: dict[str, Any]) -> bool:
        key = (topic, event["partitionkey"], event["subject"])
        place = (event["data"]["seq"], event["data"]["n"])
        if place <= self._last.get(key, (0, 0)):
            self.copies += 1
            return False
        self._last[key] = place
        return True

    def _take_dead_letter(self, record: StoredRecord) -> None:
        try:
            letter = parse_dead_letter(record)
            subject = orjson.loads(letter.value or b"null")["subject"]
        except (BadInputError, orjson.JSONDecodeError, KeyError, TypeError):
            return
        story = self.of(subject)
        story.outcome, story.reason = "dead-letter", letter.reason
        story.happened["dead-letter"] += 1


async def places_of(log: Log) -> dict[TopicPartition, int]:
    """Where to begin to read for an ``Observed`` of a whole log."""
    found: dict[TopicPartition, int] = {}
    for topic in TOPICS:
        for number in range(await log.partition_count(topic)):
            found[TopicPartition(topic, number)] = 0
    return found


def _reply(story: Story, data: dict[str, Any]) -> None:
    story.replies.append(data["kind"])
    story.happened[data["kind"]] += 1


def _captured(story: Story, _data: dict[str, Any]) -> None:
    story.captured = True


def _queued(story: Story, data: dict[str, Any]) -> None:
    story.waited, story.closed = True, False
    story.route, story.reason = data["route"], data["route_reason"]
    story.happened["queued"] += 1


def _assigned(story: Story, data: dict[str, Any]) -> None:
    story.outcome, story.closed = "assigned", False
    story.route, story.reason = data.get("route"), data.get("route_reason")
    story.agent, story.team = data["agent"], data.get("team")
    story.by_hand = data["strategy"] == "by-hand"
    story.waited_ms = data["waited_ms"]
    story.runs = data["run"]
    story.assignments += 1
    story.happened["assigned"] += 1


def _released(story: Story, _data: dict[str, Any]) -> None:
    story.closed = True  # what puts it back into a queue, or gives it to somebody else, follows at once
    story.happened["released"] += 1


def _not_routed(story: Story, data: dict[str, Any]) -> None:
    story.outcome, story.reason = "not-routed", data["reason"]
    story.happened["not-routed"] += 1


_TELL: Final[dict[str, Callable[[Story, dict[str, Any]], None]]] = {
    "reply.requested": _reply,
    "contact.email-captured": _captured,
    "conversation.queued": _queued,
    "conversation.assigned": _assigned,
    "conversation.released": _released,
    "conversation.not-routed": _not_routed,
}
