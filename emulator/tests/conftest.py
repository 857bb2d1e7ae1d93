"""What the tests share; fixtures for other packages are in `earth_engine_emulator.testing`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ee
import pytest
from hypothesis import settings
from serving import connect, running
from small_world import SmallWorld

from earth_engine_emulator.limits import Limits

# Without a deadline: machines are shared, and no test asserts on time. Options in pyproject.toml
# load it: beside another project's tests, that project's profile holds.
settings.register_profile("emulator", deadline=None, derandomize=True, print_blob=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of real satellite data; it is not part of the repository."""
    folder = Path(os.environ.get("SOFTCON_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "ssl4eo_s12_sample").is_dir():
        pytest.skip("no real data: set SOFTCON_DATA to the folder with ssl4eo_s12_sample")
    return folder.resolve()


@pytest.fixture(scope="module")
def small_world() -> SmallWorld:
    """The world that is served."""
    return SmallWorld()


@pytest.fixture(scope="module")
def address(small_world: SmallWorld) -> Iterator[str]:
    """A server of the small world."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        # The tests of values ask more than 100 times a second; those of traffic set their limits.
        with running(small_world, Limits(max_requests_per_s=100_000)) as url:
            yield url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[str]:
    """The client, connected; yields the address."""
    connect(address)
    yield address
    ee.Reset()
