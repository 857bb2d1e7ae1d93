"""What a cube holds, in a handful of numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from pydantic import BaseModel

from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.patch_table import patch_rows, read_small_arrays
from storage_schema.land_cover import CLASS_NAMES, LabelStatus
from storage_schema.layout import NO_TIME
from storage_schema.status import PatchStatus, Split, StatusReason


class ProductFacts(BaseModel):
    """One product: patches by status and reason, and the days its acquisitions span (ISO dates)."""

    statuses: dict[str, int]
    reasons: dict[str, int]
    first_day: str | None
    last_day: str | None
    attribution: str
    licence: str


class CubeFacts(BaseModel):
    """One cube."""

    address: str
    schema_version: int
    sealed: bool
    digest: str | None
    source: dict[str, Any]
    season_meaning: str
    num_locations: int
    num_batches: int
    pending_batches: int
    num_patches: int
    stored_bytes: int
    num_objects: int
    products: dict[str, ProductFacts]
    splits: dict[str, int]
    label_statuses: dict[str, int]
    class_patches: dict[str, int]
    """Class -> labelled patches it occurs in."""


def inspect_cube(storage: ObjectStorage) -> CubeFacts:
    """Read a cube's small arrays and sizes.

    Raises:
        InputError: there is no cube, or one of another schema version.
    """
    store = PatchStore.open(storage)
    attributes, sizes = store.attributes, storage.list_sizes()
    names = store.description.products
    statuses: dict[str, Counter[int]] = {name: Counter() for name in names}
    reasons: dict[str, Counter[int]] = {name: Counter() for name in names}
    days: dict[str, list[np.datetime64]] = {name: [] for name in names}
    labels: Counter[int] = Counter()
    splits: Counter[int] = Counter()
    present = np.zeros(len(CLASS_NAMES), dtype=np.int64)
    num_patches = 0
    for _, small in read_small_arrays(store.group, store.layout):
        rows = patch_rows(small)
        num_patches += int(rows.sum())
        labels.update(small["label_status"][rows].tolist())
        splits.update(small["split"].tolist())
        present += (small["class_present"][rows] == 1).sum(axis=0)
        for index, name in enumerate(names):
            statuses[name].update(small["patch_status"][..., index].ravel().tolist())
            reasons[name].update(small["status_reason"][rows][:, index].tolist())
            times = small["acquisition_time"][..., index]
            times = times[times != NO_TIME].astype("datetime64[ms]")
            if times.size:
                days[name] += [times.min(), times.max()]
    return CubeFacts(
        address=str(storage),
        schema_version=attributes["schema_version"],
        sealed=store.is_sealed,
        digest=attributes.get("digest"),
        source=store.description.source,
        season_meaning=store.description.season_meaning,
        num_locations=store.description.num_locations,
        num_batches=store.description.num_batches,
        pending_batches=len(store.pending_batches()),
        num_patches=num_patches,
        stored_bytes=sum(sizes.values()),
        num_objects=len(sizes),
        products={
            name: ProductFacts(
                statuses={PatchStatus(k).name.lower(): v for k, v in sorted(found.items())},
                reasons={
                    StatusReason(k).name.lower(): v for k, v in sorted(reasons[name].items()) if k
                },
                first_day=str(min(days[name]).astype("datetime64[D]")) if days[name] else None,
                last_day=str(max(days[name]).astype("datetime64[D]")) if days[name] else None,
                attribution=attributes["products"][name]["attribution"],
                licence=attributes["products"][name]["licence"],
            )
            for name, found in statuses.items()
        },
        splits={Split(code).name.lower(): num for code, num in sorted(splits.items())},
        label_statuses={LabelStatus(k).name.lower(): v for k, v in sorted(labels.items())},
        class_patches=dict(zip(CLASS_NAMES, present.tolist(), strict=True)),
    )
