"""A world of real rasters: a folder of GeoTIFF or JP2 files, and a catalogue that names them.

Pixels are served as they are stored, each band on its own lattice.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyproj
import shapely

from earth_engine_emulator.catalogue import Acquisition, BandEntry, check_folder, read_catalogue
from earth_engine_emulator.errors import CatalogueError
from earth_engine_emulator.raster_files import RasterFacts, RasterFiles
from earth_engine_emulator.worlds import Band, Bounds, ImageRecord, LonLat, Pixels, Valid

_SEGMENT_M: Final = 1_000.0
"""Edges of a footprint are cut so short: in longitude and latitude they are curved, and a chord of
1 km stays within 0.1 m of them."""
_MAX_SEGMENTS: Final = 256


@dataclass(frozen=True, slots=True)
class _Stored:
    """How the pixels of a band are stored."""

    path: Path
    number: int
    dtype: np.dtype[Any]
    divisor: float
    nodata: float | None


@dataclass(frozen=True, slots=True)
class _Image:
    record: ImageRecord
    west: float
    south: float
    east: float  # beyond 180 where the footprint crosses the antimeridian
    north: float
    bands: Mapping[str, _Stored]


_TITLES: Final = {
    "COPERNICUS/S2_HARMONIZED": "Sentinel-2 L1C, top-of-atmosphere reflectance",
    "COPERNICUS/S2_SR_HARMONIZED": "Sentinel-2 L2A, surface reflectance",
    "COPERNICUS/S1_GRD": "Sentinel-1 GRD, backscatter",
    "GOOGLE/DYNAMICWORLD/V1": "Google Dynamic World V1, land-cover label",
}
"""Titles of well-known collections; any other is titled by its id."""


class RasterFolder:
    """A `World` of files.

    Args:
        folder: of the rasters; nothing outside it is read.
        catalogue_folder: of the catalogue's YAML files; by default `folder`.

    Raises:
        CatalogueError: a catalogue file is wrong, or a raster does not serve; the sentence says
            which, and how to mend it.
    """

    def __init__(self, folder: Path, catalogue_folder: Path | None = None) -> None:
        check_folder(folder, "the rasters")
        self._folder = folder.resolve()
        self._files = RasterFiles()
        self._images: dict[str, _Image] = {}
        collections: dict[str, list[_Image]] = defaultdict(list)
        for path, acquisition in read_catalogue(catalogue_folder or folder).items():
            image = self._image(path, acquisition)
            self._images[acquisition.asset_id] = image
            collections[acquisition.collection].append(image)
        self._collections = {
            name: sorted(images, key=lambda image: (image.record.time_start_ms, image.record.index))
            for name, images in sorted(collections.items())
        }

    def collections(self) -> Mapping[str, Mapping[str, Any]]:
        """Return collection id -> its own properties."""
        return {name: {"title": _TITLES.get(name, name)} for name in self._collections}

    def find_image(self, asset_id: str) -> ImageRecord | None:
        """Return one image; None where there is none of this id."""
        image = self._images.get(asset_id)
        return None if image is None else image.record

    def find_images(
        self,
        collection_id: str,
        bounds: Bounds | None,
        start_ms: int | None,
        end_ms: int | None,
    ) -> list[ImageRecord]:
        """Return a collection's images near a box and in a span of time; see `World`."""
        images = self._collections.get(collection_id, [])
        first = 0 if start_ms is None else _position(images, start_ms)
        last = len(images) if end_ms is None else _position(images, end_ms)
        return [
            image.record for image in images[first:last] if bounds is None or _touch(image, bounds)
        ]

    def read(
        self,
        image: ImageRecord,
        band_names: Sequence[str],
        *,
        row: int,
        column: int,
        height: int,
        width: int,
    ) -> dict[str, tuple[Pixels, Valid]]:
        """Read a window of bands that share one lattice; see `World`."""
        stored = self._images[image.asset_id].bands
        of_file: dict[Path, list[str]] = defaultdict(list)
        for name in band_names:
            of_file[stored[name].path].append(name)
        found: dict[str, tuple[Pixels, Valid]] = {}
        for path, names in of_file.items():
            values, valid = self._files.read(
                path,
                [stored[name].number for name in names],
                row=row,
                column=column,
                height=height,
                width=width,
            )
            for i, name in enumerate(names):
                found[name] = _serve(stored[name], values[i], None if valid is None else valid[i])
        return {name: found[name] for name in band_names}

    def _image(self, path: Path, acquisition: Acquisition) -> _Image:
        facts = {
            name: self._facts(path, f"bands.{name}", entry)
            for name, entry in acquisition.bands.items()
        }
        stored = {
            name: _stored(f"{path}, bands.{name}", *facts[name], entry)
            for name, entry in acquisition.bands.items()
        }
        ring = _ring_of(path, acquisition, [raster for _, raster in facts.values()])
        sizes = {file: file.stat().st_size for file, _ in facts.values()}
        record = ImageRecord(
            asset_id=acquisition.asset_id,
            properties={
                **acquisition.properties,
                "system:asset_size": sum(sizes.values()),
                "system:footprint": {
                    "type": "LinearRing",
                    "coordinates": [list(point) for point in ring],
                },
                "system:index": acquisition.index,
                "system:time_end": acquisition.time_end_ms,
                "system:time_start": acquisition.time_start_ms,
            },
            footprint=ring,
            bands=[_band(name, facts[name][1], stored[name].dtype) for name in stored],
            version=(
                1000 * acquisition.time_start_ms
                if acquisition.version is None
                else acquisition.version
            ),
        )
        longitudes, latitudes = zip(*ring, strict=True)
        return _Image(
            record, min(longitudes), min(latitudes), max(longitudes), max(latitudes), stored
        )

    def _facts(self, path: Path, key: str, entry: BandEntry) -> tuple[Path, RasterFacts]:
        file = self._inside(path, key, entry.file)
        facts = self._files.facts(file)
        if entry.band > len(facts.dtypes):
            raise CatalogueError(
                f"{path}, {key}.band: {entry.file} has {len(facts.dtypes)} band(s), not "
                f"{entry.band}: give a number from 1 to {len(facts.dtypes)}"
            )
        return file, facts

    def _inside(self, path: Path, key: str, name: str) -> Path:
        """Return a file's path, unless it leads out of the folder, by whichever way."""
        file = (self._folder / name).resolve()
        if Path(name).is_absolute() or ".." in Path(name).parts or self._folder not in file.parents:
            raise CatalogueError(
                f"{path}, {key}.file: {name} leads out of the folder of rasters {self._folder}: "
                "give a path inside it"
            )
        if not file.is_file():
            raise CatalogueError(
                f"{path}, {key}.file: {name} is not in the folder of rasters {self._folder}: mend "
                "the name, or name the right folder"
            )
        return file


def _position(images: Sequence[_Image], time_ms: int) -> int:
    return bisect_left(images, time_ms, key=lambda image: image.record.time_start_ms)


def _touch(image: _Image, bounds: Bounds) -> bool:
    if bounds.south > image.north or bounds.north < image.south:
        return False
    east = bounds.east + (360.0 if bounds.west > bounds.east else 0.0)
    return any(
        bounds.west + turn <= image.east and east + turn >= image.west
        for turn in (-360.0, 0.0, 360.0)
    )


def _stored(where: str, file: Path, facts: RasterFacts, entry: BandEntry) -> _Stored:
    held = facts.dtypes[entry.band - 1]
    dtype = np.dtype(entry.dtype or held)
    if dtype.kind not in "uif" or dtype.itemsize > (4 if dtype.kind in "ui" else 8):
        raise CatalogueError(
            f"{where}: {entry.file} holds {held}, which no Earth Engine image does: name a dtype"
        )
    if entry.divisor == 1.0 and not np.can_cast(held, dtype, "safe"):
        raise CatalogueError(
            f"{where}.dtype: {dtype} does not hold every {held} of {entry.file}: leave dtype out, "
            "or take a wider one"
        )
    nodata = entry.nodata if entry.overrides_nodata else facts.nodata[entry.band - 1]
    return _Stored(file, entry.band, dtype, entry.divisor, nodata)


def _band(name: str, facts: RasterFacts, dtype: np.dtype[Any]) -> Band:
    precision: Literal["int", "float", "double"] = "int"
    value_range = None
    if dtype.kind == "f":
        precision = "float" if dtype.itemsize == 4 else "double"
    else:
        limits = np.iinfo(dtype)
        value_range = (float(limits.min), float(limits.max))
    return Band(name, dtype.name, facts.lattice, facts.width, facts.height, precision, value_range)


def _serve(stored: _Stored, values: Pixels, valid: Valid | None) -> tuple[Pixels, Valid]:
    if valid is None:
        valid = np.ones(values.shape, bool)
    if stored.nodata is not None and not math.isnan(stored.nodata):
        valid &= values != stored.nodata
    if values.dtype.kind == "f":
        valid &= ~np.isnan(values)
    if stored.divisor != 1.0:
        values = np.divide(values, stored.divisor, dtype=np.float64)
    return values.astype(stored.dtype, copy=False), valid


def _ring_of(path: Path, acquisition: Acquisition, rasters: list[RasterFacts]) -> list[LonLat]:
    """Return the footprint: closed, counter-clockwise, without a jump at the antimeridian."""
    if acquisition.footprint is not None:
        ring = _unwrap(acquisition.footprint)
        if ring[0] != ring[-1]:
            ring.append(ring[0])
    else:
        ring = _unwrap(_outline(path, rasters))
    polygon = shapely.Polygon(ring)
    if not polygon.is_valid or not polygon.area:
        raise CatalogueError(
            f"{path}, footprint: the ring crosses itself or is empty: list its corners in order"
        )
    return ring if polygon.exterior.is_ccw else ring[::-1]


def _outline(path: Path, rasters: list[RasterFacts]) -> list[LonLat]:
    """Return the outline of the ground that all rasters cover, in longitude and latitude."""
    crs = rasters[0].lattice.crs
    if any(raster.lattice.crs != crs for raster in rasters):
        raise CatalogueError(
            f"{path}: its rasters have more than one CRS, so that they share no outline: give a "
            "footprint"
        )
    boxes = np.array([_box(raster) for raster in rasters])
    west, south = boxes[:, :2].max(axis=0)
    east, north = boxes[:, 2:].min(axis=0)
    if not (west < east and south < north):
        raise CatalogueError(f"{path}: its rasters have no ground in common: name the right files")
    xs, ys = zip(*_edges(west, south, east, north, crs), strict=True)
    lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitudes, latitudes = lonlat.transform(xs, ys)
    return [(float(x), float(y)) for x, y in zip(longitudes, latitudes, strict=True)]


def _box(raster: RasterFacts) -> tuple[float, float, float, float]:
    lattice = raster.lattice
    x_end = lattice.x_origin + raster.width * lattice.x_scale
    y_end = lattice.y_origin + raster.height * lattice.y_scale
    return lattice.x_origin, min(y_end, lattice.y_origin), x_end, max(y_end, lattice.y_origin)


def _edges(
    west: float, south: float, east: float, north: float, crs: str
) -> Iterator[tuple[float, float]]:
    unit_m = 111_320.0 if pyproj.CRS(crs).is_geographic else 1.0
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        length_m = unit_m * math.hypot(x1 - x0, y1 - y0)
        segments = min(_MAX_SEGMENTS, max(1, math.ceil(length_m / _SEGMENT_M)))
        for i in range(segments):
            yield x0 + (x1 - x0) * i / segments, y0 + (y1 - y0) * i / segments
    yield corners[0]


def _unwrap(ring: Sequence[LonLat]) -> list[LonLat]:
    """Turn a jump from 180 to -180 into longitudes beyond 180."""
    first = ring[0][0]
    longitudes = [x - 360.0 * round((x - first) / 360.0) for x, _ in ring]
    shift = -360.0 * math.floor((min(longitudes) + 180.0) / 360.0)
    return [(x + shift, y) for x, (_, y) in zip(longitudes, ring, strict=True)]
