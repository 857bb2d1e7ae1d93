"""Where a cube's locations are: map, splits, and how well their grids are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup

from pages.charts import histogram
from pipeline.report.small_arrays import Floats, SmallArrays, code_name
from pipeline.report.world_map import WorldMap, world_map
from storage_schema.status import Split

_MIN_ESTIMATES_FOR_HISTOGRAM: Final = 8


def locations_map(arrays: SmallArrays) -> WorldMap:
    """Draw the cube's locations by split."""
    splits = [code_name(Split, code) for code in arrays.split.tolist()]
    return world_map(arrays.longitude, arrays.latitude, splits)


def split_counts(arrays: SmallArrays) -> dict[str, int]:
    """Return split -> locations, splits without any left out."""
    counts = {s.name.lower(): int(np.count_nonzero(arrays.split == s)) for s in Split}
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class GeoreferenceError:
    """The estimated error of the patch origins, m."""

    num_exact: int
    """0: the provider gave the grid."""
    num_unknown: int
    estimates_m: Floats

    def percentile(self, percentage: float) -> float | None:
        """Return a percentile of the estimates; None where there are none."""
        return float(np.percentile(self.estimates_m, percentage)) if self.estimates_m.size else None

    @property
    def figure(self) -> Markup | None:
        """Histogram of the estimates; None for few."""
        if self.estimates_m.size < _MIN_ESTIMATES_FOR_HISTOGRAM:
            return None
        counts, edges = np.histogram(
            self.estimates_m, bins=20, range=(0.0, float(self.estimates_m.max()))
        )
        label = "Estimated georeference error, number of locations"
        return histogram(edges, counts, colour="#5b7f95", label=label, unit=" m")


def georeference_error(arrays: SmallArrays) -> GeoreferenceError:
    """Summarise `georeference_error_m`."""
    error_m = arrays.georeference_error_m
    return GeoreferenceError(
        int(np.count_nonzero(error_m == 0)),
        int(np.count_nonzero(np.isnan(error_m))),
        error_m[error_m > 0].astype(np.float64),
    )
