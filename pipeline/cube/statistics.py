"""Per-band statistics that merge exactly.

Stored values are 16-bit integers, so the counts of every value are a complete summary: mean,
standard deviation, quantiles and histograms all follow from them, exactly, and two batches merge by
addition, in any order.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from groundwork.errors import unknown_choice
from pipeline.patches import Pixels, valid_mask
from storage_schema.products import Product, Role

NUM_VALUES: Final = 1 << 16
Counts = npt.NDArray[np.int64]
"""int64 (band, 65536): pixels per stored value, `value - minimum of the dtype` being the index."""

# Fixed edges, so that histograms of two cubes can be compared; the outer bins are open-ended.
# Finer below 200 DN: the whole of B10 (cirrus) lies there.
_DN_EDGES: Final = np.concatenate([np.arange(0, 200, 10), np.arange(200, 10_001, 100)])
_DB_EDGES: Final = np.arange(-50, 21)


def count_values(product: Product, pixels: Pixels) -> Counts:
    """Count the valid pixels of each stored value.

    Args:
        product: decides what is valid.
        pixels: stored values, (location, season, band, y, x) or (location, season, y, x).

    Returns:
        int64 (band, 65536).
    """
    labels = product.role is Role.LABELS
    num_bands = 1 if labels else pixels.shape[2]
    counts = np.zeros((num_bands, NUM_VALUES), dtype=np.int64)
    offset = -int(np.iinfo(pixels.dtype).min)
    for patch in pixels.reshape(-1, *pixels.shape[2:]):
        mask = valid_mask(product, patch)
        if not mask.any():
            continue
        everywhere = bool(mask.all())
        for band in range(num_bands):
            values = patch if labels else patch[band]
            if not everywhere:
                values = values[mask if labels else mask[band if len(mask) > 1 else 0]]
            shifted = values.ravel().astype(np.int64) + offset
            found = np.bincount(shifted)
            counts[band, : len(found)] += found
    return counts


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of one band, in physical units.

    `std` is the population's; a quantile is the smallest value that at least its share of the
    pixels does not exceed (numpy's ``inverted_cdf``).
    """

    num_valid_pixels: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    p01: float | None
    p99: float | None


def derive_statistics(product: Product, counts: npt.NDArray[np.int64]) -> BandStatistics:
    """Derive one band's statistics from its counts, int64 (65536,); exact but for one rounding."""
    values = np.flatnonzero(counts)
    if not values.size:
        return BandStatistics(0, None, None, None, None, None, None)
    offset = int(np.iinfo(np.dtype(product.dtype)).min)
    stored = [int(v) + offset for v in values]
    number = [int(c) for c in counts[values]]
    n = sum(number)
    total = sum(v * c for v, c in zip(stored, number, strict=True))
    squares = sum(v * v * c for v, c in zip(stored, number, strict=True))
    variance = Fraction(squares * n - total * total, n * n)
    scale = product.scale_factor or 1.0
    cumulative = np.cumsum(counts[values])

    def quantile(q: Fraction) -> float:
        rank = -(-q.numerator * n // q.denominator)  # ceil(q n)
        return stored[int(np.searchsorted(cumulative, rank))] * scale

    return BandStatistics(
        num_valid_pixels=n,
        mean=float(Fraction(total, n)) * scale,
        std=float(variance) ** 0.5 * scale,
        min=stored[0] * scale,
        max=stored[-1] * scale,
        p01=quantile(Fraction(1, 100)),
        p99=quantile(Fraction(99, 100)),
    )


def statistics_attributes(product: Product, counts: Counts) -> dict[str, Any]:
    """Return the attributes ``statistics`` and ``histogram`` of one pixel array."""
    bands = [derive_statistics(product, band) for band in counts]
    edges = _histogram_edges(product)
    return {
        "statistics": {
            key: [getattr(band, key) for band in bands] for key in BandStatistics.__slots__
        },
        "histogram": {
            "edges": [float(edge) for edge in edges],
            "counts": [_histogram(product, band, edges) for band in counts],
        },
    }


def _histogram_edges(product: Product) -> npt.NDArray[Any]:
    """Return the edges for a product's role, in its physical unit."""
    match product.role:
        case Role.OPTICAL:
            # Edges in stored numbers: a product with a scale has its reflectances elsewhere.
            return _DN_EDGES * (product.scale_factor or 1)
        case Role.RADAR:
            return _DB_EDGES
        case Role.LABELS:
            raise ValueError(f"{product.name} holds labels: they have no statistics of bands")
        case _:
            raise unknown_choice("role", product.role, list(Role))


def _histogram(
    product: Product, counts: npt.NDArray[np.int64], edges: npt.NDArray[Any]
) -> list[int]:
    offset = int(np.iinfo(np.dtype(product.dtype)).min)
    stored_edges = np.rint(edges / (product.scale_factor or 1.0)) - offset
    bins = np.searchsorted(stored_edges, np.arange(NUM_VALUES), side="right") - 1
    bins = np.clip(bins, 0, len(edges) - 2)
    found = np.zeros(len(edges) - 1, dtype=np.int64)
    np.add.at(found, bins, counts)
    return [int(count) for count in found]


def merge_counts(parts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Add up the counts of batches, array by array."""
    merged: dict[str, Counts] = {}
    for part in parts:
        for name, counts in part.items():
            if name in merged:
                merged[name] += counts
            else:
                merged[name] = counts.copy()
    return merged


def encode_counts(counts: Mapping[str, Counts]) -> bytes:
    """Pack counts sparsely: per array and band, the values that occur and how often."""
    packed: dict[str, npt.NDArray[np.int64]] = {}
    for name, array in counts.items():
        for band, row in enumerate(array):
            values = np.flatnonzero(row)
            packed[f"{name}/{band}"] = np.stack([values, row[values]])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **packed)
    return buffer.getvalue()


def decode_counts(value: bytes) -> dict[str, Counts]:
    """Unpack what `encode_counts` packed.

    Raises:
        ValueError, zipfile.BadZipFile, KeyError: the bytes are damaged.
    """
    with np.load(io.BytesIO(value), allow_pickle=False) as packed:
        num_bands: dict[str, int] = {}
        for key in packed.files:
            name = key.rpartition("/")[0]
            num_bands[name] = num_bands.get(name, 0) + 1
        counts = {
            name: np.zeros((number, NUM_VALUES), dtype=np.int64)
            for name, number in num_bands.items()
        }
        for key in packed.files:
            name, _, band = key.rpartition("/")
            values, number = packed[key]
            counts[name][int(band), values] = number
    return counts
