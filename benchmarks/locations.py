"""What a list of locations costs: drawing, spacing against the naive way, splits, the file.

The naive way compares each candidate with every location taken before; its time is measured for a
few thousand, because it grows with the square. On one core: ``taskset -c 0 python -m
benchmarks.locations``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.places.files import read_locations, write_locations
from pipeline.places.land_mask import is_land
from pipeline.places.locations import make_locations, most_populous_cities
from pipeline.places.settings import parse_location_settings
from pipeline.places.spherical import CAUTIOUS_RADIUS_M, Spacing, find_overlaps, unit_vectors
from pipeline.places.splits import assign_splits

FULL, SHORT = 250_000, 20_000
NUM_NAIVE: Final = 10_000
MIN_DISTANCE_M: Final = 3840.0


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and the result."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def naive(lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Admit points by comparing each with all that were admitted before it."""
    vectors = unit_vectors(lon, lat)
    taken = np.empty_like(vectors)
    least = 2 * np.sin(MIN_DISTANCE_M / 2 / CAUTIOUS_RADIUS_M)
    admitted = np.zeros(len(lon), dtype=bool)
    num = 0
    for index, vector in enumerate(vectors):
        if not (((taken[:num] - vector) ** 2).sum(axis=1) < least**2).any():
            taken[num] = vector
            num += 1
            admitted[index] = True
    return admitted


def measure(num: int) -> dict[str, Any]:
    """Measure everything for lists of `num` locations."""
    result: dict[str, Any] = {"num_locations": num}
    result["load_cities_s"], _ = timed(lambda: most_populous_cities(10_000))
    zero = np.zeros(1)
    result["load_land_mask_s"], _ = timed(lambda: is_land(zero, zero))
    for kind in ("gaussian_around_cities", "uniform_on_land"):
        settings = parse_location_settings({"kind": kind, "num_locations": num}, "benchmark")
        result[f"{kind}_s"], drawn = timed(partial(make_locations, settings))
        overlaps = find_overlaps(drawn.longitude, drawn.latitude, MIN_DISTANCE_M)
        assert not len(overlaps), "two locations are too near to each other"
        assert len(drawn) == num
    lon, lat = drawn.longitude, drawn.latitude
    result["splits_s"], _ = timed(lambda: assign_splits(lon, lat, settings.split, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "locations.parquet"
        result["write_s"], _ = timed(lambda: write_locations(path, drawn))
        result["file_mb"] = path.stat().st_size / 1e6
        result["read_s"], _ = timed(lambda: read_locations(path))
    # Crowded, so that there is something to refuse.
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(9, 13, NUM_NAIVE), rng.uniform(46, 50, NUM_NAIVE)
    naive_s, expected = timed(lambda: naive(lon, lat))
    indexed_s, found = timed(lambda: Spacing(MIN_DISTANCE_M).admit(lon, lat))
    assert np.array_equal(expected, found), "the index and the naive way differ"
    result["num_naive_candidates"] = NUM_NAIVE
    result["naive_over_indexed"] = naive_s / indexed_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_memory_mb"] = peak / (1e6 if sys.platform == "darwin" else 1024)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help=f"{SHORT:,} instead of {FULL:,}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    result = measure(SHORT if arguments.short else FULL)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:28} {value:,.2f}" if isinstance(value, float) else f"{name:28} {value:,}")


if __name__ == "__main__":
    main()
