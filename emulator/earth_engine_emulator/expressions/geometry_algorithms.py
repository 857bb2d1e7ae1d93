"""Algorithms on geometries and on the geometries of features and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shapely

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.elements import Element, Feature
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.filters import distance_m
from earth_engine_emulator.expressions.geometries import (
    Geometry,
    aligned,
    area_m2,
    box,
    in_projection,
    length_m,
    locally,
    of_shape,
    union_shape,
)
from earth_engine_emulator.expressions.projections import WGS84, Projection
from earth_engine_emulator.expressions.promotion import promote

Predicate = Callable[[Any, Any], bool]
Operation = Callable[[Any, Any], Any]


def _made(kind: str, coordinates: Any, crs: Projection | None, geodesic: bool | None) -> Geometry:
    projection = WGS84 if crs is None else crs
    follows = projection == WGS84 if geodesic is None else geodesic
    if follows and projection != WGS84:
        raise AlgorithmError("The emulator has geodesic edges in EPSG:4326 only.")
    made = Geometry(kind, _plain(coordinates), projection, follows)
    _ = made.shape  # refuse malformed coordinates here, not where it is used first
    return made


def _plain(nested: Any) -> Any:
    if isinstance(nested, Geometry):
        return nested.coordinates
    return [_plain(part) for part in nested] if isinstance(nested, list) else nested


@algorithm("GeometryConstructors.Point")
def _point(coordinates: list[Any], crs: Projection | None) -> Geometry:
    if len(coordinates) != 2:
        raise AlgorithmError("A point has two coordinates.")
    return _made("Point", coordinates, crs, None)


@algorithm("GeometryConstructors.MultiPoint")
def _multi_point(coordinates: list[Any], crs: Projection | None) -> Geometry:
    return _made("MultiPoint", coordinates, crs, None)


def _register_lines() -> None:
    for kind in ("LineString", "LinearRing", "MultiLineString"):

        def line(
            coordinates: list[Any],
            crs: Projection | None,
            geodesic: bool | None,
            _max_error: Any,
            kind: str = kind,
        ) -> Geometry:
            return _made(kind, coordinates, crs, geodesic)

        algorithm(f"GeometryConstructors.{kind}")(line)
    for kind in ("Polygon", "MultiPolygon"):

        def polygon(
            coordinates: list[Any],
            crs: Projection | None,
            geodesic: bool | None,
            _max_error: Any,
            _even_odd: bool,
            kind: str = kind,
        ) -> Geometry:
            return _made(kind, _with_rings(kind, coordinates), crs, geodesic)

        algorithm(f"GeometryConstructors.{kind}")(polygon)


def _with_rings(kind: str, coordinates: list[Any]) -> list[Any]:
    # A polygon may be given as one bare ring.
    depth, inner = 0, coordinates
    while isinstance(inner, list) and inner:
        inner, depth = inner[0], depth + 1
    return [coordinates] if kind == "Polygon" and depth == 2 else coordinates


_register_lines()


@algorithm("GeometryConstructors.Rectangle")
def _rectangle(
    coordinates: list[Any], crs: Projection | None, geodesic: bool | None, _even_odd: bool
) -> Geometry:
    flat = _plain(coordinates)
    if len(flat) == 2:
        flat = [*flat[0], *flat[1]]
    if len(flat) != 4:
        raise AlgorithmError("A rectangle has two points or four coordinates.")
    x1, y1, x2, y2 = flat
    return _made("Polygon", [[[x1, y2], [x1, y1], [x2, y1], [x2, y2]]], crs, geodesic)


@algorithm("GeometryConstructors.BBox")
def _bbox(west: float, south: float, east: float, north: float) -> Geometry:
    if east - west >= 360:
        west, east = -180.0, 180.0
    elif east < west:
        east += 360.0
    return box((west, max(south, -90.0), east, min(north, 90.0)))


@algorithm("GeometryConstructors.MultiGeometry")
def _multi_geometry(
    parts: list[Geometry], _crs: Any, _geodesic: bool | None, _max_error: Any
) -> Geometry:
    return Geometry("GeometryCollection", None, parts=tuple(parts))


@algorithm("Image.geometry", "Feature.geometry", "Element.geometry")
def _geometry(
    element: Element, _max_error: Any, projection: Projection | None, _geodesics: bool | None
) -> Geometry:
    found = element.geometry
    if found is None:
        if isinstance(element, Feature):
            raise AlgorithmError("The feature has no geometry.")
        found = box((-180.0, -90.0, 180.0, 90.0))
    return found if projection is None else _transform(found, projection, None, None)


def _pair(left: Any, right: Any, projection: Projection | None) -> tuple[Any, Any]:
    one = promote(left, "Geometry", "Geometry", "left")
    two = promote(right, "Geometry", "Geometry", "right")
    if projection is None:
        return aligned(one, two)
    return in_projection(one, projection), in_projection(two, projection)


_PREDICATES: dict[str, Predicate] = {
    "contains": shapely.covers,
    "containedIn": shapely.covered_by,
    "intersects": shapely.intersects,
    "disjoint": shapely.disjoint,
}
_OPERATIONS: dict[str, Operation] = {
    "intersection": shapely.intersection,
    "union": shapely.union,
    "difference": shapely.difference,
    "symmetricDifference": shapely.symmetric_difference,
}


def _register_pairs() -> None:
    for name, predicate in _PREDICATES.items():

        def holds(
            left: Any,
            right: Any,
            _max_error: Any,
            projection: Projection | None,
            predicate: Predicate = predicate,
        ) -> bool:
            return bool(predicate(*_pair(left, right, projection)))

        algorithm(f"Geometry.{name}", f"Feature.{name}")(holds)
    for name, operation in _OPERATIONS.items():

        def combined(
            left: Any,
            right: Any,
            _max_error: Any,
            projection: Projection | None,
            operation: Operation = operation,
        ) -> Any:
            _refuse_projection(projection)
            made = of_shape(operation(*_pair(left, right, None)))
            return _like(left, made)

        algorithm(f"Geometry.{name}", f"Feature.{name}")(combined)


def _refuse_projection(projection: Projection | None) -> None:
    if projection not in (None, WGS84):
        raise AlgorithmError("The emulator does this in EPSG:4326 only; leave out 'proj'.")


def _like(source: Any, made: Geometry) -> Any:
    return Feature(made, source.properties) if isinstance(source, Element) else made


_register_pairs()


@algorithm("Geometry.distance", "Feature.distance")
def _distance(
    left: Any, right: Any, _max_error: Any, projection: Projection | None, _spherical: bool
) -> float:
    _refuse_projection(projection)
    return distance_m(*_pair(left, right, None))


@algorithm("Geometry.withinDistance", "Feature.withinDistance")
def _within_distance(
    left: Any, right: Any, distance: float, _max_error: Any, projection: Projection | None
) -> bool:
    _refuse_projection(projection)
    return distance_m(*_pair(left, right, None)) <= distance


@algorithm("Geometry.area", "Feature.area")
def _area(source: Any, _max_error: Any, projection: Projection | None) -> float:
    geometry = promote(source, "Geometry", "Geometry.area", "geometry")
    if projection is None:
        return area_m2(geometry)
    return float(in_projection(geometry, projection).area)


@algorithm("Geometry.length", "Geometry.perimeter", "Feature.length", "Feature.perimeter")
def _length(source: Any, _max_error: Any, projection: Projection | None) -> float:
    geometry = promote(source, "Geometry", "Geometry.length", "geometry")
    if projection is None:
        return length_m(geometry)
    return float(in_projection(geometry, projection).length)


@algorithm("Geometry.bounds", "Feature.bounds")
def _bounds(source: Any, _max_error: Any, projection: Projection | None) -> Any:
    geometry = promote(source, "Geometry", "Geometry.bounds", "geometry")
    if projection is None or projection == WGS84:
        return _like(source, box(tuple(shapely.bounds(geometry.shape))))
    shape = in_projection(geometry, projection)
    return _like(source, box(tuple(shapely.bounds(shape)), projection))


@algorithm("Geometry.buffer", "Feature.buffer")
def _buffer(source: Any, distance: float, _max_error: Any, projection: Projection | None) -> Any:
    _refuse_projection(projection)
    geometry = promote(source, "Geometry", "Geometry.buffer", "geometry")
    return _like(source, of_shape(locally(geometry, lambda shape: shape.buffer(distance))))


@algorithm("Geometry.centroid", "Feature.centroid")
def _centroid(source: Any, _max_error: Any, projection: Projection | None) -> Any:
    _refuse_projection(projection)
    geometry = promote(source, "Geometry", "Geometry.centroid", "geometry")
    return _like(source, of_shape(locally(geometry, lambda shape: shape.centroid)))


@algorithm("Geometry.convexHull", "Feature.convexHull")
def _convex_hull(source: Any, _max_error: Any, projection: Projection | None) -> Any:
    _refuse_projection(projection)
    geometry = promote(source, "Geometry", "Geometry.convexHull", "geometry")
    return _like(source, of_shape(shapely.convex_hull(geometry.shape)))


@algorithm("Geometry.dissolve", "Feature.dissolve")
def _dissolve(source: Any, _max_error: Any, projection: Projection | None) -> Any:
    _refuse_projection(projection)
    geometry = promote(source, "Geometry", "Geometry.dissolve", "geometry")
    return _like(source, of_shape(union_shape([geometry])))


@algorithm("Geometry.simplify", "Feature.simplify")
def _simplify(source: Any, max_error: Any, projection: Projection | None) -> Any:
    _refuse_projection(projection)
    geometry = promote(source, "Geometry", "Geometry.simplify", "geometry")
    tolerance = max_error.value or 0.0
    return _like(source, of_shape(locally(geometry, lambda shape: shape.simplify(tolerance))))


@algorithm("Geometry.transform", "Feature.transform")
def _transform(
    source: Any, projection: Projection, _max_error: Any, geodesic: bool | None = None
) -> Any:
    # The algorithm list of earthengine-api 1.7.32 has no `geodesic`, that of 1.7.36 has it.
    geometry = promote(source, "Geometry", "Geometry.transform", "geometry")
    if geometry.projection == projection and geodesic in (None, geometry.geodesic):
        return source
    shape = in_projection(geometry, projection)
    made = of_shape(shape)
    return _like(source, Geometry(made.kind, made.coordinates, projection, geodesic=False))


@algorithm("Geometry.coordinates")
def _coordinates(geometry: Geometry) -> Any:
    return geometry.describe().get("coordinates", [])


@algorithm("Geometry.type")
def _type(geometry: Geometry) -> str:
    return geometry.kind


@algorithm("Geometry.geodesic", "Geometry.edgesAreGeodesics")
def _geodesic(geometry: Geometry) -> bool:
    return geometry.geodesic


@algorithm("Geometry.projection")
def _projection(geometry: Geometry) -> Projection:
    return geometry.projection


@algorithm("Geometry.isUnbounded")
def _is_unbounded(geometry: Geometry) -> bool:
    west, _, east, _ = shapely.bounds(geometry.shape)
    return bool(east - west >= 360.0)


@algorithm("Geometry.geometries")
def _geometries(geometry: Geometry) -> list[Geometry]:
    if geometry.kind == "GeometryCollection":
        return list(geometry.parts)
    if geometry.kind.startswith("Multi"):
        kind = geometry.kind.removeprefix("Multi")
        return [
            Geometry(kind, part, geometry.projection, geometry.geodesic)
            for part in geometry.coordinates
        ]
    return [geometry]
