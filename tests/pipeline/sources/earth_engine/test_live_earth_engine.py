"""What the source relies on, asked of the emulator and, with credentials, of Earth Engine itself.

The emulator is asked in every run, so that the questions stay valid. The service is asked by
``SOFTCON_EE_PROJECT=my-project pytest -m live_earth_engine``; it costs some ten small requests. A
question that the two answer differently is a fault of the emulator.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import requests
from google.auth.credentials import AnonymousCredentials

from pipeline.patches import Place, check_patch
from pipeline.sources.earth_engine.client import close_sessions
from pipeline.sources.earth_engine.settings import HIGH_VOLUME_ENDPOINT, RebuildSettings
from pipeline.sources.earth_engine.source import EarthEngineSource
from storage_schema.products import PRODUCT_NAMES
from storage_schema.status import PatchStatus, Split
from tests.pipeline.rebuilding import DATES, configuration

MUNICH = (11.57, 48.14)
SIDE_PX = 12
METHODS = ("projects.value.compute", "projects.image.computePixels", "projects.algorithms.list")


@dataclass(frozen=True)
class Service:
    """Where questions go."""

    url: str
    project: str
    credentials: str


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("emulator", marks=pytest.mark.server),
        pytest.param("earth_engine", marks=pytest.mark.live_earth_engine),
    ],
)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    if request.param == "emulator":
        found = Service(request.getfixturevalue("simulated_emulator"), "test-project", "none")
        credentials: Any = AnonymousCredentials()
    else:
        project = os.environ.get("SOFTCON_EE_PROJECT")
        if not project:
            pytest.skip("no credentials: set SOFTCON_EE_PROJECT to a project of yours")
        found = Service(HIGH_VOLUME_ENDPOINT, project, "application_default")
        import google.auth

        credentials = google.auth.default(
            scopes=[
                "https://www.googleapis.com/auth/earthengine",
                "https://www.googleapis.com/auth/cloud-platform",
            ]
        )[0]
    ee.Reset()
    ee.Initialize(credentials, project=found.project, url=found.url)
    yield found
    ee.Reset()


@dataclass(frozen=True)
class Window:
    """An image of the place, and a request grid on its tile's 60 m lattice."""

    index: str
    grid: dict[str, Any]


@pytest.fixture(scope="module")
def window(service: Service) -> Window:
    """Around Munich, in a cloudless image of 2021."""
    place = ee.Geometry.Point(MUNICH)
    image = (
        ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED")
        .filterBounds(place)
        .filterDate("2021-05-01", "2021-10-01")
        .filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 5))
        .sort("CLOUDY_PIXEL_PERCENTAGE")
        .first()
    )
    found = ee.Dictionary(
        {"index": image.get("system:index"), "at": image.select("B1").projection()}
    ).getInfo()
    transform = found["at"]["transform"]
    # 300 coarse pixels from the corner of the tile: 18 km, inside the swath of a clear image.
    x, y = transform[2] + 150 * 60, transform[5] - 150 * 60
    grid = {
        "dimensions": {"width": SIDE_PX, "height": SIDE_PX},
        "affineTransform": {
            "scaleX": 10, "shearX": 0, "translateX": x,
            "shearY": 0, "scaleY": -10, "translateY": y,
        },
        "crsCode": found["at"]["crs"],
    }  # fmt: skip
    return Window(found["index"], grid)


def pixels(image: ee.Image, grid: dict[str, Any]) -> np.ndarray:
    reply = ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": grid})
    return np.load(io.BytesIO(reply)) if isinstance(reply, bytes) else reply


def coarser(grid: dict[str, Any], factor: int) -> dict[str, Any]:
    transform = grid["affineTransform"]
    side = SIDE_PX // factor
    return grid | {
        "dimensions": {"width": side, "height": side},
        "affineTransform": transform | {"scaleX": 10 * factor, "scaleY": -10 * factor},
    }


def test_discovery_names_the_methods_in_use(service: Service) -> None:
    reply = requests.get(f"{service.url}/$discovery/rest?version=v1", timeout=60)
    document = reply.json()
    for method in METHODS:
        part = document
        *resources, name = method.split(".")
        for resource in resources:
            part = part["resources"][resource]
        assert name in part["methods"], method


def test_bands_of_several_types_come_in_one_reply(window: Window) -> None:
    l1c = ee.Image(f"COPERNICUS/S2_HARMONIZED/{window.index}").select(["B2", "B5"]).toUint16()
    image = l1c.addBands(ee.Image.constant(-12.5).toFloat().rename("VV"))
    image = image.addBands(ee.Image.constant(3).toUint8().rename("label"))
    found = pixels(image, window.grid)
    assert found.shape == (SIDE_PX, SIDE_PX)
    assert {name: found.dtype[name].str[1:] for name in found.dtype.names or ()} == {
        "B2": "u2",
        "B5": "u2",
        "VV": "f4",
        "label": "u1",
    }
    assert (found["VV"] == np.float32(-12.5)).all()


@pytest.mark.parametrize(("band", "factor"), [("B5", 2), ("B12", 2), ("B1", 6), ("B10", 6)])
def test_coarse_bands_are_repeated_not_resampled(window: Window, band: str, factor: int) -> None:
    image = ee.Image(f"COPERNICUS/S2_HARMONIZED/{window.index}").select(band)
    fine = pixels(image, window.grid)[band]
    own = pixels(image, coarser(window.grid, factor))[band]
    np.testing.assert_array_equal(fine, np.kron(own, np.ones((factor, factor), own.dtype)))


def test_masked_pixels_become_what_unmask_says(window: Window) -> None:
    label = ee.Image.constant(4).toUint8().rename("label").updateMask(ee.Image.constant(0))
    assert (pixels(label.unmask(255, False), window.grid)["label"] == 255).all()
    # Without it they are 0, which is water: the source never asks so.
    assert (pixels(label, window.grid)["label"] == 0).all()


def test_an_image_that_is_not_there_is_named(window: Window) -> None:
    absent = "COPERNICUS/S2_HARMONIZED/20210101T000000_20210101T000000_T32UPU"
    with pytest.raises(ee.EEException, match=f"'{absent}' not found"):
        pixels(ee.Image(absent).select("B2"), window.grid)


def test_a_location_is_read(service: Service, tmp_path: Path) -> None:
    values = configuration(service.url, "unused.zarr", 1, seasons={"reference_dates": DATES[:1]})
    values["earth_engine"] |= {"project": service.project, "credentials": service.credentials}
    settings = RebuildSettings.model_validate(values)
    source = EarthEngineSource(
        places={"munich": Place(*MUNICH, Split.TRAIN)},
        products=PRODUCT_NAMES,
        seasons=settings.seasons,
        acquisitions=settings.acquisitions,
        grid_epsg=None,
        service=settings.earth_engine,
    )
    try:
        location = source.read_location("munich")
    finally:
        close_sessions()
        ee.Reset()
    (season,) = location.seasons
    for name, patch in season.products.items():
        assert check_patch(name, patch).status is PatchStatus.COMPLETE, (name, patch.detail)
    assert source.ledger.num_requests == 2
