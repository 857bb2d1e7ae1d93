"""``patches.parquet``: one row per patch, so that a reader of a large cube opens one file.

GeoParquet 1.1 (the geometry is the patch centre, WKB, longitude and latitude). Rows appear where at
least one product of the location and season was looked for and found, or failed; their order is
that of the cube.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import zarr

from storage_schema.land_cover import CLASS_NAMES, LabelStatus
from storage_schema.layout import AXES, NO_ORBIT, NO_TIME, Layout, coarse_resolutions
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason

PATCH_TABLE_KEY: Final = "patches.parquet"
LOCATIONS_PER_READ: Final = 4096

SmallArrays = Mapping[str, npt.NDArray[Any]]


def read_small_arrays(
    group: zarr.Group, layout: Layout, locations_per_read: int = LOCATIONS_PER_READ
) -> Iterator[tuple[int, SmallArrays]]:
    """Yield (first location, the plan, location and patch arrays of the next locations)."""
    names = layout.names("plan", "location", "patch")
    # Whole batches, so that every chunk is read once.
    step = locations_per_read // layout.description.locations_per_batch
    step = max(step, 1) * layout.description.locations_per_batch
    for start in range(0, layout.description.num_locations, step):
        yield start, {name: np.asarray(group[name][start : start + step]) for name in names}  # type: ignore[index]


def patch_rows(small: SmallArrays) -> npt.NDArray[np.bool_]:
    """Tell which (location, season) are patches: bool (location, season)."""
    status = small["patch_status"]
    nothing = (status == PatchStatus.NO_ACQUISITION) | (status == PatchStatus.PENDING)
    return np.asarray(~nothing.all(axis=-1))


class PatchTable:
    """Collects the rows while the cube is read once, then gives the file's bytes."""

    def __init__(self, layout: Layout) -> None:
        self._products = layout.description.products
        self._buffer = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def add(self, start: int, small: SmallArrays) -> None:
        """Add the patches of the next locations as one row group."""
        table = self._table(start, small)
        if self._writer is None:
            schema = table.schema.with_metadata({"geo": json.dumps(_GEO)})
            self._writer = pq.ParquetWriter(self._buffer, schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self, digest: str) -> bytes:
        """Return the file; the cube's digest stands in its metadata."""
        assert self._writer is not None, "a cube has at least one location"
        self._writer.add_key_value_metadata({"softcon_digest": digest})
        self._writer.close()
        return self._buffer.getvalue()

    def _table(self, start: int, small: SmallArrays) -> pa.Table:
        rows = patch_rows(small)
        location, season = np.nonzero(rows)
        columns: dict[str, pa.Array] = {
            "location_index": pa.array((location + start).astype(np.int32)),
            "season": pa.array(season.astype(np.uint8)),
            "location_id": pa.array([str(v) for v in small["location_id"][location]]),
        }
        for name in ("longitude", "latitude", "epsg", "x_origin", "y_origin"):
            columns[name] = pa.array(small[name][location])
        columns["georeference_error_m"] = pa.array(small["georeference_error_m"][location])
        for resolution_m in coarse_resolutions(self._products):
            for axis, direction in enumerate(AXES):
                offset = small[f"offset_{resolution_m}m"][location][:, axis]
                columns[f"offset_{resolution_m}m_{direction}"] = _nullable(offset)
        columns["split"] = _names(small["split"][location], Split)
        columns["label_status"] = _names(small["label_status"][rows], LabelStatus)
        columns["labelled_fraction"] = _nullable(small["labelled_fraction"][rows])
        for index, name in enumerate(CLASS_NAMES):
            fraction, present = small["class_fraction"][rows], small["class_present"][rows]
            columns[f"class_fraction_{name}"] = _nullable(fraction[:, index])
            columns[f"class_present_{name}"] = pa.array(
                present[:, index] == 1, mask=present[:, index] > 1
            )
        for index, product in enumerate(self._products):
            of_product = {
                name: small[name][rows][:, index]
                for name in ("patch_status", "status_reason", "acquisition_id", "acquisition_time")
            }
            ids = [str(v) or None for v in of_product["acquisition_id"]]
            times = of_product["acquisition_time"]
            orbits = small["relative_orbit"][rows][:, index]
            columns |= {
                f"{product}_status": _names(of_product["patch_status"], PatchStatus),
                f"{product}_reason": _names(of_product["status_reason"], StatusReason),
                f"{product}_acquisition_id": pa.array(ids, pa.string()),
                f"{product}_time": pa.array(
                    times, pa.timestamp("ms", "UTC"), mask=times == NO_TIME
                ),
                f"{product}_cloud_percentage": _nullable(small["cloud_percentage"][rows][:, index]),
                f"{product}_orbit_pass": _names(small["orbit_pass"][rows][:, index], OrbitPass),
                f"{product}_relative_orbit": pa.array(orbits, mask=orbits == NO_ORBIT),
                f"{product}_sun_elevation": _nullable(small["sun_elevation"][rows][:, index]),
                f"{product}_valid_fraction": _nullable(small["valid_fraction"][rows][:, index]),
            }
        points = shapely.points(small["longitude"][location], small["latitude"][location])
        columns["geometry"] = pa.array(shapely.to_wkb(points), pa.binary())
        return pa.table(columns)


_GEO: Final = {
    "version": "1.1.0",
    "primary_column": "geometry",
    # No "crs": GeoParquet then means OGC:CRS84, longitude and latitude.
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
}


def _names(codes: npt.NDArray[Any], enumeration: type[IntEnum]) -> pa.Array:
    names = [code.name.lower() for code in enumeration]
    position = np.full(256, -1, dtype=np.int8)
    position[[int(code) for code in enumeration]] = range(len(names))
    indices = position[codes]
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), pa.array(names))


def _nullable(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
