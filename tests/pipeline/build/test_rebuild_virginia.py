"""A rebuild of real pixels: the crop of Virginia's coast, three ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
import zarr
from pyproj import Transformer
from rasterio.windows import from_bounds

from pipeline.build.rebuild import rebuild_cube
from pipeline.grids import Grid
from pipeline.land_cover.class_fractions import class_fractions_on, open_land_cover
from pipeline.sources.earth_engine.settings import RebuildSettings
from storage_schema.products import S2_L1C
from storage_schema.status import PatchStatus

pytestmark = [
    pytest.mark.server,
    # rasterio silences its own warning in a way that threads undo for each other.
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

CONFIG = Path(__file__).parents[3] / "configs" / "rebuild_virginia_coast.yaml"
INDEX = "20210619T154811_20210619T155031_T18SVG"


def rebuild(url: str, cube: Path, **changes: Any) -> zarr.Group:
    values = yaml.safe_load(CONFIG.read_text())
    values["earth_engine"]["endpoint"] = url
    settings = RebuildSettings.model_validate(values | {"cube": str(cube)} | changes)
    summary = rebuild_cube(settings, CONFIG.parent)
    assert not summary.failures
    return zarr.open_group(cube, mode="r")


@pytest.fixture(scope="module")
def cube(virginia_emulator: str, tmp_path_factory: pytest.TempPathFactory) -> zarr.Group:
    return rebuild(virginia_emulator, tmp_path_factory.mktemp("virginia") / "cube.zarr")


def grids_of(cube: zarr.Group) -> list[Grid]:
    places = (np.asarray(cube[name]) for name in ("epsg", "x_origin", "y_origin"))
    return [Grid(int(epsg), float(x), float(y)) for epsg, x, y in zip(*places, strict=True)]


def test_every_patch_of_the_tiling_is_complete(cube: zarr.Group) -> None:
    status = np.asarray(cube["patch_status"])
    assert len(status) >= 25
    assert (status[:, 0] == PatchStatus.COMPLETE).all()
    assert np.asarray(cube["valid_fraction"])[:, 0].min() == 1.0


def test_one_patch_by_three_routes(
    cube: zarr.Group, virginia_emulator: str, virginia_rasters: Path
) -> None:
    import ee
    from google.auth.credentials import AnonymousCredentials

    ee.Reset()
    ee.Initialize(AnonymousCredentials(), project="emulator", url=virginia_emulator)
    image = ee.Image.load(f"COPERNICUS/S2_HARMONIZED/{INDEX}")
    location = len(grids_of(cube)) // 2
    left, bottom, right, top = grids_of(cube)[location].bounds
    # Half a metre inside: a pixel belongs to a rectangle that its centre lies in.
    region = ee.Geometry.Rectangle(
        [left + 0.5, bottom + 0.5, right - 0.5, top - 0.5], "EPSG:32618", False, True
    )
    for group in S2_L1C.groups:
        stored = np.asarray(cube[group.array])[location, 0]
        sampled = image.select(list(group.bands)).sampleRectangle(region).getInfo()["properties"]
        for plane, band in zip(stored, group.bands, strict=True):
            name = band if band == "B8A" else f"B{int(band[1:]):02d}"
            with rasterio.open(virginia_rasters / f"{name}.jp2") as file:
                window = from_bounds(left, bottom, right, top, file.transform)
                original = file.read(1, window=window.round_offsets().round_lengths())
            np.testing.assert_array_equal(plane, original, err_msg=f"{band}: cube, JP2")
            np.testing.assert_array_equal(plane, sampled[band], err_msg=f"{band}: cube, client")
    ee.Reset()


def test_fractions_are_those_of_the_label_map(cube: zarr.Group, virginia_rasters: Path) -> None:
    found = np.asarray(cube["class_fraction"])[:, 0]
    label_map = open_land_cover(virginia_rasters / "dw_label.tif")
    for grid, fractions in zip(grids_of(cube), found, strict=True):
        expected = class_fractions_on(label_map, grid)
        np.testing.assert_array_equal(fractions, expected.class_fraction)


def test_fractions_in_another_zone(
    virginia_emulator: str, virginia_rasters: Path, tmp_path: Path
) -> None:
    cube = rebuild(virginia_emulator, tmp_path / "cube.zarr", grid="EPSG:32617")
    attributes: Any = cube.attrs["settings"]
    assert attributes["reprojection"]["s2"] == "dask, bilinear"
    complete = np.asarray(cube["patch_status"])[:, 0, 0] == PatchStatus.COMPLETE
    assert complete.all()
    found = np.asarray(cube["class_fraction"])[:, 0]
    label_map = open_land_cover(virginia_rasters / "dw_label.tif")
    for grid, fractions in zip(grids_of(cube), found, strict=True):
        assert grid.epsg == 32617
        expected = class_fractions_on(label_map, grid)
        np.testing.assert_allclose(fractions, expected.class_fraction, rtol=0, atol=0.005)


def test_reflectance_in_another_zone_is_that_of_the_place(
    cube: zarr.Group, virginia_emulator: str, tmp_path: Path
) -> None:
    other = rebuild(virginia_emulator, tmp_path / "cube.zarr", grid="EPSG:32617")
    here, there = grids_of(cube)[0], grids_of(other)[0]
    ids = [np.asarray(group["location_id"])[0] for group in (cube, other)]
    assert ids[0] == ids[1]
    # The pixel under the same point, away from the borders; bilinear smooths, but shifts nothing.
    b8_here = np.asarray(cube["s2_l1c_10m"])[0, 0, 3].astype(float)
    b8_there = np.asarray(other["s2_l1c_10m"])[0, 0, 3].astype(float)
    rows, columns = np.mgrid[40:224:4, 40:224:4]
    x = there.x_origin + 10 * (columns + 0.5)
    y = there.y_origin - 10 * (rows + 0.5)
    x, y = Transformer.from_crs(32617, 32618, always_xy=True).transform(x, y)
    row, column = (here.y_origin - y) / 10 - 0.5, (x - here.x_origin) / 10 - 0.5
    from scipy.ndimage import map_coordinates

    expected = map_coordinates(b8_here, [row, column], order=1)
    assert np.median(np.abs(b8_there[rows, columns] - expected)) < 2.0
    assert np.abs(b8_there[rows, columns] - expected).mean() < 10.0
