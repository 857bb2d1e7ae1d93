"""Acquisitions per month and product, as one figure of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup

from pages.charts import Axes
from pages.svg import line, svg, text_at
from pipeline.report.small_arrays import Integers

SEASON_COLOURS: Final = ("#27577f", "#4f9d9a", "#e0a63f", "#b4552d")
"""Slots 0 to 3; apart in lightness as well as in hue."""
_MONTH_LETTERS: Final = "JFMAMJJASOND"
_WIDTH, _ROW_HEIGHT, _AXIS_HEIGHT = 960.0, 100.0, 36.0
_MAX_BAR_WIDTH: Final = 34.0
_MIN_NUMBERED_MONTH_WIDTH: Final = 24.0
"""Numbers above narrower months would overlap."""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """The acquisition times of one product's complete patches."""

    title: str
    time_ms: Integers
    season: Integers


def timeline(rows: Sequence[TimelineRow], season_names: Sequence[str]) -> Markup | None:
    """Draw acquisitions per month, one row per product on one axis; None without any date."""
    months = [row.time_ms.astype("datetime64[ms]").astype("datetime64[M]") for row in rows]
    every = np.concatenate([np.empty(0, "datetime64[M]"), *months])
    if not every.size:
        return None
    first, last = every.min().astype("datetime64[Y]"), every.max().astype("datetime64[Y]")
    num_months = 12 * int((last - first).astype(int) + 1)
    height = _ROW_HEIGHT * len(rows) + _AXIS_HEIGHT
    content = []
    for index, (row, month) in enumerate(zip(rows, months, strict=True)):
        counts = np.zeros((num_months, len(season_names)), dtype=np.int64)
        np.add.at(counts, ((month - first.astype("datetime64[M]")).astype(int), row.season), 1)
        top, bottom = index * _ROW_HEIGHT + 52, height - (index + 1) * _ROW_HEIGHT
        ends = (0, int(counts.sum(axis=1).max()))
        axes = Axes(_WIDTH, height, (8, 8, top, bottom), (0, num_months), ends)
        content += [axes.baseline(), text_at(axes.left, top - 26, row.title, "row-title")]
        content += _month_bars(axes, counts, season_names, int(first.astype(int)) + 1970)
    content += _year_axis(axes, int(first.astype(int)) + 1970)
    return svg(_WIDTH, height, "Acquisitions per month and product", content, "wide")


def _month_bars(
    axes: Axes, counts: Integers, season_names: Sequence[str], first_year: int
) -> list[Markup]:
    drawn = []
    month_width = axes.x(1) - axes.x(0)
    half = min(0.4, _MAX_BAR_WIDTH / 2 / month_width)
    for month in np.flatnonzero(counts.sum(axis=1)).tolist():
        name = f"{first_year + month // 12}-{month % 12 + 1:02d}"
        ends, total = (month + 0.5 - half, month + 0.5 + half), 0
        for season, count in enumerate(counts[month].tolist()):
            if count:
                title = f"{name}, {season_names[season]}: {count:,}"
                colour = SEASON_COLOURS[season]
                drawn.append(axes.column(ends, (total, total + count), colour, title))
                total += count
        if month_width >= _MIN_NUMBERED_MONTH_WIDTH:
            drawn.append(axes.number_above(month + 0.5, total, total))
    return drawn


def _year_axis(axes: Axes, first_year: int) -> list[Markup]:
    num_years = round(axes.x_ends[1] / 12)
    with_letters = num_years <= 2
    drawn = []
    for year in range(num_years):
        drawn.append(line(f"M{axes.x(12 * year):.1f} {axes.base:.1f}v8"))
        y = axes.base + (31 if with_letters else 18)
        drawn.append(
            text_at(axes.x(12 * year + 6), y, str(first_year + year), "tick year", "middle")
        )
        if with_letters:
            drawn += [
                text_at(axes.x(12 * year + month + 0.5), axes.base + 15, letter, "tick", "middle")
                for month, letter in enumerate(_MONTH_LETTERS)
            ]
    return drawn
