"""How far a zone's clocks are from UTC, and from when: what the system's time zone data say.

It is read when a policy is, and handed to the deciders as plain numbers; they never look into a zone themselves, so
that what was decided with one edition of the data is decided the same with a later one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from routing.inputs import Offsets

KNOWN_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)  #: before it, a zone is taken to be as it was then
KNOWN_UNTIL: Final = datetime(2051, 1, 1, tzinfo=UTC)  #: from then on, a zone is taken to stay as it is then
_STEP: Final = timedelta(days=1)  #: no zone goes forth and back within a day
_EXACT: Final = timedelta(seconds=1)


@lru_cache(maxsize=64)
def offsets_of(zone: str) -> Offsets:
    """The zone's offsets from ``KNOWN_FROM`` to ``KNOWN_UNTIL``; raises ``ValueError`` with a sentence."""
    known = _load(zone)
    found = [(0, _offset(known, KNOWN_FROM))]
    at = KNOWN_FROM
    while at < KNOWN_UNTIL:
        if _offset(known, at + _STEP) != found[-1][1]:
            change = _change(known, at, at + _STEP)
            found.append((_milliseconds(change - datetime.fromtimestamp(0, UTC)), _offset(known, change)))
        at += _STEP
    return tuple(found)


def _load(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone if zone != "localtime" else "")  # that one is another one on every machine
    except (OSError, ValueError, LookupError):  # no such name, a folder's name, or no name at all
        names = available_timezones()
        if not names:
            raise ValueError(
                'this system has no time zone data: install its package "tzdata", or the Python package of that name'
            ) from None
        near = get_close_matches(zone, sorted(names), n=1, cutoff=0.6)
        hint = f'; did you mean "{near[0]}"?' if near else ', such as "Europe/Berlin"'
        raise ValueError(f"there is no such time zone: write a name of the IANA database{hint}") from None


def _offset(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return _milliseconds(offset)


def _milliseconds(time: timedelta) -> int:
    return time // timedelta(milliseconds=1)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second in between at which the offset is no more what it was."""
    offset = _offset(zone, before)
    while after - before > _EXACT:
        middle = before + (after - before) // _EXACT // 2 * _EXACT
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after
