"""Algorithms that make filters, dates, projections and reducers."""

from __future__ import annotations

from typing import Any

from earth_engine_emulator.expressions import dates, reducers
from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.dates import Date, DateRange
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.filters import (
    Always,
    CalendarRange,
    Combined,
    Comparison,
    Filter,
    NotNull,
    all_of,
)
from earth_engine_emulator.expressions.pixel_types import PixelType, named_type
from earth_engine_emulator.expressions.projections import (
    Projection,
    describe_transform,
    parse_crs,
    projection_from,
)
from earth_engine_emulator.expressions.promotion import ErrorMargin
from earth_engine_emulator.expressions.reducers import Reducer

_RELATIONS = {
    "equals": ("Filter.eq", "Filter.equals"),
    "not_equals": ("Filter.neq", "Filter.notEquals"),
    "less": ("Filter.lt", "Filter.lessThan"),
    "less_or_equal": ("Filter.lte", "Filter.lessThanOrEquals"),
    "greater": ("Filter.gt", "Filter.greaterThan"),
    "greater_or_equal": ("Filter.gte", "Filter.greaterThanOrEquals"),
    "starts_with": ("Filter.stringStartsWith",),
    "ends_with": ("Filter.stringEndsWith",),
    "contains_text": ("Filter.stringContains",),
    "in_list": ("Filter.inList",),
    "list_contains": ("Filter.listContains",),
    "date_range_contains": ("Filter.dateRangeContains",),
    "has_type": ("Filter.hasType",),
}
_SPATIAL = {
    "intersects": "Filter.intersects",
    "disjoint": "Filter.disjoint",
    "contains": "Filter.contains",
    "is_contained": "Filter.isContained",
}


def _checked(
    relation: str, left_field: Any, right_value: Any, right_field: Any, left_value: Any, x: float
) -> Comparison:
    for field, value, side in (
        (left_field, left_value, "left"),
        (right_field, right_value, "right"),
    ):
        if (field is None) == (value is None):
            raise AlgorithmError(
                f"Exactly one of '{side}Field' and '{side}Value' must be specified."
            )
    return Comparison(relation, left_field, right_value, right_field, left_value, x)


def _register_relations() -> None:
    for relation, names in _RELATIONS.items():

        def plain(
            lf: str | None, rv: Any, rf: str | None, lv: Any, relation: str = relation
        ) -> Filter:
            return _checked(relation, lf, rv, rf, lv, 0.0)

        algorithm(*names)(plain)
    for relation, name in _SPATIAL.items():

        def spatial(
            lf: str | None,
            rv: Any,
            rf: str | None,
            lv: Any,
            _max_error: Any,
            relation: str = relation,
        ) -> Filter:
            return _checked(relation, lf, rv, rf, lv, 0.0)

        algorithm(name)(spatial)


_register_relations()


@algorithm("Filter.maxDifference")
def _max_difference(difference: float, lf: str | None, rv: Any, rf: str | None, lv: Any) -> Filter:
    return _checked("max_difference", lf, rv, rf, lv, difference)


@algorithm("Filter.withinDistance")
def _within_distance(
    distance: float, lf: str | None, rv: Any, rf: str | None, lv: Any, _max_error: Any
) -> Filter:
    return _checked("within_distance", lf, rv, rf, lv, distance)


@algorithm("Filter.and")
def _and(filters: list[Filter]) -> Filter:
    return all_of(filters)


@algorithm("Filter.or")
def _or(filters: list[Filter]) -> Filter:
    return Combined("or", tuple(filters))


@algorithm("Filter.not")
def _not(wanted: Filter) -> Filter:
    return Combined("not", (wanted,))


@algorithm("Filter.notNull")
def _not_null(properties: list[str]) -> Filter:
    return NotNull(tuple(properties))


@algorithm("Filter.always")
def _always() -> Filter:
    return Always(passes=True)


@algorithm("Filter.never")
def _never() -> Filter:
    return Always(passes=False)


@algorithm("Filter.rangeContains")
def _range_contains(field: str, low: Any, high: Any) -> Filter:
    return all_of(
        [
            Comparison("greater_or_equal", field, low, None, None),
            Comparison("less_or_equal", field, high, None, None),
        ]
    )


_CALENDAR_FIELDS = (
    "year", "month", "day_of_month", "day_of_year", "day_of_week", "hour", "minute", "week",
)  # fmt: skip


@algorithm("Filter.calendarRange")
def _calendar_range(start: int, end: int | None, field: str) -> Filter:
    if field not in _CALENDAR_FIELDS:
        raise AlgorithmError(f"Unknown calendar field '{field}'. Known: {_CALENDAR_FIELDS}.")
    return CalendarRange(start, start if end is None else end, field)


@algorithm("Filter.dayOfYear")
def _day_of_year(start: int, end: int) -> Filter:
    return CalendarRange(start, end - 1, "day_of_year")


@algorithm("Date")
def _date(value: Any, time_zone: str | None) -> Date:
    return dates.parse_date(value, time_zone)


@algorithm("Date.fromYMD")
def _from_ymd(year: int, month: int, day: int, time_zone: str | None) -> Date:
    return dates.parse_date(f"{year:04d}-{month:02d}-{day:02d}", time_zone)


@algorithm("Date.advance")
def _advance(date: Date, delta: float, unit: str, time_zone: str | None) -> Date:
    return dates.advance(date, delta, unit, time_zone)


@algorithm("Date.difference")
def _difference(date: Date, start: Date, unit: str) -> float:
    return (date.ms - start.ms) / dates.MS_PER[dates.unit_name(unit)]


@algorithm("Date.format")
def _format(date: Date, pattern: str | None, time_zone: str | None) -> str:
    return dates.format_date(date, pattern, time_zone)


@algorithm("Date.get")
def _get(date: Date, unit: str, time_zone: str | None) -> int:
    return dates.get_field(date, unit, time_zone)


@algorithm("Date.getRelative")
def _get_relative(date: Date, unit: str, in_unit: str, time_zone: str | None) -> int:
    start = dates.floor_to(date, in_unit, time_zone)
    return int((date.ms - start.ms) // dates.MS_PER[dates.unit_name(unit)])


@algorithm("Date.getRange")
def _get_range(date: Date, unit: str, time_zone: str | None) -> DateRange:
    start = dates.floor_to(date, unit, time_zone)
    return DateRange(start.ms, dates.advance(start, 1, unit, time_zone).ms)


@algorithm("Date.getFraction")
def _get_fraction(date: Date, unit: str, time_zone: str | None) -> float:
    whole = _get_range(date, unit, time_zone)
    assert whole.start_ms is not None
    assert whole.end_ms is not None
    return (date.ms - whole.start_ms) / (whole.end_ms - whole.start_ms)


@algorithm("Date.millis")
def _millis(date: Date) -> int:
    return date.ms


@algorithm("Date.unitRatio")
def _unit_ratio(numerator: str, denominator: str) -> float:
    return dates.MS_PER[dates.unit_name(numerator)] / dates.MS_PER[dates.unit_name(denominator)]


@algorithm("DateRange")
def _date_range(start: Any, end: Any, time_zone: str | None) -> DateRange:
    first = dates.parse_date(start, time_zone)
    # Without an end, the range holds the one instant.
    last = Date(first.ms + 1) if end is None else dates.parse_date(end, time_zone)
    return DateRange(first.ms, last.ms)


@algorithm("DateRange.unbounded")
def _unbounded() -> DateRange:
    return DateRange(None, None)


@algorithm("DateRange.start")
def _range_start(date_range: DateRange) -> Date | None:
    return None if date_range.start_ms is None else Date(date_range.start_ms)


@algorithm("DateRange.end")
def _range_end(date_range: DateRange) -> Date | None:
    return None if date_range.end_ms is None else Date(date_range.end_ms)


@algorithm("DateRange.isEmpty")
def _range_empty(date_range: DateRange) -> bool:
    return date_range.empty


@algorithm("DateRange.isUnbounded")
def _range_unbounded(date_range: DateRange) -> bool:
    return date_range.start_ms is None or date_range.end_ms is None


@algorithm("DateRange.contains")
def _range_contains_date(date_range: DateRange, other: Any) -> bool:
    return date_range.contains(dates.parse_date(other).ms)


@algorithm("Projection", "Proj")
def _projection(crs: Any, transform: list[Any] | None, transform_wkt: str | None) -> Projection:
    return projection_from(crs, transform, transform_wkt)


@algorithm("Projection.crs")
def _crs(projection: Projection) -> str:
    return projection.crs


@algorithm("Projection.transform")
def _transform(projection: Projection) -> str:
    return describe_transform(projection)


@algorithm("Projection.wkt")
def _wkt(projection: Projection) -> str:
    return str(parse_crs(projection.crs).to_wkt("WKT1_GDAL", pretty=True))


@algorithm("Projection.nominalScale")
def _nominal_scale(projection: Projection) -> float:
    return projection.nominal_scale_m


@algorithm("Projection.atScale")
def _at_scale(projection: Projection, scale_m: float) -> Projection:
    return projection.at_scale(scale_m)


@algorithm("Projection.scale")
def _scale(projection: Projection, x: float, y: float) -> Projection:
    return projection.scaled(x, y)


@algorithm("Projection.translate")
def _translate(projection: Projection, x: float, y: float) -> Projection:
    return projection.translated(x, y)


@algorithm("ErrorMargin")
def _error_margin(value: float | None, unit: str) -> ErrorMargin:
    return ErrorMargin(value, unit)


@algorithm("PixelType")
def _pixel_type(precision: Any, low: Any, high: Any, dimensions: int) -> PixelType:
    if dimensions:
        raise AlgorithmError("The emulator does not have pixels that are arrays.")
    if isinstance(precision, PixelType):
        return precision
    if precision in {"int", "float", "double"} and (low is not None or precision != "int"):
        return PixelType(precision, low, high)
    return named_type(str(precision))


def _register_pixel_types() -> None:
    for name in ("double", "float", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"):

        def made(name: str = name) -> PixelType:
            return named_type(name)

        algorithm(f"PixelType.{name}")(made)


_register_pixel_types()


@algorithm("PixelType.precision")
def _precision(pixel_type: PixelType) -> str:
    return pixel_type.precision


@algorithm("PixelType.minValue")
def _min_value(pixel_type: PixelType) -> float | None:
    return pixel_type.minimum


@algorithm("PixelType.maxValue")
def _max_value(pixel_type: PixelType) -> float | None:
    return pixel_type.maximum


def _register_reducers() -> None:
    def register(name: str, reducer: Reducer) -> None:
        algorithm(f"Reducer.{name}")(lambda: reducer)

    for name, reducer in reducers.SIMPLE.items():
        if name not in _DIRECT:
            register(name, reducer)
    register("minMax", reducers.min_max())
    register("count", reducers.count())
    register("countEvery", reducers.count_every())
    register("countDistinct", reducers.count_distinct(keeps_nulls=True))
    register("countDistinctNonNull", reducers.count_distinct(keeps_nulls=False))
    register("first", reducers.pick("first", 0, keeps_nulls=True))
    register("firstNonNull", reducers.pick("first", 0, keeps_nulls=False))
    register("last", reducers.pick("last", -1, keeps_nulls=True))
    register("lastNonNull", reducers.pick("last", -1, keeps_nulls=False))
    register("frequencyHistogram", reducers.frequency_histogram())
    register("and", reducers.SIMPLE["allNonZero"])
    register("or", reducers.SIMPLE["anyNonZero"])


# Medians and modes are always computed directly: the arguments about histograms change nothing.
_DIRECT = {"median": reducers.SIMPLE["median"], "mode": reducers.SIMPLE["mode"]}


def _register_direct() -> None:
    for name, reducer in _DIRECT.items():

        def direct(_b: Any, _w: Any, _r: Any, reducer: Reducer = reducer) -> Reducer:
            return reducer

        algorithm(f"Reducer.{name}")(direct)


_register_reducers()
_register_direct()


@algorithm("Reducer.min")
def _min(num_inputs: int) -> Reducer:
    return reducers.extreme("min", num_inputs)


@algorithm("Reducer.max")
def _max(num_inputs: int) -> Reducer:
    return reducers.extreme("max", num_inputs)


@algorithm("Reducer.toList")
def _to_list(tuple_size: int | None, num_optional: int) -> Reducer:
    return reducers.to_list(tuple_size, num_optional)


@algorithm("Reducer.percentile")
def _percentile(
    percentiles: list[float], names: list[str] | None, _b: Any, _w: Any, _r: Any
) -> Reducer:
    return reducers.percentile(percentiles, names)


@algorithm("Reducer.fixedHistogram")
def _fixed_histogram(low: float, high: float, steps: int, cumulative: bool) -> Reducer:
    if cumulative:
        raise AlgorithmError("The emulator does not have cumulative histograms.")
    return reducers.fixed_histogram(low, high, steps)


@algorithm("Reducer.repeat")
def _repeat(reducer: Reducer, times: int) -> Reducer:
    return reducers.repeat(reducer, times)


@algorithm("Reducer.combine")
def _combine(one: Reducer, two: Reducer, prefix: str, shared: bool) -> Reducer:
    return reducers.combine(one, two, prefix, shared)


@algorithm("Reducer.forEach")
def _for_each(reducer: Reducer, names: list[str]) -> Reducer:
    return reducers.for_each(reducer, names)


@algorithm("Reducer.forEachBand")
def _for_each_band(reducer: Reducer, image: Any) -> Reducer:
    return reducers.for_each(reducer, image.band_names)


@algorithm("Reducer.setOutputs")
def _set_outputs(reducer: Reducer, names: list[str]) -> Reducer:
    return reducers.set_outputs(reducer, names)


@algorithm("Reducer.getOutputs")
def _get_outputs(reducer: Reducer) -> list[str]:
    return list(reducer.outputs)


@algorithm("Reducer.unweighted")
def _unweighted(reducer: Reducer) -> Reducer:
    return reducers.unweighted(reducer)
