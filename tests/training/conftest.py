"""Small sealed cubes for the trainer, made without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.training.small_cube import write_cube


@pytest.fixture(scope="session")
def cube(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a sealed cube of 48 locations with all products; read-only."""
    folder = made_once(
        tmp_path_factory, "training_cube", lambda folder: write_cube(folder / "cube.zarr", 48)
    )
    return str(folder / "cube.zarr")


@pytest.fixture
def own_cube(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of 16 locations of a test's own, to be damaged."""
    folder = made_once(
        tmp_path_factory, "own_training_cube", lambda folder: write_cube(folder / "own.zarr", 16)
    )
    return shutil.copytree(folder / "own.zarr", tmp_path / "own.zarr")
