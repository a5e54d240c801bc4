"""The CRM's answer as the policy's variables: values that a condition can compare and a log record can hold.

Pure. Where a value stands is ``routing/jsonpath.py``'s business, fetching the document ``consumers/crm/client.py``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from routing.jsonpath import MISSING, Path, parse_path, walk
from routing.policy import CrmVariable

VALUE_CHARS_MAX: Final = 1024  #: of one variable: a text, or all texts of a list; ten of them fit into a log record
LIST_ITEMS_MAX: Final = 32

VariablePaths: TypeAlias = tuple[tuple[str, Path, bool], ...]  #: name, path, personal


class Variables(NamedTuple):
    """What was found. A variable stands in exactly one of the three."""

    public: dict[str, Any]
    personal: dict[str, Any]
    notes: dict[str, str]  #: why a variable is absent: ``missing``, ``null``, ``too-large`` or ``not-scalar``


def compile_paths(variables: Mapping[str, CrmVariable]) -> VariablePaths:
    """The variables of a checked policy, ready to be read."""
    return tuple((name, parse_path(variable.path), variable.personal) for name, variable in variables.items())


def read_variables(document: Any, paths: VariablePaths) -> Variables:
    """Read every variable. A value is never cut: what is too large is absent, and its note says so."""
    found = Variables({}, {}, {})
    for name, steps, is_personal in paths:
        value = walk(document, steps)
        note = _why_unusable(value)
        if note is not None:
            found.notes[name] = note
        elif is_personal:
            found.personal[name] = value
        else:
            found.public[name] = value
    return found


def _why_unusable(value: Any) -> str | None:
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"  # conditions take null for missing
    if isinstance(value, list):
        return _why_unusable_list(value)
    if isinstance(value, dict):
        return "not-scalar"
    return "too-large" if isinstance(value, str) and len(value) > VALUE_CHARS_MAX else None


def _why_unusable_list(values: list[Any]) -> str | None:
    if any(value is None or isinstance(value, list | dict) for value in values):
        return "not-scalar"
    chars = sum(len(value) for value in values if isinstance(value, str))
    return "too-large" if len(values) > LIST_ITEMS_MAX or chars > VALUE_CHARS_MAX else None
