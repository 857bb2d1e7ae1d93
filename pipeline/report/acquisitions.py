"""The acquisitions behind a cube: when, how cloudy, and whether levels share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pages.charts import histogram
from pipeline.report.small_arrays import Floats, Integers, SmallArrays, has_time
from pipeline.report.timeline import TimelineRow, timeline
from storage_schema.layout import NUM_SEASONS
from storage_schema.products import PRODUCTS, ProductName, optical_twins
from storage_schema.status import OrbitPass, StatusReason

_MS_PER_DAY: Final = 86_400_000
_CLOUD_EDGES: Final = np.arange(0.0, 100.1, 5.0)


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


def _finite(statistic: Callable[[Floats], Any], values: Floats) -> float | None:
    values = values[np.isfinite(values)]
    return float(statistic(values.astype(np.float64))) if values.size else None


@dataclass(frozen=True, slots=True)
class DifferingPair:
    """Two levels of one season, cut from different acquisitions."""

    location_id: str
    season: int
    anchor_id: str
    twin_id: str
    days_apart: float | None
    """Twin minus anchor."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """The pairs of two optical products that should share their acquisitions."""

    anchor_level: str
    twin_level: str
    num_pairs: int
    num_differing: int
    num_flagged: int
    median_days: float | None
    max_days: float | None
    examples: tuple[DifferingPair, ...]


def level_pairs(
    arrays: SmallArrays, products: tuple[str, ...], max_examples: int = 20
) -> list[PairCounts]:
    """Compare the acquisitions of L1C and L2A, and of all products paired like them."""
    return [
        _compare(arrays, products, anchor, twin, max_examples)
        for anchor, twin in optical_twins(products)
    ]


def _compare(
    arrays: SmallArrays, products: tuple[str, ...], anchor: str, twin: str, max_examples: int
) -> PairCounts:
    first, second = products.index(anchor), products.index(twin)
    pair = arrays.complete[..., first] & arrays.complete[..., second]
    ids = arrays.acquisition_id
    differs = pair & (ids[..., first] != ids[..., second])
    flagged = pair & (arrays.status_reason[..., second] == StatusReason.ACQUISITION_DIFFERS)
    times = arrays.acquisition_time
    days = _days_between(times[..., first], times[..., second])
    days_apart = np.abs(days[differs & ~np.isnan(days)])
    examples = tuple(
        DifferingPair(
            str(arrays.location_id[n]),
            int(season),
            str(ids[n, season, first]),
            str(ids[n, season, second]),
            None if np.isnan(days[n, season]) else float(days[n, season]),
        )
        for n, season in np.argwhere(differs)[:max_examples]
    )
    return PairCounts(
        PRODUCTS[anchor].level,
        PRODUCTS[twin].level,
        int(np.count_nonzero(pair)),
        int(np.count_nonzero(differs)),
        int(np.count_nonzero(flagged)),
        float(np.median(days_apart)) if days_apart.size else None,
        float(days_apart.max()) if days_apart.size else None,
        examples,
    )


def _days_between(first_ms: Integers, second_ms: Integers) -> npt.NDArray[np.float64]:
    known = has_time(first_ms) & has_time(second_ms)
    difference = np.where(known, second_ms, 0) - np.where(known, first_ms, 0)
    return np.where(known, difference / _MS_PER_DAY, np.nan)


def acquisition_timeline(arrays: SmallArrays, products: Sequence[ProductName]) -> Markup | None:
    """Draw when the complete patches of each product were acquired; None without any time."""
    rows = []
    for index, name in enumerate(products):
        known = arrays.complete[..., index] & has_time(arrays.acquisition_time[..., index])
        times = arrays.acquisition_time[..., index][known]
        if times.size:
            rows.append(TimelineRow(PRODUCTS[name].short_title, times, np.nonzero(known)[1]))
    return timeline(rows, [f"slot {season}" for season in range(NUM_SEASONS)])


def cloud_figures(
    arrays: SmallArrays, products: Sequence[ProductName]
) -> list[tuple[ProductName, Markup]]:
    """Draw histograms of the cloud cover, for the products that state it."""
    figures = []
    for index, name in enumerate(products):
        cloud = arrays.cloud_percentage[..., index][arrays.complete[..., index]]
        cloud = cloud[np.isfinite(cloud)]
        if cloud.size:
            counts, edges = np.histogram(np.clip(cloud, 0, 100), _CLOUD_EDGES)
            product = PRODUCTS[name].short_title
            label = f"Cloud cover of the {product} acquisitions, number of patches"
            figures.append(
                (name, histogram(edges, counts, colour="#5b7f95", label=label, unit="%"))
            )
    return figures
