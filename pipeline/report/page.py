"""A cube as one self-contained HTML page that a person can look at.

The page makes no request: style, figures and pictures lie in the file. The same cube gives the
same bytes, so a report can be compared like any other product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.patches import Pixels
from pipeline.report.figures import (
    SEASON_COLOURS,
    TimelineRow,
    WorldMap,
    band_histogram,
    bars,
    histogram,
    timeline,
    world_map,
)
from pipeline.report.gallery import (
    LABEL_COLOURS,
    OPTICAL_EXPONENT,
    SPECKLE_WINDOW_PX,
    STRETCH_PERCENTILES,
    BandStatistics,
    PatchView,
    choose_patches,
    place,
    read_pixels,
    sample_statistics,
    utc,
    view_patch,
)
from pipeline.report.summary import (
    FRACTION_EDGES,
    SmallArrays,
    StatusCount,
    acquisition_rows,
    class_statistics,
    code_name,
    fraction_distributions,
    georeference_error,
    has_time,
    label_agreement,
    label_status_counts,
    level_pairs,
    read_description,
    read_small_arrays,
    split_counts,
    status_counts,
)
from pipeline.report.svg import compact, minus
from storage_schema.land_cover import CLASSES
from storage_schema.layout import NUM_SEASONS, SCHEMA_VERSION
from storage_schema.products import PRODUCTS, Product, ProductName, published_statistics
from storage_schema.status import PatchStatus, Split, StatusReason

_MAX_PICTURE_BYTES: Final = 6_000_000
"""Pictures stop here: with everything else the page stays below 8 MB, which mail still takes."""
_MAX_WARNINGS: Final = 50
_MIN_ESTIMATES_FOR_HISTOGRAM: Final = 8
_CLOUD_EDGES: Final = np.arange(0.0, 100.1, 5.0)


def report_cube(storage: ObjectStorage, out: Path, *, num_gallery: int = 12) -> None:
    """Write a cube's report, with what its batches noted.

    Args and errors are those of `write_report`.
    """
    store = PatchStore.open(storage)
    counts: Counter[str] = Counter()
    warnings: list[str] = []
    for marker in store.read_markers():
        if marker is not None:
            warnings += marker.warnings
            counts.update(marker.counts)
    write_report(
        store.group,
        out,
        title=Path(storage.address.rstrip("/")).name,
        num_gallery=num_gallery,
        details={**counts, "warnings": warnings},
    )


def write_report(
    group: zarr.Group,
    out: Path,
    *,
    title: str,
    num_gallery: int = 12,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a cube's report as one HTML file; the file appears whole or not at all.

    Args:
        group: the cube, opened for reading; sealed or not.
        out: path of the HTML file; an older one is replaced.
        title: name of the cube, for the heading.
        num_gallery: most patches to show; fewer where their pictures would make the file large.
        details: further counts to show, such as ``{"further_seasons": 3}``; the entry
            ``warnings`` is a list of sentences.

    Raises:
        InputError: the group is no cube, the path cannot be written, or a number makes no sense.
        CubeDamagedError: an array cannot be read.
    """
    if num_gallery < 0:
        raise InputError(f"num_gallery is {num_gallery}; give 0 or more patches to show")
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the path of an HTML file")
    if not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} does not exist; create it first")
    page = render_report(group, title=title, num_gallery=num_gallery, details=details)
    write_atomically(out, page)


def render_report(
    group: zarr.Group,
    *,
    title: str,
    num_gallery: int = 12,
    details: Mapping[str, Any] | None = None,
) -> str:
    """Return the page that `write_report` writes."""
    values = report_values(group, title=title, num_gallery=num_gallery, details=details)
    return page_environment().get_template("cube_report.html").render(values)


def report_values(
    group: zarr.Group,
    *,
    title: str,
    num_gallery: int = 12,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what pages about a cube show: numbers, figures and pictures by name.

    Args and errors are those of `write_report`; ``sections.html`` lays some of them out.
    """
    description = read_description(group)
    attributes: dict[str, Any] = dict(group.attrs.asdict())
    products = description.products
    arrays = read_small_arrays(group)
    sealed = attributes.get("sealed") is True
    gallery, sample = _gallery(group, products, arrays, num_gallery, keep_pixels=not sealed)
    statuses = status_counts(arrays, products)
    return {
        "title": title,
        "sealed": sealed,
        "digest": attributes.get("digest"),
        "schema_version": SCHEMA_VERSION,
        "description": description,
        "num_patches": int(np.count_nonzero(arrays.has_patch)),
        "num_product_patches": int(np.count_nonzero(arrays.complete)),
        "used_slots": [int(s) for s in np.flatnonzero(arrays.has_patch.any(axis=0))],
        "source": flatten(description.source),
        "settings": flatten(description.settings),
        "product_entries": _product_entries(attributes, products),
        "splits": split_counts(arrays),
        "map": _map(arrays),
        "extent": _extent(arrays),
        "georeference": georeference_error(arrays),
        "georeference_figure": _georeference_figure(arrays),
        "classes": class_statistics(arrays, attributes.get("class_statistics")),
        "fractions": _fraction_figures(arrays),
        "agreement": label_agreement(arrays),
        "label_statuses": [
            (status.name.lower(), count, status.meaning)
            for status, count in label_status_counts(arrays).items()
        ],
        "band_sections": _band_sections(group, products, attributes, arrays, sample),
        "acquisitions": acquisition_rows(arrays, products),
        "timeline": _timeline(arrays, products),
        "clouds": _cloud_figures(arrays, products),
        "pairs": level_pairs(arrays, products),
        "status_names": [status.name.lower() for status in PatchStatus],
        "status_table": _status_table(statuses, products),
        "statuses": [_explained(count) for count in statuses],
        "seal_mismatch": _seal_mismatch(attributes.get("patch_counts"), statuses),
        "gallery": gallery,
        "counts": [
            (name.replace("_", " "), text)
            for name, text in flatten({k: v for k, v in (details or {}).items() if k != "warnings"})
        ],
        "warnings": [str(w) for w in (details or {}).get("warnings", ())][:_MAX_WARNINGS],
        "num_warnings": len((details or {}).get("warnings", ())),
        "slot_colours": SEASON_COLOURS,
        "legend": [*((c.name, c.colour) for c in CLASSES), ("masked", LABEL_COLOURS[-1])],
        "stretch_percentiles": STRETCH_PERCENTILES,
        "optical_exponent": OPTICAL_EXPONENT,
        "speckle_window_px": SPECKLE_WINDOW_PX,
    }


# --- the page's language ------------------------------------------------------------------------


@cache
def page_environment(package: str = "pipeline.report") -> Environment:
    """Return what renders pages: the templates of a package, and those here.

    Args:
        package: with a folder ``templates``.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.report")]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        count=lambda n: f"{n:,}",
        compact=compact,
        percent=percent,
        words=lambda text: str(text).replace("_", " "),
        product=lambda name: PRODUCTS[name].short_title if name in PRODUCTS else name,
        day=lambda ms: utc(ms)[:10],
        figure=significant,
        signed=lambda value: minus(f"{value:+.2f}"),
        days=lambda value: minus(f"{value:+.1f} days"),
    )
    return environment


def percent(share: float | None) -> str:
    """Return a share of 1 as a percentage that never rounds something to nothing."""
    if share is None:
        return "unknown"
    if share == 0:
        return "0%"
    if share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return "100%" if share == 1 else f"{share:.1%}"


def significant(value: float) -> str:
    """Return a physical value with about four significant digits."""
    if abs(value) >= 1000:
        return minus(f"{value:,.0f}")
    return minus(f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}")


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted name, text) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(str(v) for v in value)))
        else:
            rows.append((name, str(value)))
    return rows


# --- sections -----------------------------------------------------------------------------------


def _product_entries(
    attributes: Mapping[str, Any], products: Sequence[ProductName]
) -> list[dict[str, Any]]:
    return [{"name": name, **attributes["products"][name]} for name in products]


def _map(arrays: SmallArrays) -> WorldMap:
    names = {int(code): code_name(Split, code) for code in np.unique(arrays.split)}
    return world_map(arrays.longitude, arrays.latitude, [names[int(s)] for s in arrays.split])


def _extent(arrays: SmallArrays) -> str:
    known = np.isfinite(arrays.longitude) & np.isfinite(arrays.latitude)
    if not known.any():
        return ""
    longitude, latitude = arrays.longitude[known], arrays.latitude[known]
    south_west = place(float(longitude.min()), float(latitude.min()))
    north_east = place(float(longitude.max()), float(latitude.max()))
    if south_west == north_east:
        return f"At {south_west}."
    return f"From {south_west} to {north_east}."


def _georeference_figure(arrays: SmallArrays) -> Markup | None:
    estimates_m = georeference_error(arrays).estimates_m
    if estimates_m.size < _MIN_ESTIMATES_FOR_HISTOGRAM:
        return None
    counts, edges = np.histogram(estimates_m, bins=20, range=(0.0, float(estimates_m[-1])))
    return histogram(
        edges,
        counts,
        colour="#5b7f95",
        label="Estimated georeference error, number of locations",
        unit=" m",
    )


def _fraction_figures(arrays: SmallArrays) -> list[dict[str, Any]]:
    edges = [f"{100 * edge:g}" for edge in FRACTION_EDGES]
    labels = [f"≤ {edges[1]}", *edges[2:-1], f"{edges[-1]}%"]
    return [
        {
            "name": found.name,
            "colour": found.colour,
            "num_patches": sum(found.counts),
            "median": found.median,
            "figure": bars(
                found.counts,
                labels,
                found.colour,
                f"Patches by share of {found.name.replace('_', ' ')}",
            ),
        }
        for found in fraction_distributions(arrays.class_fraction)
        if any(found.counts)
    ]


def _timeline(arrays: SmallArrays, products: Sequence[ProductName]) -> Markup | None:
    rows = []
    for index, name in enumerate(products):
        known = arrays.complete[..., index] & has_time(arrays.acquisition_time[..., index])
        times = arrays.acquisition_time[..., index][known]
        if times.size:
            rows.append(TimelineRow(PRODUCTS[name].short_title, times, np.nonzero(known)[1]))
    return timeline(rows, [f"slot {season}" for season in range(NUM_SEASONS)])


def _cloud_figures(
    arrays: SmallArrays, products: Sequence[ProductName]
) -> list[tuple[ProductName, Markup]]:
    figures = []
    for index, name in enumerate(products):
        cloud = arrays.cloud_percentage[..., index][arrays.complete[..., index]]
        cloud = cloud[np.isfinite(cloud)]
        if cloud.size:
            counts, edges = np.histogram(np.clip(cloud, 0, 100), _CLOUD_EDGES)
            label = (
                f"Cloud cover of the {PRODUCTS[name].short_title} acquisitions, number of patches"
            )
            figures.append(
                (name, histogram(edges, counts, colour="#5b7f95", label=label, unit="%"))
            )
    return figures


def _status_table(
    statuses: Sequence[StatusCount], products: Sequence[ProductName]
) -> list[tuple[ProductName, list[int]]]:
    """Return per product the count of every status, in the order of the codes."""
    names = [status.name.lower() for status in PatchStatus]
    return [
        (
            product,
            [
                sum(s.count for s in statuses if (s.product, s.status) == (product, n))
                for n in names
            ],
        )
        for product in products
    ]


def _explained(count: StatusCount) -> dict[str, Any]:
    return {
        "product": count.product,
        "status": count.status,
        "reason": count.reason,
        "count": count.count,
        "meaning": _meaning(count.status, count.reason),
    }


def _meaning(status: str, reason: str) -> str:
    """Return what a count's reason means; that of its status where no reason is given.

    A cube of a newer version may hold codes that this one has no name for; they have no meaning.
    """
    for codes, name in ((StatusReason, reason), (PatchStatus, status)):
        code = codes.__members__.get(name.upper())
        if code not in (None, StatusReason.NONE):
            return code.meaning
    return ""


def _seal_mismatch(
    sealed_counts: Mapping[str, Mapping[str, int]] | None, statuses: Sequence[StatusCount]
) -> list[str]:
    """Return what sealing counted differently: a sealed cube must not have changed since."""
    if sealed_counts is None:
        return []
    found: dict[tuple[str, str], int] = {}
    for count in statuses:
        key = count.product, count.status
        found[key] = found.get(key, 0) + count.count
    promised = {
        (product, status): int(number)
        for product, numbers in sealed_counts.items()
        for status, number in numbers.items()
        if number
    }
    return [
        f"{product}, {status}: {promised.get((product, status), 0):,} when sealed, "
        f"{found.get((product, status), 0):,} now"
        for product, status in sorted(promised.keys() | found.keys())
        if promised.get((product, status), 0) != found.get((product, status), 0)
    ]


def _gallery(
    group: zarr.Group,
    products: tuple[ProductName, ...],
    arrays: SmallArrays,
    num_patches: int,
    *,
    keep_pixels: bool,
) -> tuple[list[PatchView], list[tuple[tuple[int, int], dict[str, Pixels]]]]:
    """Return the patches to show and, where asked for, the pixels of all their bands."""
    views: list[PatchView] = []
    sample: list[tuple[tuple[int, int], dict[str, Pixels]]] = []
    for location, season in choose_patches(arrays, num_patches):
        complete = tuple(n for i, n in enumerate(products) if arrays.complete[location, season, i])
        pixels = read_pixels(group, complete, location, season)
        view = view_patch(arrays, products, pixels, location, season)
        if sum(v.num_bytes for v in views) + view.num_bytes > _MAX_PICTURE_BYTES:
            break
        views.append(view)
        if keep_pixels:
            sample.append(((location, season), pixels))
    return views, sample


# --- bands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BandCard:
    """One band against the published statistics."""

    band: str
    resolution_m: int
    figure: Markup | None
    cube: tuple[float, float] | None
    published: tuple[float, float] | None
    outside_fraction: float = 0.0

    @property
    def shift(self) -> float | None:
        """How far the cube's mean lies from the published one, in published deviations."""
        if self.cube is None or self.published is None:
            return None
        return (self.cube[0] - self.published[0]) / self.published[1]


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


def _band_sections(
    group: zarr.Group,
    products: Sequence[ProductName],
    attributes: Mapping[str, Any],
    arrays: SmallArrays,
    sample: Sequence[tuple[tuple[int, int], Mapping[str, Pixels]]],
) -> list[BandSection]:
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
                "DN" if product.unit == "1" else product.unit,
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
            yield _band_card(band, bands.resolution_m, statistics, published.get(band))


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


def _band_card(
    band: str,
    resolution_m: int,
    statistics: BandStatistics | None,
    published: tuple[float, float] | None,
) -> BandCard:
    if statistics is None:
        return BandCard(band, resolution_m, None, None, published)
    cube = (statistics.mean, statistics.std)
    drawn = band_histogram(
        statistics.edges,
        statistics.counts,
        cube=cube,
        percentiles=(statistics.p01, statistics.p99),
        published=published,
        label=f"Histogram of {band}",
    )
    return BandCard(band, resolution_m, drawn.figure, cube, published, drawn.outside_fraction)
