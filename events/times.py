"""Times on the wire and inside: RFC 3339 text there, Unix milliseconds here.

Nothing in here reads a clock. Durations of the policy file (``"15m"``) are ``routing``'s business.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

TIME_CHARS_MAX: Final = 64  #: longer text is no time; keeps the pattern's work bounded
TIME_MS_MIN: Final = -62_135_596_800_000  #: 0001-01-01T00:00:00.000Z
TIME_MS_MAX: Final = 253_402_300_799_999  #: 9999-12-31T23:59:59.999Z

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_USUAL: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
_RARE: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    re.IGNORECASE,
).fullmatch


def parse_time(text: str) -> int:
    """RFC 3339 text as Unix milliseconds; what is finer than a millisecond is cut off, not rounded.

    Any offset is taken, also ``-00:00``, and lower-case ``t`` and ``z``. A leap second (``:60``) counts as the last
    millisecond of its minute. Raises ``ValueError`` for anything else that ISO 8601 would allow (no offset, a blank
    for the ``T``, week dates, a decimal comma, hour 24): two producers would mean different instants by it.
    """
    if _USUAL(text) is None:
        text = _usual(text)
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError:
        raise ValueError("a time that no calendar has: check year, month, day, hour and minute") from None
    ms = since.days * _DAY_MS + since.seconds * 1000 + since.microseconds // 1000
    if not TIME_MS_MIN <= ms <= TIME_MS_MAX:
        raise ValueError("a time outside the years 0001 to 9999 in UTC")
    return ms


def _usual(text: str) -> str:
    """The same instant to the millisecond, written the usual way."""
    match = _RARE(text) if len(text) <= TIME_CHARS_MAX else None
    if match is None:
        raise ValueError("not an RFC 3339 time: write it like 2026-11-22T10:00:00.000Z")
    minute, second, fraction, offset = match.groups()
    second, fraction = ("59", "999") if second == "60" else (second, (fraction or "0")[:3])
    return f"{minute}:{second}.{fraction}{offset}".upper()


@lru_cache(maxsize=1024)  # all that is decided together shares its time
def format_time(ms: int) -> str:
    """Unix milliseconds as ``2026-11-22T10:00:00.000Z``; ``ValueError`` outside the years 0001 to 9999."""
    try:
        moment = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        raise ValueError("a time outside the years 0001 to 9999") from None
    return f"{moment.isoformat(timespec='milliseconds')[:23]}Z"
