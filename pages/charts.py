"""Charts: bars, histograms, lines, intervals and points, all on the same axes.

Fonts and most colours come from ``templates/charts.css``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pages.formats import compact, tick_text
from pages.svg import line, number_text, svg, tag, text_at

_HEADROOM: Final = 0.06
"""Free part of an axis beyond the values on either side."""
_LINE_WIDTH, _LINE_HEIGHT = 400.0, 200.0
_LETTER_WIDTH: Final = 5.6
"""Estimated mean width of a legend's letters; a legend's names are laid out by it."""


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most about `most` round numbers between two limits."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # + 0.0 turns -0.0, which would be printed, into 0.
    return [round(k * step, 10) + 0.0 for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Axes:
    """The plotting area of a picture, with two linear axes: data in, picture units out.

    Args:
        width: of the picture.
        height: of the picture.
        margins: left, right, top and bottom of the plotting area.
        x_ends: data at its left and right; what lies beyond is drawn at the end.
        y_ends: data at its bottom and top; likewise.
    """

    width: float
    height: float
    margins: tuple[float, float, float, float]
    x_ends: tuple[float, float]
    y_ends: tuple[float, float] = (0.0, 1.0)

    @property
    def left(self) -> float:
        """Left end of the horizontal axis."""
        return self.margins[0]

    @property
    def right(self) -> float:
        """Right end of the horizontal axis."""
        return self.width - self.margins[1]

    @property
    def base(self) -> float:
        """Height of the horizontal axis; picture units count downwards."""
        return self.height - self.margins[3]

    def x(self, value: float) -> float:
        """Return where a value lies horizontally."""
        return self.left + _share(value, self.x_ends) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return where a value lies vertically."""
        return self.base - _share(value, self.y_ends) * (self.base - self.margins[2])

    def baseline(self) -> Markup:
        """Draw the horizontal axis without ticks."""
        return line(f"M{number_text(self.left)} {number_text(self.base)}H{number_text(self.right)}")

    def x_axis(self, most: int, unit: str = "") -> list[Markup]:
        """Draw the horizontal axis with about `most` ticks; `unit` follows each number."""
        drawn = [self.baseline()]
        for value in ticks(*self.x_ends, most):
            x = self.x(value)
            drawn.append(line(f"M{x:.1f} {number_text(self.base)}v4"))
            drawn.append(text_at(x, self.base + 16, tick_text(value) + unit, "tick", "middle"))
        return drawn

    def y_lines(self, most: int) -> list[Markup]:
        """Draw about `most` lines of equal value, with their values at the left."""
        drawn = []
        for value in ticks(*self.y_ends, most):
            y = self.y(value)
            path = f"M{number_text(self.left)} {y:.1f}H{number_text(self.right)}"
            drawn.append(line(path, "graticule"))
            drawn.append(text_at(self.left - 6, y + 3.5, tick_text(value), "tick", "end"))
        return drawn

    def column(
        self, x_ends: tuple[float, float], y_ends: tuple[float, float], colour: str, title: str
    ) -> Markup:
        """Draw a bar between two values of either axis, at least one unit high."""
        x, low = self.x(x_ends[0]), self.y(y_ends[0])
        height = max(low - self.y(y_ends[1]), 1.0)
        return tag(
            "rect",
            tag("title", title),
            x=x,
            y=low - height,
            width=max(self.x(x_ends[1]) - x, 0.5),
            height=height,
            fill=colour,
        )

    def number_above(self, x: float, y: float, count: int) -> Markup:
        """Write a count above the bar that ends at (x, y), data."""
        return text_at(
            self.x(x), min(self.y(y), self.base - 1) - 4, compact(count), "value", "middle"
        )


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return (min(max(value, low), high) - low) / ((high - low) or 1.0)


def bars(counts: Sequence[int], names: Sequence[str], colour: str, label: str) -> Markup:
    """Draw counts of named intervals, each with its number on top.

    Args:
        counts: per interval.
        names: of the intervals, below the axis.
        colour: of the bars.
        label: what the figure shows.
    """
    axes = Axes(300.0, 132.0, (4, 4, 16, 30), (0, len(counts)), (0, max([*counts, 1])))
    total = max(sum(counts), 1)
    content = [axes.baseline()]
    for index, (count, name) in enumerate(zip(counts, names, strict=True)):
        if count:
            title = f"{name}: {count:,} ({count / total:.1%})"
            ends = (index + 0.08, index + 0.92)
            content.append(axes.column(ends, (0, count), colour, title))
            content.append(axes.number_above(index + 0.5, count, count))
        content.append(text_at(axes.x(index + 0.5), axes.base + 13, name, "tick", "middle"))
    return svg(axes.width, axes.height, label, content, "figure")


def histogram(
    edges: npt.NDArray[np.floating],
    counts: npt.NDArray[np.integer],
    *,
    colour: str,
    label: str,
    unit: str,
) -> Markup:
    """Draw a histogram with a numeric axis, and the number of its fullest bin.

    Args:
        edges: limits of the bins, (k + 1,).
        counts: per bin, (k,).
        colour: of the bars.
        label: what the figure shows.
        unit: of the edges, written after each number.
    """
    ends = (float(edges[0]), float(edges[-1]))
    axes = Axes(300.0, 126.0, (18, 18, 18, 26), ends, (0, max(int(counts.max(initial=0)), 1)))
    content = axes.x_axis(4, unit)
    gap = 0.02 * (ends[1] - ends[0]) / len(counts)
    for start, end, count in zip(
        edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True
    ):
        if count:
            title = f"{start:g} to {end:g}{unit}: {count:,}"
            content.append(axes.column((start + gap, end - gap), (0, count), colour, title))
    peak = int(np.argmax(counts))
    middle = float(edges[peak] + edges[peak + 1]) / 2
    content.append(axes.number_above(middle, int(counts[peak]), int(counts[peak])))
    return svg(axes.width, axes.height, label, content, "figure")


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Args:
        name: in the legend.
        colour: of the line.
        points: (x, y) each; those that are no finite numbers are left out.
        marked: draw a dot at each point.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


def line_chart(
    series: Sequence[Series], label: str, *, x_title: str = "step", from_zero: bool = False
) -> Markup | None:
    """Draw curves on common axes, with a legend where there are several.

    Args:
        series: the curves.
        label: what the figure shows, for those who cannot see it.
        x_title: name of the horizontal axis.
        from_zero: let the vertical axis begin at 0.

    Returns:
        the chart, of the same size always; None where no curve has a point.
    """
    curves = [
        (one, [(a, b) for a, b in one.points if math.isfinite(a) and math.isfinite(b)])
        for one in series
    ]
    curves = [(one, points) for one, points in curves if points]
    if not curves:
        return None
    x = [a for _, points in curves for a, _ in points]
    y = [b for _, points in curves for _, b in points]
    bottom, top = 0.0 if from_zero else min(y), max(y)
    room = _HEADROOM * ((top - bottom) or abs(top) or 1.0)
    legend = [(one.name, one.colour) for one, _ in curves] if len(curves) > 1 else []
    axes = Axes(
        _LINE_WIDTH,
        _LINE_HEIGHT,
        (46, 12, 28 if legend else 10, 34),
        (min(x), max(*x, min(x) + 1.0)),
        (bottom if from_zero else bottom - room, top + room),
    )
    content = [*axes.y_lines(4), *axes.x_axis(6), *_legend(legend, axes.left)]
    content.append(text_at(axes.right, axes.height - 4, x_title, "tick", "end"))
    for one, points in curves:
        at = [(axes.x(a), axes.y(b)) for a, b in points]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in at)
        content.append(line(path, "curve", one.name, stroke=one.colour))
        if one.marked or len(at) == 1:  # a line of one point shows nothing
            content += [
                tag("circle", cx=round(a, 1), cy=round(b, 1), r=3, fill=one.colour) for a, b in at
            ]
    return svg(axes.width, axes.height, label, content, "figure lines")


def _legend(entries: Sequence[tuple[str, str]], x: float) -> list[Markup]:
    drawn = []
    for name, colour in entries:
        drawn.append(tag("rect", x=x, y=5, width=11, height=11, rx=2, fill=colour))
        drawn.append(text_at(x + 17, 14.5, name, "legend-name"))
        x += 17 + _LETTER_WIDTH * len(name) + 18
    return drawn


def chart_grid(charts: Sequence[tuple[str, Markup]], columns: int, label: str) -> Markup:
    """Lay out line charts in rows, each below its title, as one picture.

    Args:
        charts: title and chart of each.
        columns: charts beside each other.
        label: what all of them show.
    """
    gap, room = 24.0, 26.0
    width, height = _LINE_WIDTH + gap, room + _LINE_HEIGHT + gap
    rows = -(-len(charts) // columns)
    content = [tag("rect", width="100%", height="100%", fill="#fff")]
    for index, (title, chart) in enumerate(charts):
        x, y = gap + index % columns * width, gap + index // columns * height
        content.append(text_at(x, y + 10, title, "chart-title"))
        place = {"x": x, "y": y + room - 4, "width": _LINE_WIDTH, "height": _LINE_HEIGHT}
        content.append(tag("svg", chart, **place))
    return svg(gap + columns * width, gap + rows * height, label, content, "grid")


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of `interval_chart`: a share between the ends of its interval."""

    name: str
    colour: str
    value: float
    low: float
    high: float


def interval_chart(rows: Sequence[Interval], label: str) -> Markup:
    """Draw shares with their intervals, one below the other on one axis.

    Args:
        rows: from top to bottom, at least one.
        label: what the figure shows.
    """
    step, top, bottom = 38.0, 2.0, 26.0
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    room = _HEADROOM * ((high - low) or 0.1)
    ends = (max(0.0, low - room), min(1.0, high + room))
    axes = Axes(560.0, top + step * len(rows) + bottom, (8, 8, top, bottom), ends)
    content = axes.x_axis(5)
    for position, row in enumerate(rows):
        text_y = top + step * position + 17
        y = text_y + 9
        numbers = f"{row.name}: {row.value:.3f}, {row.low:.3f} to {row.high:.3f}"
        path = f"M{axes.x(row.low):.1f} {number_text(y)}H{axes.x(row.high):.1f}"
        content += [
            text_at(axes.left, text_y, row.name, "row"),
            text_at(axes.right, text_y, f"{row.value:.3f}", "row", "end"),
            line(path, "curve", numbers, stroke=row.colour),
            tag("circle", cx=round(axes.x(row.value), 1), cy=y, r=4.5, fill=row.colour),
        ]
    return svg(axes.width, axes.height, label, content, "figure intervals")


def point_cloud(
    points: npt.NDArray[np.floating],
    colours: Sequence[str],
    names: Sequence[str],
    label: str,
) -> Markup:
    """Draw places in a plane, each axis stretched to the square.

    Args:
        points: (N, 2).
        colours: of each.
        names: of each, shown where the pointer rests.
        label: what the figure shows.
    """
    x, y = points.T.tolist()
    axes = Axes(560.0, 560.0, (12, 12, 12, 12), (min(x), max(x)), (min(y), max(y)))
    content = [
        tag(
            "circle",
            tag("title", name),
            cx=round(axes.x(a), 1),
            cy=round(axes.y(b), 1),
            r=4,
            fill=colour,
        )
        for a, b, colour, name in zip(x, y, colours, names, strict=True)
    ]
    return svg(axes.width, axes.height, label, content, "figure cloud")
