"""What sealing derives, against the pixels themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
import xarray as xr
import zarr

from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import Seal, seal_cube
from pipeline.patches import valid_mask
from storage_schema.land_cover import CLASS_NAMES
from storage_schema.products import PRODUCT_NAMES, PRODUCTS
from tests.synthetic import SyntheticSource, describe_cube, location_names

NUM_LOCATIONS = 7


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seal") / "cube.zarr"
    storage = ObjectStorage(folder)
    names = location_names(NUM_LOCATIONS)
    build_cube(storage, describe_cube(NUM_LOCATIONS), names, lambda _: SyntheticSource())
    seal_cube(storage)
    return folder


@pytest.fixture(scope="module")
def group(cube: Path) -> Any:
    return zarr.open_group(cube, mode="r")


@pytest.mark.parametrize("product", ["s2_l1c", "s2_l2a", "s1_grd"])
def test_statistics_equal_one_pass_over_the_stored_pixels(group: Any, product: str) -> None:
    described = PRODUCTS[product]  # type: ignore[index]
    for band_group in described.groups:
        pixels = np.asarray(group[band_group.array][:])
        mask = np.broadcast_to(valid_mask(described, pixels), pixels.shape)
        statistics = group[band_group.array].attrs["statistics"]
        for band in range(len(band_group.bands)):
            values = pixels[:, :, band][mask[:, :, band]].astype(np.float64)
            values *= described.scale_factor or 1
            assert statistics["num_valid_pixels"][band] == values.size > 0
            assert statistics["mean"][band] == pytest.approx(values.mean(), rel=1e-9)
            assert statistics["std"][band] == pytest.approx(values.std(), rel=1e-9)
            assert statistics["min"][band] == pytest.approx(values.min())
            assert statistics["max"][band] == pytest.approx(values.max())
            low, high = np.quantile(values, [0.01, 0.99], method="inverted_cdf")
            assert statistics["p01"][band] == pytest.approx(low)
            assert statistics["p99"][band] == pytest.approx(high)
        counts = group[band_group.array].attrs["histogram"]["counts"]
        assert [sum(band) for band in counts] == statistics["num_valid_pixels"]


def test_class_statistics_equal_a_count_of_the_label_maps(group: Any) -> None:
    found = group.attrs["class_statistics"]
    labels = np.asarray(group["dynamic_world_label"][:])
    assert found["pixel_count"] == [int((labels == c).sum()) for c in range(9)]
    present = np.asarray(group["class_present"][:]) == 1
    assert found["present_count"] == present.sum(axis=(0, 1)).tolist()
    assert found["num_patches"] == found["num_labelled_patches"] == 2 * NUM_LOCATIONS
    assert found["cooccurrence"][2][5] == int((present[..., 2] & present[..., 5]).sum())
    fractions = np.asarray(group["class_fraction"][:]).reshape(-1, 9)
    np.testing.assert_allclose(found["mean_fraction"], np.nanmean(fractions, axis=0), rtol=1e-6)


def test_failed_patches_are_counted_and_leave_the_statistics(group: Any) -> None:
    counts = group.attrs["patch_counts"]["s2_l2a"]
    assert counts == {"complete": 12, "no_acquisition": 14, "failed": 2}


def test_attribution_names_the_years_of_the_acquisitions(group: Any) -> None:
    years = pd.DatetimeIndex(
        xr.open_zarr(group.store, chunks=None)["acquisition_time"].values.ravel()
    ).year.dropna()
    assert set(years) == {2020}
    for product in ("s2_l1c", "s1_grd"):
        attribution = group.attrs["products"][product]["attribution"]
        assert attribution == "contains modified Copernicus Sentinel data 2020"


def test_patch_table_has_one_row_per_patch_with_the_cube_s_values(cube: Path, group: Any) -> None:
    table = pd.read_parquet(cube / "patches.parquet")
    assert len(table) == 2 * NUM_LOCATIONS
    fractions = np.asarray(group["class_fraction"][:])
    ids = np.asarray(group["acquisition_id"][:])
    for _, row in table.iterrows():
        at = row["location_index"], row["season"]
        assert row["location_id"] == str(group["location_id"][row["location_index"]])
        for index, name in enumerate(CLASS_NAMES):
            assert row[f"class_fraction_{name}"] == fractions[at][index]
        for index, name in enumerate(PRODUCT_NAMES):
            found = row[f"{name}_acquisition_id"]
            assert ("" if pd.isna(found) else found) == str(ids[at][index])
    assert table["s2_l2a_status"].tolist().count("failed") == 2
    assert str(table["s2_l1c_time"].dtype).startswith("datetime64[ms, UTC")
    assert table["s1_grd_cloud_percentage"].isna().all()


def test_patch_table_is_geoparquet_and_carries_the_digest(cube: Path, group: Any) -> None:
    file = pq.ParquetFile(io.BytesIO((cube / "patches.parquet").read_bytes()))
    metadata = file.metadata.metadata
    assert metadata[b"softcon_digest"].decode() == group.attrs["digest"]
    assert b'"primary_column": "geometry"' in metadata[b"geo"]
    row = file.read().to_pylist()[0]
    point = shapely.from_wkb(row["geometry"])
    assert (point.x, point.y) == (row["longitude"], row["latitude"])


def test_seal_interrupted_before_its_last_write_gives_the_same_digest(tmp_path: Path) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    build_cube(storage, describe_cube(2), location_names(2), lambda _: SyntheticSource())
    first: Seal = seal_cube(storage)
    # As a crash just before the root document leaves it: arrays have their statistics already.
    document = (tmp_path / "cube.zarr" / "zarr.json").read_text()
    (tmp_path / "cube.zarr" / "zarr.json").write_text(
        document.replace('"sealed": true', '"sealed": false').replace(first.digest, "")
    )
    (tmp_path / "cube.zarr" / "patches.parquet").unlink()
    again = seal_cube(storage)
    assert not again.was_sealed
    assert again.digest == first.digest
    assert (tmp_path / "cube.zarr" / "patches.parquet").exists()


def test_cube_without_any_acquisition_can_be_sealed(tmp_path: Path) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    source = SyntheticSource(num_seasons=0)
    build_cube(storage, describe_cube(2), location_names(2), lambda _: source)
    assert seal_cube(storage).num_patches == 0
    statistics: Any = zarr.open_group(tmp_path / "cube.zarr", mode="r")["s1_grd"].attrs
    assert statistics["statistics"]["mean"] == [None, None]
