"""What the tests share; fixtures for other packages are in `earth_engine_emulator.testing`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Without a deadline: machines are shared, and no test asserts on time.
settings.register_profile("emulator", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("emulator")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of real satellite data; it is not part of the repository."""
    folder = Path(os.environ.get("SOFTCON_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "ssl4eo_s12_sample").is_dir():
        pytest.skip("no real data: set SOFTCON_DATA to the folder with ssl4eo_s12_sample")
    return folder.resolve()
