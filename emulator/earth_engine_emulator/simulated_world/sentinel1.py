"""Sentinel-1 of the simulated world: slanted frames, both passes, backscatter with speckle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.simulated_world.ground import (
    BARE,
    BUILT,
    CROPS,
    FLOODED,
    GRASS,
    SHRUB,
    SNOW,
    TREES,
    WATER,
    GroundCache,
)
from earth_engine_emulator.simulated_world.lattices import PixelBox
from earth_engine_emulator.simulated_world.noise import (
    Singles,
    hash_cells,
    mix,
    seed_of,
    share_of,
    uniform,
)
from earth_engine_emulator.simulated_world.orbits import SENTINEL_1, compact_time, midnight_ms
from earth_engine_emulator.simulated_world.spectra import cover_of, greenness
from earth_engine_emulator.simulated_world.strips import Strip, ring_of, touches
from earth_engine_emulator.worlds import Band, Bounds, ImageRecord, Lattice, LonLat

COLLECTION: Final = "COPERNICUS/S1_GRD"
_FRAME_DEG: Final = 1.5
"""Latitude from one frame's middle to the next: 167 km; a frame is a little longer."""
_HALF_LENGTH_M: Final = 92_000.0
_FRAME_S: Final = 25
_ORBIT_S: Final = 12 * 86_400 / 175
_ONE_PASS_ONLY: Final = 0.45
_MISSING: Final = 0.04
_ONE_POLARISATION: Final = 0.04
_HIGHEST_DEG: Final = 78.0
_NOISE_FLOOR: Final = 10**-2.75
# VV and VH in dB, dry and green.
_DRY: Final = {
    WATER: (-19.5, -28.0), TREES: (-9.2, -14.6), GRASS: (-12.8, -20.2), FLOODED: (-8.8, -16.5),
    CROPS: (-11.8, -19.8), SHRUB: (-11.6, -18.4), BUILT: (-3.8, -11.8), BARE: (-15.5, -24.5),
    SNOW: (-13.8, -21.5),
}  # fmt: skip
_GREEN_GAIN: Final = {CROPS: (1.5, 3.6), GRASS: (1.0, 2.2), SHRUB: (0.8, 1.6), TREES: (0.2, 0.4)}
_POLARISATIONS: Final = ("VV", "VH")
_LOOKS: Final = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """One acquisition.

    Args:
        relative_orbit: 1..175.
        descending: pass.
        number: of the frame; its middle lies at `number` x 1.5 degrees of latitude.
        day: of sensing.
        platform: `A` or `B`.
    """

    relative_orbit: int
    descending: bool
    number: int
    day: date
    platform: str

    @property
    def latitude(self) -> float:
        """Of the middle, deg."""
        return self.number * _FRAME_DEG

    @property
    def time_ms(self) -> int:
        """Start of sensing."""
        longitude = SENTINEL_1.longitude_of_track(
            self.relative_orbit, self.latitude, self.descending
        )
        hour = SENTINEL_1.node_hour + (0 if self.descending else 12) - longitude / 15
        return midnight_ms(self.day) + int(hour * 3600) % 86_400 * 1000

    @property
    def absolute_orbit(self) -> int:
        """Revolutions since launch, by the provider's rule for relative orbits."""
        days = (midnight_ms(self.day) - midnight_ms(date(2016, 1, 1))) // 86_400_000
        cycle = int(days // 12)
        shift = 73 if self.platform == "A" else 27
        return 175 * (50 + cycle) + self.relative_orbit - 1 + shift

    @property
    def has_both(self) -> bool:
        """Whether both polarisations were sent and received."""
        return share_of("polarisation", self.relative_orbit, self.number, self.day) >= (
            _ONE_POLARISATION
        )

    @property
    def index(self) -> str:
        """The provider's ``system:index``."""
        start, stop = (compact_time(self.time_ms + 1000 * s) for s in (0, _FRAME_S))
        take = seed_of("take", self.relative_orbit, self.descending, self.day) % 0xFFFFFF
        unique = seed_of("frame", take, self.number) % 0xFFFF
        kind = "1SDV" if self.has_both else "1SSV"
        return (
            f"S1{self.platform}_IW_GRDH_{kind}_{start}_{stop}_{self.absolute_orbit:06d}_"
            f"{take:06X}_{unique:04X}"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the frames of one orbit and latitude lie, whatever the date.

    Args:
        lattice: of the pixels; the origin is on no round number.
        width: columns.
        height: rows.
        strip: the slanted frame in that lattice.
        ring: its outline, longitude and latitude.
    """

    lattice: Lattice
    width: int
    height: int
    strip: Strip
    ring: tuple[LonLat, ...]


@lru_cache(maxsize=4096)
def place_of(relative_orbit: int, descending: bool, number: int) -> Place:
    """Return where a frame lies."""
    latitude = number * _FRAME_DEG
    longitude = SENTINEL_1.longitude_of_track(relative_orbit, latitude, descending)
    zone = int((longitude + 180) // 6) % 60 + 1
    crs = f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"
    strip = Strip.of_track(
        SENTINEL_1, relative_orbit, descending, latitude, crs, half_length_m=_HALF_LENGTH_M
    )
    polygon = strip.polygon()
    left, bottom, right, top = polygon.bounds
    shift = [10 * share_of("origin", axis, relative_orbit, number) for axis in "xy"]
    x, y = 10 * math.floor(left / 10) + shift[0], 10 * math.ceil(top / 10) - shift[1]
    lattice = Lattice(crs, 10.0, -10.0, x, y)
    width, height = math.ceil((right - x) / 10), math.ceil((y - bottom) / 10)
    return Place(lattice, width, height, strip, ring_of(polygon, crs))


def frames_over(bounds: Bounds, start_ms: int, end_ms: int) -> Iterator[Frame]:
    """Yield the frames that may touch a box, with start <= time < end."""
    first = math.floor((bounds.south - 1.4) / _FRAME_DEG)
    last = math.ceil((bounds.north + 1.4) / _FRAME_DEG)
    for number in range(first, last + 1):
        if abs(number * _FRAME_DEG) > _HIGHEST_DEG:
            continue
        for descending in (False, True):
            for orbit in _orbits_near(number, descending, bounds):
                yield from _dates(orbit, descending, number, start_ms, end_ms)


def _orbits_near(number: int, descending: bool, bounds: Bounds) -> Iterator[int]:
    latitude = number * _FRAME_DEG
    reach = 175_000 / (111_300 * math.cos(math.radians(min(abs(latitude) + 1, 85))))
    width = (bounds.east - bounds.west) % 360.0
    for orbit, longitude in enumerate(_tracks(number, descending), start=1):
        ahead = (longitude - bounds.west + 180.0) % 360.0 - 180.0
        if not -reach <= ahead <= width + reach or _left_out(orbit, descending, number):
            continue
        if touches(place_of(orbit, descending, number).ring, bounds):
            yield orbit


@lru_cache(maxsize=512)
def _tracks(number: int, descending: bool) -> tuple[float, ...]:
    return tuple(
        SENTINEL_1.longitude_of_track(orbit, number * _FRAME_DEG, descending)
        for orbit in range(1, SENTINEL_1.num_orbits + 1)
    )


def _left_out(orbit: int, descending: bool, number: int) -> bool:
    """Tell whether a region is seen by the other pass only."""
    longitude = _tracks(number, descending)[orbit - 1]
    region = round(longitude / 12), round(number * _FRAME_DEG / 9)
    if share_of("passes", *region) >= _ONE_PASS_ONLY:
        return False
    return descending == (share_of("which pass", *region) < 0.5)


def _dates(
    orbit: int, descending: bool, number: int, start_ms: int, end_ms: int
) -> Iterator[Frame]:
    for day, platform in SENTINEL_1.days_of(orbit, start_ms, end_ms):
        found = Frame(orbit, descending, number, day, platform)
        missing = share_of("missing", orbit, descending, number, day) < _MISSING
        if not missing and start_ms <= found.time_ms < end_ms:
            yield found


@lru_cache(maxsize=8192)
def frame_of(index: str) -> Frame | None:
    """Return the frame of an index; None where there is none."""
    parts = index.split("_")
    try:
        moment = datetime.strptime(parts[4] + "+0000", "%Y%m%dT%H%M%S%z")
        absolute = int(parts[6])
        platform = parts[0][2]
    except (IndexError, ValueError):
        return None
    orbit = (absolute - (73 if platform == "A" else 27)) % 175 + 1
    start_ms = int(moment.timestamp() * 1000)
    for number in range(-int(_HIGHEST_DEG / _FRAME_DEG), int(_HIGHEST_DEG / _FRAME_DEG) + 1):
        for descending in (False, True):
            if _left_out(orbit, descending, number):
                continue
            for found in _dates(orbit, descending, number, start_ms, start_ms + 1000):
                if found.index == index:
                    return found
    return None


def record_of(found: Frame) -> ImageRecord:
    """Return the metadata of a frame, under the provider's names."""
    place = place_of(found.relative_orbit, found.descending, found.number)
    polarisations = list(_POLARISATIONS) if found.has_both else ["VV"]
    properties: dict[str, Any] = {
        "cycleNumber": 60 + found.absolute_orbit // 175,
        "familyName": "SENTINEL-1",
        "instrument": "Synthetic Aperture Radar",
        "instrumentConfigurationID": 6,
        "instrumentMode": "IW",
        "instrumentSwath": "IW",
        "orbitNumber_start": found.absolute_orbit,
        "orbitNumber_stop": found.absolute_orbit,
        "orbitProperties_pass": "DESCENDING" if found.descending else "ASCENDING",
        "platform_number": found.platform,
        "productClass": "S",
        "productType": "GRD",
        "relativeOrbitNumber_start": found.relative_orbit,
        "relativeOrbitNumber_stop": found.relative_orbit,
        "resolution": "H",
        "resolution_meters": 10,
        "segmentStartTime": found.time_ms,
        "sliceNumber": abs(found.number) + 1,
        "system:asset_size": 3_000_000_000 + seed_of("size", found.index) % 1_000_000_000,
        "system:footprint": {
            "type": "LinearRing",
            "coordinates": [list(point) for point in place.ring],
        },
        "system:index": found.index,
        "system:time_end": found.time_ms,
        "system:time_start": found.time_ms,
        "transmitterReceiverPolarisation": polarisations,
    }
    bands = [
        Band(name, "float64", place.lattice, place.width, place.height, "double")
        for name in polarisations
    ]
    coarse = Lattice(
        place.lattice.crs, 10_000.0, -10_000.0, place.lattice.x_origin, place.lattice.y_origin
    )
    bands.append(
        Band("angle", "float32", coarse, -(-place.width // 1000), -(-place.height // 1000), "float")
    )
    return ImageRecord(
        asset_id=f"{COLLECTION}/{found.index}",
        properties=properties,
        footprint=place.ring,
        bands=bands,
        version=1_000 * found.time_ms,
    )


def read_pixels(
    found: Frame,
    band_names: Sequence[str],
    window: tuple[int, int, int, int],
    grounds: GroundCache,
) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Read backscatter in dB, or the angle of incidence in degrees.

    Args:
        found: the frame.
        band_names: of one lattice: `VV` and `VH`, or `angle`.
        window: row, column, height, width.
        grounds: what is kept of the ground.
    """
    place = place_of(found.relative_orbit, found.descending, found.number)
    if "angle" in band_names:
        coarse = Lattice(
            place.lattice.crs, 10_000.0, -10_000.0, place.lattice.x_origin, place.lattice.y_origin
        )
        box = PixelBox(coarse, *window)
        return {"angle": (_incidence(place.strip, box), np.ones((box.height, box.width), bool))}
    box = PixelBox(place.lattice, *window)
    seen = place.strip.covers(box)
    power = _power(found, place, box, grounds)
    rows = np.arange(box.row, box.row + box.height)[:, None]
    columns = np.arange(box.column, box.column + box.width)[None, :]
    result = {}
    for name in band_names:
        speckle = _speckle(hash_cells(columns, rows, seed_of("speckle", found.index, name)))
        value_db = 10 * np.log10(power[name] * speckle + _NOISE_FLOOR * 0.5)
        result[name] = np.where(seen, value_db, 0.0).astype(np.float64), seen
    return result


def _power(found: Frame, place: Place, box: PixelBox, grounds: GroundCache) -> dict[str, Singles]:
    """Return mean backscatter in linear power; the radar resolves about 20 m."""
    lattice = place.lattice
    coarse = Lattice(lattice.crs, 20.0, -20.0, lattice.x_origin, lattice.y_origin)
    row, column = box.row // 2, box.column // 2
    height = -(-(box.row + box.height) // 2) - row
    width = -(-(box.column + box.width) // 2) - column
    ground = grounds.under(PixelBox(coarse, row, column, height, width))
    day = found.day.timetuple().tm_yday
    cover, green = cover_of(ground, day), greenness(ground, day)
    # Slopes that face the radar are brighter: it looks to the right of its way.
    towards = (ground.slope_east * place.strip.nx + ground.slope_north * place.strip.ny) * (
        -1 if found.descending else 1
    )
    facing_db = np.clip(14 * towards, -9, 9) + 2.2 * ground.texture
    facing_db += np.where(cover == CROPS, 5 * (ground.lot - np.float32(0.5)), 0)
    wind_db = 5 * (share_of("wind", found.relative_orbit, found.day) - 0.5)
    facing_db = np.where(cover == WATER, wind_db + 0.8 * ground.texture, facing_db)
    top, left = box.row - 2 * row, box.column - 2 * column
    inside = (slice(top, top + box.height), slice(left, left + box.width))
    found_power = {}
    for number, name in enumerate(_POLARISATIONS):
        dry = np.asarray([_DRY[c][number] for c in range(len(_DRY))], np.float32)
        gain = np.asarray(
            [_GREEN_GAIN.get(c, (0.0, 0.0))[number] for c in range(len(_DRY))], np.float32
        )
        level_db = dry[cover] + gain[cover] * (green - np.float32(0.3)) + facing_db
        power = np.power(np.float32(10), level_db.astype(np.float32) / np.float32(10))
        found_power[name] = power.repeat(2, axis=0).repeat(2, axis=1)[inside]
    return found_power


def _speckle(words: npt.NDArray[np.uint32]) -> Singles:
    """Return multiplicative speckle of mean 1: the mean of `_LOOKS` exponential numbers."""
    total = np.zeros(words.shape, np.float32)
    for _ in range(_LOOKS):
        words = mix(words + np.uint32(0x9E3779B9))
        total -= np.log(uniform(words) + np.float32(2.0**-25))
    return np.asarray(total / np.float32(_LOOKS))


def _incidence(strip: Strip, box: PixelBox) -> Singles:
    x, y = box.easting_northing()
    across = (x - strip.x0)[None, :] * strip.nx + (y - strip.y0)[:, None] * strip.ny
    return np.asarray(38.0 + 8.0 * across / strip.half_width_m, dtype=np.float32)
