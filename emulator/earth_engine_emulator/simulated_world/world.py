"""The simulated world as the emulator asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from earth_engine_emulator.simulated_world import dynamic_world, sentinel1, sentinel2
from earth_engine_emulator.simulated_world.ground import GroundCache
from earth_engine_emulator.simulated_world.mgrs_tiles import tiles_touching
from earth_engine_emulator.simulated_world.orbits import DAY_MS, EPOCH, LAST, midnight_ms
from earth_engine_emulator.simulated_world.sentinel2 import L1C, L2A
from earth_engine_emulator.worlds import Bounds, ImageRecord, Pixels, TooManyImagesError, Valid

_MAX_TILE_DAYS: Final = 60_000
_WHOLE_EARTH_TILES: Final = 56_000
_TILES_PER_SQUARE_DEGREE: Final = 1.5
_TITLES: Final = {
    L1C: "Sentinel-2 L1C of a simulated world",
    L2A: "Sentinel-2 L2A of a simulated world",
    sentinel1.COLLECTION: "Sentinel-1 GRD of a simulated world",
    dynamic_world.COLLECTION: "Dynamic World V1 of a simulated world",
}


class SimulatedWorld:
    """A world in which every place and every date from 2016 to 2025 has its images.

    Nothing is stored: images are functions of place and date. What is kept for a while only saves
    time.
    """

    def __init__(self) -> None:
        self._grounds = GroundCache()

    def collections(self) -> Mapping[str, Mapping[str, Any]]:
        """Return collection id -> its properties."""
        return {name: {"title": title} for name, title in _TITLES.items()}

    def find_image(self, asset_id: str) -> ImageRecord | None:
        """Return one image; None where there is none of this id."""
        return _find_image(asset_id)

    def find_images(
        self, collection_id: str, bounds: Bounds | None, start_ms: int | None, end_ms: int | None
    ) -> list[ImageRecord]:
        """Return the images of a collection that may touch a box, by time and index.

        Raises:
            TooManyImagesError: box and span of time are too large together.
        """
        start = max(midnight_ms(EPOCH), midnight_ms(EPOCH) if start_ms is None else start_ms)
        end = min(midnight_ms(LAST), midnight_ms(LAST) if end_ms is None else end_ms)
        if start >= end:
            return []
        _check_size(bounds, start, end)
        assert bounds is not None
        found = list(_search(collection_id, bounds, start, end))
        return sorted(found, key=lambda record: (record.time_start_ms, record.index))

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
        """Read a window of bands that share one lattice."""
        window = (row, column, height, width)
        if image.collection_id == sentinel1.COLLECTION:
            frame = sentinel1.frame_of(image.index)
            assert frame is not None, f"{image.asset_id} is of another world"
            return sentinel1.read_pixels(frame, band_names, window, self._grounds)
        found = sentinel2.pass_of(image.index)
        assert found is not None, f"{image.asset_id} is of another world"
        if image.collection_id == dynamic_world.COLLECTION:
            strip = sentinel2.strip_of(found)
            return dynamic_world.read_pixels(found, band_names, window, self._grounds, strip)
        level = "L1C" if image.collection_id == L1C else "L2A"
        return dict(sentinel2.read_pixels(found, level, band_names, window, self._grounds))


def _check_size(bounds: Bounds | None, start_ms: int, end_ms: int) -> None:
    num_tiles = float(_WHOLE_EARTH_TILES)
    if bounds is not None:
        width = bounds.east - bounds.west + (360.0 if bounds.east < bounds.west else 0.0)
        num_tiles = 4 + _TILES_PER_SQUARE_DEGREE * width * (bounds.north - bounds.south)
    num = num_tiles * (end_ms - start_ms) / DAY_MS
    if num > _MAX_TILE_DAYS:
        raise TooManyImagesError(
            f"the simulated world would have to look at {num:,.0f} tiles and days: filter by "
            f"bounds and date first, to at most {_MAX_TILE_DAYS:,}"
        )


def _search(
    collection_id: str, bounds: Bounds, start_ms: int, end_ms: int
) -> Iterator[ImageRecord]:
    if collection_id == sentinel1.COLLECTION:
        for frame in sentinel1.frames_over(bounds, start_ms, end_ms):
            yield _s1_record(frame)
        return
    for tile in tiles_touching(bounds):
        for found in sentinel2.passes_over(tile, start_ms, end_ms, bounds):
            if _is_member(found, collection_id):
                yield _s2_record(found, collection_id)


def _is_member(found: sentinel2.Pass, collection_id: str) -> bool:
    if collection_id == L2A:
        return found.has_l2a
    return collection_id == L1C or found.has_labels


@lru_cache(maxsize=8192)
def _s2_record(found: sentinel2.Pass, collection_id: str) -> ImageRecord:
    if collection_id == dynamic_world.COLLECTION:
        return dynamic_world.record_of(found)
    return sentinel2.record_of(found, collection_id)


@lru_cache(maxsize=8192)
def _s1_record(frame: sentinel1.Frame) -> ImageRecord:
    return sentinel1.record_of(frame)


@lru_cache(maxsize=8192)
def _find_image(asset_id: str) -> ImageRecord | None:
    collection_id, _, index = asset_id.rpartition("/")
    if collection_id not in _TITLES:
        return None
    if collection_id == sentinel1.COLLECTION:
        frame = sentinel1.frame_of(index)
        return None if frame is None else _s1_record(frame)
    found = sentinel2.pass_of(index)
    if found is None or not _is_member(found, collection_id):
        return None
    return _s2_record(found, collection_id)
