"""Paths of names and indices are walked; all others are refused with the reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.jsonpath import MISSING, PATH_CHARS_MAX, parse_path, walk
from routing.jsonquery import FOUND_MAX, Query

DOCUMENT = {
    "customerType": "VIP",
    "customer": {"tags": ["a", "b", {"deep": None}], "the type": 1, "it's": 2, 'say "x"': 3, "": 4, "naïve": 5},
    "0": "text key",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", DOCUMENT),
        ("$.customerType", "VIP"),
        ("$['customerType']", "VIP"),
        ('$["customerType"]', "VIP"),
        ("$.customer.tags[0]", "a"),
        ("$.customer.tags[-2]", "b"),
        ("$ .customer [ 'tags' ] [ 1 ]", "b"),
        ("$.customer.tags[2].deep", None),
        ("$.customer['the type']", 1),
        ("$.customer['it\\'s']", 2),
        ('$.customer["it\'s"]', 2),
        ("$.customer['say \"x\"']", 3),
        ('$.customer["say \\"x\\""]', 3),
        ("$.customer['']", 4),
        ("$.customer.naïve", 5),
        ("$.customer['na\\u00efve']", 5),
        ("$['0']", "text key"),
        ("$[0]", MISSING),
        ("$.customer.tags[3]", MISSING),
        ("$.customer.tags[-4]", MISSING),
        ("$.customer.tags.length", MISSING),
        ("$.customerType[0]", MISSING),
        ("$.customer.tags[2].deep.er", MISSING),
        ("$.no.such", MISSING),
    ],
)
def test_a_path_finds_the_value(path: str, value: Any) -> None:
    assert walk(DOCUMENT, parse_path(path)) is value or walk(DOCUMENT, parse_path(path)) == value
    assert (walk(DOCUMENT, parse_path(path)) is MISSING) == (value is MISSING)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.contacts[*].id", ["7", "8", "9"]),
        ("$.contacts[?@.main].id", "8"),
        ("$.contacts[?@.kind == 'person' && @.open > 1].id", ["7", "9"]),
        ("$.contacts[1:].id", ["8", "9"]),
        ("$.contacts[::-1].id", ["9", "8", "7"]),
        ("$.contacts[?length(@.id) == 2].id", MISSING),
        ("$.contacts[?@.kind == 'robot'].id", MISSING),
        ("$.nothing[*]", MISSING),
    ],
)
def test_a_query_finds_one_value_or_a_list(path: str, value: Any) -> None:
    """One place is a value, as conditions compare it; none is missing; several are a list in the document's order."""
    person = {"kind": "person"}
    contacts = [
        {**person, "id": "7", "open": 2},
        {"kind": "firm", "id": "8", "main": True},
        {**person, "id": "9", "open": 3},
    ]
    assert walk({"contacts": contacts}, parse_path(path)) == value


def test_a_query_looks_at_a_bounded_number_of_places() -> None:
    assert len(walk(list(range(100_000)), parse_path("$[*]"))) == FOUND_MAX


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "begin with $"),
        ("customerType", "begin with $"),
        ("$..type", "descendants"),
        ("$.a[?@..b]", "descendants"),
        ("$[0,1]", "several selectors"),
        ("$['a','b']", "several selectors"),
        ("$.a[?match(@.b, 'x')]", "match() is not taken"),
        ("$.a[?!search(@.b, 'x') && @.c]", "search() is not taken"),
        ("$.a[?@.b == $.c]", "$ inside a filter"),
        ("$.a[?count(@[?@.b]) > 1]", "a filter inside a filter"),
        ("$.", "no path of RFC 9535"),
        ("$.1a", "no path of RFC 9535"),
        ("$.a-b", "no path of RFC 9535"),
        ("$[01]", "no path of RFC 9535"),
        ("$[-0]", "no path of RFC 9535"),
        ("$['a", "no path of RFC 9535"),
        ("$[a]", "no path of RFC 9535"),
        ("$.a ", "whitespace"),
        ("$.*" + ".*" * 32, "33 steps"),
        ("$['\\q']", "no valid string"),
        ("$['\\\"']", "no valid string"),
        ('$["\\\'"]', "no valid string"),
        ("$['\\ud800']", "no valid string"),
        ("$[99999999999999999999]", "out of range"),
        ("$" + ".a" * 33, "33 steps"),
        ("$." + "a" * PATH_CHARS_MAX, "at most 512"),
    ],
)
def test_other_paths_are_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_path(path)


def test_depth_is_no_error() -> None:
    """A document far deeper than Python's stack is walked as far as the path goes, and compared not at all."""
    document: dict[str, Any] = {}
    for _ in range(100_000):
        document = {"a": document}
    assert isinstance(walk(document, parse_path("$" + ".a" * 32)), dict)
    assert walk({"b": [{"x": document, "y": {"a": document}}]}, parse_path("$.b[?@.x == @.y]")) is MISSING
    with pytest.raises(ValueError, match="at most 512"):
        parse_path("$" + "[" * 100_000)
    with pytest.raises(ValueError, match="no path of RFC 9535"):
        parse_path("$[?" + "(" * 500)


@given(st.text(alphabet="$.[]'\"\\u0019afd*?:,-@ \n\u00e9", max_size=40).map("$".__add__))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        steps = parse_path(text)
    except ValueError:
        return
    assert walk(DOCUMENT, steps) is not Ellipsis
    assert isinstance(steps, Query) or all(isinstance(step, str | int) for step in steps)
