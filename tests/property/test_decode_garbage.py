"""Whatever bytes arrive, they become an event or a refusal with a reason: nothing else ever leaves the codec."""

from __future__ import annotations

import json
from typing import Any, get_args

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events import event_types
from events.cloudevents import BadInputError, Reason, parse_object
from events.dead_letters import DeadLetter, parse_dead_letter
from events.decode import decode_agent, decode_conversation, decode_crm_answer, decode_request
from events.log import StoredRecord
from events.schema import Publishable, check_publishable
from routing.inputs import Event

DECODERS = {
    "conversations.events": decode_conversation,
    "agents.events": decode_agent,
    "crm.answers": decode_crm_answer,
    "assignment.requests": decode_request,
}
NOON = "2026-11-22T12:00:00.000Z"
SECRET = "ann.secret@acme.com"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT | st.sampled_from([SECRET, NOON, "1.0", "", "\x00", "c1", 1e30, 1.0])
)  # fmt: skip
NAMES = st.sampled_from(
    sorted(
        {field for event in event_types.EVENT_TYPES for field in event.data.__struct_fields__}
        | {"id", "type", "sent_at"}
    )
)
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=5), max_leaves=12
)
ATTRIBUTES = ["specversion", "id", "source", "type", "subject", "time", "partitionkey", "workspace", "dataschema",
              "datacontenttype", "data_base64", "data"]  # fmt: skip
TYPES = st.sampled_from([event.name for event in event_types.EVENT_TYPES])
EVENT = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.just("e1") | SCALAR, "source": st.just("/s"), "type": TYPES},
    optional={
        "subject": st.just("v1") | SCALAR,
        "time": st.just(NOON) | SCALAR,
        "partitionkey": st.just("c1") | SCALAR,
        "workspace": st.just("default") | SCALAR,
        "data": st.dictionaries(NAMES, JSON, max_size=6) | JSON,
    },
)
HEADERS = st.lists(
    st.tuples(st.sampled_from([*(f"ce_{name}" for name in ATTRIBUTES), "content-type", "x"]),
              st.binary(max_size=12) | st.sampled_from([b"1.0", b"message.received", b"application/json",
                                                        b"application/cloudevents+json"])),
    max_size=6,
).map(tuple)  # fmt: skip


def outcome(topic: Any, value: Any, key: Any = b"k", headers: Any = ()) -> Any:
    """An event, or the refusal; anything else that is raised fails the test."""
    record = StoredRecord(topic, 0, 1, key, value, headers, 1)
    found = result(DECODERS[topic], record)
    if isinstance(found, BadInputError):
        assert 0 < len(found.detail) < 1000
        assert found.reason in get_args(Reason)
        assert SECRET not in str(found)
    else:
        assert isinstance(found, Event)
    return found


def result(read: Any, value: Any) -> Any:
    """What ``read`` returns, or the refusal that it raises."""
    try:
        return read(value)
    except BadInputError as error:
        return error


@given(
    st.sampled_from(sorted(DECODERS)), st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=8), HEADERS
)
def test_any_bytes_and_headers(topic: Any, value: Any, key: Any, headers: Any) -> None:
    outcome(topic, value, key, headers)


@given(st.sampled_from(sorted(DECODERS)), JSON)
def test_any_json(topic: Any, value: Any) -> None:
    outcome(topic, orjson.dumps(value))


TOPICS = {event.name: event.topic for event in event_types.EVENT_TYPES}


@given(EVENT, st.sampled_from([None, b"", b"k", b"\xff", b"\x00"]), st.booleans())
@example({"specversion": "1.0", "id": 1, "source": "s", "type": "agent.removed", "subject": 2}, None, True)
@example({"specversion": "1.0", "id": 1, "source": "s", "type": "message.received"}, b"\xff", True)
def test_any_event_with_any_data(event: Any, key: Any, at_home: Any) -> None:
    """Mostly on the topic where its type belongs, so that its data is read."""
    topic = TOPICS[event["type"]] if at_home else "conversations.events"
    outcome(topic if topic in DECODERS else "crm.answers", orjson.dumps(event), key)


@given(st.binary(max_size=200) | JSON.map(orjson.dumps) | EVENT.map(orjson.dumps))
def test_publishing_and_dead_letters_refuse_the_same_way(raw: bytes) -> None:
    record = StoredRecord("dead-letters", 0, 0, None, raw, (), 0)
    for found in (result(check_publishable, raw), result(parse_dead_letter, record)):
        assert isinstance(found, BadInputError | Publishable | DeadLetter)


GOOD: dict[str, dict[str, Any]] = {
    "conversation.opened": {
        "contact": {"id": "c1", "email": "ann@example.com", "name": "Ann"}, "channel": {"id": "w", "type": "chat"},
        "message": {"id": "m1", "text": "hi"},
    },
    "message.received": {"message_id": "m1", "text": "é:", "kind": "image", "sent_at": NOON},
    "contact.updated": {"contact": {"id": "c1", "email": None, "name": "Ann"}},
    "assignee.changed": {"agent": "anna"},
    "conversation.closed": {"reason": "solved"},
    "reply.failed": {"reply": "c1/v1/3/1", "reason": "blocked"},
}  # fmt: skip
EXTRA_NAME = TEXT.map(lambda text: f"x-{text}")


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_fields_that_we_do_not_know_change_nothing(type_: str, data: Any) -> None:
    """A valid event reads the same with additional attributes and data, in any order, with blanks and escapes."""
    plain = {"specversion": "1.0", "id": "e1", "source": "/s", "type": type_, "subject": "v1", "time": NOON,
             "partitionkey": "c1", "data": GOOD[type_]}  # fmt: skip
    more = st.dictionaries(EXTRA_NAME, JSON, max_size=3)
    inner = {
        name: {**value, **data.draw(more)} if isinstance(value, dict) else value for name, value in GOOD[type_].items()
    }
    members = list({**plain, **data.draw(more), "data": {**inner, **data.draw(more)}}.items())
    shuffled = dict(data.draw(st.permutations(members)))
    text = json.dumps(shuffled, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1])))
    expected = outcome("conversations.events", orjson.dumps(plain))
    assert isinstance(expected, Event)
    assert outcome("conversations.events", text.encode()) == expected


def members(raw: Any) -> Any:
    """Every object's keys as the standard library finds them: the oracle for duplicates."""
    duplicates = []

    def see(pairs: Any) -> Any:
        names = [name for name, _ in pairs]
        duplicates.append(len(names) != len(set(names)))
        return dict(pairs)

    json.loads(raw, object_pairs_hook=see)
    return any(duplicates)


KEY = st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"', '"\\u003a"', '"é"', '"\\u00e9"', '"\\\\u003a"'])
VALUE = st.recursive(
    st.sampled_from(["1", "1.50", "null", '":"', '"\\u003A"', '"x:y"', '"\\\\u003a"', '"\\""', "1e2"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEY, inner), max_size=4).map(
            lambda pairs: f"{{{','.join(f'{k} :{v}' for k, v in pairs)}}}"
        )
    ),
    max_leaves=10,
)


@given(st.lists(st.tuples(KEY, VALUE), max_size=4))
@example([('"a"', "1"), ('"a"', '"x"'), ('"b"', '"\\u003a"')])
def test_duplicate_keys_are_found_exactly_where_there_are_any(pairs: Any) -> None:
    raw = f"{{{','.join(f'{key}:{value}' for key, value in pairs)}}}".encode()
    if members(raw):
        with pytest.raises(BadInputError, match="duplicate-keys"):
            parse_object(raw)
    else:
        assert parse_object(raw) == json.loads(raw)
