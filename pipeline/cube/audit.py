"""Audit a cube: structure, markers, stored bytes, and contents against each other.

Everything is reported with array, batch and location; nothing is repaired here. Small arrays are
checked wholly, pixels for a spread of batches (all of them on request).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import zarr

from groundwork.errors import InputError, SoftconError
from pipeline.cube.audit_rules import (
    Contradiction,
    find_contradictions,
    find_pixel_contradictions,
)
from pipeline.cube.lease import Lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import (
    ROOT_KEY,
    BatchMarker,
    PatchStore,
    digest_of_array,
    histogram_key,
)
from pipeline.cube.patch_table import PATCH_TABLE_KEY, patch_rows, read_small_arrays
from pipeline.cube.seal import derive_digest
from pipeline.cube.statistics import count_values, decode_counts
from pipeline.errors import CubeDamagedError
from storage_schema.conformance import Violation, find_violations
from storage_schema.layout import NUM_SEASONS, SchemaVersionError, check_schema_version
from storage_schema.products import PRODUCTS

BATCHES_LOOKED_INTO: Final = 8

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class AuditResult:
    """What was looked at, and every violation found."""

    violations: list[Violation] = field(default_factory=list)
    num_batches: int = 0
    batches_read: list[int] = field(default_factory=list)
    damaged_batches: set[int] = field(default_factory=set)
    """Batches whose stored bytes are not what their markers say."""
    sealed: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.violations


def audit_cube(
    storage: ObjectStorage,
    *,
    all_batches: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> AuditResult:
    """Look for everything that is wrong with a cube.

    Args:
        storage: where it is.
        all_batches: read the pixels of every batch, not of a spread of them.
        progress: called with (batches read, batches to read).

    Raises:
        InputError: there is no cube, or one of another schema version.
    """
    violations = _structure(storage)
    if violations:
        # Contents of arrays that are not as described cannot be judged.
        return AuditResult(violations)
    store = PatchStore.open(storage)
    result = AuditResult(num_batches=store.description.num_batches, sealed=store.is_sealed)
    try:
        _ = store.location_ids
    except CubeDamagedError as error:
        result.violations.append(Violation("location_id", "readable bytes", str(error)))
        return result
    markers, sizes = store.read_markers(), storage.list_sizes()
    incomplete = {
        batch
        for batch, marker in enumerate(markers)
        if marker is None or not sizes.keys() >= marker.objects.keys()
    }
    result.violations += _objects(store, markers, sizes)
    damaged = list(_unreadable_small_arrays(store, incomplete))
    result.violations += [violation for _, violation in damaged]
    result.damaged_batches |= incomplete | {batch for batch, _ in damaged}
    if not damaged:
        result.violations += _small_arrays(store, incomplete)
    complete = [batch for batch in range(len(markers)) if batch not in incomplete]
    chosen = complete if all_batches else _spread(complete, BATCHES_LOOKED_INTO)
    for done, batch in enumerate(chosen):
        progress(done, len(chosen))
        marker = markers[batch]
        assert marker is not None, "a complete batch has a marker"
        found = list(_batch(store, marker))
        result.violations += found
        if found:
            result.damaged_batches.add(batch)
        result.batches_read.append(batch)
    progress(len(chosen), len(chosen))
    if result.sealed:
        result.violations += _seal(store, [m for m in markers if m is not None], not damaged)
    result.violations = list(dict.fromkeys(result.violations))
    return result


def unmark_damaged(storage: ObjectStorage, result: AuditResult) -> list[int]:
    """Remove the markers of damaged batches, so that the build command writes them again.

    Raises:
        CubeInUseError: a builder is at work.
    """
    with Lease(storage):
        PatchStore.open(storage).unmark(result.damaged_batches)
    return sorted(result.damaged_batches)


def _structure(storage: ObjectStorage) -> list[Violation]:
    root = storage.read(ROOT_KEY)
    if root is None:
        PatchStore.open(storage)  # Raises the sentence that fits.
    try:
        check_schema_version(dict(json.loads(root or b"{}").get("attributes", {})))
        group = zarr.open_group(storage.zarr_store(read_only=True), mode="r", use_consolidated=True)
        return find_violations(group)
    except SchemaVersionError as error:
        raise InputError(f"{storage}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        return [Violation("zarr.json", "readable metadata", f"{type(error).__name__}: {error}")]


def _objects(
    store: PatchStore, markers: Sequence[BatchMarker | None], sizes: Mapping[str, int]
) -> Iterator[Violation]:
    """Markers against the objects they list, and objects against the markers."""
    known: set[str] = set()
    for batch, marker in enumerate(markers):
        where = _batch_name(store, batch)
        if marker is None:
            yield Violation(where, "a completion marker", "none: run the build command again")
            continue
        known |= marker.objects.keys()
        for key, size in marker.objects.items():
            if sizes.get(key) != size:
                found = f"{sizes[key]} bytes" if key in sizes else "nothing"
                name = key.split("/c/")[0]
                yield Violation(f"{name}, {where}", f"{key} of {size} bytes", found)
    for key in sorted(sizes.keys() - known):
        name, _, chunk = key.partition("/c/")
        first = chunk.split("/")[0]
        if store.layout.roles.get(name) not in {"pixels", "patch", "location"} or not first:
            continue
        batch = int(first) if first.isdecimal() else len(markers)
        if batch >= len(markers) or markers[batch] is not None:
            yield Violation(f"{name}, batch {first}", f"no object {key}", "one of unknown origin")


def _unreadable_small_arrays(
    store: PatchStore, incomplete: set[int]
) -> Iterator[tuple[int, Violation]]:
    """Name small arrays whose bytes cannot be decoded, batch by batch."""
    group = store.group
    for name in store.layout.names("plan", "location", "patch"):
        array: Any = group[name]
        try:
            array[:]
        except Exception:  # noqa: BLE001 - codecs raise what they like on damaged bytes
            for batch in set(range(store.description.num_batches)) - incomplete:
                start, stop = store.description.batch_range(batch)
                try:
                    array[start:stop]
                except Exception as error:  # noqa: BLE001 - as above
                    yield batch, _unreadable_batch(store, name, batch, error)


def _unreadable_batch(store: PatchStore, name: str, batch: int, error: Exception) -> Violation:
    found = (str(error).splitlines() or [type(error).__name__])[0]
    return Violation(f"{name}, {_batch_name(store, batch)}", "readable bytes", found)


def _batch(store: PatchStore, marker: BatchMarker) -> Iterator[Violation]:
    """One batch's contents against its marker, and against each other."""
    where = _batch_name(store, marker.batch)
    arrays: dict[str, npt.NDArray[Any]] = {}
    group = store.group
    for name, expected in marker.arrays.items():
        try:
            values = np.asarray(group[name][marker.start : marker.stop])  # type: ignore[index]
        except Exception as error:  # noqa: BLE001 - codecs raise what they like on damaged bytes
            yield from _unreadable(store, name, marker, error)
            continue
        arrays[name] = values
        found = digest_of_array(values)
        if found != expected:
            yield Violation(f"{name}, {where}", f"content {expected[:12]}", f"{found[:12]}")
    if set(arrays) != set(marker.arrays):
        return
    packed = store.storage.read(histogram_key(marker.batch))
    try:
        counts = decode_counts(packed or b"")
    except Exception as error:  # noqa: BLE001 - a damaged archive may raise anything
        yield Violation(f"counts, {where}", histogram_key(marker.batch), f"damaged: {error}")
        counts = {}
    for name in store.description.products:
        for group_ in PRODUCTS[name].groups:
            if group_.array in counts and not np.array_equal(
                counts[group_.array], count_values(PRODUCTS[name], arrays[group_.array])
            ):
                yield Violation(f"{group_.array}, {where}", "the counted values", "other pixels")
    for contradiction in find_pixel_contradictions(store.description.products, arrays):
        yield _violation(store, marker.start, contradiction)


def _unreadable(
    store: PatchStore, name: str, marker: BatchMarker, first: Exception
) -> Iterator[Violation]:
    """Name the patches of a shard that cannot be decoded, or the batch where none can."""
    array: Any = store.group[name]
    found: list[Violation] = []
    places = list(product(range(marker.start, marker.stop), range(NUM_SEASONS)))
    if store.layout.roles[name] == "pixels":
        for index, season in places:
            try:
                array[index, season]
            except Exception as error:  # noqa: BLE001 - as above
                text = (str(error).splitlines() or [type(error).__name__])[0]
                where = f"{name}, {_place(store, index, season)}"
                found.append(Violation(where, "readable bytes", text))
    if len(found) in {0, len(places)}:
        yield _unreadable_batch(store, name, marker.batch, first)
    else:
        yield from found


def _small_arrays(store: PatchStore, incomplete: set[int]) -> Iterator[Violation]:
    """What must hold in every patch, pixels aside."""
    per_batch = store.description.locations_per_batch
    for start, small in read_small_arrays(store.group, store.layout):
        for found in find_contradictions(store.description.products, small):
            if (start + found.location) // per_batch not in incomplete:
                yield _violation(store, start, found)


def _violation(store: PatchStore, start: int, found: Contradiction) -> Violation:
    place = _place(store, start + found.location, found.season)
    return Violation(f"{found.what}, {place}", found.expected, found.found)


def _seal(store: PatchStore, markers: list[BatchMarker], readable: bool) -> Iterator[Violation]:
    """The seal against what it covers."""
    attributes = store.attributes
    if len(markers) == store.description.num_batches:
        try:
            found = derive_digest(store, markers)
        except SoftconError as error:
            found = str(error)
        if found != attributes.get("digest"):
            yield Violation("cube attribute digest", str(attributes.get("digest")), found)
    value = store.storage.read(PATCH_TABLE_KEY)
    if value is None:
        yield Violation(PATCH_TABLE_KEY, "the table of patches", "nothing: seal the cube again")
        return
    if hashlib.sha256(value).hexdigest() != attributes.get("patch_table_sha256"):
        expected = "the bytes that were sealed"
        yield Violation(PATCH_TABLE_KEY, expected, "other bytes: seal the cube again")
    try:
        table = pq.ParquetFile(io.BytesIO(value))
        rows, metadata = table.metadata.num_rows, table.metadata.metadata
    except Exception as error:  # noqa: BLE001 - arrow raises what it likes on damaged bytes
        yield Violation(PATCH_TABLE_KEY, "a readable table", str(error))
        return
    if metadata.get(b"softcon_digest") != str(attributes.get("digest")).encode():
        yield Violation(PATCH_TABLE_KEY, "the digest of this cube", "another")
    if not readable:
        return
    small_arrays = read_small_arrays(store.group, store.layout)
    num_patches = sum(int(patch_rows(small).sum()) for _, small in small_arrays)
    if rows != num_patches:
        yield Violation(PATCH_TABLE_KEY, f"{num_patches} rows", f"{rows}")


def _spread(batches: list[int], most: int) -> list[int]:
    """Choose first, last and evenly between: the same ones each time."""
    if len(batches) <= most:
        return batches
    chosen = np.linspace(0, len(batches) - 1, most).round().astype(int)
    return [batches[i] for i in chosen]


def _place(store: PatchStore, index: int, season: int) -> str:
    batch = index // store.description.locations_per_batch
    return f"batch {batch}, location {store.location_ids[index]}, season {season}"


def _batch_name(store: PatchStore, batch: int) -> str:
    start, stop = store.description.batch_range(batch)
    ids = store.location_ids
    return f"batch {batch} (locations {ids[start]} to {ids[stop - 1]})"
