"""The printed JSON Schema says what is read and written; what is published is checked by the same rules."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from events import event_types
from events.cloudevents import BadInputError, envelope
from events.dead_letters import dead_letter
from events.log import StoredRecord
from events.schema import DIALECT, check_publishable, schemas
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS

NOON = "2026-11-22T12:00:00.000Z"
OPENED = {
    "contact": {"id": "c1", "email": "ann@example.com", "name": "Ann", "language": "fr"},
    "channel": {"id": "w", "type": "whatsapp"},
    "opened_by": "contact",
    "message": {"id": 7, "text": "hi", "sent_at": NOON},
    "agent": None,
}
OFFER = {"conversation": "v1", "contact": {"id": "c1"}, "token": "t"}
INPUTS = {
    "conversation.opened": OPENED,
    "message.received": {"message_id": "m", "text": "", "kind": "text", "sent_at": NOON, "sender": "contact"},
    "contact.updated": {"contact": {"id": "c1", "email": None}},
    "assignee.changed": {"agent": None, "team": "support"},
    "conversation.closed": {"reason": "solved"},
    "reply.failed": {"reply": "c1/v1/3/1", "reason": "blocked"},
    "agent.updated": {"name": "Anna", "email": "anna@example.com", "teams": ["vip-desk"], "max_open": 5},
    "agent.presence": {"status": "online"},
    "agent.removed": {},
    "assignment.accepted": OFFER,
    "assignment.declined": OFFER,
}
COMMON = {
    "contact": {"id": "c1"}, "channel": {"id": "w", "type": "chat"}, "language": "en", "run": 1, "seq": 3, "n": 1,
    "log": {"id": "L", "partition": 0, "offset": 9},
}  # fmt: skip
OUTPUTS = {
    "reply.requested": {"kind": "ask", "attempt": 1, "text": "Your e-mail?"},
    "contact.email-captured": {"contact": {"id": "c1", "email": "ann@example.com"}},
    "conversation.queued": {
        "route": "vip", "route_reason": "vip", "target": {"agent": "anna"}, "overdue": True, "opens": NOON,
    },
    "conversation.offered": {"agent": "anna", "token": "t", "until": NOON},
    "conversation.offer-withdrawn": {"agent": "anna", "token": "t", "reason": "declined"},
    "conversation.accept-refused": {"agent": "anna", "token": "t", "reason": "offer-over"},
    "conversation.assigned": {
        "route": "regular", "route_reason": "not-vip", "agent": "ben", "team": "support", "strategy": "round-robin",
        "reason": "next in turn", "waited_ms": 0, "policy": "sha256:0123456789abcdef",
    },
    "conversation.rerouted": {
        "agent": "anna", "route": "vip", "route_reason": "late-vip", "policy": "sha256:0123456789abcdef",
    },
    "conversation.released": {"agent": "anna", "reason": "removed"},
    "conversation.not-routed": {"reason": "opened-by"},
}  # fmt: skip


def read(type_: Any, data: Any, **attributes: Any) -> Any:
    """An event as a producer sends it."""
    key = "default" if type_.startswith(("agent.", "assignment.")) else "c1"
    event = {"specversion": "1.0", "id": "e1", "source": "/chat", "type": type_, "subject": "v1", "time": NOON,
             "partitionkey": key, "data": data, **attributes}  # fmt: skip
    return {name: value for name, value in event.items() if value is not None}


def written(type_: Any, data: Any) -> Any:
    """An event as we write it."""
    raw = envelope(
        id="c1/v1/3/1", source="/vip-router/default/routing", type=type_, subject="v1", time_ms=0, partitionkey="c1",
        workspace="default", data={**COMMON, **data}, expiry_ms=5 if type_ == "reply.requested" else None,
    )  # fmt: skip
    return orjson.loads(raw)


def validator(type_: Any) -> Any:
    return Draft202012Validator(schemas()[type_], format_checker=FormatChecker())


def required_of(type_: Any) -> Any:
    schema = schemas()[type_]
    return schema["$defs"][schema["properties"]["data"]["$ref"].rpartition("/")[2]]["required"]


EXAMPLES = [
    *((type_, read(type_, data)) for type_, data in INPUTS.items()),
    *((type_, written(type_, data)) for type_, data in OUTPUTS.items()),
]


def test_every_public_type_has_a_schema_and_an_example() -> None:
    assert set(schemas()) == {*INPUTS, *OUTPUTS, "dead.letter"}


@pytest.mark.parametrize("type_", sorted(schemas()))
def test_each_schema_is_valid_and_stands_alone(type_: str) -> None:
    schema = schemas()[type_]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"urn:vip-router:{type_}:1"
    assert orjson.loads(orjson.dumps(schema)) == schema
    assert {text.split('"')[0] for text in orjson.dumps(schema).decode().split("#/$defs/")[1:]} <= set(schema["$defs"])


@pytest.mark.parametrize(("type_", "event"), EXAMPLES)
def test_real_events_are_valid(type_: str, event: Any) -> None:
    validator(type_).validate(event)


@pytest.mark.parametrize(("type_", "event"), EXAMPLES)
def test_unknown_fields_and_values_are_valid(type_: str, event: Any) -> None:
    """New optional fields and enumeration values are additions: no consumer may break by them."""
    more = copy.deepcopy(event)
    more["traceparent"] = "x"
    more["data"]["later"] = {"a": [1]}
    for name in ("kind", "sender", "opened_by", "status", "route", "route_reason", "strategy"):
        if name in more["data"]:
            more["data"][name] = "something-new"
    validator(type_).validate(more)


@pytest.mark.parametrize(("type_", "event"), EXAMPLES)
def test_broken_events_are_invalid(type_: str, event: Any) -> None:
    """The negative control: a schema that lets everything pass would pass the tests above."""
    check = validator(type_)
    for broken in (
        {**event, "specversion": "0.3"},
        {**event, "type": "other"},
        {**event, "id": ""},
        {**event, "id": True},
        {**event, "data": []},
        {name: value for name, value in event.items() if name != "source"},
    ):
        assert not check.is_valid(broken)


@pytest.mark.parametrize(("type_", "data"), [*INPUTS.items(), *OUTPUTS.items()])
def test_a_required_field_is_required(type_: str, data: Any) -> None:
    for name in required_of(type_):
        event = copy.deepcopy(read(type_, data) if type_ in INPUTS else written(type_, data))
        del event["data"][name]
        assert not validator(type_).is_valid(event)


def test_dead_letters_are_valid() -> None:
    record = StoredRecord("conversations.events", 0, 3, b"k", b"\xff", (("x", b"y"),), 0)
    validator("dead.letter").validate(orjson.loads(dead_letter(record, "not-json", "", now_ms=0).value or b""))


def test_whole_numbers_are_ids_where_we_read_and_not_where_we_write() -> None:
    validator("message.received").validate(read("message.received", {"message_id": 5}, id=7, subject=8))
    assert not validator("reply.requested").is_valid(
        {**written("reply.requested", OUTPUTS["reply.requested"]), "id": 7}
    )


@pytest.mark.parametrize(("type_", "data"), INPUTS.items())
def test_what_the_schema_takes_can_be_published(type_: str, data: Any) -> None:
    found = check_publishable(orjson.dumps(read(type_, data)))
    of_agents = type_.startswith(("agent.", "assignment."))
    assert found.topic == (AGENT_EVENTS if of_agents else CONVERSATION_EVENTS)
    assert found.partition_key == ("default" if of_agents else "c1")
    assert found.key == found.partition_key.encode()
    assert found.problem is None


@pytest.mark.parametrize(("type_", "data"), INPUTS.items())
def test_what_lacks_a_required_field_is_a_problem_to_the_schema_and_to_us(type_: str, data: Any) -> None:
    for name in required_of(type_):
        less = {other: value for other, value in data.items() if other != name}
        problem = check_publishable(orjson.dumps(read(type_, less))).problem
        assert problem is not None
        assert problem.reason == "bad-data"


class TestCheckPublishable:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"hello", "not-json"),
            (b"[]", "not-an-object"),
            (b"{}", "bad-envelope"),
            (b'{"specversion":"1.0","specversion":"1.0"}', "duplicate-keys"),
            (b'{"x":"' + b"x" * 300_000 + b'"}', "too-large"),
            (b"[" * 1000, "too-deep"),
            (orjson.dumps(read("message.received", {}, source=None)), "bad-envelope"),
        ],
    )
    def test_what_is_no_event_is_refused(self, raw: bytes, reason: str) -> None:
        with pytest.raises(BadInputError) as caught:
            check_publishable(raw)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("event", "reason", "partition_key"),
        [
            (read("message.recieved", {}), "unknown-type", "c1"),
            (read("agent.moved", {}), "unknown-type", "default"),
            (read("message.received", {"text": 5}), "bad-data", "c1"),
            (read("message.received", {"contact": {"id": "c2"}}), "key-mismatch", "c1"),
            (read("agent.removed", {}, workspace="acme"), "key-mismatch", "default"),
            (read("agent.removed", {}, subject=None), "bad-envelope", "default"),
            (read("message.received", {}, partitionkey=None), "no-contact", ""),
        ],
    )
    def test_an_event_that_the_router_cannot_use_says_why(self, event: Any, reason: str, partition_key: Any) -> None:
        found = check_publishable(orjson.dumps(event))
        assert found.problem is not None
        assert (found.problem.reason, found.partition_key) == (reason, partition_key)
        assert found.key == (partition_key.encode() or None)

    def test_agents_are_keyed_by_their_workspace(self) -> None:
        found = check_publishable(orjson.dumps(read("agent.removed", {}, partitionkey=None, workspace="acme")))
        assert (found.topic, found.key) == (AGENT_EVENTS, b"acme")

    def test_without_partitionkey_the_contact_in_the_data_is_the_key(self) -> None:
        found = check_publishable(orjson.dumps(read("message.received", {"contact": {"id": 5}}, partitionkey=None)))
        assert (found.key, found.problem) == (b"5", None)


def test_internal_types_are_known_but_not_public() -> None:
    internal = {event.name for event in event_types.EVENT_TYPES} - set(schemas())
    assert internal == {"crm.answered", "crm.failed", "assignment.requested", "assignment.ended", "assignment.taken",
                        "assignment.refused"}  # fmt: skip
