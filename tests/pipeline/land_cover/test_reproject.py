"""Labels, reflectance and backscatter arrive on the grid where they lay on Earth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from groundwork.errors import InputError
from pipeline.grids import Grid
from pipeline.land_cover.label_sampling import _ExactLookup, _FittedLookup, _lookup, sample_labels
from pipeline.land_cover.lattices import ArrayLabels, Lattice, Window, same_lattice
from pipeline.land_cover.reproject import (
    reproject_backscatter_db,
    reproject_labels,
    reproject_reflectance,
)
from storage_schema.land_cover import MASKED

# Virginia's coast (75.6 W, 37.7 N), on the border of zones 17 and 18.
EASTING_M, NORTHING_M = 447_000.0, 4_173_000.0


def transformed(grid: Grid, crs: str) -> Transformer:
    return Transformer.from_crs(CRS.from_epsg(grid.epsg), CRS.from_user_input(crs), always_xy=True)


def pixel_of(lattice: Lattice, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractional (column, row), by the inverse matrix."""
    inverse = ~Affine(*lattice.transform)
    return (
        inverse.a * x + inverse.b * y + inverse.c,
        inverse.d * x + inverse.e * y + inverse.f,
    )


def supersampled_counts(
    labels: np.ndarray, lattice: Lattice, grid: Grid, per_side: int = 10
) -> np.ndarray:
    """Brute force: the label under each of per_side x per_side sub-pixel centres, counted to 256.

    Every centre goes through pyproj and the inverse affine; nothing is shared with the code.
    """
    transformer = transformed(grid, lattice.crs)
    pitch_m = grid.resolution_m / per_side
    steps = (np.arange(grid.size_px * per_side) + 0.5) * pitch_m
    counts = np.zeros(256, np.int64)
    for rows in np.array_split(steps, max(1, steps.size**2 // 1_000_000)):
        x, y = np.meshgrid(grid.x_origin + steps, grid.y_origin - rows)
        column, row = pixel_of(lattice, *transformer.transform(x, y))
        column, row = np.floor(column), np.floor(row)
        inside = (column >= 0) & (column < lattice.width) & (row >= 0) & (row < lattice.height)
        found = labels[row[inside].astype(int), column[inside].astype(int)]
        counts += np.bincount(found, minlength=256)
        counts[MASKED] += np.count_nonzero(~inside)
    return counts


def assert_close_to_supersampled(labels: np.ndarray, lattice: Lattice, grid: Grid) -> None:
    sampled = sample_labels(ArrayLabels(labels, lattice), grid)
    reference = supersampled_counts(labels, lattice, grid)
    num_valid = reference[:9].sum()
    assert abs(sampled.class_counts.sum() / sampled.num_samples - num_valid / reference.sum()) < (
        0.005
    )
    if num_valid == 0:
        assert sampled.class_counts.sum() == 0
        return
    fractions = sampled.class_counts / sampled.class_counts.sum()
    np.testing.assert_allclose(fractions, reference[:9] / num_valid, rtol=0, atol=0.005)


def random_labels(
    rng: np.random.Generator, kind: str, height: int, width: int, masked_share: float
) -> np.ndarray:
    """uint8 (height, width): noise of nine classes or two, stripes, or coherent blobs."""
    if kind == "noise":
        labels = rng.integers(0, 9, (height, width))
    elif kind == "two classes":
        labels = rng.integers(0, 2, (height, width)) * 8
    elif kind == "stripes":
        labels = np.indices((height, width))[int(rng.integers(2))] % 2
    else:
        side = int(rng.integers(2, 12))
        coarse = rng.integers(0, 9, (height // side + 1, width // side + 1))
        labels = coarse.repeat(side, 0).repeat(side, 1)[:height, :width]
    labels = labels.astype(np.uint8)
    labels[rng.random(labels.shape) < masked_share] = MASKED
    return labels


@st.composite
def label_scenes(
    draw: st.DrawFn, sizes_px: st.SearchStrategy[int], same_crs: bool = False
) -> tuple[np.ndarray, Lattice, Grid]:
    """A raster of labels and a grid somewhere over it, possibly beyond its edge."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raster_epsg = draw(st.sampled_from([32617, 32618]))
    grid_epsg = raster_epsg if same_crs else 32617 + 32618 - raster_epsg
    raster_px_m = draw(st.floats(5, 30))
    resolution_m = draw(st.sampled_from([5.0, 10.0, 20.0]))
    size_px = draw(sizes_px)
    kind = draw(st.sampled_from(["noise", "two classes", "stripes", "blobs"]))
    if not same_crs and kind == "stripes":
        kind = "noise"  # see test_stripes_...: there the 10 x count itself is the error
    masked_share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]))
    side_m = resolution_m * size_px
    centre = Transformer.from_crs(4326, raster_epsg, always_xy=True).transform(-75.6, 37.7)
    num_px = int(1.2 * side_m / raster_px_m) + 8
    lattice = Lattice(
        f"EPSG:{raster_epsg}",
        (
            raster_px_m,
            0.0,
            centre[0] - num_px / 2 * raster_px_m + rng.uniform(-50, 50),
            0.0,
            -raster_px_m,
            centre[1] + num_px / 2 * raster_px_m + rng.uniform(-50, 50),
        ),
        num_px,
        num_px,
    )
    x, y = Transformer.from_crs(4326, grid_epsg, always_xy=True).transform(-75.6, 37.7)
    shift_m = draw(st.floats(-0.7, 0.7)) * side_m
    grid = Grid(
        grid_epsg,
        x - side_m / 2 + shift_m,
        y + side_m / 2 + rng.uniform(-0.1, 0.1) * side_m,
        resolution_m,
        size_px,
    )
    return random_labels(rng, kind, num_px, num_px, masked_share), lattice, grid


@settings(max_examples=25)
@given(label_scenes(st.integers(8, 32)))
def test_small_grid_in_another_zone_matches_supersampled_count(scene) -> None:
    assert_close_to_supersampled(*scene)


@settings(max_examples=8)
@given(label_scenes(st.integers(60, 130)))
def test_medium_grid_in_another_zone_matches_supersampled_count(scene) -> None:
    assert_close_to_supersampled(*scene)


@settings(max_examples=2)
@given(label_scenes(st.just(264)))
def test_patch_in_another_zone_matches_supersampled_count(scene) -> None:
    assert_close_to_supersampled(*scene)


@pytest.mark.slow
@settings(max_examples=60)
@given(label_scenes(st.integers(130, 264)))
def test_many_patches_in_another_zone_match_supersampled_count(scene) -> None:
    assert_close_to_supersampled(*scene)


@pytest.mark.campaign
@settings(max_examples=600)
@given(label_scenes(st.integers(4, 264)))
def test_campaign_of_grids_in_another_zone_matches_supersampled_count(scene) -> None:
    assert_close_to_supersampled(*scene)


@settings(max_examples=40)
@given(label_scenes(st.integers(3, 120), same_crs=True))
def test_same_crs_other_lattice_equals_supersampled_count(scene) -> None:
    labels, lattice, grid = scene
    sampled = sample_labels(ArrayLabels(labels, lattice), grid)
    reference = supersampled_counts(labels, lattice, grid)
    np.testing.assert_array_equal(sampled.class_counts, reference[:9])
    assert sampled.num_samples == reference.sum()


def test_stripes_across_zones_are_shared_by_area() -> None:
    """Alternate columns of 10 m: half the area each, whatever the rotation between the zones."""
    labels = (np.indices((320, 320))[1] % 2).astype(np.uint8)
    lattice = Lattice("EPSG:32618", (10, 0, EASTING_M, 0, -10, NORTHING_M), 320, 320)
    x, y = Transformer.from_crs(32618, 32617, always_xy=True).transform(
        EASTING_M + 300, NORTHING_M - 150
    )
    sampled = sample_labels(ArrayLabels(labels, lattice), Grid(32617, x, y))
    fractions = sampled.class_counts / sampled.num_samples
    np.testing.assert_allclose(fractions[:2], 0.5, atol=0.005)


@pytest.mark.parametrize(
    ("crs", "px"),
    [("EPSG:4326", 1e-4), ("EPSG:3857", 12.0), ("EPSG:6933", 25.0), ("EPSG:3035", 10.0)],
)
def test_raster_in_any_crs_matches_supersampled_count(crs: str, px: float) -> None:
    rng = np.random.default_rng(7)
    lon_lat = (10.5, 47.5) if crs == "EPSG:3035" else (-75.6, 37.7)
    epsg = 32632 if crs == "EPSG:3035" else 32617
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(*lon_lat)
    grid = Grid(epsg, x - 400, y + 400, 10, 80)
    centre = Transformer.from_crs(4326, crs, always_xy=True).transform(*lon_lat)
    transform = (px, 0.0, centre[0] - 80 * px, 0.0, -px, centre[1] + 80 * px)
    labels = random_labels(rng, "noise", 160, 160, 0.2)
    assert_close_to_supersampled(labels, Lattice(crs, transform, 160, 160), grid)


@pytest.mark.parametrize("rotation_deg", [30.0, 135.0])
def test_rotated_raster_matches_supersampled_count(rotation_deg: float) -> None:
    rng = np.random.default_rng(3)
    cos, sin = 8 * np.cos(np.radians(rotation_deg)), 8 * np.sin(np.radians(rotation_deg))
    corner = (EASTING_M - 75 * (cos + sin), NORTHING_M - 75 * (sin - cos))  # centre: 75, 75
    transform = (cos, sin, corner[0], sin, -cos, corner[1])
    lattice = Lattice("EPSG:32618", transform, 150, 150)
    grid = Grid(32618, EASTING_M - 300, NORTHING_M + 200, 10, 50)
    assert_close_to_supersampled(random_labels(rng, "noise", 150, 150, 0.1), lattice, grid)


def test_south_up_raster_is_read_the_right_way_round() -> None:
    labels = np.repeat(np.arange(8, dtype=np.uint8)[:, None], 8, axis=1)  # row 0 is the south
    lattice = Lattice("EPSG:32618", (10, 0, EASTING_M, 0, 10, NORTHING_M), 8, 8)
    grid = Grid(32618, EASTING_M, NORTHING_M + 80, 10, 8)
    assert same_lattice(lattice, grid) is None
    sampled = sample_labels(ArrayLabels(labels, lattice), grid)
    np.testing.assert_array_equal(sampled.label, labels[::-1])
    np.testing.assert_array_equal(sampled.class_counts, [800] * 8 + [0])


def test_grid_over_the_pole_is_transformed_point_by_point() -> None:
    """Longitudes wind round the pole: no polynomial fits, and none is used."""
    rng = np.random.default_rng(5)
    labels = random_labels(rng, "noise", 40, 720, 0.1)
    lattice = Lattice("EPSG:4326", (0.5, 0, -180, 0, -0.05, 90), 40, 720)
    grid = Grid(3413, -80_000, 80_000, 4000, 40)
    assert_close_to_supersampled(labels, lattice, grid)


def raster_around(labels: np.ndarray, crs: str, px_m: float = 10.0) -> tuple[Lattice, Grid]:
    """A raster in any metric CRS, and a patch in zone 17 that it surrounds."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(-75.6, 37.7)
    half_m = px_m * len(labels) / 2
    lattice = Lattice(crs, (px_m, 0.0, x - half_m, 0.0, -px_m, y + half_m), *labels.shape)
    x, y = Transformer.from_crs(4326, 32617, always_xy=True).transform(-75.6, 37.7)
    return lattice, Grid(32617, x - 1320, y + 1320)


@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:6933"])
def test_sparse_labels_are_counted_as_finely_as_the_reference(crs: str) -> None:
    """A few valid pixels under a patch: each sub-pixel weighs, so all 10 x 10 are looked up."""
    rng = np.random.default_rng(11)
    labels = np.full((420, 420), MASKED, np.uint8)
    labels[rng.integers(80, 340, 40), rng.integers(80, 340, 40)] = rng.integers(0, 9, 40)
    lattice, grid = raster_around(labels, crs)
    sampled = sample_labels(ArrayLabels(labels, lattice), grid)
    reference = supersampled_counts(labels, lattice, grid)
    assert 0 < reference[:9].sum() < 5000
    np.testing.assert_allclose(sampled.class_counts, reference[:9], atol=1)


def test_sampling_grows_finer_as_labels_grow_scarce() -> None:
    rng = np.random.default_rng(13)
    full = rng.integers(0, 9, (420, 420)).astype(np.uint8)
    scarcity = rng.random(full.shape)
    per_side = []
    for valid_share in (1.0, 0.5, 0.2, 0.05, 0.001, 0.0):
        labels = np.where(scarcity < valid_share, full, MASKED).astype(np.uint8)
        lattice, grid = raster_around(labels, "EPSG:32618")
        sampled = sample_labels(ArrayLabels(labels, lattice), grid)
        per_side.append(sampled.num_samples**0.5 / 264)
    # sqrt(180,000 / share) / 264, rounded up; nothing to sample in the last one.
    assert per_side == [2, 3, 4, 8, 10, 1]


def test_labels_beside_the_grid_do_not_pass_for_labels_under_it() -> None:
    """A raster turned by 40 degrees: its corners are full, and under the grid lie four pixels."""
    rng = np.random.default_rng(17)
    labels = rng.integers(0, 9, (500, 500)).astype(np.uint8)
    rows, columns = np.indices(labels.shape) - 250
    labels[abs(rows) + abs(columns) < 206] = MASKED
    labels[248:250, 240:242] = 3
    cos, sin = 10 * np.cos(np.radians(40)), 10 * np.sin(np.radians(40))
    corner = (EASTING_M - 250 * (cos + sin), NORTHING_M - 250 * (sin - cos))
    transform = (cos, sin, corner[0], sin, -cos, corner[1])
    lattice = Lattice("EPSG:32618", transform, 500, 500)
    grid = Grid(32618, EASTING_M - 1320, NORTHING_M + 1320)
    sampled = sample_labels(ArrayLabels(labels, lattice), grid)
    reference = supersampled_counts(labels, lattice, grid)[:9]
    assert 300 < reference[3] == reference.sum() < 500
    assert sampled.num_samples == 2640**2
    np.testing.assert_allclose(sampled.class_counts, reference, atol=1)


@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:6933", "EPSG:3857"])
def test_sub_pixels_lie_where_pyproj_puts_them(crs: str) -> None:
    """All but the few within 1e-5 px of a pixel's edge: none is expected among 640,000."""
    labels = random_labels(np.random.default_rng(19), "noise", 420, 420, 0.0)
    lattice, grid = raster_around(labels, crs)
    raster = ArrayLabels(labels, lattice)
    fitted, exact = _lookup(raster, grid), _ExactLookup(raster, grid)
    assert isinstance(fitted, _FittedLookup)
    looked_up = np.concatenate([block.copy() for _, block in fitted.rows(800, 1e-5)])
    expected = np.concatenate([block for _, block in exact.rows(800, 0)])
    assert np.count_nonzero(looked_up != expected) < 30


@settings(max_examples=20)
@given(label_scenes(st.integers(16, 64)))
def test_nearest_label_lies_under_the_pixel_centre(scene) -> None:
    labels, lattice, grid = scene
    found = reproject_labels(labels, lattice, grid)
    steps = (np.arange(grid.size_px) + 0.5) * grid.resolution_m
    x, y = np.meshgrid(grid.x_origin + steps, grid.y_origin - steps)
    column, row = pixel_of(lattice, *transformed(grid, lattice.crs).transform(x, y))
    # A centre this close to a pixel's edge may fall on either side.
    clear = (abs(column - np.round(column)) > 2e-3) & (abs(row - np.round(row)) > 2e-3)
    column, row = np.floor(column).astype(int), np.floor(row).astype(int)
    inside = (column >= 0) & (column < lattice.width) & (row >= 0) & (row < lattice.height)
    expected = np.full(found.shape, MASKED)
    expected[inside] = labels[row[inside], column[inside]]
    np.testing.assert_array_equal(found[clear], expected[clear])


RASTER = Lattice("EPSG:32618", (10, 0, EASTING_M, 0, -10, NORTHING_M), 300, 400)


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        (Grid(32618, EASTING_M, NORTHING_M), Window(0, 0, 264, 264)),
        (Grid(32618, EASTING_M + 70, NORTHING_M - 30), Window(3, 7, 264, 264)),
        (Grid(32618, EASTING_M - 20, NORTHING_M + 50), Window(-5, -2, 264, 264)),
        (Grid(32618, EASTING_M + 5e-6, NORTHING_M), Window(0, 0, 264, 264)),
        (Grid(32618, EASTING_M + 5e-5, NORTHING_M), None),
        (Grid(32618, EASTING_M, NORTHING_M + 5), None),
        (Grid(32618, EASTING_M, NORTHING_M, 20, 132), None),
        (Grid(32618, EASTING_M, NORTHING_M, 10.0000001), None),
        (Grid(32617, EASTING_M, NORTHING_M), None),
    ],
)
def test_lattices_agree_to_a_millionth_of_a_pixel(grid: Grid, window: Window | None) -> None:
    assert same_lattice(RASTER, grid) == window


def test_crs_written_as_wkt_is_the_same_crs() -> None:
    raster = Lattice(CRS.from_epsg(32618).to_wkt("WKT1_GDAL"), RASTER.transform, 300, 400)
    assert same_lattice(raster, Grid(32618, EASTING_M, NORTHING_M)) is not None


def test_crs_without_a_way_to_earth_is_an_input_error() -> None:
    local = 'LOCAL_CS["building site",UNIT["metre",1]]'
    raster = ArrayLabels(np.zeros((4, 4), np.uint8), Lattice(local, (1, 0, 0, 0, -1, 0), 4, 4))
    with pytest.raises(InputError, match="building site"):
        sample_labels(raster, Grid(32618, 0, 0, 1, 4))


# --- reflectance and backscatter ----------------------------------------------------------------


def source_lattice(num_px: int, px_m: float = 10.0) -> Lattice:
    return Lattice("EPSG:32618", (px_m, 0, EASTING_M, 0, -px_m, NORTHING_M), num_px, num_px)


def grid_inside(offset_m: float, size_px: int, resolution_m: float = 10.0) -> Grid:
    return Grid(32618, EASTING_M + offset_m, NORTHING_M - offset_m, resolution_m, size_px)


def test_constant_reflectance_stays_constant_across_zones() -> None:
    x, y = Transformer.from_crs(32618, 32617, always_xy=True).transform(
        EASTING_M + 200, NORTHING_M - 200
    )
    values = np.full((2, 80, 80), 1234, np.uint16)
    out = reproject_reflectance(values, source_lattice(80), Grid(32617, x, y, 10, 30))
    np.testing.assert_array_equal(out, np.full((2, 30, 30), 1234))


@given(st.floats(0.5, 9.5), st.integers(1, 30), st.integers(1, 30))
@example(5.0, 10, 0)
@settings(max_examples=20)
def test_reflectance_plane_is_interpolated_linearly(
    offset_m: float, per_column: int, per_row: int
) -> None:
    rows, columns = np.indices((40, 40))
    values = (1000 + per_column * columns + per_row * rows)[None].astype(np.uint16)
    out = reproject_reflectance(values, source_lattice(40), grid_inside(50 + offset_m, 24))
    shift_px = 5 + offset_m / 10
    rows, columns = np.indices((24, 24)) + shift_px
    np.testing.assert_allclose(out[0], 1000 + per_column * columns + per_row * rows, atol=0.51)


def test_no_data_does_not_darken_its_neighbours() -> None:
    values = np.full((3, 60, 60), 2000, np.uint16)
    values[:, 20:26, :] = 0
    out = reproject_reflectance(values, source_lattice(60), grid_inside(103, 40))
    assert set(np.unique(out)) == {0, 2000}
    assert (out[:, 12:14] == 0).all()


def test_dark_band_beside_bright_ones_is_data() -> None:
    """Fill means every band is 0; one band at 0 is dark water and takes part as 0."""
    values = np.full((2, 60, 60), 3000, np.uint16)
    values[1, :, 30:] = 0
    out = reproject_reflectance(values, source_lattice(60), grid_inside(105, 40))
    assert (out[0] == 3000).all()
    assert out[1].max() == 3000
    assert out[1, :, 25:].max() == 0
    assert out[1, 0, 19] == 1500


def test_outside_the_source_is_fill() -> None:
    values = np.full((1, 20, 20), 500, np.uint16)
    out = reproject_reflectance(values, source_lattice(20), grid_inside(100, 20))
    assert (out[0, :10, :10] == 500).all()
    assert (out[0, 11:, 11:] == 0).all()


def test_constant_backscatter_stays_constant() -> None:
    values = np.full((2, 60, 60), -12.5, np.float32)
    out = reproject_backscatter_db(values, source_lattice(60), grid_inside(103, 40))
    np.testing.assert_allclose(out, -12.5, atol=1e-4)


def test_backscatter_is_averaged_as_power() -> None:
    """Halfway between 0 dB (1.0) and -20 dB (0.01): 0.505, hence -2.967 dB; not -10 dB."""
    values = np.zeros((1, 60, 60), np.float32)
    values[:, :, 30:] = -20
    out = reproject_backscatter_db(values, source_lattice(60), grid_inside(105, 40))
    assert out[0, 0, 19] == pytest.approx(10 * np.log10(0.505), abs=1e-3)


@pytest.mark.parametrize("no_data", [np.nan, -np.inf, np.inf])
def test_missing_backscatter_leaves_no_trace(no_data: float) -> None:
    values = np.full((2, 60, 60), -8.0, np.float32)
    values[0, 20:26, :] = no_data
    out = reproject_backscatter_db(values, source_lattice(60), grid_inside(103, 40))
    np.testing.assert_allclose(out[np.isfinite(out)], -8, atol=1e-4)
    assert np.isnan(out[0, 12:14]).all()
    assert np.isfinite(out[1]).all()
