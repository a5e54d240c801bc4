"""The scenarios of the golden logs: together they make every type of record at least once.

A golden log is made by the scenario of its number; the first one is what the first release could do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from events.times import format_time
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS, CRM_ANSWERS, partition_of
from routing.policy import Policy
from routing.policy_file import parse_policy

START_MS = 1_795_341_600_000
POLICIES = {
    number: Path(__file__).with_name(f"policy-{number}.toml") for number in (1, 2, 3, 4)
}  # never changed: in the log


class Step(NamedTuple):
    """A record that somebody publishes ``after_s`` virtual seconds after the one before it."""

    after_s: float
    topic: str
    partition: int
    key: str
    value: bytes


def policy(number: int) -> Policy:
    """The first template's policy, with little room; in the second agents are asked, and time matters more.

    In the third teams have hours, in the fourth an agent has to speak the contact's language.
    """
    return parse_policy(POLICIES[number].read_text(), source="golden")


class _Script:
    def __init__(self) -> None:
        self._now_s = 0.0
        self._ids = 0

    def _value(self, type: str, subject: str, key: str, data: dict[str, Any], id: str | None) -> bytes:
        self._ids += 1
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": id or f"e{self._ids}",
                "source": "/golden",
                "type": type,
                "subject": subject,
                "time": format_time(START_MS + round(self._now_s * 1000)),
                "partitionkey": key,
                "data": data,
            }
        )

    def talk(
        self,
        contact: str,
        conversation: str,
        type: str,
        /,
        *,
        after_s: float = 10.0,
        id: str | None = None,
        **data: Any,
    ) -> Step:
        self._now_s += after_s
        value = self._value(type, conversation, contact, data, id)
        return Step(after_s, CONVERSATION_EVENTS, partition_of(contact, 2), contact, value)

    def opened(self, contact: str, conversation: str, *, id: str | None = None, **fields: Any) -> Step:
        who: dict[str, Any] = {"id": contact}
        who.update({name: fields.pop(name) for name in ("email", "name", "language") if name in fields})
        return self.talk(contact, conversation, "conversation.opened", id=id, contact=who, **fields)

    def says(self, contact: str, conversation: str, text: str | None, **fields: Any) -> Step:
        return self.talk(contact, conversation, "message.received", message_id=f"m{self._ids}", text=text, **fields)

    def crm(self, contact: str, conversation: str, seq: int, **variables: Any) -> Step:
        data = {
            "lookup_id": f"{conversation}/{seq}",
            "status": 200,
            "variables": variables,
            "attempts": 1,
            "latency_ms": 7,
        }
        self._now_s += 1
        value = self._value("crm.answered", conversation, contact, data, f"{contact}/{conversation}/{seq}/crm")
        return Step(1, CRM_ANSWERS, partition_of(contact, 2), contact, value)

    def agent(self, agent: str, type: str, **data: Any) -> Step:
        self._now_s += 1
        return Step(1, AGENT_EVENTS, 0, "default", self._value(type, agent, "default", data, None))


def steps(number: int) -> Iterator[Step]:
    """What happens in a scenario."""
    return {1: _small_desk, 2: _asking_desk, 3: _closing_desk, 4: _speaking_desk}[number]()


def _speaking_desk() -> Iterator[Step]:
    """Agents who speak varieties of a language get who speaks it, in their turn; nobody speaks one of them."""
    s = _Script()
    for name, languages in (("ana", ["pt-BR", "en"]), ("bob", ["en"]), ("rui", ["PT_pt"])):
        yield s.agent(name, "agent.updated", teams=["support"], languages=languages)
    for number, language in enumerate(("pt-BR", "pt", "en-GB", "pt-AO", "ar", "pt", "en", "fr"), start=1):
        yield s.opened(f"s{number}", f"y{number}", language=language, name="Ann")
        yield s.says(f"s{number}", f"y{number}", "what for?", after_s=30.0)
        yield s.says(f"s{number}", f"y{number}", f"s{number}@example.com", after_s=30.0)
        yield s.crm(f"s{number}", f"y{number}", 3, customer_type="standard")


def _closing_desk() -> Iterator[Step]:
    """A Sunday and a Monday: teams that close and open, who stands in, and what is said when nobody is there."""
    s = _Script()
    for name, team in (("bo", "support"), ("nina", "night"), ("maya", "managers")):
        yield s.agent(name, "agent.updated", teams=[team], max_open=4)
    for number, language in ((1, "en"), (2, "fr")):  # the office is there, then only who stands in
        yield s.opened(f"h{number}", f"u{number}", email=f"{number}@example.com", language=language, name="Ann")
        yield s.crm(f"h{number}", f"u{number}", 1, customer_type="standard")
        yield s.agent(
            "@", "assignment.accepted", conversation=f"u{number}", contact={"id": f"h{number}"}, token=f"@u{number}"
        )
        yield s.says(f"h{number}", f"u{number}", "hello?", after_s=2400.0)
    for number, language in ((3, "en"), (4, "ar")):  # nobody is there
        yield s.opened(f"h{number}", f"u{number}", email=f"{number}@example.com", language=language, name="Ann")
        yield s.crm(f"h{number}", f"u{number}", 1, customer_type="standard")
    yield s.opened("h5", "u5", language="pt")
    yield s.says("h5", "u5", "stop")
    # until the morning: the night shift is there first, and does not answer
    yield s.says("h1", "u1", "hello?", after_s=16 * 3600.0 + 550.0)
    yield s.agent("@", "assignment.accepted", conversation="u3", contact={"id": "h3"}, token="@u3")
    yield s.agent("@", "assignment.accepted", conversation="u4", contact={"id": "h4"}, token="@u4")
    yield s.says("h2", "u2", "hello?", after_s=6 * 3600.0)


def _asking_desk() -> Iterator[Step]:
    """Offers that are accepted, declined and missed, presence that lapses, what ages, languages, wrapping up."""
    s = _Script()
    for name, languages in (("bo", ["en"]), ("cy", ["fr", "en"])):
        yield s.agent(name, "agent.updated", teams=["support"], languages=languages, weight=2, wrap_up_s=30)
        yield s.agent(name, "agent.presence", status="online")
    yield s.agent("maya", "agent.updated", teams=["managers"], max_open=1)
    for number in (1, 2, 3):
        yield s.opened(
            f"d{number}", f"w{number}", email=f"{number}@example.com", language="fr" if number == 2 else "en"
        )
        yield s.crm(f"d{number}", f"w{number}", 1, customer_type="standard")
    # a look-up that is answered when the conversation has an owner
    yield s.opened("d4", "w4", email="4@example.com")
    yield s.says("d4", "w4", "hello?", after_s=20.0)
    yield s.agent("@", "assignment.accepted", conversation="w4", contact={"id": "d4"}, token="@w4")
    yield s.crm("d4", "w4", 2, customer_type="VIP")
    for said in ("assignment.declined", "assignment.accepted"):
        yield s.agent("@", said, conversation="w1", contact={"id": "d1"}, token="@w1")
    for _ in range(4):
        yield s.agent("bo", "agent.presence", status="online")
        yield s.says("d1", "w1", "hello?", after_s=25.0)
    yield s.agent("bo", "agent.presence", status="away")
    yield s.agent("bo", "agent.presence", status="online")
    yield s.agent("cy", "agent.presence", status="online")
    yield s.agent("cy", "assignment.accepted", conversation="w2", contact={"id": "d2"}, token="not-this-one")
    yield s.talk("d2", "w2", "assignee.changed", agent="cy")
    yield s.talk("d2", "w2", "conversation.closed", reason="solved")
    yield s.opened("d2", "w2b", language="fr")
    yield s.crm("d2", "w2b", 1, customer_type="standard")
    yield s.talk("d3", "w3", "message.received", after_s=900.0, message_id="late", text="anybody?")


def _small_desk() -> Iterator[Step]:
    """A day at a small desk."""
    s = _Script()
    for name in ("bo", "cy"):
        yield s.agent(name, "agent.updated", teams=["support"], name=name.title())
        yield s.agent(name, "agent.presence", status="online")
    yield s.agent("maya", "agent.updated", teams=["managers"], max_open=1)
    # a VIP with an address; a regular one who is asked in French, and answers the second time
    yield s.opened("c1", "v1", email="ann@example.com", name="Ann", channel={"type": "whatsapp", "id": "w1"})
    yield s.crm("c1", "v1", 1, customer_type="VIP")
    yield s.opened("c2", "v2", language="fr", name="Zoé")
    yield s.says("c2", "v2", "pourquoi ?")
    yield s.says("c2", "v2", "d'accord : zoe@example.fr")
    yield s.crm("c2", "v2", 3, customer_type="standard")
    # four invalid answers; a stop word; no answer; a look-up that is never answered
    yield s.opened("c3", "v3")
    for text in ("no", "a@b.co or c@d.co", None, "never"):
        yield s.says("c3", "v3", text)
    yield s.opened("c4", "v4", language="ar")
    yield s.says("c4", "v4", "stop")
    yield s.opened("c5", "v5")
    yield s.opened("c6", "v6", email="six@example.com")
    yield s.talk("c6", "v6", "message.received", after_s=60.0, message_id="late", text="hello?")
    # the contact's record brings the address; a second conversation joins; the reply cannot be delivered
    yield s.opened("c7", "v7")
    yield s.opened("c7", "v7b")
    yield s.talk("c7", "v7", "contact.updated", contact={"id": "c7", "email": "seven@example.com"})
    yield s.crm("c7", "v7", 2, customer_type="standard")
    yield s.opened("c8", "v8")
    yield s.talk("c8", "v8", "reply.failed", reply="c8/v8/1/1", reason="blocked")
    # taken by hand, released, owned from the start, not taken by the trigger
    yield s.talk("c2", "v2", "assignee.changed", agent="cy")
    yield s.talk("c2", "v2", "assignee.changed", agent=None)
    yield s.opened("c9", "v9", agent="bo", opened_by="user")
    yield s.opened("c10", "v10", opened_by="workflow")
    # closed, opened again, duplicates, too late, an agent who goes with what he has
    yield s.talk("c1", "v1", "conversation.closed", reason="solved")
    yield s.opened("c1", "v1", id="again")
    yield s.opened("c1", "v1", id="again")
    yield s.crm("c1", "v1", 4, customer_type="VIP")
    yield s.agent("bo", "agent.removed")
    yield s.agent("cy", "agent.presence", status="offline")
    yield s.talk("c3", "v3", "conversation.closed")
    yield s.says("c3", "v3", "hello?")
    yield s.agent("cy", "agent.presence", status="online")
    yield s.talk("c5", "v5", "message.received", after_s=13 * 3600.0, message_id="too-late", text="five@example.com")
