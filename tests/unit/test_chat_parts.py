"""The parts of the chat: reading what is typed, what is sent, what is said, and when nothing more comes."""

import asyncio
import os
from typing import Any

import orjson
import pytest

from consumers.chat import session
from consumers.chat.contact import ContactEvents, Person
from consumers.chat.seen import Seen
from consumers.chat.session import NotSettledError, Session
from consumers.chat.typed import LINE_BYTES_MAX, Typed
from consumers.cli.chat_output import reads_from_right
from consumers.publisher import publish_all
from events.dead_letters import dead_letter
from events.log import StoredRecord, TopicPartition
from events.memory import MemoryLog
from events.schema import check_publishable
from events.topics import ASSIGNMENTS, CONVERSATION_EVENTS, DEAD_LETTERS, REPLIES, ROUTING_LOG, partition_counts

PERSON = Person(id="chat-1", language="fr", channel="web-chat", name="Ann")


async def lines_of(content: bytes) -> list[str]:
    receiving, sending = os.pipe()
    os.write(sending, content)
    os.close(sending)
    typed, found = Typed(receiving), []
    while (line := await typed.next()) is not None:
        found.append(line)
    os.close(receiving)
    return found


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\nb", ["a", "", "b"]),
        ("مرحبا\n".encode(), ["مرحبا"]),
        (b"\xff\xfe!\n", ["��!"]),
    ],
)
async def test_what_is_typed_comes_line_by_line_to_the_end(content, lines):
    assert await lines_of(content) == lines


async def test_a_line_without_end_does_not_fill_the_memory():
    typed = Typed(os.open(os.devnull, os.O_RDONLY))
    typed._take(b"x" * (3 * LINE_BYTES_MAX))
    assert [len(line) for line in typed._lines] == [LINE_BYTES_MAX, LINE_BYTES_MAX]


def test_everything_that_is_sent_can_be_published():
    contact = ContactEvents(PERSON, partitions=4)
    sent = [
        contact.opened("hi"),
        contact.said("a@b.co"),
        contact.updated("a@b.co"),
        contact.taken("anna"),
        contact.closed(),
    ]
    found = [check_publishable(one.record.value or b"") for one in sent]
    assert [one.problem for one in found] == [None] * len(sent)
    assert {one.partition_key for one in found} == {"chat-1"}
    assert len({one.id for one in sent}) == len(sent)


def record(topic: str, type_: str, contact: str = "chat-1", **data: Any) -> StoredRecord:
    event = {"type": type_, "partitionkey": contact, "data": {"cause": {"id": "e1"}, **data}}
    return StoredRecord(topic, 0, 0, None, orjson.dumps(event), (), 0)


class Heard(list[tuple[str, str]]):
    def __call__(self, kind: str, text: str) -> None:
        self.append((kind, text))


def test_a_question_settles_once_its_text_has_come():
    heard = Heard()
    seen = Seen("chat-1", heard)
    started: dict[str, Any] = {"from": "opened", "to": "awaiting-email", "pii": {"reply": "?"}}
    seen.take(record(ROUTING_LOG, "conversation.started", **started))
    assert not seen.is_settled()
    seen.take(record(REPLIES, "reply.requested", text="Your address?"))
    assert seen.is_settled()
    assert heard == [("state", "opened → awaiting-email"), ("bot", "Your address?")]


def test_a_route_settles_once_the_desk_has_said_who_has_it():
    heard = Heard()
    seen = Seen("chat-1", heard)
    routed: dict[str, Any] = {"from": "fetching-crm", "to": "routed-vip", "request": {"type": "assignment.requested"}}
    seen.take(record(ROUTING_LOG, "crm.resolved", input={"status": 200, "variables": {"tier": "gold"}}, **routed))
    assert not seen.is_settled()
    assigned = {"route": "vip", "route_reason": "vip", "strategy": "dedicated", "reason": "dedicated"}
    seen.take(record(ASSIGNMENTS, "conversation.assigned", agent="anna", **assigned))
    assert seen.is_settled()
    assert heard[0] == ("crm", "answered with 200: tier gold")
    assert heard[-1] == ("desk", "anna has it (vip: vip; dedicated)")


@pytest.mark.parametrize(
    ("request_", "settled"),
    [
        ({"type": "assignment.taken", "agent": "anna"}, True),
        ({"type": "assignment.taken", "agent": "bruno"}, False),
        ({"type": "assignment.ended"}, False),
    ],
)
def test_the_desk_is_waited_for_only_where_it_has_something_to_say(request_, settled):
    seen = Seen("chat-1", Heard())
    assigned = {"route": "vip", "route_reason": "vip", "strategy": "dedicated", "reason": "dedicated"}
    seen.take(record(ASSIGNMENTS, "conversation.assigned", agent="anna", **assigned))
    seen.take(record(ROUTING_LOG, "conversation.taken", **{"from": "routed-vip"}, to="routed-vip", request=request_))
    assert seen.is_settled() == settled


def test_what_concerns_other_contacts_is_left_aside():
    heard = Heard()
    Seen("chat-1", heard).take(record(REPLIES, "reply.requested", contact="c2", text="not for you"))
    assert heard == []


async def test_a_script_does_not_wait_for_ever_where_nobody_works(monkeypatch):
    monkeypatch.setattr(session, "SETTLE_S", 0.01)
    topics = partition_counts(4, 1)
    async with MemoryLog(cluster_id="c", clock_ms=lambda: 0, topics=topics) as log:
        contact = ContactEvents(PERSON, partitions=4)
        receiving, sending = os.pipe()
        os.write(sending, b"hello\n")
        with pytest.raises(NotSettledError, match="serve"):
            await Session(log, contact, Heard()).converse(Typed(receiving))
        os.close(sending)
        place = TopicPartition(CONVERSATION_EVENTS, contact.partition)
        assert await log.end_offset(place) == 1


async def test_a_script_ends_with_the_reason_why_what_it_sent_is_a_dead_letter():
    """Where the cause is known nobody has to guess whether somebody works; others' dead letters are left aside."""
    topics = partition_counts(4, 1)
    async with MemoryLog(cluster_id="c", clock_ms=lambda: 0, topics=topics) as log:
        contact, heard = ContactEvents(PERSON, partitions=4), Heard()
        place = TopicPartition(CONVERSATION_EVENTS, contact.partition)
        receiving, sending = os.pipe()
        os.write(sending, b"hello\n")
        one = Session(log, contact, heard)
        following = asyncio.create_task(one.follow(await one.reader()))
        talking = asyncio.create_task(one.converse(Typed(receiving)))
        inputs = log.reader({place: 0})
        [sent] = await inputs.fetch(records_max=1, timeout_s=None)
        count = await log.partition_count(DEAD_LETTERS)
        for whose in (sent._replace(key=b"c2"), sent):
            await publish_all(
                log, [dead_letter(whose, "unknown-workspace", f"no {whose.key!r}", now_ms=0, partitions=count)]
            )
        with pytest.raises(NotSettledError, match=r"unknown-workspace: no b'chat-1'"):
            await talking
        following.cancel()
        os.close(sending)
        assert heard[1:] == [("dead", "the router could not use it: unknown-workspace: no b'chat-1'")]


async def test_who_sees_that_his_opening_was_refused_opens_with_the_next_line():
    topics = partition_counts(4, 1)
    async with MemoryLog(cluster_id="c", clock_ms=lambda: 0, topics=topics) as log:
        contact = ContactEvents(PERSON, partitions=4)
        one = Session(log, contact, Heard())
        reader = await one.reader()
        opening = one._event("hello")
        assert opening is not None
        record = opening.record
        stored = StoredRecord(record.topic, record.partition, 0, record.key, record.value, record.headers, 0)
        count = await log.partition_count(DEAD_LETTERS)
        await publish_all(log, [dead_letter(stored, "unknown-workspace", "none", now_ms=0, partitions=count)])
        following = asyncio.create_task(one.follow(reader))
        await one._moved.wait()
        following.cancel()
        again = one._event("hello?")
        assert again is not None
        assert orjson.loads(again.record.value or b"")["type"] == "conversation.opened"


def test_what_he_does_happens_in_his_workspace():
    contact = ContactEvents(Person(id="c", language="en", channel="x", workspace="sales"), partitions=4)
    assert orjson.loads(contact.opened("hi").record.value or b"")["workspace"] == "sales"


@pytest.mark.parametrize(
    ("text", "from_right"),
    [("hello", False), ("12: مرحبا", True), ("مرحبا a@b.co", True), ("a@b.co شكرا", False), ("", False)],
)
def test_a_line_has_the_direction_of_its_first_letter(text, from_right):
    assert reads_from_right(text) == from_right
