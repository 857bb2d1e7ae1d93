"""Train, validation, test: by blocks of the Earth's surface, with a buffer between them.

Neighbouring patches show the same fields and the same weather; a split at random would test on
what was trained on. Blocks have about equal area everywhere, and a location's split depends on its
place, the seed and the settings only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.places.settings import SplitSettings
from pipeline.places.spherical import CAUTIOUS_RADIUS_M
from storage_schema.status import Split

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]

_TOLERANCE_M: Final = 0.001
"""Added to the buffer, so that rounding never brings two splits nearer than asked."""


class SpatialBlocks:
    """The blocks: bands of latitude, each cut into a whole number of cells of longitude.

    Args:
        block_size_m: side of a block, m; sides are rounded so that blocks cover the sphere.
    """

    def __init__(self, block_size_m: float) -> None:
        self._num_bands = max(1, round(np.pi * CAUTIOUS_RADIUS_M / block_size_m))
        middle_rad = (np.arange(self._num_bands) + 0.5) / self._num_bands * np.pi - np.pi / 2
        around_m = 2 * np.pi * CAUTIOUS_RADIUS_M * np.cos(middle_rad)
        self._cells = np.maximum(1, np.round(around_m / block_size_m)).astype(np.int64)

    def band(self, latitude: Floats) -> Integers:
        """Return the band of latitudes (deg); beyond a pole, the last one."""
        band = np.floor((latitude + 90.0) / 180.0 * self._num_bands).astype(np.int64)
        return np.clip(band, 0, self._num_bands - 1)

    def num_cells(self, band: Integers) -> Integers:
        """Return how many cells lie around the Earth in a band."""
        return np.asarray(self._cells[band])

    def column(self, longitude: Floats, band: Integers) -> Integers:
        """Return the cell, counted from 180 W; not yet wrapped around the Earth."""
        position = (longitude + 180.0) / 360.0 * self._cells[band]
        return np.asarray(np.floor(position).astype(np.int64))


def assign_splits(longitude: Floats, latitude: Floats, settings: SplitSettings, seed: int) -> Codes:
    """Return each location's split, uint8 codes of :class:`Split`, (N,).

    A location within half the buffer of a block of another split is set aside (`Split.BUFFER`).
    That is enough: halfway between two locations of different splits lies a block whose split is
    not that of one of them, and if they were within the buffer of each other, that one would be
    within half of it of this block. Blocks of the same split need no buffer between them.

    Args:
        longitude: deg, (N,).
        latitude: deg, (N,).
        settings: sizes and shares.
        seed: decides which block is what.
    """
    blocks = SpatialBlocks(settings.block_size_m)
    shares = np.cumsum([settings.train, settings.validation])

    def split_of(band: Integers, column: Integers) -> Integers:
        number = _hash(seed, band, column % blocks.num_cells(band))
        return np.searchsorted(shares, number, side="right")

    own_band = blocks.band(latitude)
    own = split_of(own_band, blocks.column(longitude, own_band))
    if settings.buffer_m == 0:
        return own.astype(np.uint8)
    # The box of longitude and latitude around the disc of half the buffer: whatever block the disc
    # reaches, the box reaches. At the corners of blocks it takes a little more than needed.
    radius_rad = (settings.buffer_m / 2 + _TOLERANCE_M) / CAUTIOUS_RADIUS_M
    radius_deg = float(np.degrees(radius_rad))
    reach_deg = _longitude_reach(latitude, radius_rad)
    first_band, last_band = blocks.band(latitude - radius_deg), blocks.band(latitude + radius_deg)
    differs = np.zeros(len(own), dtype=bool)
    for step in range(int((last_band - first_band).max(initial=0)) + 1):
        band = np.minimum(first_band + step, last_band)
        west = blocks.column(longitude - reach_deg, band)
        east = blocks.column(longitude + reach_deg, band)
        # Once around the Earth is enough.
        num_further = np.minimum(east - west, blocks.num_cells(band) - 1)
        for column in range(int(num_further.max(initial=0)) + 1):
            differs |= split_of(band, west + np.minimum(column, num_further)) != own
    return np.where(differs, Split.BUFFER, own).astype(np.uint8)


def _longitude_reach(latitude: Floats, radius_rad: float) -> Floats:
    """Return how far east a disc reaches, deg: all around where it contains a pole."""
    sine = np.sin(radius_rad)
    cosine = np.cos(np.radians(latitude))
    around = np.abs(np.radians(latitude)) + radius_rad >= np.pi / 2
    ratio = np.divide(sine, cosine, out=np.ones_like(cosine), where=~around)
    return np.where(around, 180.0, np.degrees(np.arcsin(np.minimum(ratio, 1.0))))


def _hash(seed: int, band: Integers, column: Integers) -> Floats:
    """Return a number in [0, 1) per block.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), applied to seed, band and column
    in turn: no state, so that a block's number depends on nothing else.
    """
    state = np.full(np.shape(band), seed, dtype=np.uint64)
    for part in (band, column):
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64))
    return np.asarray((_mix(state) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
