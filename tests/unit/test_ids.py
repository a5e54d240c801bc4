"""Names of ours are deterministic, unambiguous and can be taken apart again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import ids
from events.ids import EventId, encode_part, event_id, parse_event_id

PART = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("contact-8812", "contact-8812"),
        ("A.b_c~d-9", "A.b_c~d-9"),
        ("", ""),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a b", "a%20b"),
        ("ann@acme.com", "ann%40acme.com"),
        ("é", "%C3%A9"),
        ("plain\n", "plain%0A"),
    ],
)
def test_parts_are_percent_encoded_and_plain_ones_stay(text: str, encoded: str) -> None:
    assert encode_part(text) == encoded
    assert ids.decode_part(encoded) == text


def test_an_event_id_names_contact_conversation_seq_and_output() -> None:
    assert event_id("c/1", "conv 7", 3, 2) == "c%2F1/conv%207/3/2"


def test_a_record_of_the_contact_alone_has_an_empty_part() -> None:
    assert event_id("c1", None, 3, 0) == "c1//3/0"


@given(PART, PART, st.integers(0, 10**15), st.integers(0, 1000))
def test_an_event_id_can_be_taken_apart(contact: str, subject: str, seq: int, n: int) -> None:
    text = event_id(contact, subject, seq, n)
    assert text.isascii()
    assert text.isprintable()
    assert parse_event_id(text) == EventId(contact, subject, seq, n)


@given(st.tuples(PART, PART, st.integers(0, 99)), st.tuples(PART, PART, st.integers(0, 99)))
def test_different_things_have_different_ids(one: Any, other: Any) -> None:
    names = [event_id(contact, subject, seq, 0) for contact, subject, seq in (one, other)]
    assert (names[0] == names[1]) is (one == other)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a/b/1", "a/b/1/2/3", "a/b/x/0", "a/b/1/-1", "a/b/01/0", "a/b/1/crm", "a b/c/1/0", "%2f/c/1/0",
        "%41/c/1/0", "%ff/c/1/0", "%/c/1/0", "é/c/1/0", "a/b/1/" + "9" * 5000,
    ],
)  # fmt: skip
def test_ids_of_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"id|encoded|decode"):
        parse_event_id(text)


def test_sources_and_names_are_those_of_the_contract() -> None:
    assert ids.routing_source("default") == "/vip-router/default/routing"
    assert ids.assignments_source("a b") == "/vip-router/a%20b/assignments"
    assert ids.crm_source("default") == "/vip-router/default/crm"
    assert ids.crm_answer_id("c1", "v/1", 4) == "c1/v%2F1/4/crm"
    assert ids.dead_letter_id("conversations.events", 2, 77) == "conversations.events/2/77"
