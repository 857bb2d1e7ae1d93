"""A part of the Earth that locations are drawn from or tiles laid over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
import shapely.geometry

from groundwork.errors import InputError
from pipeline.places.settings import RegionSettings
from pipeline.places.spherical import normalise_longitude

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Region:
    """A box of longitude and latitude, and polygons in it where there are any.

    Args:
        west: deg, [-180, 180).
        south: deg.
        width: towards the east, deg, at most 360: the box may cross the antimeridian.
        north: deg.
        polygons: a shapely geometry in longitude and latitude, prepared; None for the whole box.
    """

    west: float
    south: float
    width: float
    north: float
    polygons: shapely.Geometry | None = None

    def contains(self, longitude: Floats, latitude: Floats) -> npt.NDArray[np.bool_]:
        """Tell which places (deg, [-180, 180), (N,)) lie in the region."""
        inside = np.mod(longitude - self.west, 360.0) <= self.width
        inside &= (latitude >= self.south) & (latitude <= self.north)
        if self.polygons is not None:
            inside[inside] = shapely.contains_xy(self.polygons, longitude[inside], latitude[inside])
        return np.asarray(inside)

    def place(self, east: Floats, north: Floats) -> tuple[Floats, Floats]:
        """Return places of the box (longitude, latitude, deg): uniform numbers give uniform area.

        Args:
            east: [0, 1), (N,).
            north: [0, 1), (N,).
        """
        low, high = np.sin(np.radians([self.south, self.north]))
        latitude = np.degrees(np.arcsin(np.clip(low + north * (high - low), -1.0, 1.0)))
        return normalise_longitude(self.west + east * self.width), latitude


def read_region(settings: RegionSettings, folder: Path) -> Region:
    """Return the region of a configuration.

    Args:
        settings: a box, or the path of a GeoJSON file.
        folder: what a relative path starts from.

    Raises:
        InputError: the file cannot be read or holds no usable polygon.
    """
    if settings.bbox is not None:
        west, south, east, north = settings.bbox
        width = 360.0 if (west, east) == (-180.0, 180.0) else (east - west) % 360.0
        return Region(float(normalise_longitude(np.asarray(west))), south, width, north)
    assert settings.geojson is not None, "the settings hold one of the two"
    path = folder / settings.geojson
    polygons = _polygons(path)
    west, south, east, north = (float(value) for value in polygons.bounds)
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise InputError(
            f"{path} reaches from {west:g}, {south:g} to {east:g}, {north:g}: longitudes between "
            "-180 and 180 and latitudes between -90 and 90 are needed (cut it at the antimeridian)"
        )
    shapely.prepare(polygons)
    return Region(float(normalise_longitude(np.asarray(west))), south, east - west, north, polygons)


def _polygons(path: Path) -> shapely.Geometry:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"region file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"region file {path} is not GeoJSON: {error}") from error
    kind = content.get("type") if isinstance(content, dict) else None
    try:
        if kind == "FeatureCollection":
            shapes = [shapely.geometry.shape(each["geometry"]) for each in content["features"]]
        elif kind == "Feature":
            shapes = [shapely.geometry.shape(content["geometry"])]
        else:
            shapes = [shapely.geometry.shape(content)]
        union = shapely.union_all(shapes)
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"region file {path} holds no valid GeoJSON geometry: {error}") from error
    if union.is_empty or union.geom_type not in {"Polygon", "MultiPolygon"}:
        raise InputError(
            f"region file {path} holds {union.geom_type or 'nothing'}, not polygons with an area"
        )
    return union
