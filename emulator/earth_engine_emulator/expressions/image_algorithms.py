"""Algorithms on images: loading, bands, masks, projections, metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.dates import Date
from earth_engine_emulator.expressions.elements import Element
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.geometries import Geometry
from earth_engine_emulator.expressions.image_math import combine_where, spread
from earth_engine_emulator.expressions.images import (
    Image,
    ImageBand,
    add_bands,
    constant_image,
    default_projection,
    select_bands,
)
from earth_engine_emulator.expressions.pixel_types import BOOLEAN, DOUBLE, union
from earth_engine_emulator.expressions.projections import WGS84, Projection, parse_affine
from earth_engine_emulator.expressions.promotion import promote
from earth_engine_emulator.expressions.rasters import (
    Clipped,
    Constant,
    Masked,
    MaskOf,
    MaskReplaced,
    Position,
    Reprojected,
    Resampled,
    Stacked,
    Unmasked,
    check_mode,
)
from earth_engine_emulator.expressions.reducers import STACKED, Reducer
from earth_engine_emulator.expressions.session import Session

IMAGE = "Image<unknown bands>"


@algorithm("Image.load", with_session=True)
def _load(session: Session, asset_id: str, _version: int) -> Image:
    return session.load_image(asset_id)


@algorithm("Image.constant")
def _constant(value: Any) -> Image:
    return value if isinstance(value, Image) else constant_image(value)


@algorithm("Image.select")
def _select(image: Image, selectors: list[Any], names: list[str] | None) -> Image:
    return select_bands(image, selectors, names)


@algorithm("Image.slice")
def _slice(image: Image, start: int, end: int | None) -> Image:
    return image.with_bands(image.bands[start:end])


@algorithm("Image.rename")
def _rename(image: Image, names: list[str]) -> Image:
    if len(names) != len(image.bands):
        raise AlgorithmError(
            f"The number of names ({len(names)}) must match the number of bands "
            f"({len(image.bands)})."
        )
    pairs = zip(image.bands, names, strict=True)
    return image.with_bands([replace(band, name=name) for band, name in pairs])


@algorithm("Image.addBands")
def _add_bands(image: Image, other: Image, names: list[str] | None, overwrite: bool) -> Image:
    return add_bands(image, other, names, overwrite)


@algorithm("Image.cat")
def _cat(images: list[Any]) -> Image:
    promoted = [promote(image, IMAGE, "Image.cat", "images") for image in images]
    if not promoted:
        return Image([], {})
    out: Image = promoted[0]
    for image in promoted[1:]:
        out = add_bands(out, image)
    return out


@algorithm("Image.bandNames")
def _band_names(image: Image) -> list[str]:
    return image.band_names


@algorithm("Image.bandTypes")
def _band_types(image: Image) -> dict[str, Any]:
    return {band.name: band.pixel_type for band in image.bands}


@algorithm("Image.projection")
def _projection(image: Image) -> Projection:
    return default_projection(image)


@algorithm("Image.date")
def _date(image: Image) -> Date:
    start = image.get("system:time_start")
    if start is None:
        raise AlgorithmError("The image has no property 'system:time_start'.")
    return Date(int(start))


@algorithm("Image.id", "Feature.id")
def _id(element: Element) -> str | None:
    found = element.get("system:index")
    return None if found is None else str(found)


@algorithm("Image.metadata")
def _metadata(image: Image, name: str, band_name: str | None) -> Image:
    value = image.get(name)
    if not isinstance(value, (int, float)):
        raise AlgorithmError(f"Property '{name}' is not a number.")
    raster = Constant(float(value), DOUBLE.dtype)
    return image.with_bands([ImageBand(band_name or name, DOUBLE, WGS84, raster)])


@algorithm("Image.unmask")
def _unmask(image: Image, value: Image | None, same_footprint: bool) -> Image:
    fill = constant_image(0) if value is None else value
    footprint = image.footprint if same_footprint else None
    bands = []
    for band, other in zip(image.bands, spread(fill, len(image.bands)), strict=True):
        pixel_type = union(band.pixel_type, other.pixel_type)
        raster = Unmasked(band.raster, other.raster, footprint, pixel_type.dtype)
        bands.append(replace(band, pixel_type=pixel_type, raster=raster))
    unmasked = image.with_bands(bands)
    return unmasked if same_footprint else _everywhere(unmasked)


def _everywhere(image: Image) -> Image:
    properties = {k: v for k, v in image.properties.items() if k != "system:footprint"}
    return Image(image.bands, properties, None, image.asset_id, image.version)


@algorithm("Image.updateMask")
def _update_mask(image: Image, mask: Image) -> Image:
    pairs = zip(image.bands, spread(mask, len(image.bands)), strict=True)
    return image.with_bands([replace(b, raster=Masked(b.raster, m.raster)) for b, m in pairs])


@algorithm("Image.selfMask")
def _self_mask(image: Image) -> Image:
    return image.with_bands(
        [replace(band, raster=Masked(band.raster, band.raster)) for band in image.bands]
    )


@algorithm("Image.mask")
def _mask(image: Image, mask: Image | None) -> Image:
    if mask is None:
        return image.with_bands(
            [replace(b, raster=MaskOf(b.raster), pixel_type=BOOLEAN) for b in image.bands]
        )
    pairs = zip(image.bands, spread(mask, len(image.bands)), strict=True)
    return image.with_bands([replace(b, raster=MaskReplaced(b.raster, m.raster)) for b, m in pairs])


@algorithm("Image.where")
def _where(image: Image, test: Image, value: Image) -> Image:
    return image.with_bands(combine_where(image, test, value))


@algorithm("Image.clip")
def _clip(image: Image, geometry: Any) -> Image:
    area: Geometry = promote(geometry, "Geometry", "Image.clip", "geometry")
    bands = [replace(band, raster=Clipped(band.raster, area)) for band in image.bands]
    return image.with_bands(bands).with_footprint(area)


@algorithm("Image.clipToCollection")
def _clip_to_collection(image: Image, collection: Any) -> Image:
    promoted = promote(collection, "FeatureCollection", "Image.clipToCollection", "collection")
    return _clip(image, promoted.geometry)


@algorithm("Image.resample")
def _resample(image: Image, mode: str) -> Image:
    check_mode(mode)
    return image.with_bands([_resampled(band, mode) for band in image.bands])


def _resampled(band: ImageBand, mode: str) -> ImageBand:
    raster = Resampled(band.raster, band.projection, mode, band.pixel_type.dtype)
    return replace(band, raster=raster)


def given_projection(
    crs: Projection, transform: Sequence[float] | None, scale_m: float | None
) -> Projection:
    """Return the projection that the arguments crs, crsTransform and scale mean.

    Raises:
        AlgorithmError: both scale and transform are given.
    """
    if transform is not None and scale_m is not None:
        raise AlgorithmError("Only one of 'crsTransform' and 'scale' may be specified.")
    if transform is not None:
        return Projection(crs.crs, parse_affine(transform))
    if scale_m is None:
        return crs
    if scale_m <= 0:
        raise AlgorithmError("'scale' must be greater than 0.")
    return Projection(crs.crs).at_scale(scale_m) if _is_bare(crs) else crs.at_scale(scale_m)


def _is_bare(projection: Projection) -> bool:
    return projection.transform == WGS84.transform


@algorithm("Image.reproject")
def _reproject(
    image: Image, crs: Projection, transform: list[float] | None, scale_m: float | None
) -> Image:
    projection = given_projection(crs, transform, scale_m)
    return image.with_bands(
        [
            replace(
                band,
                raster=Reprojected(band.raster, projection),
                projection=projection,
                dimensions=None,
            )
            for band in image.bands
        ]
    )


@algorithm("Image.setDefaultProjection")
def _set_default_projection(
    image: Image, crs: Projection, transform: list[float] | None, scale_m: float | None
) -> Image:
    projection = given_projection(crs, transform, scale_m)
    return image.with_bands([replace(band, projection=projection) for band in image.bands])


@algorithm("Image.pixelLonLat")
def _pixel_lon_lat() -> Image:
    return Image([_position(name, Position(name)) for name in ("longitude", "latitude")], {})


@algorithm("Image.pixelArea")
def _pixel_area() -> Image:
    return Image([_position("area", Position("area"))], {})


@algorithm("Image.pixelCoordinates")
def _pixel_coordinates(projection: Projection) -> Image:
    return Image([_position(name, Position(name, projection)) for name in ("x", "y")], {})


def _position(name: str, raster: Position) -> ImageBand:
    return ImageBand(name, DOUBLE, WGS84, raster)


@algorithm("Image.reduce")
def _reduce(image: Image, reducer: Reducer) -> Image:
    if not reducer.stacked:
        raise AlgorithmError(
            f"The emulator does not have the reducer of outputs {list(reducer.outputs)} for the "
            f"bands of an image."
        )
    if not image.bands:
        raise AlgorithmError("The image has no bands.")
    return image.computed(stack_bands(reducer, list(image.bands), None))


def stack_bands(
    reducer: Reducer, bands: Sequence[ImageBand], prefix: str | None
) -> list[ImageBand]:
    """Return one band for each output of a reducer over a stack of bands.

    Args:
        reducer: with a form for stacks.
        bands: the stack; at least one.
        prefix: name of the band in the results' names, None for the outputs' names alone.
    """
    first = bands[0]
    rasters = [band.raster for band in bands]
    out = []
    for name, statistic in zip(reducer.outputs, reducer.stacked, strict=True):
        pixel_type = first.pixel_type if statistic in _KEEP_TYPE else DOUBLE
        for band in bands[1:]:
            pixel_type = union(pixel_type, band.pixel_type)
        if statistic not in _KEEP_TYPE:
            pixel_type = DOUBLE
        raster = Stacked(STACKED[statistic], rasters, pixel_type.dtype)
        shown = name if prefix is None else f"{prefix}_{name}"
        out.append(ImageBand(shown, pixel_type, first.projection, raster, first.dimensions))
    return out


_KEEP_TYPE = frozenset({"min", "max", "first", "last"})
