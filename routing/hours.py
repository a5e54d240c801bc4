"""When teams are open: their hours, read on the clocks of their zone.

An instant is in the hours if the clock on the wall shows a time that is: an hour that the clocks skip in spring is
never there, one that they repeat in autumn is there twice. A span that passes midnight belongs to the day on which it
begins, holidays included.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from routing.inputs import Offsets, PoolTarget, Span, TeamHours

DAY_MS: Final = 86_400_000
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
AHEAD_DAYS: Final = 370  #: where nothing changes for so long, one looks again then
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY: Final = 3  #: 1970 began on a Thursday


class StandIn(PoolTarget, frozen=True, kw_only=True, omit_defaults=True):
    """A target that serves for others while all these hours are closed."""

    while_closed: tuple[str, ...]


class Standing(NamedTuple):
    """How hours stand at an instant."""

    is_open: bool
    until_ms: int  #: when they stand otherwise, or are to be looked at again; an instant later than the one asked for


class Clock:
    """The hours of some teams with their zone, ready to be asked."""

    def __init__(self, hours: TeamHours, zone: Offsets) -> None:
        self._week = hours.week
        self._dates = {date.fromisoformat(day).toordinal() - _EPOCH_DAY: spans for day, spans in hours.dates}
        self._from_ms = [from_ms for from_ms, _ in zone]
        self._offsets_ms = [offset_ms for _, offset_ms in zone]

    def is_open(self, at_ms: int) -> bool:
        """Whether the clock shows a time in the hours."""
        day, day_ms = divmod(at_ms + self._offset_ms(at_ms), DAY_MS)
        return any(start <= day_ms < end for start, end in self._open_on(day))

    def standing(self, at_ms: int) -> Standing:
        """Whether it is open, and until when; looks at most ``AHEAD_DAYS`` ahead."""
        is_open, here_ms, last_ms = self.is_open(at_ms), at_ms, at_ms + AHEAD_DAYS * DAY_MS
        while here_ms < last_ms:
            day, day_ms = divmod(here_ms + self._offset_ms(here_ms), DAY_MS)
            midnight_ms = here_ms - day_ms
            end_ms = min(midnight_ms + DAY_MS, self._next_offset_ms(here_ms) or last_ms)
            for edge_ms in _edges(self._open_on(day)):
                if day_ms < edge_ms and midnight_ms + edge_ms < end_ms:
                    return Standing(is_open, midnight_ms + edge_ms)
            here_ms = end_ms
            if self.is_open(here_ms) != is_open:
                return Standing(is_open, here_ms)
        return Standing(is_open, last_ms)

    def _offset_ms(self, at_ms: int) -> int:
        return self._offsets_ms[max(bisect_right(self._from_ms, at_ms) - 1, 0)]

    def _next_offset_ms(self, at_ms: int) -> int | None:
        index = bisect_right(self._from_ms, at_ms)
        return self._from_ms[index] if index < len(self._from_ms) else None

    def _begin_on(self, day: int) -> tuple[Span, ...]:
        """The spans that begin on a day, counted from 1970."""
        spans = self._dates.get(day)
        return self._week[(day + _EPOCH_WEEKDAY) % 7] if spans is None else spans

    def _open_on(self, day: int) -> list[Span]:
        """When it is open on a day, what began the day before included: in order, and apart from each other."""
        spans = [(0, end - DAY_MS) for _, end in self._begin_on(day - 1) if end > DAY_MS]
        spans += [(start, min(end, DAY_MS)) for start, end in self._begin_on(day)]
        return joined(spans)


def _edges(spans: Iterable[Span]) -> Iterable[int]:
    return (edge for span in spans for edge in span)


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same time in order, with spans that touch or overlap made one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def closed_longest_ms(week: tuple[tuple[Span, ...], ...]) -> int:
    """The longest time in an ordinary week that nobody is there."""
    spans = joined((day * DAY_MS + start, day * DAY_MS + end) for day in range(14) for start, end in week[day % 7])
    return max((after[0] - before[1] for before, after in pairwise(spans)), default=0)


@lru_cache(maxsize=1_024)
def clock(hours: TeamHours, zone: Offsets) -> Clock:
    """The clock of these hours in a zone of these offsets."""
    return Clock(hours, zone)
