"""What a cube's small arrays and attributes say of it, counted for the report. No pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import ValidationError

from groundwork.errors import InputError
from pipeline.errors import CubeDamagedError
from storage_schema.conformance import read_layout
from storage_schema.land_cover import CLASSES, NUM_CLASSES, PRESENT, UNKNOWN, LabelStatus
from storage_schema.layout import CubeDescription, SchemaVersionError
from storage_schema.products import PATCH_SIZE_M
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason

Integers = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
Strings = npt.NDArray[Any]

_MS_PER_DAY: Final = 86_400_000
_PIXELS_PER_PATCH: Final = (PATCH_SIZE_M // 10) ** 2

FRACTION_EDGES: Final = (0.0, 0.001, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 1.0)
"""Narrow where a presence threshold would bite: the published one is very low, and not known."""


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


# --- labels -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One land-cover class over the whole cube."""

    name: str
    colour: str
    num_present: int
    mean_fraction: float | None
    num_pixels: int


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Class frequencies and co-occurrence; `counted_by` says who counted."""

    num_labelled: int
    rows: tuple[ClassRow, ...]
    cooccurrence: tuple[tuple[int, ...], ...]
    counted_by: str


def class_statistics(arrays: SmallArrays, sealed: Mapping[str, Any] | None) -> ClassStatistics:
    """Return the class statistics that sealing wrote, or count them from the small arrays."""
    if sealed is not None:
        return ClassStatistics(
            int(sealed["num_labelled_patches"]),
            _class_rows(sealed["present_count"], sealed["mean_fraction"], sealed["pixel_count"]),
            tuple(tuple(int(n) for n in row) for row in sealed["cooccurrence"]),
            "sealing",
        )
    present = (arrays.class_present == PRESENT).reshape(-1, NUM_CLASSES)
    fraction = arrays.class_fraction.reshape(-1, NUM_CLASSES)
    has_map = ~np.isnan(fraction).any(axis=1)
    mean = fraction[has_map].mean(axis=0, dtype=np.float64) if has_map.any() else None
    share = arrays.labelled_fraction.reshape(-1, 1)[has_map].astype(np.float64)
    num_pixels = np.rint((fraction[has_map] * share).sum(axis=0) * _PIXELS_PER_PATCH)
    together = present.T.astype(np.float64) @ present.astype(np.float64)
    return ClassStatistics(
        int(np.count_nonzero(arrays.label_status == LabelStatus.LABELLED)),
        _class_rows(
            present.sum(axis=0),
            [None] * NUM_CLASSES if mean is None else mean,
            num_pixels,
        ),
        tuple(tuple(int(n) for n in row) for row in together),
        "this report",
    )


def _class_rows(present: Any, mean: Any, pixels: Any) -> tuple[ClassRow, ...]:
    return tuple(
        ClassRow(c.name, c.colour, int(n), None if m is None else float(m), int(p))
        for c, n, m, p in zip(CLASSES, present, mean, pixels, strict=True)
    )


@dataclass(frozen=True, slots=True)
class FractionDistribution:
    """How much of a patch a class covers where the label map shows it at all."""

    name: str
    colour: str
    counts: tuple[int, ...]
    """Patches per interval of `FRACTION_EDGES`, the upper edge included."""
    median: float | None


def fraction_distributions(class_fraction: Floats) -> tuple[FractionDistribution, ...]:
    """Count patches by class fraction, fraction 0 left out.

    Args:
        class_fraction: float (..., 9), NaN where not known.
    """
    flat = class_fraction.reshape(-1, NUM_CLASSES)
    distributions = []
    for index, land_cover in enumerate(CLASSES):
        values = flat[:, index]
        values = values[values > 0]
        # `side="left"` puts a value equal to an edge below it: the intervals are (low, high].
        interval = np.searchsorted(np.asarray(FRACTION_EDGES[1:-1], values.dtype), values)
        counts = np.bincount(interval, minlength=len(FRACTION_EDGES) - 1)
        median = float(np.median(values)) if values.size else None
        distributions.append(
            FractionDistribution(
                land_cover.name, land_cover.colour, tuple(int(n) for n in counts), median
            )
        )
    return tuple(distributions)


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """One class: what label map and multi-label say, in patches where both are known."""

    name: str
    colour: str
    num_both: int
    num_map_only: int
    num_list_only: int
    num_neither: int


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Label maps against the stored multi-labels."""

    rows: tuple[AgreementRow, ...]
    num_compared: int
    num_differing: int
    """Patches that differ in at least one class."""


def differing_classes(arrays: SmallArrays, where: Any = ...) -> npt.NDArray[np.bool_]:
    """Tell, (N, 4, 9), where label map and multi-label are both known and contradict each other.

    Args:
        arrays: the cube's small arrays.
        where: the part of the cube to compare, such as (location, season); all by default.
    """
    fraction, present = arrays.class_fraction[where], arrays.class_present[where]
    known = ~np.isnan(fraction) & (present != UNKNOWN)
    return np.asarray(known & ((fraction > 0) != (present == PRESENT)))


def label_agreement(arrays: SmallArrays) -> LabelAgreement:
    """Count, per class, where ``class_fraction > 0`` and ``class_present`` say the same or not."""
    known = ~np.isnan(arrays.class_fraction) & (arrays.class_present != UNKNOWN)
    on_map = arrays.class_fraction > 0
    listed = arrays.class_present == PRESENT

    def per_class(where: npt.NDArray[np.bool_]) -> list[int]:
        return [int(n) for n in (known & where).reshape(-1, NUM_CLASSES).sum(axis=0)]

    columns = zip(
        CLASSES,
        per_class(on_map & listed),
        per_class(on_map & ~listed),
        per_class(~on_map & listed),
        per_class(~on_map & ~listed),
        strict=True,
    )
    return LabelAgreement(
        tuple(AgreementRow(c.name, c.colour, *counts) for c, *counts in columns),
        int(np.count_nonzero(known.any(axis=-1))),
        int(np.count_nonzero(differing_classes(arrays).any(axis=-1))),
    )


# --- statuses and acquisitions ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusCount:
    """Product patches that share a status and a reason."""

    product: str
    status: str
    reason: str
    count: int


def code_name(codes: type[IntEnum], value: int) -> str:
    """Return the flag meaning of a stored code; codes this release does not know keep a number."""
    try:
        return codes(int(value)).name.lower()
    except ValueError:
        return f"code_{int(value)}"


def status_counts(arrays: SmallArrays, products: tuple[str, ...]) -> tuple[StatusCount, ...]:
    """Count product patches by status and reason, in the order of products and codes."""
    counts = []
    for index, product in enumerate(products):
        # Both are uint8: one number carries the two.
        pair = arrays.patch_status[..., index].astype(np.int64) << 8
        number_of = np.bincount((pair | arrays.status_reason[..., index]).ravel())
        counts += [
            StatusCount(
                product,
                code_name(PatchStatus, code >> 8),
                code_name(StatusReason, code & 0xFF),
                int(number_of[code]),
            )
            for code in np.flatnonzero(number_of).tolist()
        ]
    return tuple(counts)


@dataclass(frozen=True, slots=True)
class DifferingPair:
    """L1C and L2A of one season, cut from different acquisitions."""

    location_id: str
    season: int
    l1c_id: str
    l2a_id: str
    days_apart: float | None
    """L2A minus L1C."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """The L1C-L2A pairs of a cube."""

    num_pairs: int
    num_differing: int
    num_flagged: int
    median_days: float | None
    max_days: float | None
    examples: tuple[DifferingPair, ...]


def level_pairs(
    arrays: SmallArrays, products: tuple[str, ...], max_examples: int = 20
) -> PairCounts | None:
    """Compare the acquisitions of L1C and L2A; None where the cube has not both."""
    if not {"s2_l1c", "s2_l2a"} <= set(products):
        return None
    l1c, l2a = products.index("s2_l1c"), products.index("s2_l2a")
    pair = arrays.complete[..., l1c] & arrays.complete[..., l2a]
    ids = arrays.acquisition_id
    differs = pair & (ids[..., l1c] != ids[..., l2a])
    flagged = pair & (arrays.status_reason[..., l2a] == StatusReason.ACQUISITION_DIFFERS)
    days = _days_between(arrays.acquisition_time[..., l1c], arrays.acquisition_time[..., l2a])
    apart = np.abs(days[differs & ~np.isnan(days)])
    examples = tuple(
        DifferingPair(
            str(arrays.location_id[n]),
            int(season),
            str(ids[n, season, l1c]),
            str(ids[n, season, l2a]),
            None if np.isnan(days[n, season]) else float(days[n, season]),
        )
        for n, season in np.argwhere(differs)[:max_examples]
    )
    return PairCounts(
        int(np.count_nonzero(pair)),
        int(np.count_nonzero(differs)),
        int(np.count_nonzero(flagged)),
        float(np.median(apart)) if apart.size else None,
        float(apart.max()) if apart.size else None,
        examples,
    )


def _days_between(first_ms: Integers, second_ms: Integers) -> npt.NDArray[np.float64]:
    known = has_time(first_ms) & has_time(second_ms)
    difference = np.where(known, second_ms, 0) - np.where(known, first_ms, 0)
    return np.where(known, difference / _MS_PER_DAY, np.nan)


def has_time(time_ms: Integers) -> npt.NDArray[np.bool_]:
    """Tell where an acquisition time is known (``NO_TIME`` is the smallest int64)."""
    return np.asarray(time_ms > np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True)
class AcquisitionRow:
    """The acquisitions behind one product's complete patches."""

    product: str
    num_patches: int
    num_acquisitions: int
    first_ms: int | None
    last_ms: int | None
    median_cloud_percentage: float | None
    mean_valid_fraction: float | None
    num_ascending: int
    num_descending: int
    num_orbit_unknown: int
    num_relative_orbits: int


def acquisition_rows(arrays: SmallArrays, products: tuple[str, ...]) -> tuple[AcquisitionRow, ...]:
    """Summarise the acquisitions per product."""
    rows = []
    for index, product in enumerate(products):
        complete = arrays.complete[..., index]
        ids = arrays.acquisition_id[..., index][complete]
        times = arrays.acquisition_time[..., index][complete]
        times = times[has_time(times)]
        orbit_pass = arrays.orbit_pass[..., index][complete]
        relative = arrays.relative_orbit[..., index][complete]
        rows.append(
            AcquisitionRow(
                product,
                int(np.count_nonzero(complete)),
                len(set(ids[ids != ""].tolist())),
                int(times.min()) if times.size else None,
                int(times.max()) if times.size else None,
                _finite(np.median, arrays.cloud_percentage[..., index][complete]),
                _finite(np.mean, arrays.valid_fraction[..., index][complete]),
                int(np.count_nonzero(orbit_pass == OrbitPass.ASCENDING)),
                int(np.count_nonzero(orbit_pass == OrbitPass.DESCENDING)),
                int(np.count_nonzero(orbit_pass == OrbitPass.UNKNOWN)),
                len(set(relative[relative >= 0].tolist())),
            )
        )
    return tuple(rows)


def _finite(statistic: Any, values: Floats) -> float | None:
    values = values[np.isfinite(values)]
    return float(statistic(values.astype(np.float64))) if values.size else None


# --- places -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GeoreferenceError:
    """The estimated error of the patch origins, m."""

    num_exact: int
    """0: the provider gave the grid."""
    num_unknown: int
    estimates_m: Floats
    median_m: float | None
    p95_m: float | None
    max_m: float | None


def georeference_error(arrays: SmallArrays) -> GeoreferenceError:
    """Summarise `georeference_error_m`."""
    error_m = arrays.georeference_error_m
    estimates = np.sort(error_m[error_m > 0]).astype(np.float64)
    return GeoreferenceError(
        int(np.count_nonzero(error_m == 0)),
        int(np.count_nonzero(np.isnan(error_m))),
        estimates,
        float(np.median(estimates)) if estimates.size else None,
        float(np.percentile(estimates, 95)) if estimates.size else None,
        float(estimates[-1]) if estimates.size else None,
    )


def split_counts(arrays: SmallArrays) -> dict[str, int]:
    """Return split -> locations, splits without any left out."""
    counts = {s.name.lower(): int(np.count_nonzero(arrays.split == s)) for s in Split}
    return {name: count for name, count in counts.items() if count}


def label_status_counts(arrays: SmallArrays) -> dict[LabelStatus, int]:
    """Return label status -> location-seasons, among those that have a patch."""
    statuses = arrays.label_status[arrays.has_patch]
    counts = {status: int(np.count_nonzero(statuses == status)) for status in LabelStatus}
    return {status: count for status, count in counts.items() if count}
