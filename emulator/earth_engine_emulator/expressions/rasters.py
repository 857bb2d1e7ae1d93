"""Lazy rasters: what a band is computed from, and its values on any pixel grid.

A raster is asked for a grid and answers with values and validity there. Computation happens on
the grid that is asked for, on inputs sampled there, as in the service; only `Resampled` and
`Reprojected` ask their input for another grid. Image pyramids are not modelled: a grid coarser
than the data takes the pixel at each centre, where the service takes an averaged level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.geometries import Geometry, in_projection
from earth_engine_emulator.expressions.grids import PixelGrid, Placement, place
from earth_engine_emulator.expressions.projections import (
    WGS84,
    WGS84_CRS,
    Projection,
    transform_coordinates,
)
from earth_engine_emulator.worlds import Band, ImageRecord, Pixels, Valid, World

MAX_WINDOW_PX = 2**26
"""Largest window read or computed at once; beyond it the service runs out of memory, too."""


class Sampled(NamedTuple):
    """Values and validity; both broadcast to the grid's (height, width)."""

    values: Pixels
    valid: Valid


class Raster(ABC):
    """A band's pixels, on whatever grid they are asked for. Compared by identity."""

    __slots__ = ()

    def inputs(self) -> Sequence[Raster]:
        """Return the rasters this one is computed from."""
        return ()

    @abstractmethod
    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Compute values and validity on a grid; ask `reader` for inputs."""


class Reader:
    """Reads windows of a world for one set of rasters: bands of one lattice together, once.

    Args:
        world: of the images.
        roots: everything that will be asked for.
    """

    def __init__(self, world: World, roots: Sequence[Raster]) -> None:
        self._world = world
        self._bands: dict[tuple[Any, ...], dict[str, None]] = {}
        self._windows: dict[tuple[Any, ...], dict[str, tuple[Pixels, Valid]]] = {}
        self._shared: set[Raster] = set()
        self._memory: dict[tuple[Raster, PixelGrid], Sampled] = {}
        self._placements: dict[tuple[PixelGrid, Projection], Placement] = {}
        self._insides: dict[tuple[Geometry, PixelGrid], Valid] = {}
        self._look_at(roots)

    def _look_at(self, roots: Sequence[Raster]) -> None:
        seen: set[Raster] = set()
        waiting = list(reversed(roots))
        while waiting:
            raster = waiting.pop()
            if raster in seen:
                self._shared.add(raster)
                continue
            seen.add(raster)
            if isinstance(raster, AssetRaster):
                self._bands.setdefault(raster.group, {})[raster.band.name] = None
            waiting.extend(reversed(raster.inputs()))

    def sample(self, raster: Raster, grid: PixelGrid) -> Sampled:
        """Compute a raster; one that several others use is computed once for each grid."""
        if raster not in self._shared:
            return raster.sample(grid, self)
        known = self._memory.get((raster, grid))
        if known is None:
            known = self._memory[raster, grid] = raster.sample(grid, self)
        return known

    def place(self, grid: PixelGrid, lattice: Projection) -> Placement:
        """Find where a grid falls on a lattice; bands of one lattice share the answer."""
        known = self._placements.get((grid, lattice))
        if known is None:
            known = self._placements[grid, lattice] = place(grid, lattice)
        return known

    def inside(self, geometry: Geometry, grid: PixelGrid) -> Valid:
        """Return which pixel centres lie in a geometry; the bands of an image share the answer."""
        known = self._insides.get((geometry, grid))
        if known is None:
            known = self._insides[geometry, grid] = inside(geometry, grid)
        return known

    def window(
        self, raster: AssetRaster, row: int, column: int, height: int, width: int
    ) -> tuple[Pixels, Valid]:
        """Read a window that lies within the band, with all wanted bands of its lattice."""
        if height * width > MAX_WINDOW_PX:
            raise ServiceError("User memory limit exceeded.")
        key = (raster.group, row, column, height, width)
        known = self._windows.get(key)
        if known is None:
            names = list(self._bands[raster.group])
            known = self._windows[key] = self._world.read(
                raster.record, names, row=row, column=column, height=height, width=width
            )
        return known[raster.band.name]


class AssetRaster(Raster):
    """A stored band, nearest pixel."""

    __slots__ = ("band", "group", "projection", "record")

    def __init__(self, record: ImageRecord, band: Band) -> None:
        self.record = record
        self.band = band
        self.projection = Projection.of_lattice(band.lattice)
        self.group = (record.asset_id, band.lattice, band.width, band.height)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Take the pixel that each centre lies in; masked outside the band."""
        placed = reader.place(grid, self.projection)
        row0, row1 = max(placed.row_span[0], 0), min(placed.row_span[1] + 1, self.band.height)
        column0 = max(placed.column_span[0], 0)
        column1 = min(placed.column_span[1] + 1, self.band.width)
        if row1 <= row0 or column1 <= column0:
            return _nothing(self.band.dtype)
        height, width = row1 - row0, column1 - column0
        values, valid = reader.window(self, row0, column0, height, width)
        if placed.contiguous and (height, width) == grid.shape:
            return Sampled(values, valid)
        rows, columns = placed.nearest_rows - row0, placed.nearest_columns - column0
        return _gather(values, valid, rows, columns, placed.parallel)


def _nothing(dtype: npt.DTypeLike) -> Sampled:
    return Sampled(np.zeros((1, 1), dtype), np.zeros((1, 1), np.bool_))


def _gather(
    values: Pixels,
    valid: Valid,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    parallel: bool,
) -> Sampled:
    """Take pixels by row and column; masked where these lie outside the window."""
    height, width = values.shape
    inside_rows = (rows >= 0) & (rows < height)
    inside_columns = (columns >= 0) & (columns < width)
    inside = None
    if not (inside_rows.all() and inside_columns.all()):
        inside = inside_rows & inside_columns
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    if parallel:
        values = values.take(rows[:, 0], axis=0).take(columns[0], axis=1)
        valid = valid.take(rows[:, 0], axis=0).take(columns[0], axis=1)
    else:
        values, valid = values[rows, columns], valid[rows, columns]
    return Sampled(values, valid if inside is None else valid & inside)


class Constant(Raster):
    """One value everywhere, or nothing anywhere."""

    __slots__ = ("_sampled",)

    def __init__(self, value: float, dtype: npt.DTypeLike, valid: bool = True) -> None:
        self._sampled = Sampled(np.full((1, 1), value).astype(dtype), np.full((1, 1), valid))

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:  # noqa: ARG002
        """Return the value."""
        return self._sampled


class Pointwise(Raster):
    """A function of the values of other rasters at the same pixel; valid where all are."""

    __slots__ = ("_dtype", "_function", "_inputs")

    def __init__(
        self, function: Callable[..., Pixels], inputs: Sequence[Raster], dtype: npt.DTypeLike
    ) -> None:
        self._function = function
        self._inputs = inputs
        self._dtype = dtype

    def inputs(self) -> Sequence[Raster]:
        """Return the operands."""
        return self._inputs

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Apply the function."""
        sampled = [reader.sample(raster, grid) for raster in self._inputs]
        values = self._function(*(s.values for s in sampled))
        valid = sampled[0].valid
        for other in sampled[1:]:
            valid = valid & other.valid
        return Sampled(np.asarray(values).astype(self._dtype, copy=False), valid)


class Masked(Raster):
    """Another raster, masked further where a mask is 0 or masked itself (`updateMask`)."""

    __slots__ = ("_inner", "_mask")

    def __init__(self, inner: Raster, mask: Raster) -> None:
        self._inner = inner
        self._mask = mask

    def inputs(self) -> Sequence[Raster]:
        """Return the raster and its mask."""
        return (self._inner, self._mask)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Mask. A mask between 0 and 1 counts as 1: partial opacity is not modelled."""
        values, valid = reader.sample(self._inner, grid)
        mask, mask_valid = reader.sample(self._mask, grid)
        return Sampled(values, valid & mask_valid & (mask != 0))


class MaskReplaced(Raster):
    """Another raster with a mask in place of its own; zeros appear where it was masked."""

    __slots__ = ("_inner", "_mask")

    def __init__(self, inner: Raster, mask: Raster) -> None:
        self._inner = inner
        self._mask = mask

    def inputs(self) -> Sequence[Raster]:
        """Return the raster and its mask."""
        return (self._inner, self._mask)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Replace the mask."""
        values, valid = reader.sample(self._inner, grid)
        mask, mask_valid = reader.sample(self._mask, grid)
        return Sampled(np.where(valid, values, values.dtype.type(0)), mask_valid & (mask != 0))


class MaskOf(Raster):
    """The mask of another raster: 1 where it is valid, 0 elsewhere."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Raster) -> None:
        self._inner = inner

    def inputs(self) -> Sequence[Raster]:
        """Return the raster."""
        return (self._inner,)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Return the mask, itself valid everywhere."""
        valid = reader.sample(self._inner, grid).valid
        return Sampled(valid.astype(np.uint8), np.ones((1, 1), np.bool_))


class Unmasked(Raster):
    """Another raster with masked pixels filled.

    Args:
        inner: the raster.
        fill: values of masked pixels, themselves possibly masked.
        footprint: filled only inside; None fills everywhere.
        dtype: of the result.
    """

    __slots__ = ("_dtype", "_fill", "_footprint", "_inner")

    def __init__(
        self, inner: Raster, fill: Raster, footprint: Geometry | None, dtype: npt.DTypeLike
    ) -> None:
        self._inner = inner
        self._fill = fill
        self._footprint = footprint
        self._dtype = dtype

    def inputs(self) -> Sequence[Raster]:
        """Return the raster and the fill."""
        return (self._inner, self._fill)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Fill."""
        values, valid = reader.sample(self._inner, grid)
        if valid.all():
            return Sampled(values.astype(self._dtype, copy=False), valid)
        fill, filled = reader.sample(self._fill, grid)
        if self._footprint is not None:
            filled = filled & reader.inside(self._footprint, grid)
        values = np.where(valid, values, fill).astype(self._dtype, copy=False)
        return Sampled(values, valid | filled)


class Clipped(Raster):
    """Another raster, masked outside a geometry."""

    __slots__ = ("_geometry", "_inner")

    def __init__(self, inner: Raster, geometry: Geometry) -> None:
        self._inner = inner
        self._geometry = geometry

    def inputs(self) -> Sequence[Raster]:
        """Return the raster."""
        return (self._inner,)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Mask pixels whose centre lies outside."""
        values, valid = reader.sample(self._inner, grid)
        return Sampled(values, valid & reader.inside(self._geometry, grid))


def inside(geometry: Geometry, grid: PixelGrid) -> Valid:
    """Return which pixel centres of a grid lie in a geometry, bool, broadcasts to the grid."""
    shape = in_projection(geometry, grid.projection)
    shapely.prepare(shape)
    if shapely.contains(shape, shapely.box(0, 0, grid.width, grid.height)):
        return np.ones((1, 1), np.bool_)
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    found: Valid = shapely.intersects_xy(shape, columns, rows)
    return found


class Reprojected(Raster):
    """Another raster, computed in a given projection and taken from there, nearest pixel."""

    __slots__ = ("_inner", "_projection")

    def __init__(self, inner: Raster, projection: Projection) -> None:
        self._inner = inner
        self._projection = projection

    def inputs(self) -> Sequence[Raster]:
        """Return the raster."""
        return (self._inner,)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Compute in the projection, then take the pixel that each centre lies in."""
        placed = reader.place(grid, self._projection)
        if placed.on_centres:
            return reader.sample(self._inner, grid)
        window, row0, column0 = _window(placed, self._projection, 0)
        values, valid = _full(reader.sample(self._inner, window), window)
        rows, columns = placed.nearest_rows - row0, placed.nearest_columns - column0
        return _gather(values, valid, rows, columns, placed.parallel)


class Resampled(Raster):
    """Another raster, interpolated from its own projection instead of taken nearest.

    A pixel is masked where any neighbour of weight other than 0 is. Integers are rounded: what the
    service does to integer bands is not verified.
    """

    __slots__ = ("_dtype", "_inner", "_mode", "_projection")

    def __init__(
        self, inner: Raster, projection: Projection, mode: str, dtype: npt.DTypeLike
    ) -> None:
        self._inner = inner
        self._projection = projection
        self._mode = mode
        self._dtype = np.dtype(dtype)

    def inputs(self) -> Sequence[Raster]:
        """Return the raster."""
        return (self._inner,)

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Interpolate between pixel centres of the projection."""
        placed = reader.place(grid, self._projection)
        if placed.on_centres or isinstance(self._inner, Constant):
            return reader.sample(self._inner, grid)
        reach = 1 if self._mode == "bilinear" else 2
        window, row0, column0 = _window(placed, self._projection, reach)
        values, valid = _full(reader.sample(self._inner, window), window)
        rows, columns = placed.rows - 0.5 - row0, placed.columns - 0.5 - column0
        mixed, all_valid = _interpolate(values, valid, rows, columns, self._mode)
        if self._dtype.kind in "iu":
            mixed = np.rint(mixed)
        return Sampled(mixed.astype(self._dtype, copy=False), all_valid)


def _window(placed: Placement, lattice: Projection, margin: int) -> tuple[PixelGrid, int, int]:
    """Return the grid of the lattice's pixels around a placement, and its first row and column."""
    row0, column0 = placed.row_span[0] - margin, placed.column_span[0] - margin
    height = placed.row_span[1] - row0 + 1 + margin
    width = placed.column_span[1] - column0 + 1 + margin
    if height * width > MAX_WINDOW_PX:
        raise ServiceError("User memory limit exceeded.")
    return PixelGrid(lattice.translated(column0, row0), width, height), row0, column0


def _full(sampled: Sampled, grid: PixelGrid) -> Sampled:
    return Sampled(*(np.broadcast_to(part, grid.shape) for part in sampled))


def _weights(part: npt.NDArray[np.float64], mode: str) -> list[tuple[int, npt.NDArray[np.float64]]]:
    """Return offset and weight of every neighbour along one axis; `part` in [0, 1)."""
    if mode == "bilinear":
        return [(0, 1 - part), (1, part)]
    # Keys' cubic convolution, a = -0.5.
    t = part
    return [
        (-1, ((-0.5 * t + 1) * t - 0.5) * t),
        (0, (1.5 * t - 2.5) * t * t + 1),
        (1, ((-1.5 * t + 2) * t + 0.5) * t),
        (2, (0.5 * t - 0.5) * t * t),
    ]


def _interpolate(
    values: Pixels,
    valid: Valid,
    rows: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
    mode: str,
) -> tuple[npt.NDArray[np.float64], Valid]:
    finite_rows = np.where(np.isfinite(rows), rows, 0.0)
    finite_columns = np.where(np.isfinite(columns), columns, 0.0)
    # Rounding of the transform must not give a weight to a masked neighbour.
    row0 = np.floor(finite_rows + 1e-9)
    column0 = np.floor(finite_columns + 1e-9)
    row_weights = _weights(np.maximum(finite_rows - row0, 0.0), mode)
    column_weights = _weights(np.maximum(finite_columns - column0, 0.0), mode)
    shape = np.broadcast_shapes(rows.shape, columns.shape)
    mixed = np.zeros(shape)
    all_valid = np.broadcast_to(np.isfinite(rows) & np.isfinite(columns), shape).copy()
    source = np.where(valid, values, 0).astype(np.float64)
    every_valid = bool(valid.all())
    for row_offset, row_weight in row_weights:
        at_rows = np.clip(row0.astype(np.int64) + row_offset, 0, values.shape[0] - 1)
        for column_offset, column_weight in column_weights:
            at_columns = np.clip(column0.astype(np.int64) + column_offset, 0, values.shape[1] - 1)
            weight = row_weight * column_weight
            mixed += weight * source[at_rows, at_columns]
            if not every_valid:
                all_valid &= valid[at_rows, at_columns] | (np.abs(weight) < 1e-9)
    return mixed, all_valid


class Chosen(Raster):
    """One raster where a test holds (not 0, not masked), another elsewhere (`where`)."""

    __slots__ = ("_dtype", "_inputs")

    def __init__(self, otherwise: Raster, test: Raster, value: Raster, dtype: npt.DTypeLike):
        self._inputs = (otherwise, test, value)
        self._dtype = dtype

    def inputs(self) -> Sequence[Raster]:
        """Return the raster, the test and the other values."""
        return self._inputs

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Replace values; pixels masked in the first raster stay masked."""
        (values, valid), (test, test_valid), (other, other_valid) = (
            reader.sample(raster, grid) for raster in self._inputs
        )
        use = test_valid & other_valid & (test != 0)
        return Sampled(np.where(use, other, values).astype(self._dtype, copy=False), valid)


class Layered(Raster):
    """The first valid of several rasters, pixel by pixel."""

    __slots__ = ("_dtype", "_inputs")

    def __init__(self, inputs: Sequence[Raster], dtype: npt.DTypeLike) -> None:
        self._inputs = inputs
        self._dtype = dtype

    def inputs(self) -> Sequence[Raster]:
        """Return the rasters, topmost first."""
        return self._inputs

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Lay them over each other, until no pixel is missing."""
        values, valid = _full(_nothing(self._dtype), grid)
        for raster in self._inputs:
            below, below_valid = reader.sample(raster, grid)
            values = np.where(valid, values, below).astype(self._dtype, copy=False)
            valid = valid | below_valid
            if valid.all():
                break
        return Sampled(values, valid)


class Stacked(Raster):
    """A statistic over several rasters, masked values left out."""

    __slots__ = ("_dtype", "_inputs", "_statistic")

    def __init__(
        self,
        statistic: Callable[[Pixels, Valid], tuple[Pixels, Valid]],
        inputs: Sequence[Raster],
        dtype: npt.DTypeLike,
    ) -> None:
        self._statistic = statistic
        self._inputs = inputs
        self._dtype = dtype

    def inputs(self) -> Sequence[Raster]:
        """Return the rasters."""
        return self._inputs

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Compute the statistic along the stack, axis 0."""
        layers = [_full(reader.sample(raster, grid), grid) for raster in self._inputs]
        values = np.stack([np.asarray(layer.values, np.float64) for layer in layers])
        out, valid = self._statistic(values, np.stack([layer.valid for layer in layers]))
        return Sampled(out.astype(self._dtype, copy=False), valid)


class Position(Raster):
    """Longitude, latitude (deg), x, y (px of a projection) or area (m2) of each pixel."""

    __slots__ = ("_projection", "_what")

    def __init__(self, what: str, projection: Projection = WGS84) -> None:
        self._what = what
        self._projection = projection

    def sample(self, grid: PixelGrid, reader: Reader) -> Sampled:
        """Compute it for every pixel centre."""
        valid = np.ones((1, 1), np.bool_)
        if self._what == "area":
            return Sampled(_pixel_area(grid), valid)
        if self._what in {"longitude", "latitude"}:
            lon, lat = _lonlat(grid)
            return Sampled(lon if self._what == "longitude" else lat, valid)
        placed = reader.place(grid, self._projection)
        return Sampled(placed.columns if self._what == "x" else placed.rows, valid)


def _lonlat(grid: PixelGrid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return transform_coordinates(grid.projection.crs, WGS84_CRS, *grid.centres())


def _pixel_area(grid: PixelGrid) -> npt.NDArray[np.float64]:
    a, b, _, d, e, _ = grid.projection.transform
    area = abs(a * e - b * d)
    if grid.projection.crs == WGS84_CRS:
        _, lat = grid.centres()
        return np.asarray(area * (np.pi / 180 * 6371007.18) ** 2 * np.cos(np.radians(lat)))
    # A projected pixel's true area differs by the scale factor, which is within 0.1 % in UTM.
    return np.full(grid.shape, area)


def check_mode(mode: str) -> str:
    """Return a resampling mode.

    Raises:
        AlgorithmError: there is no such mode.
    """
    if mode not in {"bilinear", "bicubic"}:
        raise AlgorithmError(f"Unknown resampling mode '{mode}'. Use 'bilinear' or 'bicubic'.")
    return mode
