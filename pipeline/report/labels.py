"""What label maps and multi-labels of a cube say: classes, fractions, and where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pages.charts import bars
from pipeline.report.small_arrays import Floats, SmallArrays
from storage_schema.land_cover import CLASSES, NUM_CLASSES, PRESENT, UNKNOWN, LabelStatus
from storage_schema.products import patch_size_px

_PIXELS_PER_PATCH: Final = patch_size_px() ** 2

FRACTION_EDGES: Final = (0.0, 0.001, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 1.0)
"""Narrow where a presence threshold would bite: the published one is very low, and not known."""


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

    @property
    def num_patches(self) -> int:
        """Patches that have the class."""
        return sum(self.counts)

    @property
    def figure(self) -> Markup:
        """Bars that are named by the upper ends of the intervals, in percent."""
        ends = [f"{100 * edge:g}" for edge in FRACTION_EDGES[1:]]
        names = [f"≤ {ends[0]}", *ends[1:-1], f"{ends[-1]}%"]
        label = f"Patches by share of {self.name.replace('_', ' ')}"
        return bars(self.counts, names, self.colour, label)


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
