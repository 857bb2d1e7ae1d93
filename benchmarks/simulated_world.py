"""How the emulator's simulated world compares with the Earth, and what it costs.

At random populated places, one date each: the mean and standard deviation of every band beside
those published with SSL4EO-S12 (arXiv 2211.07044), the share of seasons that a rebuild can use, the
accuracy of a linear classifier of single L1C pixels against the Dynamic World labels (fitted on
half of the places, tried on the other half), and the CPU time of one location-season with all 28
bands, each at a place that was not looked at before.

Run: ``python -m benchmarks.simulated_world [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

from earth_engine_emulator.simulated_world.world import SimulatedWorld
from earth_engine_emulator.worlds import Bounds, ImageRecord
from pipeline.places.locations import make_locations
from pipeline.places.settings import GaussianAroundCities
from storage_schema.products import PATCH_SIZE_M, patch_size_px, published_statistics

PLACES, PLACES_SHORT = 500, 60
DAY_MS: Final = 86_400_000
MAX_CLOUD: Final = 20.0
DATES: Final = (date(2021, 9, 22), date(2021, 6, 21), date(2021, 3, 20), date(2020, 12, 21))
S2_BANDS: Final = tuple(published_statistics("s2_l1c"))
COLLECTIONS: Final = {
    "s2_l1c": ("COPERNICUS/S2_HARMONIZED", S2_BANDS),
    "s2_l2a": ("COPERNICUS/S2_SR_HARMONIZED", tuple(b for b in S2_BANDS if b != "B10")),
    "s1_grd": ("COPERNICUS/S1_GRD", ("VV", "VH")),
    "dynamic_world": ("GOOGLE/DYNAMICWORLD/V1", ("label",)),
}
Planes = dict[str, npt.NDArray[Any]]


@dataclass
class Moments:
    """Sums of one band over all its pixels."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count these values."""
        values = values.astype(np.float64)
        self.count += values.size
        self.total += float(values.sum())
        self.squares += float((values**2).sum())

    @property
    def mean(self) -> float:
        """Mean."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.squares / self.count - self.mean**2))


def populated_places(number: int) -> Iterator[tuple[float, float]]:
    """Yield longitude and latitude, deg, as a rebuild would draw them."""
    settings = GaussianAroundCities(kind="gaussian_around_cities", num_locations=number, seed=11)
    found = make_locations(settings, Path())
    yield from zip(found.longitude.tolist(), found.latitude.tolist(), strict=True)


def choose(
    world: SimulatedWorld, place: tuple[float, float], day: date
) -> dict[str, ImageRecord] | None:
    """Return the images of one location-season; None where the choice of a rebuild would fail."""
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    start, end = start - 15 * DAY_MS, start + 15 * DAY_MS
    margin = 0.02
    bounds = Bounds(place[0] - margin, place[1] - margin, place[0] + margin, place[1] + margin)
    listed = {
        name: {image.index: image for image in world.find_images(collection, bounds, start, end)}
        for name, (collection, _) in COLLECTIONS.items()
    }
    usable = [
        image
        for image in listed["s2_l1c"].values()
        if float(image.properties["CLOUDY_PIXEL_PERCENTAGE"]) < MAX_CLOUD
        and image.index in listed["s2_l2a"]
        and image.index in listed["dynamic_world"]
        and is_inside(image, place)
    ]
    if not usable or not listed["s1_grd"]:
        return None
    best = min(usable, key=lambda image: float(image.properties["CLOUDY_PIXEL_PERCENTAGE"]))
    sar = min(
        (image for image in listed["s1_grd"].values() if len(image.bands) > 2),
        key=lambda image: abs(image.time_start_ms - best.time_start_ms),
        default=None,
    )
    if sar is None:
        return None
    return {
        "s2_l1c": best,
        "s2_l2a": listed["s2_l2a"][best.index],
        "dynamic_world": listed["dynamic_world"][best.index],
        "s1_grd": sar,
    }


def is_inside(image: ImageRecord, place: tuple[float, float]) -> bool:
    """Return whether the patch around a place lies on the image's tile."""
    band = image.bands[0]
    row, column = corner(image, place, band.lattice.x_scale)
    side = round(PATCH_SIZE_M / band.lattice.x_scale)
    return 0 <= row <= band.height - side and 0 <= column <= band.width - side


def corner(image: ImageRecord, place: tuple[float, float], resolution_m: float) -> tuple[int, int]:
    """Return row and column of the patch's upper left pixel."""
    lattice = image.bands[0].lattice
    x, y = Transformer.from_crs("EPSG:4326", lattice.crs, always_xy=True).transform(*place)
    left, top = x - PATCH_SIZE_M / 2 - lattice.x_origin, lattice.y_origin - y - PATCH_SIZE_M / 2
    return round(top / 60) * 60 // int(resolution_m), round(left / 60) * 60 // int(resolution_m)


def read(
    world: SimulatedWorld, image: ImageRecord, place: tuple[float, float], bands: Any
) -> Planes:
    """Read the bands of a patch, each at its own resolution; masked pixels are NaN."""
    planes: Planes = {}
    by_lattice: dict[Any, list[str]] = {}
    for band in image.bands:
        if band.name in bands:
            by_lattice.setdefault(band.lattice, []).append(band.name)
    for lattice, names in by_lattice.items():
        row, column = corner(image, place, lattice.x_scale)
        side = round(PATCH_SIZE_M / lattice.x_scale)
        found = world.read(image, names, row=row, column=column, height=side, width=side)
        for name, (values, valid) in found.items():
            planes[name] = np.where(valid, values.astype(np.float32), np.nan)
    return planes


def measure(num_places: int) -> dict[str, Any]:
    """Measure everything."""
    world = SimulatedWorld()
    moments = {name: [Moments() for _ in bands] for name, (_, bands) in COLLECTIONS.items()}
    samples: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    rng = np.random.default_rng(0)
    cpu_s: list[float] = []
    num_seasons = 0
    for index, place in enumerate(populated_places(num_places)):
        day = DATES[index % len(DATES)]
        num_seasons += 1
        images = choose(world, place, day)
        if images is None:
            continue
        began = time.process_time()
        patches = {
            name: read(world, image, place, COLLECTIONS[name][1]) for name, image in images.items()
        }
        cpu_s.append(time.process_time() - began)
        for name, (_, bands) in COLLECTIONS.items():
            for at, band in enumerate(bands):
                plane = patches[name][band]
                moments[name][at].add(plane[np.isfinite(plane)])
        samples.append(pixels_of(patches, rng))
    bands_found = {}
    for name in COLLECTIONS:
        # Label maps have none published.
        for band, (mean, std) in published_statistics(name).items():
            found = moments[name][COLLECTIONS[name][1].index(band)]
            bands_found[f"{name} {band}"] = {
                "mean": found.mean,
                "std": found.std,
                "mean_ratio": found.mean / mean,
                "std_ratio": found.std / std,
            }
    return {
        "places": num_places,
        "usable_share": len(cpu_s) / num_seasons,
        "cpu_s_per_location_season": float(np.mean(cpu_s)),
        "linear_accuracy": linear_accuracy(samples),
        "bands": bands_found,
    }


def pixels_of(
    patches: dict[str, Planes], rng: np.random.Generator
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return 200 labelled pixels of a patch: 13 bands at 10 m, and their classes."""
    planes = np.stack(
        [
            np.kron(plane, np.ones((patch_size_px() // plane.shape[0],) * 2, np.float32))
            for plane in (patches["s2_l1c"][band] for band in S2_BANDS)
        ]
    ).reshape(13, -1)
    label = patches["dynamic_world"]["label"].reshape(-1)
    usable = np.flatnonzero(np.isfinite(label) & np.isfinite(planes).all(axis=0))
    chosen = rng.choice(usable, min(200, usable.size), replace=False)
    return planes[:, chosen].T.astype(np.float64), label[chosen].astype(np.int64)


def linear_accuracy(samples: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """Fit a linear discriminant on even places; return its accuracy on odd ones."""
    train = [np.concatenate(part) for part in zip(*samples[::2], strict=True)]
    test = [np.concatenate(part) for part in zip(*samples[1::2], strict=True)]
    classes = np.unique(train[1])
    means = np.stack([train[0][train[1] == number].mean(axis=0) for number in classes])
    shares = np.asarray([(train[1] == number).mean() for number in classes])
    residual = train[0] - means[np.searchsorted(classes, train[1])]
    weights = np.linalg.solve(np.cov(residual.T), means.T)
    scores = test[0] @ weights - 0.5 * (means.T * weights).sum(axis=0) + np.log(shares)
    return float((classes[scores.argmax(axis=1)] == test[1]).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{PLACES_SHORT} places")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(PLACES_SHORT if arguments.short else PLACES)
    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    lines = [f"{'band':>12} {'mean':>9} {'(x)':>6} {'std':>9} {'(x)':>6}"]
    for name, band in result["bands"].items():
        lines.append(
            f"{name:>12} {band['mean']:9.2f} {band['mean_ratio']:6.2f} "
            f"{band['std']:9.2f} {band['std_ratio']:6.2f}"
        )
    ratios = [b[f"{key}_ratio"] for b in result["bands"].values() for key in ("mean", "std")]
    lines += [
        f"all within a factor of {max(max(ratio, 1 / ratio) for ratio in ratios):.2f}",
        f"{result['places']} places: {result['usable_share']:.0%} of the seasons usable, "
        f"{result['cpu_s_per_location_season']:.3f} CPU s per location-season of 28 bands",
        f"linear classifier of L1C pixels: {result['linear_accuracy']:.3f} correct",
        f"load average {os.getloadavg()[0]:.1f}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
