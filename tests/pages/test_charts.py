"""Charts, read back from their SVG and compared with the numbers they were drawn from."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from pages.charts import (
    Axes,
    Interval,
    Series,
    chart_grid,
    interval_chart,
    line_chart,
    point_cloud,
    ticks,
)

HOSTILE = "<script>alert('x')</script>\"&"


def read(figure: Markup | None) -> ET.Element:
    assert figure is not None
    return ET.fromstring(str(figure))


def bars(figure: Markup) -> list[tuple[float, float, float]]:
    """Left, width and height of each bar."""
    return [
        (float(r.attrib["x"]), float(r.attrib["width"]), float(r.attrib["height"]))
        for r in read(figure).iter("rect")
    ]


def curve(figure: Markup | None) -> list[tuple[float, float]]:
    (path,) = [p for p in read(figure).iter("path") if p.get("class") == "curve"]
    points = path.attrib["d"].removeprefix("M").split("L")
    return [(float(x), float(y)) for x, y in (point.split() for point in points)]


def texts(figure: Markup | None, css: str) -> list[str]:
    return [t.text or "" for t in read(figure).iter("text") if t.get("class") == css]


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(2, 8))
def test_ticks_are_few_and_lie_on_the_axis(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found)


@given(st.floats(-50, 50), st.floats(0.1, 100), st.integers(3, 6))
def test_ticks_are_equally_far_apart(low: float, span: float, most: int) -> None:
    steps = [b - a for a, b in pairwise(ticks(low, low + span, most))]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3), st.floats(0, 1))
def test_axes_map_their_ends_to_the_edges_of_the_plotting_area(
    low: float, span: float, share: float
) -> None:
    axes = Axes(200.0, 100.0, (10, 20, 5, 15), (low, low + span), (low, low + span))
    value = low + share * span
    assert axes.x(value) == pytest.approx(10 + share * 170, abs=1e-3)
    assert axes.y(value) == pytest.approx(85 - share * 80, abs=1e-3)


def test_a_curve_passes_through_its_points_and_leaves_out_what_is_no_number() -> None:
    points = [(1.0, 2.0), (2.0, float("nan")), (3.0, float("inf")), (5.0, 1.0)]
    (left, high), (right, low) = curve(line_chart([Series("loss", "#000", points)], "Loss"))
    assert left == 46
    assert right == 388
    assert high < low  # picture units count downwards


def test_a_chart_from_zero_keeps_the_proportions_of_its_values() -> None:
    drawn = line_chart([Series("rank", "#000", [(0, 10.0), (1, 40.0)])], "Rank", from_zero=True)
    base = 200.0 - 34
    (_, low), (_, high) = curve(drawn)
    assert (base - high) / (base - low) == pytest.approx(4, rel=0.01)


def test_curves_without_a_point_are_no_chart_and_no_name_in_the_legend() -> None:
    empty = Series("soft", "#111", [(1, float("nan"))])
    assert line_chart([empty, Series("hard", "#222", [])], "Nothing") is None
    one = line_chart([empty, Series("loss", "#000", [(1, 1), (2, 2)])], "One")
    assert texts(one, "legend-name") == []
    full = Series("loss", "#000", [(1, 1), (2, 2)])
    two = line_chart([full, Series("sum", "#333", [(1, 3)])], "Two")
    assert texts(two, "legend-name") == ["loss", "sum"]
    # A line of one point shows nothing: it is drawn as a dot.
    assert [c.attrib["fill"] for c in read(two).iter("circle")] == ["#333"]


def test_equal_values_are_a_level_line() -> None:
    (_, first), (_, second) = curve(line_chart([Series("a", "#000", [(0, 0), (1, 0)])], "Level"))
    assert first == second


def test_an_interval_holds_its_value_and_rows_keep_their_order() -> None:
    rows = [Interval("kNN", "#111", 0.9, 0.85, 0.95), Interval("linear", "#222", 0.5, 0.2, 0.7)]
    root = read(interval_chart(rows, "Probes"))
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter("circle")]
    lines = [p.attrib["d"] for p in root.iter("path") if p.get("class") == "curve"]
    for (x, _), path in zip(dots, lines, strict=True):
        start, end = (float(part.split()[0]) for part in path.removeprefix("M").split("H"))
        assert start < x < end
    assert dots[0][0] > dots[1][0]
    assert dots[0][1] < dots[1][1]
    assert texts(interval_chart(rows, "Probes"), "row") == ["kNN", "0.900", "linear", "0.500"]


def test_points_keep_their_sides_and_points_at_one_place_are_drawn() -> None:
    plane = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 3.0]])
    drawn = point_cloud(plane, ["#000"] * 3, list("abc"), "Cloud")
    x, y = zip(
        *((float(c.attrib["cx"]), float(c.attrib["cy"])) for c in read(drawn).iter("circle")),
        strict=True,
    )
    assert np.argsort(x).tolist() == np.argsort(plane[:, 0]).tolist()
    assert np.argsort(y)[::-1].tolist() == np.argsort(plane[:, 1]).tolist()
    assert point_cloud(np.zeros((2, 2)), ["#000"] * 2, ["a", "b"], "One").count("<circle") == 2


def test_a_grid_lays_charts_out_row_by_row_below_their_titles() -> None:
    chart = line_chart([Series("a", "#000", [(0, 1), (1, 2)])], "A")
    assert chart is not None
    grid = chart_grid([("One", chart), ("Two", chart), ("Three", chart)], 2, "All three")
    inner = [e for e in read(grid) if e.tag == "svg"]
    at = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in inner]
    assert at[0][1] == at[1][1] < at[2][1]
    assert at[0][0] == at[2][0] < at[1][0]
    assert texts(grid, "chart-title") == ["One", "Two", "Three"]
    size = [float(n) for n in read(grid).attrib["viewBox"].split()[2:]]
    assert all(x + 400 <= size[0] and y + 200 <= size[1] for x, y in at)
