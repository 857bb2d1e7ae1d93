"""A cube as one self-contained HTML page that a person can look at.

The page makes no request: style, figures and pictures lie in the file. The same cube gives the
same bytes, so a report can be compared like any other product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pages.formats import flatten
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.report.acquisitions import (
    acquisition_rows,
    acquisition_timeline,
    cloud_figures,
    level_pairs,
)
from pipeline.report.bands import band_sections
from pipeline.report.environment import cube_environment
from pipeline.report.gallery import gallery
from pipeline.report.labels import class_statistics, fraction_distributions, label_agreement
from pipeline.report.locations import georeference_error, locations_map, split_counts
from pipeline.report.patch_pictures import (
    LABEL_COLOURS,
    OPTICAL_EXPONENT,
    SPECKLE_WINDOW_PX,
    STRETCH_PERCENTILES,
)
from pipeline.report.small_arrays import read_description, read_small_arrays
from pipeline.report.statuses import (
    label_status_counts,
    seal_mismatch,
    status_counts,
    status_table,
)
from pipeline.report.timeline import SEASON_COLOURS
from storage_schema.land_cover import CLASSES
from storage_schema.layout import SCHEMA_VERSION
from storage_schema.status import PatchStatus

_MAX_WARNINGS: Final = 50


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
    return cube_environment().get_template("cube_report.html").render(values)


def report_values(
    group: zarr.Group,
    *,
    title: str,
    num_gallery: int = 12,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what pages about a cube show: numbers, figures and pictures by name.

    Args and errors are those of `write_report`; ``cube_parts.html`` lays some of them out.
    """
    description = read_description(group)
    attributes: dict[str, Any] = dict(group.attrs.asdict())
    products = description.products
    arrays = read_small_arrays(group)
    sealed = attributes.get("sealed") is True
    views, sample = gallery(group, products, arrays, num_gallery, keep_pixels=not sealed)
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
        "product_entries": [attributes["products"][name] for name in products],
        "splits": split_counts(arrays),
        "map": locations_map(arrays),
        "georeference": georeference_error(arrays),
        "classes": class_statistics(arrays, attributes.get("class_statistics")),
        "fractions": [f for f in fraction_distributions(arrays.class_fraction) if f.num_patches],
        "agreement": label_agreement(arrays),
        "label_statuses": [
            (status.name.lower(), count, status.meaning)
            for status, count in label_status_counts(arrays).items()
        ],
        "band_sections": band_sections(group, products, attributes, arrays, sample),
        "acquisitions": acquisition_rows(arrays, products),
        "timeline": acquisition_timeline(arrays, products),
        "clouds": cloud_figures(arrays, products),
        "level_pairs": level_pairs(arrays, products),
        "status_names": [status.name.lower() for status in PatchStatus],
        "status_table": status_table(statuses),
        "statuses": statuses,
        "seal_mismatch": seal_mismatch(attributes.get("patch_counts"), statuses),
        "gallery": views,
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
