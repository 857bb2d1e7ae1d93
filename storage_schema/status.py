"""What became of each patch, and why: the coded arrays of the cube.

Codes are part of the format: never renumber one, only add.
"""

from __future__ import annotations

from enum import IntEnum


class PatchStatus(IntEnum):
    """State of one product of one patch."""

    PENDING = 0
    COMPLETE = 1
    NO_ACQUISITION = 2
    REJECTED = 3
    FAILED = 4


class StatusReason(IntEnum):
    """Why a patch has its status; also the flags of complete patches."""

    NONE = 0
    NOT_IN_SOURCE = 1
    ACQUISITION_DIFFERS = 2
    """Complete, but L2A and L1C of this season are different acquisitions."""
    MISSING_BAND = 3
    UNREADABLE_FILE = 4
    WRONG_SIZE = 5
    WRONG_DTYPE = 6
    UNREADABLE_METADATA = 7
    IMPLAUSIBLE_VALUES = 8
    NO_IMAGE_IN_WINDOW = 9
    OUTSIDE_FOOTPRINT = 10
    TOO_CLOUDY = 11
    TOO_FEW_VALID_PIXELS = 12
    SERVICE_ERROR = 13
    NO_GRID = 14
    """The location's UTM grid could not be recovered."""
    OTHER_TILE = 15
    """A location keeps to one Sentinel-2 tile; its other tiles' images are left out."""
    RANKED_LOWER = 16
    """Another image of the season was preferred."""
    NO_L2A = 17
    NO_DYNAMIC_WORLD = 18
    MISSING_POLARISATION = 19
    TOO_FAR_IN_TIME = 20
    OTHER_ORBIT_PASS = 21
    DISAPPEARED = 22
    """Listed, and gone when it was to be fetched."""
    TOO_FEW_SEASONS = 23
    """The location has fewer usable seasons than asked for."""


class OrbitPass(IntEnum):
    """Flight direction at the time of acquisition."""

    UNKNOWN = 0
    ASCENDING = 1
    DESCENDING = 2


class Split(IntEnum):
    """Use of a location; buffer locations lie between the blocks and are used for nothing."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    BUFFER = 3


def flag_attributes(codes: type[IntEnum]) -> dict[str, object]:
    """Return CF ``flag_values`` and ``flag_meanings`` of an enumeration."""
    return {
        "flag_values": [int(code) for code in codes],
        "flag_meanings": " ".join(code.name.lower() for code in codes),
    }
