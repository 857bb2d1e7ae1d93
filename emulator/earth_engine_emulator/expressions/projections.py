"""Projections: a CRS and an affine transform, and transformations between CRSs."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj

from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.worlds import Lattice

Coordinates = npt.NDArray[Any]
"""float64."""
Affine = tuple[float, float, float, float, float, float]

WGS84_CRS = "EPSG:4326"
IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
METRES_PER_DEGREE = 2 * math.pi * 6378137.0 / 360.0
"""At the equator: the service's nominal scale of one degree, 111319.49 m."""

_thread = threading.local()


@dataclass(frozen=True, slots=True)
class Projection:
    """A CRS with an affine transform from pixels to its coordinates.

    Args:
        crs: authority code or WKT.
        transform: x scale, x shear, x origin, y shear, y scale, y origin.
    """

    crs: str
    transform: Affine = IDENTITY

    @property
    def nominal_scale_m(self) -> float:
        """Metres per pixel, as the service states it: at the equator for degrees."""
        a, b, _, d, e, _ = self.transform
        return math.sqrt(abs(a * e - b * d)) * metres_per_unit(self.crs)

    def at_scale(self, scale_m: float) -> Projection:
        """Return this projection with square pixels of `scale_m`, its origin kept."""
        factor = scale_m / self.nominal_scale_m
        return self.scaled(factor, factor)

    def scaled(self, x: float, y: float) -> Projection:
        """Return this projection with pixels `x` times as wide and `y` times as high."""
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a * x, b * y, c, d * x, e * y, f))

    def translated(self, x: float, y: float) -> Projection:
        """Return this projection with its origin moved by `x`, `y` pixels."""
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a, b, c + a * x + b * y, d, e, f + d * x + e * y))

    @classmethod
    def of_lattice(cls, lattice: Lattice) -> Projection:
        """Return the projection of a band."""
        return cls(lattice.crs, parse_affine(lattice.crs_transform))


WGS84 = Projection(WGS84_CRS)


@lru_cache(maxsize=256)
def parse_crs(text: str) -> pyproj.CRS:
    """Parse an authority code or WKT.

    Raises:
        AlgorithmError: it means nothing.
    """
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        raise AlgorithmError(
            f"The CRS of a map projection could not be parsed: '{text}'."
        ) from None


@lru_cache(maxsize=256)
def metres_per_unit(crs: str) -> float:
    """Return the length of a CRS's unit (m); of a degree, at the equator."""
    parsed = parse_crs(crs)
    if parsed.is_geographic:
        return METRES_PER_DEGREE
    return float(parsed.axis_info[0].unit_conversion_factor) if parsed.axis_info else 1.0


def _transformer(source: str, target: str) -> pyproj.Transformer:
    # One cache per thread: a transformer is cheap to use and dear to make, and not to be shared.
    cache: dict[tuple[str, str], pyproj.Transformer] | None = getattr(_thread, "cache", None)
    if cache is None:
        cache = _thread.cache = {}
    found = cache.get((source, target))
    if found is None:
        found = pyproj.Transformer.from_crs(parse_crs(source), parse_crs(target), always_xy=True)
        cache[source, target] = found
    return found


def transform_coordinates(
    source: str, target: str, x: Coordinates, y: Coordinates
) -> tuple[Coordinates, Coordinates]:
    """Transform coordinates between CRSs, x or longitude first; not finite where impossible."""
    if source == target:
        return x, y
    out_x, out_y = _transformer(source, target).transform(x, y)
    return np.asarray(out_x, np.float64), np.asarray(out_y, np.float64)


def projection_from(
    crs: Any, transform: Any = None, transform_wkt: str | None = None
) -> Projection:
    """Build a projection as `Projection(crs, transform)` does.

    Args:
        crs: code, WKT, or a projection.
        transform: six numbers, row-major; None keeps what `crs` has, else the identity.
        transform_wkt: a ``PARAM_MT["Affine", ...]``, in place of `transform`.

    Raises:
        AlgorithmError: the CRS or the transform is malformed.
    """
    if transform_wkt is not None:
        raise AlgorithmError("The emulator does not read 'transformWkt'; give 'transform'.")
    known = crs if isinstance(crs, Projection) else None
    if known is None:
        if not isinstance(crs, str):
            raise AlgorithmError(f"The CRS of a map projection could not be parsed: '{crs}'.")
        parse_crs(crs)
        known = Projection(crs)
    return known if transform is None else Projection(known.crs, parse_affine(transform))


def parse_affine(numbers: Any) -> Affine:
    """Check six numbers of a transform.

    Raises:
        AlgorithmError: they are not six numbers.
    """
    try:
        a, b, c, d, e, f = (float(number) for number in numbers)
    except (TypeError, ValueError):
        raise AlgorithmError(
            f"The transform must have 6 numbers, [xScale, xShear, xTranslation, yShear, yScale, "
            f"yTranslation]. Got: {numbers}."
        ) from None
    return (a, b, c, d, e, f)


def describe_transform(projection: Projection) -> str:
    """Return the transform as the service prints it, ``PARAM_MT["Affine", ...]``."""
    a, b, c, d, e, f = projection.transform
    names = (
        ("elt_0_0", a),
        ("elt_0_1", b),
        ("elt_0_2", c),
        ("elt_1_0", d),
        ("elt_1_1", e),
        (
            "elt_1_2",
            f,
        ),
    )
    lines = ['PARAM_MT["Affine", ', '  PARAMETER["num_row", 3], ', '  PARAMETER["num_col", 3], ']
    shown = [f'  PARAMETER["{name}", {value!r}]' for name, value in names if value != 0.0]
    return "\n".join([*lines, ", \n".join(shown) + "]"])
