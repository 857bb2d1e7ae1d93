"""Dynamic World of the simulated world: labels with the errors a classifier makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.land_cover import CLASS_NAMES
from earth_engine_emulator.simulated_world.ground import (
    BARE,
    BUILT,
    CROPS,
    FLOODED,
    GRASS,
    SHRUB,
    SNOW,
    TREES,
    WATER,
    Classes,
    GroundCache,
)
from earth_engine_emulator.simulated_world.lattices import PixelBox
from earth_engine_emulator.simulated_world.noise import Singles, hash_cells, seed_of, uniform
from earth_engine_emulator.simulated_world.sentinel2 import Pass, footprint, sky_of
from earth_engine_emulator.simulated_world.spectra import cover_of
from earth_engine_emulator.simulated_world.strips import Strip
from earth_engine_emulator.worlds import Band, ImageRecord

COLLECTION: Final = "GOOGLE/DYNAMICWORLD/V1"
_SIDE_PX: Final = 10_980
_MASKED_CLOUD: Final = 0.12
_MASKED_SHADOW: Final = 0.30
# What a class is most often taken for, next often, and how often at all.
_CONFUSED: Final = {
    WATER: (FLOODED, BUILT, 0.02),
    TREES: (SHRUB, CROPS, 0.07),
    GRASS: (CROPS, SHRUB, 0.24),
    FLOODED: (GRASS, WATER, 0.24),
    CROPS: (GRASS, SHRUB, 0.11),
    SHRUB: (GRASS, TREES, 0.24),
    BUILT: (BARE, CROPS, 0.09),
    BARE: (SHRUB, BUILT, 0.12),
    SNOW: (BARE, WATER, 0.05),
}
_FIRST, _SECOND = (
    np.asarray([_CONFUSED[c][i] for c in range(len(CLASS_NAMES))], np.uint8) for i in (0, 1)
)
_RATE: Final = np.asarray([_CONFUSED[c][2] for c in range(len(CLASS_NAMES))], np.float32)
_CLUMP_PX: Final = 4
"""Errors come in clumps of about this size."""


def record_of(found: Pass) -> ImageRecord:
    """Return the metadata of a label map; its index is the Sentinel-2 product's."""
    ring = footprint(found.tile, found.relative_orbit)
    properties: dict[str, Any] = {
        "dynamicworld_algorithm_version": "3.5.0",
        "qa_algorithm_version": "3.5.0",
        "system:asset_size": 100_000_000 + seed_of("labels", found.index) % 50_000_000,
        "system:footprint": {"type": "LinearRing", "coordinates": [list(point) for point in ring]},
        "system:index": found.index,
        "system:time_end": found.time_ms,
        "system:time_start": found.time_ms,
    }
    lattice = found.tile.lattice(10)
    bands = [Band(name, "float32", lattice, _SIDE_PX, _SIDE_PX, "float") for name in CLASS_NAMES]
    bands.append(Band("label", "uint8", lattice, _SIDE_PX, _SIDE_PX, "int", (0.0, 255.0)))
    return ImageRecord(
        asset_id=f"{COLLECTION}/{found.index}",
        properties=properties,
        footprint=ring,
        bands=bands,
        version=1_000 * found.time_ms,
    )


def read_pixels(
    found: Pass,
    band_names: Sequence[str],
    window: tuple[int, int, int, int],
    grounds: GroundCache,
    strip: Strip,
) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Read probabilities and labels; cloud and shadow are masked.

    Args:
        found: the Sentinel-2 product.
        band_names: names of classes, or `label`.
        window: row, column, height, width.
        grounds: what is kept of the ground.
        strip: the swath.
    """
    box = PixelBox(found.tile.lattice(10), *window)
    label, doubt = _labels(found, box, grounds)
    valid = strip.covers(box)
    sky = sky_of(found, box)
    if sky.cloud is not None:
        valid &= sky.cloud < _MASKED_CLOUD
    if sky.shadow is not None:
        valid &= sky.shadow < _MASKED_SHADOW
    result: dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]] = {}
    for name in band_names:
        if name == "label":
            result[name] = np.where(valid, label, np.uint8(0)), valid
        else:
            number = CLASS_NAMES.index(name)
            result[name] = np.where(valid, _probability(label, doubt, number), 0), valid
    return result


def _labels(found: Pass, box: PixelBox, grounds: GroundCache) -> tuple[Classes, Singles]:
    """Return labels, and how sure the classifier is not, 0.15..0.5; (height, width)."""
    wide = box.padded(1)
    ground = grounds.under(_whole_blocks(wide))
    inner = _inside(_whole_blocks(wide), wide)
    cover = cover_of(ground, found.day.timetuple().tm_yday)[inner]
    rows = np.arange(box.row, box.row + box.height)[:, None]
    columns = np.arange(box.column, box.column + box.width)[None, :]
    seed = seed_of("label", found.index)
    words = hash_cells(columns, rows, seed)
    # Borders are drawn a pixel off here and there.
    shift = (words >> np.uint32(3)) % np.uint32(12)
    moved_row = np.where(shift == 0, 1, np.where(shift == 1, -1, 0))
    moved_column = np.where(shift == 2, 1, np.where(shift == 3, -1, 0))
    at_row = np.arange(box.height)[:, None] + 1 + moved_row
    at_column = np.arange(box.width)[None, :] + 1 + moved_column
    label = cover[at_row, at_column]
    clumps = uniform(hash_cells(columns // _CLUMP_PX, rows // _CLUMP_PX, seed + 1))
    alone = uniform(words)
    chance = np.float32(0.65) * clumps + np.float32(0.35) * alone
    # The mixture is not uniform: its lower tail is compared with what gives the same share.
    wrong = chance < np.sqrt(np.float32(2 * 0.65 * 0.35) * _RATE[label])
    other = np.where(alone < np.float32(0.7), _FIRST[label], _SECOND[label])
    doubt = np.float32(0.15) + np.float32(0.35) * np.where(wrong, 1, alone * alone)
    return np.where(wrong, other, label).astype(np.uint8), doubt.astype(np.float32)


def _probability(label: Classes, doubt: Singles, number: int) -> Singles:
    """Return the probability of one class; over all classes they add up to 1."""
    first, second = _FIRST[label], _SECOND[label]
    spread = np.float32(0.15) * doubt / np.float32(len(CLASS_NAMES) - 3)
    found = np.where(label == number, 1 - doubt, spread)
    found = np.where(first == number, np.float32(0.6) * doubt, found)
    found = np.where(second == number, np.float32(0.25) * doubt, found)
    return np.asarray(found, dtype=np.float32)


def _whole_blocks(box: PixelBox) -> PixelBox:
    """Return the ground window that Sentinel-2's pixels around a window use: computed only once."""
    inner = box.padded(-1)
    row, column = inner.row // 6 * 6, inner.column // 6 * 6
    height = -(-(inner.row + inner.height) // 6) * 6 - row
    width = -(-(inner.column + inner.width) // 6) * 6 - column
    return PixelBox(inner.lattice, row, column, height, width).padded(1)


def _inside(outer: PixelBox, inner: PixelBox) -> tuple[slice, slice]:
    top, left = inner.row - outer.row, inner.column - outer.column
    return slice(top, top + inner.height), slice(left, left + inner.width)
