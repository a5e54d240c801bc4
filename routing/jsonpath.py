r"""Where a value stands in a JSON document: a path of RFC 9535.

One of names and indices, as most are, names one place at most and is walked directly: a hundred times faster, and no
document is too deep. All others are ``routing/jsonquery.py``'s.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from routing.jsonquery import Query, parse_query

PATH_CHARS_MAX: Final = 512
STEPS_MAX: Final = 32
INDEX_MAX: Final = 2**53 - 1  #: RFC 9535, section 2.1: the integers that every JSON reader knows exactly

Steps: TypeAlias = tuple[str | int, ...]
Path: TypeAlias = Steps | Query


class Missing(Enum):
    """The type of ``MISSING``."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING  #: there is nothing at the path; a null that stands there is None

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_STEP: Final = re.compile(
    r"""\.(?P<name>[A-Za-z_\x80-\ud7ff\ue000-\U0010ffff][0-9A-Za-z_\x80-\ud7ff\ue000-\U0010ffff]*)
    |\[[ \t\n\r]*(?:
        (?P<index>0|-?[1-9][0-9]*)
        |'(?P<single>(?:[^'\\\x00-\x1f]|\\.)*)'
        |"(?P<double>(?:[^"\\\x00-\x1f]|\\.)*)"
    )[ \t\n\r]*\]""",
    re.VERBOSE,
)
_ADVICE: Final = "for example $.customer.tags[0] or $['customer type']"


@lru_cache(maxsize=1024)
def parse_path(text: str) -> Path:
    """Names and indices that lead to the value, ``()`` for ``$``, the whole document; or a query.

    Raises ``ValueError`` with a sentence if the path is none, or one that is not taken.
    """
    if len(text) > PATH_CHARS_MAX:
        raise ValueError(f"the path has {len(text)} characters, at most {PATH_CHARS_MAX} are read")
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is no path: it has to begin with $, {_ADVICE}")
    path: Path | None = _steps(text)
    if path is None:
        path = parse_query(text)
    count = path.segments_count if isinstance(path, Query) else len(path)
    if count > STEPS_MAX:
        raise ValueError(f"the path has {count} steps, at most {STEPS_MAX} are walked")
    return path


def _steps(text: str) -> Steps | None:
    """The steps of a path that has only names and indices; None for any other."""
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, _end_of_space(text, at))
        if step is None:
            return None
        steps.append(_value(step))
        at = step.end()
    return tuple(steps)


def walk(document: Any, path: Path) -> Any:
    """The value at the end of the path, or ``MISSING``. Never raises.

    A negative index counts from the end. A query that finds one place gives its value, one that finds more a list.
    """
    if isinstance(path, Query):
        found = path.find(document)
        return found if len(found) > 1 else found[0] if found else MISSING
    value = document
    for step in path:
        if isinstance(step, str):
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        elif isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


def _end_of_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _value(step: re.Match[str]) -> str | int:
    """What one step names."""
    if step["name"] is not None:
        return step["name"]
    if step["index"] is not None:
        index = int(step["index"])
        if abs(index) > INDEX_MAX:
            raise ValueError(f"the index {index} is out of range: at most {INDEX_MAX}")
        return index
    quoted = step["double"]
    if quoted is None:  # as a JSON string: ' needs no escape there, " does
        quoted = re.sub(
            r'\\.|"', lambda part: {"\\'": "'", '"': '\\"', '\\"': "\\?"}.get(part[0], part[0]), step["single"]
        )
    try:
        return msgspec.json.decode(f'"{quoted}"', type=str)
    except (msgspec.MsgspecError, UnicodeError):
        raise ValueError(
            f"the name in {step[0]} is no valid string: write \\\\ for a backslash, \\' for a quote"
        ) from None
