"""A record that cannot be used is kept with its reason, and its bytes come back exactly."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.adapter import record_bytes
from events.cloudevents import BadInputError, envelope
from events.dead_letters import CONTENT_BYTES_MAX, HEADER_BYTES, dead_letter, parse_dead_letter
from events.log import NewRecord, StoredRecord
from events.topics import DEAD_LETTERS, INPUT_BYTES_MAX, RECORD_BYTES_MAX

NOW_MS = 1_795_348_800_000
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORD = st.builds(
    StoredRecord,
    topic=st.sampled_from(["conversations.events", "agents.events", "crm.answers"]),
    partition=st.integers(0, 1000),
    offset=st.integers(0, 2**63 - 1),
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=400),
    headers=st.lists(st.tuples(NAME, st.binary(max_size=40)), max_size=4).map(tuple),
    time_ms=st.integers(0, NOW_MS),
)


def stored(record: NewRecord, time_ms: Any = 0) -> Any:
    return StoredRecord(record.topic, record.partition, 5, record.key, record.value, record.headers, time_ms)


def bad(**changes: Any) -> Any:
    record = StoredRecord("conversations.events", 7, 99, b"c1", b"not json", (("x", b"\xff"),), 1)
    return record._replace(**changes)


@given(RECORD)
def test_the_record_comes_back_exactly(record: StoredRecord) -> None:
    letter = parse_dead_letter(stored(dead_letter(record, "not-json", "why", now_ms=NOW_MS, partitions=8)))
    assert letter.record() == NewRecord(record.topic, record.partition, record.key, record.value, record.headers)
    assert (letter.topic, letter.partition, letter.offset) == record[:3]
    assert (letter.reason, letter.detail, letter.time_ms) == ("not-json", "why", NOW_MS)


def test_it_is_an_event_with_a_deterministic_id() -> None:
    letter = dead_letter(bad(), "not-json", "no JSON", now_ms=NOW_MS, workspace="acme")
    assert letter == dead_letter(bad(), "not-json", "no JSON", now_ms=NOW_MS, workspace="acme")
    assert orjson.loads(letter.value or b"") == {
        "specversion": "1.0",
        "id": "conversations.events/7/99",
        "source": "/vip-router/dead-letters",
        "type": "dead.letter",
        "time": "2026-11-22T12:00:00.000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:vip-router:dead.letter:1",
        "workspace": "acme",
        "data": {
            "reason": "not-json",
            "detail": "no JSON",
            "topic": "conversations.events",
            "partition": 7,
            "offset": 99,
            "key_base64": "YzE=",
            "value_base64": "bm90IGpzb24=",
            "headers": [{"name": "x", "value_base64": "/w=="}],
        },
    }


@pytest.mark.parametrize(("partitions", "partition"), [(None, 7), (8, 7), (7, 0), (1, 0), (5, 2)])
def test_it_keeps_key_and_partition(partitions: Any, partition: int) -> None:
    letter = dead_letter(bad(), "not-json", "", now_ms=0, partitions=partitions)
    assert (letter.topic, letter.partition, letter.key) == (DEAD_LETTERS, partition, b"c1")


def test_the_largest_input_fits_into_a_dead_letter() -> None:
    record = bad(value=b"\xff" * INPUT_BYTES_MAX)
    letter = dead_letter(record, "too-large", "x" * 5000, now_ms=0)
    assert len(letter.value or b"") < RECORD_BYTES_MAX
    assert parse_dead_letter(stored(letter)).value == record.value


@pytest.mark.parametrize("headers", [(), (("x", b"1" * 100_000),)])
def test_what_fits_just_so_is_kept(headers: Any) -> None:
    size = CONTENT_BYTES_MAX - 2 * len(b"c1")
    size -= sum(HEADER_BYTES + len(orjson.dumps(name)) + len(value) for name, value in headers)
    letter = dead_letter(bad(value=b"x" * size, headers=headers), "too-large", "", now_ms=0)
    assert len(letter.value or b"") < RECORD_BYTES_MAX
    assert parse_dead_letter(stored(letter)).record().value == b"x" * size


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"k" * 340_000},
        {"key": b"k" * 700_000},
        {"headers": (("", b""),) * 21_000},
        {"headers": (("", b""),) * 500_000},
    ],
)
def test_a_letter_never_outgrows_its_topic(changes: Any) -> None:
    """Whatever shape a record has that its topic takes; a letter that could not be written would stop the lane."""
    letter = dead_letter(bad(**changes), "too-large", "x" * 5000, now_ms=0)
    assert record_bytes(letter) < RECORD_BYTES_MAX


@pytest.mark.parametrize(
    "changes",
    [{"value": b"x" * 10_000_000}, {"headers": (("x", b"1" * 2_000_000),)}, {"key": b"k" * 2_000_000}],
)
def test_what_does_not_fit_is_named_and_stays_where_it_is(changes: Any) -> None:
    record = bad(**changes)
    letter = dead_letter(record, "too-large", "", now_ms=0)
    assert len(letter.value or b"") < 10_000
    parsed = parse_dead_letter(stored(letter))
    assert parsed.value_bytes == len(record.value)
    assert (parsed.value, parsed.topic, parsed.offset) == (None, "conversations.events", 99)
    with pytest.raises(ValueError, match=r"stand only at offset 99 of conversations\.events"):
        parsed.record()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "other.type"}, "unknown-type"),
        ({"data": {}}, "bad-data"),
        ({"data": {"value_base64": "%"}}, "bad-data"),
        ({"data": {"headers": [{"name": "x", "value_base64": "abc"}]}}, "bad-data"),
    ],
)
def test_what_is_no_dead_letter_is_refused(changes: Any, reason: str) -> None:
    event = orjson.loads(dead_letter(bad(), "not-json", "", now_ms=0).value or b"")
    if changes.get("data"):
        changes["data"] = {**event["data"], **changes["data"]}
    record = StoredRecord(DEAD_LETTERS, 0, 0, None, orjson.dumps({**event, **changes}), (), 0)
    with pytest.raises(BadInputError) as caught:
        parse_dead_letter(record)
    assert caught.value.reason == reason


def test_any_event_of_ours_is_no_dead_letter() -> None:
    value = envelope(id="1", source="s", type="t", subject=None, time_ms=0, partitionkey=None, workspace=None, data={})
    with pytest.raises(BadInputError):
        parse_dead_letter(StoredRecord(DEAD_LETTERS, 0, 0, None, value, (), 0))
