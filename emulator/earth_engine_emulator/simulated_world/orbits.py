"""When satellites pass, and which strip of the Earth they see.

Circular orbits around a round Earth that repeat exactly: good for revisits, swath edges and their
slant; the true orbits differ by some kilometres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

EARTH_RADIUS_KM: Final = 6371.0
DAY_MS: Final = 86_400_000
EPOCH: Final = date(2016, 1, 1)
LAST: Final = date(2026, 1, 1)
_MS_OF_EPOCH: Final = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Mission:
    """Satellites on one orbit that repeats.

    Args:
        repeat_days: after which the ground tracks are the same.
        num_orbits: in that time; relative orbits are numbered from 1.
        inclination_deg: beyond 90: retrograde.
        node_hour: local time at the descending node.
        swath_km: seen across the track.
        platforms: name -> (first day, end day, days after the first satellite).
    """

    repeat_days: int
    num_orbits: int
    inclination_deg: float
    node_hour: float
    swath_km: float
    platforms: dict[str, tuple[date, date, int]]

    def longitude_of_track(self, relative_orbit: int, latitude: float, descending: bool) -> float:
        """Return where a track crosses a latitude, deg."""
        # Each orbit crosses the equator this much farther west than the one before.
        step = 360.0 * self.repeat_days / self.num_orbits
        node = -37.0 - step * (relative_orbit - 1) + (0.0 if descending else 193.0)
        tilt = math.radians(self.inclination_deg)
        sine = math.sin(math.radians(latitude)) / math.sin(tilt)
        along = math.asin(max(-1.0, min(1.0, sine)))
        ahead = math.degrees(math.atan2(math.cos(tilt) * math.sin(along), math.cos(along)))
        # The Earth turns below the satellite while it moves on.
        turned = math.degrees(along) * self.repeat_days / self.num_orbits
        moved = ahead - turned
        return (node + (-moved if descending else moved) + 180.0) % 360.0 - 180.0

    def days_of(
        self, relative_orbit: int, start_ms: int, end_ms: int
    ) -> Iterator[tuple[date, str]]:
        """Yield day and platform of the passes of an orbit whose day may touch a span of time."""
        phase = (relative_orbit - 1) * self.repeat_days // self.num_orbits
        first = max(0, (start_ms - _MS_OF_EPOCH) // DAY_MS - 1)
        last = min((LAST - EPOCH).days - 1, (end_ms - _MS_OF_EPOCH) // DAY_MS + 1)
        for platform, (begin, end, lag) in self.platforms.items():
            offset = (phase + lag) % self.repeat_days
            number = first + (offset - first) % self.repeat_days
            while number <= last:
                day = date.fromordinal(EPOCH.toordinal() + number)
                if begin <= day < end:
                    yield day, platform
                number += self.repeat_days


def sun_angles(
    day: date, hour_utc: float, longitude: float, latitude: float
) -> tuple[float, float]:
    """Return solar zenith and azimuth (clockwise from north), deg; good to about a degree."""
    turn = 2 * math.pi * (day.timetuple().tm_yday - 81) / 365.25
    declination = math.radians(23.44) * math.sin(turn)
    equation_h = (9.87 * math.sin(2 * turn) - 7.53 * math.cos(turn) - 1.5 * math.sin(turn)) / 60
    hour = math.radians(15 * (hour_utc + equation_h + longitude / 15 - 12))
    lat = math.radians(latitude)
    up = math.sin(lat) * math.sin(declination)
    up += math.cos(lat) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(lat) * math.sin(declination)
    north -= math.sin(lat) * math.cos(declination) * math.cos(hour)
    return (
        math.degrees(math.acos(max(-1.0, min(1.0, up)))),
        math.degrees(math.atan2(east, north)) % 360.0,
    )


def midnight_ms(day: date) -> int:
    """Return the start of a day, milliseconds since 1970-01-01 UTC."""
    return _MS_OF_EPOCH + (day - EPOCH).days * DAY_MS


def compact_time(time_ms: int) -> str:
    """Write a moment as product names do, ``20200604T054639``."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")


SENTINEL_2: Final = Mission(
    repeat_days=10,
    num_orbits=143,
    inclination_deg=98.62,
    node_hour=10.5,
    swath_km=290.0,
    platforms={
        "Sentinel-2A": (date(2016, 1, 1), LAST, 0),
        "Sentinel-2B": (date(2017, 7, 1), LAST, 5),
    },
)
SENTINEL_1: Final = Mission(
    repeat_days=12,
    num_orbits=175,
    inclination_deg=98.18,
    node_hour=6.0,
    swath_km=250.0,
    platforms={
        "A": (date(2016, 1, 1), LAST, 0),
        "B": (date(2016, 10, 1), date(2021, 12, 23), 6),
    },
)
