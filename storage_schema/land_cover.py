"""Dynamic World's nine land-cover classes, and what a patch's label says of them.

Source: Brown et al. 2022, "Dynamic World, Near real-time global 10 m land use land cover mapping",
Scientific Data 9:251, Table 2 (classes and their order); colours of the Earth Engine catalogue page
GOOGLE/DYNAMICWORLD/V1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from storage_schema.status import Coded


@dataclass(frozen=True, slots=True)
class LandCoverClass:
    """One class: its id in label maps, its CF flag meaning and its catalogue colour."""

    id: int
    name: str
    colour: str


CLASSES: Final = (
    LandCoverClass(0, "water", "#419bdf"),
    LandCoverClass(1, "trees", "#397d49"),
    LandCoverClass(2, "grass", "#88b053"),
    LandCoverClass(3, "flooded_vegetation", "#7a87c6"),
    LandCoverClass(4, "crops", "#e49635"),
    LandCoverClass(5, "shrub_and_scrub", "#dfc35a"),
    LandCoverClass(6, "built", "#c4281b"),
    LandCoverClass(7, "bare", "#a59b8f"),
    LandCoverClass(8, "snow_and_ice", "#b39fe1"),
)
NUM_CLASSES: Final = len(CLASSES)
CLASS_NAMES: Final = tuple(c.name for c in CLASSES)
MASKED: Final = 255
"""Label of a pixel without land cover (cloud, outside the raster). Never 0: 0 is water."""

ABSENT: Final = 0
PRESENT: Final = 1
UNKNOWN: Final = 255
"""``class_present`` of a class nobody has looked for. Unlabelled is not "all absent"."""


class LabelStatus(Coded):
    """Where a patch's multi-label comes from, or why there is none."""

    PENDING = 0, "not written yet"
    LABELLED = 1, "has a multi-label"
    EMPTY_LIST = 2, "the label file has an empty list: no label, not “no class present”"
    ABSENT_FROM_FILE = 3, "the label file does not name the patch"
    MASKED = 4, "the label map is masked everywhere"
    UNKNOWN_CLASS = 5, "the label file names a class that does not exist"


def derive_class_present(
    class_fraction: npt.NDArray[np.floating], min_class_fraction: float = 0.0
) -> npt.NDArray[np.uint8]:
    """Turn class fractions into the published kind of label.

    Args:
        class_fraction: float (..., 9), over valid pixels, NaN where unlabelled.
        min_class_fraction: a class is present where its fraction exceeds this; the default, "any
            valid pixel", is assumed (the published threshold is not known).

    Returns:
        uint8 (..., 9): 1 present, 0 absent, 255 unknown (NaN fraction).
    """
    present = np.where(class_fraction > min_class_fraction, PRESENT, ABSENT)
    return np.where(np.isnan(class_fraction), UNKNOWN, present).astype(np.uint8)
