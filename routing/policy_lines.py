"""On which line of a TOML text each key stands, for error messages; ``tomllib`` does not say.

The scanner follows TOML's structure (tables, arrays of tables, dotted and quoted keys, inline tables, arrays, all four
kinds of strings, comments) and nothing else: whether the text is valid is ``tomllib``'s business, and what comes after
its first mistake may be placed wrongly. It also bounds what ``tomllib`` costs: nesting and long keys make that one
recurse or slow, so they are refused here first. Time is linear in the text's length.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]  #: keys, and indices of array elements, from the top

DEPTH_MAX: Final = 16  #: of arrays and inline tables in each other
KEY_PARTS_MAX: Final = 16  #: of one dotted key or table header
SHOWN_CHARS_MAX: Final = 120  #: of a key in a message

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*+")
_SPACE: Final = re.compile(r"[ \t]*+")
_STRING: Final = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}'''
    r"""|'{3}(?:[^']|'{1,2}(?!'))*+'{3,5}"""
    r'''|"(?:[^"\\\n]|\\[^\n])*+"'''
    r"""|'[^'\n]*+'""",
    re.DOTALL,
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]++")
_SCALAR: Final = re.compile(r"[^,\]}\n#]*+")
_REST_OF_LINE: Final = re.compile(r"[^\n]*+")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class TooDeepError(ValueError):
    """The text nests deeper than any policy does. ``str()`` is a sentence; ``line`` is where, from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


class Lines:
    """The lines of a TOML text's keys. Raises ``TooDeepError`` for nesting beyond the limits."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = _Scanner(text).scan()

    def of(self, path: Path) -> int | None:
        """The line, from 1, of the key at ``path``, or of the nearest key around it; None: of neither."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return None


def dotted(path: Path) -> str:
    """The path as the file would have it: ``branch.vip.conditions[0].value``; odd keys are quoted, long ones cut."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += ("." if shown else "") + (part if _BARE_KEY.fullmatch(part) else f'"{_printable(part)}"')
    return shown if len(shown) <= SHOWN_CHARS_MAX else shown[: SHOWN_CHARS_MAX - 3] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:SHOWN_CHARS_MAX])


class _Scanner:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # the position up to which ``_line`` has counted
        self._lines: dict[Path, int] = {}
        self._last_element: dict[Path, int] = {}  # of each array of tables

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return self._lines
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._value(self._assignment(table))
                self._skip_to_line_end()

    def _header(self) -> Path:
        """A table's or an array element's header: the path that the keys below it stand in."""
        line = self._line_here()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        key = self._key()
        path = self._resolve(key[:-1] if is_array else key, line)
        if is_array:
            path += key[-1:]
            index = self._last_element.get(path, -1) + 1
            self._last_element[path] = index
            self._lines.setdefault(path, line)
            path += (index,)
        self._lines[path] = line
        self._skip(_REST_OF_LINE)
        return path

    def _resolve(self, key: tuple[str, ...], line: int) -> Path:
        """The path of a header's key: where it goes through an array of tables, it means the last element."""
        path: Path = ()
        for part in key:
            path += (part,)
            self._lines.setdefault(path, line)
            if path in self._last_element:
                path += (self._last_element[path],)
        return path

    def _assignment(self, table: Path) -> Path:
        """The key before ``=``: its path."""
        line = self._line_here()
        path = table
        for part in self._key():
            path += (part,)
            self._lines.setdefault(path, line)
        self._skip(_SPACE)
        if self._text.startswith("=", self._at):
            self._at += 1
        return path

    def _key(self) -> tuple[str, ...]:
        """A dotted key's parts; ends at what cannot belong to it. At least one character is consumed."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            part = _BARE_KEY.match(self._text, self._at) or _STRING.match(self._text, self._at)
            if part is None:
                self._at += 0 if parts else 1
                return tuple(parts) or ("",)
            parts.append(_unquoted(part[0]))
            if len(parts) > KEY_PARTS_MAX:
                raise TooDeepError(f"a key has more than {KEY_PARTS_MAX} parts", self._line_here())
            self._at = part.end()
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self, path: Path) -> None:
        """Go past the value at ``path``, noting what stands in it."""
        around: list[tuple[Path, int]] = []  # arrays with their next index, inline tables with -1
        self._begin(path, around)
        while around:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            container, index = around[-1]
            if self._text[self._at] in ",]}":
                if self._text[self._at] != ",":
                    around.pop()
                self._at += 1
            elif index < 0:
                self._begin(self._assignment(container), around)
            else:
                around[-1] = (container, index + 1)
                self._lines[(*container, index)] = self._line_here()
                self._begin((*container, index), around)

    def _begin(self, path: Path, around: list[tuple[Path, int]]) -> None:
        """Go past a scalar, or into an array or inline table."""
        self._skip(_SPACE)
        opening = self._text[self._at : self._at + 1]
        if opening and opening in "[{":
            around.append((path, 0 if opening == "[" else -1))
            if len(around) > DEPTH_MAX:
                raise TooDeepError(f"arrays and tables are nested more than {DEPTH_MAX} deep", self._line_here())
            self._at += 1
        elif opening and opening in "\"'":
            string = _STRING.match(self._text, self._at)
            self._at = len(self._text) if string is None else string.end()
        else:
            self._skip(_SCALAR)

    def _skip_to_line_end(self) -> None:
        """What follows a value on its line is a comment, or a mistake that ``tomllib`` will name."""
        self._skip(_REST_OF_LINE)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquoted(key: str) -> str:
    """A key as ``tomllib`` has it."""
    if key.startswith('"') and not key.startswith('"""'):
        return _ESCAPE.sub(_unescaped, key[1:-1])
    return key[1:-1] if key.startswith("'") else key


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    if code is None:
        return _ESCAPED.get(escape[3], escape[3])
    return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else "?"  # noqa: PLR2004  Unicode ends there
