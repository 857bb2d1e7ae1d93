"""Types of arguments: which values pass, which are promoted, which are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from earth_engine_emulator.expressions.dates import Date, DateRange, parse_date
from earth_engine_emulator.expressions.element_collections import Collection, of_elements
from earth_engine_emulator.expressions.elements import Element, Feature
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.filters import Filter
from earth_engine_emulator.expressions.geometries import Geometry
from earth_engine_emulator.expressions.images import Image, constant_image
from earth_engine_emulator.expressions.joins import Join
from earth_engine_emulator.expressions.pixel_types import PixelType, named_type
from earth_engine_emulator.expressions.projections import Projection, parse_affine, projection_from
from earth_engine_emulator.expressions.reducers import Reducer

Promote = Callable[[Any], Any]
_FLOAT_TYPES = frozenset({"Float", "Number"})
_INTEGER_TYPES = frozenset({"Integer", "Long"})


class Callee(Protocol):
    """A function value: a user's function, or one that an algorithm returned."""

    def __call__(self, *arguments: Any) -> Any:
        """Call it with arguments in the order of its names."""
        ...


class ErrorMargin:
    """A tolerance. Geometry is exact enough here not to need one."""

    __slots__ = ("unit", "value")

    def __init__(self, value: float | None, unit: str) -> None:
        self.value = value
        self.unit = unit


class WrongTypeError(Exception):
    """A value is not, and cannot be made, of the type."""


def type_name(value: Any) -> str:
    """Return the service's name of a value's type."""
    if isinstance(value, Collection):
        return value.kind
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "Boolean"),
        (int, "Integer"),
        (float, "Float"),
        (str, "String"),
        (list, "List<Object>"),
        (dict, "Dictionary<Object>"),
        (Image, "Image<unknown bands>"),
        (ErrorMargin, "ErrorMargin"),
        (
            (Feature, Geometry, Date, DateRange, Projection, PixelType, Filter, Reducer, Join),
            "",
        ),
    ]
    for kind, name in names:
        if isinstance(value, kind):
            if name:
                return name
            return "Filter" if isinstance(value, Filter) else type(value).__name__
    return "Null" if value is None else "Algorithm"


@lru_cache(maxsize=512)
def promoter(type_text: str) -> Promote:
    """Return the function that checks and promotes values for a type of the algorithm list."""
    outer, _, inner = type_text.partition("<")
    inner = inner[:-1]
    if outer == "List":
        return _list_promoter(inner)
    if outer == "Dictionary":
        return _dictionary
    return _PROMOTERS.get(outer, _anything)


def _anything(value: Any) -> Any:
    return value


def _list_promoter(inner: str) -> Promote:
    if inner in {"Object", ""}:
        return _list
    each = promoter(inner)

    def promote(value: Any) -> Any:
        return [None if item is None else each(item) for item in _list(value)]

    return promote


def _list(value: Any) -> Any:
    if isinstance(value, list):
        return value
    if isinstance(value, (str, int, float, bool)):
        return [value]
    if isinstance(value, Collection):
        raise WrongTypeError
    if isinstance(value, (Element, Filter, Geometry)):
        return [value]
    raise WrongTypeError


def _dictionary(value: Any) -> Any:
    if not isinstance(value, dict):
        raise WrongTypeError
    return value


def _image(value: Any) -> Any:
    if isinstance(value, Image):
        return value
    if isinstance(value, (bool, int, float)):
        return constant_image(value)
    if isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value):
        return constant_image(value)
    raise WrongTypeError


def _string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    raise WrongTypeError


def _float(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, bool) else value
    raise WrongTypeError


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise WrongTypeError


def _boolean(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return bool(value)
    raise WrongTypeError


def _geometry(value: Any) -> Any:
    if isinstance(value, Geometry):
        return value
    if isinstance(value, Element):
        found = value.geometry
        if found is not None:
            return found
    raise WrongTypeError


def _element(value: Any) -> Any:
    if isinstance(value, Element):
        return value
    if isinstance(value, Geometry):
        return Feature(value, {})
    if isinstance(value, (bool, int, float)):
        return constant_image(value)
    raise WrongTypeError


def _feature(value: Any) -> Any:
    if isinstance(value, Geometry):
        return Feature(value, {})
    if isinstance(value, Element) and not isinstance(value, Collection):
        return value
    raise WrongTypeError


def _feature_collection(value: Any) -> Any:
    if isinstance(value, Collection):
        return value
    if isinstance(value, Image):
        return of_elements("ImageCollection", [value])
    if isinstance(value, (Feature, Geometry)):
        return of_elements("FeatureCollection", [_feature(value)])
    raise WrongTypeError


def _image_collection(value: Any) -> Any:
    if isinstance(value, Collection) and value.kind == "ImageCollection":
        return value
    if isinstance(value, Collection):
        return Collection("ImageCollection", lambda: map(_image, value), value.properties)
    if isinstance(value, Image):
        return of_elements("ImageCollection", [value])
    raise WrongTypeError


def _projection(value: Any) -> Any:
    if isinstance(value, Projection):
        return value
    if isinstance(value, str):
        return projection_from(value)
    if isinstance(value, dict) and value.get("type") == "Projection":
        return Projection(str(value["crs"]), parse_affine(value["transform"]))
    raise WrongTypeError


def _error_margin(value: Any) -> Any:
    if isinstance(value, ErrorMargin):
        return value
    if isinstance(value, (int, float)):
        return ErrorMargin(float(value), "meters")
    if isinstance(value, dict) and value.get("type") == "ErrorMargin":
        return ErrorMargin(value.get("value"), str(value.get("unit", "meters")))
    raise WrongTypeError


def _date(value: Any) -> Any:
    if isinstance(value, (Date, int, float, str)):
        return parse_date(value)
    raise WrongTypeError


def _date_range(value: Any) -> Any:
    if isinstance(value, DateRange):
        return value
    if isinstance(value, Date):
        return DateRange(value.ms, value.ms + 1)
    raise WrongTypeError


def _pixel_type(value: Any) -> Any:
    if isinstance(value, PixelType):
        return value
    if isinstance(value, str):
        return named_type(value)
    raise WrongTypeError


def _only(kind: type) -> Promote:
    def promote(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise WrongTypeError

    return promote


def _function(value: Any) -> Any:
    if callable(value):
        return value
    raise WrongTypeError


_PROMOTERS: dict[str, Promote] = {
    "Image": _image,
    "String": _string,
    "Float": _float,
    "Number": _float,
    "Integer": _integer,
    "Long": _integer,
    "Boolean": _boolean,
    "Geometry": _geometry,
    "Element": _element,
    "Feature": _feature,
    "FeatureCollection": _feature_collection,
    "ImageCollection": _image_collection,
    "Projection": _projection,
    "ErrorMargin": _error_margin,
    "Date": _date,
    "DateRange": _date_range,
    "PixelType": _pixel_type,
    "Filter": _only(Filter),
    "Reducer": _only(Reducer),
    "Join": _only(Join),
    "Algorithm": _function,
}


def promote(value: Any, type_text: str, algorithm_name: str, argument: str) -> Any:
    """Check a value that is not null, and promote it.

    Raises:
        AlgorithmError: it is of the wrong type; the message is the service's, from the argument on.
    """
    try:
        return promoter(type_text)(value)
    except WrongTypeError:
        raise AlgorithmError(
            f"{algorithm_name}, argument '{argument}': Invalid type.\n"
            f"Expected type: {type_text}.\nActual type: {type_name(value)}."
        ) from None
