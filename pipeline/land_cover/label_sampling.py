"""Labels looked up under a grid of another CRS or lattice, several times per pixel.

Labels are looked up rather than warped. Over one patch the way from grid to raster is a smooth map
that two biquadratics describe to far less than a thousandth of a pixel; so each sub-pixel centre
costs a few integer operations, and a patch can be sampled several times per pixel in less time than
GDAL needs to warp it once. Each fit is checked against pyproj; where it does not hold (whole
continents, poles, the antimeridian) pyproj transforms every sub-pixel.

Decision record: ``docs/decisions/0004-class-fractions.md`` (error bounds, measured times).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from groundwork.errors import InputError
from pipeline.grids import Grid
from pipeline.land_cover.lattices import (
    Counts,
    Floats,
    LabelRaster,
    Labels,
    Lattice,
    Window,
    same_crs,
)
from storage_schema.land_cover import MASKED, NUM_CLASSES

MAX_SAMPLES_PER_SIDE: Final = 10
"""Sub-pixels per pixel side at which fractions are defined: the 10 x supersampled count."""
_ENOUGH_SAMPLES_PER_SIDE: Final = 528
"""Sub-pixels along a grid: 264 px x 2. Larger grids need no more, smaller ones take more per px."""
_ENOUGH_VALID_SAMPLES: Final = 180_000
"""Samples of pure noise err by no more than independent draws, 0.5 / sqrt(samples): by 0.0012 here,
and four times that is 0.005. Measured: at most 0.45, on binary noise (decision record)."""
_LOOKUP_TOLERANCE_PX: Final = 2e-3
"""Allowed distance between a sub-pixel's looked-up and true place, raster pixels; 2 cm at 10 m."""
_FINE_LOOKUP_TOLERANCE_PX: Final = 1e-5
"""The same where few samples are valid and each one weighs: the rounding of the fixed point."""
_MAX_FIT_RESIDUAL_PX: Final = 1e-4
"""A biquadratic that misses pyproj by more is not used. UTM to UTM: 2e-8 px, EPSG:6933: 4e-5."""
_MAX_BLOCK_ROWS: Final = 64
"""Sub-pixel rows looked up at a time (measured best of 8 to 128): a block stays in the L2 cache."""
_MAX_WINDOW_PX: Final = 2**26
_FIXED_BITS: Final = 16
"""Fraction bits of a coordinate in int32, leaving 15 for the pixel: 1.5e-5 px, 32767 px."""


@dataclass(frozen=True, slots=True, eq=False)
class SampledLabels:
    """A label raster seen through a grid of another CRS or lattice.

    Args:
        label: uint8 (size, size), the raster's label under each pixel centre; 255 masked.
        class_counts: int64 (9,), sub-pixels of each class.
        num_samples: all sub-pixels, masked ones too.
    """

    label: Labels
    class_counts: Counts
    num_samples: int


def nearest_labels(raster: LabelRaster, grid: Grid) -> Labels:
    """Return the label under each pixel centre of a grid, uint8 (size, size)."""
    return _nearest(_lookup(raster, grid), grid.size_px)


def sample_labels(raster: LabelRaster, grid: Grid) -> SampledLabels:
    """Look a raster's labels up under a grid of any CRS or lattice.

    Same CRS: rows and columns are independent, and the 10 x supersampled count follows exactly from
    how many sub-rows and sub-columns fall on each raster row and column. Otherwise: 2 x 2
    sub-pixels per pixel on a fully labelled 264 px grid; more where the raster is finer, the grid
    smaller or labels are few, up to the 10 x 10 that define the fraction.

    Raises:
        InputError: no coordinate operation leads from the grid's CRS to the raster's.
    """
    if not raster.lattice.is_rotated and same_crs(grid.epsg, raster.lattice.crs):
        return _sample_same_crs(raster, grid)
    lookup = _lookup(raster, grid)
    if lookup.valid_share == 0:
        nothing = np.full((grid.size_px, grid.size_px), MASKED, np.uint8)
        return SampledLabels(nothing, np.zeros(NUM_CLASSES, np.int64), nothing.size)
    factor = _samples_per_side(lookup, grid.size_px)
    counts = _count_samples(lookup, grid.size_px, factor)
    if factor < MAX_SAMPLES_PER_SIDE and 2 * counts.sum() < _ENOUGH_VALID_SAMPLES:
        factor = MAX_SAMPLES_PER_SIDE  # the window has labels, but hardly any under the grid
        counts = _count_samples(lookup, grid.size_px, factor)
    return SampledLabels(_nearest(lookup, grid.size_px), counts, (grid.size_px * factor) ** 2)


# --- same CRS: separable ------------------------------------------------------------------------


def _sample_same_crs(raster: LabelRaster, grid: Grid) -> SampledLabels:
    left, _, _, top = grid.bounds
    size, fine = grid.size_px, MAX_SAMPLES_PER_SIDE
    offsets = (np.arange(size * fine, dtype=np.float64) + 0.5) * (grid.resolution_m / fine)
    centres = (np.arange(size, dtype=np.float64) + 0.5) * grid.resolution_m
    rows, columns = _floored(raster.lattice, left + offsets, top - offsets)
    centre_rows, centre_columns = _floored(raster.lattice, left + centres, top - centres)
    window = _bounding_window(rows, columns)
    labels = raster.read_window(window)
    weights = np.multiply.outer(
        np.bincount(rows - window.row, minlength=window.height).astype(np.float64),
        np.bincount(columns - window.column, minlength=window.width).astype(np.float64),
    )
    counts = np.bincount(labels.ravel(), weights.ravel(), minlength=MASKED + 1)[:NUM_CLASSES]
    label = labels[np.ix_(centre_rows - window.row, centre_columns - window.column)]
    return SampledLabels(label, counts.astype(np.int64), (size * fine) ** 2)


def _floored(lattice: Lattice, x: Floats, y: Floats) -> tuple[Counts, Counts]:
    row, column = lattice.row_column(x, y)
    return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)


# --- another CRS --------------------------------------------------------------------------------


class _Lookup(Protocol):
    """The raster's labels under a grid's sub-pixels."""

    raster_px: float
    """Raster pixels along a side of the grid; 0 where not known."""
    valid_share: float
    """Of the raster's pixels in and around the grid; 1 where not known."""

    def rows(self, num_samples: int, tolerance_px: float) -> Iterator[tuple[int, Labels]]:
        """Yield (first sub-row, uint8 (sub-rows, num_samples)) from top to bottom.

        A block is only good until the next one, of this or of any other lookup of the thread.
        """
        ...


def _samples_per_side(lookup: _Lookup, size_px: int) -> int:
    """Sub-pixels per pixel side: enough valid ones, no farther apart than the raster's pixels."""
    enough_valid = math.sqrt(_ENOUGH_VALID_SAMPLES / lookup.valid_share)
    wanted = max(_ENOUGH_SAMPLES_PER_SIDE, enough_valid, lookup.raster_px) / size_px
    return min(math.ceil(wanted), MAX_SAMPLES_PER_SIDE)


def _count_samples(lookup: _Lookup, size_px: int, factor: int) -> Counts:
    """Count the classes of factor x factor sub-pixels of every pixel; int64 (9,)."""
    few = factor == MAX_SAMPLES_PER_SIDE
    tolerance_px = _FINE_LOOKUP_TOLERANCE_PX if few else _LOOKUP_TOLERANCE_PX
    counts = np.zeros(NUM_CLASSES, np.int64)
    is_class = np.empty(0, bool)
    for _, block in lookup.rows(size_px * factor, tolerance_px):
        if is_class.size < block.size:
            is_class = np.empty(block.size, bool)
        flat = is_class[: block.size].reshape(block.shape)
        counts += [np.count_nonzero(np.equal(block, k, out=flat)) for k in range(NUM_CLASSES)]
    return counts


def _nearest(lookup: _Lookup, size_px: int) -> Labels:
    label = np.empty((size_px, size_px), np.uint8)
    for start, block in lookup.rows(size_px, _LOOKUP_TOLERANCE_PX):
        label[start : start + len(block)] = block
    return label


def _lookup(raster: LabelRaster, grid: Grid) -> _Lookup:
    fit = _fit(raster.lattice, grid)
    if fit.residual_px <= _MAX_FIT_RESIDUAL_PX:
        window = fit.window
        fits_int32 = max(window.height, window.width) < 2 ** (31 - _FIXED_BITS)
        if fits_int32 and window.height * window.width <= _MAX_WINDOW_PX:
            return _FittedLookup(fit, window, raster.read_window(window))
    return _ExactLookup(raster, grid)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Where a grid lies in a raster: (row, column) as biquadratics over the unit square.

    Args:
        places: float64 (2, 3, 3), of row and column the coefficients of down**i x right**j; both
            run over the grid from 0 to 1.
        residual_px: largest distance from pyproj at the 25 points tried; inf where it failed.
    """

    places: Floats
    residual_px: float

    @property
    def window(self) -> Window:
        """The raster pixels under the grid, and one or more around them."""
        (row, height), (column, width) = map(_reach, self.places)
        return Window(row, column, height, width)


def _reach(coefficients: Floats) -> tuple[int, int]:
    """Return the first pixel and the number of pixels a biquadratic can reach, with a margin."""
    corner, others = float(coefficients[0, 0]), coefficients.ravel()[1:]
    low = corner + float(others[others < 0].sum())
    high = corner + float(others[others > 0].sum())
    first = math.floor(low) - 1
    return first, math.floor(high) + 2 - first


_FIT_POINTS: Final = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
"""The first, third and fifth carry the fit; a cubic remainder peaks near the other two (0.21)."""
_POWERS: Final = np.vander(_FIT_POINTS, 3, increasing=True)
_FROM_NODES: Final = np.linalg.inv(_POWERS[::2])
_HALFWAY: Final = np.array([1.0, 0.5, 0.25])


def _fit(lattice: Lattice, grid: Grid) -> _Fit:
    exact = np.stack(_transformed(lattice, grid, _FIT_POINTS, _FIT_POINTS))
    if not np.isfinite(exact).all():
        return _Fit(np.zeros((2, 3, 3)), math.inf)
    places = _FROM_NODES @ exact[:, ::2, ::2] @ _FROM_NODES.T
    return _Fit(places, float(np.abs(_POWERS @ places @ _POWERS.T - exact).max()))


def _transformed(
    lattice: Lattice, grid: Grid, down: Floats, right: Floats
) -> tuple[Floats, Floats]:
    """Return exact raster (row, column), each (len(down), len(right)), of places in the grid."""
    side_m = grid.size_px * grid.resolution_m
    x, y = np.meshgrid(grid.x_origin + right * side_m, grid.y_origin - down * side_m)
    try:
        x, y = _to_raster(grid.epsg, lattice.crs).transform(x, y)  # inf where it has no answer
    except ProjError as error:
        raise InputError(
            f"no coordinate operation leads from EPSG:{grid.epsg} to the raster's CRS "
            f"{lattice.crs[:60]!r} ({error}): reproject the raster to a georeferenced CRS first"
        ) from error
    with np.errstate(invalid="ignore"):
        return lattice.row_column(x, y)


class _Scratch(threading.local):
    """Working memory of the lookups, one per thread, reused from block to block and grid to grid.

    Dask's workers run with MALLOC_TRIM_THRESHOLD_ set, under which arrays of this size come fresh
    from the system every time; faulting their pages in took half the worker's time.
    """

    def __init__(self) -> None:
        self._size = 0

    def blocks(
        self, rows: int, columns: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp], Labels]:
        """Return int32 (2, rows, columns), intp and uint8 (rows, columns), holding anything."""
        size = rows * columns
        if size > self._size:
            self._size = size
            self._pixel = np.empty(2 * size, np.int32)
            self._index = np.empty(size, np.intp)
            self._found = np.empty(size, np.uint8)
        return (
            self._pixel[: 2 * size].reshape(2, rows, columns),
            self._index[:size].reshape(rows, columns),
            self._found[:size].reshape(rows, columns),
        )


_scratch = _Scratch()


class _FittedLookup:
    """Sub-pixels placed by a biquadratic, in fixed point, by blocks of rows.

    Along a row the biquadratic is evaluated as it is. Down the rows of one block it is a straight
    line of one slope; blocks are low enough for that to stay within the tolerance. All operations
    are elementwise: the result depends neither on threads nor on a BLAS.
    """

    def __init__(self, fit: _Fit, window: Window, labels: Labels) -> None:
        self._width = window.width
        self._labels = labels.ravel()
        self._places = fit.places * float(2**_FIXED_BITS)
        self._places[:, 0, 0] -= np.array([window.row, window.column]) * float(2**_FIXED_BITS)
        # How far a grid row's slope deviates within a block of the whole grid's height.
        self._bent_px = max(
            abs(float(place[2, 0])) + float(np.abs(place[1:, 1:]).sum()) for place in fit.places
        )
        (row_down, column_down), (row_right, column_right) = (
            fit.places[:, 1, 0],
            fit.places[:, 0, 1],
        )
        self.raster_px = math.sqrt(abs(row_down * column_right - column_down * row_right))
        self.valid_share = float(np.count_nonzero(labels != MASKED)) / labels.size

    def rows(self, num_samples: int, tolerance_px: float) -> Iterator[tuple[int, Labels]]:
        right = (np.arange(num_samples) + 0.5) / num_samples
        block_rows = self._block_rows(num_samples, tolerance_px)
        below = (np.arange(block_rows) - (block_rows - 1) / 2) / num_samples
        pixel, index, found = _scratch.blocks(block_rows, num_samples)
        for start in range(0, num_samples, block_rows):
            middle = (start + block_rows / 2) / num_samples
            c = self._places[:, 0] + middle * (self._places[:, 1] + middle * self._places[:, 2])
            along = c[:, 2:] * right
            along += c[:, 1:2]
            along *= right
            along += c[:, :1]
            slopes = self._places[:, 1] + 2 * middle * self._places[:, 2]
            down = (slopes * _HALFWAY).sum(axis=1)[:, None] * below
            np.add(
                along.astype(np.int32)[:, None, :],
                np.rint(down).astype(np.int32)[:, :, None],
                out=pixel,
            )
            pixel >>= _FIXED_BITS
            pixel[0] *= self._width
            pixel[0] += pixel[1]
            index[:] = pixel[0]
            # The window has room for every index but those below the grid's last row; "clip" takes
            # care of these, and spares numpy a checked copy.
            np.take(self._labels, index, out=found, mode="clip")
            yield start, found[: num_samples - start]

    def _block_rows(self, num_samples: int, tolerance_px: float) -> int:
        """Rows of a block: the slope deviates over half of it by no more than the tolerance."""
        rows = 2 * num_samples * tolerance_px / max(self._bent_px, 1e-12)
        most = int(min(max(rows, 1), _MAX_BLOCK_ROWS))
        return math.ceil(num_samples / math.ceil(num_samples / most))


class _ExactLookup:
    """Every sub-pixel placed by pyproj: about 0.3 us each, a hundred times the fit's cost."""

    raster_px = 0.0
    valid_share = 1.0

    def __init__(self, raster: LabelRaster, grid: Grid) -> None:
        self._raster = raster
        self._grid = grid

    def rows(self, num_samples: int, tolerance_px: float) -> Iterator[tuple[int, Labels]]:
        del tolerance_px
        right = (np.arange(num_samples) + 0.5) / num_samples
        block_rows = max(1, 2**18 // num_samples)
        for start in range(0, num_samples, block_rows):
            yield start, self._look_up(right[start : start + block_rows], right)

    def _look_up(self, down: Floats, right: Floats) -> Labels:
        lattice = self._raster.lattice
        row, column = _transformed(lattice, self._grid, down, right)
        inside = (row >= 0) & (row < lattice.height) & (column >= 0) & (column < lattice.width)
        labels = np.full(row.shape, MASKED, np.uint8)
        if inside.any():
            rows, columns = row[inside].astype(np.int64), column[inside].astype(np.int64)
            window = _bounding_window(rows, columns)
            found = self._raster.read_window(window)
            labels[inside] = found[rows - window.row, columns - window.column]
        return labels


def _bounding_window(rows: Counts, columns: Counts) -> Window:
    row, column = int(rows.min()), int(columns.min())
    return Window(row, column, int(rows.max()) - row + 1, int(columns.max()) - column + 1)


@lru_cache(maxsize=256)
def _to_raster(epsg: int, crs: str) -> Transformer:
    return Transformer.from_crs(CRS.from_epsg(epsg), CRS.from_user_input(crs), always_xy=True)
