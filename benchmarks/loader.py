"""How fast patches come from a cube, against the limit and against what one would otherwise write.

All read the same shuffled patches of one cube on this machine, warm:

1. the limit: bare tensorstore futures over the same chunks, nothing kept;
2. ours: `training.reading.patch_reader` up to tensors, two batches ahead;
3. an xarray Dataset (zarr-python) in a PyTorch DataLoader with two worker processes;
4. one GeoTIFF per band, as SSL4EO-S12 is published: not compressed (rasterio, one process).

Run: ``python -m benchmarks.loader [--cube CUBE] [--short] [--json]``; without a cube, one is made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import torch
import xarray as xr

from benchmarks.training_cube import make_cube
from storage_schema.products import PRODUCTS, ProductName
from storage_schema.status import Split
from training.config import DataSettings
from training.reading.patch_index import PatchIndex, open_index
from training.reading.patch_reader import PatchReader, PatchRefs, arrays_of

BATCH: Final = 64
REPEATS: Final = 5
PATCHES, PATCHES_SHORT = 512, 192
SLOW_PATCHES: Final = 64
"""Of the GeoTIFF folder: it is slow, and a rate is a rate."""


def batches(refs: PatchRefs) -> Iterator[PatchRefs]:
    """Cut into batches."""
    for start in range(0, len(refs), BATCH):
        chosen = slice(start, start + BATCH)
        yield PatchRefs(refs.rows[chosen], refs.seasons[chosen])


def bare(index: PatchIndex, arrays: Sequence[str], refs: PatchRefs) -> None:
    """Read with tensorstore and keep nothing; two batches ahead, as ours."""
    stores = {
        (number, name): cube.open_array(name)
        for number, cube in enumerate(index.cubes)
        for name in arrays
    }
    waiting: list[list[Any]] = []
    for batch in batches(refs):
        waiting.append(
            [
                stores[int(index.cube[row]), name][int(index.location[row]), int(season)].read()
                for row, season in zip(batch.rows, batch.seasons, strict=True)
                for name in arrays
            ]
        )
        if len(waiting) > 2:
            for future in waiting.pop(0):
                future.result()
    for begun in waiting:
        for future in begun:
            future.result()


def ours(reader: PatchReader, refs: PatchRefs) -> None:
    """Read up to tensors."""
    for ((batch,),) in reader.prefetch((([b],) for b in batches(refs)), 2):
        assert len(batch.refs)


class XarrayPatches(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """What a user of xarray would write."""

    def __init__(self, cube: str, arrays: Sequence[str], refs: list[tuple[int, int]]) -> None:
        self._cube, self._arrays, self._refs = cube, list(arrays), refs
        self._dataset: xr.Dataset | None = None

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        """Return one patch."""
        if self._dataset is None:
            self._dataset = xr.open_zarr(self._cube, chunks=None, mask_and_scale=False)
        location, season = self._refs[at]
        return {
            name: torch.from_numpy(self._dataset[name][location, season].to_numpy())
            for name in self._arrays
        }


def xarray_loader(cube: str, arrays: Sequence[str], refs: list[tuple[int, int]]) -> float:
    """Return seconds for all patches, workers already started."""
    loader = torch.utils.data.DataLoader(
        XarrayPatches(cube, arrays, refs),
        batch_size=BATCH,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )
    for _ in loader:  # Starts the workers and warms the file cache.
        pass
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def write_geotiffs(
    folder: Path, index: PatchIndex, modality: Sequence[ProductName], refs: PatchRefs
) -> list[Path]:
    """Write patches as SSL4EO-S12 publishes them; return a folder per patch.

    One GeoTIFF per band, not compressed, in a geographic CRS; backscatter in dB as float32.
    """
    reader = PatchReader(index, modality)
    batch = reader.read(refs)
    folders = []
    for at in range(len(refs)):
        place = folder / f"{at:05d}"
        place.mkdir(parents=True)
        for name in modality:
            for group in PRODUCTS[name].groups:
                planes = batch.pixels[group.array][at].numpy()
                scale = PRODUCTS[name].scale_factor
                if scale is not None:
                    planes = planes.astype(np.float32) * np.float32(scale)
                for band, plane in zip(group.bands, planes, strict=True):
                    with rasterio.open(
                        place / f"{band}.tif", "w", driver="GTiff", width=plane.shape[1],
                        height=plane.shape[0], count=1, dtype=plane.dtype, crs="EPSG:4326",
                        transform=rasterio.Affine(1e-4, 0, 73.0, 0, -1e-4, 30.0),
                    ) as file:  # fmt: skip
                        file.write(plane, 1)
        folders.append(place)
    return folders


def read_geotiffs(folders: Sequence[Path]) -> None:
    """Read every band of every patch."""
    for folder in folders:
        for file in sorted(folder.iterdir()):
            with rasterio.open(file) as dataset:
                torch.from_numpy(dataset.read(1))


def best_of(work: Callable[[], object]) -> float:
    """Return the median of some repeats, seconds."""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measure(cube: str, modality: tuple[ProductName, ...], num: int) -> dict[str, Any]:
    """Measure all readers on one modality."""
    index = open_index(
        DataSettings.model_validate({"cubes": [cube], "modality": modality}), Split.TRAIN
    )
    rows, seasons = np.nonzero(index.complete)
    order = np.random.default_rng(0).permutation(len(rows))
    chosen = np.resize(order, num)
    refs = PatchRefs(rows[chosen], seasons[chosen])
    arrays = arrays_of(modality)
    patch_bytes = sum(
        len(g.bands) * g.size_px**2 * np.dtype(PRODUCTS[n].dtype).itemsize
        for n in modality
        for g in PRODUCTS[n].groups
    )
    reader = PatchReader(index, modality)
    ours(reader, refs)
    # Alternating, so that a busy moment meets both.
    limit_s, ours_s = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        bare(index, arrays, refs)
        limit_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        ours(reader, refs)
        ours_s.append(time.perf_counter() - began)
    places = [
        (int(index.location[row]), int(season))
        for row, season in zip(refs.rows, refs.seasons, strict=True)
    ]
    xarray_s = xarray_loader(cube, arrays, places)
    with tempfile.TemporaryDirectory() as folder:
        few = PatchRefs(refs.rows[:SLOW_PATCHES], refs.seasons[:SLOW_PATCHES])
        folders = write_geotiffs(Path(folder), index, modality, few)
        tiff_s = best_of(lambda: read_geotiffs(folders)) / len(folders) * num
    own, limit = statistics.median(ours_s), statistics.median(limit_s)
    rate = {
        name: num / seconds
        for name, seconds in (
            ("limit", limit), ("ours", own), ("xarray_two_workers", xarray_s), ("geotiff", tiff_s),
        )
    }  # fmt: skip
    return {
        "modality": "+".join(modality),
        "patches": num,
        "mb_per_patch": patch_bytes / 1e6,
        "patches_per_s": rate,
        "ours_mb_per_s": rate["ours"] * patch_bytes / 1e6,
        "of_the_limit": rate["ours"] / rate["limit"],
        "times_xarray": rate["ours"] / rate["xarray_two_workers"],
        "times_geotiff": rate["ours"] / rate["geotiff"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cube", help="a sealed cube with s2_l1c and s1_grd")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    num = PATCHES_SHORT if arguments.short else PATCHES
    with tempfile.TemporaryDirectory() as folder:
        cube = arguments.cube or make_cube(Path(folder) / "cube.zarr", 64)
        modalities: tuple[ProductName, ...] = ("s2_l1c", "s1_grd")
        found = [measure(cube, (name,), num) for name in modalities]
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for one in found:
        sys.stdout.write(
            f"{one['modality']}: ours {one['patches_per_s']['ours']:.0f} patches/s, "
            f"{one['ours_mb_per_s']:.0f} MB/s: {one['of_the_limit']:.2f} of bare tensorstore, "
            f"{one['times_xarray']:.1f} x xarray in a DataLoader with two workers, "
            f"{one['times_geotiff']:.1f} x one GeoTIFF per band\n"
        )


if __name__ == "__main__":
    main()
