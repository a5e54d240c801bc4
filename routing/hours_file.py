"""Reads a policy's ``[hours.*]``: spans of the days, holidays, the zone, and what is said to who comes too late.

Whether the hours make sense beside each other and beside the routes is ``routing/hours_checks.py``'s business.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, Final

from routing import texts
from routing.errors import PolicyError
from routing.hours import DAY_MS, DAYS
from routing.inputs import Offsets, PoolTarget, Span, TeamHours
from routing.policy import Hours
from routing.policy_reader import MESSAGE_CHARS_MAX, REQUIRED, Document, Table, kind_of
from routing.policy_targets import ID_CHARS_MAX, TARGET_KEYS, read_target
from routing.zones import offsets_of

HOURS_MAX: Final = 100
DATES_MAX: Final = 400  #: holidays, and days that differ otherwise, each
SPANS_MAX: Final = 100  #: of one day
_KEYS: Final = ("teams", "workspace", "zone", *DAYS, "holidays", "dates", "outside", "message")
_SPAN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MINUTE_MS: Final = 60_000


def read_hours(top: Table, languages: tuple[str, ...]) -> dict[str, Hours]:
    """All hours of a policy, by name; raises ``PolicyError``."""
    values = top.values.get("hours", {})
    table = top.table("hours", known=values if isinstance(values, dict) else ())
    if len(table.values) > HOURS_MAX:
        raise top.error("hours", f"it has {len(table.values)} entries, at most {HOURS_MAX} are allowed")
    return {name: _hours(table, name, languages) for name in table.values}


def _hours(hours: Table, name: str, languages: tuple[str, ...]) -> Hours:
    if not isinstance(hours.values[name], dict):
        raise hours.error(name, "hours have a name: write a table such as [hours.office]")
    if not name.strip() or len(name) > ID_CHARS_MAX:
        raise hours.error(name, f"the name of hours has 1 to {ID_CHARS_MAX} characters")
    table = hours.table(name, known=_KEYS)
    zone = table.text("zone", REQUIRED, chars_max=ID_CHARS_MAX)
    offsets = _offsets(table, zone)
    rules = TeamHours(
        zone=zone,
        week=tuple(_spans(table, day) for day in DAYS),
        dates=_dates(table),
        teams=table.texts("teams", (), chars_max=ID_CHARS_MAX),
        workspace=table.flag("workspace", False),
        outside=_outside(table),
    )
    return Hours(rules=rules, offsets=offsets, messages=_messages(table, languages))


def _offsets(table: Table, zone: str) -> Offsets:
    try:
        return offsets_of(zone)
    except ValueError as error:
        raise table.error("zone", str(error)) from None


def _spans(table: Table, day: str) -> tuple[Span, ...]:
    """What a day, of the week or a date, has between ``[`` and ``]``."""
    if day not in table.values:
        return ()
    found = [
        _span(table.document, (*table.path, day, index), value)
        for index, value in enumerate(table.listed(day, elements_max=SPANS_MAX))
    ]
    for index, (start, end) in enumerate(found):
        for other in found[:index]:
            if start < other[1] and other[0] < end:
                raise table.document.error((*table.path, day, index), "it overlaps another one of the same day")
    return tuple(sorted(found))


def _span(document: Document, path: tuple[str | int, ...], value: Any) -> Span:
    text = document.text(path, value)
    found = _SPAN.fullmatch(text)
    if found is None:
        problem = f'write it as "09:00-17:30", from 00:00 to 24:00, not {kind_of(text)}'
        raise document.error(path, problem)
    start_ms = _time_ms(found[1], found[2])
    end_ms = DAY_MS if found[3] is None else _time_ms(found[3], found[4])
    if start_ms == end_ms:
        raise document.error(path, 'it begins when it ends; a whole day is "00:00-24:00"')
    return start_ms, end_ms if end_ms > start_ms else end_ms + DAY_MS


def _time_ms(hour: str, minute: str) -> int:
    return (int(hour) * 60 + int(minute)) * _MINUTE_MS


def _dates(table: Table) -> tuple[tuple[str, tuple[Span, ...]], ...]:
    """The days that differ from the week: none of them twice."""
    found: dict[str, tuple[Span, ...]] = {}
    if "holidays" in table.values:
        for index, value in enumerate(table.listed("holidays", elements_max=DATES_MAX)):
            path = (*table.path, "holidays", index)
            day = _date(table.document, path, value)
            if day in found:
                raise table.document.error(path, f"{day} stands in the list twice")
            found[day] = ()
    values = table.values.get("dates", {})
    dates = table.table("dates", known=values if isinstance(values, dict) else ())
    if len(dates.values) > DATES_MAX:
        raise table.error("dates", f"it has {len(dates.values)} entries, at most {DATES_MAX} are allowed")
    for day in dates.values:
        _date(table.document, (*dates.path, day), day)
        if day in found:
            raise dates.error(day, f"{day} is a holiday already: leave it out of one of the two")
        found[day] = _spans(dates, day)
    return tuple(sorted(found.items()))


def _date(document: Document, path: tuple[str | int, ...], value: Any) -> str:
    """A day as text; TOML's own dates are dates too."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    text = document.text(path, value)
    try:
        return date.fromisoformat(text if _DATE.fullmatch(text) else "").isoformat()
    except ValueError:
        raise document.error(path, f'it has to be a day such as "2026-12-25", not {kind_of(text)}') from None


def _outside(table: Table) -> PoolTarget | None:
    """``"queue"``, or who stands in."""
    value = table.value("outside", "queue")
    if isinstance(value, dict):
        return PoolTarget(**read_target(table.table("outside", known=TARGET_KEYS)))
    if value != "queue":
        problem = f'it has to be "queue", or a target such as {{ team = "night" }}, not {kind_of(value)}'
        raise table.error("outside", problem)
    return None


def _messages(table: Table, languages: tuple[str, ...]) -> dict[str, str]:
    """What is said, by language; nothing unless the file asks for it."""
    value = table.value("message", False)
    if isinstance(value, bool):
        return {language: _ours(table, ("message",), language) for language in languages} if value else {}
    if not isinstance(value, dict):
        raise table.error("message", f"it has to be true, false, or a table of texts by language, not {kind_of(value)}")
    for language in value:
        if language not in languages:
            path = (*table.path, "message", language)
            raise table.document.error(path, "nobody would get this text: add the language to workflow.languages")
    found = table.table("message", known=languages)
    return {language: _text(found, language) for language in languages}


def _text(table: Table, language: str) -> str:
    if language not in table.values:
        return _ours(table, (language,), language)
    text: str = table.text(language, REQUIRED, chars_max=MESSAGE_CHARS_MAX, empty=True)
    try:
        texts.pieces(text)
    except ValueError as error:
        raise table.error(language, str(error)) from None
    return text


def _ours(table: Table, keys: tuple[str, ...], language: str) -> str:
    ours = texts.look_up(language, tuple(texts.DEFAULTS))
    if ours is None:
        raise _no_text(table, keys, language)
    return texts.DEFAULTS[ours].closed


def _no_text(table: Table, keys: tuple[str, ...], language: str) -> PolicyError:
    problem = f'there is no text of ours in "{language}": write one, "" sends nothing'
    return table.document.error((*table.path, *keys), problem)
