"""Sentinel-2's tiles: 100 km squares of the MGRS, each widened to 109.8 km.

A tile starts on a lattice of 60 m: in the north multiples of 60 m, in the south 40 modulo 60 in
northing, because the false northing of 10,000 km is. Zones are the plain six degrees: the
exceptions around Norway and Svalbard are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from earth_engine_emulator.simulated_world.lattices import from_lon_lat, to_lon_lat
from earth_engine_emulator.worlds import Bounds, Lattice

TILE_SIZE_M: Final = 109_800
_SQUARE_M: Final = 100_000
_COLUMN_LETTERS: Final = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROW_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUV"
_BAND_LETTERS: Final = "CDEFGHJKLMNPQRSTUVWX"
_SOUTH_DEG, _NORTH_DEG = -56.0, 84.0
_FALSE_NORTHING_M: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile.

    Args:
        name: ``32TPT``.
        crs: of its zone and hemisphere.
        x_origin: easting of the upper left corner, m.
        y_origin: northing of the same corner, m.
    """

    name: str
    crs: str
    x_origin: float
    y_origin: float

    def lattice(self, resolution_m: int) -> Lattice:
        """Return the lattice of its bands of one resolution."""
        return Lattice(
            self.crs, float(resolution_m), -float(resolution_m), self.x_origin, self.y_origin
        )

    @property
    def centre_lon_lat(self) -> tuple[float, float]:
        """Longitude and latitude of the centre, deg."""
        half = TILE_SIZE_M / 2
        lon, lat = to_lon_lat(self.crs).transform(self.x_origin + half, self.y_origin - half)
        return float(lon), float(lat)


@lru_cache(maxsize=4096)
def tile_named(name: str) -> Tile | None:
    """Return the tile of a name; None where there is none."""
    if len(name) not in {4, 5} or not name[:-3].isdecimal():
        return None
    zone, band, column, row = int(name[:-3]), *name[-3:]
    letters = _COLUMN_LETTERS[(zone - 1) % 3]
    if not 1 <= zone <= 60 or band not in _BAND_LETTERS or column not in letters:
        return None
    if row not in _ROW_LETTERS:
        return None
    first = (_ROW_LETTERS.index(row) - _row_offset(zone)) % 20
    for number in range(first, 100, 20):
        tile = _tile(zone, band >= "N", letters.index(column) + 1, number)
        if tile is not None and tile.name == f"{zone:02d}{name[-3:]}":
            return tile
    return None


def tiles_touching(bounds: Bounds) -> Iterator[Tile]:
    """Yield the tiles that may touch a box, each once."""
    width = (bounds.east - bounds.west) % 360.0 if bounds.east != bounds.west else 0.0
    first = math.floor((bounds.west - 1.0 + 180.0) / 6.0)
    last = math.floor((bounds.west + width + 1.0 + 180.0) / 6.0)
    seen = set()
    for number in range(first, min(last, first + 60) + 1):
        for north in (False, True):
            for tile in _tiles_of_zone(number % 60 + 1, north, bounds, width):
                if tile.name not in seen:
                    seen.add(tile.name)
                    yield tile


def _tiles_of_zone(zone: int, north: bool, bounds: Bounds, width: float) -> Iterator[Tile]:
    low = max(bounds.south, 0.0 if north else _SOUTH_DEG)
    high = min(bounds.north, _NORTH_DEG if north else 0.0)
    if low > high:
        return
    transform = from_lon_lat(_crs(zone, north)).transform
    middle = zone * 6 - 183
    west = middle + (bounds.west - middle + 180.0) % 360.0 - 180.0
    west, east = max(west, middle - 7.0), min(west + width, middle + 7.0)
    if west > east:
        return
    steps = max(1, math.ceil(max(east - west, high - low) / 0.5))
    places = [
        transform(west + (east - west) * i / steps, low + (high - low) * j / steps)
        for i in range(steps + 1)
        for j in range(steps + 1)
    ]
    x, y = [place[0] for place in places], [place[1] for place in places]
    reach = TILE_SIZE_M - _SQUARE_M
    columns = range(
        max(1, math.ceil((min(x) - TILE_SIZE_M) / _SQUARE_M)),
        min(8, math.floor((max(x) + 60) / _SQUARE_M)) + 1,
    )
    rows = range(
        max(0, math.ceil((min(y) - _SQUARE_M - 60) / _SQUARE_M)),
        math.floor((max(y) + reach) / _SQUARE_M) + 1,
    )
    for column in columns:
        for row in rows:
            tile = _tile(zone, north, column, row)
            if tile is not None:
                yield tile


@lru_cache(maxsize=16_384)
def _tile(zone: int, north: bool, column: int, row: int) -> Tile | None:
    """Return the tile of a square: of its column of 100 km, 1..8, and its row from northing 0.

    A square that lies in no part in its zone has no tile.
    """
    crs = _crs(zone, north)
    left, bottom = column * _SQUARE_M, row * _SQUARE_M
    corners = [
        to_lon_lat(crs).transform(left + i * _SQUARE_M / 2, bottom + j * _SQUARE_M / 2)
        for i in range(3)
        for j in range(3)
    ]
    middle = zone * 6 - 183
    inside = [abs((lon - middle + 180.0) % 360.0 - 180.0) <= 3.0 for lon, _ in corners]
    latitude = corners[4][1]
    if not any(inside) or not _SOUTH_DEG <= latitude <= _NORTH_DEG or (latitude >= 0) != north:
        return None
    band = _BAND_LETTERS[min(int((latitude + 80) // 8), 19)]
    column_letter = _COLUMN_LETTERS[(zone - 1) % 3][column - 1]
    row_letter = _ROW_LETTERS[(row + _row_offset(zone)) % 20]
    x_origin = 60 * math.floor(left / 60)
    top = bottom + _SQUARE_M
    start = 0 if north else _FALSE_NORTHING_M
    y_origin = start + 60 * math.ceil((top - start) / 60)
    name = f"{zone:02d}{band}{column_letter}{row_letter}"
    return Tile(name, crs, float(x_origin), float(y_origin))


def _crs(zone: int, north: bool) -> str:
    return f"EPSG:{(32600 if north else 32700) + zone}"


def _row_offset(zone: int) -> int:
    return 5 if zone % 2 == 0 else 0
