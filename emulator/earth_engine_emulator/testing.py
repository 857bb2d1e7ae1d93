"""For tests of code that uses Earth Engine: a pytest plugin with fixtures, and small rasters.

In ``conftest.py``::

    pytest_plugins = ["earth_engine_emulator.testing"]

In a test::

    def test_my_script(simulated_emulator, earth_engine):
        ee = earth_engine(simulated_emulator)
        assert ee.Number(1).add(1).getInfo() == 2
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import yaml
from rasterio.transform import Affine

from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings

PROJECT = "emulator"
UTM = "EPSG:32618"

Client = Callable[[str], ModuleType]


@pytest.fixture(scope="session", autouse=True)
def _loopback_without_proxy() -> Iterator[None]:
    """Keep a proxy out of the way of every test: emulators listen on loopback."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    with pytest.MonkeyPatch.context() as patch:
        # requests and urllib prefer the lower-case name where both are set.
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, f"{others},127.0.0.1,localhost".lstrip(","))
        yield


@pytest.fixture(scope="session")
def simulated_emulator() -> Iterator[str]:
    """Address of an emulator with the simulated world, in a process of its own."""
    with emulator_in_process(EmulatorSettings()) as running:
        yield running.url


@pytest.fixture
def earth_engine() -> Iterator[Client]:
    """Call it with an address: the package `ee`, initialised there and forgotten afterwards.

    The client keeps its state in globals, so that a test talks to one address at a time.
    """
    import ee
    from google.auth.credentials import AnonymousCredentials

    def initialise(url: str) -> ModuleType:
        ee.Reset()
        ee.Initialize(AnonymousCredentials(), project=PROJECT, url=url)
        return ee  # type: ignore[no-any-return]

    yield initialise
    ee.Reset()


def write_raster(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    scale: float = 10.0,
    west: float = 400_000.0,
    north: float = 4_180_000.0,
    crs: str | None = UTM,
    transform: Affine | None = None,
    driver: str = "GTiff",
    nodata: float | None = None,
    **options: Any,
) -> None:
    """Write pixels (height, width) or (bands, height, width) as a raster."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    with rasterio.open(
        path,
        "w",
        driver=driver,
        count=pixels.shape[0],
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        crs=crs,
        transform=Affine(scale, 0, west, 0, -scale, north) if transform is None else transform,
        nodata=nodata,
        **options,
    ) as dataset:
        dataset.write(pixels)


def ramp(height: int, width: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    """Pixels that are all different: 1, 2, 3, ... row by row."""
    return np.arange(1, height * width + 1).reshape(height, width).astype(dtype)


def write_catalogue(folder: Path, name: str = "image", **changes: Any) -> Path:
    """Write a catalogue file of one image; a change to None leaves the key out."""
    values: dict[str, Any] = {
        "collection": "TEST/IMAGES",
        "index": "20210619T154811_T18SVG",
        "time_start": "2021-06-19T16:02:47Z",
        "bands": {"B2": {"file": "b2.tif"}},
        **changes,
    }
    path = folder / f"{name}.yaml"
    given = {key: value for key, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path
