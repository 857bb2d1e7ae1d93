"""Arithmetic, comparison, logic and casts of images, band by band.

Types of results, as far as they are modelled: sums, differences and products of integers are
integers whose range is computed from the operands' ranges; quotients and transcendental functions
are float, or double where an operand is double or wider than 16 bits; comparisons and logic give
0 or 1; the rest unites the operands' types. Casts to integers truncate towards 0 and clamp to the
range. Not-finite results stay unmasked: what the service does with them is not verified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.images import Image, ImageBand, select_bands
from earth_engine_emulator.expressions.pixel_types import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    NAMED,
    PixelType,
    union,
)
from earth_engine_emulator.expressions.promotion import promote
from earth_engine_emulator.expressions.rasters import Chosen, Masked, Pointwise, Unmasked

Values = npt.NDArray[Any]
Ufunc = Callable[..., Values]
TypeRule = Callable[..., PixelType]

_WIDE_BYTES = 4


def _wide(values: Values) -> Values:
    """Return values in a type that holds intermediate results."""
    if values.dtype.kind == "f":
        return values
    return values.astype(np.float64) if values.dtype.itemsize < 8 else values


def matched(left: Image, right: Image) -> list[tuple[ImageBand, ImageBand, str]]:
    """Pair the bands of two images as the service does, with the names of the results.

    Raises:
        AlgorithmError: neither numbers nor names of the bands fit.
    """
    one, two = left.bands, right.bands
    if not one or not two:
        raise AlgorithmError("Images must have at least one band.")
    if len(two) == 1:
        return [(a, two[0], a.name) for a in one]
    if len(one) == 1:
        return [(one[0], b, b.name) for b in two]
    by_name = {band.name: band for band in two}
    if {band.name for band in one} == set(by_name):
        return [(a, by_name[a.name], a.name) for a in one]
    if len(one) == len(two):
        return [(a, b, a.name) for a, b in zip(one, two, strict=True)]
    common = [(a, by_name[a.name], a.name) for a in one if a.name in by_name]
    if not common:
        raise AlgorithmError(f"Image bands do not match: {left.band_names} and {right.band_names}.")
    return common


def _binary(left: Image, right: Image, function: Ufunc, rule: TypeRule) -> Image:
    bands = []
    for a, b, name in matched(left, right):
        pixel_type = rule(a.pixel_type, b.pixel_type)
        raster = Pointwise(function, (a.raster, b.raster), pixel_type.dtype)
        # The result lies where its first operand lies.
        bands.append(ImageBand(name, pixel_type, a.projection, raster, a.dimensions))
    first = left if left.footprint is not None else right
    return first.computed(bands)


def _unary(image: Image, function: Ufunc, rule: TypeRule) -> Image:
    return image.computed([_mapped(band, function, rule(band.pixel_type)) for band in image.bands])


def _mapped(band: ImageBand, function: Ufunc, pixel_type: PixelType) -> ImageBand:
    raster = Pointwise(function, (band.raster,), pixel_type.dtype)
    return replace(band, pixel_type=pixel_type, raster=raster)


def _floating(*types: PixelType) -> PixelType:
    wide = any(
        t.precision == "double" or (t.precision == "int" and t.itemsize >= _WIDE_BYTES)
        for t in types
    )
    return DOUBLE if wide else FLOAT


def _double(*_types: PixelType) -> PixelType:
    return DOUBLE


def _boolean(*_types: PixelType) -> PixelType:
    return BOOLEAN


def _same(pixel_type: PixelType) -> PixelType:
    return pixel_type


def _range_of(function: Callable[[float, float], float]) -> TypeRule:
    def rule(left: PixelType, right: PixelType) -> PixelType:
        united = union(left, right)
        bounds = (left.minimum, left.maximum), (right.minimum, right.maximum)
        if united.precision != "int" or None in {*bounds[0], *bounds[1]}:
            return PixelType(united.precision)
        corners = [function(a, b) for a, b in product(*bounds)]  # type: ignore[arg-type]
        low, high = min(corners), max(corners)
        return PixelType("int", low, high) if abs(low) < 2**62 > abs(high) else DOUBLE

    return rule


def _divide(left: Values, right: Values) -> Values:
    one, two = _wide(left), _wide(right)
    return np.where(two == 0, 0, one / np.where(two == 0, 1, two))


def _modulo(left: Values, right: Values) -> Values:
    one, two = _wide(left), _wide(right)
    # Java's %: the sign of the dividend.
    return np.where(two == 0, 0, np.fmod(one, np.where(two == 0, 1, two)))


def _bits(function: Ufunc) -> Ufunc:
    def on_integers(*operands: Values) -> Values:
        return function(*(operand.astype(np.int64) for operand in operands))

    return on_integers


def _first_nonzero(left: Values, right: Values) -> Values:
    return np.where(left != 0, left, right)


BINARY: dict[str, tuple[Ufunc, TypeRule]] = {
    "add": (lambda a, b: _wide(a) + b, _range_of(lambda a, b: a + b)),
    "subtract": (lambda a, b: _wide(a) - b, _range_of(lambda a, b: a - b)),
    "multiply": (lambda a, b: _wide(a) * b, _range_of(lambda a, b: a * b)),
    "divide": (_divide, _floating),
    "mod": (_modulo, union),
    "pow": (lambda a, b: np.power(np.asarray(a, np.float64), b), _double),
    "atan2": (lambda a, b: np.arctan2(_wide(b), _wide(a)), _floating),
    "hypot": (lambda a, b: np.hypot(_wide(a), _wide(b)), _floating),
    "min": (np.minimum, _range_of(min)),
    "max": (np.maximum, _range_of(max)),
    "first": (lambda a, b: np.broadcast_arrays(a, b)[0], lambda a, _: a),
    "firstNonZero": (_first_nonzero, union),
    "eq": (np.equal, _boolean),
    "neq": (np.not_equal, _boolean),
    "lt": (np.less, _boolean),
    "lte": (np.less_equal, _boolean),
    "gt": (np.greater, _boolean),
    "gte": (np.greater_equal, _boolean),
    "and": (np.logical_and, _boolean),
    "or": (np.logical_or, _boolean),
    "bitwiseAnd": (_bits(np.bitwise_and), union),
    "bitwiseOr": (_bits(np.bitwise_or), union),
    "bitwiseXor": (_bits(np.bitwise_xor), union),
    "leftShift": (_bits(np.left_shift), lambda _a, _b: NAMED["int64"]),
    "rightShift": (_bits(np.right_shift), lambda a, _: a),
}


def _wave(function: Ufunc) -> tuple[Ufunc, TypeRule]:
    return (lambda a: function(_wide(a)), _floating)


def _magnitude(pixel_type: PixelType) -> PixelType:
    low, high = pixel_type.minimum, pixel_type.maximum
    if low is None or high is None:
        return pixel_type
    return PixelType(pixel_type.precision, max(low, -high, 0), max(abs(low), abs(high)))


def _bit_count(values: Values) -> Values:
    return np.bitwise_count(values.astype(np.int64))


UNARY: dict[str, tuple[Ufunc, TypeRule]] = {
    "abs": (np.abs, _magnitude),
    "floor": (np.floor, _same),
    "ceil": (np.ceil, _same),
    "round": (lambda a: np.floor(_wide(a) + 0.5), _same),
    "signum": (np.sign, lambda _: PixelType("int", -1, 1)),
    "not": (lambda a: a == 0, _boolean),
    "bitwiseNot": (_bits(np.bitwise_not), lambda _: NAMED["int64"]),
    "bitCount": (_bit_count, lambda _: NAMED["uint8"]),
    "sqrt": _wave(np.sqrt),
    "cbrt": _wave(np.cbrt),
    "exp": _wave(np.exp),
    "log": _wave(np.log),
    "log10": _wave(np.log10),
    "sin": _wave(np.sin),
    "cos": _wave(np.cos),
    "tan": _wave(np.tan),
    "asin": _wave(np.arcsin),
    "acos": _wave(np.arccos),
    "atan": _wave(np.arctan),
    "sinh": _wave(np.sinh),
    "cosh": _wave(np.cosh),
    "tanh": _wave(np.tanh),
}
_OLD_NAMES = {
    "firstNonZero": "first_nonzero",
    "bitwiseAnd": "bitwise_and",
    "bitwiseOr": "bitwise_or",
    "bitwiseXor": "bitwise_xor",
    "leftShift": "left_shift",
    "rightShift": "right_shift",
    "bitwiseNot": "bitwise_not",
}


def cast_values(values: Values, pixel_type: PixelType) -> Values:
    """Convert values to a type: towards 0 and clamped for integers; not-a-number becomes 0."""
    if pixel_type.precision != "int" or values.dtype == pixel_type.dtype:
        return values.astype(pixel_type.dtype, copy=False)
    held = np.iinfo(pixel_type.dtype)
    if values.dtype.kind == "f":
        whole = np.trunc(np.nan_to_num(values.astype(np.float64), posinf=np.inf, neginf=-np.inf))
        if held.max > 2**53:
            # The largest int64 is no float64: the nearest ones lie beyond it.
            whole = np.clip(whole, -(2.0**63), 2.0**63 - 1024)
        return np.clip(whole, held.min, held.max).astype(pixel_type.dtype)
    return np.clip(values, held.min, held.max).astype(pixel_type.dtype)


def cast_band(band: ImageBand, pixel_type: PixelType) -> ImageBand:
    """Return a band with its values converted."""
    if band.pixel_type.dtype == pixel_type.dtype:
        return replace(band, pixel_type=pixel_type)
    return _mapped(band, lambda values: cast_values(values, pixel_type), pixel_type)


def _cast(image: Image, pixel_type: PixelType) -> Image:
    return image.computed([cast_band(band, pixel_type) for band in image.bands])


def _register() -> None:
    for name, (function, rule) in BINARY.items():
        _register_one(name, lambda a, b, f=function, r=rule: _binary(a, b, f, r))
    for name, (function, rule) in UNARY.items():
        _register_one(name, lambda a, f=function, r=rule: _unary(a, f, r))
    for name, pixel_type in NAMED.items():
        capital = f"to{name[0].upper()}{name[1:]}"
        algorithm(f"Image.{name}", f"Image.{capital}")(lambda image, t=pixel_type: _cast(image, t))


def _register_one(name: str, function: Callable[..., Image]) -> None:
    names = [f"Image.{name}", *([f"Image.{_OLD_NAMES[name]}"] if name in _OLD_NAMES else [])]
    algorithm(*names)(function)


_register()


@algorithm("Image.cast")
def _cast_some(image: Image, types: dict[str, Any], order: list[str] | None) -> Image:
    wanted = {
        name: promote(value, "PixelType", "Image.cast", "bandTypes")
        for name, value in types.items()
    }
    missing = [name for name in wanted if name not in image.band_names]
    if missing:
        raise AlgorithmError(f"Band '{missing[0]}' is not among {image.band_names}.")
    bands = {
        band.name: cast_band(band, wanted[band.name]) if band.name in wanted else band
        for band in image.bands
    }
    return image.with_bands([bands[name] for name in (order or image.band_names)])


@algorithm("Image.clamp")
def _clamp(image: Image, low: float, high: float) -> Image:
    def rule(pixel_type: PixelType) -> PixelType:
        if pixel_type.precision != "int":
            return pixel_type
        return PixelType("int", int(low), int(high))

    return _unary(image, lambda values: np.clip(_wide(values), low, high), rule)


@algorithm("Image.unitScale")
def _unit_scale(image: Image, low: float, high: float) -> Image:
    if low == high:
        raise AlgorithmError("'low' and 'high' must differ.")
    return _unary(image, lambda values: (_wide(values) - low) / (high - low), _floating)


@algorithm("Image.normalizedDifference")
def _normalized_difference(image: Image, names: list[str] | None) -> Image:
    if names is None and len(image.bands) < 2:
        raise AlgorithmError("The input must have at least two bands.")
    one, two = select_bands(image, names or [0, 1], None).bands

    def ratio(a: Values, b: Values) -> Values:
        return _divide(_wide(a) - b, _wide(a) + b)

    inputs = (one.raster, two.raster)
    raster = Pointwise(ratio, inputs, np.float32)
    # A negative value in either band masks the result.
    not_negative = Pointwise(lambda a, b: (a >= 0) & (b >= 0), inputs, np.uint8)
    band = ImageBand("nd", FLOAT, one.projection, Masked(raster, not_negative), one.dimensions)
    return image.computed([band])


@algorithm("Image.remap")
def _remap(
    image: Image, source: list[Any], target: list[Any], default: Any, name: str | None
) -> Image:
    if len(source) != len(target) or not source:
        raise AlgorithmError("Lists of values must have the same, positive size.")
    band = select_bands(image, [0 if name is None else name], None).bands[0]
    order = np.argsort(np.asarray(source, np.float64), kind="stable")
    keys = np.asarray(source, np.float64)[order]
    answers = np.asarray(target, np.float64)[order]
    whole = all(float(v).is_integer() for v in target)
    pixel_type = PixelType("int", min(target), max(target)) if whole else DOUBLE

    def found(values: Values) -> npt.NDArray[np.int64]:
        return np.minimum(np.searchsorted(keys, values), len(keys) - 1)

    mapped = Pointwise(lambda v: answers[found(v)], (band.raster,), pixel_type.dtype)
    known = Pointwise(lambda v: keys[found(v)] == v, (band.raster,), np.uint8)
    raster: Any = Masked(mapped, known)
    if default is not None:
        fill = promote(default, "Image<unknown bands>", "Image.remap", "defaultValue").bands[0]
        pixel_type = union(pixel_type, fill.pixel_type)
        # Only values that are there are mapped: what was masked stays so.
        raster = Masked(Unmasked(raster, fill.raster, None, pixel_type.dtype), _valid_one(band))
    out = ImageBand("remapped", pixel_type, band.projection, raster, band.dimensions)
    return image.computed([out])


def _valid_one(band: ImageBand) -> Pointwise:
    return Pointwise(lambda v: np.ones_like(v, np.uint8), (band.raster,), np.uint8)


def combine_where(image: Image, test: Image, value: Image) -> list[ImageBand]:
    """Return the bands of `image`, replaced by `value` where `test` holds."""
    tests = spread(test, len(image.bands))
    values = spread(value, len(image.bands))
    out = []
    for band, tested, other in zip(image.bands, tests, values, strict=True):
        pixel_type = union(band.pixel_type, other.pixel_type)
        raster = Chosen(band.raster, tested.raster, other.raster, pixel_type.dtype)
        out.append(replace(band, pixel_type=pixel_type, raster=raster))
    return out


def spread(image: Image, count: int) -> Sequence[ImageBand]:
    """Return `count` bands: the image's own, or its single one repeated.

    Raises:
        AlgorithmError: it has another number of bands.
    """
    if len(image.bands) == 1:
        return image.bands * count
    if len(image.bands) != count:
        raise AlgorithmError(f"An image of 1 or {count} bands is needed, got {len(image.bands)}.")
    return image.bands
