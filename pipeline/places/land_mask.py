"""Land or water, at 30 arc seconds (about 1 km)."""

from __future__ import annotations

import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError

Floats = npt.NDArray[np.float64]

LAND_MASK_SOURCE: Final = (
    "NOAA GLOBE 1.0 elevation (public domain) by way of the package global-land-mask (MIT)"
)
_CELLS_PER_DEG: Final = 120
_SHAPE: Final = (180 * _CELLS_PER_DEG, 360 * _CELLS_PER_DEG)
_ROWS_PER_READ: Final = 600


def is_land(longitude: Floats, latitude: Floats) -> npt.NDArray[np.bool_]:
    """Tell which places lie on land; lakes count as land.

    Args:
        longitude: deg, [-180, 180), (N,).
        latitude: deg, (N,).
    """
    row = np.clip(((90.0 - latitude) * _CELLS_PER_DEG).astype(np.int64), 0, _SHAPE[0] - 1)
    column = np.clip(((longitude + 180.0) * _CELLS_PER_DEG).astype(np.int64), 0, _SHAPE[1] - 1)
    bit = np.right_shift(_water_bits()[row, column >> 3], 7 - (column & 7)) & 1
    return np.asarray(bit == 0)


@cache
def _water_bits() -> npt.NDArray[np.uint8]:
    """Return the mask as bits, (rows from the north, columns from 180 W / 8); 1 is open water.

    The package would hold a byte per cell, 933 MB; this reads its file a few rows at a time into
    117 MB.
    """
    spec = find_spec("global_land_mask")
    if spec is None or spec.origin is None:
        raise InputError("the land mask needs global-land-mask: pip install 'softcon-cube[build]'")
    path = Path(spec.origin).with_name("globe_combined_mask_compressed.npz")
    bits = np.empty((_SHAPE[0], _SHAPE[1] // 8), dtype=np.uint8)
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        assert (shape, dtype) == (_SHAPE, np.dtype(bool)), f"{path} is another mask"
        for start in range(0, _SHAPE[0], _ROWS_PER_READ):
            rows = np.frombuffer(file.read(_ROWS_PER_READ * _SHAPE[1]), dtype=np.uint8)
            bits[start : start + _ROWS_PER_READ] = np.packbits(rows.reshape(-1, _SHAPE[1]), axis=-1)
    return bits
