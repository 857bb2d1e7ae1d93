"""Types of pixels: precision and range, and the NumPy type that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.worlds import Band

Precision = Literal["int", "float", "double"]

_INTEGER_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64")


@dataclass(frozen=True, slots=True)
class PixelType:
    """The service's PixelType.

    Args:
        precision: int, float (32 bits) or double (64 bits).
        minimum: least value, None if not known.
        maximum: greatest value, None if not known.
    """

    precision: Precision
    minimum: float | None = None
    maximum: float | None = None

    @property
    def dtype(self) -> npt.DTypeLike:
        """The smallest NumPy type that holds the range: how pixels leave the service."""
        if self.precision == "float":
            return np.dtype(np.float32)
        if self.precision == "double":
            return np.dtype(np.float64)
        if self.minimum is None or self.maximum is None:
            return np.dtype(np.int32)
        for name in _INTEGER_DTYPES:
            held = np.iinfo(name)
            if held.min <= self.minimum and self.maximum <= held.max:
                return np.dtype(name)
        return np.dtype(np.float64)

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return int(np.dtype(self.dtype).itemsize)

    def describe(self) -> dict[str, Any]:
        """Return the type as the service sends it."""
        out: dict[str, Any] = {"type": "PixelType", "precision": self.precision}
        if self.minimum is not None and self.maximum is not None:
            out |= {"min": self.minimum, "max": self.maximum}
        return out


def _integer(name: str) -> PixelType:
    held = np.iinfo(name)
    return PixelType("int", int(held.min), int(held.max))


FLOAT = PixelType("float")
DOUBLE = PixelType("double")
BOOLEAN = PixelType("int", 0, 1)
NAMED: dict[str, PixelType] = {
    "uint8": _integer("uint8"),
    "byte": _integer("uint8"),
    "int8": _integer("int8"),
    "uint16": _integer("uint16"),
    "int16": _integer("int16"),
    "short": _integer("int16"),
    "uint32": _integer("uint32"),
    "int32": _integer("int32"),
    "int": _integer("int32"),
    "int64": _integer("int64"),
    "long": _integer("int64"),
    "float": FLOAT,
    "double": DOUBLE,
}


def named_type(name: str) -> PixelType:
    """Return a type by its name, ``uint8``.

    Raises:
        AlgorithmError: there is no such type.
    """
    if name not in NAMED:
        raise AlgorithmError(f"Unknown pixel type '{name}'.")
    return NAMED[name]


def type_of_band(band: Band) -> PixelType:
    """Return the type of a stored band; an integer without a stated range has its dtype's."""
    if band.precision != "int":
        return PixelType(band.precision)
    if band.value_range is None:
        return _integer(band.dtype)
    low, high = band.value_range
    return PixelType("int", int(low), int(high))


def type_of_constant(value: float) -> PixelType:
    """Return the type of a constant image: its value is its range."""
    if isinstance(value, (bool, int)):
        return PixelType("int", int(value), int(value))
    if float(value).is_integer() and abs(value) < 2**31:
        return PixelType("int", int(value), int(value))
    return PixelType("double", value, value)


def union(left: PixelType, right: PixelType) -> PixelType:
    """Return the type that holds the values of both, as the service unites types."""
    order = ("int", "float", "double")
    precision = max(left.precision, right.precision, key=order.index)
    if None in {left.minimum, left.maximum, right.minimum, right.maximum}:
        return PixelType(precision)
    return PixelType(
        precision,
        min(left.minimum, right.minimum),  # type: ignore[type-var]
        max(left.maximum, right.maximum),  # type: ignore[type-var]
    )
