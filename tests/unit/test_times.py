"""RFC 3339 text and Unix milliseconds say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.times import TIME_MS_MAX, TIME_MS_MIN, format_time, parse_time

NOON_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T12:00:00Z", NOON_MS),
        ("2026-11-22T12:00:00.000Z", NOON_MS),
        ("2026-11-22t12:00:00.5z", NOON_MS + 500),
        ("2026-11-22T12:00:00.1239999Z", NOON_MS + 123),
        ("2026-11-22T12:00:00.123456789Z", NOON_MS + 123),
        ("2026-11-22T12:00:00.12345678901234567890Z", NOON_MS + 123),
        ("2026-11-22T14:00:00+02:00", NOON_MS),
        ("2026-11-22T06:15:00.007-05:45", NOON_MS + 7),
        ("2026-11-22T12:00:00-00:00", NOON_MS),
        ("2026-11-22T12:00:00.000000+00:00", NOON_MS),
        ("2016-12-31T23:59:60Z", 1_483_228_799_999),
        ("2016-12-31T23:59:60.5Z", 1_483_228_799_999),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", TIME_MS_MIN),
        ("9999-12-31T23:59:59.999Z", TIME_MS_MAX),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ],
)
def test_rfc_3339_is_read_to_the_millisecond(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T12:00:00",  # no offset: whose noon?
        "2026-11-22 12:00:00Z",
        "2026-11-22T12:00Z",
        "2026-11-22T12:00:00,5Z",
        "2026-11-22T12:00:00.Z",
        "20261122T120000Z",
        "2026-W47-7T12:00:00Z",
        "2026-326T12:00:00Z",
        "2026-11-22T12:00:00+0200",
        "2026-11-22T12:00:00+24:00",
        "2026-11-22T12:00:00+02",
        "2026-11-22T12:00:00Z ",
        "2026-11-22T12:00:00Z\n",
        "2026-11-22T12:00:00.000Z\x00",
        "٢٠٢٦-11-22T12:00:00Z",
        "2026-13-22T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T12:60:00Z",
        "2026-11-22T12:00:61Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "12026-11-22T12:00:00Z",
        "1795348800000",
        "2026-11-22T12:00:00." + "1" * 100_000 + "Z",
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@given(st.integers(TIME_MS_MIN, TIME_MS_MAX))
def test_milliseconds_come_back_from_their_text(ms: int) -> None:
    text = format_time(ms)
    assert len(text) == 24
    assert parse_time(text) == ms


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001 - made aware below
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_any_offset_is_the_instant_that_the_standard_library_has(moment: Any, minutes: Any) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_time(aware.isoformat(timespec="microseconds")) == (
        aware - datetime(1970, 1, 1, tzinfo=UTC)
    ) // timedelta(milliseconds=1)


@pytest.mark.parametrize("ms", [TIME_MS_MIN - 1, TIME_MS_MAX + 1, 10**30, -(10**30)])
def test_a_time_that_has_no_text_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="years"):
        format_time(ms)
