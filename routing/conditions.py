"""Whether a branch's conditions hold for a conversation's variables.

Values are what JSON and TOML know: text, numbers, booleans, lists, objects, and null, which is the same as missing.
That conditions make sense at all is checked when the policy is read (``routing/policy_checks.py``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from routing.policy import Branch, Condition

NORMALISED_CHARS_MAX: Final = 1024  #: Unicode normalisation is quadratic in combining marks: longer text goes without

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")


def matches(branch: Branch, variables: Mapping[str, Any]) -> bool:
    """Whether all (``match`` any: at least one) of the branch's conditions hold. Never raises.

    ``is equal to`` compares text without case and surrounding white space and numbers by value; a number and a text
    that spells it are equal, so are ``true`` and ``"true"``. ``is not equal to`` is its opposite, and so holds for what
    is missing. ``is exactly`` tells types and case apart. ``contains`` looks for text in text, without case, and for an
    equal element in a list. ``is greater than`` and ``is less than`` hold for numbers and texts that spell one.
    """
    settled_by = branch.match != "all"  # the first that holds settles "any", the first that does not settles "all"
    for condition in branch.conditions:
        if holds(condition, variables.get(condition.variable)) is settled_by:
            return settled_by
    return not settled_by


def holds(condition: Condition, actual: Any) -> bool:
    """Whether one condition holds for the variable's value (None: null or missing)."""
    return _HOLDS[condition.operator](actual, condition.value)


def number(value: Any) -> int | float | None:
    """The number that ``value`` is or, as a text, spells; None: it is none. Booleans are none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and (spelled := _NUMBER.fullmatch(value.strip())):
        parsed = float(spelled[0]) if spelled[1] or spelled[2] else int(spelled[0])
        return parsed if isinstance(parsed, int) or math.isfinite(parsed) else None
    return None


def equal(actual: Any, expected: Any) -> bool:
    """Whether the two are equal as ``is equal to`` means it."""
    if actual is None or expected is None:
        return False
    if isinstance(actual, str) and isinstance(expected, str):
        return _folded(actual) == _folded(expected)
    if isinstance(actual, bool) or isinstance(expected, bool):
        text = _text(actual)
        return text is not None and text == _text(expected)
    left = number(actual)
    return left is not None and left == number(expected)


def same(actual: Any, expected: Any) -> bool:
    """Whether the two are equal as ``is exactly`` means it: text is no number, a boolean is no number, case counts."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(actual, int | float) and isinstance(expected, int | float):
        return actual == expected
    return isinstance(actual, str) and isinstance(expected, str) and actual == expected


def _text(value: Any) -> str | None:
    """A text or a boolean as text to compare."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _folded(value) if isinstance(value, str) else None


def _folded(text: str) -> str:
    """The text as it is compared: without case and surrounding white space, accents composed."""
    if not text.isascii() and len(text) <= NORMALISED_CHARS_MAX:
        text = unicodedata.normalize("NFC", text)
    return text.casefold().strip()


def _contains(actual: Any, expected: Any) -> bool:
    if isinstance(actual, str):
        return isinstance(expected, str) and _folded(expected) in _folded(actual)
    return isinstance(actual, list | tuple) and any(equal(element, expected) for element in actual)


def _is_one_of(actual: Any, expected: Any) -> bool:
    return isinstance(expected, list | tuple) and any(equal(actual, value) for value in expected)


def _is_greater(actual: Any, expected: Any) -> bool:
    left, right = number(actual), number(expected)
    return left is not None and right is not None and left > right


_HOLDS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "is equal to": equal,
    "is exactly": same,
    "is not equal to": lambda actual, expected: not equal(actual, expected),
    "exists": lambda actual, _: actual is not None,
    "does not exist": lambda actual, _: actual is None,
    "contains": _contains,
    "is one of": _is_one_of,
    "is greater than": _is_greater,
    "is less than": lambda actual, expected: _is_greater(expected, actual),
}
