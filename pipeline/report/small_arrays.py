"""A cube's arrays without pixels, read whole, and the names of their codes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import ValidationError

from groundwork.errors import InputError
from pipeline.errors import CubeDamagedError
from storage_schema.conformance import read_layout
from storage_schema.layout import CubeDescription, SchemaVersionError
from storage_schema.status import PatchStatus

Integers = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
Strings = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SmallArrays:
    """The cube's arrays without pixels, read whole: N locations, 4 seasons, P products."""

    location_id: Strings
    longitude: Floats
    latitude: Floats
    epsg: Integers
    georeference_error_m: Floats
    split: Integers
    class_fraction: Floats
    class_present: Integers
    labelled_fraction: Floats
    label_status: Integers
    valid_fraction: Floats
    acquisition_id: Strings
    acquisition_time: Integers
    cloud_percentage: Floats
    orbit_pass: Integers
    relative_orbit: Integers
    patch_status: Integers
    status_reason: Integers

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Which product patches carry pixels, (N, 4, P)."""
        return np.asarray(self.patch_status == PatchStatus.COMPLETE)

    @property
    def has_patch(self) -> npt.NDArray[np.bool_]:
        """Location-seasons with at least one complete product, (N, 4)."""
        return np.asarray(self.complete.any(axis=-1))


def read_description(group: zarr.Group) -> CubeDescription:
    """Return what the cube says it is.

    Raises:
        InputError: the group is no cube of this schema version, or its attributes are damaged.
    """
    try:
        return read_layout(group).description
    except SchemaVersionError as error:
        raise InputError(str(error)) from error
    except (KeyError, ValidationError) as error:
        raise InputError(
            f"the cube's attributes are incomplete ({type(error).__name__}): "
            "`softcon audit` lists what is wrong with it"
        ) from error


def read_small_arrays(group: zarr.Group) -> SmallArrays:
    """Read every array without pixels.

    Raises:
        CubeDamagedError: an array is missing or its bytes do not decode.
    """
    return SmallArrays(**{f.name: read_array(group, f.name) for f in fields(SmallArrays)})


def read_array(group: zarr.Group, name: str, selection: Any = ...) -> npt.NDArray[Any]:
    """Read an array or a part of it, stored values.

    Raises:
        CubeDamagedError: the array is missing or its bytes do not decode.
    """
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise CubeDamagedError(f"the cube has no array {name}: `softcon audit` lists what is wrong")
    try:
        return np.asarray(array[selection])
    except (ValueError, RuntimeError, OSError) as error:
        raise CubeDamagedError(
            f"{name} cannot be read ({error}): `softcon audit` names the damaged batches"
        ) from error


def code_name(codes: type[IntEnum], value: int) -> str:
    """Return the flag meaning of a stored code; codes this release does not know keep a number."""
    try:
        return codes(int(value)).name.lower()
    except ValueError:
        return f"code_{int(value)}"


def has_time(time_ms: Integers) -> npt.NDArray[np.bool_]:
    """Tell where an acquisition time is known (``NO_TIME`` is the smallest int64)."""
    return np.asarray(time_ms > np.iinfo(np.int64).min)
