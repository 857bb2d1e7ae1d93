"""Seal a cube: statistics, class frequencies, the patch table, and the digest.

Sealing reads markers, counts and small arrays, never pixels. The root document comes last; a crash
before it leaves an unsealed cube, and sealing again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from groundwork.errors import InputError
from pipeline.cube.lease import Lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import (
    BatchMarker,
    PatchStore,
    digest_of,
    digest_of_array,
    histogram_key,
)
from pipeline.cube.patch_table import PATCH_TABLE_KEY, PatchTable, patch_rows, read_small_arrays
from pipeline.cube.statistics import Counts, decode_counts, merge_counts, statistics_attributes
from pipeline.errors import CubeDamagedError
from storage_schema.land_cover import NUM_CLASSES, LabelStatus
from storage_schema.layout import NO_TIME, SEAL_ATTRIBUTES
from storage_schema.products import PRODUCTS, ProductName, Role, of_role
from storage_schema.status import PatchStatus

Progress = Callable[[int, int], None]
"""Called with (batches done, batches in all)."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The outcome: the digest, and whether the cube had been sealed before."""

    digest: str
    was_sealed: bool
    num_patches: int


def seal_cube(storage: ObjectStorage, progress: Progress = lambda _done, _of: None) -> Seal:
    """Seal a complete cube, or check one that is sealed.

    Raises:
        InputError: batches are pending.
        CubeInUseError: a builder is at work.
        CubeDamagedError: the cube was sealed with another digest, or bytes are damaged.
    """
    PatchStore.open(storage)
    with Lease(storage):
        store = PatchStore.open(storage)
        pending = store.pending_batches()
        if pending:
            raise InputError(
                f"{storage} cannot be sealed: {len(pending)} of {store.description.num_batches} "
                f"batches are pending ({_enumerate(pending)}); run its build command again first"
            )
        return _seal(store, progress)


def _seal(store: PatchStore, progress: Progress) -> Seal:
    before = store.attributes
    markers = [marker for marker in store.read_markers() if marker is not None]
    counts = merge_counts(_read_counts(store, len(markers), progress))
    facts = _SmallFacts(store)
    array_attributes = {
        group.array: statistics_attributes(PRODUCTS[name], counts[group.array])
        for name in store.description.products
        if PRODUCTS[name].is_imagery
        for group in PRODUCTS[name].groups
    }
    root = facts.root_attributes(counts.get(_label_array(store.description.products)))
    sealed_before = bool(before.get("sealed"))
    if not sealed_before:
        store.write_attributes(array_attributes, root)
    digest = derive_digest(store, markers)
    if sealed_before and digest != before.get("digest"):
        raise CubeDamagedError(
            f"{store.storage} was sealed with digest {before.get('digest')}, its content now has "
            f"{digest}: a sealed cube must not change; run softcon audit to see where"
        )
    table = facts.table.finish(digest)
    checksum = hashlib.sha256(table).hexdigest()
    if store.storage.read(PATCH_TABLE_KEY) != table:
        store.storage.write(PATCH_TABLE_KEY, table)
    if not sealed_before:
        store.storage.write("provenance/seal.json", json.dumps(_versions(), indent=1).encode())
    if not sealed_before or before.get("patch_table_sha256") != checksum:
        seal = {"digest": digest, "sealed": True, "patch_table_sha256": checksum}
        store.write_attributes({}, seal)
    return Seal(digest, sealed_before, facts.num_patches)


def derive_digest(store: PatchStore, markers: list[BatchMarker]) -> str:
    """Derive the cube's digest: array metadata, root attributes, plan, contents of all batches.

    It does not cover timings, provenance, or anything else that may differ between two builds of
    the same input.
    """
    attributes = {k: v for k, v in store.attributes.items() if k not in SEAL_ATTRIBUTES}
    group = store.group
    early = store.layout.names("coordinate", "plan")
    return digest_of(
        {
            "attributes": attributes,
            "arrays": store.array_documents(),
            "contents": {name: digest_of_array(np.asarray(group[name][:])) for name in early},  # type: ignore[index]
            "batches": [marker.digest for marker in markers],
        }
    )


def _read_counts(
    store: PatchStore, num_batches: int, progress: Progress
) -> Iterator[dict[str, Counts]]:
    for batch in range(num_batches):
        value = store.storage.read(histogram_key(batch))
        try:
            yield decode_counts(value or b"")
        except Exception as error:  # a damaged archive may raise anything
            raise CubeDamagedError(
                f"{store.storage}: {histogram_key(batch)} is damaged: run softcon audit --unmark, "
                "then the build command again"
            ) from error
        progress(batch + 1, num_batches)


def _label_array(products: Sequence[ProductName]) -> str:
    """Return the array of the label map; empty where the cube has none."""
    labels = of_role(Role.LABELS, products)
    return PRODUCTS[labels[0]].groups[0].array if labels else ""


class _SmallFacts:
    """What one pass over the small arrays tells."""

    def __init__(self, store: PatchStore) -> None:
        self._products = store.description.products
        self.table = PatchTable(store.layout)
        self.num_patches = 0
        self._num_labelled = 0
        self._present = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
        self._fraction_sum = np.zeros(NUM_CLASSES)
        self._num_fractions = 0
        self._status: dict[str, Counter[int]] = {name: Counter() for name in self._products}
        self._years: dict[ProductName, set[int]] = {name: set() for name in self._products}
        self._root_products: dict[ProductName, Any] = store.attributes["products"]
        for start, small in read_small_arrays(store.group, store.layout):
            self.table.add(start, small)
            rows = patch_rows(small)
            self.num_patches += int(rows.sum())
            labelled = small["label_status"] == LabelStatus.LABELLED
            self._num_labelled += int(labelled.sum())
            present = (small["class_present"][labelled] == 1).astype(np.int64)
            self._present += present.T @ present
            fractions = small["class_fraction"][~np.isnan(small["class_fraction"]).any(axis=-1)]
            self._fraction_sum += fractions.astype(np.float64).sum(axis=0)
            self._num_fractions += len(fractions)
            for index, name in enumerate(self._products):
                codes, numbers = np.unique(small["patch_status"][..., index], return_counts=True)
                self._status[name].update(dict(zip(codes.tolist(), numbers.tolist(), strict=True)))
                times = small["acquisition_time"][..., index]
                years = times[times != NO_TIME].astype("datetime64[ms]").astype("datetime64[Y]")
                self._years[name] |= {int(str(year)) for year in np.unique(years)}

    def root_attributes(self, label_counts: Counts | None) -> dict[str, Any]:
        n = self._num_fractions
        pixels = [0] * NUM_CLASSES if label_counts is None else label_counts[0, :NUM_CLASSES]
        return {
            "class_statistics": {
                "num_patches": self.num_patches,
                "num_labelled_patches": self._num_labelled,
                "present_count": [int(v) for v in np.diag(self._present)],
                "mean_fraction": [float(v) / n if n else None for v in self._fraction_sum],
                "pixel_count": [int(v) for v in pixels],
                "cooccurrence": [[int(v) for v in row] for row in self._present],
            },
            "patch_counts": {
                name: {PatchStatus(code).name.lower(): num for code, num in sorted(found.items())}
                for name, found in self._status.items()
            },
            "products": {
                name: entry
                | {"attribution": PRODUCTS[name].attribution.replace(" [years]", self._span(name))}
                for name, entry in self._root_products.items()
            },
        }

    def _span(self, product: ProductName) -> str:
        years = sorted(self._years[product])
        if not years:
            return ""
        return f" {years[0]}" if len(years) == 1 else f" {years[0]}-{years[-1]}"


def _versions() -> dict[str, str]:
    names = ("softcon-cube", "zarr", "numcodecs", "numpy", "xarray", "pyarrow")
    return {
        "sealed": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _enumerate(batches: list[int], most: int = 5) -> str:
    shown = ", ".join(str(batch) for batch in batches[:most])
    return shown + (", ..." if len(batches) > most else "")
