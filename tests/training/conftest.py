"""Small sealed cubes for the trainer, made without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.small_cube import write_cube


@pytest.fixture(scope="session")
def cube(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a sealed cube of 48 locations with all products; read-only."""
    path = tmp_path_factory.mktemp("cubes") / "cube.zarr"
    write_cube(path, 48)
    return str(path)


@pytest.fixture
def own_cube(tmp_path: Path) -> Path:
    """A cube of a test's own, to be damaged."""
    path = tmp_path / "own.zarr"
    write_cube(path, 16)
    return path
