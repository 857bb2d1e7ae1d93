"""Sentinel-2 of the simulated world: acquisitions, their records, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from earth_engine_emulator.simulated_world.clouds import Sky, cloud_fraction, sky_over
from earth_engine_emulator.simulated_world.ground import GroundCache
from earth_engine_emulator.simulated_world.lattices import PixelBox
from earth_engine_emulator.simulated_world.mgrs_tiles import TILE_SIZE_M, Tile, tile_named
from earth_engine_emulator.simulated_world.noise import hash_cells, seed_of, share_of
from earth_engine_emulator.simulated_world.orbits import (
    SENTINEL_2,
    compact_time,
    midnight_ms,
    sun_angles,
)
from earth_engine_emulator.simulated_world.spectra import (
    BANDS,
    at_level,
    mixed,
    read_noise,
    surface_reflectance,
)
from earth_engine_emulator.simulated_world.strips import Strip, ring_of, touches
from earth_engine_emulator.worlds import Band, Bounds, ImageRecord, LonLat

L1C: Final = "COPERNICUS/S2_HARMONIZED"
L2A: Final = "COPERNICUS/S2_SR_HARMONIZED"
RESOLUTION_M: Final = {
    **dict.fromkeys(("B2", "B3", "B4", "B8"), 10),
    **dict.fromkeys(("B5", "B6", "B7", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B1", "B9", "B10"), 60),
}
_COARSEST_PX: Final = 6
_MAX_SUN_ZENITH_DEG: Final = 84.0
_MISSING_MONTHS: Final = 0.05
_MISSING_PASSES: Final = 0.05
_MISSING_L2A: Final = 0.03
_TWO_PRODUCTS: Final = 0.015
_MIN_FOOTPRINT: Final = 0.01
_NOISE_DN: Final = 18.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One product of one tile.

    Args:
        tile: where.
        relative_orbit: 1..143.
        day: of sensing, UTC.
        platform: ``Sentinel-2A``.
        time_ms: start of sensing.
        copy: 0, or 1 for the second product of the same pass.
    """

    tile: Tile
    relative_orbit: int
    day: date
    platform: str
    time_ms: int
    copy: int

    @property
    def index(self) -> str:
        """The provider's ``system:index``."""
        # Datatake, then datastrip: the same for all tiles of an orbit's pass over some latitudes.
        start = self.time_ms - self.time_ms % 60_000
        strip = start + 1000 * (11 + 7 * (self.relative_orbit % 19) + 37 * self.copy)
        return f"{compact_time(start)}_{compact_time(strip)}_T{self.tile.name}"

    @property
    def sun(self) -> tuple[float, float]:
        """Mean zenith and azimuth, deg."""
        lon, lat = self.tile.centre_lon_lat
        hour = (self.time_ms - midnight_ms(self.day)) / 3_600_000
        return sun_angles(self.day, hour, lon, lat)

    @property
    def cloud_fraction(self) -> float:
        """Share of the tile under cloud."""
        return cloud_fraction(self.tile.name, self.day.isoformat())

    @property
    def has_l2a(self) -> bool:
        """Whether the product exists as L2A."""
        return share_of("l2a", self.index) >= _MISSING_L2A

    @property
    def has_labels(self) -> bool:
        """Whether Dynamic World was made from it: up to 35 % of cloud."""
        return self.cloud_percentage <= 35.0

    @property
    def cloud_percentage(self) -> float:
        """As the metadata say it."""
        return round(100 * self.cloud_fraction, 6)


def passes_over(
    tile: Tile, start_ms: int, end_ms: int, bounds: Bounds | None = None
) -> Iterator[Pass]:
    """Yield a tile's products with start <= time < end whose footprint may touch a box."""
    lon, lat = tile.centre_lon_lat
    for orbit in orbits_over(tile):
        if bounds is not None and not touches(footprint(tile, orbit), bounds):
            continue
        for day, platform in SENTINEL_2.days_of(orbit, start_ms, end_ms):
            hour = SENTINEL_2.node_hour - lon / 15.0 + 0.25 * lat / 90.0
            seconds = seed_of("start", orbit, day) % 1200
            time_ms = midnight_ms(day) + int(hour * 3_600_000) % 86_400_000 + 1000 * seconds
            if not start_ms <= time_ms < end_ms:
                continue
            if share_of("month", tile.name, day.year, day.month) < _MISSING_MONTHS:
                continue
            if share_of("pass", tile.name, day) < _MISSING_PASSES:
                continue
            first = Pass(tile, orbit, day, platform, time_ms, 0)
            if first.sun[0] > _MAX_SUN_ZENITH_DEG:
                continue
            yield first
            if share_of("twice", tile.name, day) < _TWO_PRODUCTS:
                yield replace(first, copy=1)


@lru_cache(maxsize=8192)
def orbits_over(tile: Tile) -> tuple[int, ...]:
    """Return the relative orbits whose swath reaches a tile."""
    lon, lat = tile.centre_lon_lat
    found = []
    for orbit in range(1, SENTINEL_2.num_orbits + 1):
        track = SENTINEL_2.longitude_of_track(orbit, lat, True)
        apart_km = abs((track - lon + 180) % 360 - 180) * 111.3 * np.cos(np.radians(lat))
        if apart_km < 260 and _footprint_polygon(tile, orbit) is not None:
            found.append(orbit)
    return tuple(found)


def strip_of(found: Pass) -> Strip:
    """Return the swath of a product in its tile's CRS."""
    return _strip(found.tile, found.relative_orbit)


@lru_cache(maxsize=16_384)
def _strip(tile: Tile, orbit: int) -> Strip:
    latitude = tile.centre_lon_lat[1]
    return Strip.of_track(SENTINEL_2, orbit, True, latitude, tile.crs)


def _footprint_polygon(tile: Tile, orbit: int) -> shapely.Polygon | None:
    x, y = tile.x_origin, tile.y_origin
    square = shapely.box(x, y - TILE_SIZE_M, x + TILE_SIZE_M, y)
    found = square.intersection(_strip(tile, orbit).polygon())
    return found if found.area > _MIN_FOOTPRINT * square.area else None


@lru_cache(maxsize=16_384)
def footprint(tile: Tile, orbit: int) -> tuple[LonLat, ...]:
    """Return the ring that a swath leaves of a tile."""
    polygon = _footprint_polygon(tile, orbit)
    assert polygon is not None
    return ring_of(polygon, tile.crs)


@lru_cache(maxsize=8192)
def pass_of(index: str) -> Pass | None:
    """Return the product of an index; None where there is none."""
    start, _, tile_name = index.partition("_T")
    tile = tile_named(tile_name)
    if tile is None or len(start) != 31:
        return None
    try:
        day = date(int(start[:4]), int(start[4:6]), int(start[6:8]))
    except ValueError:
        return None
    midnight = midnight_ms(day)
    nearby = passes_over(tile, midnight - 60_000, midnight + 86_400_000 + 60_000)
    return next((found for found in nearby if found.index == index), None)


def record_of(found: Pass, collection: str) -> ImageRecord:
    """Return the metadata of a product, under the provider's names."""
    level = "L1C" if collection == L1C else "L2A"
    names = [name for name in BANDS if level == "L1C" or name != "B10"]
    zenith, azimuth = found.sun
    ring = footprint(found.tile, found.relative_orbit)
    number = 20_000 + (midnight_ms(found.day) // 86_400_000) % 10_000
    letter = found.platform[-1]
    generated = compact_time(found.time_ms + 9_000_000 + 600_000 * found.copy)
    sensed = found.index.split("_")[0]
    strip = f"S2{letter}_OPER_MSI_{level}_DS_VGS1_{generated}_S{sensed}_N05.00"
    properties: dict[str, Any] = {
        "CLOUDY_PIXEL_PERCENTAGE": found.cloud_percentage,
        "CLOUD_COVERAGE_ASSESSMENT": found.cloud_percentage,
        "DATASTRIP_ID": strip,
        "DATATAKE_IDENTIFIER": f"GS2{letter}_{sensed}_{number:06d}_N05.00",
        "DATATAKE_TYPE": "INS-NOBS",
        "DEGRADED_MSI_DATA_PERCENTAGE": 0,
        "FORMAT_CORRECTNESS": "PASSED",
        "GENERAL_QUALITY": "PASSED",
        "GENERATION_TIME": found.time_ms + 9_000_000,
        "GEOMETRIC_QUALITY": "PASSED",
        "GRANULE_ID": f"{level}_T{found.tile.name}_A{number:06d}_{sensed}",
        "MEAN_SOLAR_AZIMUTH_ANGLE": azimuth,
        "MEAN_SOLAR_ZENITH_ANGLE": zenith,
        "MGRS_TILE": found.tile.name,
        "PROCESSING_BASELINE": "05.00",
        "PRODUCT_ID": (
            f"S2{letter}_MSI{level}_{sensed}_N0500_R{found.relative_orbit:03d}_"
            f"T{found.tile.name}_{generated}"
        ),
        "RADIOMETRIC_QUALITY": "PASSED",
        "SENSING_ORBIT_DIRECTION": "DESCENDING",
        "SENSING_ORBIT_NUMBER": found.relative_orbit,
        "SENSOR_QUALITY": "PASSED",
        "SPACECRAFT_NAME": found.platform,
        "system:asset_size": 900_000_000 + seed_of("size", found.index) % 700_000_000,
        "system:footprint": {"type": "LinearRing", "coordinates": [list(point) for point in ring]},
        "system:index": found.index,
        "system:time_end": found.time_ms,
        "system:time_start": found.time_ms,
    }
    return ImageRecord(
        asset_id=f"{collection}/{found.index}",
        properties=properties,
        footprint=ring,
        bands=[_band(name, found.tile) for name in names],
        version=1_000 * found.time_ms,
    )


def _band(name: str, tile: Tile) -> Band:
    resolution_m = RESOLUTION_M[name]
    side = TILE_SIZE_M // resolution_m
    return Band(name, "uint16", tile.lattice(resolution_m), side, side, "int", (0.0, 65535.0))


@dataclass(frozen=True, slots=True)
class FineBox:
    """A window of coarse pixels as whole blocks of 60 m on the 10 m lattice.

    Args:
        box: on the 10 m lattice.
        top: rows of the box above the window, in its own pixels.
        left: columns likewise.
    """

    box: PixelBox
    top: int
    left: int

    @classmethod
    def around(
        cls, tile: Tile, factor: int, row: int, column: int, height: int, width: int
    ) -> FineBox:
        """Return the blocks around a window of pixels of 10 m x `factor`."""
        first_row, first_column = row * factor // _COARSEST_PX, column * factor // _COARSEST_PX
        last_row = -(-(row + height) * factor // _COARSEST_PX)
        last_column = -(-(column + width) * factor // _COARSEST_PX)
        box = PixelBox(
            tile.lattice(10),
            first_row * _COARSEST_PX,
            first_column * _COARSEST_PX,
            (last_row - first_row) * _COARSEST_PX,
            (last_column - first_column) * _COARSEST_PX,
        )
        return cls(box, row - box.row // factor, column - box.column // factor)


def read_pixels(
    found: Pass,
    level: str,
    band_names: Sequence[str],
    window: tuple[int, int, int, int],
    grounds: GroundCache,
) -> dict[str, tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]]:
    """Read bands of one resolution.

    Args:
        found: the product.
        level: ``L1C`` or ``L2A``.
        band_names: of one resolution.
        window: row, column, height, width in pixels of that resolution.
        grounds: what is kept of the ground.

    Returns:
        Band -> uint16 DN and whether it was seen, (height, width).
    """
    row, column, height, width = window
    factor = RESOLUTION_M[band_names[0]] // 10
    fine = FineBox.around(found.tile, factor, row, column, height, width)
    bands = tuple(BANDS.index(name) for name in band_names)
    signal = _signal(found, level == "L1C", fine.box, bands, grounds)
    inside = (slice(fine.top, fine.top + height), slice(fine.left, fine.left + width))
    coarse_box = PixelBox(found.tile.lattice(10 * factor), row, column, height, width)
    seen = _strip(found.tile, found.relative_orbit).covers(coarse_box)
    rows, columns = (
        np.arange(row, row + height)[:, None],
        np.arange(column, column + width)[None, :],
    )
    result = {}
    for name, plane in zip(band_names, signal, strict=True):
        if factor > 1:
            blocks = plane.reshape(
                plane.shape[0] // factor, factor, plane.shape[1] // factor, factor
            )
            values = blocks.mean(axis=(1, 3), dtype=np.float32)[inside]
        else:
            values = plane[inside]
        noise = read_noise(hash_cells(columns, rows, seed_of(found.index, level, name)))
        values = values * (1 + np.float32(0.012) * noise) + np.float32(_NOISE_DN) * noise
        dn = np.clip(np.rint(values), 1, 65535).astype(np.uint16)
        result[name] = np.where(seen, dn, np.uint16(0)), seen
    return result


def _signal(
    found: Pass, toa: bool, box: PixelBox, bands: tuple[int, ...], grounds: GroundCache
) -> npt.NDArray[np.float32]:
    """Return reflectance x 10000 at 10 m, (bands, height, width)."""
    surface = surface_at(found, box, grounds)
    chosen = mixed(surface[list(bands)])
    return at_level(chosen, sky_of(found, box), bands, toa)


def sky_of(found: Pass, box: PixelBox) -> Sky:
    """Return the sky of a product over a window."""
    return _sky(found.tile, found.day.isoformat(), found.cloud_fraction, found.sun, box)


@lru_cache(maxsize=48)
def _sky(tile: Tile, day: str, fraction: float, sun: tuple[float, float], box: PixelBox) -> Sky:
    return sky_over(box, tile, day, fraction, *sun)


@lru_cache(maxsize=24)
def surface_at(found: Pass, box: PixelBox, grounds: GroundCache) -> npt.NDArray[np.float32]:
    """Return the lit ground of a day under a window and 1 px around it, (13, height, width)."""
    day_of_year = found.day.timetuple().tm_yday
    return surface_reflectance(grounds.under(box.padded(1)), day_of_year, *found.sun)
