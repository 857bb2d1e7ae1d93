"""The curves, intervals and clouds of points of a demo's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pipeline.report.svg import svg, tag, text_at, tick_at, ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 34.0
_HEADROOM: Final = 0.06
"""Of an axis, beyond the values on either side."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Args:
        name: in the legend.
        colour: of the line.
        x: of its points.
        y: of its points.
        marked: draw the points too.
    """

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class _Axes:
    """Data to picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: float
    height: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def frame(self, x_title: str) -> list[Markup]:
        """Return axes, ticks and lines of equal value."""
        base = self.height - _BOTTOM
        drawn = [tag("path", d=f"M{_LEFT} {base}H{self.width - _RIGHT}", class_="axis")]
        for value in ticks(self.x_low, self.x_high, 6):
            drawn += tick_at(self.x(value), base, f"{value:g}")
        for value in ticks(self.y_low, self.y_high, 4):
            y = self.y(value)
            drawn.append(
                tag("path", d=f"M{_LEFT} {y:.1f}H{self.width - _RIGHT}", class_="graticule")
            )
            drawn.append(text_at(_LEFT - 6, y + 3.5, f"{value:g}", "tick", "end"))
        drawn.append(text_at(self.width - _RIGHT, self.height - 4, x_title, "tick", "end"))
        return drawn


def line_chart(
    series: Sequence[Series], label: str, *, x_title: str = "step", from_zero: bool = False
) -> Markup:
    """Draw curves over one axis; the legend is the page's matter.

    Args:
        series: with at least one point in all.
        label: what the figure shows, for those who cannot see it.
        x_title: name of the horizontal axis.
        from_zero: let the vertical axis begin at 0.
    """
    x = [value for one in series for value in one.x]
    y = [value for one in series for value in one.y if math.isfinite(value)]
    low, high = min(y), max(y)
    room = _HEADROOM * ((high - low) or abs(high) or 1.0)
    bottom = 0.0 if from_zero else low - room
    axes = _Axes(min(x), max(*x, min(x) + 1.0), bottom, high + room, 460.0, 190.0)
    drawn = axes.frame(x_title)
    for one in series:
        points = [
            (axes.x(a), axes.y(b)) for a, b in zip(one.x, one.y, strict=True) if math.isfinite(b)
        ]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        drawn.append(
            tag(
                "path",
                tag("title", one.name),
                d=f"M{path}",
                fill="none",
                stroke=one.colour,
                stroke_width=2,
            )
        )
        if one.marked:
            drawn += [
                tag("circle", cx=round(a, 1), cy=round(b, 1), r=3, fill=one.colour)
                for a, b in points
            ]
    return svg(axes.width, axes.height, label, drawn, "figure")


@dataclass(frozen=True, slots=True)
class Scored:
    """One row of `interval_chart`: a value between the ends of its interval."""

    name: str
    colour: str
    value: float
    low: float
    high: float


def interval_chart(rows: Sequence[Scored], label: str) -> Markup:
    """Draw values with their intervals, one below the other on one axis."""
    step, left, width = 26.0, 236.0, 860.0
    height = _TOP + step * len(rows) + _BOTTOM
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    room = _HEADROOM * ((high - low) or 0.1)
    low, high = max(0.0, low - room), min(1.0, high + room)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 60.0)

    base = height - _BOTTOM
    drawn = [tag("path", d=f"M{left} {base}H{width - 60.0}", class_="axis")]
    for value in ticks(low, high, 5):
        drawn += tick_at(x(value), base, f"{value:g}")
    for position, row in enumerate(rows):
        y = _TOP + step * (position + 0.5)
        drawn += [
            text_at(left - 12, y + 4, row.name, "row", "end"),
            tag(
                "path",
                tag("title", f"{row.name}: {row.value:.3f}, {row.low:.3f} to {row.high:.3f}"),
                d=f"M{x(row.low):.1f} {y}H{x(row.high):.1f}",
                stroke=row.colour,
                stroke_width=2,
            ),
            tag("circle", cx=round(x(row.value), 1), cy=y, r=4.5, fill=row.colour),
            text_at(width - 50, y + 4, f"{row.value:.3f}", "row"),
        ]
    return svg(width, height, label, drawn, "figure")


def point_cloud(
    points: npt.NDArray[np.floating],
    colours: Sequence[str],
    names: Sequence[str],
    label: str,
) -> Markup:
    """Draw places in a plane.

    Args:
        points: (N, 2).
        colours: of each.
        names: of each, shown where the pointer rests.
        label: what the figure shows.
    """
    size, margin = 560.0, 12.0
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (size - 2 * margin) / np.maximum(high - low, 1e-12)
    at = margin + (points - low) * scale
    drawn = [
        tag(
            "circle",
            tag("title", name),
            cx=round(float(x), 1),
            cy=round(size - float(y), 1),
            r=4,
            fill=colour,
        )
        for (x, y), colour, name in zip(at, colours, names, strict=True)
    ]
    return svg(size, size, label, drawn, "cloud")
