"""Answers that are kept: as old as the policy allows, as many as there is room for, and with their age."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.crm.cache import AnswerCache
from consumers.crm.outcomes import Answered
from consumers.crm.retry_after import retry_after_s
from tests.crm_support import NOW_MS


def answered(**changes: Any) -> Answered:
    values: dict[str, Any] = {
        "status": 200, "variables": {"a": "b"}, "personal": {}, "notes": {}, "attempts": 2, "latency_ms": 9,
    }  # fmt: skip
    return Answered(**{**values, **changes})


def test_an_answer_is_given_again_with_its_age_until_it_is_too_old() -> None:
    cache = AnswerCache()
    cache.put(b"k", answered(personal={"p": 1}), now_ms=1_000)
    again = cache.get(b"k", now_ms=1_999, ttl_ms=1_000)
    assert again == answered(personal={"p": 1}, attempts=0, latency_ms=0, age_ms=999)
    assert cache.get(b"k", now_ms=2_000, ttl_ms=1_000) is None
    assert len(cache) == 0


def test_a_clock_that_went_back_makes_no_answer_younger_than_new() -> None:
    cache = AnswerCache()
    cache.put(b"k", answered(), now_ms=1_000)
    again = cache.get(b"k", now_ms=500, ttl_ms=1_000)
    assert again is not None
    assert again.age_ms == 0


def test_no_such_contact_is_an_answer_too() -> None:
    cache = AnswerCache()
    cache.put(b"k", answered(status=404, variables={}), now_ms=0)
    assert cache.get(b"k", now_ms=1, ttl_ms=1_000) == answered(
        status=404, variables={}, attempts=0, latency_ms=0, age_ms=1
    )


def test_the_answer_used_longest_ago_makes_room() -> None:
    cache = AnswerCache(entries_max=2)
    for key in (b"1", b"2"):
        cache.put(key, answered(), now_ms=0)
    cache.get(b"1", now_ms=1, ttl_ms=10)
    cache.put(b"3", answered(), now_ms=1)
    assert [cache.get(key, now_ms=1, ttl_ms=10) is not None for key in (b"1", b"2", b"3")] == [True, False, True]


def test_large_answers_are_bounded_by_their_size() -> None:
    cache = AnswerCache(bytes_max=10_000)
    for number in range(100):
        cache.put(b"%d" % number, answered(variables={"a": "x" * 1_000}), now_ms=0)
    assert 5 <= len(cache) <= 10
    cache.put(b"99", answered(variables={"a": "x"}), now_ms=0)
    for number in range(100):
        cache.put(b"%d" % number, answered(variables={}), now_ms=0)
    assert len(cache) == 100, "what was replaced takes no room"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tuesday, 14-Nov-23 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 23:00:05 GMT", "date": "Tue, 14 Nov 2023 23:00:00 GMT"}, 5.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT", "date": "junk"}, 10.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "1.5"}, 0.0),
        ({"retry-after": "٣"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 99999999 07:28:00 GMT"}, 0.0),
        ({"retry-after": "9" * 5_000}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers, now_ms=NOW_MS) == pytest.approx(seconds)
