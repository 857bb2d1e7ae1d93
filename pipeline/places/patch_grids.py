"""Grids of patches, read from a list of places or from a table that has them already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError
from pipeline.grids import Grid, from_lon_lat, patch_grid
from pipeline.places.files import column_of_numbers, column_of_texts, read_places, read_table
from pipeline.places.settings import FromFile
from pipeline.places.utm_tiling import SOUTHERN_OFFSET_M, utm_zone
from storage_schema.products import PATCH_SIZE_M

LATTICE_M: Final = 60
_GRID_COLUMNS: Final = ("epsg", "x_origin", "y_origin")


@dataclass(frozen=True, slots=True)
class PatchGrids:
    """Locations with the grids of their patches, in the order of the file.

    Args:
        location_id: unique.
        grids: 10 m; None where the table knows no grid of the location.
    """

    location_id: Sequence[str]
    grids: Sequence[Grid | None]

    def __len__(self) -> int:
        return len(self.location_id)


def read_grids(path: Path) -> PatchGrids:
    """Read grids from a CSV or (Geo)Parquet file.

    With the columns ``epsg``, ``x_origin`` and ``y_origin`` the grids are taken as they are; a
    location that has several rows, as in a cube's ``patches.parquet``, counts once. Without them a
    patch is put around each longitude and latitude, on the 60 m lattice of the UTM zone.

    Raises:
        InputError: the file cannot be read, lacks columns, or holds a bad id, place or grid.
    """
    settings = FromFile(kind="file", path=str(path))
    table = read_table(path, settings)
    if not set(_GRID_COLUMNS) <= set(table.column_names):
        places = read_places(settings, Path())
        grids = grids_around(places.longitude, places.latitude)
        return PatchGrids(places.location_id, grids)
    ids = column_of_texts(table, settings.id_column, path)
    epsg, x, y = (column_of_numbers(path, table, name) for name in _GRID_COLUMNS)
    found: dict[str, Grid | None] = {}
    for row, name in enumerate(ids):
        grid = _grid_of_row(path, name, epsg[row], x[row], y[row])
        if found.setdefault(name, grid) != grid:
            raise InputError(f"{path} has two grids of location {name}: leave one out")
    return PatchGrids(list(found), list(found.values()))


def grids_around(
    longitude: npt.NDArray[np.float64], latitude: npt.NDArray[np.float64]
) -> list[Grid]:
    """Return the grids of patches around places, on the lattice that Sentinel-2's tiles share.

    Args:
        longitude: of the centres wanted, deg, (N,).
        latitude: likewise; each centre moves by up to 42 m.
    """
    grids = []
    codes = np.where(latitude < 0, 32700, 32600) + utm_zone(longitude, latitude)
    for lon, lat, code in zip(longitude.tolist(), latitude.tolist(), codes.tolist(), strict=True):
        x, y = from_lon_lat(code).transform(lon, lat)
        south = SOUTHERN_OFFSET_M if code > 32700 else 0.0
        grids.append(
            patch_grid(
                code,
                LATTICE_M * math.floor((x - PATCH_SIZE_M / 2) / LATTICE_M + 0.5),
                south + LATTICE_M * math.floor((y + PATCH_SIZE_M / 2 - south) / LATTICE_M + 0.5),
            )
        )
    return grids


def _grid_of_row(path: Path, name: str, epsg: float, x: float, y: float) -> Grid | None:
    if not epsg > 0 or not math.isfinite(x) or not math.isfinite(y):
        return None  # A cube has such a row where the grid could not be recovered.
    if not epsg.is_integer():
        raise InputError(f"{path}: location {name} has epsg {epsg:g}, which is not a code")
    return patch_grid(int(epsg), x, y)
