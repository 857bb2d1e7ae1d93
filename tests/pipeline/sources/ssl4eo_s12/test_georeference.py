"""Recovery of the UTM grid behind a published patch's lat/lon header."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grids import from_lon_lat, to_lon_lat
from pipeline.sources.ssl4eo_s12.georeference import (
    Evidence,
    Lattice,
    NominalExtent,
    Offset,
    correlate_offset,
    correlation_map,
    nominal_extent,
    nominal_origin,
    recover_grid,
    tile_lattice,
)
from tests.ssl4eo_s12_layout import Place, Rectangle, make_place, random_place


def extent_of(place: Place, folder: str = "s2c") -> NominalExtent:
    first = place.sampled(10 if folder == "s1" else 60, folder)
    return nominal_extent(place.rectangle.published_transform(first, 264), 264)


def lattice_of(place: Place, folder: str = "s2c") -> Lattice:
    if folder == "s1":
        return Lattice(place.epsg, place.x_s1, place.y_s1)
    return Lattice(place.epsg, place.x_tile, place.y_tile)


def true_offset(place: Place, resolution_m: int) -> Offset:
    fine, coarse = place.cut(10), place.cut(resolution_m)
    return Offset(coarse.left - fine.left, fine.top - coarse.top)


def miss_m(grid, place: Place, folder: str = "s2c") -> float:
    true = place.cut(10, folder)
    return math.hypot(grid.x_origin - true.left, grid.y_origin - true.top)


class TestSample:
    """The public sample: tile 43RCP, origin (300000, 3400020); headers of its B2.tif and VV.tif."""

    s2 = nominal_extent(
        (0.0001014112844859978, 0, 73.29254430236014, 0, -8.797200686307421e-05, 30.47557326306315),
        264,
    )
    s1 = nominal_extent(
        (
            0.0001021680851165116,
            0,
            73.29213979242314,
            0,
            -8.829904034583318e-05,
            30.475836361500033,
        ),
        264,
    )
    lattice = Lattice(32643, 300000.0, 3400020.0)

    def test_every_resolution_claims_the_same_corner(self):
        # B1.tif of the same image.
        b1 = nominal_extent(
            (0.0006084677069159868, 0, 73.29229077414892, 0, -0.0005278320411784453,
             30.47579319308031),
            44,
        )  # fmt: skip
        assert b1.left_deg == pytest.approx(self.s2.left_deg, abs=1e-12)
        assert b1.top_deg == pytest.approx(self.s2.top_deg, abs=1e-12)
        assert b1.width_deg == pytest.approx(self.s2.width_deg, rel=1e-12)

    def test_the_predicted_band_offsets_are_those_seen_in_its_pixels(self):
        # Seen by correlation in the clear season: 20 m bands at (0, 0), 60 m bands 40 m to the
        # east and south (B1/B2: 40, 43; B9/B8: 38, 43).
        grid = recover_grid(self.s2, self.lattice)
        assert (grid.offset_20m, grid.offset_60m) == (Offset(0, 0), Offset(40, 40))
        assert (grid.epsg, grid.x_origin, grid.y_origin) == (32643, 336020, 3372760)

    def test_agreement_with_the_pixels_confirms_it_and_narrows_the_error(self):
        unchecked = recover_grid(self.s2, self.lattice)
        confirmed = recover_grid(self.s2, self.lattice, Offset(-0.1, 0), Offset(38.9, 42.9))
        assert unchecked.evidence is Evidence.UNCHECKED
        assert confirmed.evidence is Evidence.CONFIRMED
        assert 0 < confirmed.error_m < unchecked.error_m

    def test_disagreement_with_the_pixels_widens_the_error(self):
        # As measured in the cloudy season.
        grid = recover_grid(self.s2, self.lattice, Offset(-1.7, -6.1), Offset(41.0, 20.4))
        assert grid.evidence is Evidence.CONTRADICTED
        assert grid.error_m > 20
        assert (grid.x_origin, grid.y_origin) == (336020, 3372760)

    def test_the_20m_array_alone_confirms_nothing(self):
        grid = recover_grid(self.s2, self.lattice, measured_20m=Offset(0, 0))
        assert grid.evidence is Evidence.UNCHECKED

    def test_sentinel_1_lies_on_its_own_lattice_within_a_pixel_of_sentinel_2(self):
        lattice = Lattice(32643, 158264.4428845317, 3560206.2252167463)
        grid = recover_grid(self.s1, lattice, first_band_resolution_m=10)
        assert (grid.x_origin - lattice.x_origin) % 10 == pytest.approx(0, abs=1e-6)
        assert grid.x_origin == pytest.approx(336020, abs=10)
        assert grid.y_origin == pytest.approx(3372760, abs=10)

    def test_the_tile_name_alone_gives_the_same_grid_with_a_larger_error(self):
        known, assumed = (recover_grid(self.s2, x) for x in (self.lattice, tile_lattice("43RCP")))
        assert (assumed.x_origin, assumed.y_origin) == (known.x_origin, known.y_origin)
        assert assumed.error_m > known.error_m


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_the_cut_is_rebuilt_exactly_anywhere(seed):
    place = random_place(np.random.default_rng(seed))
    grid = recover_grid(extent_of(place), lattice_of(place))
    assert grid.epsg == place.epsg
    assert miss_m(grid, place) <= grid.error_m
    assert grid.offset_20m == true_offset(place, 20)
    assert grid.offset_60m == true_offset(place, 60)
    assert miss_m(grid, place) < 1e-6


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_sentinel_1_is_placed_within_its_error(seed):
    place = random_place(np.random.default_rng(seed))
    grid = recover_grid(extent_of(place, "s1"), lattice_of(place, "s1"), first_band_resolution_m=10)
    assert miss_m(grid, place, "s1") <= grid.error_m


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.floats(-20, 20), st.floats(-20, 20))
def test_a_rectangle_of_another_size_is_recovered_within_the_error(seed, wider_m, higher_m):
    # Only one location was at hand to learn the side from (2630 m): others may differ.
    rng = np.random.default_rng(seed)
    zone, latitude = int(rng.integers(1, 61)), float(rng.uniform(-55, 70))
    longitude = -183.0 + 6 * zone + float(rng.uniform(-2.9, 2.9))
    rectangle = Rectangle.around(longitude, latitude, 2631 + wider_m, 2631 + higher_m)
    place = make_place(longitude, latitude, zone, rng, rectangle=rectangle)
    grid = recover_grid(extent_of(place), lattice_of(place))
    assert miss_m(grid, place) <= grid.error_m


def test_an_edge_near_a_pixel_boundary_leaves_doubt_that_no_measurement_removes():
    place = random_place(np.random.default_rng(3))
    rectangle = place.rectangle
    x, _ = from_lon_lat(place.epsg).transform(
        [rectangle.left, rectangle.left], [rectangle.top, rectangle.bottom]
    )
    # The rectangle's western edge: 1 cm, then 5 m, inside a pixel of the lattice.
    doubtful, clear = (replace(place, x_tile=min(x) - inside - 6000) for inside in (0.01, 5.0))
    errors_m = []
    for moved in (doubtful, clear):
        grid = recover_grid(
            extent_of(moved), lattice_of(moved), true_offset(moved, 20), true_offset(moved, 60)
        )
        assert miss_m(grid, moved) <= grid.error_m
        errors_m.append(grid.error_m)
    assert errors_m[0] > 10 > errors_m[1]


def test_another_kind_of_patch_is_placed_by_its_centre_with_a_large_error():
    place = random_place(np.random.default_rng(5))
    extent = extent_of(place)
    half_as_wide = NominalExtent(
        extent.left_deg + extent.width_deg / 4, extent.top_deg, extent.width_deg / 2,
        extent.height_deg,
    )  # fmt: skip
    grid = recover_grid(half_as_wide, lattice_of(place))
    assert grid.evidence is Evidence.CENTRE_ONLY
    assert miss_m(grid, place) <= grid.error_m
    assert (grid.x_origin - place.x_tile) % 10 == pytest.approx(0, abs=1e-6)
    # A measured 60 m offset then fixes the position on the 60 m lattice.
    measured = Offset(21.0, -8.0)
    grid = recover_grid(half_as_wide, lattice_of(place), measured_60m=measured)
    assert (grid.x_origin + 20 - place.x_tile) % 60 == pytest.approx(0, abs=1e-6)
    assert (place.y_tile - (grid.y_origin + 10)) % 60 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("epsg", [32601, 32620, 32613])
def test_a_header_outside_the_zone_gives_no_grid(epsg):
    assert recover_grid(TestSample.s2, Lattice(epsg, 300000.0, 3400020.0)) is None


def test_nominal_origin_is_centred_on_the_header():
    x, y = nominal_origin(TestSample.s2, 32643)
    longitude, latitude = to_lon_lat(32643).transform(x + 1320, y - 1320)
    assert (longitude, latitude) == pytest.approx(TestSample.s2.centre, abs=1e-9)


@pytest.mark.parametrize(
    ("tile", "epsg", "remainder_m"),
    [("43RCP", 32643, 0), ("60HWB", 32760, 40), ("01NAA", 32601, 0)],
)
def test_tile_names_give_zone_hemisphere_and_lattice(tile, epsg, remainder_m):
    lattice = tile_lattice(tile)
    assert (lattice.epsg, lattice.x_origin % 60, lattice.y_origin % 60) == (epsg, 0, remainder_m)
    assert lattice.assumed


@pytest.mark.parametrize("name", ["", "61RCP", "00RCP", "4RCP", "43ACP", "43YCP", "RCP43"])
def test_other_names_are_no_tiles(name):
    with pytest.raises(ValueError, match="MGRS"):
        tile_lattice(name)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([(2, 3), (3, 2), (6, 7)]))
def test_fast_correlation_equals_the_plain_one(seed, factor_and_reach):
    factor, reach = factor_and_reach
    rng = np.random.default_rng(seed)
    n = 9
    fine = rng.integers(0, 4000, (n * factor, n * factor)).astype(np.uint16)
    coarse = rng.integers(0, 4000, (n, n)).astype(np.uint16)
    margin = math.ceil(reach / factor)
    inner = slice(margin, n - margin)
    fast = correlation_map(fine, coarse, factor, reach)
    for south in range(-reach, reach + 1):
        for east in range(-reach, reach + 1):
            means = [
                [
                    fine[
                        r * factor + south : (r + 1) * factor + south,
                        c * factor + east : (c + 1) * factor + east,
                    ].mean()
                    for c in range(margin, n - margin)
                ]
                for r in range(margin, n - margin)
            ]
            plain = np.corrcoef(np.ravel(means), coarse[inner, inner].ravel())[0, 1]
            assert fast[south + reach, east + reach] == pytest.approx(plain, abs=2e-4)


def test_flat_bands_say_nothing():
    flat = np.full((264, 264), 300, np.uint16)
    assert correlate_offset([(flat, flat[:44, :44])], factor=6, reach_px=7) is None


def test_unrelated_bands_say_nothing():
    rng = np.random.default_rng(0)
    fine, coarse = rng.random((264, 264)), rng.random((44, 44))
    assert correlate_offset([(fine, coarse)], factor=6, reach_px=7) is None


class RealCrop:
    """The true world of the tests: a real L1C crop whose grid is known (EPSG:32618)."""

    def __init__(self, folder: Path) -> None:
        self.bands = {}
        names = {"B1": "B01", "B2": "B02", "B8": "B08", "B9": "B09", "B8A": "B8A"}
        for band, name in names.items():
            with rasterio.open(folder / f"{name}.jp2") as dataset:
                transform = dataset.transform
                self.bands[band] = dataset.read(1), transform.a, transform.c, transform.f

    def read(self, band: str, left: float, top: float, size: int) -> np.ndarray:
        """Cut by coordinates: the bands' own grids start in different places."""
        values, pixel_m, x, y = self.bands[band]
        column, row = (left - x) / pixel_m, (y - top) / pixel_m
        assert column == int(column)
        assert row == int(row)
        part = values[int(row) : int(row) + size, int(column) : int(column) + size]
        assert part.shape == (size, size)
        return part


@pytest.fixture(scope="module")
def real_crop(real_data: Path) -> RealCrop:
    return RealCrop(real_data / "virginia_coast")


def recover_real_cut(crop: RealCrop, seed: int, moved_m: tuple[int, int] = (0, 0)):
    """Cut a patch at random as the downloader did; its 10 m array `moved_m` away from there."""
    rng = np.random.default_rng(seed)
    x = 435730 + rng.uniform(1700, 19330 - 1700)
    y = 4179460 - rng.uniform(1700, 19470 - 1700)
    longitude, latitude = to_lon_lat(32618).transform(x, y)
    place = make_place(longitude, latitude, 18, rng, tile_origin=(399960.0, 4200000.0))
    true = place.cut(10).left + moved_m[0], place.cut(10).top - moved_m[1]
    bands = {name: crop.read(name, *true, 264) for name in ("B2", "B8")}
    for name, resolution_m in (("B8A", 20), ("B1", 60), ("B9", 60)):
        block = place.cut(resolution_m)
        bands[name] = crop.read(name, block.left, block.top, block.columns)
    grid = recover_grid(
        extent_of(place),
        lattice_of(place),
        correlate_offset([(bands["B8"], bands["B8A"])], 2, 3),
        correlate_offset([(bands["B2"], bands["B1"]), (bands["B8"], bands["B9"])], 6, 7),
    )
    return grid, math.hypot(grid.x_origin - true[0], grid.y_origin - true[1])


def test_real_pixels_confirm_nearly_every_cut(real_crop: RealCrop):
    # 1000 such cuts: all exact; 98.2 % confirmed, 1.0 % contradicted, 0.8 % unchecked (water).
    results = [recover_real_cut(real_crop, seed) for seed in range(60)]
    assert all(miss == 0 for _, miss in results)
    confirmed = sum(grid.evidence is Evidence.CONFIRMED for grid, _ in results)
    assert confirmed >= 55


def test_a_displaced_array_is_noticed_and_lies_within_the_error(real_crop: RealCrop):
    # 600 cuts displaced by up to 40 m: 96.5 % within the error; none but 1 wrongly confirmed.
    rng = np.random.default_rng(0)
    results = []
    for seed in range(60):
        moved = 10 * int(rng.integers(1, 5)), 10 * int(rng.integers(-4, 5))
        results.append(recover_real_cut(real_crop, seed, moved))
    assert sum(grid.evidence is Evidence.CONFIRMED for grid, _ in results) <= 1
    assert np.mean([miss <= grid.error_m for grid, miss in results]) >= 0.9
