"""The SSL4EO-S12 source: pixels as they are, trouble as statuses."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from groundwork.errors import InputError, TransientError
from pipeline.patches import PatchSource, check_patch
from pipeline.sources.ssl4eo_s12 import images as ssl4eo_s12_images
from pipeline.sources.ssl4eo_s12.labels import attach_labels, read_labels
from pipeline.sources.ssl4eo_s12.source import FOLDERS, SSL4EOS12Source
from storage_schema.land_cover import LabelStatus
from storage_schema.products import PRODUCTS
from storage_schema.status import OrbitPass, PatchStatus, StatusReason
from tests.ssl4eo_s12_layout import (
    Place,
    SmoothWorld,
    WrittenLayout,
    make_place,
    random_place,
    truncate,
    write_acquisition,
    write_layout,
    write_tiff,
)

COMPLETE = (PatchStatus.COMPLETE, StatusReason.NONE)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenLayout:
    """Two locations of two seasons; read-only."""
    return write_layout(tmp_path_factory.mktemp("layout"), 2, num_seasons=2)


@pytest.fixture
def layout(written: WrittenLayout, tmp_path: Path) -> WrittenLayout:
    """The same, to be damaged."""
    shutil.copytree(written.root, tmp_path / "copy")
    return WrittenLayout(tmp_path / "copy", None, written.locations)


def read(layout: WrittenLayout, location_id: str = "0000200"):
    return SSL4EOS12Source.open(layout.root).read_location(location_id)


def outcomes(location):
    return {
        (slot, name): (patch.status, patch.reason)
        for slot, season in enumerate(location.seasons)
        for name, patch in season.products.items()
    }


def assert_pixels_equal_files(location, root: Path) -> int:
    """Compare every stored value with an independent read; return how many patches there were."""
    count = 0
    for season in location.seasons:
        for name, patch in season.products.items():
            if patch.status is not PatchStatus.COMPLETE:
                continue
            count += 1
            folder = root / FOLDERS[name] / location.location_id / patch.acquisition.id
            for group in PRODUCTS[name].groups:
                for index, band in enumerate(group.bands):
                    with rasterio.open(folder / f"{band}.tif") as dataset:
                        expected = dataset.read(1)
                    values = patch.pixels[group.array]
                    assert values.dtype == PRODUCTS[name].dtype
                    values = values if name == "dynamic_world" else values[index]
                    if name == "s1_grd":
                        valid = np.isfinite(expected)
                        assert np.abs(values * 0.01 - expected)[valid].max() <= 0.005 + 1e-6
                        assert (values[~valid] == -32768).all()
                    else:
                        assert np.array_equal(values, expected)
    return count


@pytest.fixture(scope="module")
def sample_root(real_data: Path) -> Path:
    return real_data / "ssl4eo_s12_sample"


@pytest.fixture(scope="module")
def sample(sample_root: Path):
    return SSL4EOS12Source.open(sample_root).read_location("0000200")


class TestRealSample:
    def test_every_pixel_equals_an_independent_read(self, sample, sample_root):
        assert assert_pixels_equal_files(sample, sample_root) == 8

    def test_everything_is_complete_and_passes_the_checks_of_the_store(self, sample):
        for season in sample.seasons:
            for name, patch in season.products.items():
                assert check_patch(name, patch).status is PatchStatus.COMPLETE
        assert sample.warnings == ()

    def test_the_differing_acquisition_of_the_second_season_is_kept_flagged_and_counted(
        self, sample
    ):
        first, second = (season.products for season in sample.seasons)
        assert first["s2_l2a"].acquisition.id == first["s2_l1c"].acquisition.id
        assert first["s2_l2a"].reason is StatusReason.NONE
        assert second["s2_l1c"].acquisition.id.startswith("20200823")
        assert second["s2_l2a"].acquisition.id.startswith("20200813")
        assert second["s2_l2a"].status is PatchStatus.COMPLETE
        assert second["s2_l2a"].reason is StatusReason.ACQUISITION_DIFFERS
        assert sample.notes["l2a_acquisition_differs"] == 1

    def test_the_grid_is_recovered_in_utm_and_confirmed_by_the_pixels(self, sample):
        assert sample.epsg == 32643
        assert (sample.x_origin, sample.y_origin) == (336020, 3372760)
        assert 0 < sample.georeference_error_m < 10
        assert sample.notes["grid_confirmed"] == 1
        assert sample.notes["band_offset_60m_40m"] == 1
        # The header puts the patch within 60 m of there.
        assert sample.longitude == pytest.approx(73.3057, abs=1e-3)
        assert sample.latitude == pytest.approx(30.4642, abs=1e-3)

    def test_provenance_comes_from_the_metadata(self, sample):
        products = sample.seasons[0].products
        l1c, s1 = products["s2_l1c"].acquisition, products["s1_grd"].acquisition
        assert l1c.time_ms == 1591250441044
        assert l1c.cloud_percentage == 0.8438
        assert l1c.sun_elevation_deg == pytest.approx(90 - 16.2120467978756)
        assert (l1c.orbit_pass, l1c.relative_orbit) == (OrbitPass.DESCENDING, 48)
        assert (s1.orbit_pass, s1.relative_orbit) == (OrbitPass.DESCENDING, 107)
        assert (s1.cloud_percentage, s1.sun_elevation_deg) == (None, None)
        assert products["dynamic_world"].acquisition == l1c

    def test_its_label_file_labels_both_seasons(self, sample, sample_root):
        labels = read_labels(sample_root / "ssl4eo_s12_ml_sample.json")
        labelled = attach_labels(sample, labels["0000200"])
        assert [season.label.status for season in labelled.seasons] == [LabelStatus.LABELLED] * 2
        assert labelled.seasons[0].label.class_present.tolist() == [1, 1, 0, 0, 1, 1, 1, 1, 0]
        assert labelled.notes["labels_without_season"] == 0


def test_pixels_arrive_as_they_are_in_the_files(written):
    for location_id in written.locations:
        location = read(written, location_id)
        assert set(outcomes(location).values()) == {COMPLETE}
        assert assert_pixels_equal_files(location, written.root) == 8


def test_the_true_grid_of_written_locations_is_recovered(written):
    for location_id, truth in written.locations.items():
        location = read(written, location_id)
        assert location.epsg == truth.place.epsg
        assert location.x_origin == pytest.approx(truth.place.x_origin)
        assert location.y_origin == pytest.approx(truth.place.y_origin)
        assert location.notes["grid_confirmed"] == 1
        assert location.notes["patches_on_another_grid"] == 0


def test_seasons_are_in_time_order(written):
    for location_id, truth in written.locations.items():
        seasons = read(written, location_id).seasons
        for folder, name in (("s2c", "s2_l1c"), ("s2a", "s2_l2a"), ("s1", "s1_grd")):
            ids = [season.products[name].acquisition.id for season in seasons]
            assert ids == truth.seasons[folder]


def test_the_source_satisfies_the_protocol_and_travels_to_workers(written):
    source: PatchSource = SSL4EOS12Source.open(written.root)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert outcomes(copy.read_location("0000200")) == outcomes(source.read_location("0000200"))
    assert len(pickle.dumps(source)) < 1000


@pytest.mark.parametrize("folders", [("s2c",), ("s2a",), ("s1",), ("s1", "s2a"), ("s2a", "dw")])
def test_any_subset_of_the_products_can_be_read(tmp_path: Path, folders):
    layout = write_layout(tmp_path, 1, folders=folders, num_seasons=1)
    source = SSL4EOS12Source.open(tmp_path)
    location = source.read_location("0000200")
    assert {FOLDERS[name] for name in source.products} == set(folders)
    assert set(outcomes(location).values()) == {COMPLETE}
    place = layout.locations["0000200"].place
    true = place.cut(10, folders[0] if folders == ("s1",) else "s2c")
    miss_m = math.hypot(location.x_origin - true.left, location.y_origin - true.top)
    assert miss_m <= location.georeference_error_m


def test_products_can_be_left_out(written):
    source = SSL4EOS12Source.open(written.root, ["s2_l1c"])
    assert source.products == ("s2_l1c",)
    assert set(source.read_location("0000200").seasons[0].products) == {"s2_l1c"}


def test_one_to_four_seasons_and_further_ones_reported(tmp_path: Path):
    write_layout(tmp_path, 3, folders=("s2c", "dw"), num_seasons=(1, 3, 6))
    source = SSL4EOS12Source.open(tmp_path)
    locations = [source.read_location(location_id) for location_id in source.location_ids()]
    assert [len(location.seasons) for location in locations] == [1, 3, 4]
    assert [location.notes["further_seasons"] for location in locations] == [0, 0, 2]
    assert [location.notes["label_maps_without_season"] for location in locations] == [0, 0, 2]
    named = [w for w in locations[2].warnings if w.startswith("s2c/0000202/")]
    assert len(named) == 2


def test_products_with_fewer_seasons_leave_slots_without_acquisition(tmp_path: Path):
    write_layout(tmp_path, 1, num_seasons={"s2c": 3, "s2a": 2, "s1": 1, "dw": 2})
    seasons = SSL4EOS12Source.open(tmp_path).read_location("0000200").seasons
    nothing = (PatchStatus.NO_ACQUISITION, StatusReason.NOT_IN_SOURCE)
    last = {name: (p.status, p.reason) for name, p in seasons[2].products.items()}
    assert last == {
        "s2_l1c": COMPLETE, "s2_l2a": nothing, "s1_grd": nothing, "dynamic_world": nothing,
    }  # fmt: skip


def test_every_differing_l2a_is_flagged_and_counted(tmp_path: Path):
    write_layout(tmp_path, 1, folders=("s2a", "s2c"), num_seasons=4, differing_l2a=(1, 3))
    location = SSL4EOS12Source.open(tmp_path).read_location("0000200")
    reasons = [season.products["s2_l2a"].reason for season in location.seasons]
    differs, none = StatusReason.ACQUISITION_DIFFERS, StatusReason.NONE
    assert reasons == [none, differs, none, differs]
    assert location.notes["l2a_acquisition_differs"] == 2


class TestDamage:
    """Each kind of damage has its own status, names its file and touches nothing else."""

    def check(self, layout, slot, name, status, reason, file: Path):
        location = read(layout)
        found = outcomes(location)
        assert found.pop((slot, name)) == (status, reason)
        assert set(found.values()) == {COMPLETE}
        relative = str(file.relative_to(layout.root))
        assert [w for w in location.warnings if relative in w]
        assert not [w for w in location.warnings if str(layout.root) in w]
        assert location.georeference_error_m < 100
        patch = location.seasons[slot].products[name]
        assert patch.acquisition is not None
        assert not patch.pixels

    def test_missing_band(self, layout):
        file = layout.file("s2c", "0000200", 1, "B7.tif")
        file.unlink()
        self.check(layout, 1, "s2_l1c", PatchStatus.FAILED, StatusReason.MISSING_BAND, file)

    def test_missing_polarisation(self, layout):
        file = layout.file("s1", "0000200", 0, "VH.tif")
        file.unlink()
        self.check(layout, 0, "s1_grd", PatchStatus.FAILED, StatusReason.MISSING_BAND, file)

    @pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.5, 0.9999])
    def test_truncated_file(self, layout, keep):
        file = layout.file("s2a", "0000200", 0, "B3.tif")
        truncate(file, keep)
        self.check(layout, 0, "s2_l2a", PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, file)

    @pytest.mark.parametrize("compress", ["deflate", "lzw", "packbits"])
    @pytest.mark.parametrize("keep", [0.01, 0.5, 0.9999])
    def test_truncated_compressed_file(self, layout, compress, keep):
        file = layout.file("s2c", "0000200", 0, "B8.tif")
        with rasterio.open(file) as dataset:
            pixels, transform = dataset.read(1), dataset.transform
        file.unlink()
        write_tiff(file, pixels, transform, compress=compress)
        truncate(file, keep)
        self.check(layout, 0, "s2_l1c", PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, file)

    def test_something_that_is_no_tiff(self, layout):
        file = layout.file("s2c", "0000200", 0, "B1.tif")
        file.write_bytes(b"<html>503 Service Unavailable</html>")
        self.check(layout, 0, "s2_l1c", PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, file)

    def test_a_folder_in_place_of_a_file(self, layout):
        file = layout.file("s2c", "0000200", 0, "B1.tif")
        file.unlink()
        file.mkdir()
        self.check(layout, 0, "s2_l1c", PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, file)

    @pytest.mark.parametrize("shape", [(263, 264), (264, 132), (132, 132)])
    def test_wrong_size(self, layout, shape):
        file = layout.file("s2c", "0000200", 0, "B2.tif")
        write_tiff(file, np.ones(shape, np.uint16))
        self.check(layout, 0, "s2_l1c", PatchStatus.REJECTED, StatusReason.WRONG_SIZE, file)

    @pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
    def test_wrong_dtype(self, layout, dtype):
        file = layout.file("s2a", "0000200", 1, "B11.tif")
        write_tiff(file, np.ones((132, 132), dtype))
        self.check(layout, 1, "s2_l2a", PatchStatus.REJECTED, StatusReason.WRONG_DTYPE, file)

    def test_backscatter_that_is_no_db(self, layout):
        file = layout.file("s1", "0000200", 0, "VV.tif")
        pixels = np.full((264, 264), -10, np.float32)
        pixels[3, 4] = 400.0
        write_tiff(file, pixels)
        self.check(layout, 0, "s1_grd", PatchStatus.REJECTED, StatusReason.IMPLAUSIBLE_VALUES, file)

    @pytest.mark.parametrize("strange", [9, 254])
    def test_label_map_with_unknown_classes(self, layout, strange):
        file = layout.file("dw", "0000200", 0, "label.tif")
        labels = np.zeros((264, 264), np.uint8)
        labels[5, 7], labels[5, 8] = strange, 255
        write_tiff(file, labels)
        self.check(
            layout, 0, "dynamic_world", PatchStatus.REJECTED, StatusReason.IMPLAUSIBLE_VALUES, file
        )

    def test_missing_label_map(self, layout):
        file = layout.file("dw", "0000200", 0, "label.tif")
        file.unlink()
        self.check(layout, 0, "dynamic_world", PatchStatus.FAILED, StatusReason.MISSING_BAND, file)

    def test_label_map_of_wrong_size(self, layout):
        file = layout.file("dw", "0000200", 1, "label.tif")
        write_tiff(file, np.zeros((44, 44), np.uint8))
        self.check(layout, 1, "dynamic_world", PatchStatus.REJECTED, StatusReason.WRONG_SIZE, file)

    def test_a_damaged_location_leaves_its_neighbour_alone(self, layout):
        for file in (layout.root / "s2c" / "0000200").rglob("*.tif"):
            truncate(file, 0.3)
        assert set(outcomes(read(layout, "0000201")).values()) == {COMPLETE}
        damaged = read(layout)
        assert damaged.epsg == layout.locations["0000200"].place.epsg

    @pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"system:time_start": "x"}', "\0"])
    def test_bad_metadata_costs_no_pixels(self, layout, content):
        good = read(layout)
        file = layout.file("s2c", "0000200", 0, "metadata.json")
        file.unlink()
        if content is not None:
            file.write_text(content)
        location = read(layout)
        assert set(outcomes(location).values()) == {COMPLETE}
        assert any(str(file.relative_to(layout.root)) in w for w in location.warnings)
        assert (location.x_origin, location.y_origin) == (good.x_origin, good.y_origin)
        acquisition = location.seasons[0].products["s2_l1c"].acquisition
        expected = good.seasons[0].products["s2_l1c"].acquisition
        assert abs(acquisition.time_ms - expected.time_ms) < 1000
        assert acquisition.cloud_percentage is None

    def test_without_any_metadata_the_tile_names_give_the_grid(self, layout):
        good = read(layout)
        for file in layout.root.rglob("metadata.json"):
            file.unlink()
        location = read(layout)
        assert set(outcomes(location).values()) == {COMPLETE}
        assert location.notes["unreadable_metadata"] == 6
        assert (location.epsg, location.x_origin, location.y_origin) == (
            good.epsg, good.x_origin, good.y_origin,
        )  # fmt: skip

    def test_radar_without_metadata_keeps_its_pixels_and_says_that_it_has_no_grid(
        self, tmp_path: Path
    ):
        layout = write_layout(tmp_path, 1, folders=("s1",), num_seasons=1)
        layout.file("s1", "0000200", 0, "metadata.json").unlink()
        location = read(layout)
        assert outcomes(location) == {(0, "s1_grd"): (PatchStatus.COMPLETE, StatusReason.NO_GRID)}
        assert location.epsg == 0
        assert math.isnan(location.x_origin)
        assert math.isnan(location.georeference_error_m)
        rectangle = layout.locations["0000200"].place.rectangle
        assert rectangle.left < location.longitude < rectangle.right
        assert location.notes["grid_unknown"] == 1

    def test_nonsense_in_metadata_is_no_provenance(self, layout):
        file = layout.file("s2c", "0000200", 0, "metadata.json")
        content = json.loads(file.read_text())
        content |= {
            "CLOUDY_PIXEL_PERCENTAGE": "cloudy", "MEAN_SOLAR_ZENITH_ANGLE": 1e9,
            "SENSING_ORBIT_NUMBER": True, "SENSING_ORBIT_DIRECTION": ["UP"],
            "system:time_start": 1e300,
        }  # fmt: skip
        file.write_text(json.dumps(content))
        acquisition = read(layout).seasons[0].products["s2_l1c"].acquisition
        assert acquisition.cloud_percentage is None
        assert acquisition.sun_elevation_deg is None
        assert acquisition.relative_orbit is None
        assert acquisition.orbit_pass is OrbitPass.UNKNOWN
        assert acquisition.time_ms < 2e12

    def test_a_newer_processing_baseline_is_counted(self, layout):
        file = layout.file("s2c", "0000200", 0, "metadata.json")
        content = json.loads(file.read_text()) | {"PROCESSING_BASELINE": "05.09"}
        file.write_text(json.dumps(content))
        location = read(layout)
        assert location.notes["processing_baseline_04_or_later"] == 1
        assert set(outcomes(location).values()) == {COMPLETE}


def test_backscatter_is_rounded_half_to_even_and_non_finite_values_become_the_fill(layout):
    file = layout.file("s1", "0000200", 0, "VV.tif")
    pixels = np.full((264, 264), -10.0, np.float64)
    pixels[0, :6] = np.nan, np.inf, -np.inf, -327.67, 0.125, 0.375
    write_tiff(file, pixels)
    values = read(layout).seasons[0].products["s1_grd"].pixels["s1_grd"]
    assert values[0, 0, :6].tolist() == [-32768, -32768, -32768, -32767, 12, 38]
    assert values[0, 0, 6] == -1000


def test_files_that_carry_a_utm_grid_already_are_believed(layout):
    place = layout.locations["0000200"].place
    for folder in ("s2a", "s2c"):
        for season in range(2):
            for group in PRODUCTS["s2_l1c" if folder == "s2c" else "s2_l2a"].groups:
                for band in group.bands:
                    file = layout.file(folder, "0000200", season, f"{band}.tif")
                    with rasterio.open(file) as dataset:
                        pixels = dataset.read(1)
                    step = group.resolution_m
                    transform = rasterio.Affine(step, 0, 500_020, 0, -step, 4_000_040)
                    write_tiff(file, pixels, transform, crs=f"EPSG:{place.epsg}")
    location = read(layout)
    assert (location.epsg, location.x_origin, location.y_origin) == (place.epsg, 500020, 4000040)
    assert location.notes["grid_from_file"] == 1


def write_images(root: Path, *images: tuple[str, Place, datetime]) -> None:
    """Write images of one location, 0000200, each with a place of its own."""
    for folder, place, taken in images:
        rng = np.random.default_rng(taken.day)
        image_id = f"{taken:%Y%m%dT%H%M%S}_{taken:%Y%m%dT%H%M%S}_T{place.mgrs_tile}"
        world = SmoothWorld(place, rng).imagery(folder, rng)
        write_acquisition(root / folder / "0000200" / image_id, folder, place, world, taken)


def test_an_image_of_another_utm_zone_is_kept_counted_and_named(tmp_path: Path):
    # 5.9 E lies in zone 31; the tiles of zone 32 overlap it. One rectangle, three images.
    rng = np.random.default_rng(0)
    here, there = (make_place(5.9, 45.0, zone, rng) for zone in (31, 32))
    days = [datetime(2020, 3, day, tzinfo=UTC) for day in (1, 11, 21)]
    write_images(tmp_path, ("s2c", here, days[0]), ("s2c", there, days[1]), ("s2c", here, days[2]))
    location = SSL4EOS12Source.open(tmp_path).read_location("0000200")
    assert (location.epsg, location.x_origin) == (32631, here.x_origin)
    assert set(outcomes(location).values()) == {COMPLETE}
    assert location.notes["patches_on_another_grid"] == 1
    assert [w for w in location.warnings if "20200311T" in w and "EPSG:32632" in w]


def test_metadata_of_another_place_is_not_believed(layout):
    good = read(layout)
    file = layout.file("s2a", "0000200", 1, "metadata.json")
    place = layout.locations["0000200"].place
    elsewhere = 32600 + (place.epsg % 100 + 29) % 60 + 1
    file.write_text(file.read_text().replace(f"EPSG:{place.epsg}", f"EPSG:{elsewhere}"))
    location = read(layout)
    assert (location.epsg, location.x_origin) == (good.epsg, good.x_origin)
    assert location.notes["patches_without_grid"] == 1
    assert set(outcomes(location).values()) == {COMPLETE}


def write_displaced(root: Path, *images: tuple[float, tuple[int, int]]):
    """Write images of one place by (cloud percentage, displacement of the 10 m array) and read."""
    place = random_place(np.random.default_rng(1))
    for day, (cloud, moved_m) in enumerate(images, start=1):
        rng = np.random.default_rng(day)
        write_acquisition(
            root / "s2c" / "0000200" / f"202003{day:02d}T100000_T{place.mgrs_tile}", "s2c", place,
            SmoothWorld(place, rng).imagery("s2c", rng), datetime(2020, 3, day, tzinfo=UTC), cloud,
            {10: moved_m},
        )  # fmt: skip
    return SSL4EOS12Source.open(root).read_location("0000200")


def test_one_clear_image_that_agrees_outweighs_cloudy_ones_that_do_not(tmp_path: Path):
    location = write_displaced(tmp_path, (19.0, (40, -20)), (0.5, (0, 0)), (12.0, (-20, -20)))
    assert location.notes["grid_confirmed"] == 1
    assert location.georeference_error_m < 10


def test_where_no_image_agrees_the_error_is_that_of_the_clearest(tmp_path: Path):
    location = write_displaced(tmp_path, (19.0, (60, -60)), (0.5, (20, 0)), (12.0, (-60, -60)))
    assert location.notes["grid_contradicted"] == 1
    assert 20 < location.georeference_error_m < 50


@pytest.mark.parametrize("coefficient", [math.nan, math.inf, 1e9, 0.0, -1e-4])
def test_a_nonsensical_header_costs_no_pixels(tmp_path: Path, coefficient):
    layout = write_layout(tmp_path, 1, folders=("s2c",), num_seasons=1)
    good = read(layout)
    for position in (0, 2, 5):
        file = layout.file("s2c", "0000200", 0, "B2.tif")
        with rasterio.open(file) as dataset:
            pixels, transform = dataset.read(1), list(dataset.transform[:6])
        file.unlink()
        kept, transform[position] = transform[position], coefficient
        write_tiff(file, pixels, rasterio.Affine(*transform))
        location = read(layout)
        assert location.seasons[0].products["s2_l1c"].status is PatchStatus.COMPLETE
        if location.epsg:
            miss_m = math.hypot(
                location.x_origin - good.x_origin, location.y_origin - good.y_origin
            )
            assert miss_m <= location.georeference_error_m or position != 0
        transform[position] = kept
        write_tiff(file, pixels, rasterio.Affine(*transform))


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_in_a_header_never_stop_a_location(layout, seed):
    rng = np.random.default_rng(seed)
    for file in sorted(layout.root.glob("s*/0000200/*/*.tif")):
        content = bytearray(file.read_bytes())
        for position in rng.integers(0, 420, 2):
            content[position] = rng.integers(0, 256)
        file.write_bytes(content)
    assert len(read(layout).seasons) == 2


def test_stray_files_and_folders_are_ignored(layout):
    (layout.root / "s2c" / "README.txt").write_text("not a location")
    (layout.root / "s2c" / ".cache").mkdir()
    (layout.root / "s2c" / "with space").mkdir()
    (layout.root / "s2c" / "0000200" / "notes.txt").write_text("not an image")
    (layout.root / "s2c" / "0000200" / "thumbnails").mkdir()
    (layout.root / "s2c" / "0000200" / ".ipynb_checkpoints").mkdir()
    assert SSL4EOS12Source.open(layout.root).location_ids() == ["0000200", "0000201"]
    location = read(layout)
    assert set(outcomes(location).values()) == {COMPLETE}
    assert location.notes["ignored_folders"] == 1
    assert any("s2c/0000200/thumbnails" in w for w in location.warnings)


def test_locations_are_the_union_of_the_products_sorted(tmp_path: Path):
    for folder, names in (("s2c", ("b-1", "0000010")), ("s1", ("0000009", "0000010"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
    (tmp_path / "dw" / "only_labels").mkdir(parents=True)
    assert SSL4EOS12Source.open(tmp_path).location_ids() == ["0000009", "0000010", "b-1"]


def test_a_location_without_images_has_no_seasons(layout):
    shutil.rmtree(layout.root / "s2c" / "0000200")
    (layout.root / "s2c" / "0000200").mkdir()
    for folder in ("s1", "s2a"):
        shutil.rmtree(layout.root / folder / "0000200")
    location = read(layout)
    assert location.seasons == ()
    assert location.epsg == 0
    assert location.notes["empty_locations"] == 1


def test_a_product_folder_that_vanishes_is_not_taken_for_missing_data(layout):
    source = SSL4EOS12Source.open(layout.root)
    shutil.rmtree(layout.root / "s2a")
    with pytest.raises(TransientError, match="s2a is not there any more"):
        source.read_location("0000200")


def test_storage_that_does_not_answer_is_not_taken_for_damage(layout, monkeypatch):
    class Unreachable(type(layout.root)):
        def open(self, *args, **kwargs):
            raise OSError(5, "Input/output error")

    truncate(layout.file("s2c", "0000200", 0, "B2.tif"), 0.5)
    file = layout.file("s2c", "0000200", 0, "B2.tif").relative_to(layout.root)
    with pytest.raises(TransientError, match=r"B2\.tif cannot be read"):
        ssl4eo_s12_images._read_raster(Unreachable(layout.root), file, 264, ("uint16",))


@pytest.mark.parametrize(
    ("make", "products", "message"),
    [
        ((), None, "has none of the folders s1, s2a, s2c"),
        (("dw",), None, "has none of the folders"),
        (("s1",), ["s2_l1c"], "has no folder s2c for s2_l1c"),
        (("s1", "dw"), ["dynamic_world"], "only label maps are asked for"),
    ],
)
def test_a_folder_without_the_products_is_an_input_error(tmp_path: Path, make, products, message):
    for folder in make:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=message):
        SSL4EOS12Source.open(tmp_path, products)


def test_a_missing_folder_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match="is not a folder"):
        SSL4EOS12Source.open(tmp_path / "none")


def test_same_files_give_the_same_location_whatever_the_root(written, layout):
    one, other = read(written), read(layout)
    assert one.notes == other.notes
    assert one.warnings == other.warnings
    assert outcomes(one) == outcomes(other)
