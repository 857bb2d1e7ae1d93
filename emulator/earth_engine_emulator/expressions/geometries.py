"""Geometries: GeoJSON with a projection and geodesic or straight edges.

Predicates and areas work on longitude and latitude after edges were cut into short pieces: along
great circles where they are geodesic, along straight lines of their projection where not. The
longitudes of a geometry are continuous across the antimeridian. Poles are not treated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.grids import apply_affine
from earth_engine_emulator.expressions.projections import (
    WGS84,
    WGS84_CRS,
    Projection,
    transform_coordinates,
)
from earth_engine_emulator.worlds import Bounds, LonLat

Points = npt.NDArray[np.float64]
Json = dict[str, Any]

MAX_EDGE_DEG = 0.05
"""Edges are cut to about 5.5 km: an arc of a great circle is then within 1 m of its chord."""
MAX_EDGE_PIECES = 256
_NESTING = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "LinearRing": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True, eq=False)
class Geometry:
    """The service's Geometry.

    Args:
        kind: GeoJSON type, or ``GeometryCollection``.
        coordinates: GeoJSON coordinates in the units of `projection`'s pixels.
        projection: of the coordinates.
        geodesic: whether edges follow great circles.
        parts: members of a collection.
    """

    kind: str
    coordinates: Any
    projection: Projection = WGS84
    geodesic: bool = True
    parts: tuple[Geometry, ...] = field(default=())

    @cached_property
    def shape(self) -> Any:
        """The shapely geometry in longitude and latitude (deg), edges cut; prepared."""
        if self.kind == "GeometryCollection":
            made = shapely.union_all([part.shape for part in self.parts])
        else:
            made = _build(self.kind, self._rings())
        shapely.prepare(made)
        return made

    def _rings(self) -> Any:
        nested = self.coordinates
        if _NESTING[self.kind] == 0:
            return self._to_lonlat(np.array([nested], np.float64))[0]
        return _map_lines(nested, _NESTING[self.kind] - 1, self._line)

    def _line(self, points: Any) -> Points:
        line = _as_points(points)
        if self.kind in {"Polygon", "MultiPolygon", "LinearRing"} and (line[0] != line[-1]).any():
            line = np.concatenate([line, line[:1]])
        if self.kind == "MultiPoint":
            return self._to_lonlat(line)
        if self.geodesic and self.projection == WGS84:
            return _cut_geodesic(_unwrap(line))
        if self.projection == WGS84:
            return _unwrap(line)
        return _unwrap(self._to_lonlat(_cut_straight(line)))

    def _to_lonlat(self, points: Points) -> Points:
        if self.projection == WGS84:
            return points
        x, y = apply_affine(self.projection.transform, points[:, 0], points[:, 1])
        lon, lat = transform_coordinates(self.projection.crs, WGS84_CRS, x, y)
        if not np.isfinite(lon).all():
            raise AlgorithmError("A coordinate of the geometry lies outside its projection.")
        return np.column_stack([lon, lat])

    def bounds(self) -> Bounds:
        """Return the box around it in longitude and latitude."""
        west, south, east, north = shapely.bounds(self.shape)
        if east - west >= 360:
            return Bounds(-180.0, float(south), 180.0, float(north))
        return Bounds(_wrap(west), float(south), _wrap(east), float(north))

    def describe(self) -> Json:
        """Return it as the service sends it."""
        if self.kind == "GeometryCollection":
            return {
                "type": self.kind,
                "geometries": [part.describe() for part in self.parts],
            }
        out: Json = {"type": self.kind, "coordinates": self._closed()}
        if self.projection != WGS84:
            out["crs"] = {"type": "name", "properties": {"name": self.projection.crs}}
        if not self.geodesic and self.kind not in {"Point", "MultiPoint"}:
            out["geodesic"] = False
        return out

    def _closed(self) -> Any:
        if self.kind not in {"Polygon", "MultiPolygon", "LinearRing"}:
            return self.coordinates
        return _map_lines(self.coordinates, _NESTING[self.kind] - 1, _close)


def _close(points: Any) -> Any:
    pairs = [list(map(float, point)) for point in _as_points(points)]
    return pairs if pairs[0] == pairs[-1] else [*pairs, pairs[0]]


def _map_lines(nested: Any, depth: int, function: Callable[[Any], Any]) -> Any:
    if depth == 0:
        return function(nested)
    return [_map_lines(part, depth - 1, function) for part in nested]


def _as_points(points: Any) -> Points:
    try:
        made = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise AlgorithmError(f"Invalid coordinates of a geometry: {points}.") from None
    if made.ndim == 1 and made.size % 2 == 0:
        made = made.reshape(-1, 2)
    if made.ndim != 2 or made.shape[1] < 2 or not len(made):
        raise AlgorithmError(f"Invalid coordinates of a geometry: {points}.")
    return made[:, :2]


def _build(kind: str, rings: Any) -> Any:
    if kind == "Polygon":
        return _polygon(rings)
    if kind == "MultiPolygon":
        return shapely.union_all([_polygon(part) for part in rings])
    simple = {
        "Point": shapely.Point,
        "MultiPoint": shapely.MultiPoint,
        "LineString": shapely.LineString,
        "LinearRing": shapely.LinearRing,
        "MultiLineString": shapely.MultiLineString,
    }
    return simple[kind](rings)


def _polygon(rings: Sequence[Points]) -> Any:
    made = shapely.Polygon(rings[0], rings[1:])
    return made if made.is_valid else made.buffer(0)


def _unwrap(line: Points) -> Points:
    """Make longitudes continuous: no step of more than 180 degrees."""
    longitudes = np.unwrap(line[:, 0], period=360.0) if _crosses(line) else line[:, 0]
    return np.column_stack([longitudes, line[:, 1]])


def _crosses(line: Points) -> bool:
    return len(line) > 1 and bool(np.abs(np.diff(line[:, 0])).max() > 180.0)


def _pieces(line: Points, longest: float) -> npt.NDArray[np.int64]:
    lengths = np.abs(np.diff(line, axis=0)).max(axis=1)
    counts = np.ceil(lengths / longest).astype(np.int64)
    clipped: npt.NDArray[np.int64] = np.clip(counts, 1, MAX_EDGE_PIECES)
    return clipped


def _cut_geodesic(line: Points) -> Points:
    if len(line) < 2:
        return line
    pieces = _pieces(line, MAX_EDGE_DEG)
    start, parts = _parts(pieces)
    vectors = _to_vectors(line)
    one, two = vectors[start], vectors[start + 1]
    angle = np.arccos(np.clip((one * two).sum(axis=1), -1.0, 1.0))[:, None]
    t = parts[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-9
    safe = np.where(straight, 1.0, sine)
    between = np.where(
        straight,
        one * (1 - t) + two * t,
        (np.sin((1 - t) * angle) * one + np.sin(t * angle) * two) / safe,
    )
    lon = np.degrees(np.arctan2(between[:, 1], between[:, 0]))
    lat = np.degrees(np.arctan2(between[:, 2], np.hypot(between[:, 0], between[:, 1])))
    # Keep the given vertices to the last bit, and each piece near its edge's first longitude.
    lon += 360.0 * np.round((line[start, 0] - lon) / 360.0)
    first = parts == 0.0
    cut = np.column_stack([lon, lat])
    cut[first] = line[start[first]]
    return np.concatenate([cut, line[-1:]])


def _cut_straight(line: Points, pieces: int = 8) -> Points:
    if len(line) < 2:
        return line
    start, t = _parts(np.full(len(line) - 1, pieces))
    cut = line[start] * (1 - t[:, None]) + line[start + 1] * t[:, None]
    return np.concatenate([cut, line[-1:]])


def _parts(pieces: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Points]:
    start = np.repeat(np.arange(len(pieces)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    return start, (np.arange(len(start)) - first) / pieces[start]


def _to_vectors(line: Points) -> Points:
    lon, lat = np.radians(line[:, 0]), np.radians(line[:, 1])
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _wrap(longitude: float) -> float:
    return (
        float((longitude + 180.0) % 360.0 - 180.0)
        if not -180 <= longitude <= 180
        else float(longitude)
    )


def of_footprint(ring: Sequence[LonLat]) -> Geometry:
    """Return the polygon inside an image's footprint; its edges are geodesic."""
    return Geometry("Polygon", [[list(point) for point in ring]])


def of_shape(shape: Any) -> Geometry:
    """Return a geometry of a shapely one in longitude and latitude; edges straight there."""
    made = shapely.geometry.mapping(shape)
    if made["type"] == "GeometryCollection":
        parts = tuple(of_shape(part) for part in shape.geoms)
        return Geometry("GeometryCollection", None, geodesic=False, parts=parts)
    return Geometry(made["type"], _listed(made["coordinates"]), geodesic=False)


def _listed(nested: Any) -> Any:
    return [_listed(part) for part in nested] if isinstance(nested, tuple) else float(nested)


def box(bounds: tuple[float, float, float, float], projection: Projection = WGS84) -> Geometry:
    """Return a rectangle with straight edges: west, south, east, north."""
    w, s, e, n = (float(side) for side in bounds)
    ring = [[w, s], [e, s], [e, n], [w, n], [w, s]]
    return Geometry("Polygon", [ring], projection, geodesic=False)


def from_json(value: Json) -> Geometry:
    """Read GeoJSON, with the service's `geodesic` member.

    Raises:
        AlgorithmError: it is no geometry.
    """
    kind = value.get("type")
    if kind == "GeometryCollection":
        parts = tuple(from_json(part) for part in value.get("geometries", []))
        return Geometry("GeometryCollection", None, parts=parts)
    if kind not in _NESTING or "coordinates" not in value:
        raise AlgorithmError("Invalid GeoJSON geometry.")
    return Geometry(str(kind), value["coordinates"], geodesic=bool(value.get("geodesic", True)))


def aligned(left: Geometry, right: Geometry) -> tuple[Any, Any]:
    """Return both shapes, the right one turned by whole circles to lie near the left one."""
    one, two = left.shape, right.shape
    if one.is_empty or two.is_empty:
        return one, two
    a, b = shapely.bounds(one), shapely.bounds(two)
    turns = round(((a[0] + a[2]) - (b[0] + b[2])) / 720.0)
    return one, (shapely.affinity.translate(two, 360.0 * turns) if turns else two)


def union_shape(geometries: Sequence[Geometry]) -> Any:
    """Return the shape that several geometries cover together."""
    if not geometries:
        return shapely.GeometryCollection()
    return shapely.union_all([aligned(geometries[0], other)[1] for other in geometries])


def in_projection(geometry: Geometry, projection: Projection) -> Any:
    """Return its shape in the pixels of a projection, edges cut.

    Raises:
        AlgorithmError: it does not fit into the projection.
    """
    a, b, c, d, e, f = projection.transform
    determinant = a * e - b * d

    def to_pixels(points: Points) -> Points:
        x, y = transform_coordinates(WGS84_CRS, projection.crs, points[:, 0], points[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise AlgorithmError("The geometry cannot be transformed to the projection.")
        dx, dy = x - c, y - f
        return np.column_stack([(e * dx - b * dy) / determinant, (a * dy - d * dx) / determinant])

    if _straight_in(geometry, projection.crs):
        return shapely.transform(
            _given_shape(geometry), lambda points: _between(points, geometry, projection)
        )
    return shapely.transform(geometry.shape, to_pixels)


def _straight_in(geometry: Geometry, crs: str) -> bool:
    simple = geometry.kind != "GeometryCollection" and geometry.projection.crs == crs
    return simple and (not geometry.geodesic or geometry.kind in {"Point", "MultiPoint"})


def _given_shape(geometry: Geometry) -> Any:
    """Return the shape of the coordinates as they are given, edges not cut."""
    depth = _NESTING[geometry.kind]
    if depth == 0:
        return shapely.Point(geometry.coordinates)
    return _build(geometry.kind, _map_lines(geometry.coordinates, depth - 1, _as_points))


def _between(points: Points, geometry: Geometry, projection: Projection) -> Points:
    # Two projections of one CRS: straight edges stay straight, no need to cut them.
    x, y = apply_affine(geometry.projection.transform, points[:, 0], points[:, 1])
    a, b, c, d, e, f = projection.transform
    determinant = a * e - b * d
    dx, dy = x - c, y - f
    return np.column_stack([(e * dx - b * dy) / determinant, (a * dy - d * dx) / determinant])


def area_m2(geometry: Geometry) -> float:
    """Return the area on the WGS84 ellipsoid."""
    return abs(float(_GEOD.geometry_area_perimeter(geometry.shape)[0]))


def length_m(geometry: Geometry) -> float:
    """Return the length of the lines, or the perimeter of the areas, on the WGS84 ellipsoid."""
    return (
        float(_GEOD.geometry_area_perimeter(geometry.shape)[1])
        if ("Polygon" in geometry.shape.geom_type)
        else float(_GEOD.geometry_length(geometry.shape))
    )


def locally(geometry: Geometry, function: Callable[[Any], Any]) -> Any:
    """Apply a function of shapes in metres around a geometry's middle; return degrees."""
    middle = geometry.shape.centroid
    local = f"+proj=aeqd +lat_0={middle.y!r} +lon_0={_wrap(middle.x)!r} +units=m +type=crs"
    there = shapely.transform(geometry.shape, lambda p: _moved(p, WGS84_CRS, local))
    back = shapely.transform(function(there), lambda p: _moved(p, local, WGS84_CRS))
    return shapely.transform(back, lambda p: _near(p, middle.x))


def _moved(points: Points, source: str, target: str) -> Points:
    return np.column_stack(transform_coordinates(source, target, points[:, 0], points[:, 1]))


def _near(points: Points, longitude: float) -> Points:
    turns = 360.0 * np.round((longitude - points[:, 0]) / 360.0)
    return np.column_stack([points[:, 0] + turns, points[:, 1]])
