"""Maps of locations: dots or a density on land, and a close-up where they lie together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pages.charts import ticks
from pages.formats import place
from pages.images import palette_png
from pages.svg import line, number_text, svg, tag, text_at

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]
Legend = tuple[tuple[str, str], ...]
"""(meaning, colour) per mark."""

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
    return line("".join(paths), "land")


def _graticule(window: _Window, step: float, labels: bool) -> list[Markup]:
    drawn = []
    for degrees in np.arange(np.ceil(window.west / step) * step, window.east, step):
        x = float(window.x(degrees))
        drawn.append(line(f"M{x:.1f} 0V{window.height:.1f}", "graticule"))
        if labels and 30 < x < window.width - 30:
            drawn.append(
                text_at(x, window.height - 6, _degrees(degrees, "EW"), "map-label", "middle")
            )
    for degrees in np.arange(np.ceil(window.south / step) * step, window.north, step):
        y = float(window.y(degrees))
        drawn.append(line(f"M0 {y:.1f}H{number_text(window.width)}", "graticule"))
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
    close_up_has_land: bool
    legend: Legend
    is_density: bool
    num_without_coordinates: int
    extent: str
    """A sentence; empty where no coordinates are known."""


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
    is_density = longitude.size > _MAX_DOTS
    near = _near_window(longitude, latitude)

    def marks(window: _Window) -> tuple[Markup, Legend]:
        if is_density:
            return _density(window, longitude, latitude)
        return _dots(window, longitude, latitude, splits)

    drawn, legend = marks(window)
    frame = [] if near is None else [_frame(window, near)]
    content = [_land(window), *_graticule(window, 30.0, labels=False), *frame, drawn]
    label = f"World map of {longitude.size:,} locations"
    return WorldMap(
        svg(window.width, window.height, label, content, "map"),
        None if near is None else _close_up(near, marks(near)[0], longitude.size),
        near is not None and _shows_land(near),
        legend,
        is_density,
        int(np.count_nonzero(~known)),
        _extent(longitude, latitude),
    )


def _close_up(near: _Window, marks: Markup, num_locations: int) -> Markup:
    steps = ticks(0.0, near.east - near.west, 6)
    land = [_land(near)] if _shows_land(near) else []
    content = [*land, *_graticule(near, steps[1] - steps[0], labels=True), marks]
    return svg(near.width, near.height, f"Close-up of {num_locations:,} locations", content, "map")


def _extent(longitude: Floats, latitude: Floats) -> str:
    if not longitude.size:
        return ""
    south_west = place(float(longitude.min()), float(latitude.min()))
    north_east = place(float(longitude.max()), float(latitude.max()))
    if south_west == north_east:
        return f"At {south_west}."
    return f"From {south_west} to {north_east}."


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
) -> tuple[Markup, Legend]:
    # Few dots may be large; many have to leave room for each other.
    few = longitude.size <= 100
    radius = 4.5 if few else 3.0 if longitude.size <= 500 else 2.0
    css = "dots few" if few else "dots"
    x, y = window.x(longitude), window.y(latitude)
    groups, legend = [], []
    # Train is drawn first, so that the few others lie on top.
    for name, colour in SPLIT_COLOURS.items():
        dots = [
            tag("circle", cx=float(x[i]), cy=float(y[i]), r=radius)
            for i in np.flatnonzero(splits == name)
        ]
        if dots:
            groups.append(tag("g", Markup("").join(dots), class_=css, fill=colour))
            legend.append((name, colour))
    return Markup("").join(groups), tuple(legend)


def _density(window: _Window, longitude: Floats, latitude: Floats) -> tuple[Markup, Legend]:
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
    ranges = [
        f"{low:,}" if low >= high else f"{low:,} to {high:,}"
        for low, high in zip(breaks, ends, strict=True)
    ]
    ranges[-1] += " locations"
    return picture, tuple(zip(ranges, colours, strict=True))


def _spread(colours: Sequence[str], number: int) -> tuple[str, ...]:
    positions = np.linspace(0, len(colours) - 1, number).round().astype(int)
    return tuple(colours[i] for i in positions)
