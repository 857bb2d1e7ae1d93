"""Listings of Earth Engine, read: rows of properties become candidates.

Rows come from ``reduceColumns(Reducer.toList(n))``, which silently drops a row with a null in it.
So the number of images is asked for beside the rows; a difference is never taken for "no image".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.sources.earth_engine.acquisitions import Affine, Candidate, Listing
from pipeline.sources.earth_engine.collections import collection_of
from storage_schema.products import ProductName
from storage_schema.status import OrbitPass

SEARCH_HALF_SIDE_M: Final = 1_475.0
"""An image has to contain a box of this half side around a location's centre. It holds the patch
wherever that comes to lie: 1320 m, turned by up to 5 degrees against the meridian at a zone's edge,
moved by up to 30 m in each axis onto the tile's 60 m lattice."""
_METRES_PER_DEGREE: Final = 111_195.0
_PASSES: Final = {"ASCENDING": OrbitPass.ASCENDING, "DESCENDING": OrbitPass.DESCENDING}


def search_box(longitude: float, latitude: float) -> list[list[float]]:
    """Return the ring that an image's footprint has to contain: longitude, latitude, deg."""
    north = SEARCH_HALF_SIDE_M / _METRES_PER_DEGREE
    east = north / max(math.cos(math.radians(latitude)), 1e-3)
    west_east, south_north = (
        (longitude - east, longitude + east),
        (latitude - north, latitude + north),
    )
    ring = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    return [[west_east[x], south_north[y]] for x, y in ring]


def parse_listing(reply: Mapping[str, Any]) -> Listing:
    """Read what a listing says of one location.

    Args:
        reply: product -> {"size": images, "rows": [values in the order of its columns]}.

    Raises:
        ValueError, KeyError, TypeError: the reply has another form.
    """
    images: dict[ProductName, Sequence[Candidate]] = {}
    incomplete: dict[ProductName, int] = {}
    for product, found in reply.items():
        columns = collection_of(product).columns
        rows = [dict(zip(columns, row, strict=True)) for row in found["rows"]]
        missing = int(found["size"]) - len(rows)
        if missing < 0:
            raise ValueError(f"the listing of {product} has more rows than images")
        images[product] = [_candidate(row) for row in rows]
        if missing:
            incomplete[product] = missing
    return Listing(images, incomplete)


def _candidate(row: Mapping[str, Any]) -> Candidate:
    zenith_deg = row.get("MEAN_SOLAR_ZENITH_ANGLE")
    cloud = row.get("CLOUDY_PIXEL_PERCENTAGE")
    orbit = row.get("SENSING_ORBIT_NUMBER", row.get("relativeOrbitNumber_start"))
    orbit_pass = row.get("SENSING_ORBIT_DIRECTION", row.get("orbitProperties_pass"))
    transform = row.get("transform")
    return Candidate(
        id=str(row["system:index"]),
        time_ms=int(row["system:time_start"]),
        contains_patch=bool(row.get("contains_patch", True)),
        cloud_percentage=None if cloud is None else float(cloud),
        sun_elevation_deg=None if zenith_deg is None else 90.0 - float(zenith_deg),
        tile=str(row.get("MGRS_TILE", "")),
        crs=str(row.get("crs", "")),
        transform=None if transform is None else parse_transform(transform),
        orbit_pass=_PASSES.get(str(orbit_pass), OrbitPass.UNKNOWN),
        relative_orbit=None if orbit is None else int(orbit),
        bands=frozenset(str(row.get("band_names", "")).split()),
    )


def parse_transform(value: str | Sequence[float]) -> Affine:
    """Read a projection's transform, which the service writes as text or as a list.

    Source: Earth Engine's ``Projection.transform`` returns WKT like
    ``PARAM_MT["Affine", PARAMETER["elt_0_0", 60.0], ...]``, without the elements that are 0 or 1 as
    in the identity.
    """
    if not isinstance(value, str):
        a, b, c, d, e, f = (float(part) for part in value)
        return a, b, c, d, e, f
    if value.lstrip().startswith("["):
        return parse_transform(json.loads(value))
    elements = {"0_0": 1.0, "0_1": 0.0, "0_2": 0.0, "1_0": 0.0, "1_1": 1.0, "1_2": 0.0}
    found = re.findall(r'"elt_([01])_([012])"\s*,\s*([-+0-9.eE]+)', value)
    if not found:
        raise ValueError(f"{value!r} is no affine transform")
    for row, column, number in found:
        elements[f"{row}_{column}"] = float(number)
    a, b, c, d, e, f = elements.values()
    return a, b, c, d, e, f
