"""Pixel values per band: histograms, and means against the published statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from markupsafe import Markup

from pages.charts import Axes
from pages.svg import line, number_text, svg, tag
from pipeline.patches import Pixels, valid_mask
from pipeline.report.small_arrays import Floats, Integers, SmallArrays
from storage_schema.products import PRODUCTS, Product, ProductName, published_statistics

_SAMPLE_BINS: Final = 60
_Pair = tuple[float, float]
"""Mean and standard deviation."""


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """One band: moments, percentiles and histogram in physical units."""

    num_valid_pixels: int
    mean: float
    std: float
    p01: float
    p99: float
    edges: Floats
    counts: Integers


@dataclass(frozen=True, slots=True)
class BandCard:
    """One band against the published statistics."""

    band: str
    resolution_m: int
    statistics: BandStatistics | None
    published: _Pair | None

    @property
    def cube(self) -> _Pair | None:
        """Mean and standard deviation of this cube."""
        return None if self.statistics is None else (self.statistics.mean, self.statistics.std)

    @property
    def shift(self) -> float | None:
        """How far the cube's mean lies from the published one, in published deviations."""
        if self.cube is None or self.published is None:
            return None
        return (self.cube[0] - self.published[0]) / self.published[1]

    @property
    def outside_fraction(self) -> float:
        """Share of the pixels that the drawn axis leaves out."""
        if self.statistics is None:
            return 0.0
        counts = self.statistics.counts
        shown = counts[_inside(self.statistics.edges, _axis_ends(self.statistics, self.published))]
        return 1.0 - float(shown.sum()) / max(int(counts.sum()), 1)

    @property
    def figure(self) -> Markup | None:
        """The histogram over the cube's and the published mean and spread."""
        if self.statistics is None:
            return None
        return _band_histogram(self.statistics, self.published, f"Histogram of {self.band}")


@dataclass(frozen=True, slots=True)
class BandSection:
    """The bands of one product."""

    product: ProductName
    unit: str
    convention: str
    is_usual_convention: bool
    num_sampled: int | None
    """Patches the numbers come from where sealing has not computed them; None where it has."""
    cards: tuple[BandCard, ...]


def band_sections(
    group: zarr.Group,
    products: Sequence[ProductName],
    attributes: Mapping[str, Any],
    arrays: SmallArrays,
    sample: Sequence[tuple[tuple[int, int], Mapping[str, Pixels]]],
) -> list[BandSection]:
    """Compare the bands of each product that has published statistics.

    Args:
        group: the cube.
        products: of the cube.
        attributes: of the cube's root.
        arrays: of the cube.
        sample: ((location, season), pixels by array) of a few patches, for a cube that is not
            sealed.
    """
    sections = []
    for index, name in enumerate(products):
        product = PRODUCTS[name]
        if not product.is_imagery:
            continue
        sampled = [pixels for patch, pixels in sample if arrays.complete[*patch, index]]
        is_sealed = all("statistics" in group[g.array].attrs for g in product.groups)
        convention = attributes["products"][name]["radiometric_convention"]
        sections.append(
            BandSection(
                name,
                product.shown_unit,
                convention,
                convention == product.radiometric_convention,
                None if is_sealed else len(sampled),
                tuple(_band_cards(group, product, None if is_sealed else sampled)),
            )
        )
    return sections


def _band_cards(
    group: zarr.Group, product: Product, sampled: Sequence[Mapping[str, Pixels]] | None
) -> Iterator[BandCard]:
    published = published_statistics(product.name)
    for bands in product.groups:
        found = (
            _sealed_statistics(group[bands.array].attrs.asdict(), len(bands.bands))
            if sampled is None
            else sample_statistics(product.name, bands.array, sampled)
        )
        for band, statistics in zip(bands.bands, found, strict=True):
            yield BandCard(band, bands.resolution_m, statistics, published.get(band))


def _sealed_statistics(
    attributes: Mapping[str, Any], num_bands: int
) -> list[BandStatistics | None]:
    statistics, counted = attributes["statistics"], attributes["histogram"]
    edges = np.asarray(counted["edges"], dtype=np.float64)
    return [
        None
        if statistics["mean"][band] is None
        else BandStatistics(
            int(statistics["num_valid_pixels"][band]),
            mean=float(statistics["mean"][band]),
            std=float(statistics["std"][band]),
            p01=float(statistics["p01"][band]),
            p99=float(statistics["p99"][band]),
            edges=edges,
            counts=np.asarray(counted["counts"][band], dtype=np.int64),
        )
        for band in range(num_bands)
    ]


def sample_statistics(
    product: ProductName, array: str, patches: Iterable[Mapping[str, Pixels]]
) -> list[BandStatistics | None]:
    """Describe one array's bands from a few patches; None for a band without a valid pixel.

    Args:
        product: the array's product; decides what is valid and the scale.
        array: array name.
        patches: stored pixels of *complete* patches of that product.
    """
    spec = PRODUCTS[product]
    num_bands = next(len(group.bands) for group in spec.groups if group.array == array)
    # Whole digital numbers per bin: else some bins catch one more number than their neighbours.
    least_step = 1.0 if spec.scale_factor is None else spec.scale_factor
    values: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(num_bands)]
    for pixels in patches:
        stored = pixels[array]
        valid = np.broadcast_to(valid_mask(spec, stored), stored.shape)
        for index, band in enumerate(stored):
            values[index].append(band[valid[index]] * (spec.scale_factor or 1.0))
    return [_describe(np.concatenate(v), least_step) if v else None for v in values]


def _describe(values: npt.NDArray[np.float64], least_step: float) -> BandStatistics | None:
    if not values.size:
        return None
    p01, p99 = (float(p) for p in np.percentile(values, (1, 99)))
    # Bins follow the bulk: a single bright cloud would otherwise leave two bins in use.
    start = max(float(values.min()), p01 - (p99 - p01) / 2)
    end = min(float(values.max()), p99 + (p99 - p01) / 2)
    step = max(np.ceil((end - start) / least_step / _SAMPLE_BINS), 1.0) * least_step
    first = np.floor(start / step)
    edges = step * np.arange(first, np.floor(end / step) + 2)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return BandStatistics(
        values.size, float(values.mean()), float(values.std()), p01, p99, edges, counts
    )


def _axis_ends(statistics: BandStatistics, published: _Pair | None) -> tuple[float, float]:
    """Return the limits of the drawn axis.

    It spans the cube's 1st to 99th percentile and the published mean plus or minus two standard
    deviations, which is the range that the published input normalisation keeps.
    """
    mean, std = statistics.mean, statistics.std
    reach = [(statistics.p01, statistics.p99), (mean - std, mean + std)]
    if published is not None:
        reach.append((published[0] - 2 * published[1], published[0] + 2 * published[1]))
    low, high = min(r[0] for r in reach), max(r[1] for r in reach)
    if statistics.edges[0] >= 0:  # digital numbers: there are none below 0
        low = max(low, 0.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _inside(edges: Floats, ends: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return np.asarray((edges[:-1] < ends[1]) & (edges[1:] > ends[0]))


def _band_histogram(statistics: BandStatistics, published: _Pair | None, label: str) -> Markup:
    edges = statistics.edges
    ends = _axis_ends(statistics, published)
    inside = _inside(edges, ends)
    density = statistics.counts / np.diff(edges)
    largest = float(density[inside].max(initial=0.0)) or 1.0
    axes = Axes(250.0, 146.0, (14, 14, 6, 50), ends, (0, largest))
    end, base = axes.left, number_text(axes.base)
    path = [f"M{number_text(axes.left)} {base}"]
    for index in np.flatnonzero(inside):
        start, end = axes.x(float(edges[index])), axes.x(float(edges[index + 1]))
        path.append(f"L{start:.1f} {axes.y(float(density[index])):.1f}H{end:.1f}")
    content = [line("".join([*path, f"L{end:.1f} {base}Z"]), "band-area"), *axes.x_axis(4)]
    cube = (statistics.mean, statistics.std)
    content.append(_spread_bar(axes, axes.base + 28, "spread-cube", cube))
    if published is not None:
        content.append(_spread_bar(axes, axes.base + 40, "spread-published", published))
    return svg(axes.width, axes.height, label, content, "figure band")


def _spread_bar(axes: Axes, y: float, css: str, pair: _Pair) -> Markup:
    """Draw mean (dot) and one standard deviation to both sides (line); clipped to the axis."""
    mean, std = pair
    drawn = line(f"M{axes.x(mean - std):.1f} {number_text(y)}H{axes.x(mean + std):.1f}", "")
    if axes.x_ends[0] <= mean <= axes.x_ends[1]:
        drawn += tag("circle", cx=axes.x(mean), cy=y, r=3.5)
    return tag("g", drawn, class_=css)
