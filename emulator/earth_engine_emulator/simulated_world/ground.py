"""The ground of the simulated world at pixel size: what grows or stands where, and how it lies.

Everything that does not change with the date. It is the dearest part, so windows are kept for a
while: four products and four seasons of a location see the same ground.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.land_cover import CLASS_NAMES
from earth_engine_emulator.simulated_world.geography import Geography, describe_places
from earth_engine_emulator.simulated_world.lattices import PixelBox, mercator, to_lon_lat
from earth_engine_emulator.simulated_world.noise import (
    Floats,
    Singles,
    hash_cells,
    mix,
    rough_noise,
    smooth_noise,
    uniform,
)

Classes = npt.NDArray[np.uint8]

(
    WATER,
    TREES,
    GRASS,
    FLOODED,
    CROPS,
    SHRUB,
    BUILT,
    BARE,
    SNOW,
) = range(len(CLASS_NAMES))
_FIELD_LEVEL: Final = 17
"""Cells of the field mosaic: 306 m at the equator, 200 m at 50 degrees."""
_MAX_KEPT: Final = 160
"""About 1 MB each on average: some 30 locations with their seasons' Sentinel-1 lattices."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground under a window; all arrays (height, width).

    Args:
        cover: class without snow, uint8.
        lot: 0..1, one number per field, stand or block of houses.
        texture: within a lot, mean 0, standard deviation about 0.5.
        vigour: 0..1, how green it can get.
        slope_east: rise towards the east, m/m.
        slope_north: rise towards the north, m/m.
        temperature: yearly mean, deg C.
        swing: seasonal half range, K.
        depth: of water, 0 shallow or turbid .. 1 deep and clear.
    """

    cover: Classes
    lot: Singles
    texture: Singles
    vigour: Singles
    slope_east: Singles
    slope_north: Singles
    temperature: Singles
    swing: Singles
    depth: Singles


class GroundCache:
    """Grounds by window. Results never depend on what is kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[PixelBox, Ground] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[PixelBox, threading.Lock] = {}

    def under(self, box: PixelBox) -> Ground:
        """Return the ground under a window; threads that want the same one wait for the first."""
        with self._lock:
            if box in self._kept:
                self._kept.move_to_end(box)
                return self._kept[box]
            making = self._making.setdefault(box, threading.Lock())
        with making:
            with self._lock:
                if box in self._kept:
                    return self._kept[box]
            ground = make_ground(box)
            with self._lock:
                self._kept[box] = ground
                self._making.pop(box, None)
                while len(self._kept) > _MAX_KEPT:
                    self._kept.popitem(last=False)
            return ground


def make_ground(box: PixelBox) -> Ground:
    """Compute the ground under a window; pixels of about 10 or 20 m."""
    wide = box.padded(1)
    knots = wide.knots()
    x, y = (grid for grid in np.meshgrid(*knots.easting_northing()))
    lon, lat = to_lon_lat(box.lattice.crs).transform(x, y)
    knot_u, knot_v = mercator(_unwrapped(lon), lat)
    slow = describe_places(np.asarray(lon), np.asarray(lat), knot_u, knot_v)
    u, v = wide.between_knots(knot_u), wide.between_knots(knot_v)
    fields = Geography(
        *(
            wide.between_knots(getattr(slow, name)).astype(np.float32)
            for name in Geography.__slots__
        )
    )
    height_m, slope_east, slope_north = _terrain(fields, u, v, wide)
    inner = (slice(1, -1), slice(1, -1))
    u, v = u[inner], v[inner]
    fields = Geography(*(getattr(fields, name)[inner] for name in Geography.__slots__))
    return _cover(fields, height_m[inner], slope_east, slope_north, u, v)


def _unwrapped(longitude: Floats) -> Floats:
    """Return longitudes without the jump at 180 degrees."""
    first = longitude.flat[0]
    return np.asarray(first + (longitude - first + 180.0) % 360.0 - 180.0)


def _terrain(
    fields: Geography, u: Floats, v: Floats, box: PixelBox
) -> tuple[Singles, Singles, Singles]:
    """Return height on the padded window, and slopes on the window itself."""
    fine = 1 - np.abs(rough_noise(u, v, (14, 18), 201, 0.5))
    land = fields.height_m > 0
    height_m = fields.height_m + np.where(land, (12 + 330 * fields.relief) * (fine - 0.6), 0)
    height_m = height_m.astype(np.float32)
    east = (height_m[1:-1, 2:] - height_m[1:-1, :-2]) / np.float32(2 * box.lattice.x_scale)
    north = (height_m[2:, 1:-1] - height_m[:-2, 1:-1]) / np.float32(2 * box.lattice.y_scale)
    return height_m, east, north


def _cover(
    fields: Geography,
    height_m: Singles,
    slope_east: Singles,
    slope_north: Singles,
    u: Floats,
    v: Floats,
) -> Ground:
    slope = np.hypot(slope_east, slope_north)
    wide = rough_noise(u, v, (15, 17), 301, 0.6)
    patchy = rough_noise(u, v, (17, 19), 302, 0.6)
    texture = rough_noise(u, v, (19, 21), 303, 0.8)
    lot, edge, kind = _fields(u, v)
    stream, river = _waters(fields, u, v, wide)
    moisture = np.clip(
        fields.moisture + 0.10 * wide - 0.25 * slope + 0.2 * np.exp(-(river**2) / 20), 0.0, 1.0
    )
    warm = _ramp(fields.temperature, -4, 6)
    forest = moisture * warm + 0.22 * wide + 0.12 * patchy + 0.3 * np.clip(slope, 0, 0.5)
    cover = np.full(u.shape, BARE, np.uint8)
    cover[moisture * (0.35 + 0.65 * warm) + 0.06 * patchy > 0.23] = SHRUB
    cover[moisture * warm + 0.10 * patchy > 0.34] = GRASS
    cover[forest > 0.60] = TREES
    arable = moisture * warm * (1 - _ramp(moisture, 0.75, 1.0)) - 1.6 * slope + 0.16 * wide
    farmed = (arable > 0.24) & (fields.temperature > 1)
    cover[farmed & (forest < 0.74)] = CROPS
    fallow = farmed & (cover == CROPS)
    cover[fallow & (kind < 0.16)] = GRASS
    cover[fallow & (kind > 0.93)] = TREES
    cover[fallow & (edge < 0.05) & (moisture > 0.45)] = SHRUB
    urban = fields.urban + 0.10 * patchy + 0.10 * wide - 0.6 * slope
    street, garden = _streets(u, v)
    built = urban > 0.42
    green = built & (garden + 0.5 * patchy > 0.55 + 0.75 * (urban - 0.42)) & ~street
    cover[built] = BUILT
    cover[green & (texture > 0)] = TREES
    cover[green & (texture <= 0)] = GRASS
    cover[(urban > 0.38) & street & (wide > -0.2)] = BUILT
    wet = (river < 9) & (slope < 0.06) & (moisture > 0.42) & (patchy > 0.15) & ~built
    cover[wet] = FLOODED
    water = (fields.height_m <= 0) | (river < 3) | stream
    lake = rough_noise(u, v, (13, 16), 304, 0.55) - 1.3 * slope
    water |= (lake > 1.02 - 0.25 * fields.moisture) & (fields.relief < 0.8)
    cover[water] = WATER
    lot = np.where(cover == CROPS, lot, np.float32(0.5) + np.float32(0.5) * np.tanh(wide))
    depth = _ramp(-fields.height_m + 30 * wide, 20, 70) * (fields.height_m <= 0)
    vigour = np.clip(0.35 + 0.75 * moisture + 0.12 * patchy, 0, 1)
    singles = (lot, texture, vigour, slope_east, slope_north)
    lot, texture, vigour, slope_east, slope_north = (s.astype(np.float32) for s in singles)
    temperature = fields.temperature - np.float32(0.0055) * (height_m - fields.height_m)
    return Ground(
        cover,
        lot,
        texture,
        vigour,
        slope_east,
        slope_north,
        temperature.astype(np.float32),
        fields.swing,
        depth.astype(np.float32),
    )


def _ramp(values: npt.NDArray[np.floating], low: float, high: float) -> Singles:
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def _waters(
    fields: Geography, u: Floats, v: Floats, wide: Singles
) -> tuple[npt.NDArray[np.bool_], Singles]:
    """Return streams, and the distance to the nearest river in about 10 m.

    Rivers are the zero lines of a noise: they wind, they never end, and they do not branch.
    """
    main = smooth_noise(u, v, 11, 401) + 0.30 * smooth_noise(u, v, 13, 402)
    main += 0.05 * wide
    width = 0.6 + 1.2 * fields.moisture
    river = np.abs(main) * 420 / width + 60 * (fields.moisture < 0.22)
    small = np.abs(smooth_noise(u, v, 13, 403) + 0.25 * smooth_noise(u, v, 15, 404))
    stream = (small < 0.010 * fields.moisture) & (fields.moisture > 0.35)
    return stream, river.astype(np.float32)


def _fields(u: Floats, v: Floats) -> tuple[Singles, Singles, Singles]:
    """Return a mosaic of fields: a number per field, the distance to its edge, and its kind.

    Fields are rectangles of a grid that is turned and stretched by region: strips in one valley,
    squares in the next. Neighbouring rectangles are joined at random.
    """
    size = 1 << _FIELD_LEVEL
    turn = 0.9 * smooth_noise(u, v, 12, 501)
    # Regions of one orientation: the angle is rounded, so that edges are straight.
    region = np.round(turn * 3)
    angle = region * np.float32(0.55) + np.float32(0.3)
    x, y = u * size, v * size
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (-np.sin(angle) * x + np.cos(angle) * y) * (1.0 + 0.5 * (region % 3))
    row = np.floor(across)
    shift = uniform(hash_cells(row, region, 502))
    along = along * 0.8 + shift
    column = np.floor(along)
    joined = uniform(hash_cells(column, row + 7 * region, 503)) < 0.25
    column = np.where(joined, column - 1, column)
    words = hash_cells(column, row + 131 * region, 504)
    fx, fy = along - np.floor(along), across - row
    edge = np.minimum(np.minimum(fx, 1 - fx), np.minimum(fy, 1 - fy))
    return uniform(words), edge.astype(np.float32), uniform(mix(words))


def _streets(u: Floats, v: Floats) -> tuple[npt.NDArray[np.bool_], Singles]:
    """Return streets, and how green each block of houses is, 0..1."""
    size = 1 << 18
    quarter = np.round(3 * smooth_noise(u, v, 14, 601))
    angle = quarter * np.float32(0.7)
    x, y = u * size, v * size
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (-np.sin(angle) * x + np.cos(angle) * y) * 1.6
    column, row = np.floor(along), np.floor(across)
    street = (along - column < 0.10) | (across - row < 0.13)
    return street, uniform(hash_cells(column, row + 17 * quarter, 602))
