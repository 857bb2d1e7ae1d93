"""Windows of pixel lattices, and where on Earth their pixels lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer

from earth_engine_emulator.worlds import Lattice

Floats = npt.NDArray[np.float64]

KNOT_PX: Final = 24
"""Positions are exact at every so many pixels and interpolated between: to a millimetre at 10 m.
The knots are always the same, so that a pixel has one place in whatever window it is read."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A window of a lattice; rows and columns may lie outside the image.

    Args:
        lattice: of the pixels.
        row: first.
        column: first.
        height: rows.
        width: columns.
    """

    lattice: Lattice
    row: int
    column: int
    height: int
    width: int

    def padded(self, pixels: int) -> PixelBox:
        """Return the window with so many pixels more on every side."""
        return PixelBox(
            self.lattice,
            self.row - pixels,
            self.column - pixels,
            self.height + 2 * pixels,
            self.width + 2 * pixels,
        )

    def easting_northing(self) -> tuple[Floats, Floats]:
        """Return x of the columns (width,) and y of the rows (height,), pixel centres."""
        lattice = self.lattice
        x = lattice.x_origin + lattice.x_scale * (self.column + 0.5 + np.arange(self.width))
        y = lattice.y_origin + lattice.y_scale * (self.row + 0.5 + np.arange(self.height))
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    def knots(self) -> PixelBox:
        """Return the knots around the window, as pixels of a lattice `KNOT_PX` times coarser.

        Knot (0, 0) is the upper left corner of pixel (0, 0).
        """
        fine = self.lattice
        coarse = Lattice(
            fine.crs,
            fine.x_scale * KNOT_PX,
            fine.y_scale * KNOT_PX,
            fine.x_origin - fine.x_scale * KNOT_PX / 2,
            fine.y_origin - fine.y_scale * KNOT_PX / 2,
        )
        row, column = self.row // KNOT_PX, self.column // KNOT_PX
        last_row = (self.row + self.height - 1) // KNOT_PX + 1
        last_column = (self.column + self.width - 1) // KNOT_PX + 1
        return PixelBox(coarse, row, column, last_row - row + 1, last_column - column + 1)

    def between_knots(self, values: npt.NDArray[np.floating]) -> Floats:
        """Interpolate values given at `knots` to the pixel centres, (height, width)."""
        row, column = self.row // KNOT_PX, self.column // KNOT_PX
        y = (self.row + np.arange(self.height) + 0.5) / KNOT_PX - row
        x = (self.column + np.arange(self.width) + 0.5) / KNOT_PX - column
        iy, ix = y.astype(np.int64), x.astype(np.int64)
        fy, fx = (y - iy)[:, None], (x - ix)[None, :]
        along = values[:, ix] * (1 - fx) + values[:, ix + 1] * fx
        return np.asarray(along[iy] * (1 - fy) + along[iy + 1] * fy)


@lru_cache(maxsize=256)
def to_lon_lat(crs: str) -> Transformer:
    """Return the transformer from a CRS to longitude, latitude (deg)."""
    return Transformer.from_crs(CRS.from_user_input(crs), CRS.from_epsg(4326), always_xy=True)


@lru_cache(maxsize=256)
def from_lon_lat(crs: str) -> Transformer:
    """Return the transformer from longitude, latitude (deg) to a CRS."""
    return Transformer.from_crs(CRS.from_epsg(4326), CRS.from_user_input(crs), always_xy=True)


def mercator(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return spherical Mercator coordinates, scaled to 0..1 around the Earth."""
    u = np.asarray(longitude, dtype=np.float64) / 360.0 + 0.5
    radians = np.radians(np.clip(np.asarray(latitude, dtype=np.float64), -88.0, 88.0))
    return u, np.arcsinh(np.tan(radians)) / (2 * np.pi) + 0.5
