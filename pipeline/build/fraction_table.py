"""Class fractions of any land-cover raster on many grids, as a table."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from groundwork.errors import InputError
from groundwork.file_writes import atomic_file
from pipeline.build.builder import Execution, dask_client
from pipeline.land_cover.class_fractions import (
    LandCoverPatch,
    class_fractions_for_grids,
    open_land_cover,
)
from pipeline.places.patch_grids import PatchGrids, read_grids
from storage_schema.land_cover import CLASS_NAMES, NUM_CLASSES, PRESENT

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FractionSummary:
    """What a table of class fractions holds.

    Args:
        num_grids: rows.
        statuses: label status -> rows; ``no_grid`` counts locations without a grid.
        num_resampled: rows whose grid has another CRS or lattice than the raster.
        mean_fraction: class -> mean over the labelled rows; None without any.
    """

    num_grids: int
    statuses: dict[str, int]
    num_resampled: int
    mean_fraction: dict[str, float | None]


def write_class_fractions(
    raster: Path,
    grids_file: Path,
    out: Path,
    *,
    nodata: float | None = None,
    min_class_fraction: float = 0.0,
    execution: Execution | None = None,
    progress: Progress = lambda _done, _of: None,
) -> FractionSummary:
    """Derive the class fractions of every grid of a file, and write them as Parquet.

    Same input, same bytes, whatever the number of workers. The columns are named as in a cube's
    ``patches.parquet``.

    Args:
        raster: one band of Dynamic World classes, or nine of probabilities; any CRS and lattice.
        grids_file: CSV or (Geo)Parquet; see `pipeline.places.patch_grids.read_grids`.
        out: the .parquet file; replaced if it exists.
        nodata: value of pixels without data; by default what the raster declares.
        min_class_fraction: a class is present where its fraction exceeds this.
        execution: processes or a cluster for grids that need resampling; None works here.
        progress: called with (grids done, grids).

    Raises:
        InputError: a file cannot be read or written, or the raster holds no classes.
        LimitReachedError: the disk is full.
    """
    if out.suffix != ".parquet":
        raise InputError(f"{out} has to end with .parquet")
    placed = read_grids(grids_file)
    land_cover = open_land_cover(raster, nodata=nodata)
    with contextlib.ExitStack() as stack:
        client = None
        if execution is not None and execution != Execution():
            client = stack.enter_context(dask_client(execution))
        known = [grid for grid in placed.grids if grid is not None]
        patches = class_fractions_for_grids(
            land_cover, known, client, min_class_fraction=min_class_fraction
        )
        found = _with_gaps(placed, patches, progress)
        table, summary = _tabulate(placed, found)
    made = {
        "raster": raster.name,
        "nodata": None if land_cover.nodata is None else float(land_cover.nodata),
        "min_class_fraction": min_class_fraction,
        "software": {"softcon-cube": version("softcon-cube")},
    }
    metadata = {"softcon_class_fractions": json.dumps(made, sort_keys=True)}
    with atomic_file(out) as part:
        pq.write_table(table.replace_schema_metadata(metadata), part, compression="zstd")
    return summary


def _with_gaps(
    placed: PatchGrids, patches: Iterator[LandCoverPatch], progress: Progress
) -> list[LandCoverPatch | None]:
    found: list[LandCoverPatch | None] = []
    for grid in placed.grids:
        found.append(None if grid is None else next(patches))
        progress(len(found), len(placed))
    return found


def _tabulate(
    placed: PatchGrids, found: list[LandCoverPatch | None]
) -> tuple[pa.Table, FractionSummary]:
    fractions = np.full((len(found), NUM_CLASSES), np.nan, np.float32)
    present = np.full((len(found), NUM_CLASSES), -1, np.int16)
    for row, patch in enumerate(found):
        if patch is not None:
            fractions[row], present[row] = patch.class_fraction, patch.class_present
    columns: dict[str, Any] = {"location_id": pa.array(placed.location_id, pa.string())}
    kinds = {"epsg": pa.int32(), "x_origin": pa.float64(), "y_origin": pa.float64()}
    for name, kind in kinds.items():
        of_grids = [None if grid is None else getattr(grid, name) for grid in placed.grids]
        columns[name] = pa.array(of_grids, kind)
    statuses = ["no_grid" if p is None else p.label_status.name.lower() for p in found]
    columns["label_status"] = pa.array(statuses)
    labelled = [None if patch is None else patch.labelled_fraction for patch in found]
    columns["labelled_fraction"] = pa.array(labelled, pa.float32())
    for index, name in enumerate(CLASS_NAMES):
        values, flags = fractions[:, index], present[:, index]
        known = (flags == 0) | (flags == PRESENT)
        columns[f"class_fraction_{name}"] = pa.array(values, mask=np.isnan(values))
        columns[f"class_present_{name}"] = pa.array(flags == PRESENT, mask=~known)
    has_map = ~np.isnan(fractions).all(axis=1)
    means = fractions[has_map].astype(np.float64).mean(axis=0) if has_map.any() else None
    return pa.table(columns), FractionSummary(
        num_grids=len(found),
        statuses=dict(sorted(Counter(statuses).items())),
        num_resampled=sum(patch is not None and patch.resampled for patch in found),
        mean_fraction={
            name: None if means is None else float(means[index])
            for index, name in enumerate(CLASS_NAMES)
        },
    )
