"""Assets as the REST surface lists them: images and collections, filtered and in pages."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import shapely

from earth_engine_emulator.expressions.dates import Date, parse_date, to_datetime
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError, not_found
from earth_engine_emulator.expressions.filters import Comparison, Filter, Search, all_of, narrow
from earth_engine_emulator.expressions.geometries import Geometry, from_json, of_footprint, of_shape
from earth_engine_emulator.expressions.images import Image
from earth_engine_emulator.worlds import Band, ImageRecord, TooManyImagesError, World

NAME_PREFIX = "projects/earthengine-public/assets/"
DEFAULT_PAGE = 1000
_CLAUSE = re.compile(
    r"""^(?P<field>[\w.:]+)\s*(?P<operator><=|>=|!=|=|<|>)\s*(?P<value>"[^"]*"|'[^']*'|\S+)$"""
)
_INTERSECTS = re.compile(r"""^intersects\((?P<quote>["'])(?P<region>.*)(?P=quote)\)$""", re.DOTALL)
_RELATIONS = {
    "=": "equals",
    "!=": "not_equals",
    "<": "less",
    "<=": "less_or_equal",
    ">": "greater",
    ">=": "greater_or_equal",
}
_TIMES = {"startTime": "system:time_start", "endTime": "system:time_end"}


def get_asset(world: World, asset_id: str) -> dict[str, Any]:
    """Return one image or collection.

    Raises:
        ServiceError: there is none (404).
    """
    collections = world.collections()
    if asset_id in collections:
        return describe_collection(asset_id, collections[asset_id])
    record = world.find_image(asset_id)
    if record is None:
        raise not_found(f"Asset '{NAME_PREFIX}{asset_id}'")
    return describe_image(record, full=True)


def list_assets(world: World, parent: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of a collection's images.

    Args:
        world: of the images.
        parent: id of the collection.
        query: `pageSize`, `pageToken`, `filter`, `view`.

    Raises:
        ServiceError: the parent does not exist, or a parameter is malformed.
    """
    full = query.get("view", "FULL") != "BASIC"
    start, size = _page(query)
    if parent in world.collections():
        found = _search(world, parent, query.get("filter", ""))
        page = [describe_image(record, full=full) for record in found[start : start + size]]
        number = len(found)
    else:
        inside = [c for c in world.collections() if c.startswith(f"{parent}/") or not parent]
        if not inside:
            raise not_found(f"Asset '{NAME_PREFIX}{parent}'")
        known = world.collections()
        page = [describe_collection(name, known[name]) for name in inside[start : start + size]]
        number = len(inside)
    end = min(start + size, number)
    out: dict[str, Any] = {"assets": page}
    if end < number:
        out["nextPageToken"] = str(end)
    return out


def _page(query: Mapping[str, str]) -> tuple[int, int]:
    try:
        start = int(query.get("pageToken") or 0)
        size = int(query.get("pageSize") or DEFAULT_PAGE)
    except ValueError:
        raise ServiceError("Invalid pageToken or pageSize.") from None
    if start < 0 or size < 0:
        raise ServiceError("Invalid pageToken or pageSize.")
    return start, size or DEFAULT_PAGE


def _search(world: World, parent: str, text: str) -> list[ImageRecord]:
    wanted = all_of(list(_parse(text)))
    search = narrow(Search(), wanted)
    try:
        found = world.find_images(parent, search.bounds, search.start_ms, search.end_ms)
    except TooManyImagesError as error:
        raise ServiceError(str(error)) from error
    return [record for record in found if wanted.test(Image.of_record(record))]


def _parse(text: str) -> Iterator[Filter]:
    """Read a filter of clauses joined by AND.

    Raises:
        ServiceError: a clause is malformed, or joined in another way.
    """
    for clause in _clauses(text):
        intersects = _INTERSECTS.match(clause)
        if intersects:
            region = _geometry(intersects["region"])
            yield Comparison("intersects", ".all", region, None, None)
            continue
        matched = _CLAUSE.match(clause)
        if not matched:
            raise ServiceError(
                f"Invalid filter '{clause}': the emulator has comparisons and intersects(), "
                f"joined by AND."
            )
        yield _comparison(matched["field"], matched["operator"], matched["value"])


def _clauses(text: str) -> list[str]:
    # AND inside quotes does not part clauses.
    parts = re.findall(r"""(?:"[^"]*"|'[^']*'|(?!\sAND\s).)+""", text, re.DOTALL)
    return [part.strip().removeprefix("AND ").strip() for part in parts if part.strip()]


def _geometry(text: str) -> Geometry:
    try:
        return from_json(json.loads(text.replace("'", '"')))
    except (ValueError, AttributeError, AlgorithmError):
        pass
    try:
        return of_shape(shapely.from_wkt(text))
    except shapely.errors.ShapelyError:
        raise ServiceError(f"Invalid region '{text[:100]}': GeoJSON or WKT is needed.") from None


def _comparison(field: str, operator: str, value: str) -> Filter:
    plain = value.strip("\"'")
    if field in _TIMES:
        try:
            return Comparison(_RELATIONS[operator], _TIMES[field], parse_date(plain), None, None)
        except AlgorithmError as error:
            raise ServiceError(str(error)) from error
    name = field.removeprefix("properties.")
    return Comparison(_RELATIONS[operator], name, _literal(value), None, None)


def _literal(value: str) -> Any:
    if value[0] in "\"'":
        return value[1:-1]
    try:
        return float(value)
    except ValueError:
        return value


def describe_collection(asset_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collection as the REST surface describes it."""
    return {
        "type": "IMAGE_COLLECTION",
        "name": NAME_PREFIX + asset_id,
        "id": asset_id,
        "title": properties.get("title", asset_id),
        "properties": dict(properties),
    }


def describe_image(record: ImageRecord, *, full: bool) -> dict[str, Any]:
    """Return an image as the REST surface describes it.

    Args:
        record: the image.
        full: with properties, bands and geometry.
    """
    out: dict[str, Any] = {
        "type": "IMAGE",
        "name": NAME_PREFIX + record.asset_id,
        "id": record.asset_id,
        "updateTime": _timestamp(record.version // 1000),
    }
    if not full:
        return out
    plain = {k: v for k, v in record.properties.items() if not k.startswith("system:")}
    out |= {
        "startTime": _timestamp(record.time_start_ms),
        "endTime": _timestamp(int(record.properties.get("system:time_end", record.time_start_ms))),
        "sizeBytes": str(record.properties.get("system:asset_size", 0)),
        "properties": plain,
        "bands": [_describe_band(band) for band in record.bands],
        "geometry": of_footprint(tuple(record.footprint)).describe(),
    }
    return out


def _timestamp(ms: int) -> str:
    moment = to_datetime(Date(ms)).astimezone(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _describe_band(band: Band) -> dict[str, Any]:
    data_type: dict[str, Any] = {"precision": band.precision.upper()}
    if band.value_range is not None:
        low, high = band.value_range
        data_type["range"] = {"min": low, "max": high}
    x_scale, _, x_origin, _, y_scale, y_origin = band.lattice.crs_transform
    return {
        "id": band.name,
        "dataType": data_type,
        "grid": {
            "crsCode": band.lattice.crs,
            "dimensions": {"width": band.width, "height": band.height},
            "affineTransform": {
                "scaleX": x_scale,
                "translateX": x_origin,
                "scaleY": y_scale,
                "translateY": y_origin,
            },
        },
    }
