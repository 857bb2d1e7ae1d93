"""Pixels of a region: rectangles of values, and statistics over an area."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.element_collections import Collection, of_elements
from earth_engine_emulator.expressions.elements import Feature, plain_properties
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.geometries import Geometry, in_projection
from earth_engine_emulator.expressions.grids import PixelGrid, apply_affine
from earth_engine_emulator.expressions.image_algorithms import given_projection
from earth_engine_emulator.expressions.images import Image, ImageBand
from earth_engine_emulator.expressions.projections import (
    WGS84_CRS,
    Projection,
    transform_coordinates,
)
from earth_engine_emulator.expressions.rasters import MAX_WINDOW_PX, Sampled
from earth_engine_emulator.expressions.reducers import Reducer
from earth_engine_emulator.expressions.session import Session

MAX_RECTANGLE_PX = 262144
"""Pixels of one band in `sampleRectangle`, the service's limit."""
MIN_WEIGHT = 0.005
"""A pixel counts in weighted reducers where at least this much of it is covered."""
_SNAP_PX = 1e-6

Weights = npt.NDArray[Any]


def covering_grid(shape: Any, projection: Projection) -> tuple[PixelGrid, int, int]:
    """Return the whole pixels around a shape given in pixels, with their first row and column."""
    left, top, right, bottom = shapely.bounds(shape)
    column0, row0 = math.floor(left + _SNAP_PX), math.floor(top + _SNAP_PX)
    width = max(math.ceil(right - _SNAP_PX) - column0, 1)
    height = max(math.ceil(bottom - _SNAP_PX) - row0, 1)
    return PixelGrid(projection.translated(column0, row0), width, height), row0, column0


def _region_of(image: Image, region: Geometry | None) -> Geometry:
    found = region if region is not None else image.footprint
    if found is None:
        raise AlgorithmError("Unable to perform this geometry operation: the image is unbounded.")
    return found


@algorithm("Image.sampleRectangle", with_session=True)
def _sample_rectangle(
    session: Session,
    image: Image,
    region: Geometry | None,
    names: list[str] | None,
    default: float | None,
    _default_array: Any,
) -> Feature:
    area = _region_of(image, region)
    grids = [_rectangle_grid(band, area) for band in image.bands]
    sampled = _sample_together(session, image.bands, grids)
    arrays = {
        band.name: _filled(band.name, part, grid, default)
        for band, part, grid in zip(image.bands, sampled, grids, strict=True)
    }
    kept = plain_properties(image) if names is None else {name: image.get(name) for name in names}
    return Feature(area, {**kept, **arrays})


def _rectangle_grid(band: ImageBand, area: Geometry) -> PixelGrid:
    grid, _, _ = covering_grid(in_projection(area, band.projection), band.projection)
    if grid.width * grid.height > MAX_RECTANGLE_PX:
        raise AlgorithmError(
            f"Too many pixels in sample; must be <= {MAX_RECTANGLE_PX}. "
            f"Got {grid.width * grid.height}."
        )
    return grid


def _sample_together(
    session: Session, bands: Sequence[ImageBand], grids: Sequence[PixelGrid]
) -> list[Sampled]:
    """Sample each band on its own grid; bands of one grid share their reads."""
    together: dict[PixelGrid, list[int]] = {}
    for position, grid in enumerate(grids):
        together.setdefault(grid, []).append(position)
    out: dict[int, Sampled] = {}
    for grid, positions in together.items():
        made = session.sample([bands[i].raster for i in positions], grid)
        out.update(zip(positions, made, strict=True))
    return [out[i] for i in range(len(bands))]


def _filled(name: str, sampled: Sampled, grid: PixelGrid, default: float | None) -> list[Any]:
    values = np.broadcast_to(sampled.values, grid.shape)
    valid = np.broadcast_to(sampled.valid, grid.shape)
    if not valid.all():
        if default is None:
            raise AlgorithmError(
                f"Fully masked pixels / pixels outside of the image footprint when sampling band "
                f"'{name}' with no default value set. Note that calling sampleRectangle() on an "
                f"image after ee.Image.clip() may result in a sampling bounding box outside the "
                f"geometry passed to clip()."
            )
        kind = values.dtype.type if float(default).is_integer() else np.float64
        values = np.where(valid, values, kind(default))
    nested: list[Any] = values.tolist()
    return nested


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The pixels of a region.

    Args:
        grid: whole pixels around it.
        weights: covered fraction of every pixel, float64 (height, width).
        centred: whether the centre of a pixel lies inside, bool (height, width).
    """

    grid: PixelGrid
    weights: Weights
    centred: npt.NDArray[np.bool_]


def pixels_of(area: Geometry, projection: Projection, max_pixels: int, best_effort: bool) -> Region:
    """Find the pixels of a region.

    Args:
        area: the region.
        projection: of the pixels.
        max_pixels: more are refused, or
        best_effort: pixels become larger instead.

    Raises:
        AlgorithmError: there are too many.
    """
    shape = in_projection(area, projection)
    num_pixels = math.ceil(shape.area)
    if num_pixels > max_pixels:
        if not best_effort:
            raise AlgorithmError(_too_many(num_pixels, max_pixels))
        factor = math.sqrt(num_pixels / max_pixels) * 1.001
        return pixels_of(area, projection.scaled(factor, factor), max_pixels, best_effort=True)
    grid, row0, column0 = covering_grid(shape, projection)
    if grid.width * grid.height > MAX_WINDOW_PX:
        raise ServiceError("User memory limit exceeded.")
    moved = shapely.transform(shape, lambda points: points - (column0, row0))
    shapely.prepare(moved)
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    centred = shapely.intersects_xy(moved, columns, rows)
    return Region(grid, _coverage(moved, centred), centred)


def _too_many(found: int, allowed: int) -> str:
    return (
        f"Too many pixels in the region. Found {found}, but maxPixels allows only {allowed}.\n"
        f"Ensure that you are not aggregating at a higher resolution than you intended; that is "
        f"the most frequent cause of this error. If not, then you may set the 'maxPixels' "
        f"argument to a limit suitable for your computation; set 'bestEffort' to true to "
        f"aggregate at whatever scale results in 'maxPixels' total pixels; or both."
    )


def _coverage(shape: Any, centred: npt.NDArray[np.bool_]) -> Weights:
    """Return the covered fraction of each pixel: exact on the boundary, 0 or 1 elsewhere."""
    weights = centred.astype(np.float64)
    if shape.area == 0.0:
        return _touched(shape, weights)
    points = shapely.get_coordinates(shapely.segmentize(shape.boundary, 0.5))
    near = np.zeros(centred.shape, np.bool_)
    at = np.floor(points).astype(np.int64)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            rows = np.clip(at[:, 1] + row, 0, centred.shape[0] - 1)
            columns = np.clip(at[:, 0] + column, 0, centred.shape[1] - 1)
            near[rows, columns] = True
    rows, columns = np.nonzero(near)
    cells = shapely.box(columns, rows, columns + 1, rows + 1)
    weights[rows, columns] = shapely.area(shapely.intersection(cells, shape))
    return weights


def _touched(shape: Any, weights: Weights) -> Weights:
    # Points and lines have no area: the pixels that they lie in count whole.
    points = np.floor(shapely.get_coordinates(shapely.segmentize(shape, 0.5))).astype(np.int64)
    rows = np.clip(points[:, 1], 0, weights.shape[0] - 1)
    columns = np.clip(points[:, 0], 0, weights.shape[1] - 1)
    weights[rows, columns] = 1.0
    return weights


def reduce_region(
    session: Session, bands: Sequence[ImageBand], reducer: Reducer, region: Region
) -> dict[str, Any]:
    """Reduce the bands over a region; return output name -> result.

    A reducer of one input runs on every band apart; one of several takes the bands together,
    at pixels valid in all of them.
    """
    sampled = [
        Sampled(*(np.broadcast_to(part, region.grid.shape) for part in one))
        for one in session.sample([band.raster for band in bands], region.grid)
    ]
    pixel_weights = (
        region.weights if reducer.weighted or not region.centred.any() else region.centred * 1.0
    )
    counted = pixel_weights >= MIN_WEIGHT
    if reducer.num_inputs == 1:
        out: dict[str, Any] = {}
        for band, one in zip(bands, sampled, strict=True):
            results = _reduce_columns(reducer, [one], counted, pixel_weights)
            single = len(results) == 1
            for name, value in results.items():
                out[band.name if single else f"{band.name}_{name}"] = value
        return out
    if reducer.num_inputs != len(bands):
        raise AlgorithmError(
            f"Need {reducer.num_inputs} bands for the reducer, the image has {len(bands)}."
        )
    return _reduce_columns(reducer, sampled, counted, pixel_weights)


def _reduce_columns(
    reducer: Reducer, sampled: Sequence[Sampled], counted: npt.NDArray[np.bool_], weights: Weights
) -> dict[str, Any]:
    kept = counted
    for one in sampled:
        kept = kept & one.valid
    return reducer.run(
        [one.values[kept] for one in sampled], weights[kept] if reducer.weighted else None
    )


def _work_projection(
    image: Image,
    crs: Projection | None,
    transform: list[float] | None,
    scale_m: float | None,
) -> Projection:
    if not image.bands:
        raise AlgorithmError("The image has no bands.")
    return given_projection(crs or image.bands[0].projection, transform, scale_m)


@algorithm("Image.reduceRegion", with_session=True)
def _reduce_region(
    session: Session,
    image: Image,
    reducer: Reducer,
    geometry: Geometry | None,
    scale_m: float | None,
    crs: Projection | None,
    transform: list[float] | None,
    best_effort: bool,
    max_pixels: int,
    _tile_scale: float,
) -> dict[str, Any]:
    projection = _work_projection(image, crs, transform, scale_m)
    area = _region_of(image, geometry)
    region = pixels_of(area, projection, max_pixels, best_effort)
    return reduce_region(session, image.bands, reducer, region)


@algorithm("Image.reduceRegions", with_session=True)
def _reduce_regions(
    session: Session,
    image: Image,
    collection: Collection,
    reducer: Reducer,
    scale_m: float | None,
    crs: Projection | None,
    transform: list[float] | None,
    _tile_scale: float,
    max_pixels: int | None,
) -> Collection:
    projection = _work_projection(image, crs, transform, scale_m)

    def reduced() -> Iterator[Feature]:
        for element in collection:
            area = element.geometry
            if area is None:
                continue
            region = pixels_of(area, projection, max_pixels or MAX_WINDOW_PX, best_effort=False)
            results = reduce_region(session, image.bands, reducer, region)
            if len(image.bands) == 1 and len(reducer.outputs) == 1:
                results = {reducer.outputs[0]: next(iter(results.values()))}
            yield Feature(area, {**element.properties, **results})

    return Collection("FeatureCollection", reduced, collection.properties)


@algorithm("Image.sample", with_session=True)
def _sample(
    session: Session,
    image: Image,
    geometry: Geometry | None,
    scale_m: float | None,
    crs: Projection | None,
    factor: float | None,
    num_pixels: int | None,
    _seed: int,
    drop_nulls: bool,
    _tile_scale: float,
    geometries: bool,
) -> Collection:
    if factor is not None or num_pixels is not None:
        raise AlgorithmError("The emulator samples every pixel: leave out factor and numPixels.")
    projection = _work_projection(image, crs, None, scale_m)
    region = pixels_of(_region_of(image, geometry), projection, MAX_WINDOW_PX, best_effort=False)
    return of_elements(
        "FeatureCollection", list(_samples(session, image, region, drop_nulls, geometries))
    )


def _samples(
    session: Session, image: Image, region: Region, drop_nulls: bool, geometries: bool
) -> Iterator[Feature]:
    sampled = [
        Sampled(*(np.broadcast_to(part, region.grid.shape) for part in one))
        for one in session.sample([band.raster for band in image.bands], region.grid)
    ]
    for row, column in zip(*np.nonzero(region.centred), strict=True):
        values = {
            band.name: one.values[row, column].item() if one.valid[row, column] else None
            for band, one in zip(image.bands, sampled, strict=True)
        }
        if drop_nulls and None in values.values():
            continue
        found = {name: value for name, value in values.items() if value is not None}
        yield Feature(_centre(region.grid, row, column) if geometries else None, found)


def _centre(grid: PixelGrid, row: int, column: int) -> Geometry:
    x, y = apply_affine(grid.projection.transform, np.array([column + 0.5]), np.array([row + 0.5]))
    lon, lat = transform_coordinates(grid.projection.crs, WGS84_CRS, x, y)
    return Geometry("Point", [float(lon[0]), float(lat[0])])
