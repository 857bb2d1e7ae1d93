"""Class fractions: exact on the raster's lattice, area shares elsewhere, NaN where unlabelled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.transform import Affine

from groundwork.errors import InputError
from pipeline.grids import Grid
from pipeline.land_cover.class_counts import count_classes
from pipeline.land_cover.class_fractions import (
    LandCover,
    LandCoverPatch,
    class_fractions_for_grids,
    class_fractions_of,
    class_fractions_on,
    open_land_cover,
)
from storage_schema.land_cover import CLASS_NAMES, MASKED, LabelStatus
from tests.pipeline.land_cover.test_reproject import supersampled_counts

# rioxarray 0.19 multiplies transforms as affine 3.1 no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

EASTING_M, NORTHING_M = 447_000.0, 4_173_000.0


def brute_force(label: np.ndarray) -> tuple[list[int], int]:
    """Count pixel by pixel."""
    counts, num_valid = [0] * 9, 0
    for value in label.ravel().tolist():
        if value != MASKED:
            counts[value] += 1
            num_valid += 1
    return counts, num_valid


def noise(shape: tuple[int, ...], masked_share: float = 0.2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 9, shape).astype(np.uint8)
    labels[rng.random(shape) < masked_share] = MASKED
    return labels


def write_raster(
    path: Path, pixels: np.ndarray, *, crs: str | None = "EPSG:32618", px_m: float = 10, **profile
) -> Path:
    bands = pixels.reshape(-1, *pixels.shape[-2:])
    descriptions = profile.pop("descriptions", None)
    options = {
        "driver": "GTiff",
        "count": len(bands),
        "dtype": bands.dtype,
        "crs": crs,
        "transform": Affine(px_m, 0, EASTING_M, 0, -px_m, NORTHING_M),
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    } | profile
    with rasterio.open(
        path, "w", height=bands.shape[-2], width=bands.shape[-1], **options
    ) as dataset:
        dataset.write(bands)
        for index, description in enumerate(descriptions or (), 1):
            dataset.set_band_description(index, description)
    return path


def as_array(labels: np.ndarray, px_m: float = 10) -> xr.DataArray:
    height, width = labels.shape
    coordinates = {
        "y": NORTHING_M - px_m * (np.arange(height) + 0.5),
        "x": EASTING_M + px_m * (np.arange(width) + 0.5),
    }
    return xr.DataArray(labels, coordinates, ("y", "x")).rio.write_crs("EPSG:32618")


def grid_at(row: int, column: int, size_px: int = 32) -> Grid:
    return Grid(32618, EASTING_M + 10 * column, NORTHING_M - 10 * row, 10, size_px)


def grid_in_zone_17(row: int, column: int, size_px: int = 32) -> Grid:
    x, y = Transformer.from_crs(32618, 32617, always_xy=True).transform(
        EASTING_M + 10 * column, NORTHING_M - 10 * row
    )
    return Grid(32617, x, y, 10, size_px)


def assert_same(one: LandCoverPatch, other: LandCoverPatch) -> None:
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.class_fraction, other.class_fraction)
    np.testing.assert_array_equal(one.class_present, other.class_present)
    assert one.labelled_fraction == other.labelled_fraction
    assert (one.label_status, one.resampled) == (other.label_status, other.resampled)


# --- label maps ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.99, 1.0]), st.integers(1, 20))
def test_fractions_of_a_label_map_equal_brute_force_counting(
    seed: int, masked_share: float, size_px: int
) -> None:
    label = noise((size_px, size_px), masked_share, seed)
    counts, num_valid = brute_force(label)
    patch = class_fractions_of(label)
    np.testing.assert_array_equal(count_classes(label), counts)
    assert patch.labelled_fraction == num_valid / size_px**2
    assert patch.class_fraction.dtype == np.float32
    if num_valid:
        expected = (np.array(counts) / num_valid).astype(np.float32)
        np.testing.assert_array_equal(patch.class_fraction, expected)
        np.testing.assert_array_equal(patch.class_present, np.array(counts) > 0)
        assert abs(float(patch.class_fraction.sum()) - 1) < 1e-6
        assert patch.label_status is LabelStatus.LABELLED
    else:
        assert np.isnan(patch.class_fraction).all()


def test_patch_without_valid_pixel_is_unlabelled() -> None:
    patch = class_fractions_of(np.full((264, 264), MASKED, np.uint8))
    assert np.isnan(patch.class_fraction).all()
    assert patch.class_present.tolist() == [255] * 9
    assert patch.labelled_fraction == 0
    assert patch.label_status is LabelStatus.MASKED


def test_class_below_the_threshold_is_absent() -> None:
    label = np.zeros((10, 10), np.uint8)
    label[0, :3] = 4
    assert class_fractions_of(label).class_present[4] == 1
    assert class_fractions_of(label, min_class_fraction=0.03).class_present[4] == 0


def test_unknown_class_in_a_label_map_is_an_input_error() -> None:
    with pytest.raises(InputError, match="holds 9"):
        class_fractions_of(np.array([[0, 9], [255, 8]], np.uint8))


# --- rasters on the grid's own lattice ----------------------------------------------------------


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(-40, 110),
    st.integers(-40, 110),
    st.integers(1, 40),
)
def test_same_lattice_equals_brute_force_counting(
    seed: int, row: int, column: int, size_px: int
) -> None:
    """Also where the grid lies partly or wholly outside the raster."""
    labels = noise((100, 90), 0.3, seed)
    patch = class_fractions_on(open_land_cover(as_array(labels)), grid_at(row, column, size_px))
    around = np.full((300, 300), MASKED, np.uint8)
    around[100:200, 100:190] = labels
    expected = around[100 + row :, 100 + column :][:size_px, :size_px]
    assert not patch.resampled
    np.testing.assert_array_equal(patch.label, expected)
    assert_same(patch, class_fractions_of(np.ascontiguousarray(expected)))
    counts, num_valid = brute_force(expected)
    assert patch.labelled_fraction == num_valid / size_px**2
    if num_valid:
        np.testing.assert_array_equal(
            patch.class_fraction, np.float32(np.array(counts) / num_valid)
        )


def test_masked_pixels_never_count_as_water() -> None:
    labels = np.full((64, 64), MASKED, np.uint8)
    labels[:4] = 6
    for grid in (grid_at(0, 0), grid_in_zone_17(2, 2), grid_at(-20, -20)):
        patch = class_fractions_on(open_land_cover(as_array(labels)), grid)
        assert patch.class_fraction.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]
        assert patch.labelled_fraction < 0.2


@pytest.mark.parametrize("place", [grid_at, grid_in_zone_17])
def test_grid_outside_or_over_masked_pixels_is_unlabelled(place) -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[80:] = MASKED
    for grid in (place(100, 40), place(5000, 40)):
        patch = class_fractions_on(open_land_cover(as_array(labels)), grid)
        assert np.isnan(patch.class_fraction).all()
        assert patch.class_present.tolist() == [255] * 9
        assert patch.label_status is LabelStatus.MASKED
        assert (patch.labelled_fraction, set(patch.label.ravel().tolist())) == (0, {MASKED})


def test_grid_partly_outside_the_raster_lowers_the_labelled_fraction() -> None:
    land_cover = open_land_cover(as_array(np.ones((100, 100), np.uint8)))
    assert class_fractions_on(land_cover, grid_at(0, -8)).labelled_fraction == 0.75
    off_lattice = Grid(32618, EASTING_M - 75, NORTHING_M, 10, 30)
    assert class_fractions_on(land_cover, off_lattice).labelled_fraction == 0.75
    across = class_fractions_on(land_cover, grid_in_zone_17(40, 84))
    assert 0.4 < across.labelled_fraction < 0.6
    assert across.class_fraction[1] == 1


def test_fractions_across_zones_sum_to_one() -> None:
    land_cover = open_land_cover(as_array(noise((120, 120), 0.4)))
    for row in range(0, 80, 20):
        patch = class_fractions_on(land_cover, grid_in_zone_17(row, 20))
        assert patch.resampled
        assert abs(float(patch.class_fraction.sum(dtype=np.float64)) - 1) < 1e-6


# --- what a raster may hold ---------------------------------------------------------------------


def test_declared_no_data_is_masked(tmp_path: Path) -> None:
    labels = noise((64, 64), 0.3)
    stored = np.where(labels == MASKED, 99, labels).astype(np.uint8)
    patch = class_fractions_on(
        open_land_cover(write_raster(tmp_path / "dw.tif", stored, nodata=99)), grid_at(0, 0)
    )
    assert_same(patch, class_fractions_of(np.ascontiguousarray(labels[:32, :32])))


def test_given_no_data_replaces_the_declared_one(tmp_path: Path) -> None:
    labels = np.array([[0, 7], [7, 3]], np.int16).repeat(32, 0).repeat(32, 1)
    path = write_raster(tmp_path / "dw.tif", labels, nodata=3)
    patch = class_fractions_on(open_land_cover(path, nodata=7), grid_at(0, 0, 64))
    assert patch.class_fraction[[0, 3, 7]].tolist() == [0.5, 0.5, 0]
    assert patch.labelled_fraction == 0.5


@pytest.mark.parametrize("gap", [np.nan, np.inf, -9999.0])
def test_float_labels_with_gaps_are_labels(tmp_path: Path, gap: float) -> None:
    labels = noise((64, 64), 0.3)
    stored = np.where(labels == MASKED, gap, labels).astype(np.float32)
    path = write_raster(tmp_path / "dw.tif", stored, nodata=gap if gap < 0 else None)
    patch = class_fractions_on(open_land_cover(path), grid_at(0, 0))
    np.testing.assert_array_equal(patch.label, labels[:32, :32])


def test_masked_data_array_of_rioxarray_is_read(tmp_path: Path) -> None:
    labels = noise((64, 64), 0.3)
    path = write_raster(tmp_path / "dw.tif", labels, nodata=MASKED)
    array = rioxarray.open_rasterio(path, masked=True)
    patch = class_fractions_on(open_land_cover(array), grid_at(0, 0))
    np.testing.assert_array_equal(patch.label, labels[:32, :32])


def test_dataset_mask_is_respected(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dw.tif", np.zeros((64, 64), np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        valid = np.zeros((64, 64), bool)
        valid[:, :16] = True
        dataset.write_mask(valid)
    patch = class_fractions_on(open_land_cover(path), grid_at(0, 0))
    assert patch.labelled_fraction == 0.5


def probabilities_of(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """float32 (9, y, x), summing to 1, largest at the label; all zero where masked."""
    rng = np.random.default_rng(seed)
    values = rng.random((9, *labels.shape)) + 2 * (np.arange(9)[:, None, None] == labels)
    values /= values.sum(axis=0)
    values[:, labels == MASKED] = 0
    return values.astype(np.float32)


@pytest.mark.parametrize("kind", ["float", "uint8", "nan", "nodata", "named"])
def test_nine_bands_are_probabilities(tmp_path: Path, kind: str) -> None:
    labels = noise((64, 64), 0.3)
    values, profile = probabilities_of(labels), {}
    if kind == "uint8":
        values = np.rint(values * 255).astype(np.uint8)
        profile = {"nodata": 0}  # 0 is also the probability of many a single band
    elif kind == "nan":
        values[3, labels == MASKED] = np.nan
    elif kind == "nodata":
        values[:, labels == MASKED] = -1
        profile = {"nodata": -1}
    elif kind == "named":
        values = values[::-1]
        profile = {"descriptions": CLASS_NAMES[::-1]}
    path = write_raster(tmp_path / "dw.tif", values, **profile)
    patch = class_fractions_on(open_land_cover(path), grid_at(0, 0))
    np.testing.assert_array_equal(patch.label, labels[:32, :32])


@pytest.mark.parametrize("descriptions", [None, ("label", *CLASS_NAMES)])
def test_labels_win_over_probabilities_beside_them(tmp_path: Path, descriptions) -> None:
    labels = noise((64, 64), 0.3)
    values = probabilities_of(noise((64, 64), 0.3, seed=1))
    bands = [values, labels[None]] if descriptions is None else [labels[None], values]
    path = write_raster(
        tmp_path / "dw.tif", np.concatenate(bands).astype(np.float32), descriptions=descriptions
    )
    patch = class_fractions_on(open_land_cover(path), grid_at(0, 0))
    np.testing.assert_array_equal(patch.label, labels[:32, :32])


def test_big_raster_is_read_by_the_windows_needed(tmp_path: Path) -> None:
    """A stray value far away goes unnoticed only if nobody reads it."""
    labels = noise((256, 256), 0.3)
    whole = open_land_cover(write_raster(tmp_path / "whole.tif", labels))
    labels[250, 250] = 77
    path = write_raster(tmp_path / "dw.tif", labels)
    windowed = open_land_cover(path, max_pixels_in_memory=1000)
    for grid in (grid_at(20, 30), grid_in_zone_17(40, 50), grid_at(-10, 100)):
        assert_same(class_fractions_on(windowed, grid), class_fractions_on(whole, grid))
    with pytest.raises(InputError, match="77"):
        class_fractions_on(windowed, grid_at(224, 224))


def test_unknown_class_names_file_and_value(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "esa_worldcover.tif", np.full((8, 8), 40, np.uint8))
    with pytest.raises(InputError, match=r"esa_worldcover\.tif holds 40"):
        open_land_cover(path)


def test_negative_probability_names_file_and_value(tmp_path: Path) -> None:
    values = np.full((9, 8, 8), -9999, np.float32)
    with pytest.raises(InputError, match=r"p\.tif holds -9999"):
        open_land_cover(write_raster(tmp_path / "p.tif", values))


def test_raster_without_crs_is_an_input_error(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dw.tif", noise((8, 8)), crs=None)
    with pytest.raises(InputError, match=r"dw\.tif has no CRS: assign one"):
        open_land_cover(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_raster_without_transform_is_an_input_error(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dw.tif", noise((8, 8)), transform=Affine.identity())
    with pytest.raises(InputError, match="has no transform"):
        open_land_cover(path)


def test_array_without_crs_or_coordinates_is_an_input_error() -> None:
    array = as_array(noise((8, 8)))
    with pytest.raises(InputError, match="has no CRS"):
        open_land_cover(array.drop_vars("spatial_ref"))
    with pytest.raises(InputError, match="spatial dimensions"):
        open_land_cover(xr.DataArray(noise((8, 8)), dims=("a", "b")))


def test_array_with_uneven_coordinates_is_an_input_error() -> None:
    array = as_array(noise((8, 8))).isel(x=[0, 1, 2, 5])
    with pytest.raises(InputError, match="unevenly spaced"):
        open_land_cover(array)


def test_sliced_array_stays_where_it_was() -> None:
    """rioxarray keeps the whole array's transform; the coordinates are the truth."""
    labels = noise((80, 80))
    array = as_array(labels).rio.write_transform()
    part = open_land_cover(array[10:70, 20:80])
    patch = class_fractions_on(part, grid_at(30, 30))
    np.testing.assert_array_equal(patch.label, labels[30:62, 30:62])
    thinned = open_land_cover(array[::2, ::2])
    centred = Grid(32618, EASTING_M - 5, NORTHING_M + 5, 20, 40)
    patch = class_fractions_on(thinned, centred)
    assert not patch.resampled
    np.testing.assert_array_equal(patch.label, labels[::2, ::2])


def test_wrong_number_of_bands_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rgb\.tif has bands"):
        open_land_cover(write_raster(tmp_path / "rgb.tif", np.zeros((3, 8, 8), np.uint8)))


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot open"):
        open_land_cover(tmp_path / "nothing.tif")


# --- many grids ---------------------------------------------------------------------------------


def mixed_grids(num_grids: int) -> list[Grid]:
    """Every third on the raster's lattice, the others in the next zone."""
    return [
        grid_at(3 * i, 2 * i) if i % 3 == 0 else grid_in_zone_17(2 * i, 3 * i)
        for i in range(num_grids)
    ]


def test_grids_are_answered_lazily_and_in_order() -> None:
    land_cover = open_land_cover(as_array(noise((100, 100))))
    grids = mixed_grids(12)
    patches = class_fractions_for_grids(land_cover, iter(grids))
    assert_same(next(patches), class_fractions_on(land_cover, grids[0]))
    assert len(list(patches)) == 11


class _NoCluster:
    """A client that may not be asked for anything."""

    def nthreads(self) -> dict[str, int]:
        return {"worker": 2}

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"client.{name} was used")


def test_same_lattice_stays_in_process() -> None:
    land_cover = open_land_cover(as_array(noise((100, 100))))
    grids = [grid_at(i, i) for i in range(50)]
    patches = list(class_fractions_for_grids(land_cover, grids, _NoCluster()))
    assert len(patches) == 50


def test_raster_with_a_path_is_pickled_as_its_path(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dw.tif", noise((256, 256)))
    land_cover = open_land_cover(path)
    pickled = pickle.dumps(land_cover)
    assert len(pickled) < 1000
    again: LandCover = pickle.loads(pickled)
    assert_same(
        class_fractions_on(again, grid_at(3, 4)), class_fractions_on(land_cover, grid_at(3, 4))
    )


def test_rewritten_raster_is_read_anew(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dw.tif", np.zeros((64, 64), np.uint8))
    pickle.loads(pickle.dumps(open_land_cover(path)))
    write_raster(path, np.ones((64, 64), np.uint8))
    again = pickle.loads(pickle.dumps(open_land_cover(path)))
    assert class_fractions_on(again, grid_at(0, 0)).class_fraction[1] == 1


@pytest.mark.distributed
def test_workers_do_not_change_the_answer(tmp_path: Path) -> None:
    """Processes or none, a raster by path or from memory: the same values in the same order."""
    distributed = pytest.importorskip("distributed")
    labels = noise((300, 300))
    by_path = open_land_cover(write_raster(tmp_path / "dw.tif", labels))
    in_memory = open_land_cover(as_array(labels))
    grids = mixed_grids(80)
    alone = list(class_fractions_for_grids(by_path, grids))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for land_cover in (by_path, in_memory):
            spread = list(class_fractions_for_grids(land_cover, grids, client))
            assert len(spread) == len(alone)
            for one, other in zip(alone, spread, strict=True):
                assert_same(one, other)
        stray = write_raster(tmp_path / "stray.tif", np.full((64, 64), 40, np.uint8))
        broken = open_land_cover(stray, max_pixels_in_memory=0)
        with pytest.raises(InputError, match="holds 40"):
            list(class_fractions_for_grids(broken, [grid_in_zone_17(1, 1)], client))


# --- a real raster ------------------------------------------------------------------------------


def test_real_label_map_on_its_lattice_equals_counting(real_data: Path) -> None:
    path = real_data / "virginia_coast" / "dw_label.tif"
    land_cover = open_land_cover(path)
    with rasterio.open(path) as dataset:
        for row, column in ((0, 0), (700, 900), (1683, 1669)):
            label = dataset.read(1)[row : row + 264, column : column + 264]
            grid = Grid(32618, 435_730 + 10 * column, 4_179_460 - 10 * row)
            patch = class_fractions_on(land_cover, grid)
            counts, num_valid = brute_force(label)
            np.testing.assert_array_equal(
                patch.class_fraction, np.float32(np.array(counts) / num_valid)
            )


@settings(max_examples=4)
@given(st.floats(-300, 16_500), st.floats(-300, 16_500), st.sampled_from([32617, 32618]))
def test_real_label_map_matches_supersampled_count(
    real_data: Path, east_m: float, south_m: float, epsg: int
) -> None:
    path = real_data / "virginia_coast" / "dw_label.tif"
    land_cover = open_land_cover(path)
    x, y = Transformer.from_crs(32618, epsg, always_xy=True).transform(
        435_730 + east_m, 4_179_460 - south_m
    )
    grid = Grid(epsg, x, y)
    with rasterio.open(path) as dataset:
        reference = supersampled_counts(dataset.read(1), land_cover.lattice, grid)
    patch = class_fractions_on(land_cover, grid)
    np.testing.assert_allclose(
        patch.class_fraction, reference[:9] / reference[:9].sum(), rtol=0, atol=0.005
    )
    assert patch.labelled_fraction == pytest.approx(
        reference[:9].sum() / reference.sum(), abs=0.005
    )


def test_real_probabilities_agree_with_the_labels_but_for_near_ties(real_data: Path) -> None:
    """The README of the data: the argmax of the uint8 probabilities differs on 0.13 % of pixels."""
    folder = real_data / "virginia_coast"
    grid = Grid(32618, 442_000, 4_174_000)
    labels = class_fractions_on(open_land_cover(folder / "dw_label.tif"), grid)
    guessed = class_fractions_on(open_land_cover(folder / "dw_probabilities.tif"), grid)
    assert np.mean(labels.label != guessed.label) < 0.01
    np.testing.assert_allclose(labels.class_fraction, guessed.class_fraction, atol=0.005)
