"""One batch: locations read from a source, laid out as the arrays of the cube, written whole."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from groundwork.errors import unknown_choice
from pipeline.cube.patch_store import BatchMarker, PatchStore
from pipeline.land_cover.class_fractions import class_fractions_of
from pipeline.ledger import Ledger
from pipeline.patches import (
    Label,
    LocationPatches,
    PatchSource,
    ProductPatch,
    check_patch,
    valid_fraction,
)
from storage_schema.land_cover import NUM_CLASSES, UNKNOWN, LabelStatus
from storage_schema.layout import NO_ORBIT, NO_TIME, NUM_SEASONS, Layout, coarse_resolutions
from storage_schema.products import PRODUCTS, ProductName, Role
from storage_schema.status import PatchStatus, StatusReason

_writing = threading.Lock()
"""Held while a batch of this process is written."""

_under_way: dict[tuple[str, int], PatchSource] = {}
"""What this process is reading: lease token and batch, and the source."""


@dataclass(frozen=True, slots=True)
class AssembledBatch:
    """The arrays of one batch, with what happened on the way.

    Args:
        arrays: every array of the roles pixels, location and patch.
        counts: notes of the locations, added up.
        warnings: one sentence each.
    """

    arrays: dict[str, npt.NDArray[Any]]
    counts: Counter[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """How one batch ended.

    Args:
        batch: its number.
        marker: of the written batch; None where it was not.
        error: why not.
        ledger: what it has cost either way.
    """

    batch: int
    marker: BatchMarker | None
    error: Exception | None
    ledger: Ledger


def build_batch(
    store: PatchStore,
    source: PatchSource,
    batch: int,
    location_ids: Sequence[str],
    lease_token: str,
) -> BatchOutcome:
    """Read a batch's locations and write them; what Dask runs.

    An error is part of the outcome, so that what the batch has cost is known all the same; the
    batch then stays pending.

    Args:
        store: the cube.
        source: where its patches come from.
        batch: its number.
        location_ids: the batch's locations, in order.
        lease_token: of the builder.
    """
    _under_way[lease_token, batch] = source
    try:
        assembled = read_batch(store.layout, source, location_ids)
        with _writing:
            marker = store.write_batch(
                batch,
                assembled.arrays,
                lease_token=lease_token,
                counts=assembled.counts,
                warnings=assembled.warnings,
            )
    except Exception as error:  # noqa: BLE001 - the builder decides which errors end the run
        return BatchOutcome(batch, None, error, source.ledger)
    finally:
        del _under_way[lease_token, batch]
    return BatchOutcome(batch, marker, None, source.ledger)


def cancel_batches(lease_token: str) -> int:
    """Let a builder's batches in this process end soon, unwritten; return how many still run.

    Args:
        lease_token: of the builder.
    """
    running = [source for (token, _), source in list(_under_way.items()) if token == lease_token]
    for source in running:
        source.cancel()
    return len(running)


def read_batch(layout: Layout, source: PatchSource, location_ids: Sequence[str]) -> AssembledBatch:
    """Read a batch's locations and lay them out; nothing is written.

    A location is laid out as soon as it is there: what is held twice is never the whole batch.
    """
    with closing(source.read_locations(location_ids)) as locations:
        return assemble_batch(layout, _pausing(locations, len(location_ids)), len(location_ids))


def _pausing(locations: Iterable[LocationPatches], num: int) -> Iterator[LocationPatches]:
    """Go beyond a quarter only when the batch before is written: two whole ones are never held."""
    for index, location in enumerate(locations):
        if index == num // 4:
            with _writing:
                pass
        yield location


def assemble_batch(
    layout: Layout, locations: Iterable[LocationPatches], num_locations: int
) -> AssembledBatch:
    """Lay locations out as the arrays of one batch.

    Args:
        layout: of the cube.
        locations: in the order of the cube.
        num_locations: how many there are, at most one batch.
    """
    found = iter(locations)
    first = next(found)  # The arrays are large: not before there is something to lay into them.
    arrays = {
        name: _filled(layout, name, num_locations)
        for name in layout.names("pixels", "location", "patch")
    }
    assembled = AssembledBatch(arrays, Counter(), [])
    for index, location in enumerate(chain([first], found)):
        _lay_location(assembled, layout.description.products, index, location)
    return assembled


def _filled(layout: Layout, name: str, num_locations: int) -> npt.NDArray[Any]:
    spec = layout.arrays[name]
    fill, dtype = spec.fill_value, str(spec.data_type)
    if dtype == "string":
        return np.full((num_locations, *spec.shape[1:]), fill, dtype=object)
    if fill == 0:  # Pages of zeros take no memory before something is laid into them.
        return np.zeros((num_locations, *spec.shape[1:]), dtype)
    return np.full((num_locations, *spec.shape[1:]), float(fill) if fill == "NaN" else fill, dtype)


def _lay_location(
    batch: AssembledBatch,
    products: Sequence[ProductName],
    index: int,
    location: LocationPatches,
) -> None:
    arrays = batch.arrays
    for name in ("longitude", "latitude", "epsg", "x_origin", "y_origin", "georeference_error_m"):
        arrays[name][index] = getattr(location, name)
    for resolution_m in coarse_resolutions(tuple(products)):
        name = f"offset_{resolution_m}m"
        arrays[name][index] = getattr(location, name)
    arrays["split"][index] = location.split
    batch.counts.update(location.notes)
    batch.warnings.extend(location.warnings)
    arrays["patch_status"][index] = PatchStatus.NO_ACQUISITION
    arrays["status_reason"][index] = StatusReason.NOT_IN_SOURCE
    arrays["label_status"][index] = LabelStatus.ABSENT_FROM_FILE
    for season, patches in enumerate(location.seasons[:NUM_SEASONS]):
        at = index, season
        for position, name in enumerate(products):
            patch = patches.products.get(name)
            if patch is not None:
                patch = check_patch(name, patch)
                _lay_patch(batch, (*at, position), name, patch)
                if patch.status in {PatchStatus.FAILED, PatchStatus.REJECTED}:
                    batch.counts[f"patches_{patch.status.name.lower()}"] += 1
                told = any(patch.detail in warning for warning in location.warnings)
                if patch.detail and not told:
                    batch.warnings.append(
                        f"location {location.location_id}, season {season}, {name}: {patch.detail}"
                    )
        _lay_label(arrays, at, patches.label)
        if _disagrees(arrays, at):
            batch.counts["label_disagreements"] += 1


def _lay_patch(
    batch: AssembledBatch, at: tuple[int, int, int], name: ProductName, patch: ProductPatch
) -> None:
    arrays = batch.arrays
    arrays["patch_status"][at] = patch.status
    arrays["status_reason"][at] = patch.reason
    acquisition = patch.acquisition
    if acquisition is not None:
        arrays["acquisition_id"][at] = acquisition.id
        arrays["orbit_pass"][at] = acquisition.orbit_pass
        for array, value, missing in (
            ("acquisition_time", acquisition.time_ms, NO_TIME),
            ("cloud_percentage", acquisition.cloud_percentage, np.nan),
            ("relative_orbit", acquisition.relative_orbit, NO_ORBIT),
            ("sun_elevation", acquisition.sun_elevation_deg, np.nan),
        ):
            arrays[array][at] = missing if value is None else value
    if patch.status is not PatchStatus.COMPLETE:
        return
    for array, pixels in patch.pixels.items():
        arrays[array][at[:2]] = pixels
    product = PRODUCTS[name]
    match product.role:
        case Role.OPTICAL | Role.RADAR:
            arrays["valid_fraction"][at] = valid_fraction(product, patch.pixels)
        case Role.LABELS:
            found = class_fractions_of(patch.pixels[product.groups[0].array])
            arrays["class_fraction"][at[:2]] = found.class_fraction
            arrays["class_present"][at[:2]] = found.class_present
            arrays["labelled_fraction"][at[:2]] = found.labelled_fraction
            arrays["label_status"][at[:2]] = found.label_status
            arrays["valid_fraction"][at] = found.labelled_fraction
        case _:
            raise unknown_choice("role", product.role, list(Role))


def _lay_label(
    arrays: Mapping[str, npt.NDArray[Any]], at: tuple[int, int], label: Label | None
) -> None:
    """A published label file decides presence and status; fractions stay the map's."""
    if label is None:
        return
    present = label.class_present
    arrays["label_status"][at] = label.status
    arrays["class_present"][at] = np.full(NUM_CLASSES, UNKNOWN) if present is None else present


def _disagrees(arrays: Mapping[str, npt.NDArray[Any]], at: tuple[int, int]) -> bool:
    fraction, present = arrays["class_fraction"][at], arrays["class_present"][at]
    known = ~np.isnan(fraction) & (present != UNKNOWN)
    return bool(((fraction > 0) != (present == 1))[known].any())
