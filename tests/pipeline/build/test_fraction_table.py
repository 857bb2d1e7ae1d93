"""Class fractions of a raster as a table: against brute force, another program, and real pixels."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import Affine

from flows.command_line import run
from groundwork.errors import InputError
from pipeline.build.builder import Execution
from pipeline.build.fraction_table import write_class_fractions
from pipeline.places.patch_grids import grids_around, read_grids
from storage_schema.land_cover import CLASS_NAMES

# rioxarray multiplies transforms in the old way; nobody sees it outside of tests.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

EPSG = 32618
WEST, NORTH = 430_020.0, 4_180_020.0
SIDE_PX = 264


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of classes, 600 x 900 px, masked in one corner."""
    rng = np.random.default_rng(7)
    labels = np.kron(rng.integers(0, 9, (30, 45)), np.ones((20, 20))).astype(np.uint8)
    labels[:150, :200] = 255
    path = tmp_path_factory.mktemp("raster") / "label.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=600, width=900, dtype="uint8",
        crs=f"EPSG:{EPSG}", transform=Affine(10, 0, WEST, 0, -10, NORTH),
    ) as file:  # fmt: skip
        file.write(labels, 1)
    return path


def grid_table(path: Path, epsg: int = EPSG) -> Path:
    rows = [("a", WEST, NORTH), ("b", WEST + 3000, NORTH - 1200), ("c", WEST + 6000, NORTH - 3000)]
    table = pd.DataFrame(rows, columns=["location_id", "x_origin", "y_origin"]).assign(epsg=epsg)
    (table.to_csv if path.suffix == ".csv" else table.to_parquet)(path, index=False)
    return path


def columns(table: pd.DataFrame) -> np.ndarray:
    return table[[f"class_fraction_{name}" for name in CLASS_NAMES]].to_numpy(dtype=float)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_fractions_on_the_rasters_lattice_are_counts(
    raster: Path, suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    summary = write_class_fractions(raster, grid_table(tmp_path / f"grids{suffix}"), out)
    table = pd.read_parquet(out)
    with rasterio.open(raster) as file:
        labels = np.pad(file.read(1), ((0, 300), (0, 300)), constant_values=255)
    for _, row in table.iterrows():
        top, left = round((NORTH - row.y_origin) / 10), round((row.x_origin - WEST) / 10)
        window = labels[top : top + SIDE_PX, left : left + SIDE_PX]
        counts = np.asarray([(window == c).sum() for c in range(9)])
        expected = counts / counts.sum()
        np.testing.assert_allclose(columns(table.loc[[row.name]])[0], expected, atol=1e-7)
        assert row.labelled_fraction == pytest.approx(counts.sum() / window.size, abs=1e-7)
    assert summary.num_grids == 3
    assert summary.num_resampled == 0


def test_fractions_agree_with_rasterstats(raster: Path, tmp_path: Path) -> None:
    rasterstats = pytest.importorskip("rasterstats")
    out = tmp_path / "out.parquet"
    write_class_fractions(raster, grid_table(tmp_path / "grids.csv"), out)
    table = pd.read_parquet(out)
    # Half a pixel inside the edge: all pixels of the patch, none of its neighbours.
    boxes = [
        {
            "type": "Polygon",
            "coordinates": [[(x + dx * 2630 + 5, y - dy * 2630 - 5) for dx, dy in CORNERS]],
        }
        for x, y in zip(table.x_origin, table.y_origin, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = rasterstats.zonal_stats(
            boxes, str(raster), categorical=True, nodata=255, all_touched=True
        )
    for found, counts in zip(columns(table), counted, strict=True):
        total = sum(counts.get(c, 0) for c in range(9))
        np.testing.assert_allclose(found, [counts.get(c, 0) / total for c in range(9)], atol=1e-7)


CORNERS = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]


@pytest.mark.distributed
def test_workers_change_no_byte(raster: Path, tmp_path: Path) -> None:
    grids = grid_table(tmp_path / "grids.csv", epsg=32617)  # another zone: everything is resampled
    table = pd.read_csv(grids)
    table["x_origin"] += 525_000  # about the same ground, seen from the zone to the west
    table.to_csv(grids, index=False)
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    summary = write_class_fractions(raster, grids, one)
    write_class_fractions(raster, grids, two, execution=Execution(num_workers=2))
    assert one.read_bytes() == two.read_bytes()
    assert summary.num_resampled == 3


def test_places_get_patches_on_the_lattice_of_sentinel_2() -> None:
    grids = grids_around(np.asarray([-75.6, 25.0]), np.asarray([37.7, -33.9]))
    assert [grid.epsg for grid in grids] == [32618, 32735]
    for grid, offset in zip(grids, (0, 40), strict=True):
        assert grid.x_origin % 60 == 0
        assert grid.y_origin % 60 == offset
        assert grid.size_px * grid.resolution_m == 2640
    lon, lat = grids[0].centre_lon_lat
    assert lon == pytest.approx(-75.6, abs=0.0005)
    assert lat == pytest.approx(37.7, abs=0.0005)


def test_rows_of_one_location_count_once_and_a_location_without_grid_stays(
    raster: Path, tmp_path: Path
) -> None:
    grids = pd.read_csv(grid_table(tmp_path / "grids.csv"))
    lost = grids.iloc[[2]].assign(location_id="lost", epsg=0, x_origin=np.nan, y_origin=np.nan)
    path = tmp_path / "patches.parquet"
    pd.concat([grids, grids, lost]).to_parquet(path, index=False)
    out = tmp_path / "out.parquet"
    summary = write_class_fractions(raster, path, out)
    table = pd.read_parquet(out)
    assert list(table.location_id) == ["a", "b", "c", "lost"]
    assert table.label_status.iloc[3] == "no_grid"
    assert table.iloc[3][["epsg", "labelled_fraction", "class_fraction_water"]].isna().all()
    assert summary.statuses["no_grid"] == 1


def test_metadata_says_where_the_numbers_are_from(raster: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    write_class_fractions(raster, grid_table(tmp_path / "grids.csv"), out, min_class_fraction=0.05)
    stored = pq.read_schema(out).metadata[b"softcon_class_fractions"]
    made = json.loads(stored)
    assert (made["raster"], made["nodata"], made["min_class_fraction"]) == ("label.tif", None, 0.05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--out": "OUT/table.csv"}, "has to end with .parquet"),
        ({"--grids": "absent.csv"}, "absent.csv cannot be read"),
        ({"RASTER": "absent.tif"}, "absent.tif"),
        ({"RASTER": "OTHER"}, "holds 11, which is no Dynamic World class"),
        ({"--grids": "TWO"}, "has two grids of location a"),
        ({"--grids": "CODE"}, "has epsg 1.5, which is not a code"),
        ({"--grids": "COLUMNS"}, "has no column"),
        ({"--workers": "2", "--dask": "tcp://h:1"}, "exclude each other"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    raster: Path,
    changes: dict[str, str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grids = pd.read_csv(grid_table(tmp_path / "grids.csv"))
    grids.assign(location_id="a").to_csv(tmp_path / "two.csv", index=False)
    grids.assign(epsg=1.5).to_csv(tmp_path / "code.csv", index=False)
    grids[["location_id", "epsg"]].to_csv(tmp_path / "columns.csv", index=False)
    with rasterio.open(raster) as file:
        profile, pixels = file.profile, file.read()
    with rasterio.open(tmp_path / "other.tif", "w", **profile) as file:
        file.write(np.where(pixels == 3, 11, pixels).astype(np.uint8))
    names = {"TWO": "two.csv", "CODE": "code.csv", "COLUMNS": "columns.csv", "OTHER": "other.tif"}
    given = {
        "RASTER": str(raster),
        "--grids": str(tmp_path / "grids.csv"),
        "--out": str(tmp_path / "out.parquet"),
    }
    for name, value in changes.items():
        file_name = names.get(value)
        given[name] = (
            str(tmp_path / file_name) if file_name else value.replace("OUT", str(tmp_path))
        )
    options = [part for name, value in given.items() if name != "RASTER" for part in (name, value)]
    assert run(["class-fractions", given["RASTER"], *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("out.parquet")) + list(tmp_path.glob(".*part*"))


def test_real_label_map_gives_the_shares_of_the_whole_crop(
    virginia_rasters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raster = virginia_rasters / "dw_label.tif"
    with rasterio.open(raster) as file:
        step, transform = 2640, file.transform
        origins = [
            (transform.c + step * i, transform.f - step * j) for i in range(7) for j in range(7)
        ]
        labels = file.read(1)[: 7 * SIDE_PX, : 7 * SIDE_PX]
    table = pd.DataFrame(origins, columns=["x_origin", "y_origin"]).assign(epsg=EPSG)
    table["location_id"] = [f"{index:02d}" for index in range(len(table))]
    grids = tmp_path / "grids.csv"
    table.to_csv(grids, index=False)
    out = tmp_path / "out.parquet"
    command = ["class-fractions", str(raster), "--grids", str(grids), "--out", str(out), "--json"]
    assert run(command) == 0
    mean = json.loads(capsys.readouterr().out)["mean_fraction"]
    shares = np.bincount(labels.ravel(), minlength=9)[:9] / labels.size
    np.testing.assert_allclose(list(mean.values()), shares, atol=1e-6)


def test_a_table_without_places_or_grids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grids.csv"
    path.write_text("location_id,size\na,1\n")
    with pytest.raises(InputError, match="has no column longitude"):
        read_grids(path)
