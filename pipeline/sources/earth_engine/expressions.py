"""What Earth Engine is asked: expressions of its client for listings and pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import ee

from pipeline.sources.earth_engine.collections import collection_of
from pipeline.sources.earth_engine.listing import search_box
from pipeline.sources.earth_engine.pixels import (
    PixelRequest,
    band_name,
    decode_npy,
)
from storage_schema.products import PRODUCTS, ProductName, Role


@dataclass(frozen=True, slots=True)
class ListingRequest:
    """What is listed around one location.

    Args:
        longitude: of its centre, deg.
        latitude: of its centre, deg.
        spans: product -> start and end of each date window, ms since 1970, end excluded.
    """

    longitude: float
    latitude: float
    spans: Mapping[ProductName, Sequence[tuple[int, int]]]


def listing_question(requests: Mapping[str, ListingRequest]) -> Callable[[], Any]:
    """Return what sends one request for the listings of some locations, by location id."""
    expression = ee.Dictionary({name: _list_location(asked) for name, asked in requests.items()})
    return expression.getInfo  # type: ignore[no-any-return]


def _list_location(request: ListingRequest) -> dict[str, Any]:
    point = ee.Geometry.Point([request.longitude, request.latitude])
    ring = search_box(request.longitude, request.latitude)
    box = ee.Geometry.Polygon([ring], None, False)
    return {
        product: _list_collection(product, point, box, spans)
        for product, spans in request.spans.items()
    }


def _list_collection(
    product: ProductName, point: Any, box: Any, spans: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Return the expression for one collection around one place: its images, counted and listed."""
    dates = [
        ee.Filter.date(
            datetime.fromtimestamp(start / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            datetime.fromtimestamp(end / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        )
        for start, end in spans
    ]
    images = ee.ImageCollection(PRODUCTS[product].earth_engine_id).filterBounds(point)
    images = images.filter(ee.Filter.Or(*dates) if len(dates) > 1 else dates[0])
    collection = collection_of(product)
    for name, value in collection.equals:
        images = images.filter(ee.Filter.eq(name, value))
    columns = collection.columns

    def describe(image: Any) -> Any:
        image = ee.Image(image)
        if "contains_patch" in columns:
            image = image.set("contains_patch", image.geometry().contains(box, 1))
        if "band_names" in columns:
            image = image.set("band_names", image.bandNames().join(" "))
        if "crs" in columns:
            projection = image.select(collection.lattice_band).projection()
            image = image.set("crs", projection.crs(), "transform", projection.transform())
        return image

    rows = images.map(describe).reduceColumns(ee.Reducer.toList(len(columns)), list(columns))
    return {"size": images.size(), "rows": rows.get("list")}


def pixel_question(request: PixelRequest) -> Callable[[], Any]:
    """Return what sends a request for pixels and decodes its reply: a structured array."""
    parameters = {
        "expression": _image_expression(request),
        "fileFormat": "NPY",
        "grid": request.window.request_grid,
    }

    def question() -> Any:
        return decode_npy(ee.data.computePixels(parameters), request)

    return question


def _image_expression(request: PixelRequest) -> Any:
    """Return all bands of a request as one image, cast, with masked pixels filled."""
    parts = []
    for name, candidate in request.images.items():
        product = PRODUCTS[name]
        bands = list(product.bands)
        image = ee.Image.load(f"{product.earth_engine_id}/{candidate.id}").select(bands)
        collection = collection_of(name)
        if request.resample_s1 and product.role is Role.RADAR:
            image = _resample_backscatter(image)
        # Beyond the footprint too: a masked pixel's value in a reply is nowhere promised.
        image = image.unmask(collection.reply_fill, False)
        image = _CASTS[collection.reply_dtype](image)
        parts.append(image.rename([band_name(name, band) for band in bands]))
    return parts[0] if len(parts) == 1 else ee.Image.cat(*parts)


_CASTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "uint8": lambda image: image.toUint8(),
    "uint16": lambda image: image.toUint16(),
    "float32": lambda image: image.toFloat(),
}


def _resample_backscatter(image: Any) -> Any:
    """Let the service interpolate linear power: decibels do not average.

    The image is the first operand throughout, so that the result keeps its projection and the
    interpolation happens on its own pixels.
    """
    power = image.divide(10).multiply(math.log(10)).exp().resample("bilinear")
    return power.log10().multiply(10)
