"""A patch's pixel lattice: where each pixel lies on Earth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from pyproj import CRS, Transformer

from storage_schema.products import patch_size_px


@dataclass(frozen=True, slots=False)
class Grid:
    """A north-up square lattice in a projected CRS.

    Args:
        epsg: EPSG code of the CRS (units: metres).
        x_origin: easting of the upper-left corner (not centre) of the first pixel, m.
        y_origin: northing of the same corner, m.
        resolution_m: pixel side, m.
        size_px: pixels per side.
    """

    epsg: int
    x_origin: float
    y_origin: float
    resolution_m: float = 10.0
    size_px: int = patch_size_px()

    def __post_init__(self) -> None:
        if self.resolution_m <= 0 or self.size_px <= 0:
            raise ValueError(
                f"grid of {self.size_px} px at {self.resolution_m} m: both must be positive"
            )

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine coefficients (a, b, c, d, e, f) from (column, row) to (x, y)."""
        return (self.resolution_m, 0.0, self.x_origin, 0.0, -self.resolution_m, self.y_origin)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top), m."""
        side_m = self.resolution_m * self.size_px
        return (self.x_origin, self.y_origin - side_m, self.x_origin + side_m, self.y_origin)

    @cached_property
    def centre_lon_lat(self) -> tuple[float, float]:
        """Longitude and latitude (EPSG:4326, deg) of the centre."""
        half_m = self.resolution_m * self.size_px / 2
        lon, lat = to_lon_lat(self.epsg).transform(self.x_origin + half_m, self.y_origin - half_m)
        return float(lon), float(lat)


def patch_grid(epsg: int, x_origin: float, y_origin: float, resolution_m: int = 10) -> Grid:
    """Return the lattice of a 2.64 km patch at one of its native resolutions."""
    return Grid(epsg, x_origin, y_origin, resolution_m, patch_size_px(resolution_m))


@lru_cache(maxsize=256)
def to_lon_lat(epsg: int) -> Transformer:
    """Return the transformer from a CRS to longitude, latitude (deg, in this order)."""
    return Transformer.from_crs(CRS.from_epsg(epsg), CRS.from_epsg(4326), always_xy=True)


@lru_cache(maxsize=256)
def from_lon_lat(epsg: int) -> Transformer:
    """Return the transformer from longitude, latitude (deg) to a CRS."""
    return Transformer.from_crs(CRS.from_epsg(4326), CRS.from_epsg(epsg), always_xy=True)
