"""The conversations that the benchmarks run: opened, one invalid answer, the address, the CRM's answer."""

from __future__ import annotations

from typing import Any

import orjson

from events import topics
from events.log import NewRecord
from events.topics import partition_of
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text

AGENTS = 50
ROOM = 10_000  # each agent's: nobody waits


def bench_policy_text() -> str:
    """The template's policy with a desk of fifty agents who have room for everybody."""
    text = template_text().replace("max_open = 20", f"max_open = {ROOM}", 1)
    desk = "".join(f'[agents.agent-{number:02}]\nteams = ["support", "vip-desk"]\n' for number in range(AGENTS))
    return f"{text}\n{desk}"


def bench_policy() -> Policy:
    """The same, read."""
    return parse_policy(bench_policy_text(), source="bench")


def event(kind: str, id: str, contact: str, conversation: str, time: str, data: dict[str, Any]) -> bytes:
    """One CloudEvent, as a producer would write it."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": id,
            "source": "/whatsapp/15550001",
            "type": kind,
            "subject": conversation,
            "time": time,
            "partitionkey": contact,
            "data": data,
        }
    )


class Conversation:
    """The inputs of one conversation, ready to publish."""

    def __init__(self, number: int, partitions: int, time: str) -> None:
        self.contact = f"contact-{number:07}"
        self.id = f"conversation-{number:07}"
        self.partition = partition_of(self.contact, partitions)
        self._number = number
        self._time = time

    def _record(self, topic: str, value: bytes) -> NewRecord:
        return NewRecord(topic, self.partition, self.contact.encode(), value)

    def _conversation_event(self, kind: str, id: str, data: dict[str, Any]) -> NewRecord:
        value = event(kind, id, self.contact, self.id, self._time, data)
        return self._record(topics.CONVERSATION_EVENTS, value)

    def opened(self) -> NewRecord:
        """Without an address: it is asked for."""
        data = {
            "contact": {"id": self.contact, "name": "Ann Lee", "language": "fr"},
            "channel": {"type": "whatsapp", "id": "15550001"},
            "message": {"id": f"m0-{self._number}", "text": "hello, I need help with my order"},
        }
        return self._conversation_event("conversation.opened", f"o-{self._number}", data)

    def invalid(self) -> NewRecord:
        """An answer without an address."""
        data = {"message_id": f"m1-{self._number}", "text": "why do you need it?", "sent_at": self._time}
        return self._conversation_event("message.received", f"i-{self._number}", data)

    def valid(self) -> NewRecord:
        """The answer with the address."""
        text = f"sure, ann{self._number}@example.com"
        data = {"message_id": f"m2-{self._number}", "text": text, "sent_at": self._time}
        return self._conversation_event("message.received", f"a-{self._number}", data)

    def crm_answer(self) -> NewRecord:
        """What the CRM consumer would write; one contact in ten is a VIP."""
        data = {
            "lookup_id": f"{self.id}/3",
            "status": 200,
            "variables": {"customer_type": "VIP" if self._number % 10 == 0 else "standard"},
            "attempts": 1,
            "latency_ms": 12,
        }
        value = event("crm.answered", f"c-{self._number}", self.contact, self.id, self._time, data)
        return self._record(topics.CRM_ANSWERS, value)
