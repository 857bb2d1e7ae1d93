"""The catalogue of the real crop, through the emulator and the unmodified client."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from earth_engine_emulator.raster_folder import RasterFolder
from earth_engine_emulator.testing import Client
from tests.conftest import CATALOGUE


@pytest.fixture(scope="module")
def virginia(virginia_rasters: Path) -> RasterFolder:
    return RasterFolder(virginia_rasters, CATALOGUE)


def test_real_crop_is_a_sentinel_2_image_and_its_land_cover(virginia: RasterFolder) -> None:
    (l1c,) = virginia.find_images("COPERNICUS/S2_HARMONIZED", None, None, None)
    (cover,) = virginia.find_images("GOOGLE/DYNAMICWORLD/V1", None, None, None)
    assert l1c.index == cover.index
    assert l1c.time_start_ms == cover.time_start_ms
    assert [band.name for band in l1c.bands] == [
        *(f"B{i}" for i in range(1, 9)),
        "B8A",
        *(f"B{i}" for i in range(9, 13)),
    ]
    assert [band.name for band in cover.bands][-1] == "label"
    # Tile 18SVG begins at 399960, 4200000 (MGRS); every band lies on its 60 m lattice, except for
    # the 10 m and 20 m bands, which were cropped to their own pixels.
    for band in l1c.bands:
        step = band.lattice.x_scale
        assert (band.lattice.x_origin - 399_960) % step == 0
        assert (4_200_000 - band.lattice.y_origin) % step == 0
        assert band.lattice.x_scale == -band.lattice.y_scale
        assert band.lattice.crs == "EPSG:32618"


def test_sun_of_the_real_crop_stands_where_it_did(virginia: RasterFolder) -> None:
    (image,) = virginia.find_images("COPERNICUS/S2_HARMONIZED", None, None, None)
    longitude, latitude = np.mean(image.footprint[:-1], axis=0)
    # Astronomical Almanac, low-precision formulas for the sun (0.01 deg); a real record of another
    # place and day (zenith 16.21, azimuth 114.74) comes out within 0.1 deg.
    days = image.time_start_ms / 86_400_000 - 10_957.5
    anomaly = math.radians(357.528 + 0.9856003 * days)
    along = math.radians(
        280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)
    )
    tilt = math.radians(23.439)
    ascension = math.atan2(math.cos(tilt) * math.sin(along), math.cos(along))
    declination = math.asin(math.sin(tilt) * math.sin(along))
    hour_angle = (
        math.radians(15 * (18.697374558 + 24.06570982441908 * days) + longitude) - ascension
    )
    latitude = math.radians(latitude)
    zenith = math.acos(
        math.sin(latitude) * math.sin(declination)
        + math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    )
    assert image.properties["MEAN_SOLAR_ZENITH_ANGLE"] == pytest.approx(
        math.degrees(zenith), abs=0.1
    )


@pytest.mark.parametrize(("band", "file"), [("B2", "B02"), ("B11", "B11"), ("B9", "B09")])
def test_real_window_is_that_of_the_file(
    virginia: RasterFolder, virginia_rasters: Path, band: str, file: str
) -> None:
    (image,) = virginia.find_images("COPERNICUS/S2_HARMONIZED", None, None, None)
    found = virginia.read(image, [band], row=70, column=90, height=44, width=132)
    with rasterio.open(virginia_rasters / f"{file}.jp2") as dataset:
        wanted = dataset.read(1, window=Window(90, 70, 132, 44))
    np.testing.assert_array_equal(found[band][0], wanted)
    assert found[band][1].all()


# ---- through the unmodified client ---------------------------------------------------------------


def computed(
    ee: ModuleType, bands: list[str], size: int, scale: float, corner: tuple[float, float]
) -> Any:
    image = ee.ImageCollection("COPERNICUS/S2_HARMONIZED").first().select(bands)
    return ee.data.computePixels(
        {
            "expression": image,
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "dimensions": {"width": size, "height": size},
                "affineTransform": {
                    "scaleX": scale,
                    "scaleY": -scale,
                    "translateX": corner[0],
                    "translateY": corner[1],
                },
                "crsCode": "EPSG:32618",
            },
        }
    )


@pytest.mark.server
@pytest.mark.parametrize(
    ("scale", "files"),
    [
        (10, {"B2": "B02", "B3": "B03", "B4": "B04", "B8": "B08"}),
        (20, {"B5": "B05", "B8A": "B8A", "B11": "B11", "B12": "B12"}),
        (60, {"B1": "B01", "B9": "B09", "B10": "B10"}),
    ],
)
def test_client_computes_the_pixels_of_the_files(
    virginia_emulator: str,
    virginia_rasters: Path,
    earth_engine: Client,
    scale: int,
    files: dict[str, str],
) -> None:
    size = 2640 // scale
    row, column = 4800 // scale, 6600 // scale
    wanted = {}
    for band, file in files.items():
        with rasterio.open(virginia_rasters / f"{file}.jp2") as dataset:
            wanted[band] = dataset.read(1, window=Window(column, row, size, size))
            corner = (
                dataset.transform.c + column * scale,
                dataset.transform.f - row * scale,
            )
    found = computed(earth_engine(virginia_emulator), list(files), size, scale, corner)
    assert found.dtype == np.dtype([(band, "<u2") for band in files])
    for band, pixels in wanted.items():
        np.testing.assert_array_equal(found[band], pixels, err_msg=band)


@pytest.mark.server
def test_client_samples_the_same_rectangle(
    virginia_emulator: str, virginia_rasters: Path, earth_engine: Client
) -> None:
    ee = earth_engine(virginia_emulator)
    with rasterio.open(virginia_rasters / "dw_label.tif") as dataset:
        wanted = dataset.read(1, window=Window(1000, 700, 50, 40))
        west, north = dataset.transform.c + 10_000, dataset.transform.f - 7_000
    # 2 m inside the outermost pixels' edges: it covers these pixels and no others.
    box = [west + 2, north - 398, west + 498, north - 2]
    region = ee.Geometry.Rectangle(box, "EPSG:32618", False)
    image = ee.ImageCollection("GOOGLE/DYNAMICWORLD/V1").first().select("label")
    found = image.sampleRectangle(region).getInfo()["properties"]["label"]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.server
def test_client_reads_what_the_catalogue_says(virginia_emulator: str, earth_engine: Client) -> None:
    ee = earth_engine(virginia_emulator)
    collection = ee.ImageCollection("COPERNICUS/S2_HARMONIZED")
    here = ee.Geometry.Point([-75.62, 37.67])
    found = collection.filterBounds(here).filterDate("2021-06-01", "2021-07-01")
    assert found.size().getInfo() == 1
    assert collection.filterDate("2021-07-01", "2021-08-01").size().getInfo() == 0
    assert collection.filterBounds(ee.Geometry.Point([-74.0, 37.67])).size().getInfo() == 0
    info = found.filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 1)).first().getInfo()
    assert info["id"] == "COPERNICUS/S2_HARMONIZED/20210619T154811_20210619T155031_T18SVG"
    assert info["properties"]["MGRS_TILE"] == "18SVG"
    assert info["properties"]["system:footprint"]["type"] == "LinearRing"
    bands = {band["id"]: band for band in info["bands"]}
    assert bands["B9"]["crs_transform"] == [60, 0, 435_720, 0, -60, 4_179_480]
    assert bands["B2"]["crs_transform"] == [10, 0, 435_730, 0, -10, 4_179_460]
    assert bands["B2"]["dimensions"] == [1933, 1947]
    assert bands["B2"]["data_type"] == {
        "type": "PixelType",
        "precision": "int",
        "min": 0,
        "max": 65535,
    }
    cover = ee.ImageCollection("GOOGLE/DYNAMICWORLD/V1")
    assert (
        cover.aggregate_array("system:index").getInfo()
        == found.aggregate_array("system:index").getInfo()
    )
