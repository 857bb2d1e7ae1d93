"""Audit a cube: structure, markers, stored bytes, and contents against each other.

Everything is reported with array, batch and location; nothing is repaired here. Small arrays are
checked wholly, pixels for a spread of batches (all of them on request).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import zarr

from pipeline.class_fractions import count_classes
from pipeline.errors import InputError, SoftconError
from pipeline.object_storage import ObjectStorage
from pipeline.patch_store import BatchMarker, PatchStore, digest_of_array, histogram_key
from pipeline.patch_table import PATCH_TABLE_KEY, SmallArrays, patch_rows, read_small_arrays
from pipeline.patches import valid_fraction
from pipeline.seal import derive_digest
from pipeline.statistics import count_values, decode_counts
from storage_schema.conformance import Violation, find_violations
from storage_schema.land_cover import UNKNOWN, LabelStatus
from storage_schema.layout import NO_TIME, NUM_SEASONS, SchemaVersionError
from storage_schema.products import PRODUCTS, ProductName
from storage_schema.status import PatchStatus, StatusReason

BATCHES_LOOKED_INTO: Final = 8
FRACTION_TOLERANCE: Final = 0.01
"""Fractions from a resampled land-cover raster follow sub-pixels, not the stored label map."""
EXACT_TOLERANCE: Final = 1e-6

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class AuditResult:
    """What was looked at, and every violation found."""

    violations: list[Violation] = field(default_factory=list)
    num_batches: int = 0
    batches_read: list[int] = field(default_factory=list)
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
    try:
        store = PatchStore.open(storage)
    except InputError:
        violations = _structure(storage)
        return AuditResult(violations)
    result = AuditResult(num_batches=store.description.num_batches, sealed=store.is_sealed)
    result.violations += _structure(storage)
    if result.violations:
        return result  # Contents of arrays that are not as described cannot be judged.
    markers, sizes = store.read_markers(), storage.list_sizes()
    incomplete = {
        batch
        for batch, marker in enumerate(markers)
        if marker is None or not sizes.keys() >= marker.objects.keys()
    }
    result.violations += _objects(store, markers, sizes)
    damaged = list(_unreadable_small_arrays(store, incomplete))
    result.violations += damaged
    if not damaged:
        result.violations += _small_arrays(store, incomplete)
    complete = [batch for batch in range(len(markers)) if batch not in incomplete]
    chosen = complete if all_batches else _spread(complete, BATCHES_LOOKED_INTO)
    for done, batch in enumerate(chosen):
        progress(done, len(chosen))
        marker = markers[batch]
        assert marker is not None, "a complete batch has a marker"
        result.violations += _batch(store, marker)
        result.batches_read.append(batch)
    progress(len(chosen), len(chosen))
    if result.sealed:
        result.violations += _seal(store, [m for m in markers if m is not None], not damaged)
    result.violations = list(dict.fromkeys(result.violations))
    return result


def _structure(storage: ObjectStorage) -> list[Violation]:
    try:
        group = zarr.open_group(storage.zarr_store(read_only=True), mode="r", use_consolidated=True)
        return find_violations(group)
    except SchemaVersionError as error:
        raise InputError(f"{storage}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"there is no cube at {storage}: check the path") from error
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


def _unreadable_small_arrays(store: PatchStore, incomplete: set[int]) -> Iterator[Violation]:
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
                    yield _unreadable_batch(store, name, batch, error)


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
    for index in range(marker.stop - marker.start):
        for season in range(arrays["patch_status"].shape[1]):
            yield from _patch(store, arrays, marker.start, index, season)


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


def _patch(
    store: PatchStore,
    arrays: dict[str, npt.NDArray[Any]],
    start: int,
    index: int,
    season: int,
) -> Iterator[Violation]:
    """Status against pixels, fractions against the label map."""
    at = index, season
    for position, name in enumerate(store.description.products):
        described = PRODUCTS[name]
        pixels = {group.array: arrays[group.array][at] for group in described.groups}
        where = f"{name}, {_place(store, start + index, season)}"
        if arrays["patch_status"][at][position] != PatchStatus.COMPLETE:
            if any((values != described.fill_value).any() for values in pixels.values()):
                yield Violation(where, "no pixels: it is not complete", "pixels")
            continue
        fraction = float(arrays["valid_fraction"][at][position])
        found = valid_fraction(described, pixels)
        if not abs(fraction - found) <= EXACT_TOLERANCE:
            yield Violation(f"valid_fraction of {where}", f"{found:.6f}", f"{fraction:.6f}")
        low, high = described.valid_range
        for array, values in pixels.items():
            stray = values[(values < low) | (values > high)]
            stray = stray[stray != described.fill_value]
            if stray.size:
                yield Violation(f"{array}, {where}", f"values {low} to {high}", f"{stray[0]}")
        if name == "dynamic_world":
            yield from _fractions(arrays, at, pixels["dynamic_world_label"], where)


def _fractions(
    arrays: dict[str, npt.NDArray[Any]], at: tuple[int, int], label: npt.NDArray[Any], where: str
) -> Iterator[Violation]:
    try:
        counts = count_classes(label)
    except InputError as error:
        yield Violation(where, "Dynamic World classes", str(error))
        return
    stored = arrays["class_fraction"][at]
    if not counts.sum():
        if not np.isnan(stored).all():
            yield Violation(f"class_fraction of {where}", "NaN: no valid pixel", f"{stored}")
        return
    wanted = counts / counts.sum()
    if not (np.abs(stored - wanted) <= FRACTION_TOLERANCE).all():
        yield Violation(
            f"class_fraction of {where}", f"{np.round(wanted, 4)}", f"{np.round(stored, 4)}"
        )


def _small_arrays(store: PatchStore, incomplete: set[int]) -> Iterator[Violation]:
    """What must hold in every patch, pixels aside."""
    per_batch = store.description.locations_per_batch
    for start, small in read_small_arrays(store.group, store.layout):
        for index in range(len(small["location_id"])):
            if (start + index) // per_batch not in incomplete:
                yield from _location(store, small, start, index)


def _location(store: PatchStore, small: SmallArrays, start: int, index: int) -> Iterator[Violation]:
    if int(small["epsg"][index]) and not _is_utm(int(small["epsg"][index])):
        where = f"epsg, location {store.location_ids[start + index]}"
        yield Violation(where, "a UTM zone of WGS 84", f"{small['epsg'][index]}")
    for season in range(small["patch_status"].shape[1]):
        place = _place(store, start + index, season)
        yield from _provenance(store.description.products, small, (index, season), place)
        yield from _labels(small, (index, season), place)


def _provenance(
    products: Sequence[ProductName], small: SmallArrays, at: tuple[int, int], place: str
) -> Iterator[Violation]:
    status, reason = small["patch_status"][at], small["status_reason"][at]
    ids = [str(name) for name in small["acquisition_id"][at]]
    for position, name in enumerate(products):
        if status[position] == PatchStatus.PENDING:
            yield Violation(f"patch_status of {name}, {place}", "an outcome", "pending")
        elif status[position] not in set(PatchStatus):
            yield Violation(f"patch_status of {name}, {place}", "a status", f"{status[position]}")
        if reason[position] not in set(StatusReason):
            yield Violation(f"status_reason of {name}, {place}", "a reason", f"{reason[position]}")
        if status[position] == PatchStatus.COMPLETE:
            if not ids[position]:
                yield Violation(f"acquisition_id of {name}, {place}", "an id", "none")
            if small["acquisition_time"][at][position] == NO_TIME:
                yield Violation(f"acquisition_time of {name}, {place}", "a time", "none")
    by_name = {name: i for i, name in enumerate(products) if status[i] == PatchStatus.COMPLETE}
    optical = by_name.get("s2_l1c", by_name.get("s2_l2a"))
    labels = by_name.get("dynamic_world")
    # Dynamic World is made from one L1C image and shares its id.
    if optical is not None and labels is not None and ids[optical] != ids[labels]:
        yield Violation(
            f"acquisition_id of dynamic_world, {place}",
            f"that of {products[optical]}, {ids[optical]}",
            ids[labels],
        )
    if {"s2_l1c", "s2_l2a"} <= set(by_name):
        surface = by_name["s2_l2a"]
        differ = ids[by_name["s2_l1c"]] != ids[surface]
        flagged = reason[surface] == StatusReason.ACQUISITION_DIFFERS
        if differ != flagged:
            yield Violation(
                f"status_reason of s2_l2a, {place}",
                "acquisition_differs" if differ else "none: it is the L1C acquisition",
                StatusReason(reason[surface]).name.lower(),
            )


def _labels(small: SmallArrays, at: tuple[int, int], place: str) -> Iterator[Violation]:
    status, present = small["label_status"][at], small["class_present"][at]
    fractions = small["class_fraction"][at]
    if status not in set(LabelStatus):
        yield Violation(f"label_status, {place}", "a status", f"{status}")
    labelled = status == LabelStatus.LABELLED
    if labelled == bool((present == UNKNOWN).any()):
        expected = "0 and 1: it is labelled" if labelled else f"{UNKNOWN}: it is not labelled"
        yield Violation(f"class_present, {place}", expected, f"{present}")
    if not np.isnan(fractions).all():
        total = float(np.sum(fractions, dtype=np.float64))
        if not abs(total - 1) <= EXACT_TOLERANCE * len(fractions) or (fractions < 0).any():
            yield Violation(f"class_fraction, {place}", "fractions that sum to 1", f"{total:.7f}")
        if not small["labelled_fraction"][at] > 0:
            yield Violation(f"labelled_fraction, {place}", "above 0", "nothing labelled")


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
    expected = sum(int(patch_rows(small).sum()) for _, small in small_arrays)
    if rows != expected:
        yield Violation(PATCH_TABLE_KEY, f"{expected} rows", f"{rows}")


def _spread(batches: list[int], most: int) -> list[int]:
    """Choose first, last and evenly between: the same ones each time."""
    if len(batches) <= most:
        return batches
    chosen = np.linspace(0, len(batches) - 1, most).round().astype(int)
    return [batches[i] for i in chosen]


def _is_utm(epsg: int) -> bool:
    return 32601 <= epsg <= 32660 or 32701 <= epsg <= 32760


def _place(store: PatchStore, index: int, season: int) -> str:
    batch = index // store.description.locations_per_batch
    return f"batch {batch}, location {store.location_ids[index]}, season {season}"


def _batch_name(store: PatchStore, batch: int) -> str:
    start, stop = store.description.batch_range(batch)
    ids = store.location_ids
    return f"batch {batch} (locations {ids[start]} to {ids[stop - 1]})"
