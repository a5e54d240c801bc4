"""Charts are well-formed SVG whose marks lie where the values are."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args
from xml.etree import ElementTree as ET

import pytest

from consumers.desk.plot import Kind, Series, chart, page, plain

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str, tag: str) -> list[ET.Element]:
    """Those elements that name a value."""
    return [each for each in ET.fromstring(svg).iter(SVG + tag) if each.find(SVG + "title") is not None]


def heights(svg: str) -> list[float]:
    return [float(each.get("height", "")) for each in marks(svg, "rect")]


def test_bars_are_as_high_as_their_values():
    drawn = heights(chart("bars", "t", ["a", "b", "c"], [Series("n", [1, 2, 4])]))
    assert drawn[1] == pytest.approx(2 * drawn[0], abs=0.2)
    assert drawn[2] == pytest.approx(4 * drawn[0], abs=0.2)


def test_a_logarithmic_axis_makes_equal_steps_of_equal_ratios():
    drawn = heights(chart("bars", "t", ["a", "b", "c", "d"], [Series("n", [0, 1, 10, 100])], logarithmic=True))
    assert drawn[0] == 0 < drawn[1], "the least value has a bar, nothing has none"
    assert drawn[2:] == [pytest.approx(2 * drawn[1], abs=0.2), pytest.approx(3 * drawn[1], abs=0.2)]


def test_a_line_breaks_where_there_is_no_value():
    drawn = ET.fromstring(chart("lines", "t", ["a", "b", "c", "d"], [Series("n", [1, None, 2, 3])]))
    [path] = drawn.iter(SVG + "path")
    assert [part[0] for part in path.get("d", "").split() if part[0] in "ML"] == ["M", "M", "L"]
    assert len(marks(chart("lines", "t", ["a", "b"], [Series("n", [1, None])]), "circle")) == 1


def test_nothing_to_draw_is_an_empty_chart():
    for kind in get_args(Kind):
        for logarithmic in (False, True):
            ET.fromstring(chart(kind, "t", [], [], logarithmic=logarithmic))
            ET.fromstring(chart(kind, "t", ["a"], [Series("n", [0])], logarithmic=logarithmic))
            ET.fromstring(chart(kind, "t", ["a"], [Series("n", [None])], logarithmic=logarithmic))


def test_what_others_wrote_cannot_break_out_of_its_text():
    nasty = '<script>&"\x00\x1b]]>'
    svg = page(
        nasty, [chart("bars", nasty, [nasty], [Series(nasty, [1]), Series("b", [2])], y_label=nasty)], note=nasty
    )
    root = ET.fromstring(svg)
    assert not [each for each in root.iter() if "script" in each.tag]
    assert "".join(root.itertext()).count('<script>&"??]]>') >= 5


def test_a_page_puts_charts_under_one_another():
    charts = [chart("bars", "a", ["x"], [Series("n", [1])], height=height) for height in (200, 300)]
    root = ET.fromstring(page("t", charts))
    places = [(float(each.get("y", "")), float(each.get("height", ""))) for each in root.findall(SVG + "svg")]
    assert [height for _, height in places] == [200, 300]
    assert all(above[0] + above[1] <= below[0] for above, below in pairwise(places))
    assert float(root.get("height", "")) >= places[-1][0] + 300


def test_a_series_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 values for 1 labels"):
        chart("bars", "t", ["a"], [Series("n", [1, 2])])


def test_many_labels_are_thinned_out_so_that_they_can_be_read():
    svg = chart("bars", "t", [f"agent-{n}" for n in range(300)], [Series("n", range(300))])
    shown = [each for each in ET.fromstring(svg).iter(SVG + "text") if (each.text or "").startswith("agent-")]
    assert 20 < len(shown) < 80
    assert len(heights(svg)) == 300


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (3.0, "3"), (12_000, "12,000"), (0.9612345, "0.9612")])
def test_numbers_have_no_needless_digits(value, text):
    assert plain(value) == text
