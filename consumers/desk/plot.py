"""Charts as SVG text: grouped bars, lines, and a page of several. Pure functions; writing files is others' business.

Drawn by hand because that is all a report needs; a plotting library would be the heaviest thing that we install.
Every chart stands alone (a file of its own, or inside an HTML page) and names its values as tooltips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import ceil, floor, isfinite, log10
from typing import Final, Literal, NamedTuple, TypeAlias
from xml.sax.saxutils import escape

WIDTH: Final = 960  #: of a chart, in pixels, where nothing else is said
HEIGHT: Final = 360
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F")  # told apart by all eyes
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 16, 66, 112
_LABEL_PX: Final = 16  #: the room that one label of the x axis needs
_LABEL_CHARS_MAX: Final = 24
_TICKS: Final = 5
_BAR_PX_MAX: Final = 48
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Kind: TypeAlias = Literal["bars", "lines"]
Words: TypeAlias = Callable[[float], str]  #: a value as people read it


class Series(NamedTuple):
    """Values of one colour, one of each label; None: there is none."""

    name: str
    values: Sequence[float | None]


def plain(value: float) -> str:
    """A number without needless digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def chart(
    kind: Kind,
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    y_label: str = "",
    words: Words = plain,
    logarithmic: bool = False,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> str:
    """Bars, for each label one of each series, side by side; or a line for each series, broken where a value is None.

    Raises ``ValueError`` for a series that has not one value for each label.
    """
    for each in series:
        if len(each.values) != len(labels):
            raise ValueError(f"series {each.name!r} has {len(each.values)} values for {len(labels)} labels")
    frame = _Frame.of(series, width, height, logarithmic)
    parts = [_text(_LEFT, 18, title, size=14, weight="bold"), *_axes(labels, y_label, words, frame)]
    draw = _bars if kind == "bars" else _line
    for number, each in enumerate(series):
        parts += draw(each, number, len(series), labels, words, frame)
    if len(series) > 1:
        parts += _legend(series)
    return _svg(frame.width, frame.height, title, parts)


def page(title: str, charts: Sequence[str], *, note: str = "", width: int = WIDTH) -> str:
    """Charts under one another as one SVG; each is one that this module made."""
    y = 72 if note else 48
    parts = [_text(_LEFT, 30, title, size=18, weight="bold")]
    if note:
        parts.append(_text(_LEFT, 54, note, size=12, colour="#555555"))
    for chart in charts:
        parts.append(chart.replace("<svg ", f'<svg y="{y}" ', 1))
        y += _height_of(chart) + 12
    return _svg(width, y, title, parts)


class _Frame(NamedTuple):
    """Where values lie in a chart."""

    width: int
    height: int
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, series: Sequence[Series], width: int, height: int, logarithmic: bool) -> _Frame:  # noqa: FBT001
        values = [value for each in series for value in each.values if value is not None and isfinite(value)]
        most = max(values, default=1)
        if not logarithmic:
            return cls(width, height, min(0.0, *values, 0.0), most if most > 0 else 1, logarithmic)
        above = [value for value in values if value > 0]
        low = 10.0 ** floor(log10(min(above, default=1) * 0.999))  # so that the least value still has a bar
        return cls(width, height, low, max(10.0 ** ceil(log10(max(above, default=10))), low * 10), logarithmic)

    def y(self, value: float) -> float:
        """Pixels from above; on a logarithmic axis, what is not above 0 lies at the bottom."""
        if self.logarithmic:
            share = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return _TOP + (1 - share) * (self.height - _TOP - _BOTTOM)

    def ticks(self) -> list[float]:
        """Round values for the y axis."""
        if self.logarithmic:
            tens = range(round(log10(self.low)), round(log10(self.high)) + 1)
            return [10.0**ten for ten in tens[:: max(len(tens) // _TICKS, 1)]]
        rough = (self.high - self.low) / _TICKS
        ten = 10.0 ** floor(log10(rough))
        step = next(ten * by for by in (1, 2, 5, 10) if ten * by >= rough * 0.999)
        return [step * number for number in range(ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9) + 1)]


def _axes(labels: Sequence[str], y_label: str, words: Words, frame: _Frame) -> list[str]:
    parts = [_text(_LEFT, 54, y_label, size=11, colour="#555555")] if y_label else []
    right = frame.width - _RIGHT
    for tick in frame.ticks():
        y = frame.y(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#DDDDDD"/>')
        parts.append(_text(_LEFT - 6, y + 4, words(tick), size=11, anchor="end"))
    every = max(ceil(len(labels) * _LABEL_PX / (right - _LEFT)), 1)
    for index in range(0, len(labels), every):
        x, y = _middle(index, len(labels), frame), frame.height - _BOTTOM + 14
        shown = labels[index]
        shown = shown if len(shown) <= _LABEL_CHARS_MAX else f"{shown[: _LABEL_CHARS_MAX - 1]}…"
        parts.append(_text(x, y, shown, size=11, anchor="end", turned=True))
    return parts


def _room(count: int, frame: _Frame) -> float:
    return (frame.width - _RIGHT - _LEFT) / max(count, 1)


def _middle(index: int, count: int, frame: _Frame) -> float:
    return _LEFT + (index + 0.5) * _room(count, frame)


def _bars(each: Series, number: int, count: int, labels: Sequence[str], words: Words, frame: _Frame) -> list[str]:
    parts: list[str] = []
    room = min(_room(len(labels), frame) * 0.8 / count, _BAR_PX_MAX)
    base = frame.y(frame.low if frame.logarithmic else 0)
    for index, value in enumerate(each.values):
        if value is None:
            continue
        x = _middle(index, len(labels), frame) + (number - count / 2) * room
        top, bottom = sorted((frame.y(value), base))
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{max(room * 0.95, 0.5):.2f}" height="{bottom - top:.1f}" '
            f'fill="{_colour(number)}">{_tip(labels[index], each.name, words(value))}</rect>'
        )
    return parts


def _line(each: Series, number: int, _count: int, labels: Sequence[str], words: Words, frame: _Frame) -> list[str]:
    colour = _colour(number)
    path: list[str] = []
    dots: list[str] = []
    draws = False
    for index, value in enumerate(each.values):
        if value is None:
            draws = False
            continue
        x, y = _middle(index, len(labels), frame), frame.y(value)
        path.append(f"{'L' if draws else 'M'}{x:.1f} {y:.1f}")
        draws = True
        tip = _tip(labels[index], each.name, words(value))
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}">{tip}</circle>')
    return [f'<path d="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots] if path else []


def _legend(series: Sequence[Series]) -> list[str]:
    parts: list[str] = []
    x = float(_LEFT)
    for number, each in enumerate(series):
        parts.append(f'<rect x="{x:.0f}" y="26" width="10" height="8" fill="{_colour(number)}"/>')
        parts.append(_text(x + 14, 34, each.name, size=11))
        x += 30 + 6.5 * len(each.name)
    return parts


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _clean(text: str) -> str:
    """Text that may stand in XML: what must not is shown as a question mark."""
    return escape(_NO_XML.sub("?", text), {'"': "&quot;"})


def _tip(label: str, name: str, value: str) -> str:
    return f"<title>{_clean(label)}: {_clean(name)} {_clean(value)}</title>"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = "#222222",
    turned: bool = False,
) -> str:
    turn = f' transform="rotate(-40 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}"{turn}>{_clean(text)}</text>'
    )


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" role="img">\n<title>{_clean(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>\n{body}\n</svg>\n'
    )


def _height_of(chart: str) -> int:
    found = re.search(r' height="(\d+)"', chart)
    if found is None:
        raise ValueError("a page is made of charts of this module")
    return int(found[1])
