"""Values as the service sends them in the reply of ``value:compute``."""

from __future__ import annotations

from typing import Any

import numpy as np

from earth_engine_emulator.expressions.dates import Date, DateRange
from earth_engine_emulator.expressions.element_collections import Collection, take
from earth_engine_emulator.expressions.elements import Feature
from earth_engine_emulator.expressions.errors import ServiceError
from earth_engine_emulator.expressions.filters import Filter
from earth_engine_emulator.expressions.geometries import Geometry
from earth_engine_emulator.expressions.images import Image
from earth_engine_emulator.expressions.joins import Join
from earth_engine_emulator.expressions.pixel_types import PixelType
from earth_engine_emulator.expressions.projections import Projection
from earth_engine_emulator.expressions.promotion import ErrorMargin, type_name
from earth_engine_emulator.expressions.reducers import Reducer

_EXACT = 2**53
_NO_LIMIT = 2**62


def encode(value: Any, max_elements: int) -> Any:
    """Return a value as JSON's types.

    Args:
        value: of an expression.
        max_elements: of one collection.

    Raises:
        ServiceError: a collection has more, or the value cannot be sent.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return [encode(item, max_elements) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item, max_elements) for key, item in value.items()}
    return _object(value, max_elements)


def _object(value: Any, max_elements: int) -> Any:
    if isinstance(value, np.generic):
        return encode(value.item(), max_elements)
    if isinstance(value, Collection):
        return _collection(value, max_elements)
    if isinstance(value, Feature):
        return _feature(value, max_elements)
    if isinstance(value, (Image, Geometry, PixelType)):
        return encode(value.describe(), max_elements)
    return _described(value)


def _number(value: float) -> float:
    # The service writes whole numbers without a point.
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _described(value: Any) -> Any:
    if isinstance(value, Date):
        return {"type": "Date", "value": value.ms}
    if isinstance(value, DateRange):
        return {"type": "DateRange", "dates": [value.start_ms, value.end_ms]}
    if isinstance(value, Projection):
        transform = [_number(part) for part in value.transform]
        return {"type": "Projection", "crs": value.crs, "transform": transform}
    if isinstance(value, ErrorMargin):
        return {"type": "ErrorMargin", "unit": value.unit, "value": value.value}
    if isinstance(value, (Filter, Reducer, Join)):
        return {"type": type_name(value)}
    raise ServiceError(f"A value of type {type_name(value)} cannot be sent.")


def _feature(feature: Feature, max_elements: int) -> dict[str, Any]:
    geometry = feature.geometry
    out: dict[str, Any] = {
        "type": "Feature",
        "geometry": None if geometry is None else encode(geometry, max_elements),
    }
    index = feature.get("system:index")
    if index is not None:
        out["id"] = index
    out["properties"] = {
        name: encode(value, max_elements)
        for name, value in sorted(feature.properties.items())
        if name != "system:index"
    }
    return out


def _collection(collection: Collection, max_elements: int) -> dict[str, Any]:
    out: dict[str, Any] = {"type": collection.kind}
    if collection.kind == "ImageCollection":
        out["bands"] = []
    else:
        out["columns"] = {}
    if collection.asset_id is not None:
        out["id"] = collection.asset_id
    elements = take(collection, _NO_LIMIT, max_elements)
    out["features"] = [encode(element, max_elements) for element in elements]
    if collection.properties:
        out["properties"] = encode(dict(collection.properties), max_elements)
    return out
