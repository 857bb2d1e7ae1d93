"""Placements of grids, coverage of regions and edges of geometries, against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from earth_engine_emulator.expressions.dates import Date, advance, floor_to, format_date, parse_date
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.geometries import Geometry, box, of_footprint
from earth_engine_emulator.expressions.grids import PixelGrid, place
from earth_engine_emulator.expressions.image_math import cast_values
from earth_engine_emulator.expressions.pixel_types import NAMED, PixelType, type_of_constant, union
from earth_engine_emulator.expressions.projections import Projection
from earth_engine_emulator.expressions.regions import pixels_of


@settings(max_examples=40)
@given(
    zone=st.sampled_from([32617, 32618, 32619, 32718, 4326, 3857]),
    x=st.integers(0, 40),
    y=st.integers(0, 40),
    size=st.integers(1, 300),
    pixel_m=st.sampled_from([7.5, 10.0, 20.0, 60.0]),
)
def test_placements_are_exact_to_a_hundredth_of_a_pixel(
    zone: int, x: int, y: int, size: int, pixel_m: float
) -> None:
    lattice = Projection("EPSG:32618", (10.0, 0.0, 399960.0, 0.0, -10.0, 4200000.0))
    to_zone = pyproj.Transformer.from_crs("EPSG:32618", f"EPSG:{zone}", always_xy=True)
    left, top = to_zone.transform(400000 + 2000 * x, 4199000 - 2000 * y)
    unit = pixel_m / 111320 if zone == 4326 else pixel_m
    grid = PixelGrid(
        Projection(f"EPSG:{zone}", (unit, 0.0, left, 0.0, -unit, top)), size, (size + 1) // 2
    )
    placed = place(grid, lattice)
    back = pyproj.Transformer.from_crs(f"EPSG:{zone}", "EPSG:32618", always_xy=True)
    columns = left + unit * (np.arange(grid.width) + 0.5)
    rows = top - unit * (np.arange(grid.height) + 0.5)
    east, north = back.transform(*np.meshgrid(columns, rows))
    np.testing.assert_allclose(
        np.broadcast_to(placed.columns, grid.shape), (east - 399960) / 10, atol=0.01
    )
    np.testing.assert_allclose(
        np.broadcast_to(placed.rows, grid.shape), (4200000 - north) / 10, atol=0.01
    )


def test_a_place_outside_the_projection_lies_outside_every_raster() -> None:
    lattice = Projection("EPSG:32618", (10.0, 0.0, 399960.0, 0.0, -10.0, 4200000.0))
    far = PixelGrid(Projection("EPSG:4326", (1.0, 0.0, 100.0, 0.0, -1.0, 100.0)), 40, 40)
    placed = place(far, lattice)
    inside = (placed.nearest_rows >= 0) & (placed.nearest_rows < 10980)
    inside &= (placed.nearest_columns >= 0) & (placed.nearest_columns < 10980)
    assert not inside.any()


@settings(max_examples=30)
@given(
    corners=st.lists(
        st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=3, max_size=6, unique=True
    )
)
def test_coverage_is_the_area_of_each_pixel_inside(corners: list[tuple[float, float]]) -> None:
    hull = shapely.convex_hull(shapely.MultiPoint(corners))
    if hull.area < 1:
        return
    utm = Projection("EPSG:32618", (10.0, 0.0, 400000.0, 0.0, -10.0, 4200000.0))
    ring = [[400000 + x, 4200000 - y] for x, y in hull.exterior.coords]
    area = Geometry("Polygon", [ring], Projection("EPSG:32618"), geodesic=False)
    region = pixels_of(area, utm, 10_000, best_effort=False)
    assert region.weights.sum() == pytest.approx(hull.area / 100, rel=1e-6)
    _, _, column0, _, _, row0 = region.grid.projection.transform
    left, top = (column0 - 400000) / 10, (4200000 - row0) / 10
    for row in range(region.grid.height):
        for column in range(region.grid.width):
            cell = shapely.box(
                (left + column) * 10,
                (top + row) * 10,
                (left + column + 1) * 10,
                (top + row + 1) * 10,
            )
            assert region.weights[row, column] == pytest.approx(
                cell.intersection(hull).area / 100, abs=1e-6
            )


def test_footprint_edges_follow_great_circles() -> None:
    ring = [(-76.0, 37.9), (-76.0, 36.9), (-74.8, 36.9), (-74.8, 37.9), (-76.0, 37.9)]
    shape = of_footprint(ring).shape
    # The middle of an arc of great circle, from the two ends' vectors.
    ends = np.radians([[-76.0, 37.9], [-74.8, 37.9]])
    vectors = [np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)]) for a, b in ends]
    middle = sum(vectors) / np.linalg.norm(sum(vectors))
    latitude = np.degrees(np.arcsin(middle[2]))
    top = shapely.intersection(shape, shapely.LineString([(-75.4, 37), (-75.4, 39)])).bounds[3]
    assert top == pytest.approx(latitude, abs=1e-5)
    assert top > 37.9015


def test_shapes_cross_the_antimeridian() -> None:
    ring = [(179.5, 1.0), (179.5, -1.0), (-179.5, -1.0), (-179.5, 1.0), (179.5, 1.0)]
    footprint = of_footprint(ring)
    assert footprint.shape.area == pytest.approx(2.0, rel=1e-3)
    bounds = footprint.bounds()
    assert (bounds.west, bounds.east) == pytest.approx((179.5, -179.5))


def test_boxes_and_malformed_coordinates() -> None:
    assert shapely.bounds(box((1, 2, 3, 4)).shape).tolist() == [1, 2, 3, 4]
    with pytest.raises(AlgorithmError, match="Invalid coordinates"):
        _ = Geometry("Polygon", [["a", "b"]]).shape


@given(
    values=st.lists(st.floats(-1e20, 1e20) | st.just(float("nan")), min_size=1, max_size=20),
    name=st.sampled_from(["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64"]),
)
def test_casts_truncate_and_clamp(values: list[float], name: str) -> None:
    got = cast_values(np.array(values), NAMED[name])
    held = np.iinfo(name)
    assert got.dtype == name
    for value, out in zip(values, got.tolist(), strict=True):
        if np.isnan(value):
            assert out == 0
        elif held.max <= 2**53 or abs(value) < 2**53:
            assert out == min(max(int(value), held.min), held.max)
        else:
            # int64's ends are no float64: within the spacing of doubles there.
            assert abs(out - min(max(int(value), held.min), held.max)) <= 2048


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, "uint8"), (-1, 5, "int8"), (0, 256, "uint16"), (-129, 0, "int16"),
     (0, 70000, "int32"), (0, 2**32 - 1, "uint32"), (-1, 2**32, "int64")],
)  # fmt: skip
def test_integers_leave_in_the_smallest_type(low: int, high: int, dtype: str) -> None:
    assert PixelType("int", low, high).dtype == np.dtype(dtype)


def test_types_unite() -> None:
    assert union(NAMED["uint8"], type_of_constant(-1)) == PixelType("int", -1, 255)
    assert union(NAMED["uint8"], PixelType("float")).precision == "float"
    assert union(PixelType("float"), PixelType("double")).precision == "double"


@pytest.mark.parametrize(
    ("start", "delta", "unit", "expected"),
    [
        ("2020-01-31", 1, "month", "2020-02-29"),
        ("2020-02-29", 1, "year", "2021-02-28"),
        ("2020-12-31", 1, "day", "2021-01-01"),
        ("2021-03-31", -1, "months", "2021-02-28"),
        ("2020-01-01", 2, "week", "2020-01-15"),
    ],
)
def test_dates_advance_in_the_calendar(start: str, delta: float, unit: str, expected: str) -> None:
    assert format_date(advance(parse_date(start), delta, unit), "yyyy-MM-dd") == expected


@given(ms=st.integers(0, 4_000_000_000_000))
def test_units_begin_before_what_they_hold(ms: int) -> None:
    for unit in ("year", "month", "week", "day", "hour", "minute", "second"):
        start = floor_to(Date(ms), unit)
        assert start.ms <= ms < advance(start, 1, unit).ms


@pytest.mark.parametrize("text", ["2020-13-01", "2020-02-30", "June", "", "2020-01-01T25:00"])
def test_dates_that_are_none_are_refused(text: Any) -> None:
    with pytest.raises(AlgorithmError, match="Invalid date"):
        parse_date(text)
