"""A sealed cube from the simulated world, for the benchmarks of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from pipeline.build.rebuild import rebuild_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from pipeline.sources.earth_engine.settings import RebuildSettings
from storage_schema.products import PRODUCT_NAMES


def make_cube(
    path: Path,
    num_locations: int,
    *,
    seed: int = 0,
    block_size_m: float = 50_000,
    products: Sequence[str] = PRODUCT_NAMES,
) -> str:
    """Rebuild a small cube from the emulator and seal it; what is there is kept.

    Args:
        path: of the cube.
        num_locations: around populous cities.
        seed: of the locations.
        block_size_m: of the splits.
        products: to store.
    """
    with emulator_in_process(EmulatorSettings()) as emulator:
        settings = RebuildSettings.model_validate(
            {
                "cube": str(path),
                "products": list(products),
                "locations": {
                    "kind": "gaussian_around_cities",
                    "num_locations": num_locations,
                    "seed": seed,
                    "split": {"block_size_m": block_size_m, "buffer_m": 0},
                },
                "seasons": {
                    "reference_dates": ["2021-09-22", "2021-06-21", "2021-03-20", "2020-12-21"]
                },
                "earth_engine": {
                    "project": "benchmark",
                    "endpoint": emulator.url,
                    "credentials": "none",
                },
            }
        )
        summary = rebuild_cube(settings, Path())
    if summary.failures:
        raise SystemExit(f"the cube could not be made: {summary.failures}")
    seal_cube(ObjectStorage(path))
    return str(path)
