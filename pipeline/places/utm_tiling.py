"""Tiles of one patch each, edge to edge, on the UTM grids of a region's zones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError
from pipeline.grids import from_lon_lat, to_lon_lat
from pipeline.places.regions import Region
from pipeline.places.spherical import MEAN_RADIUS_M, normalise_longitude
from storage_schema.products import PATCH_SIZE_M

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MAX_TILES: Final = 5_000_000
SOUTHERN_OFFSET_M: Final = 40.0
"""Sentinel-2 tiles start at multiples of 60 m, in southern zones at 40 modulo 60 in northing
(decision 0005). 2640 is a multiple of 60: a patch around a tile's centre is that tile, unmoved."""
_MARGIN_M: Final = 1.0
"""Between a tile and the border of its zone, which bends by some millimetres along a tile."""
_UTM_SOUTH_DEG: Final = -80.0
_UTM_NORTH_DEG: Final = 84.0
_ROWS_PER_STEP: Final = 512


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles by zone, row and column.

    Args:
        location_id: EPSG code, column, row: ``32618_0123_1657``.
        longitude: of the centre, deg, (N,).
        latitude: of the centre, deg, (N,).
    """

    location_id: list[str]
    longitude: Floats
    latitude: Floats


def utm_zone(longitude: Floats, latitude: Floats) -> Integers:
    """Return the UTM zone that Sentinel-2's tiles use at places (deg, (N,)).

    Source: MGRS (NGA.STND.0037), with its exceptions for south-west Norway (32V is wider) and
    Svalbard (31X, 33X, 35X, 37X instead of six zones).
    """
    longitude = normalise_longitude(longitude)
    zone = np.floor((longitude + 180.0) / 6.0).astype(np.int64) + 1
    norway = (latitude >= 56) & (latitude < 64) & (longitude >= 3) & (longitude < 12)
    zone = np.where(norway, 32, zone)
    svalbard = (latitude >= 72) & (longitude >= 0) & (longitude < 42)
    of_svalbard = 31 + 2 * np.searchsorted([9.0, 21.0, 33.0], longitude, side="right")
    return np.asarray(np.where(svalbard, of_svalbard, zone))


def tile_region(region: Region, keep: Callable[[Floats, Floats], Booleans] | None = None) -> Tiles:
    """Lay tiles over a region.

    Edges touch; tiles never overlap: a tile lies wholly in its zone and hemisphere, so that along
    the border of two zones a strip of at most a tile's diagonal stays empty.

    Args:
        region: a tile is taken where its centre lies inside.
        keep: tells from longitude and latitude (deg, (N,)) which centres to keep.

    Raises:
        InputError: the region is too large, lies beyond UTM, or has no room for a tile.
    """
    _check_size(region)
    ids: list[str] = []
    longitudes: list[Floats] = []
    latitudes: list[Floats] = []
    for epsg in _zones(region):
        for column, row in _lattice(epsg, region):
            lon, lat, inside = _whole_tiles(epsg, column, row)
            chosen = np.flatnonzero(inside)
            chosen = chosen[region.contains(lon[chosen], lat[chosen])]
            if keep is not None:
                chosen = chosen[keep(lon[chosen], lat[chosen])]
            ids += [f"{epsg}_{column[i]:04d}_{row[i]:04d}" for i in chosen.tolist()]
            longitudes.append(lon[chosen])
            latitudes.append(lat[chosen])
    if not ids:
        raise InputError(
            f"no tile of {PATCH_SIZE_M} m fits into the region: enlarge it (a tile's centre has to "
            "lie in it, between 80 S and 84 N, and the tile within one UTM zone)"
        )
    return Tiles(ids, np.concatenate(longitudes), np.concatenate(latitudes))


def _check_size(region: Region) -> None:
    sines = np.sin(np.radians([region.south, region.north]))
    area_m2 = np.radians(region.width) * float(sines[1] - sines[0]) * MEAN_RADIUS_M**2
    if area_m2 / PATCH_SIZE_M**2 > MAX_TILES:
        raise InputError(
            f"the region's box has room for {area_m2 / PATCH_SIZE_M**2:,.0f} tiles, more than "
            f"{MAX_TILES:,}: choose a smaller region, or draw from it with kind uniform_on_land"
        )


def _zones(region: Region) -> list[int]:
    """Return the EPSG codes of the zones that the box may touch, in ascending order."""
    longitude = region.west + np.append(np.arange(0.0, region.width, 0.5), region.width)
    latitude = np.append(np.arange(region.south, region.north, 0.5), region.north)
    latitude = latitude[(latitude >= _UTM_SOUTH_DEG) & (latitude <= _UTM_NORTH_DEG)]
    lon, lat = (grid.ravel() for grid in np.meshgrid(longitude, latitude))
    zone = utm_zone(lon, lat)
    codes = set((32600 + zone[lat >= 0]).tolist()) | set((32700 + zone[lat <= 0]).tolist())
    if region.south < 0 < region.north:
        codes |= {code - 100 if code > 32700 else code + 100 for code in codes}
    return sorted(codes)


def _lattice(epsg: int, region: Region) -> list[tuple[Integers, Integers]]:
    """Return columns and rows of all tiles that could lie in the region, some rows at a time."""
    middle = (epsg % 100) * 6 - 183.0
    # The exceptions make a zone up to 12 degrees wide; no tile's centre lies farther out.
    offsets = np.linspace(-6.5, 6.5, 53)
    offsets = offsets[np.mod(middle + offsets - region.west + 0.25, 360.0) <= region.width + 0.5]
    if not offsets.size:
        offsets = np.linspace(-6.5, 6.5, 53)
    south = max(region.south, _UTM_SOUTH_DEG if epsg > 32700 else -0.1)
    north = min(region.north, 0.1 if epsg > 32700 else _UTM_NORTH_DEG)
    if south >= north:
        return []
    # One step beyond the box on either side, so that its very edge is covered.
    longitude = middle + np.concatenate([[offsets[0] - 0.25], offsets, [offsets[-1] + 0.25]])
    latitude = np.linspace(south, north, 65)
    lon, lat = (grid.ravel() for grid in np.meshgrid(longitude, latitude))
    x, y = from_lon_lat(epsg).transform(normalise_longitude(lon), lat)
    shift = SOUTHERN_OFFSET_M if epsg > 32700 else 0.0
    columns = np.arange(int(np.min(x) // PATCH_SIZE_M) - 1, int(np.max(x) // PATCH_SIZE_M) + 2)
    first, last = (int((value - shift) // PATCH_SIZE_M) for value in (np.min(y), np.max(y)))
    parts = []
    for start in range(max(first - 1, 0), last + 2, _ROWS_PER_STEP):
        rows = np.arange(start, min(start + _ROWS_PER_STEP, last + 2))
        row, column = np.meshgrid(rows, columns[columns >= 0], indexing="ij")
        parts.append((column.ravel(), row.ravel()))
    return parts


def _whole_tiles(epsg: int, column: Integers, row: Integers) -> tuple[Floats, Floats, Booleans]:
    """Return the centres of tiles, and which of them lie in their zone with all corners."""
    transform = to_lon_lat(epsg).transform
    west = column * float(PATCH_SIZE_M)
    south = row * float(PATCH_SIZE_M) + (SOUTHERN_OFFSET_M if epsg > 32700 else 0.0)
    inside = np.ones(len(column), dtype=bool)
    near, far = -_MARGIN_M, PATCH_SIZE_M + _MARGIN_M
    for x, y in ((near, near), (near, far), (far, near), (far, far)):
        lon, lat = transform(west + x, south + y)
        inside &= utm_zone(lon, lat) == epsg % 100
        inside &= (lat >= _UTM_SOUTH_DEG) & (lat <= _UTM_NORTH_DEG)
        # The margin belongs to borders of zones; tiles may touch the equator.
        inside &= lat < 1e-4 if epsg > 32700 else lat > -1e-4
    lon, lat = transform(west + PATCH_SIZE_M / 2, south + PATCH_SIZE_M / 2)
    return normalise_longitude(lon), np.asarray(lat), inside
