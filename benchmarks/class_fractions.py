"""Class fractions against the tools one would otherwise take, on one generated raster, in one run.

Same lattice: `pipeline.land_cover.class_fractions`, rasterstats' categorical zonal statistics and a
rioxarray reprojection, each once per grid. Another zone: `class_fractions`, and a plain loop of
rasterio.warp.reproject (nearest) and numpy.bincount. Then the other zone again, on grids for about
ten seconds of work, with one Dask process and with two. Every baseline is given the raster in
memory and, where it has a choice, its faster form; its answers are compared with ours.

Run: ``python -m benchmarks.class_fractions [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray
import xarray as xr
from distributed import Client, LocalCluster
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window
from rasterstats import zonal_stats

from pipeline.grids import Grid
from pipeline.land_cover.class_fractions import (
    LandCover,
    class_fractions_for_grids,
    class_fractions_on,
    open_land_cover,
)
from storage_schema.land_cover import MASKED, NUM_CLASSES
from storage_schema.products import patch_size_px

SIDE_PX: Final = 4096
STRIP_PX: Final = 256
WEST_M, NORTH_M = 430_000.0, 4_200_000.0
"""Virginia's coast in EPSG:32618; its longitudes also lie beside zone 17."""
SEED: Final = 20240607
NUM_GRIDS, NUM_GRIDS_SHORT = 1000, 100
DASK_WORK_S, DASK_WORK_SHORT_S = 10.0, 1.5
DASK_REPEATS, DASK_REPEATS_SHORT = 5, 1

Labels = npt.NDArray[np.uint8]
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.class_fractions", description=__doc__
    )
    parser.add_argument("--short", action="store_true", help="a tenth of the grids, one repetition")
    parser.add_argument("--json", action="store_true", help="print figures as one JSON object")
    options = parser.parse_args(arguments)
    # rioxarray 0.19 multiplies transforms as affine 3.1 no longer likes.
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), short=options.short)
    print(json.dumps(figures, indent=1) if options.json else as_text(figures))
    return 0


def measure(folder: Path, *, short: bool) -> Figures:
    """Run everything; return the figures, times in milliseconds per grid."""
    progress("generating a raster of land cover")
    path = folder / "land_cover.tif"
    writer = multiprocessing.get_context("spawn").Process(target=write_raster, args=(path,))
    writer.start()  # in a process of its own: its memory is none of ours
    writer.join()
    peak_before_mib = peak_memory_mib()
    land_cover = open_land_cover(path)
    num_grids = NUM_GRIDS_SHORT if short else NUM_GRIDS
    on_lattice, across = place_grids(num_grids)
    figures: Figures = {
        "grids": num_grids,
        "raster_px": [SIDE_PX, SIDE_PX],
        "load_average_at_start": os.getloadavg()[0],
        "peak_memory_mib_before": peak_before_mib,
    }
    figures |= measure_ours(land_cover, on_lattice, across)
    figures |= measure_same_lattice(land_cover, path, on_lattice, figures["same_lattice_ms"])
    figures |= measure_across(land_cover, path, across, figures["across_ms"])
    work_s = DASK_WORK_SHORT_S if short else DASK_WORK_S
    repeats = DASK_REPEATS_SHORT if short else DASK_REPEATS
    figures |= measure_dask(land_cover, round(1000 * work_s / figures["across_ms"]), repeats)
    figures["load_average_at_end"] = os.getloadavg()[0]
    return figures


# --- input --------------------------------------------------------------------------------------


def write_raster(path: Path) -> None:
    """Write generated land cover as a tiled, compressed GeoTIFF in EPSG:32618, strip by strip.

    Nine smooth random fields, the highest wins; clouds over about 5 %, odd pixels on 2 %.
    """
    rng = np.random.default_rng(SEED)
    fields = [SmoothField(rng, 256) for _ in range(NUM_CLASSES)]
    cloud = SmoothField(rng, 32)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=SIDE_PX,
        width=SIDE_PX,
        dtype="uint8",
        crs="EPSG:32618",
        transform=Affine(10, 0, WEST_M, 0, -10, NORTH_M),
        nodata=MASKED,
        tiled=True,
        compress="zstd",
    ) as dataset:
        for start in range(0, SIDE_PX, STRIP_PX):
            labels = np.zeros((STRIP_PX, SIDE_PX), np.uint8)
            highest = fields[0].strip(start)
            for k, field in enumerate(fields[1:], 1):
                height = field.strip(start)
                labels[height > highest] = k
                np.maximum(highest, height, out=highest)
            odd = rng.random(labels.shape, np.float32) < 0.02
            labels[odd] = rng.integers(0, NUM_CLASSES, np.count_nonzero(odd))
            labels[cloud.strip(start) > 1.0] = MASKED
            dataset.write(labels, 1, window=Window(0, start, SIDE_PX, STRIP_PX))


class SmoothField:
    """Gaussian noise on num_nodes x num_nodes nodes, interpolated to the raster's pixels."""

    def __init__(self, rng: np.random.Generator, num_nodes: int) -> None:
        self._nodes = rng.standard_normal((num_nodes, num_nodes), np.float32)
        place = np.linspace(0, num_nodes - 1, SIDE_PX, dtype=np.float32)
        self._first = np.minimum(place.astype(int), num_nodes - 2)
        self._share = place - self._first

    def strip(self, start: int) -> npt.NDArray[np.float32]:
        """Return float32 (STRIP_PX, SIDE_PX), rows `start` onwards."""
        first, share = self._first, self._share[:, None]
        rows = slice(start, start + STRIP_PX)
        down = self._nodes[first[rows]] * (1 - share[rows])
        down += self._nodes[first[rows] + 1] * share[rows]
        along: npt.NDArray[np.float32] = down[:, first] * (1 - self._share)
        along += down[:, first + 1] * self._share
        return along


def place_grids(num_grids: int) -> tuple[list[Grid], list[Grid]]:
    """Return grids at random places: on the raster's lattice, and in EPSG:32617."""
    rng = np.random.default_rng(SEED + 1)
    places = rng.integers(50, SIDE_PX - patch_size_px() - 50, (num_grids, 2))
    on_lattice = [
        Grid(32618, WEST_M + 10.0 * column, NORTH_M - 10.0 * row) for row, column in places
    ]
    to_zone_17 = Transformer.from_crs(32618, 32617, always_xy=True)
    across = [
        Grid(32617, *to_zone_17.transform(grid.x_origin, grid.y_origin)) for grid in on_lattice
    ]
    return on_lattice, across


# --- measurements -------------------------------------------------------------------------------


def measure_ours(land_cover: LandCover, on_lattice: list[Grid], across: list[Grid]) -> Figures:
    """Time this project's two routes, before anything else can raise the peak of memory."""
    progress(f"ours, {len(on_lattice)} grids on the lattice and {len(across)} in the next zone")
    class_fractions_on(land_cover, on_lattice[0])
    class_fractions_on(land_cover, across[0])
    return {
        "same_lattice_ms": median_ms(land_cover, on_lattice),
        "across_ms": median_ms(land_cover, across),
        "peak_memory_mib_ours": peak_memory_mib(),
    }


def median_ms(land_cover: LandCover, grids: list[Grid], passes: int = 3) -> float:
    """Return milliseconds per grid, the median of a few passes (one takes 0.1 s)."""
    return statistics.median(
        timed(grids, lambda grid: class_fractions_on(land_cover, grid).class_fraction)[0]
        for _ in range(passes)
    )


def measure_same_lattice(
    land_cover: LandCover, path: Path, grids: list[Grid], ours_ms: float
) -> Figures:
    """Time rasterstats and rioxarray on the raster's own lattice."""
    raster = rioxarray.open_rasterio(path).load()
    labels = raster.values[0]
    affine = raster.rio.transform()

    def by_rasterstats(grid: Grid) -> npt.NDArray[np.float64]:
        [counts] = zonal_stats(
            outline(grid), labels, affine=affine, categorical=True, nodata=MASKED
        )
        return shares([counts.get(k, 0) for k in range(NUM_CLASSES)])

    def by_rioxarray(grid: Grid) -> npt.NDArray[np.float64]:
        return rioxarray_fractions(raster, grid)

    def by_rioxarray_cut(grid: Grid) -> npt.NDArray[np.float64]:
        left, bottom, right, top = grid.bounds
        rows = slice(int((NORTH_M - top) / 10), int((NORTH_M - bottom) / 10))
        columns = slice(int((left - WEST_M) / 10), int((right - WEST_M) / 10))
        return rioxarray_fractions(raster.isel(y=rows, x=columns), grid)

    progress(f"rasterstats, {len(grids)} grids")
    by_rasterstats(grids[0])
    rasterstats_ms, from_rasterstats = timed(grids, by_rasterstats)
    whole_ms, _ = timed(grids[:20], by_rioxarray)
    cut_ms, _ = timed(grids[:20], by_rioxarray_cut)
    faster = by_rioxarray if whole_ms < cut_ms else by_rioxarray_cut
    progress(f"rioxarray, {len(grids)} grids")
    rioxarray_ms, from_rioxarray = timed(grids, faster)
    expected = [class_fractions_on(land_cover, grid).class_fraction for grid in grids]
    return {
        "rasterstats_ms": rasterstats_ms,
        "rioxarray_ms": rioxarray_ms,
        "same_lattice_vs_rasterstats": rasterstats_ms / ours_ms,
        "same_lattice_vs_rioxarray": rioxarray_ms / ours_ms,
        "same_lattice_largest_difference": max(
            largest_difference(from_rasterstats, expected),
            largest_difference(from_rioxarray, expected),
        ),
    }


def measure_across(land_cover: LandCover, path: Path, grids: list[Grid], ours_ms: float) -> Figures:
    """Time the plain loop in another zone: rasterio.warp.reproject, then numpy.bincount."""
    with rasterio.open(path) as dataset:
        labels, affine, source = dataset.read(1), dataset.transform, dataset.crs
    target = CRS.from_epsg(32617)

    def by_rasterio(grid: Grid) -> npt.NDArray[np.float64]:
        label = np.full((grid.size_px, grid.size_px), MASKED, np.uint8)
        reproject(
            labels,
            label,
            src_transform=affine,
            src_crs=source,
            src_nodata=MASKED,
            dst_transform=Affine(*grid.transform),
            dst_crs=target,
            dst_nodata=MASKED,
            resampling=Resampling.nearest,
        )
        return shares(np.bincount(label.ravel(), minlength=256)[:NUM_CLASSES])

    progress(f"rasterio, {len(grids)} grids")
    by_rasterio(grids[0])
    rasterio_ms, from_rasterio = timed(grids, by_rasterio)
    ours = [class_fractions_on(land_cover, grid).class_fraction for grid in grids]
    return {
        "rasterio_loop_ms": rasterio_ms,
        "across_vs_rasterio_loop": rasterio_ms / ours_ms,
        "across_largest_difference": largest_difference(from_rasterio, ours),
    }


def measure_dask(land_cover: LandCover, num_grids: int, repeats: int) -> Figures:
    """Time one and two worker processes on the same grids, in turns."""
    _, grids = place_grids(num_grids)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    worker_mib: list[float] = []
    for repeat in range(repeats):
        for num_workers in (1, 2):
            progress(f"Dask, {num_grids} grids, {num_workers} process(es), run {repeat + 1}")
            one_pass_s, peak_mib = dask_pass(land_cover, grids, num_workers)
            seconds[num_workers].append(one_pass_s)
            worker_mib.append(peak_mib)
    one_s, two_s = statistics.median(seconds[1]), statistics.median(seconds[2])
    return {
        "dask_grids": num_grids,
        "dask_one_process_s": seconds[1],
        "dask_two_processes_s": seconds[2],
        "dask_two_vs_one": one_s / two_s,
        "peak_memory_mib_client": peak_memory_mib(),
        "peak_memory_mib_largest_worker": max(worker_mib),
    }


def dask_pass(land_cover: LandCover, grids: list[Grid], num_workers: int) -> tuple[float, float]:
    """Return the seconds of one pass over a warm cluster, and its largest worker's peak, MiB."""
    with (
        LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        consume(class_fractions_for_grids(land_cover, grids[:512], client))
        start = time.perf_counter()
        consume(class_fractions_for_grids(land_cover, grids, client))
        return time.perf_counter() - start, max(client.run(peak_memory_mib).values())


# --- parts --------------------------------------------------------------------------------------


def timed(
    grids: Sequence[Grid], fractions: Callable[[Grid], npt.NDArray[Any]]
) -> tuple[float, list[npt.NDArray[Any]]]:
    """Return milliseconds per grid, and the answers."""
    start = time.perf_counter()
    answers = [fractions(grid) for grid in grids]
    return 1000 * (time.perf_counter() - start) / len(grids), answers


def consume(patches: Iterable[object]) -> None:
    """Take every patch, and keep none."""
    for _ in patches:
        pass


def rioxarray_fractions(raster: xr.DataArray, grid: Grid) -> npt.NDArray[np.float64]:
    """Reproject a raster onto a grid, as rioxarray does it, and count."""
    warped = raster.rio.reproject(
        f"EPSG:{grid.epsg}",
        shape=(grid.size_px, grid.size_px),
        transform=Affine(*grid.transform),
        resampling=Resampling.nearest,
    )
    return shares(np.bincount(warped.values.ravel(), minlength=256)[:NUM_CLASSES])


def outline(grid: Grid) -> dict[str, Any]:
    """Return the grid's outline as GeoJSON."""
    left, bottom, right, top = grid.bounds
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return {"type": "Polygon", "coordinates": [ring]}


def shares(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return counts / their sum; NaN where there are none."""
    values = np.asarray(counts, np.float64)
    total = values.sum()
    return values / total if total else np.full(values.shape, np.nan)


def largest_difference(one: Sequence[npt.NDArray[Any]], other: Sequence[npt.NDArray[Any]]) -> float:
    """Return the largest difference of any fraction where both are labelled."""
    return float(np.nanmax(np.abs(np.asarray(one) - np.asarray(other))))


def peak_memory_mib() -> float:
    """Return the largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a started process also counts the one that started it
        [line] = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        return round(int(line.split()[1]) / 2**10, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)  # bytes, macOS


def progress(message: str) -> None:
    """Say on standard error what runs now."""
    print(f"{message} ...", file=sys.stderr, flush=True)


def as_text(figures: Figures) -> str:
    """Lay the figures out for people."""
    f = figures
    return "\n".join(
        [
            f"class fractions, {f['grids']} grids of {patch_size_px()} px over "
            f"{SIDE_PX} x {SIDE_PX} px; "
            f"load average {f['load_average_at_start']:.2f} to {f['load_average_at_end']:.2f}",
            f"same lattice   {f['same_lattice_ms']:7.3f} ms per grid",
            f"  rasterstats  {f['rasterstats_ms']:7.3f} ms   ratio "
            f"{f['same_lattice_vs_rasterstats']:.1f} (wanted: 5)",
            f"  rioxarray    {f['rioxarray_ms']:7.3f} ms   ratio "
            f"{f['same_lattice_vs_rioxarray']:.1f} (wanted: 20)",
            f"  largest difference of a fraction {f['same_lattice_largest_difference']:.1e}",
            f"across zones   {f['across_ms']:7.3f} ms per grid",
            f"  rasterio     {f['rasterio_loop_ms']:7.3f} ms   ratio "
            f"{f['across_vs_rasterio_loop']:.2f} (wanted: 1)",
            f"  largest difference of a fraction {f['across_largest_difference']:.1e} "
            "(theirs is one nearest label per pixel)",
            f"Dask, {f['dask_grids']} grids across zones, median of "
            f"{len(f['dask_one_process_s'])}: one process "
            f"{statistics.median(f['dask_one_process_s']):.2f} s, two "
            f"{statistics.median(f['dask_two_processes_s']):.2f} s, ratio "
            f"{f['dask_two_vs_one']:.2f} (wanted: 1.5)",
            f"peak memory    {f['peak_memory_mib_ours']:.0f} MiB in process, raster and libraries "
            f"included ({f['peak_memory_mib_before']:.0f} before opening it); with Dask "
            f"{f['peak_memory_mib_client']:.0f} MiB in the client, baselines included, "
            f"{f['peak_memory_mib_largest_worker']:.0f} MiB in the largest worker",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
