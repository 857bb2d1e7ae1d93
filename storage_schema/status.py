"""What became of each patch, and why: the coded arrays of the cube.

Codes are part of the format: never renumber one, only add. The meaning of a code stands beside it;
reports, documents and messages say it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Coded(IntEnum):
    """A code of a small array, with what it means to a person."""

    meaning: str

    def __new__(cls, code: int, meaning: str = "") -> Self:
        """Make a member of its code and its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class PatchStatus(Coded):
    """State of one product of one patch."""

    PENDING = 0, "not written yet, or the slot is not in use"
    COMPLETE = 1, "pixels are in the cube"
    NO_ACQUISITION = 2, "no image was taken for this slot"
    REJECTED = 3, "an image was there, but its data cannot be right"
    FAILED = 4, "an image was there, but could not be read"


class StatusReason(Coded):
    """Why a patch has its status; also the flags of complete patches."""

    NONE = 0, "nothing more to say"
    NOT_IN_SOURCE = 1, "the source has no patch for this product and slot"
    ACQUISITION_DIFFERS = 2, "complete, but L2A and L1C of this slot are different acquisitions"
    MISSING_BAND = 3, "a band is missing"
    UNREADABLE_FILE = 4, "a file is damaged"
    WRONG_SIZE = 5, "a band does not have the patch's size"
    WRONG_DTYPE = 6, "a band does not have the product's data type"
    UNREADABLE_METADATA = 7, "the metadata is missing or damaged"
    IMPLAUSIBLE_VALUES = 8, "values lie outside the product's range"
    NO_IMAGE_IN_WINDOW = 9, "no image lies in the date window"
    OUTSIDE_FOOTPRINT = 10, "no image contains the whole patch"
    TOO_CLOUDY = 11, "every image has more cloud than allowed"
    TOO_FEW_VALID_PIXELS = 12, "too few pixels carry data"
    SERVICE_ERROR = 13, "the service answered with an error, which is not the same as no image"
    NO_GRID = 14, "the location's UTM grid could not be recovered"
    OTHER_TILE = 15, "the images lie in other Sentinel-2 tiles: a location keeps to one tile"
    RANKED_LOWER = 16, "another image of the slot was preferred"
    NO_L2A = 17, "no L2A image has the id of the L1C image"
    NO_DYNAMIC_WORLD = 18, "Dynamic World has no label map of the L1C image"
    MISSING_POLARISATION = 19, "the Sentinel-1 images lack a polarisation"
    TOO_FAR_IN_TIME = 20, "the nearest image is too many days away"
    OTHER_ORBIT_PASS = 21, "the images have another orbit pass than the one asked for"
    DISAPPEARED = 22, "the image was listed, and gone when it was to be fetched"
    TOO_FEW_SEASONS = 23, "the location has fewer usable seasons than asked for"


class OrbitPass(Coded):
    """Flight direction at the time of acquisition."""

    UNKNOWN = 0, "the source does not say"
    ASCENDING = 1, "towards the north"
    DESCENDING = 2, "towards the south"


class Split(Coded):
    """Use of a location."""

    TRAIN = 0, "for training"
    VALIDATION = 1, "for choosing settings"
    TEST = 2, "for the scores that are reported"
    BUFFER = 3, "between the blocks of two splits, and used for nothing"


def flag_attributes(codes: type[IntEnum]) -> dict[str, object]:
    """Return CF ``flag_values`` and ``flag_meanings`` of an enumeration."""
    return {
        "flag_values": [int(code) for code in codes],
        "flag_meanings": " ".join(code.name.lower() for code in codes),
    }
