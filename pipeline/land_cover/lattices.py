"""Where a raster's pixels lie, and which of them lie under a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from pyproj import CRS

from pipeline.grids import Grid
from storage_schema.land_cover import MASKED

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LATTICE_TOLERANCE_PX: Final = 1e-6
"""Corners this close to a raster's pixel corners lie on them; float64 eastings round at 1e-10 m."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Where a raster's pixels lie.

    Args:
        crs: anything pyproj reads; ``EPSG:32618`` where the code is known.
        transform: affine coefficients (a, b, c, d, e, f) from (column, row) to (x, y), CRS units.
        height: rows.
        width: columns.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @classmethod
    def of_grid(cls, grid: Grid) -> Lattice:
        """Return the lattice of a location's grid."""
        return cls(f"EPSG:{grid.epsg}", grid.transform, grid.size_px, grid.size_px)

    @property
    def is_rotated(self) -> bool:
        """Whether rows do not run along x."""
        return self.transform[1] != 0 or self.transform[3] != 0

    def row_column(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return fractional (row, column) of points; pixel (0, 0) spans 0 to 1 in both."""
        a, b, c, d, e, f = self.transform
        if not self.is_rotated:
            return (y - f) / e, (x - c) / a
        determinant = a * e - b * d
        return (a * (y - f) - d * (x - c)) / determinant, (e * (x - c) - b * (y - f)) / determinant


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of raster pixels; it may reach beyond the raster, or lie wholly outside."""

    row: int
    column: int
    height: int
    width: int


class LabelRaster(Protocol):
    """Labels that can be read by windows."""

    @property
    def lattice(self) -> Lattice:
        """Where the pixels lie."""
        ...

    def read_window(self, window: Window) -> Labels:
        """Return uint8 (height, width): 0..8, 255 where masked or outside the raster."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayLabels:
    """Labels in memory: uint8 (height, width), 0..8 or 255."""

    labels: Labels
    lattice: Lattice

    def read_window(self, window: Window) -> Labels:
        """Return the window's labels; 255 outside the raster."""
        return read_padded(
            lambda w: self.labels[w.row : w.row + w.height, w.column : w.column + w.width],
            self.lattice,
            window,
        )


def read_padded(read: Callable[[Window], Labels], lattice: Lattice, window: Window) -> Labels:
    """Read the part of a window that the raster covers, and mask the rest.

    Args:
        read: called with a window inside the raster, or not at all.
        lattice: the raster's.
        window: what to return.

    Returns:
        uint8 (window.height, window.width), a new array.
    """
    top, left = max(window.row, 0), max(window.column, 0)
    bottom = min(window.row + window.height, lattice.height)
    right = min(window.column + window.width, lattice.width)
    if bottom <= top or right <= left:
        return np.full((window.height, window.width), MASKED, np.uint8)
    inside = read(Window(top, left, bottom - top, right - left))
    if inside.shape == (window.height, window.width):
        return np.array(inside)
    padded = np.full((window.height, window.width), MASKED, np.uint8)
    padded[top - window.row : bottom - window.row, left - window.column : right - window.column] = (
        inside
    )
    return padded


def same_lattice(raster: Lattice, grid: Grid) -> Window | None:
    """Return the grid's pixels as a window of the raster, or None where the two do not agree.

    They agree where the CRS is the same, the raster is north-up, and the grid's corners lie within
    1e-6 px of pixel corners as many pixels apart as the grid has.
    """
    if raster.is_rotated or not same_crs(grid.epsg, raster.crs):
        return None
    a, _, c, _, e, f = raster.transform
    left, bottom, right, top = grid.bounds
    column, last_column = (left - c) / a, (right - c) / a
    row, last_row = (top - f) / e, (bottom - f) / e
    for first, last in ((column, last_column), (row, last_row)):
        nearest = round(first)
        if abs(first - nearest) > LATTICE_TOLERANCE_PX:
            return None
        if abs(last - nearest - grid.size_px) > LATTICE_TOLERANCE_PX:
            return None
    return Window(round(row), round(column), grid.size_px, grid.size_px)


@lru_cache(maxsize=256)
def same_crs(epsg: int, crs: str) -> bool:
    """Tell whether a raster's CRS is the one with this EPSG code, whatever its axis order."""
    if crs == f"EPSG:{epsg}":
        return True
    return bool(CRS.from_epsg(epsg).equals(CRS.from_user_input(crs), ignore_axis_order=True))
