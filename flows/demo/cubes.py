"""The cubes of a demo: how each is filled, and what is done with a full one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from flows.command_line.output import Report
from flows.demo.stages import Stages
from groundwork.errors import InputError, TransientError
from groundwork.file_writes import write_atomically
from pipeline.build.builder import BuildSummary
from pipeline.cube.object_storage import ObjectStorage
from pipeline.errors import CubeDamagedError
from pipeline.grids import to_lon_lat
from pipeline.places.files import Locations, write_locations
from pipeline.places.settings import SplitSettings
from pipeline.sources.earth_engine.settings import RebuildSettings
from storage_schema.products import PATCH_SIZE_M
from storage_schema.status import Split

EMULATOR_ADDRESS: Final = "http://127.0.0.1:8585"
"""Where `softcon emulator` listens: the written settings name it; the demo itself takes a free
port."""
_ON_THIS_MACHINE: Final[dict[str, Any]] = {
    "locations_per_batch": 8,
    "earth_engine": {"project": "emulator", "endpoint": EMULATOR_ADDRESS, "credentials": "none"},
    "execution": {"dask": "processes", "workers": 2, "batches_at_once": 1},
}
"""Of every rebuild of a demo."""
_CROP, _SAMPLE = "virginia_coast", "ssl4eo_s12_sample"
VIRGINIA_TIME: Final = "2021-06-19"
"""Date of the crop in the catalogue; the true one is not known."""
_COLUMN_SPLITS: Final = (
    Split.TEST,
    Split.BUFFER,
    Split.TRAIN,
    Split.TRAIN,
    Split.TRAIN,
    Split.BUFFER,
    Split.VALIDATION,
)
"""West to east: one column between two splits belongs to neither. The coast runs through the
middle, the last column is nearly all sea."""
_ALL_TRAIN: Final = SplitSettings(train=1.0, validation=0.0, test=0.0)
_MARGIN_M: Final = 60.0
"""At either side at least: for the step of the lattice that patches are put on."""

Bar = Callable[[str, str], AbstractContextManager[Report]]
"""Makes a progress bar of a title and a unit."""


@dataclass(frozen=True, slots=True)
class DemoCube:
    """One cube of a demo.

    Args:
        name: in the record.
        address: of the cube, a folder.
        title: what it is of.
        build_command: how it is filled by hand.
        build: fills it; returns what was counted.
    """

    name: str
    address: Path
    title: str
    build_command: str
    build: Callable[[], Mapping[str, Any]]


def make_cube(cube: DemoCube, stages: Stages, bar: Bar) -> None:
    """Build, seal, audit and report a cube, each once."""
    address = str(cube.address)
    stages.run(
        f"build {cube.name}", f"Build a cube: {cube.title}", cube.build, command=cube.build_command
    )
    stages.run(
        f"seal {cube.name}",
        "Seal it: statistics, class frequencies, digest",
        lambda: _seal(address, bar),
        command=f"softcon seal {address}",
    )
    stages.run(
        f"audit {cube.name}",
        "Audit it: every checksum, every pixel's range, every rule",
        lambda: _audit(address, bar),
        command=f"softcon audit {address} --all",
    )
    page = cube.address.with_suffix(".html")
    stages.run(
        f"report {cube.name}",
        "Draw the cube",
        lambda: _report(address, page),
        command=f"softcon report {address} --out {page}",
    )


def _seal(address: str, bar: Bar) -> Mapping[str, Any]:
    from pipeline.cube.seal import seal_cube

    with bar("sealing", "batches") as progress:
        found = seal_cube(ObjectStorage(address), progress)
    return {"digest": found.digest, "patches": found.num_patches}


def _audit(address: str, bar: Bar) -> Mapping[str, Any]:
    from pipeline.cube.audit import audit_cube

    with bar("auditing", "batches") as progress:
        found = audit_cube(ObjectStorage(address), all_batches=True, progress=progress)
    if not found.passed:
        raise CubeDamagedError(
            f"{address} has {len(found.violations)} violations, the first: {found.violations[0]}; "
            "remove the folder of the demo and begin again"
        )
    return {"violations": 0, "batches": found.num_batches}


def _report(address: str, page: Path) -> None:
    from pipeline.report.page import report_cube

    report_cube(ObjectStorage(address), page)


# --- simulated ----------------------------------------------------------------------------------


def simulated_cube(out: Path, num_locations: int, bar: Bar) -> DemoCube:
    """Return a small cube of the simulated world, fetched through the Earth Engine client on Dask.

    Args:
        out: folder of the demo; the settings are written there.
        num_locations: around populous cities.
        bar: shows the progress.
    """
    values = {
        "cube": str(out / "cube.zarr"),
        "locations": {
            "kind": "gaussian_around_cities",
            "seed": 0,
            "num_locations": num_locations,
            # Few locations: each split needs some of them.
            "split": {"train": 0.7, "validation": 0.15, "test": 0.15},
        },
        "seasons": {"reference_dates": ["2021-09-22", "2021-06-21", "2021-03-20", "2020-12-21"]},
        **_ON_THIS_MACHINE,
    }
    config = _write_settings(out / "rebuild.yaml", values, "softcon emulator &")

    def build() -> Mapping[str, Any]:
        from earth_engine_emulator.settings import EmulatorSettings

        return _rebuild(values, out, EmulatorSettings(), bar)

    return DemoCube(
        "cube",
        out / "cube.zarr",
        f"{num_locations} simulated places, 4 seasons, 4 products",
        f"softcon rebuild {config}",
        build,
    )


def _rebuild(values: Mapping[str, Any], folder: Path, world: Any, bar: Bar) -> Mapping[str, Any]:
    """Start an emulator and rebuild from it."""
    from earth_engine_emulator.running import emulator_in_process
    from pipeline.build.rebuild import rebuild_cube

    with emulator_in_process(world) as emulator, bar("rebuilding", "batches") as progress:
        service = {**values["earth_engine"], "endpoint": emulator.url}
        settings = RebuildSettings.model_validate({**values, "earth_engine": service})
        summary = rebuild_cube(settings, folder, progress=progress)
    _check(summary)
    spent = summary.spent
    return {
        "requests": spent.num_requests,
        "bytes_received": spent.bytes_received,
        "counts": dict(sorted(summary.counts.items())),
    }


def _check(summary: BuildSummary) -> None:
    if summary.failures:
        batch, error = next(iter(sorted(summary.failures.items())))
        raise TransientError(
            f"batches left: {len(summary.failures)}, the first {batch} ({error}); the same command "
            "tries them again"
        )


def _write_settings(path: Path, values: Mapping[str, Any], first: str) -> Path:
    text = yaml.safe_dump(dict(values), sort_keys=False)
    write_atomically(path, f"# Written by softcon demo. By hand: {first}\n{text}")
    return path


# --- real ---------------------------------------------------------------------------------------


def check_real_data(data: Path) -> None:
    """Look for the data before a folder is made for them.

    Raises:
        InputError: something is not there.
    """
    for name in (_CROP, _SAMPLE):
        if not (data / name).is_dir():
            raise InputError(
                f"{data} has no folder {name}: --real takes the folder that has {_CROP} and "
                f"{_SAMPLE}"
            )


def virginia_cube(out: Path, data: Path, bar: Bar) -> DemoCube:
    """Return a cube of a real Sentinel-2 crop, which the emulator serves as Earth Engine would.

    Args:
        out: folder of the demo.
        data: folder with ``virginia_coast``.
        bar: shows the progress.

    Raises:
        InputError: the crop is not there.
    """
    rasters = data / _CROP
    write_locations(out / "virginia_coast.parquet", patches_of_raster(rasters / "B02.jp2"))
    values = {
        "cube": str(out / "virginia_coast.zarr"),
        "locations_file": "virginia_coast.parquet",
        "products": ["s2_l1c", "dynamic_world"],
        "seasons": {"reference_dates": [VIRGINIA_TIME], "half_window_days": 1},
        **_ON_THIS_MACHINE,
    }
    start = f"softcon emulator --world configs/emulator/virginia_coast --rasters {rasters} &"
    config = _write_settings(out / "virginia_coast.yaml", values, start)

    def build() -> Mapping[str, Any]:
        from earth_engine_emulator.settings import EmulatorSettings

        with as_file(files("flows.demo") / "virginia_coast") as catalogue:
            world = EmulatorSettings(world=str(catalogue), rasters=rasters)
            return _rebuild(values, out, world, bar)

    return DemoCube(
        "virginia_coast",
        out / "virginia_coast.zarr",
        "a real Sentinel-2 crop, Virginia's coast",
        f"{start}\nsoftcon rebuild {config}",
        build,
    )


def patches_of_raster(path: Path) -> Locations:
    """Return the patches that fit into a raster, edge to edge, split by columns.

    Raises:
        InputError: the raster is not there, or has no room for enough columns.
    """
    import rasterio

    try:
        with rasterio.open(path) as raster:
            bounds, epsg = raster.bounds, raster.crs.to_epsg()
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path} cannot be read ({error}): fetch the crop again") from error
    spaces = (bounds.right - bounds.left, bounds.top - bounds.bottom)
    columns, rows = (math.floor((space - 2 * _MARGIN_M) / PATCH_SIZE_M) for space in spaces)
    if columns < len(_COLUMN_SPLITS):
        raise InputError(f"{path} has room for {columns} columns of patches, not for 7")
    columns = len(_COLUMN_SPLITS)
    column, row = (part.ravel() for part in np.meshgrid(np.arange(columns), np.arange(rows)))
    # In the middle: the footprint of an image is a little smaller than its finest band.
    x = (bounds.left + bounds.right) / 2 + (column + 0.5 - columns / 2) * PATCH_SIZE_M
    y = (bounds.top + bounds.bottom) / 2 - (row + 0.5 - rows / 2) * PATCH_SIZE_M
    longitude, latitude = to_lon_lat(epsg).transform(x, y)
    return Locations(
        [f"column-{c}-row-{r}" for c, r in zip(column.tolist(), row.tolist(), strict=True)],
        np.asarray(longitude),
        np.asarray(latitude),
        np.asarray([_COLUMN_SPLITS[c] for c in column], dtype=np.uint8),
        {"kind": "patches of a raster, split by columns", "raster": path.name},
    )


def ssl4eo_cube(out: Path, data: Path, bar: Bar) -> DemoCube:
    """Return a cube of the sample of SSL4EO-S12 in its published folders.

    Args:
        out: folder of the demo.
        data: folder with ``ssl4eo_s12_sample``.
        bar: shows the progress.
    """
    root = data / _SAMPLE
    labels = root / "ssl4eo_s12_ml_sample.json"
    address = out / "ssl4eo_s12_sample.zarr"

    def build() -> Mapping[str, Any]:
        from pipeline.build.rebuild import rebuild_cube
        from pipeline.sources.ssl4eo_s12.settings import ImportSettings

        settings = ImportSettings(
            root=str(root), cube=str(address), labels=str(labels), split=_ALL_TRAIN
        )
        with bar("importing", "batches") as progress:
            summary = rebuild_cube(settings, progress=progress)
        _check(summary)
        return {"counts": dict(sorted(summary.counts.items()))}

    return DemoCube(
        "ssl4eo_s12_sample",
        address,
        "a real location of SSL4EO-S12",
        f"softcon import ssl4eo-s12 --root {root} --labels {labels} --out {address} --split 1,0,0",
        build,
    )
