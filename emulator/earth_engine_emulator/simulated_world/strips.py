"""Strips of the Earth in a map projection: which pixels a swath reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import shapely

from earth_engine_emulator.simulated_world.lattices import PixelBox, from_lon_lat, to_lon_lat
from earth_engine_emulator.simulated_world.orbits import Mission
from earth_engine_emulator.worlds import Bounds

Ring = tuple[tuple[float, float], ...]
_SLACK_DEG: Final = 0.02
"""Straight lines in degrees are not those on the Earth: near a border, let the footprint decide."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A straight strip in a projected CRS: |(x - x0) nx + (y - y0) ny| <= half_width.

    Args:
        x0: a point on its middle line, m.
        y0: likewise.
        nx: unit vector across the strip.
        ny: likewise.
        half_width_m: to either side.
        half_length_m: along it, from (x0, y0); infinite for a swath without end.
    """

    x0: float
    y0: float
    nx: float
    ny: float
    half_width_m: float
    half_length_m: float = math.inf

    @classmethod
    def of_track(
        cls,
        mission: Mission,
        relative_orbit: int,
        descending: bool,
        latitude: float,
        crs: str,
        half_length_m: float = math.inf,
    ) -> Strip:
        """Return the swath of an orbit where it crosses a latitude."""
        transform = from_lon_lat(crs).transform
        ends = [
            transform(mission.longitude_of_track(relative_orbit, lat, descending), lat)
            for lat in (latitude - 0.5, latitude + 0.5, latitude)
        ]
        (x1, y1), (x2, y2), (x0, y0) = ends
        length = math.hypot(x2 - x1, y2 - y1)
        nx, ny = (y2 - y1) / length, -(x2 - x1) / length
        return cls(x0, y0, nx, ny, 500.0 * mission.swath_km, half_length_m)

    def covers(self, box: PixelBox) -> npt.NDArray[np.bool_]:
        """Tell which pixel centres of a window lie in the strip, (height, width)."""
        x, y = box.easting_northing()
        dx, dy = (x - self.x0)[None, :], (y - self.y0)[:, None]
        inside = np.abs(dx * self.nx + dy * self.ny) <= self.half_width_m
        if math.isfinite(self.half_length_m):
            inside &= np.abs(dx * self.ny - dy * self.nx) <= self.half_length_m
        return np.asarray(inside)

    def polygon(self) -> shapely.Polygon:
        """Return the strip as a polygon of its CRS; without end, long enough for any tile."""
        along = min(self.half_length_m, 400_000.0)
        corners = []
        for across, forward in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            x = self.x0 + across * self.half_width_m * self.nx + forward * along * self.ny
            y = self.y0 + across * self.half_width_m * self.ny - forward * along * self.nx
            corners.append((x, y))
        return shapely.Polygon(corners)


def ring_of(polygon: shapely.Polygon, crs: str) -> Ring:
    """Return a polygon's outline as longitude, latitude: closed, counter-clockwise."""
    dense = shapely.segmentize(shapely.normalize(polygon), 30_000.0)
    x, y = np.asarray(shapely.geometry.polygon.orient(dense, 1.0).exterior.coords).T
    lon, lat = to_lon_lat(crs).transform(x, y)
    lon = lon[0] + (np.asarray(lon) - lon[0] + 180.0) % 360.0 - 180.0
    return tuple((float(a), float(b)) for a, b in zip(lon, lat, strict=True))


def touches(ring: Ring, bounds: Bounds) -> bool:
    """Tell whether an outline may touch a box of longitude and latitude."""
    polygon = _polygon_of(ring)
    width = (bounds.east - bounds.west) % 360.0
    # The ring runs on beyond 180 degrees where it has to; so does the box, from the same side.
    west = polygon.bounds[0] + (bounds.west - polygon.bounds[0] + 180.0) % 360.0 - 180.0
    box = shapely.box(
        west - _SLACK_DEG,
        bounds.south - _SLACK_DEG,
        west + width + _SLACK_DEG,
        bounds.north + _SLACK_DEG,
    )
    return bool(shapely.intersects(polygon, box))


@lru_cache(maxsize=32_768)
def _polygon_of(ring: Ring) -> shapely.Polygon:
    polygon = shapely.Polygon(ring)
    shapely.prepare(polygon)
    return polygon
