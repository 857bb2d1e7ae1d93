"""Clouds and haze of one acquisition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from earth_engine_emulator.simulated_world.lattices import PixelBox, mercator, to_lon_lat
from earth_engine_emulator.simulated_world.mgrs_tiles import TILE_SIZE_M, Tile
from earth_engine_emulator.simulated_world.noise import Floats, Singles, rough_noise, share_of

_EARTH_RADIUS_M = 6_371_000.0
_LEVELS = (10, 12)
_FINE_LEVELS = (13, 17)
_FINE = 0.45
_SOFT = 0.28
"""Noise above the threshold at which a cloud is opaque."""
_REACH = 1.35
"""The fine noise is cut there: where the slow one is far below the threshold, no cloud can be."""


@dataclass(frozen=True, slots=True)
class Sky:
    """What lies between the ground and the satellite, arrays (height, width).

    Args:
        cloud: opacity 0..1.
        shadow: 0 lit .. 1 in a cloud's shadow.
        haze: of the whole acquisition: optical depth beyond clean air.
        vapour: water vapour over the usual.
        cirrus: thin ice clouds over the whole acquisition, reflectance x 10000 in B10.
    """

    cloud: Singles | None
    shadow: Singles | None
    haze: float
    vapour: float
    cirrus: float


def cloud_fraction(tile: str, day: str) -> float:
    """Return the share of a tile under cloud: often clear, often covered, seldom between."""
    chance, inner = share_of("cloud", tile, day), share_of("cover", tile, day)
    # Months are dry or wet over some hundred kilometres: clear skies come in spells.
    wet = share_of("month", tile[:-2], tile[-2:-1], day[:7])
    clear = 0.03 + 0.62 * (1 - wet) ** 1.3
    if chance < clear:
        return 0.06 * inner**2
    if chance < clear + 0.22:
        return 0.03 + 0.37 * inner
    return 0.40 + 0.60 * inner


def sky_over(
    box: PixelBox, tile: Tile, day: str, fraction: float, sun_zenith: float, sun_azimuth: float
) -> Sky:
    """Return clouds, their shadows and haze over a window."""
    seed = int(share_of("sky", tile.name, day) * 2**31)
    haze = 0.25 * share_of("haze", tile.name, day) ** 2
    vapour = 0.4 + 1.3 * share_of("vapour", tile.name, day)
    cirrus = 60 * share_of("cirrus", tile.name, day) ** 7
    if fraction <= 0:
        return Sky(None, None, haze, vapour, cirrus)
    threshold = _threshold(tile, seed, round(fraction, 6))
    u, v = _mercator_of(box)
    cloud = _opacity(u, v, seed, threshold)
    # A cloud 1.5 km up throws its shadow away from the sun.
    latitude = np.radians(tile.centre_lon_lat[1])
    metres_around = 2 * np.pi * _EARTH_RADIUS_M * np.cos(latitude)
    length = 1500.0 * min(np.tan(np.radians(sun_zenith)), 6.0) / metres_around
    du, dv = length * np.sin(np.radians(sun_azimuth)), length * np.cos(np.radians(sun_azimuth))
    shadow = _opacity(u + du, v + dv, seed, threshold)
    return Sky(cloud, shadow, haze, vapour, cirrus)


def _opacity(u: Floats, v: Floats, seed: int, threshold: float) -> Singles | None:
    """Return cloud opacity, None where the sky is clear."""
    slow = rough_noise(u, v, _LEVELS, seed, 0.7)
    if float(slow.max()) + _FINE * _REACH <= threshold:
        return None
    thick = slow + _fine(u, v, seed)
    found = np.clip((thick - np.float32(threshold)) / np.float32(_SOFT), 0, 1)
    return np.asarray(found) if found.any() else None


def _fine(u: Floats, v: Floats, seed: int) -> Singles:
    noise = rough_noise(u, v, _FINE_LEVELS, seed + 1, 0.6)
    return np.asarray(np.float32(_FINE) * np.clip(noise, -_REACH, _REACH), dtype=np.float32)


@lru_cache(maxsize=4096)
def _threshold(tile: Tile, seed: int, fraction: float) -> float:
    """Return the noise above which a tile is cloudy in just this share of its area."""
    steps = (np.arange(48) + 0.5) * TILE_SIZE_M / 48
    x, y = np.meshgrid(tile.x_origin + steps, tile.y_origin - steps)
    lon, lat = to_lon_lat(tile.crs).transform(x, y)
    lon = lon[0, 0] + (lon - lon[0, 0] + 180.0) % 360.0 - 180.0
    u, v = mercator(lon, lat)
    thick = rough_noise(u, v, _LEVELS, seed, 0.7)
    thick = thick + _fine(u, v, seed)
    # An eighth of the way up a cloud's edge is what counts as cloudy.
    return float(np.quantile(thick, 1.0 - fraction)) - _SOFT / 8


def _mercator_of(box: PixelBox) -> tuple[Floats, Floats]:
    knots = box.knots()
    x, y = np.meshgrid(*knots.easting_northing())
    lon, lat = to_lon_lat(box.lattice.crs).transform(x, y)
    lon = lon[0, 0] + (lon - lon[0, 0] + 180.0) % 360.0 - 180.0
    u, v = mercator(lon, lat)
    return box.between_knots(u), box.between_knots(v)
