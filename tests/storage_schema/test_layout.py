"""The contract: what a cube looks like to a reader who has nothing of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from storage_schema.conformance import Violation, find_violations
from storage_schema.land_cover import CLASS_NAMES, derive_class_present
from storage_schema.layout import (
    SCHEMA_VERSION,
    SchemaVersionError,
    describe,
    description_from_attributes,
)
from storage_schema.products import (
    PRODUCT_NAMES,
    PRODUCTS,
    parse_product_names,
    published_statistics,
)
from tests.synthetic import SyntheticSource, describe_cube, location_names


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout") / "cube.zarr"
    build_cube(
        ObjectStorage(folder), describe_cube(3), location_names(3), lambda _: SyntheticSource()
    )
    return folder


@pytest.fixture
def broken(cube: Path, tmp_path: Path) -> Path:
    """A copy that the test may break."""
    return Path(shutil.copytree(cube, tmp_path / "broken.zarr"))


def open_for_writing(path: Path) -> zarr.Group:
    return zarr.open_group(LocalStore(path), mode="r+", use_consolidated=False)


def violations_of(path: Path) -> list[Violation]:
    return find_violations(zarr.open_group(path, mode="r"))


def test_every_array_of_the_design_is_described() -> None:
    arrays = describe(describe_cube(1000, locations_per_batch=64)).arrays
    for name, bands, side in [
        ("s2_l1c_10m", 4, 264),
        ("s2_l1c_20m", 6, 132),
        ("s2_l1c_60m", 3, 44),
        ("s2_l2a_10m", 4, 264),
        ("s2_l2a_20m", 6, 132),
        ("s2_l2a_60m", 2, 44),
        ("s1_grd", 2, 264),
    ]:
        assert arrays[name].shape == (1000, 4, bands, side, side)
        assert arrays[name].chunk_grid["configuration"]["chunk_shape"][:2] == (64, 4)
        sharding: Any = arrays[name].codecs[0]
        assert sharding["configuration"]["chunk_shape"] == (1, 1, bands, side, side)
    assert arrays["dynamic_world_label"].shape == (1000, 4, 264, 264)
    assert arrays["class_fraction"].shape == (1000, 4, 9)
    assert arrays["patch_status"].shape == (1000, 4, 4)
    assert set(arrays) >= {
        "class_present",
        "labelled_fraction",
        "label_status",
        "valid_fraction",
        "status_reason",
        "acquisition_id",
        "acquisition_time",
        "cloud_percentage",
        "orbit_pass",
        "relative_orbit",
        "sun_elevation",
        "location_id",
        "longitude",
        "latitude",
        "epsg",
        "x_origin",
        "y_origin",
        "georeference_error_m",
        "split",
    }


def test_arrays_of_products_not_asked_for_are_absent() -> None:
    arrays = describe(describe_cube(5, products=("s1_grd",))).arrays
    assert "s1_grd" in arrays
    assert not [name for name in arrays if "s2" in name or name == "label"]
    assert arrays["patch_status"].shape == (5, 4, 1)


def test_xarray_alone_shows_names_units_times_and_decibels(cube: Path) -> None:
    dataset = xr.open_zarr(cube, chunks=None)
    assert list(dataset["band_s2_l1c_20m"].values) == ["B5", "B6", "B7", "B8A", "B11", "B12"]
    assert list(dataset["land_cover_class"].values) == list(CLASS_NAMES)
    assert list(dataset["product"].values) == list(PRODUCT_NAMES)
    assert {"location_id", "longitude", "latitude", "epsg"} <= set(dataset.coords)
    assert np.issubdtype(dataset["acquisition_time"].dtype, np.datetime64)
    assert str(dataset["acquisition_time"].values[0, 0, 0])[:4] == "2020"
    assert np.isnat(dataset["acquisition_time"].values[0, 3, 0])
    decibels = dataset["s1_grd"].sel(band_s1="VV").isel(location=0, season=0)
    stored: Any = zarr.open_group(cube, mode="r")["s1_grd"]
    raw = stored[0, 0, 0]
    np.testing.assert_array_equal(np.isnan(decibels), raw == -32768)
    np.testing.assert_allclose(decibels.values[raw != -32768], raw[raw != -32768] / 100)
    assert dataset["s1_grd"].attrs["units"] == "dB"
    assert dataset["s2_l1c_10m"].dtype == np.uint16
    assert dataset["x_10m"].values[0] == 5.0
    assert dataset["y_60m"].values[-1] == -2610.0


def test_licence_attribution_and_convention_are_attributes(cube: Path) -> None:
    attributes = xr.open_zarr(cube, chunks=None).attrs
    for name in PRODUCT_NAMES:
        entry = attributes["products"][name]
        assert entry["licence"]
        assert entry["attribution"]
        assert entry["radiometric_convention"] == PRODUCTS[name].radiometric_convention
    assert attributes["products"]["dynamic_world"]["licence"] == "CC-BY-4.0"
    assert "Copernicus" in attributes["products"]["s1_grd"]["attribution"]
    assert attributes["schema_version"] == SCHEMA_VERSION


def test_description_survives_the_round_trip_through_attributes() -> None:
    description = describe_cube(
        10, products=("s2_l1c",), radiometric_convention={"s2_l1c": "with the +1000 offset"}
    )
    attributes = describe(description).attributes
    assert description_from_attributes(attributes, 10) == description


def test_built_cube_conforms(cube: Path) -> None:
    assert find_violations(zarr.open_group(cube, mode="r")) == []


def test_every_violation_is_listed_with_array_expected_and_found(broken: Path) -> None:
    group = open_for_writing(broken)
    del group["class_fraction"]
    group["s1_grd"].attrs["scale_factor"] = 0.1
    del group["s2_l1c_10m"].attrs["no_data"]
    del group["epsg"]
    group.create_array("epsg", shape=(3,), dtype="int16", dimension_names=("place",))
    found = {v.where: v for v in violations_of(broken)}
    assert found["class_fraction"].found == "nothing"
    assert found["s1_grd attribute scale_factor"].expected == "0.01"
    assert found["s1_grd attribute scale_factor"].found == "0.1"
    assert found["s2_l1c_10m attribute no_data"].found == "nothing"
    assert found["s1_grd, root metadata"].expected == "the array's own metadata"
    assert found["epsg data_type"].expected == "'int32'"
    assert found["epsg data_type"].found == "'int16'"
    assert found["epsg dimension_names"].found == "['place']"


def test_stray_array_is_a_violation(broken: Path) -> None:
    group = open_for_writing(broken)
    group.create_array("stray", shape=(1,), dtype="uint8")
    document = json.loads((broken / "zarr.json").read_text())
    stray = json.loads((broken / "stray" / "zarr.json").read_text())
    document["consolidated_metadata"]["metadata"]["stray"] = stray
    (broken / "zarr.json").write_text(json.dumps(document))
    assert [v.where for v in find_violations(zarr.open_group(broken, mode="r"))] == ["stray"]


def test_renamed_bands_are_a_violation(broken: Path) -> None:
    group = open_for_writing(broken)
    group["band_s1"][:] = np.array(["VH", "VV"], dtype=object)
    assert [(v.where, v.found) for v in violations_of(broken)] == [("band_s1", "[VH, VV]")]


def test_malformed_root_attributes_are_violations_not_tracebacks(broken: Path) -> None:
    group = open_for_writing(broken)
    group.attrs["locations_per_batch"] = "many"
    (violation,) = violations_of(broken)
    assert violation.where == "cube attribute locations_per_batch"
    assert violation.found == "'many'"


@pytest.mark.parametrize(
    ("version", "remedy"), [(SCHEMA_VERSION + 1, "upgrade softcon-cube"), (0, "build the cube")]
)
def test_another_schema_version_says_so_and_what_to_do(
    broken: Path, version: int, remedy: str
) -> None:
    group = open_for_writing(broken)
    group.attrs["schema_version"] = version
    with pytest.raises(SchemaVersionError, match=f"schema version {version}.*{remedy}"):
        find_violations(group)


def test_foreign_group_is_refused(tmp_path: Path) -> None:
    group = zarr.create_group(LocalStore(tmp_path / "other.zarr"))
    with pytest.raises(SchemaVersionError, match="is not a softcon-cube"):
        find_violations(group)


def test_unlabelled_fractions_give_unknown_presence() -> None:
    fractions = np.full((2, 9), np.nan, dtype=np.float32)
    fractions[0] = [0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]
    present = derive_class_present(fractions)
    assert present[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert present[1].tolist() == [255] * 9


def test_presence_threshold_is_exclusive() -> None:
    fractions = np.array([0.1, 0.9, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32)
    assert derive_class_present(fractions, min_class_fraction=0.1)[0] == 0


def test_published_statistics_cover_every_band() -> None:
    for name in ("s2_l1c", "s2_l2a", "s1_grd"):
        assert set(published_statistics(name)) == set(PRODUCTS[name].bands)


def test_product_names_are_parsed_in_cube_order_and_checked() -> None:
    assert parse_product_names("s1_grd, s2_l1c") == ("s2_l1c", "s1_grd")
    with pytest.raises(ValueError, match="'s3' is unknown; the products are s2_l1c"):
        parse_product_names("s2_l1c,s3")
    with pytest.raises(ValueError, match="none given"):
        parse_product_names(" ,")
