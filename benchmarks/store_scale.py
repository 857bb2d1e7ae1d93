"""How the store's cost grows: memory, time per batch, time to open, seal and audit.

Pre-rendered patches (one season of S1 and labels) and short shards, so that 10,000 locations fit on
a laptop. Every size runs in a process of its own, after a warm-up; figures are per unit, and their
ratio to the smallest size is what matters. At the end of the largest, one marker and one shard are
deleted: the same build has to write exactly those two batches and restore the digest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from pipeline.build.builder import build_cube
from pipeline.cube.audit import audit_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import BatchMarker, marker_key
from pipeline.cube.seal import seal_cube
from pipeline.patches import (
    Acquisition,
    LocationPatches,
    Pixels,
    ProductPatch,
    SeasonPatches,
)
from pipeline.sources.one_by_one import ReadsOneByOne
from storage_schema.layout import CubeDescription
from storage_schema.products import ProductName, patch_size_px
from storage_schema.status import PatchStatus

SIZES: Final = (100, 1_000, 10_000)
SHORT_SIZES: Final = (100, 1_000)
LOCATIONS_PER_BATCH: Final = 10
PRODUCTS: Final[tuple[ProductName, ...]] = ("s1_grd", "dynamic_world")
NUM_OPENS: Final = 7


class PreRendered(ReadsOneByOne):
    """The same few patches again and again: making them costs nothing."""

    products = PRODUCTS

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        shape = (2, patch_size_px(), patch_size_px())
        self._sar = [rng.normal(-1300, 500, shape).astype(np.int16) for _ in range(8)]
        self._labels = [
            np.kron(rng.integers(0, 9, (12, 12)), np.ones((22, 22))).astype(np.uint8)
            for _ in range(8)
        ]

    def read_location(self, location_id: str) -> LocationPatches:
        """Return one location with one season."""
        number = int(location_id)
        acquisition = Acquisition(location_id, 1_600_000_000_000 + number)
        pixels: dict[ProductName, dict[str, Pixels]] = {
            "s1_grd": {"s1_grd": self._sar[number % 8]},
            "dynamic_world": {"dynamic_world_label": self._labels[number % 8]},
        }
        season = SeasonPatches(
            {
                name: ProductPatch(
                    PatchStatus.COMPLETE, acquisition=acquisition, pixels=pixels[name]
                )
                for name in PRODUCTS
            }
        )
        return LocationPatches(location_id, 0.0, 0.0, 32631, 0.0, 0.0, 0.0, [season])


def build(cube: Path, num_locations: int) -> tuple[list[int], list[float]]:
    """Build a cube; return the batches written, and seconds per batch."""
    moments: list[float] = []

    def note(done: int, of: int, marker: BatchMarker | None) -> None:
        del done, of, marker
        moments.append(time.perf_counter())

    source = PreRendered()
    summary = build_cube(
        ObjectStorage(cube),
        CubeDescription(
            num_locations=num_locations,
            products=PRODUCTS,
            source={"name": "pre-rendered"},
            season_meaning="made up",
            locations_per_batch=LOCATIONS_PER_BATCH,
        ),
        [f"{index:07d}" for index in range(num_locations)],
        lambda _: source,
        progress=note,
    )
    return summary.built, list(np.diff(moments))


def measure(num_locations: int, folder: Path) -> dict[str, Any]:
    """Measure one size; what the child process runs."""
    build(folder / "warm-up.zarr", 50)
    seal_cube(ObjectStorage(folder / "warm-up.zarr"))
    cube = folder / "cube.zarr"
    storage = ObjectStorage(cube)
    cpu_before_s = time.process_time()
    _, batch_s = build(cube, num_locations)
    cpu_s = time.process_time() - cpu_before_s
    build_peak = peak_memory_mb()
    opens = [timed(lambda: xr.open_zarr(cube, chunks=None)) for _ in range(NUM_OPENS)]
    seal_s = timed(lambda: seal_cube(storage))
    audit_s = timed(lambda: audit_cube(storage))
    num_batches = len(batch_s)
    return {
        "num_locations": num_locations,
        "batch_ms": 1e3 * statistics.median(batch_s),
        "batch_cpu_ms": 1e3 * cpu_s / num_batches,
        "open_ms": 1e3 * statistics.median(opens),
        "seal_ms_per_batch": 1e3 * seal_s / num_batches,
        "audit_ms_per_batch": 1e3 * audit_s / num_batches,
        "build_peak_mb": build_peak,
        "peak_mb": peak_memory_mb(),
        "stored_mb": sum(storage.list_sizes().values()) / 1e6,
        "repair": repair(cube, num_locations),
    }


def repair(cube: Path, num_locations: int) -> dict[str, Any]:
    """Delete one marker and one shard; return what the same build wrote, and the digest."""
    storage = ObjectStorage(cube)
    before = seal_cube(storage).digest
    last = num_locations // LOCATIONS_PER_BATCH - 1
    storage.delete([marker_key(2), *storage.list_sizes(f"s1_grd/c/{last}")])
    built, _ = build(cube, num_locations)
    return {
        "deleted": [2, last],
        "rebuilt": built,
        "digest_restored": seal_cube(storage).digest == before,
    }


def timed(call: Any) -> float:
    """Return the seconds a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def peak_memory_mb() -> float:
    """Return this process's peak resident memory in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Run all sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="100 and 1,000 locations only")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size is not None:
        print(json.dumps(measure(options.size, options.folder)))
        return
    results = []
    for size in SHORT_SIZES if options.short else SIZES:
        folder = Path(tempfile.mkdtemp(prefix="store-scale-"))
        try:
            command = [sys.executable, "-m", "benchmarks.store_scale", "--size", str(size)]
            child = subprocess.run(
                [*command, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True
            )
        finally:
            shutil.rmtree(folder)
        results.append(json.loads(child.stdout))
        print(f"{size} locations measured", file=sys.stderr)
    if options.json:
        print(json.dumps({"load_average": os.getloadavg(), "sizes": results}, indent=1))
        return
    units = (
        "batch_ms",
        "batch_cpu_ms",
        "open_ms",
        "seal_ms_per_batch",
        "audit_ms_per_batch",
        "build_peak_mb",
    )
    print(f"{'locations':>10}" + "".join(f"{unit:>22}" for unit in units))
    for result in results:
        cells = [
            f"{result[unit]:.1f} (x {result[unit] / results[0][unit]:.2f})".rjust(22)
            for unit in units
        ]
        print(f"{result['num_locations']:>10,}" + "".join(cells))
    for result in results:
        print(f"{result['num_locations']:,} locations, repair: {json.dumps(result['repair'])}")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
