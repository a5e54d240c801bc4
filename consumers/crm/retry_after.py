"""How long a CRM asks to be left alone: ``Retry-After`` (RFC 9110, section 10.2.3), in seconds or as a date."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

DATE_CHARS_MAX: Final = 64

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def retry_after_s(headers: Mapping[str, str], *, now_ms: int) -> float:
    """Seconds to wait; 0 if nothing, nonsense or a time in the past is said.

    A date is compared with the answer's own ``Date``, if there is one, so that the two clocks need not agree.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    until = _date(text)
    if until is None:
        return 0.0
    said_at = _date(headers.get("date", "")) or datetime.fromtimestamp(now_ms / 1000, UTC)
    return max(0.0, (until - said_at).total_seconds())


def _date(text: str) -> datetime | None:
    if not text or len(text) > DATE_CHARS_MAX:
        return None
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
