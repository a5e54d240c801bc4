"""Periods of the calendar, UTC: days, weeks that begin on Monday, or all of the time at once."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from events.times import TIME_MS_MAX, TIME_MS_MIN

DAY_MS: Final = 86_400_000
_MONDAY_MS: Final = 4 * DAY_MS  #: 1970-01-05
_LENGTH_MS: Final = {"day": DAY_MS, "week": 7 * DAY_MS}

By: TypeAlias = Literal["day", "week", "whole"]


class Span(NamedTuple):
    """From (included) and until when (excluded), Unix milliseconds."""

    from_ms: int
    until_ms: int


def period_of(at_ms: int, by: By) -> Span:
    """The period that a moment lies in."""
    if by == "whole":
        return Span(TIME_MS_MIN, TIME_MS_MAX + 1)
    length_ms = _LENGTH_MS[by]
    begins_ms = at_ms - (at_ms - _MONDAY_MS) % length_ms
    return Span(begins_ms, begins_ms + length_ms)
