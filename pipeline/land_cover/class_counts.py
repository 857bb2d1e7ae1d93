"""Pixels of each class in a label map.

A module of its own, since an audit counts too: it needs no raster library, and those who only look
at cubes install none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError
from storage_schema.land_cover import MASKED, NUM_CLASSES


def count_classes(label: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Count the pixels of each class.

    Args:
        label: integer, any shape: 0..8, 255 masked.

    Returns:
        int64 (9,).

    Raises:
        InputError: a value that is neither a class nor 255.
    """
    counts = np.array([np.count_nonzero(label == k) for k in range(NUM_CLASSES)], np.int64)
    if int(counts.sum()) + np.count_nonzero(label == MASKED) != label.size:
        stray = label[~np.isin(label, [*range(NUM_CLASSES), MASKED])]
        raise InputError(
            f"a label map holds {stray[0]}, which is no Dynamic World class: "
            f"use 0..{NUM_CLASSES - 1}, and {MASKED} for masked pixels"
        )
    return counts
