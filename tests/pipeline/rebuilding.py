"""Rebuilds from an emulator, small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.build.builder import BuildSummary
from pipeline.build.rebuild import rebuild_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from pipeline.sources.earth_engine.settings import RebuildSettings

FEW_PRODUCTS = {"products": ["s1_grd", "dynamic_world"]}
"""For tests of what is around the pixels: the requests of all products with half the work."""

DATES = ["2021-09-22", "2021-06-21", "2021-03-20", "2020-12-21"]


def configuration(url: str, cube: Path | str, num_locations: int, **changes: Any) -> dict[str, Any]:
    """A configuration as a user would write it; `changes` replace or extend whole sections."""
    values: dict[str, Any] = {
        "cube": str(cube),
        "locations": {"kind": "gaussian_around_cities", "num_locations": num_locations, "seed": 1},
        "seasons": {"reference_dates": DATES},
        "locations_per_batch": 4,
        "earth_engine": {"project": "test-project", "endpoint": url, "credentials": "none"},
    }
    for name, change in changes.items():
        merge = isinstance(change, dict) and isinstance(values.get(name), dict)
        values[name] = values[name] | change if merge else change
    return values


def rebuild(
    url: str, cube: Path | str, num_locations: int = 8, retry_failed: bool = False, **changes: Any
) -> BuildSummary:
    settings = RebuildSettings.model_validate(configuration(url, cube, num_locations, **changes))
    return rebuild_cube(settings, Path(), retry_failed=retry_failed)


def digest_of(cube: Path | str) -> str:
    return seal_cube(ObjectStorage(str(cube))).digest
