"""Pixel grids, and where their pixel centres fall on another lattice."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.expressions.projections import (
    Affine,
    Coordinates,
    Projection,
    transform_coordinates,
)

Indices = npt.NDArray[np.int64]

MAX_PLACEMENT_ERROR_PX = 0.005
"""Largest error of an interpolated position; positions are exact to 0.01 px."""
_FIRST_STEP_PX = 32
_EDGE_TOLERANCE_PX = 1e-6
"""Positions this close to a pixel's edge lie on it: rounding of the transform, not geography."""


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """A rectangle of pixels.

    Args:
        projection: of pixel (0, 0)'s outer corner.
        width: pixels.
        height: pixels.
    """

    projection: Projection
    width: int
    height: int
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "_hash",
            hash((self.projection.transform, self.width, self.height, self.projection.crs)),
        )

    def __hash__(self) -> int:
        return self._hash

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.height, self.width

    def centres(self) -> tuple[Coordinates, Coordinates]:
        """Return the x and y of all pixel centres, float64 (height, width) each."""
        columns = np.arange(self.width) + 0.5
        rows = np.arange(self.height) + 0.5
        return apply_affine(self.projection.transform, columns[None, :], rows[:, None])

    def outline(self, points_per_side: int = 8) -> tuple[Coordinates, Coordinates]:
        """Return x and y along the outer edge, closed, float64 (4 * points_per_side + 1,)."""
        t = np.arange(points_per_side) / points_per_side
        columns = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t), [0.0]])
        rows = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t, [0.0]])
        return apply_affine(self.projection.transform, columns * self.width, rows * self.height)


def apply_affine(
    transform: Affine, columns: Coordinates, rows: Coordinates
) -> tuple[Coordinates, Coordinates]:
    """Return the coordinates of positions (px) in a projection's CRS."""
    a, b, c, d, e, f = transform
    x = a * columns + b * rows + c
    y = d * columns + e * rows + f
    return np.broadcast_arrays(x, y)[0], np.broadcast_arrays(x, y)[1]


def invert_affine(
    transform: Affine, x: Coordinates, y: Coordinates
) -> tuple[Coordinates, Coordinates]:
    """Return the positions (columns, rows; px) of coordinates in a projection's CRS."""
    a, b, c, d, e, f = transform
    determinant = a * e - b * d
    # Coordinates that a projection does not have are infinite, and stay not finite.
    with np.errstate(invalid="ignore"):
        dx, dy = x - c, y - f
        return (e * dx - b * dy) / determinant, (a * dy - d * dx) / determinant


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Positions (px) of a grid's pixel centres on a lattice.

    Args:
        rows: float64, (height, 1) where the axes are parallel, else (height, width).
        columns: float64, (1, width) where the axes are parallel, else (height, width).
        nearest_rows: int64, the pixel that each position lies in; shaped as `rows`.
        nearest_columns: shaped as `columns`.
        row_span: least and greatest of the nearest rows.
        column_span: least and greatest of the nearest columns.
        contiguous: whether the nearest pixels are a window of the lattice, each once.
        on_centres: whether every position is the centre of a pixel, so that nothing resamples.
    """

    rows: Coordinates
    columns: Coordinates
    nearest_rows: Indices
    nearest_columns: Indices
    row_span: tuple[int, int]
    column_span: tuple[int, int]
    contiguous: bool
    on_centres: bool

    @property
    def parallel(self) -> bool:
        """Whether rows and columns are independent."""
        return bool(self.rows.shape[1] == 1 and self.columns.shape[0] == 1)


def place(grid: PixelGrid, lattice: Projection) -> Placement:
    """Find where the pixel centres of a grid fall on a lattice.

    Same CRS and parallel axes: exact and separable. Otherwise the transformation is evaluated on
    every 32nd pixel, compared with a grid of half the step, and refined until the positions
    between are right to 0.005 px.
    """
    a, b, c, d, e, f = grid.projection.transform
    la, lb, lc, ld, le, lf = lattice.transform
    if grid.projection.crs == lattice.crs and b == d == lb == ld == 0.0:
        columns = ((a * (np.arange(grid.width) + 0.5) + c) - lc) / la
        rows = ((e * (np.arange(grid.height) + 0.5) + f) - lf) / le
        return _placement(rows[:, None], columns[None, :])
    step = _FIRST_STEP_PX
    while step > 1:
        found = _interpolated(grid, lattice, step)
        if found is not None:
            return _placement(*found)
        step //= 4
    x, y = grid.centres()
    columns, rows = _project(grid, lattice, x, y)
    return _placement(rows, columns)


def _placement(rows: Coordinates, columns: Coordinates) -> Placement:
    near_rows, near_columns = _floor(rows), _floor(columns)
    parallel = rows.shape[1] == 1 and columns.shape[0] == 1
    return Placement(
        rows,
        columns,
        near_rows,
        near_columns,
        (int(near_rows.min()), int(near_rows.max())),
        (int(near_columns.min()), int(near_columns.max())),
        parallel
        and bool((np.diff(near_rows[:, 0]) == 1).all() and (np.diff(near_columns[0]) == 1).all()),
        parallel and _centred(rows, near_rows) and _centred(columns, near_columns),
    )


def _centred(positions: Coordinates, nearest: Indices) -> bool:
    return bool((np.abs(positions - 0.5 - nearest) < _EDGE_TOLERANCE_PX).all())


def _floor(positions: Coordinates) -> Indices:
    # Not-finite positions lie outside any raster.
    finite = np.where(np.isfinite(positions), positions, -1e9)
    clipped: Indices = np.floor(np.clip(finite, -1e9, 1e9) + _EDGE_TOLERANCE_PX).astype(np.int64)
    return clipped


def _project(
    grid: PixelGrid, lattice: Projection, x: Coordinates, y: Coordinates
) -> tuple[Coordinates, Coordinates]:
    x, y = transform_coordinates(grid.projection.crs, lattice.crs, x, y)
    return invert_affine(lattice.transform, x, y)


def _interpolated(
    grid: PixelGrid, lattice: Projection, step: int
) -> tuple[Coordinates, Coordinates] | None:
    # Nodes at every half step; the even ones must predict the odd ones.
    half = step / 2
    node_columns = np.arange(2 * int(np.ceil(grid.width / step)) + 1) * half + 0.5
    node_rows = np.arange(2 * int(np.ceil(grid.height / step)) + 1) * half + 0.5
    x, y = apply_affine(grid.projection.transform, node_columns[None, :], node_rows[:, None])
    columns, rows = _project(grid, lattice, x, y)
    for nodes in (columns, rows):
        if not np.isfinite(nodes).all() or _midpoint_error(nodes) > MAX_PLACEMENT_ERROR_PX:
            return None
    at_rows = (np.arange(grid.height) + 0.5 - node_rows[0]) / half
    at_columns = (np.arange(grid.width) + 0.5 - node_columns[0]) / half
    return _bilinear(rows, at_rows, at_columns), _bilinear(columns, at_rows, at_columns)


def _midpoint_error(nodes: Coordinates) -> float:
    coarse = nodes[::2, ::2]
    middle = (coarse[:-1, :-1] + coarse[1:, :-1] + coarse[:-1, 1:] + coarse[1:, 1:]) / 4
    along = (coarse[:, :-1] + coarse[:, 1:]) / 2
    down = (coarse[:-1] + coarse[1:]) / 2
    return float(
        max(
            np.abs(nodes[1::2, 1::2] - middle).max(),
            np.abs(nodes[::2, 1::2] - along).max(),
            np.abs(nodes[1::2, ::2] - down).max(),
        )
    )


def _bilinear(nodes: Coordinates, rows: Coordinates, columns: Coordinates) -> Coordinates:
    """Interpolate a table of nodes at every (row, column) of two axes."""
    row0 = np.minimum(rows.astype(np.int64), nodes.shape[0] - 2)
    column0 = np.minimum(columns.astype(np.int64), nodes.shape[1] - 2)
    row_part = (rows - row0)[:, None]
    column_part = (columns - column0)[None, :]
    down = nodes[row0] * (1 - row_part) + nodes[row0 + 1] * row_part
    out: Coordinates = down[:, column0] * (1 - column_part) + down[:, column0 + 1] * column_part
    return out
