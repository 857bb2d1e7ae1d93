"""The report's figures, as SVG drawn by hand.

Text stays text, and the same numbers give the same bytes. A plotting library would bring its own
fonts and version-dependent output into the file; these figures need rectangles, paths and labels.
Fonts and most colours come from the page's style sheet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from pipeline.report.svg import (
    compact,
    data_uri,
    minus,
    number_text,
    svg,
    tag,
    text_at,
    tick_at,
    ticks,
)

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

SEASON_COLOURS: Final = ("#27577f", "#4f9d9a", "#e0a63f", "#b4552d")
"""Slots 0 to 3; apart in lightness as well as in hue."""
SPLIT_COLOURS: Final = {
    "train": "#b4552d",
    "validation": "#27577f",
    "test": "#3f8f6b",
    "buffer": "#8b949e",
}
DENSITY_COLOURS: Final = ("#f3bd66", "#e58a45", "#c9503f", "#8f2c55", "#4a1a4f")

_MAX_DOTS: Final = 2_000
"""More locations than this are drawn as a density: dots would hide each other and fill the file."""
_DENSITY_CELL_DEG: Final = 0.5
_CLOSE_UP_DEG: Final = 60.0
"""Locations within a window smaller than this get a map of their own."""
_MIN_CLOSE_UP_DEG: Final = 0.4
_MIN_LAND_DEG: Final = 12.0
"""The land outline is made for 1:110 million: a smaller window would show its corners only."""


# --- maps -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of the world in plate carrée: degrees in, picture units out."""

    west: float
    south: float
    east: float
    north: float
    width: float = 960.0

    @property
    def scale(self) -> float:
        return self.width / (self.east - self.west)

    @property
    def height(self) -> float:
        return (self.north - self.south) * self.scale

    def x(self, longitude: Floats) -> Floats:
        return (longitude - self.west) * self.scale

    def y(self, latitude: Floats) -> Floats:
        return (self.north - latitude) * self.scale


@cache
def _land_rings() -> tuple[Floats, ...]:
    """Return the outlines of the land, (K, 2) longitude and latitude each."""
    text = files("pipeline.report").joinpath("templates/land.geojson").read_text(encoding="utf-8")
    return tuple(
        np.asarray(ring, dtype=np.float64)
        for feature in json.loads(text)["features"]
        for polygon in feature["geometry"]["coordinates"]
        for ring in polygon
    )


def _land(window: _Window) -> Markup:
    paths = []
    for ring in _land_rings():
        longitude, latitude = ring[:, 0], ring[:, 1]
        outside = (
            longitude.max() < window.west
            or longitude.min() > window.east
            or latitude.max() < window.south
            or latitude.min() > window.north
        )
        if outside:
            continue
        xy = np.stack([window.x(longitude), window.y(latitude)], axis=1)
        points = [f"{x:.1f} {y:.1f}" for x, y in xy[:-1]]
        paths.append("M" + "L".join(points) + "Z")
    return tag("path", d="".join(paths), class_="land")


def _graticule(window: _Window, step: float, labels: bool) -> list[Markup]:
    drawn = []
    for degrees in np.arange(np.ceil(window.west / step) * step, window.east, step):
        x = float(window.x(degrees))
        drawn.append(tag("path", d=f"M{x:.1f} 0V{window.height:.1f}", class_="graticule"))
        if labels and 30 < x < window.width - 30:
            drawn.append(
                text_at(x, window.height - 6, _degrees(degrees, "EW"), "map-label", "middle")
            )
    for degrees in np.arange(np.ceil(window.south / step) * step, window.north, step):
        y = float(window.y(degrees))
        drawn.append(tag("path", d=f"M0 {y:.1f}H{number_text(window.width)}", class_="graticule"))
        if labels and 12 < y < window.height - 24:
            drawn.append(text_at(6, y - 4, _degrees(degrees, "NS"), "map-label"))
    return drawn


def _degrees(value: float, hemispheres: str) -> str:
    if value == 0:
        return "0°"
    return f"{round(abs(value), 6):g}° {hemispheres[0] if value > 0 else hemispheres[1]}"


def density_breaks(counts: Integers) -> tuple[int, ...]:
    """Return the least count of each shade: powers of the fullest cell's fourth root, from 1."""
    largest = max(int(counts.max(initial=1)), 1)
    steps = np.geomspace(1, largest, len(DENSITY_COLOURS) + 1)[:-1]
    return tuple(sorted({max(1, int(np.ceil(step))) for step in steps}))


@dataclass(frozen=True, slots=True)
class WorldMap:
    """Maps of the locations and what their marks mean."""

    world: Markup
    close_up: Markup | None
    legend: tuple[tuple[str, str], ...]
    """(colour, meaning) per mark."""
    is_density: bool
    num_without_coordinates: int
    close_up_has_land: bool


def world_map(longitude: Floats, latitude: Floats, split: Sequence[str]) -> WorldMap:
    """Draw the locations on land: as dots, or as a density where they are many.

    Args:
        longitude: deg, (N,); NaN where not known.
        latitude: deg, (N,).
        split: name of each location's split, (N,).
    """
    known = np.isfinite(longitude) & np.isfinite(latitude)
    longitude, latitude = longitude[known], latitude[known]
    splits = np.asarray(split, dtype=object)[known]
    south = -60.0 if not latitude.size else float(min(-60.0, np.floor(latitude.min()) - 2))
    window = _Window(-180.0, south, 180.0, 84.0)
    names = [name for name in SPLIT_COLOURS if (splits == name).any()]
    is_density = longitude.size > _MAX_DOTS
    if is_density:
        marks, legend = _density(window, longitude, latitude)
    else:
        marks = _dots(window, longitude, latitude, splits)
        legend = tuple((SPLIT_COLOURS[name], name) for name in names)
    label = f"World map of {longitude.size:,} locations"
    near = _near_window(longitude, latitude)
    frame = [] if near is None else [_frame(window, near)]
    content = [_land(window), *_graticule(window, 30.0, labels=False), *frame, marks]
    second = None
    if near is not None:
        near_marks = (
            _density(near, longitude, latitude)[0]
            if is_density
            else _dots(near, longitude, latitude, splits)
        )
        steps = ticks(0.0, near.east - near.west, 6)
        second = svg(
            near.width,
            near.height,
            f"Close-up of {longitude.size:,} locations",
            [
                _land(near) if _shows_land(near) else Markup(""),
                *_graticule(near, steps[1] - steps[0], labels=True),
                near_marks,
            ],
            "map",
        )
    return WorldMap(
        svg(window.width, window.height, label, content, "map"),
        second,
        legend,
        is_density,
        int(np.count_nonzero(~known)),
        near is not None and _shows_land(near),
    )


def _shows_land(window: _Window) -> bool:
    return window.east - window.west >= _MIN_LAND_DEG


def _near_window(longitude: Floats, latitude: Floats) -> _Window | None:
    if longitude.size < 2:
        return None
    west, east = float(longitude.min()), float(longitude.max())
    south, north = float(latitude.min()), float(latitude.max())
    if max(east - west, 2 * (north - south)) > _CLOSE_UP_DEG:
        return None
    # Twice as wide as high, with room around the outermost locations.
    width = max(_MIN_CLOSE_UP_DEG, 1.3 * (east - west), 2.6 * (north - south))
    middle_x, middle_y = (west + east) / 2, (south + north) / 2
    return _Window(
        middle_x - width / 2, middle_y - width / 4, middle_x + width / 2, middle_y + width / 4
    )


def _frame(window: _Window, near: _Window) -> Markup:
    corners = np.asarray([near.west, near.east]), np.asarray([near.north, near.south])
    x, y = window.x(corners[0]), window.y(corners[1])
    # Around a few kilometres the frame would be a point: it stays large enough to see.
    width, height = max(float(x[1] - x[0]), 24.0), max(float(y[1] - y[0]), 12.0)
    return tag(
        "rect",
        x=float(x.mean()) - width / 2,
        y=float(y.mean()) - height / 2,
        width=width,
        height=height,
        class_="close-up-frame",
    )


def _dots(
    window: _Window, longitude: Floats, latitude: Floats, splits: npt.NDArray[np.object_]
) -> Markup:
    # Few dots may be large; many have to leave room for each other.
    few = longitude.size <= 100
    radius = 4.5 if few else 3.0 if longitude.size <= 500 else 2.0
    css = "dots few" if few else "dots"
    x, y = window.x(longitude), window.y(latitude)
    groups = []
    # Train is drawn first, so that the few others lie on top.
    for name, colour in SPLIT_COLOURS.items():
        dots = [
            tag("circle", cx=float(x[i]), cy=float(y[i]), r=radius)
            for i in np.flatnonzero(splits == name)
        ]
        if dots:
            groups.append(tag("g", Markup("").join(dots), class_=css, fill=colour))
    return Markup("").join(groups)


def _density(
    window: _Window, longitude: Floats, latitude: Floats
) -> tuple[Markup, tuple[tuple[str, str], ...]]:
    cell = _DENSITY_CELL_DEG
    columns = np.floor((longitude - window.west) / cell).astype(np.int64)
    rows = np.floor((window.north - latitude) / cell).astype(np.int64)
    # The last cells may stick out of the window by a fraction of a cell.
    shape = (
        int(np.ceil((window.north - window.south) / cell)),
        int(np.ceil((window.east - window.west) / cell)),
    )
    columns = np.where(columns == shape[1], columns - 1, columns)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    breaks = density_breaks(counts)
    shade = np.searchsorted(breaks, counts, side="right").astype(np.uint8)
    colours = _spread(DENSITY_COLOURS, len(breaks))
    picture = tag(
        "image",
        href=palette_png(shade, ("#ffffff", *colours), transparent=0),
        x=0.0,
        y=0.0,
        width=float(shape[1] * cell * window.scale),
        height=float(shape[0] * cell * window.scale),
        class_="pixelated",
        preserveAspectRatio="none",
    )
    ends = [*(b - 1 for b in breaks[1:]), int(counts.max(initial=1))]
    legend = tuple(
        (colour, f"{low:,}" if low >= high else f"{low:,} to {high:,}")
        for colour, low, high in zip(colours, breaks, ends, strict=True)
    )
    return picture, legend


def _spread(colours: Sequence[str], number: int) -> tuple[str, ...]:
    positions = np.linspace(0, len(colours) - 1, number).round().astype(int)
    return tuple(colours[i] for i in positions)


def palette_png(
    indices: npt.NDArray[np.uint8], colours: Sequence[str], transparent: int | None = None
) -> str:
    """Return a data URI of a PNG with a palette.

    Args:
        indices: uint8 (rows, columns), into `colours`.
        colours: ``#rrggbb`` per index.
        transparent: index to leave clear.
    """
    image = Image.fromarray(indices)
    image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in colours))
    buffer = BytesIO()
    options = {} if transparent is None else {"transparency": transparent}
    image.save(buffer, "PNG", optimize=True, **options)
    return data_uri(buffer.getvalue(), "image/png")


# --- distributions ----------------------------------------------------------------------------


def bars(
    counts: Sequence[int], labels: Sequence[str], colour: str, label: str, width: float = 300.0
) -> Markup:
    """Draw counts of named intervals, each with its number on top."""
    left, top, bottom, height = 4.0, 16.0, 30.0, 132.0
    step = (width - 2 * left) / len(counts)
    largest, total = max([*counts, 1]), max(sum(counts), 1)
    content = [tag("path", d=f"M{left} {height - bottom}H{width - left}", class_="axis")]
    for index, (count, name) in enumerate(zip(counts, labels, strict=True)):
        x = left + index * step
        bar = (height - top - bottom) * count / largest
        if count:
            content.append(
                tag(
                    "rect",
                    tag("title", f"{name}: {count:,} ({count / total:.1%})"),
                    x=x + 0.08 * step,
                    y=height - bottom - max(bar, 1.0),
                    width=0.84 * step,
                    height=max(bar, 1.0),
                    fill=colour,
                )
            )
            y = height - bottom - max(bar, 1.0) - 4
            content.append(text_at(x + step / 2, y, compact(count), "value", "middle"))
        content.append(text_at(x + step / 2, height - bottom + 13, name, "tick", "middle"))
    return svg(width, height, label, content, "figure")


def histogram(edges: Floats, counts: Integers, *, colour: str, label: str, unit: str) -> Markup:
    """Draw a histogram with a numeric axis."""
    width = 300.0
    left, top, bottom, height = 18.0, 18.0, 26.0, 126.0
    low, high = float(edges[0]), float(edges[-1])

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - 2 * left)

    largest = max(int(counts.max(initial=0)), 1)
    content = [tag("path", d=f"M{left} {height - bottom}H{width - left}", class_="axis")]
    for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            bar = max((height - top - bottom) * int(count) / largest, 1.0)
            content.append(
                tag(
                    "rect",
                    tag("title", f"{start:g} to {end:g}{unit}: {int(count):,}"),
                    x=x(float(start)) + 0.5,
                    y=height - bottom - bar,
                    width=max(x(float(end)) - x(float(start)) - 1.0, 0.5),
                    height=bar,
                    fill=colour,
                )
            )
    peak = int(np.argmax(counts))
    content.append(
        text_at(
            x(float(edges[peak] + edges[peak + 1]) / 2),
            top - 5,
            compact(int(counts[peak])),
            "value",
            "middle",
        )
    )
    for value in ticks(low, high, 4):
        content += tick_at(x(value), height - bottom, f"{value:g}{unit}")
    return svg(width, height, label, content, "figure")


@dataclass(frozen=True, slots=True)
class BandFigure:
    """A band's histogram and how much of it the drawn axis leaves out."""

    figure: Markup
    outside_fraction: float


def band_histogram(
    edges: Floats,
    counts: Integers,
    *,
    cube: tuple[float, float],
    percentiles: tuple[float, float],
    published: tuple[float, float] | None,
    label: str,
) -> BandFigure:
    """Draw one band's histogram over the cube's and the published mean and spread.

    The axis spans the cube's 1st to 99th percentile and the published mean plus or minus two
    standard deviations, which is the range that the published input normalisation keeps.

    Args:
        edges: bin limits in physical units, (k + 1,); the first and last bin are open-ended.
        counts: pixels per bin, (k,).
        cube: mean and standard deviation of this cube.
        percentiles: p01 and p99 of this cube.
        published: mean and standard deviation to compare with; None where there are none.
        label: what the figure shows, in words.
    """
    width, height, left, top, bottom = 250.0, 146.0, 14.0, 6.0, 50.0
    low, high = _band_axis(edges, cube, percentiles, published)
    inside = (edges[:-1] < high) & (edges[1:] > low)
    total = max(int(counts.sum()), 1)

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (width - 2 * left)

    density = counts / np.diff(edges)
    largest = float(density[inside].max(initial=0.0)) or 1.0
    base = height - bottom
    path, end = [f"M{number_text(left)} {number_text(base)}"], left
    for index in np.flatnonzero(inside):
        start, end = x(float(edges[index])), x(float(edges[index + 1]))
        y = base - (base - top) * float(density[index]) / largest
        path.append(f"L{start:.1f} {y:.1f}H{end:.1f}")
    path.append(f"L{end:.1f} {number_text(base)}Z")
    content = [
        tag("path", d="".join(path), class_="band-area"),
        tag("path", d=f"M{left} {base}H{width - left}", class_="axis"),
    ]
    for value in ticks(low, high, 4):
        name = f"{value:,.0f}" if abs(value) >= 1 else f"{value:g}"
        content += tick_at(x(value), base, minus(name))
    for y, css, pair in (
        (base + 28, "spread-cube", cube),
        (base + 40, "spread-published", published),
    ):
        if pair is not None:
            content.append(_spread_bar(x, y, css, pair, (low, high)))
    outside = 1.0 - float(counts[inside].sum()) / total
    return BandFigure(svg(width, height, label, content, "figure band"), outside)


def _band_axis(
    edges: Floats,
    cube: tuple[float, float],
    percentiles: tuple[float, float],
    published: tuple[float, float] | None,
) -> tuple[float, float]:
    reach = [percentiles, (cube[0] - cube[1], cube[0] + cube[1])]
    if published is not None:
        reach.append((published[0] - 2 * published[1], published[0] + 2 * published[1]))
    low, high = min(r[0] for r in reach), max(r[1] for r in reach)
    if edges[0] >= 0:  # digital numbers: there are none below 0
        low = max(low, 0.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _spread_bar(
    x: Callable[[float], float],
    y: float,
    css: str,
    pair: tuple[float, float],
    limits: tuple[float, float],
) -> Markup:
    """Draw mean (dot) and one standard deviation to both sides (line); clipped to the axis."""
    mean, std = pair
    line = tag("path", d=f"M{x(mean - std):.1f} {number_text(y)}H{x(mean + std):.1f}")
    inside = limits[0] <= mean <= limits[1]
    dot = tag("circle", cx=x(mean), cy=y, r=3.5) if inside else Markup("")
    return tag("g", line + dot, class_=css)


# --- time -------------------------------------------------------------------------------------

_MONTH_LETTERS: Final = "JFMAMJJASOND"


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """The acquisition times of one product's complete patches."""

    title: str
    time_ms: Integers
    season: Integers


@dataclass(frozen=True, slots=True)
class _Months:
    """The common axis of a timeline: whole years, a column per month."""

    first_year: int
    num_years: int
    left: float
    right: float

    @property
    def step(self) -> float:
        """Width of a month."""
        return (self.right - self.left) / (12 * self.num_years)

    def column(self, time_ms: Integers) -> Integers:
        """Return each time's month, counted from the axis' start."""
        months = time_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
        return np.asarray(months - 12 * (self.first_year - 1970))

    def centre(self, month: float) -> float:
        """Return where a month's middle is drawn."""
        return self.left + (month + 0.5) * self.step

    def name(self, month: int) -> str:
        """Return a month as ``2020-06``."""
        return f"{self.first_year + month // 12}-{month % 12 + 1:02d}"


_TIMELINE_ROW_HEIGHT: Final = 100.0


def timeline(rows: Sequence[TimelineRow], season_names: Sequence[str]) -> Markup | None:
    """Draw acquisitions per month, one row per product on one axis; None without any date."""
    times = np.concatenate([row.time_ms for row in rows]) if rows else np.empty(0, np.int64)
    if not times.size:
        return None
    first, last = _year(int(times.min())), _year(int(times.max()))
    axis = _Months(first, last - first + 1, 8.0, 952.0)
    base = 0.0
    content = []
    for row in rows:
        base += _TIMELINE_ROW_HEIGHT
        content.append(tag("path", d=f"M{axis.left} {base}H{axis.right}", class_="axis"))
        title_y = base - _TIMELINE_ROW_HEIGHT + 26
        content.append(text_at(axis.left, title_y, row.title, "row-title"))
        content += _month_bars(axis, row, base, season_names)
    content += _month_axis(axis, base)
    return svg(960.0, base + 36, "Acquisitions per month and product", content, "wide")


def _month_bars(
    axis: _Months, row: TimelineRow, base: float, season_names: Sequence[str]
) -> list[Markup]:
    per_season = np.zeros((12 * axis.num_years, len(season_names)), dtype=np.int64)
    np.add.at(per_season, (axis.column(row.time_ms), row.season), 1)
    totals = per_season.sum(axis=1)
    largest = max(int(totals.max(initial=0)), 1)
    room = _TIMELINE_ROW_HEIGHT - 52
    width = min(0.8 * axis.step, 34.0)
    drawn = []
    for month in np.flatnonzero(totals).tolist():
        x, y = axis.centre(month) - width / 2, base
        for season, count in enumerate(per_season[month].tolist()):
            if not count:
                continue
            bar = max(room * count / largest, 1.0)
            y -= bar
            title = f"{axis.name(month)}, {season_names[season]}: {count:,}"
            drawn.append(
                tag(
                    "rect",
                    tag("title", title),
                    x=x,
                    y=y,
                    width=width,
                    height=bar,
                    fill=SEASON_COLOURS[season],
                )
            )
        if axis.step >= 24:
            text = compact(int(totals[month]))
            drawn.append(text_at(axis.centre(month), y - 5, text, "value", "middle"))
    return drawn


def _month_axis(axis: _Months, base: float) -> list[Markup]:
    with_letters = axis.num_years <= 2
    drawn = []
    for year in range(axis.num_years):
        x = axis.left + 12 * year * axis.step
        drawn.append(tag("path", d=f"M{x:.1f} {base:.1f}v{8}", class_="axis"))
        name, y = str(axis.first_year + year), base + (31 if with_letters else 18)
        drawn.append(text_at(axis.centre(12 * year + 5.5), y, name, "tick year", "middle"))
        if with_letters:
            drawn += [
                text_at(axis.centre(12 * year + month), base + 15, letter, "tick", "middle")
                for month, letter in enumerate(_MONTH_LETTERS)
            ]
    return drawn


def _year(time_ms: int) -> int:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).year
