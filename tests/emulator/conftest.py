"""Emulators that are started once, and the unmodified client pointed to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from emulator.running import emulator_in_process, emulator_in_thread
from emulator.settings import EmulatorSettings, make_app

CATALOGUE = Path(__file__).parents[2] / "configs" / "emulator" / "virginia_coast"
"""The catalogue of the real crop; its rasters are not part of the repository."""
PROJECT = "emulator"

Client = Callable[[str], ModuleType]


@pytest.fixture(scope="session", autouse=True)
def _loopback_without_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        others = os.environ.get("NO_PROXY", "")
        patch.setenv("NO_PROXY", f"{others},127.0.0.1,localhost".lstrip(","))
        yield


@pytest.fixture(scope="session")
def simulated_emulator() -> Iterator[str]:
    """Address of an emulator with the simulated world, in a process of its own."""
    with emulator_in_process(EmulatorSettings()) as running:
        yield running.url


@pytest.fixture(scope="session")
def virginia_rasters(real_data: Path) -> Path:
    """The folder of the real Sentinel-2 crop."""
    folder = real_data / "virginia_coast"
    if not folder.is_dir():
        pytest.skip(f"no real rasters: {folder} is missing")
    return folder


@pytest.fixture(scope="session")
def virginia_emulator(virginia_rasters: Path) -> Iterator[str]:
    """Address of an emulator with the real crop."""
    settings = EmulatorSettings(world=str(CATALOGUE), rasters=virginia_rasters)
    with emulator_in_thread(make_app(settings)) as running:
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
        return ee

    yield initialise
    ee.Reset()
