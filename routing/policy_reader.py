"""Reads typed values out of a policy's TOML tables; every refusal names the key and the line.

What the values mean is ``routing/policy_file.py``'s business, whether they fit together ``policy_checks.py``'s.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TypeAlias

from routing.errors import PolicyError
from routing.policy_lines import Lines, Path, TooDeepError, dotted

TEXT_BYTES_MAX: Final = 256 * 1024
VALUE_CHARS_MAX: Final = 1000  #: of a text that nothing else limits
MESSAGE_CHARS_MAX: Final = 4096  #: of a text to the contact
TEXTS_MAX: Final = 100  #: in one list of texts

_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Required:
    """The type of ``REQUIRED``."""


REQUIRED: Final = Required()  #: in place of a default: the key has to be there
Default: TypeAlias = Required | None
Remark: TypeAlias = tuple[Path, str]  #: a key, and what is probably not meant there


class Finding(NamedTuple):
    """What is probably not meant; a policy with it can be used."""

    key: str  #: dotted, as in the file
    line: int | None  #: from 1; None: nothing of it stands in the file
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


class Document:
    """A policy's text, parsed, with the lines of its keys. Raises ``PolicyError`` if it is no TOML."""

    def __init__(self, text: str, *, source: str) -> None:
        self.source = source
        self._refuse_size(text)
        try:
            self._lines = Lines(text)
            self.values: dict[str, Any] = tomllib.loads(text)
        except TooDeepError as error:
            raise PolicyError(f"{error}; a policy needs less", line=error.line, source=source) from None
        except ValueError as error:
            raise self._no_toml(text, str(error)) from None
        except RecursionError:
            raise PolicyError("it is nested too deeply", source=source) from None

    def error(self, path: Path, problem: str) -> PolicyError:
        """The error that says ``problem`` of the key at ``path``."""
        return PolicyError(problem, key=dotted(path) or None, line=self._lines.of(path), source=self.source)

    def finding(self, path: Path, problem: str) -> Finding:
        """The warning that says ``problem`` of the key at ``path``."""
        return Finding(dotted(path), self._lines.of(path), problem)

    def has(self, path: Path) -> bool:
        """Whether the file says anything at ``path``."""
        value: Any = self.values
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    def text(self, path: Path, value: Any, *, chars_max: int = VALUE_CHARS_MAX, empty: bool = False) -> str:
        """``value`` if it is a text of 1 (``empty``: 0) to ``chars_max`` characters; else the error for ``path``."""
        if not isinstance(value, str):
            raise self.error(path, f"it has to be a text, not {kind_of(value)}")
        if len(value) > chars_max:
            raise self.error(path, f"it has {len(value)} characters, at most {chars_max} are allowed")
        if not empty and not value.strip():
            raise self.error(path, "it is empty")
        return value

    def _refuse_size(self, text: str) -> None:
        if text.startswith("\ufeff"):
            raise PolicyError("it begins with a byte order mark: save it as UTF-8 without", line=1, source=self.source)
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            line = text.count("\n", 0, error.start) + 1
            raise PolicyError("it holds a character that UTF-8 lacks", line=line, source=self.source) from None
        if size > TEXT_BYTES_MAX:
            problem = f"it has {size} bytes, a policy has at most {TEXT_BYTES_MAX}"
            raise PolicyError(problem, source=self.source)

    def _no_toml(self, text: str, message: str) -> PolicyError:
        """A syntax error, with the line out of ``tomllib``'s message."""
        place = _TOML_PLACE.search(message)
        what = message[: place.start()] if place else message
        if place is None:
            return PolicyError(f"it is no TOML: {what[:200]}", source=self.source)
        if place[1] is None:
            return PolicyError(f"it is no TOML: {what[:200]}", line=text.count("\n") + 1, source=self.source)
        return PolicyError(f"it is no TOML: {what[:200]}, column {place[2]}", line=int(place[1]), source=self.source)


class Table:
    """One table, whose keys must be among ``known``."""

    def __init__(self, document: Document, path: Path, values: Any, *, known: Collection[str]) -> None:
        self.document = document
        self.path = path
        if not isinstance(values, dict):
            raise document.error(path, f"it has to be a table, not {kind_of(values)}")
        self.values: dict[str, Any] = values
        for key in values:
            if key not in known:
                raise self.error(key, f"there is no such key{suggestion(key, known)}")

    def error(self, key: str | int, problem: str) -> PolicyError:
        """The error that says ``problem`` of one of the table's keys."""
        return self.document.error((*self.path, key), problem)

    def table(self, key: str, *, known: Collection[str]) -> Table:
        """The table at ``key``; an empty one if there is none."""
        return Table(self.document, (*self.path, key), self.values.get(key, {}), known=known)

    def value(self, key: str, default: Any) -> Any:
        """What stands at ``key``, unchecked; the default if nothing does."""
        if key not in self.values and isinstance(default, Required):
            raise self.error(key, "it is missing")
        return self.values.get(key, default)

    def text(self, key: str, default: str | Default, *, chars_max: int = VALUE_CHARS_MAX, empty: bool = False) -> Any:
        """A text of 1 (``empty``: 0) to ``chars_max`` characters; ``default`` as it is if there is none."""
        value = self.value(key, default)
        if key not in self.values:
            return value
        return self.document.text((*self.path, key), value, chars_max=chars_max, empty=empty)

    def texts(self, key: str, default: tuple[str, ...], *, chars_max: int = VALUE_CHARS_MAX) -> tuple[str, ...]:
        """A list of different texts, none of them empty."""
        if key not in self.values:
            return default
        found = self.listed(key)
        texts: list[str] = []
        for index, value in enumerate(found):
            path = (*self.path, key, index)
            text = self.document.text(path, value, chars_max=chars_max)
            if text in texts:
                raise self.document.error(path, f"{kind_of(text)} stands in the list twice")
            texts.append(text)
        return tuple(texts)

    def listed(self, key: str, *, elements_max: int = TEXTS_MAX) -> list[Any]:
        """A list of anything."""
        value = self.value(key, REQUIRED)
        if not isinstance(value, list):
            raise self.error(key, f"it has to be a list, not {kind_of(value)}")
        if len(value) > elements_max:
            raise self.error(key, f"it has {len(value)} elements, at most {elements_max} are allowed")
        return value

    def flag(self, key: str, default: bool) -> bool:  # noqa: FBT001  the keys' defaults read best in place
        """``true`` or ``false``."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"it has to be true or false, not {kind_of(value)}")
        return value

    def whole(self, key: str, default: int | None, *, low: int, high: int) -> Any:
        """A whole number from ``low`` to ``high``."""
        value = self.value(key, default)
        if key not in self.values:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"it has to be a whole number from {low} to {high}, not {kind_of(value)}")
        if not low <= value <= high:
            raise self.error(key, f"it has to be from {low} to {high}")
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> Any:
        """One of ``choices``."""
        value = self.value(key, default)
        if value not in choices:
            raise self.error(key, _none_of(value, choices))
        return value

    def duration_ms(self, key: str, default: str | None, *, low: str, high: str) -> Any:
        """A duration from ``low`` to ``high``, in milliseconds; None if ``default`` is."""
        value = self.value(key, default)
        if value is None:
            return None
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise self.error(key, f'it has to be a duration such as "90s", "15m", "24h" or "7d", not {kind_of(value)}')
        duration_ms = milliseconds(found[0])
        if not milliseconds(low) <= duration_ms <= milliseconds(high):
            raise self.error(key, f'it has to be from "{low}" to "{high}"')
        return duration_ms


def milliseconds(duration: str) -> int:
    """The length of a duration as the file writes it."""
    return int(duration[:-1]) * _UNIT_MS[duration[-1]]


def kind_of(value: Any) -> str:
    """What a TOML value is, for a message: a short text itself, else its kind."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value) if len(value) <= 40 else "a text"  # noqa: PLR2004  longer is no help
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def suggestion(key: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown key: the nearest known one, else all of them."""
    names = sorted(known)
    near = get_close_matches(key[:64].casefold(), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _none_of(value: Any, choices: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{choice}"' for choice in choices)
    near = suggestion(value, choices) if isinstance(value, str) else ""
    hint = near if near.startswith("; did") else ""
    return f"it has to be one of {listed}, not {kind_of(value)}{hint}"
