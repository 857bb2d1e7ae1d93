"""Filters: tests on elements, and how far they narrow a search of the world."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import shapely

from earth_engine_emulator.expressions.dates import Date, DateRange, get_field, to_datetime
from earth_engine_emulator.expressions.elements import Element
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.geometries import Geometry, aligned
from earth_engine_emulator.worlds import Bounds

TIME = "system:time_start"
INDEX = "system:index"
_GEOMETRY_FIELDS = frozenset({".all", ".geo", ".geometry"})

Test = Callable[[Any, Any], bool]
_MAX_SEARCHES = 64


@dataclass(frozen=True, slots=True)
class Search:
    """What a search of the world is narrowed to; None means no narrowing."""

    bounds: Bounds | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    indices: frozenset[str] | None = None

    @property
    def nothing(self) -> bool:
        """Whether no image can be found."""
        return (self.indices is not None and not self.indices) or (
            self.start_ms is not None and self.end_ms is not None and self.end_ms <= self.start_ms
        )

    def within(self, start_ms: int | None, end_ms: int | None) -> Search:
        """Return the search with a range of time intersected."""
        starts = [t for t in (self.start_ms, start_ms) if t is not None]
        ends = [t for t in (self.end_ms, end_ms) if t is not None]
        return replace(self, start_ms=max(starts, default=None), end_ms=min(ends, default=None))

    def around(self, bounds: Bounds) -> Search:
        """Return the search near a box, if that is smaller than the one it has."""
        if self.bounds is not None and _size(self.bounds) <= _size(bounds):
            return self
        return replace(self, bounds=bounds)

    def among(self, indices: frozenset[str]) -> Search:
        """Return the search among images of these indices."""
        return replace(self, indices=indices if self.indices is None else self.indices & indices)


def _size(bounds: Bounds) -> float:
    return ((bounds.east - bounds.west) % 360.0) * (bounds.north - bounds.south)


class Filter(ABC):
    """A test of an element, or of two in a join."""

    @abstractmethod
    def test(self, left: Element, right: Element | None = None) -> bool:
        """Return whether the element, or the pair, passes."""


@dataclass(frozen=True, slots=True)
class Always(Filter):
    """A filter that everything passes, or nothing does."""

    passes: bool

    def test(self, left: Element, right: Element | None = None) -> bool:  # noqa: ARG002
        """Return the same for every element."""
        return self.passes


@dataclass(frozen=True, slots=True)
class Combined(Filter):
    """Several filters, joined by and, or, or the one denied."""

    how: str
    filters: tuple[Filter, ...]

    def test(self, left: Element, right: Element | None = None) -> bool:
        """Return what the filters make together."""
        if self.how == "and":
            return all(part.test(left, right) for part in self.filters)
        if self.how == "or":
            return any(part.test(left, right) for part in self.filters)
        return not self.filters[0].test(left, right)


@dataclass(frozen=True, slots=True)
class Comparison(Filter):
    """A relation between a field or value on the left and one on the right.

    With one element both fields are its own; in a join the right field is the other element's.
    A missing or null operand passes nothing.
    """

    relation: str
    left_field: str | None
    right_value: Any
    right_field: str | None
    left_value: Any
    extra: float = 0.0

    def test(self, left: Element, right: Element | None = None) -> bool:
        """Return whether the relation holds."""
        one = self.left_value if self.left_field is None else _field(left, self.left_field)
        other = (
            self.right_value
            if self.right_field is None
            else _field(left if right is None else right, self.right_field)
        )
        if one is None or other is None:
            return False
        if self.relation in _SPATIAL:
            return _spatial(self.relation, one, other, self.extra)
        if self.relation == "max_difference":
            return abs(float(_plain(one)) - float(_plain(other))) <= self.extra
        return RELATIONS[self.relation](_plain(one), _plain(other))


@dataclass(frozen=True, slots=True)
class NotNull(Filter):
    """Whether properties are there."""

    properties: tuple[str, ...]

    def test(self, left: Element, right: Element | None = None) -> bool:  # noqa: ARG002
        """Return whether none of them is null."""
        return all(left.get(name) is not None for name in self.properties)


@dataclass(frozen=True, slots=True)
class CalendarRange(Filter):
    """Whether `system:time_start` falls into a range of a calendar field, both ends included."""

    start: int
    end: int
    field: str

    def test(self, left: Element, right: Element | None = None) -> bool:  # noqa: ARG002
        """Return whether it does; a range may wrap around the year."""
        ms = left.get(TIME)
        if ms is None:
            return False
        date = Date(int(ms))
        if self.field == "day_of_year":
            value = to_datetime(date).timetuple().tm_yday
        elif self.field == "day_of_week":
            value = to_datetime(date).isoweekday()
        else:
            value = get_field(date, {"day_of_month": "day"}.get(self.field, self.field))
        if self.start <= self.end:
            return self.start <= value <= self.end
        return value >= self.start or value <= self.end


def _field(element: Element, name: str) -> Any:
    return element.geometry if name in _GEOMETRY_FIELDS else element.get(name)


def _plain(value: Any) -> Any:
    return value.ms if isinstance(value, Date) else value


def _comparable(left: Any, right: Any) -> bool:
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    return numbers or (isinstance(left, str) and isinstance(right, str))


def _contains_date(left: Any, right: Any) -> bool:
    return isinstance(left, DateRange) and isinstance(right, (int, float)) and left.contains(right)


def _has_type(value: Any, name: Any) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "String": (str,),
        "Number": (int, float),
        "List": (list,),
        "Geometry": (Geometry,),
    }
    return isinstance(value, kinds.get(str(name), ()))


RELATIONS: dict[str, Test] = {
    "equals": lambda a, b: bool(a == b),
    "not_equals": lambda a, b: bool(a != b),
    "less": lambda a, b: _comparable(a, b) and bool(a < b),
    "less_or_equal": lambda a, b: _comparable(a, b) and bool(a <= b),
    "greater": lambda a, b: _comparable(a, b) and bool(a > b),
    "greater_or_equal": lambda a, b: _comparable(a, b) and bool(a >= b),
    "starts_with": lambda a, b: isinstance(a, str) and a.startswith(str(b)),
    "ends_with": lambda a, b: isinstance(a, str) and a.endswith(str(b)),
    "contains_text": lambda a, b: isinstance(a, str) and str(b) in a,
    "in_list": lambda a, b: isinstance(b, list) and a in b,
    "list_contains": lambda a, b: isinstance(a, list) and b in a,
    "date_range_contains": _contains_date,
    "has_type": _has_type,
}
_SPATIAL = frozenset({"intersects", "disjoint", "contains", "is_contained", "within_distance"})


def _as_geometry(value: Any) -> Geometry:
    found = value.geometry if isinstance(value, Element) else value
    if not isinstance(found, Geometry):
        raise AlgorithmError(f"A geometry is needed, not {type(value).__name__}.")
    return found


def _spatial(relation: str, left: Any, right: Any, extra: float) -> bool:
    one, other = aligned(_as_geometry(left), _as_geometry(right))
    if relation == "intersects":
        return bool(shapely.intersects(one, other))
    if relation == "disjoint":
        return not shapely.intersects(one, other)
    if relation == "contains":
        return bool(shapely.covers(one, other))
    if relation == "is_contained":
        return bool(shapely.covers(other, one))
    return distance_m(one, other) <= extra


def distance_m(one: Any, other: Any) -> float:
    """Return the distance (m) between two shapes in degrees, by an equirectangular plane."""
    if shapely.intersects(one, other):
        return 0.0
    near, far = shapely.get_coordinates(shapely.shortest_line(one, other))
    shrink = math.cos(math.radians((near[1] + far[1]) / 2))
    east = math.radians(far[0] - near[0]) * shrink
    return math.hypot(east, math.radians(far[1] - near[1])) * 6371008.8


def narrow(search: Search, wanted: Filter) -> Search:
    """Narrow a search by a filter as far as it says something of time, place or index."""
    if isinstance(wanted, Combined) and wanted.how == "and":
        for part in wanted.filters:
            search = narrow(search, part)
        return search
    return _narrow_by(search, wanted) if isinstance(wanted, Comparison) else search


def searches_of(filters: Sequence[Filter]) -> list[Search]:
    """Return the searches that together find every image that passes all filters.

    Alternatives, such as several ranges of dates, are searched one by one: their common range may
    be much wider than they are.
    """
    found = [Search()]
    for wanted in filters:
        found = [narrower for search in found for narrower in _alternatives(search, wanted)]
        if len(found) > _MAX_SEARCHES:
            found = [narrow_all(Search(), filters)]
            break
    return [search for search in found if not search.nothing]


def narrow_all(search: Search, filters: Sequence[Filter]) -> Search:
    """Narrow a search by several filters, without a look at alternatives."""
    for wanted in filters:
        search = narrow(search, wanted)
    return search


def _alternatives(search: Search, wanted: Filter) -> list[Search]:
    if isinstance(wanted, Combined) and wanted.how == "or":
        return [found for part in wanted.filters for found in _alternatives(search, part)]
    if isinstance(wanted, Combined) and wanted.how == "and":
        found = [search]
        for part in wanted.filters:
            found = [narrower for one in found for narrower in _alternatives(one, part)]
        return found
    return [narrow(search, wanted)]


def _narrow_by(search: Search, wanted: Comparison) -> Search:
    if wanted.relation == "date_range_contains" and wanted.right_field == TIME:
        if isinstance(wanted.left_value, DateRange):
            return search.within(wanted.left_value.start_ms, wanted.left_value.end_ms)
        return search
    value = _plain(wanted.right_value)
    if wanted.left_field == TIME and isinstance(value, (int, float)):
        return _narrow_time(search, wanted.relation, value)
    if wanted.left_field == INDEX:
        return _narrow_index(search, wanted.relation, value)
    if wanted.left_field in _GEOMETRY_FIELDS and wanted.relation in {"intersects", "contains"}:
        bounds = _as_geometry(wanted.right_value).bounds()
        return search.around(bounds)
    return search


def _narrow_time(search: Search, relation: str, value: float) -> Search:
    if relation in {"greater_or_equal", "equals"}:
        search = search.within(math.ceil(value), None)
    if relation == "greater":
        search = search.within(math.floor(value) + 1, None)
    if relation == "less":
        search = search.within(None, math.ceil(value))
    if relation in {"less_or_equal", "equals"}:
        search = search.within(None, math.floor(value) + 1)
    return search


def _narrow_index(search: Search, relation: str, value: Any) -> Search:
    if relation == "equals" and isinstance(value, str):
        return search.among(frozenset([value]))
    if relation == "in_list" and isinstance(value, list):
        return search.among(frozenset(v for v in value if isinstance(v, str)))
    return search


def all_of(filters: Sequence[Filter]) -> Filter:
    """Return the filter that passes what all of them pass."""
    return Combined("and", tuple(filters))
