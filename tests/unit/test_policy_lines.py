"""Keys are found on their lines, whatever stands around them."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from routing.policy_lines import DEPTH_MAX, KEY_PARTS_MAX, Lines, Path, TooDeepError, dotted

AWKWARD = '''\
# [not.a.table]
top = 1

[ "odd key" . 'and.dots' ]   # a comment = 3
text = """
[fake.table]
fake = 1
""\\"" \\""""""
after = 2
literal = \'\'\'
fake2 = 'x'\'\'\'\'
after2 = { a = 1, b.c = [1, 2], "d=e" = "}" }
lists = [
  "[", # ]
  { x = 1,
    y = 2 }, [ 3,

  4 ],
]
"quoted \\u0041" = 5
date = 1979-05-27 07:32:00
d.e . f = "#"
[[array]]
one = 1
[array.sub]
two = 2
[[array]]
one = 3
[array.sub]
two = 4
[[array.deep]]
three = 5
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("odd key",), 4),
        (("odd key", "and.dots"), 4),
        (("odd key", "and.dots", "text"), 5),
        (("odd key", "and.dots", "after"), 9),
        (("odd key", "and.dots", "literal"), 10),
        (("odd key", "and.dots", "after2"), 12),
        (("odd key", "and.dots", "after2", "b", "c"), 12),
        (("odd key", "and.dots", "after2", "b", "c", 1), 12),
        (("odd key", "and.dots", "after2", "d=e"), 12),
        (("odd key", "and.dots", "lists", 0), 14),
        (("odd key", "and.dots", "lists", 1), 15),
        (("odd key", "and.dots", "lists", 2), 16),
        (("odd key", "and.dots", "lists", 2, 1), 18),
        (("odd key", "and.dots", "quoted A"), 20),
        (("odd key", "and.dots", "date"), 21),
        (("odd key", "and.dots", "d", "e", "f"), 22),
        (("array",), 23),
        (("array", 0, "one"), 24),
        (("array", 0, "sub", "two"), 26),
        (("array", 1, "one"), 28),
        (("array", 1, "sub"), 29),
        (("array", 1, "sub", "two"), 30),
        (("array", 1, "deep", 0, "three"), 32),
    ],
)
def test_keys_are_found_on_their_lines(path: Path, line: int) -> None:
    assert Lines(AWKWARD).of(path) == line


def paths(value: Any, before: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield (*before, key)
            yield from paths(inner, (*before, key))


def test_every_key_that_tomllib_finds_has_a_line_of_its_own() -> None:
    """The awkward text is TOML except for inline tables over two lines, which are joined for tomllib."""
    text = AWKWARD.replace("x = 1,\n    y", "x = 1, y").replace("y = 2 }, [ 3,\n\n", "y = 2 }, [ 3,\n")
    found = list(paths(tomllib.loads(text)))
    known = Lines(text)
    assert len(found) > 30
    for path in found:
        assert path in known._lines, path
    assert not any("fake" in str(path) for path in known._lines)


def test_what_has_no_line_gets_that_of_the_nearest_key_around_it() -> None:
    lines = Lines("[crm]\nurl = 'x'\n")
    assert lines.of(("crm", "body")) == 1
    assert lines.of(("crm", "url", "part")) == 2
    assert lines.of(("route",)) is None


def test_quotes_before_a_closing_delimiter_belong_to_the_string() -> None:
    lines = Lines("x = [ \"\"\"a\"\"\"\"\",\n '''b''''',\n 3 ]")
    assert [lines.of(("x", index)) for index in range(3)] == [1, 2, 3]


def test_carriage_returns_do_not_count_twice() -> None:
    assert Lines("a = 1\r\nb = 2\r\n").of(("b",)) == 2


def test_a_table_whose_header_comes_after_its_parts_is_found_at_its_header() -> None:
    assert Lines("[a.b]\nx = 1\n[a]\ny = 2\n").of(("a",)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * (DEPTH_MAX + 1),
        "\n\nx = " + "{a = " * (DEPTH_MAX + 1),
        ".".join("a" * (KEY_PARTS_MAX + 1)) + " = 1",
        "[" + ".".join("a" * (KEY_PARTS_MAX + 1)) + "]",
    ],
)
def test_what_nests_too_deeply_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(TooDeepError) as caught:
        Lines(text)
    assert caught.value.line == text.count("\n") + 1


def test_a_text_at_the_limits_is_read() -> None:
    text = ".".join("a" * KEY_PARTS_MAX) + " = " + "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert Lines(text).of(("a",)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "[",
        "[[",
        "]",
        "a",
        "a =",
        "a = '",
        'a = """',
        "a = [",
        "a = {",
        "a = {,",
        "[a",
        "a.",
        ".",
        "{",
        "a = {b",
        "\\",
    ],
)
def test_what_is_no_toml_ends_the_scan(text: str) -> None:
    Lines(text)
    Lines("\n".join([text] * 10))


@pytest.mark.parametrize(
    "unit",
    [
        "a=[],\n",
        "[a]\n",
        "[[a]]\n",
        "a.b.c=1\n",
        '"',
        "'",
        '"""',
        "a={b=1}\n",
        "#",
        " ",
        "\n",
        "a='''",
        'x="\\"\n',
        "1,",
        ",",
    ],
)
def test_the_scan_is_linear_in_the_text(unit: str) -> None:
    """128 KiB of anything take about as long as any other: far from the minutes of a quadratic scan."""
    started = time.process_time()
    Lines("x = [" + unit * (128 * 1024 // len(unit)))
    Lines(unit * (128 * 1024 // len(unit)))
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("a", "b-c", 0, "d"), "a.b-c[0].d"),
        (("a", "odd key"), 'a."odd key"'),
        (("a", "new\nline"), 'a."new?line"'),
        ((), ""),
        (("k" * 500,), "k" * 117 + "..."),
    ],
)
def test_paths_are_shown_as_the_file_would_have_them(path: Path, shown: str) -> None:
    assert dotted(path) == shown
