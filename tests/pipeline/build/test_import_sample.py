"""The real SSL4EO-S12 location, from its GeoTIFFs into a sealed, audited cube: every pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from pipeline.build.rebuild import rebuild_cube
from pipeline.cube.audit import audit_cube
from pipeline.cube.label_export import export_labels
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.seal import seal_cube
from pipeline.sources.ssl4eo_s12.labels import write_labels
from pipeline.sources.ssl4eo_s12.settings import ImportSettings
from storage_schema.products import PRODUCTS
from storage_schema.status import StatusReason

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

FOLDERS = {"s2_l1c": "s2c", "s2_l2a": "s2a", "s1_grd": "s1"}
L1C = ["20200604T054639_20200604T054831_T43RCP", "20200823T054639_20200823T055618_T43RCP"]
L2A = ["20200604T054639_20200604T054831_T43RCP", "20200813T054639_20200813T054952_T43RCP"]
S1 = [
    "S1A_IW_GRDH_1SDV_20200607T010800_20200607T010825_032904_03CFBA_D457",
    "S1A_IW_GRDH_1SDV_20200903T131212_20200903T131237_034195_03F8F5_AC1C",
]


@pytest.fixture(scope="module")
def sample(real_data: Path) -> Path:
    return real_data / "ssl4eo_s12_sample"


@pytest.fixture(scope="module")
def cube(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "sample.zarr"
    storage = ObjectStorage(folder)
    summary = rebuild_cube(
        ImportSettings(
            root=str(sample),
            cube=str(storage),
            labels=str(sample / "ssl4eo_s12_ml_sample.json"),
        )
    )
    assert not summary.failures
    assert summary.counts["l2a_acquisition_differs"] == 1
    seal_cube(storage)
    return folder


@pytest.fixture(scope="module")
def dataset(cube: Path) -> Any:
    return xr.open_zarr(cube, chunks=None)


def read_tiff(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("product", ["s2_l1c", "s2_l2a"])
def test_every_sentinel_2_pixel_is_bit_identical(dataset: Any, sample: Path, product: str) -> None:
    ids = L1C if product == "s2_l1c" else L2A
    compared = 0
    for season, name in enumerate(ids):
        for group in PRODUCTS[product].groups:  # type: ignore[index]
            for band in group.bands:
                wanted = read_tiff(sample / FOLDERS[product] / "0000200" / name / f"{band}.tif")
                found = dataset[group.array].isel(location=0, season=season)
                found = found.sel({f"band_{group.array}": band}).values
                assert found.dtype == wanted.dtype == np.uint16
                np.testing.assert_array_equal(found, wanted)
                compared += wanted.size
    # 4 x 264^2 + 6 x 132^2 + (3 or 2) x 44^2 pixels, two seasons.
    assert compared == 2 * (4 * 264**2 + 6 * 132**2 + (3 if product == "s2_l1c" else 2) * 44**2)


def test_every_sentinel_1_pixel_is_within_five_thousandths_of_a_decibel(
    dataset: Any, sample: Path
) -> None:
    for season, name in enumerate(S1):
        for band in ("VV", "VH"):
            wanted = read_tiff(sample / "s1" / "0000200" / name / f"{band}.tif")
            found = dataset["s1_grd"].isel(location=0, season=season).sel(band_s1=band).values
            np.testing.assert_allclose(found, wanted, rtol=0, atol=0.005 + 1e-6)


def test_grid_is_recovered_in_the_utm_zone_of_the_tile(dataset: Any) -> None:
    assert dataset["epsg"].values.tolist() == [32643]
    # On the 10 m lattice of tile T43RCP, whose origin is (300000, 3400020).
    assert (dataset["x_origin"].values - 300_000) % 10 == 0
    assert (dataset["y_origin"].values - 3_400_020) % 10 == 0
    assert 0 < dataset["georeference_error_m"].values[0] < 60
    assert dataset["offset_60m"].values.tolist() == [[40.0, -40.0]]
    assert dataset["offset_20m"].values.tolist() == [[0.0, 0.0]]


def test_pair_of_different_acquisitions_is_kept_and_flagged(dataset: Any) -> None:
    ids = dataset["acquisition_id"].isel(location=0).sel(product=["s2_l1c", "s2_l2a"]).values
    assert [str(name) for name in ids[:2, 0]] == L1C
    assert [str(name) for name in ids[:2, 1]] == L2A
    reason = dataset["status_reason"].isel(location=0).sel(product="s2_l2a").values
    assert reason[:2].tolist() == [StatusReason.NONE, StatusReason.ACQUISITION_DIFFERS]
    assert (dataset["patch_status"].isel(location=0).values[:2] == 1).all()


def test_provenance_is_that_of_the_metadata(dataset: Any, sample: Path) -> None:
    metadata = json.loads((sample / "s2c" / "0000200" / L1C[1] / "metadata.json").read_text())
    patch = dataset.isel(location=0, season=1).sel(product="s2_l1c")
    assert patch["cloud_percentage"].item() == pytest.approx(metadata["CLOUDY_PIXEL_PERCENTAGE"])
    assert patch["relative_orbit"].item() == metadata["SENSING_ORBIT_NUMBER"]
    elevation = 90 - metadata["MEAN_SOLAR_ZENITH_ANGLE"]
    assert patch["sun_elevation"].item() == pytest.approx(elevation)
    time_ms = patch["acquisition_time"].values.astype("datetime64[ms]").astype(np.int64)
    assert time_ms == metadata["system:time_start"]


def test_fractions_are_a_count_of_the_label_map(dataset: Any, sample: Path) -> None:
    for season, name in enumerate(L1C):
        label = read_tiff(sample / "dw" / "0000200" / name / "label.tif")
        np.testing.assert_array_equal(
            dataset["dynamic_world_label"].isel(location=0, season=season).values, label
        )
        valid = label[label != 255]
        wanted = np.bincount(valid, minlength=9) / valid.size
        found = dataset["class_fraction"].isel(location=0, season=season).values
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
        present = dataset["class_present"].isel(location=0, season=season).values
        assert (present == (wanted > 0)).all()


def test_imported_labels_export_to_the_same_bytes(cube: Path, sample: Path, tmp_path: Path) -> None:
    labels, _ = export_labels(PatchStore.open(ObjectStorage(cube)))
    write_labels(tmp_path / "labels.json", labels)
    published = (sample / "ssl4eo_s12_ml_sample.json").read_bytes()
    assert (tmp_path / "labels.json").read_bytes() == published


def test_sealed_sample_passes_a_full_audit(cube: Path) -> None:
    assert audit_cube(ObjectStorage(cube), all_batches=True).violations == []
