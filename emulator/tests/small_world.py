"""A world small enough to know every pixel of: two tiles, four collections, three months."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyproj

from earth_engine_emulator.worlds import (
    Band,
    Bounds,
    ImageRecord,
    Lattice,
    Pixels,
    TooManyImagesError,
    Valid,
)

L1C = "COPERNICUS/S2_HARMONIZED"
L2A = "COPERNICUS/S2_SR_HARMONIZED"
S1 = "COPERNICUS/S1_GRD"
DW = "GOOGLE/DYNAMICWORLD/V1"

TILE_PX = 10980
ORIGINS = {"T18SVG": ("EPSG:32618", 399960, 4200000), "T17SQB": ("EPSG:32617", 799980, 4200000)}
"""Tile -> CRS and upper-left corner; the second overlaps the first near longitude -75.6."""
SWATH_EDGE_PX = 600
"""Partial images have no pixels in their first columns (10 m px)."""
MASKED_BLOCK = slice(400, 500)
"""Rows and columns (10 m px) that Dynamic World and Sentinel-1 have no value in."""

_10M, _20M = ("B2", "B3", "B4", "B8"), ("B5", "B6", "B7", "B8A", "B11", "B12")
L1C_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
L2A_BANDS = tuple(name for name in L1C_BANDS if name != "B10")
DAYS = (1, 6, 11, 36, 41, 66)
MAX_FOUND = 500
FIRST_DAY = dt.datetime(2020, 6, 1, 15, 53, 21, tzinfo=dt.UTC)


def resolution_of(band: str) -> int:
    """Return the pixel size (m)."""
    return 20 if band in _20M else 60 if band in {"B1", "B9", "B10"} else 10


def seed_of(text: str) -> int:
    """Return a number of a text."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(text)) % 997


def expected_pixels(record: ImageRecord, band: Band, rows: Any, columns: Any) -> Pixels:
    """Return the values of pixels by row and column, valid or not."""
    seed = seed_of(record.asset_id.rsplit("/", 1)[0]) + seed_of(band.name)
    if band.name == "label":
        return np.asarray((rows // 7 + columns // 5) % 9).astype(np.uint8)
    if band.dtype == "float64":
        return np.asarray(-20.0 + ((rows * 3 + columns * 5 + seed) % 160) / 10.0)
    return np.asarray(1 + (rows * 7 + columns * 3 + seed) % 9999).astype(band.dtype)


def expected_valid(record: ImageRecord, band: Band, rows: Any, columns: Any) -> Valid:
    """Return which pixels are valid, by row and column."""
    pixel_m = int(band.lattice.x_scale)
    valid = np.broadcast_to(
        np.asarray(True), np.broadcast_shapes(np.shape(rows), np.shape(columns))
    )
    if record.properties.get("partial"):
        valid = valid & (columns * pixel_m >= SWATH_EDGE_PX * 10)
    if band.name in {"label", "VV", "VH"}:
        inside = (rows >= MASKED_BLOCK.start) & (rows < MASKED_BLOCK.stop)
        inside = inside & (columns >= MASKED_BLOCK.start) & (columns < MASKED_BLOCK.stop)
        valid = valid & ~inside
    return np.asarray(valid)


def footprint_of(crs: str, x: float, y: float, partial: bool) -> list[tuple[float, float]]:
    """Return the closed ring around a tile, counter-clockwise."""
    west = x + (SWATH_EDGE_PX * 10 if partial else 0)
    east, south = x + TILE_PX * 10, y - TILE_PX * 10
    ring = [(west, y), (west, south), (east, south), (east, y), (west, y)]
    to_lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return [to_lonlat.transform(*corner) for corner in ring]


@dataclass
class SmallWorld:
    """See the module; `reads` remembers every read: asset, bands, window."""

    reads: list[tuple[str, tuple[str, ...], tuple[int, int, int, int]]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        self._records: dict[str, list[ImageRecord]] = {L1C: [], L2A: [], S1: [], DW: []}
        for day in DAYS:
            for tile in ORIGINS:
                self._add_optical(tile, day)
        for number, day in enumerate((2, 8, 37, 65)):
            self._add_radar(number, day)
        for records in self._records.values():
            records.sort(key=lambda record: (record.time_start_ms, record.index))

    def _add_optical(self, tile: str, day: int) -> None:
        start = FIRST_DAY + dt.timedelta(days=day, seconds=10 if tile == "T17SQB" else 0)
        cloud = float((day * 13) % 50)
        stamp = start.strftime("%Y%m%dT%H%M%S")
        index = f"{stamp}_{stamp}_{tile}"
        partial = day == 6
        common = {"MGRS_TILE": tile[1:], "SENSING_ORBIT_NUMBER": 97, "partial": int(partial)}
        common["SPACECRAFT_NAME"] = "Sentinel-2A"
        clouds = {"CLOUDY_PIXEL_PERCENTAGE": cloud, "MEAN_SOLAR_ZENITH_ANGLE": 24.5}
        for collection, bands in ((L1C, L1C_BANDS), (L2A, L2A_BANDS)):
            made = [self._band(name, tile, "uint16", (0, 65535)) for name in bands]
            self._add(collection, index, start, tile, {**common, **clouds}, made)
        if cloud <= 35:
            label = [self._band("label", tile, "uint8", (0, 8))]
            self._add(DW, index, start, tile, {"partial": int(partial)}, label)

    def _add_radar(self, number: int, day: int) -> None:
        start = FIRST_DAY + dt.timedelta(days=day, hours=7)
        ascending = number % 2 == 0
        names = ("VV", "VH") if number != 3 else ("VV",)
        properties = {
            "instrumentMode": "IW",
            "transmitterReceiverPolarisation": list(names),
            "orbitProperties_pass": "ASCENDING" if ascending else "DESCENDING",
            "relativeOrbitNumber_start": 4 + number % 2,
            "resolution_meters": 10,
            "partial": 0,
        }
        bands = [self._band(name, "T18SVG", "float64", None) for name in names]
        index = f"S1A_IW_GRDH_1SDV_{start.strftime('%Y%m%dT%H%M%S')}_{number:04d}"
        self._add(S1, index, start, "T18SVG", properties, bands)

    def _band(
        self, name: str, tile: str, dtype: str, value_range: tuple[float, float] | None
    ) -> Band:
        crs, x, y = ORIGINS[tile]
        pixel_m = resolution_of(name)
        size = TILE_PX * 10 // pixel_m
        lattice = Lattice(crs, pixel_m, -pixel_m, x, y)
        precision = "double" if dtype == "float64" else "int"
        return Band(name, dtype, lattice, size, size, precision, value_range)  # type: ignore[arg-type]

    def _add(
        self,
        collection: str,
        index: str,
        start: dt.datetime,
        tile: str,
        properties: Mapping[str, Any],
        bands: Sequence[Band],
    ) -> None:
        ms = int(start.timestamp() * 1000)
        ring = footprint_of(*ORIGINS[tile], partial=bool(properties.get("partial")))
        system = {
            "system:index": index,
            "system:time_start": ms,
            "system:time_end": ms,
            "system:asset_size": 1259271690,
            "system:footprint": {"type": "LinearRing", "coordinates": [list(p) for p in ring]},
        }
        record = ImageRecord(
            f"{collection}/{index}", {**properties, **system}, ring, bands, ms * 1000
        )
        self._records[collection].append(record)

    def collections(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the collections' properties."""
        return {name: {"title": name.replace("/", " ")} for name in self._records}

    def records(self, collection: str) -> list[ImageRecord]:
        """Return every image of a collection."""
        return self._records[collection]

    def find_image(self, asset_id: str) -> ImageRecord | None:
        """Return one image; None where there is none of this id."""
        collection = asset_id.rpartition("/")[0]
        found = (r for r in self._records.get(collection, []) if r.asset_id == asset_id)
        return next(found, None)

    def find_images(
        self, collection_id: str, bounds: Bounds | None, start_ms: int | None, end_ms: int | None
    ) -> list[ImageRecord]:
        """Search; a search of ten years and more without bounds is too wide."""
        if collection_id == S1 and bounds is None and start_ms is None and end_ms is None:
            raise TooManyImagesError("Give bounds or dates: the search is too wide.")
        return [
            record
            for record in self._records[collection_id]
            if (start_ms is None or record.time_start_ms >= start_ms)
            and (end_ms is None or record.time_start_ms < end_ms)
            and (bounds is None or _near(record, bounds))
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
        """Compute a window."""
        self.reads.append((image.asset_id, tuple(band_names), (row, column, height, width)))
        by_name = {band.name: band for band in image.bands}
        sizes = {(by_name[name].lattice, by_name[name].width) for name in band_names}
        assert len(sizes) == 1, "bands of one read share a lattice"
        band = by_name[band_names[0]]
        assert row >= 0
        assert column >= 0
        assert row + height <= band.height
        assert column + width <= band.width
        rows = np.arange(row, row + height)[:, None]
        columns = np.arange(column, column + width)[None, :]
        return {
            name: (
                expected_pixels(image, by_name[name], rows, columns),
                expected_valid(image, by_name[name], rows, columns),
            )
            for name in band_names
        }


def _near(record: ImageRecord, bounds: Bounds) -> bool:
    longitudes = [point[0] for point in record.footprint]
    latitudes = [point[1] for point in record.footprint]
    return not (
        max(longitudes) < bounds.west
        or min(longitudes) > bounds.east
        or max(latitudes) < bounds.south
        or min(latitudes) > bounds.north
    )
