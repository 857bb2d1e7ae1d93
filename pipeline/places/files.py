"""Locations as files: the GeoParquet that a rebuild reads, and the lists that people have.

GeoParquet 1.1 with one row per location: `location_id`, `longitude`, `latitude`, `split` and the
point as WKB. The settings that made it, the seed among them, are in its metadata under
``softcon_locations``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import shapely

from groundwork.errors import InputError
from groundwork.file_writes import atomic_file
from pipeline.places.settings import FromFile
from pipeline.places.spherical import normalise_longitude
from storage_schema.status import Split

Floats = npt.NDArray[np.float64]

METADATA_KEY: Final = b"softcon_locations"
_SPLIT_NAMES: Final = tuple(split.name.lower() for split in Split)
_COLUMNS: Final = ("location_id", "longitude", "latitude", "split")
_GEO: Final = {
    "version": "1.1.0",
    "primary_column": "geometry",
    # No "crs": GeoParquet then means OGC:CRS84, longitude and latitude.
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
}


@dataclass(frozen=True, slots=True)
class Locations:
    """A list of locations, in its order.

    Args:
        location_id: unique, not empty.
        longitude: of the centre, deg, [-180, 180), float64 (N,).
        latitude: of the centre, deg, float64 (N,).
        split: codes of :class:`Split`, uint8 (N,).
        provenance: how the list was made: settings, seed, sources; values that JSON can hold.
    """

    location_id: Sequence[str]
    longitude: Floats
    latitude: Floats
    split: npt.NDArray[np.uint8]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.location_id)

    @property
    def digest(self) -> str:
        """The sha256 of ids, places and splits: the same ids elsewhere have another."""
        found = hashlib.sha256("\n".join(self.location_id).encode())
        for values in (self.longitude, self.latitude, self.split):
            found.update(values.tobytes())
        return found.hexdigest()

    @property
    def split_names(self) -> list[str]:
        """Each location's split, as it is called in files."""
        return [_SPLIT_NAMES[code] for code in self.split]

    @property
    def split_counts(self) -> dict[str, int]:
        """How many locations each split has; splits without any are listed too."""
        counts = np.bincount(self.split, minlength=len(_SPLIT_NAMES))
        return dict(zip(_SPLIT_NAMES, counts.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Places:
    """Ids and centres, checked: ids unique, longitude in [-180, 180), all finite."""

    location_id: list[str]
    longitude: Floats
    latitude: Floats


def write_locations(path: Path, locations: Locations) -> None:
    """Write the GeoParquet file; it appears whole or not at all. Same locations, same bytes.

    Raises:
        InputError: the place cannot be written to.
    """
    codes = pa.array(locations.split.astype(np.int8))
    points = shapely.points(locations.longitude, locations.latitude)
    table = pa.table(
        {
            "location_id": pa.array(locations.location_id, pa.string()),
            "longitude": pa.array(locations.longitude),
            "latitude": pa.array(locations.latitude),
            "split": pa.DictionaryArray.from_arrays(codes, pa.array(_SPLIT_NAMES)),
            "geometry": pa.array(shapely.to_wkb(points), pa.binary()),
        }
    ).replace_schema_metadata(
        {
            "geo": json.dumps(_GEO),
            METADATA_KEY: json.dumps(locations.provenance, sort_keys=True),
        }
    )
    with atomic_file(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_locations(path: Path) -> Locations:
    """Read and check a file written by :func:`write_locations`.

    Raises:
        InputError: the file cannot be read, or holds what no list of locations may.
    """
    table = _read_parquet(path)
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}: write it with 'softcon locations sample' (kind "
            "file takes any list of ids and places)"
        )
    places = _check_places(
        path,
        _texts(table["location_id"]),
        column_of_numbers(path, table, "longitude"),
        column_of_numbers(path, table, "latitude"),
    )
    names = _texts(table["split"])
    unknown = next((name for name in names if name not in _SPLIT_NAMES), None)
    if unknown is not None:
        raise InputError(
            f"{path} has split {unknown!r}: a split is one of {', '.join(_SPLIT_NAMES)}"
        )
    stored = (table.schema.metadata or {}).get(METADATA_KEY, b"{}")
    try:
        provenance = json.loads(stored)
    except ValueError as error:
        raise InputError(f"{path} has damaged metadata: write the file again") from error
    code = {name: int(Split[name.upper()]) for name in _SPLIT_NAMES}
    return Locations(
        places.location_id,
        places.longitude,
        places.latitude,
        np.asarray([code[name] for name in names], dtype=np.uint8),
        provenance,
    )


def read_places(settings: FromFile, folder: Path) -> Places:
    """Read a user's CSV or Parquet file.

    Args:
        settings: path, names of columns, width of ids.
        folder: what a relative path starts from.

    Raises:
        InputError: the file cannot be read, lacks a column, or holds a bad id or place.
    """
    path = folder / settings.path
    table = read_table(path, settings)
    names = (settings.id_column, settings.longitude_column, settings.latitude_column)
    has_points = "geometry" in table.column_names and path.suffix.lower() != ".csv"
    needed = names[:1] if has_points and names[1] not in table.column_names else names
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}; it has {', '.join(table.column_names)}: name the "
            "right ones with id_column, longitude_column, latitude_column, or set has_header: false"
        )
    if len(needed) == 1:
        longitude, latitude = _points(path, table)
    else:
        longitude, latitude = (column_of_numbers(path, table, name) for name in names[1:])
    ids = [text.zfill(settings.id_width) for text in _texts(table[names[0]])]
    return _check_places(path, ids, longitude, latitude)


def read_table(path: Path, settings: FromFile) -> pa.Table:
    """Read a CSV or (Geo)Parquet file, ids as text.

    Args:
        path: the file.
        settings: names of columns, and whether a CSV has a header.

    Raises:
        InputError: the file cannot be read, or has another suffix.
    """
    match path.suffix.lower():
        case ".csv":
            return _read_csv(path, settings)
        case ".parquet" | ".geoparquet":
            return _read_parquet(path)
        case _:
            raise InputError(f"{path} is neither .csv nor .parquet nor .geoparquet")


def column_of_texts(table: pa.Table, name: str, path: Path) -> list[str]:
    """Return a column as text, null as an empty one.

    Args:
        table: as `read_table` returns it.
        name: of the column.
        path: of the file, for error messages.

    Raises:
        InputError: there is no such column.
    """
    if name not in table.column_names:
        raise InputError(f"{path} has no column {name}; it has {', '.join(table.column_names)}")
    return _texts(table[name])


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except OSError as error:
        reason = error.strerror or "it is no Parquet file, or damaged"
        raise InputError(f"{path} cannot be read: {reason}") from error
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error


def _read_csv(path: Path, settings: FromFile) -> pa.Table:
    names = [settings.id_column, settings.longitude_column, settings.latitude_column]
    try:
        if not path.read_bytes().strip():
            raise InputError(f"{path} is empty: a location per line is needed")
        # As text: 0000200 is an id, not the number 200.
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(autogenerate_column_names=not settings.has_header),
            convert_options=pa_csv.ConvertOptions(
                column_types={names[0]: pa.string(), "f0": pa.string()}
            ),
        )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a CSV file: {' '.join(str(error).split())}") from error
    if settings.has_header:
        return table
    if table.num_columns < len(names):
        raise InputError(
            f"{path} has {table.num_columns} columns: id, longitude, latitude are needed"
        )
    return table.select(range(len(names))).rename_columns(names)


def _texts(column: pa.ChunkedArray) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def column_of_numbers(path: Path, table: pa.Table, name: str) -> Floats:
    """Return a column as float64.

    Args:
        path: of the file, for error messages.
        table: as `read_table` returns it.
        name: of the column, which exists.

    Raises:
        InputError: a value is not a number.
    """
    column = table[name]
    try:
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InputError(f"{path}: column {name} holds something that is no number") from error
    return np.asarray(numbers, dtype=np.float64)


def _points(path: Path, table: pa.Table) -> tuple[Floats, Floats]:
    try:
        points = shapely.from_wkb(table["geometry"].to_pylist())
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise InputError(f"{path}: column geometry is not WKB") from error
    if not np.all(shapely.get_type_id(points) == shapely.GeometryType.POINT):
        raise InputError(f"{path}: column geometry holds something else than points")
    return shapely.get_x(points), shapely.get_y(points)


def _check_places(path: Path, ids: list[str], longitude: Floats, latitude: Floats) -> Places:
    if not ids:
        raise InputError(f"{path} holds no location")
    _refuse(path, ids, "longitude", longitude, 180.0)
    _refuse(path, ids, "latitude", latitude, 90.0)
    seen: set[str] = set()
    for row, text in enumerate(ids):
        if not text.strip():
            raise InputError(f"{path}: location {row} (counted from 0) has no id")
        if text in seen:
            raise InputError(f"{path}: id {text} occurs twice: ids have to be unique")
        seen.add(text)
    return Places(ids, normalise_longitude(longitude), latitude)


def _refuse(path: Path, ids: list[str], name: str, values: Floats, limit: float) -> None:
    bad = np.flatnonzero(~(np.abs(values) <= limit))
    if bad.size:
        raise InputError(
            f"{path}: location {ids[bad[0]]} has {name} {values[bad[0]]:g}, which is not between "
            f"-{limit:g} and {limit:g}"
            + (f" (and {bad.size - 1:,} more like it)" if bad.size > 1 else "")
        )
