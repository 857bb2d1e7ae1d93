"""The cube as a store of batches: begun once, filled batch by batch, then sealed.

A batch is one shard of every array and has one owner. It is written whole, its completion marker
last; a batch without marker, or one whose objects are not all there, is pending and is written
whole again. The order of writing makes two promises: the root metadata comes last when a cube is
begun, so a cube that opens is complete in structure; and `patch_status` comes after all pixels, so
a patch that says "complete" is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import blosc
from pydantic import ValidationError

from groundwork.errors import InputError, SoftconError
from pipeline.cube.lease import check_lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.statistics import count_values, encode_counts
from pipeline.errors import CubeDamagedError
from storage_schema.conformance import read_layout
from storage_schema.layout import (
    CubeDescription,
    Layout,
    SchemaVersionError,
    check_schema_version,
    coordinate_values,
    describe,
)
from storage_schema.products import PRODUCTS, Product
from storage_schema.status import PatchStatus

ROOT_KEY: Final = "zarr.json"
BEGUN_KEY: Final = "provenance/begun.json"
"""The first object of a cube: tells a half-begun cube from somebody else's folder."""
STATUS_ARRAY: Final = "patch_status"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BatchMarker:
    """What a completed batch consists of.

    Args:
        batch: its number.
        start: first location.
        stop: the location after its last.
        arrays: array name -> sha256 of its decoded content.
        objects: key -> size in bytes of everything the batch stored.
        counts: what happened on the way, by name.
        warnings: one sentence each.
    """

    batch: int
    start: int
    stop: int
    arrays: Mapping[str, str]
    objects: Mapping[str, int]
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """The batch's content in one number."""
        return digest_of({"start": self.start, "stop": self.stop, "arrays": dict(self.arrays)})

    def encode(self) -> bytes:
        """Return the JSON text."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, indent=1, sort_keys=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self | None:
        """Read the JSON text; None where it is damaged: the batch then counts as pending."""
        try:
            return cls(**json.loads(value))
        except (ValueError, TypeError):
            return None


class PatchStore:
    """One cube in one place.

    Instances are picklable; Dask workers write their batches through their own copies.
    """

    def __init__(self, storage: ObjectStorage, layout: Layout) -> None:
        self.storage = storage
        self.layout = layout

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.storage, self.layout.description)

    # --- begin and open -----------------------------------------------------------------------

    @classmethod
    def open(cls, storage: ObjectStorage) -> Self:
        """Open a cube that exists.

        Raises:
            InputError: there is none, it is none of ours, or of another schema version.
        """
        value = storage.read(ROOT_KEY)
        if value is None:
            begun = storage.read(BEGUN_KEY) is not None
            raise InputError(
                f"{storage} was begun but never completed in structure: run the same build again"
                if begun
                else f"there is no cube at {storage}: check the path"
            )
        try:
            check_schema_version(json.loads(value).get("attributes", {}))
            group = zarr.open_group(storage.zarr_store(read_only=True), mode="r")
            return cls(storage, read_layout(group))
        except SchemaVersionError as error:
            raise InputError(f"{storage}: {error}") from error
        except (ValidationError, KeyError, ValueError) as error:
            raise InputError(
                f"{storage} cannot be read as a cube: its root attributes are damaged "
                f"({str(error).splitlines()[0]}); build it again"
            ) from error

    @classmethod
    def begin(
        cls,
        storage: ObjectStorage,
        description: CubeDescription,
        location_ids: Sequence[str],
    ) -> Self:
        """Create a cube, or open the one that the same plan began.

        The caller holds the lease.

        Args:
            storage: an empty place, or one with this very cube.
            description: what the cube is made of.
            location_ids: one unique id per location, in order.

        Raises:
            InputError: the place is taken by something else, or the cube has another plan.
        """
        if len(set(location_ids)) != description.num_locations:
            raise InputError(
                f"{len(location_ids)} location ids, {len(set(location_ids))} different, for "
                f"{description.num_locations} locations: ids have to be unique and complete"
            )
        if storage.read(ROOT_KEY) is None:
            return cls._create(storage, description, location_ids)
        store = cls.open(storage)
        if (difference := store._difference(description, location_ids)) is not None:
            raise InputError(
                f"{storage} was begun with another plan ({difference}): choose another place, or "
                "the same input as before"
            )
        store._remove_partial_files()
        return store

    @classmethod
    def _create(
        cls, storage: ObjectStorage, description: CubeDescription, location_ids: Sequence[str]
    ) -> Self:
        check_place(storage)
        storage.write(BEGUN_KEY, description.model_dump_json(indent=1).encode())
        layout = describe(description)
        for name, spec in layout.arrays.items():
            # The specification is the array's metadata document, word for word.
            storage.write(f"{name}/{ROOT_KEY}", json.dumps(spec.model_dump(), indent=1).encode())
        store = cls(storage, layout)
        for dim, (values, dtype, _) in coordinate_values(description.products).items():
            store._write_array(dim, np.asarray(values, dtype=_numpy_dtype(dtype)))
        store._write_array("location_id", np.asarray(location_ids, dtype=object))
        store._write_root(layout.attributes)
        return store

    def _difference(self, wanted: CubeDescription, location_ids: Sequence[str]) -> str | None:
        for name in type(wanted).model_fields:
            mine, theirs = getattr(self.layout.description, name), getattr(wanted, name)
            if json.loads(json.dumps(mine)) != json.loads(json.dumps(theirs)):
                was, now = (json.dumps(value, default=list) for value in (mine, theirs))
                return f"{name.replace('_', ' ')}: then {was}, now {now}"
        for index, (mine, theirs) in enumerate(zip(self.location_ids, location_ids, strict=True)):
            if mine != theirs:
                return f"location {index}: then {mine}, now {theirs}"
        return None

    # --- what is there ------------------------------------------------------------------------

    @property
    def description(self) -> CubeDescription:
        """What the cube is made of."""
        return self.layout.description

    @property
    def group(self) -> zarr.Group:
        """The cube, opened for reading through its consolidated metadata."""
        return zarr.open_group(self.storage.zarr_store(read_only=True), mode="r")

    @property
    def attributes(self) -> dict[str, Any]:
        """The root attributes as they are now."""
        return dict(json.loads(self.storage.read(ROOT_KEY) or b"{}").get("attributes", {}))

    @property
    def is_sealed(self) -> bool:
        """Whether `seal` has been completed."""
        return bool(self.attributes.get("sealed"))

    @cached_property
    def location_ids(self) -> list[str]:
        """The ids, in order."""
        try:
            return [str(name) for name in np.asarray(self._array("location_id")[:])]
        except Exception as error:  # codecs raise what they like on damaged bytes
            raise CubeDamagedError(
                f"{self.storage}: the location ids (location_id/c/0) are damaged: restore this "
                "object from a copy, or build the cube again elsewhere"
            ) from error

    def read_marker(self, batch: int) -> BatchMarker | None:
        """Return a batch's marker; None where it has none or it is damaged."""
        value = self.storage.read(marker_key(batch))
        marker = BatchMarker.decode(value) if value is not None else None
        return marker if marker is not None and marker.batch == batch else None

    def read_markers(self) -> list[BatchMarker | None]:
        """Return the markers of all batches, in order."""
        return [self.read_marker(batch) for batch in range(self.description.num_batches)]

    def pending_batches(self) -> list[int]:
        """Return the batches to write: no marker, or objects missing or of another size."""
        sizes = self.storage.list_sizes()
        return [
            batch
            for batch, marker in enumerate(self.read_markers())
            if marker is None or any(sizes.get(key) != size for key, size in marker.objects.items())
        ]

    def failed_batches(self) -> list[int]:
        """Return the complete batches with a patch that failed or was rejected."""
        status = np.asarray(self._array(STATUS_ARRAY)[:])
        wrong = (status == PatchStatus.FAILED) | (status == PatchStatus.REJECTED)
        locations = np.flatnonzero(wrong.any(axis=(1, 2)))
        return sorted({int(i) // self.description.locations_per_batch for i in locations})

    # --- writing ------------------------------------------------------------------------------

    def write_batch(
        self,
        batch: int,
        arrays: dict[str, npt.NDArray[Any]],
        *,
        lease_token: str,
        counts: Mapping[str, int] | None = None,
        warnings: Sequence[str] = (),
    ) -> BatchMarker:
        """Write one batch whole, its marker last.

        Args:
            batch: its number.
            arrays: every array of the roles pixels, location and patch; the first dimension holds
                the batch's locations; dtypes as stored. It is emptied: what is written is not held
                any longer, since a batch takes half a gigabyte and the next one is on its way.
            lease_token: of the builder; checked before the first and the last write.
            counts: for the marker.
            warnings: for the marker.

        Raises:
            LeaseLostError: another builder has taken over.
            LimitReachedError: the disk is full.
        """
        start, stop = self.description.batch_range(batch)
        names = self.layout.names("pixels", "location", "patch")
        self._check_arrays(arrays, names, stop - start)
        check_lease(self.storage, lease_token)
        # The marker goes first and the status next: from here on nobody takes the batch for done.
        status_keys = list(self.storage.list_sizes(f"{STATUS_ARRAY}/c/{batch}"))
        self.storage.delete([marker_key(batch), *status_keys])
        products = self._products_of_arrays()
        digests: dict[str, str] = {}
        counted: dict[str, npt.NDArray[np.int64]] = {}
        for name in (*(n for n in names if n != STATUS_ARRAY), STATUS_ARRAY):
            values = arrays.pop(name)
            if name == STATUS_ARRAY:
                packed = encode_counts(counted)
                self.storage.write(histogram_key(batch), packed)
            self._write_batch_array(batch, name, values)
            digests[name] = digest_of_array(values)
            if name in products:
                counted[name] = count_values(products[name], values)
            del values
        objects = {
            key: size for name in names for key, size in self._batch_keys(name, batch).items()
        }
        objects[histogram_key(batch)] = len(packed)
        marker = BatchMarker(
            batch=batch,
            start=start,
            stop=stop,
            arrays={name: digests[name] for name in names},
            objects=objects,
            counts=dict(counts or {}),
            warnings=list(warnings),
        )
        check_lease(self.storage, lease_token)
        if not self.storage.create(marker_key(batch), marker.encode()):
            raise SoftconError(f"batch {batch} of {self.storage} was completed by another builder")
        return marker

    def unmark(self, batches: Iterable[int]) -> None:
        """Remove the markers of batches: the next build writes them again."""
        self.storage.delete(marker_key(batch) for batch in batches)

    def _check_arrays(self, arrays: Arrays, names: Sequence[str], num_locations: int) -> None:
        if set(arrays) != set(names):
            raise ValueError(f"arrays differ from the layout: {sorted(set(arrays) ^ set(names))}")
        for name in names:
            spec = self.layout.arrays[name]
            shape = (num_locations, *spec.shape[1:])
            dtype = _numpy_dtype(str(spec.data_type))
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}, not {dtype} {shape}"
                )

    def _products_of_arrays(self) -> dict[str, Product]:
        """Return array of pixels -> its product."""
        return {
            group.array: PRODUCTS[name]
            for name in self.description.products
            for group in PRODUCTS[name].groups
        }

    def _batch_keys(self, name: str, batch: int) -> dict[str, int]:
        """Return key -> size of what a batch has stored in one array."""
        if len(self.layout.arrays[name].shape) > 1:
            return self.storage.list_sizes(f"{name}/c/{batch}")
        key = f"{name}/c/{batch}"
        size = self.storage.size(key)
        return {} if size is None else {key: size}

    def _array(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(self.storage.zarr_store(), path=name, mode="r+")

    def _write_batch_array(self, batch: int, name: str, values: npt.NDArray[Any]) -> None:
        """Replace a batch's part of an array, object by object: readers see old or new."""
        start, _ = self.description.batch_range(batch)
        try:
            self._write_array(name, values, start)
        except SoftconError:
            raise
        except Exception:  # noqa: BLE001 - codecs raise what they like on damaged bytes
            # zarr reads a shard's index before replacing it; a damaged one has to go first.
            self.storage.delete(list(self._batch_keys(name, batch)))
            self._write_array(name, values, start)

    def _write_array(self, name: str, values: npt.NDArray[Any], start: int = 0) -> None:
        # Blosc's own threads finish in any order and leave other bytes each time.
        blosc.use_threads = False

        def write() -> None:
            self._array(name)[start : start + len(values)] = values

        _storing(self.storage, name, write)

    def _write_root(self, attributes: Mapping[str, Any]) -> None:
        """Write the root document with the metadata of all arrays, in one atomic put."""
        document = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": dict(attributes),
            "consolidated_metadata": {
                "kind": "inline",
                "must_understand": False,
                "metadata": self.array_documents(),
            },
        }
        self.storage.write(ROOT_KEY, json.dumps(document, indent=1).encode())

    def array_documents(self) -> dict[str, dict[str, Any]]:
        """Return array name -> its stored ``zarr.json``.

        Raises:
            CubeDamagedError: one is missing.
        """
        documents = {}
        for name in self.layout.arrays:
            value = self.storage.read(f"{name}/{ROOT_KEY}")
            if value is None:
                raise CubeDamagedError(f"{self.storage}: {name}/{ROOT_KEY} is missing")
            documents[name] = json.loads(value)
        return documents

    def write_attributes(
        self, array_attributes: Mapping[str, Mapping[str, Any]], root: Mapping[str, Any]
    ) -> None:
        """Add attributes to arrays, then to the root: the last write makes them visible at once."""
        for name, added in array_attributes.items():
            key = f"{name}/{ROOT_KEY}"
            document = json.loads(self.storage.read(key) or b"{}")
            document["attributes"] = {**document.get("attributes", {}), **added}
            self.storage.write(key, json.dumps(document, indent=1).encode())
        self._write_root({**self.attributes, **root})

    def _remove_partial_files(self) -> None:
        """Clear away what a killed builder left of files it was still writing."""
        self.storage.delete(key for key in self.storage.list_sizes() if key.endswith(".partial"))


BATCHES: Final = "batches"


def marker_key(batch: int) -> str:
    """Return where a batch's marker stands."""
    return f"{BATCHES}/{batch:06d}.json"


def histogram_key(batch: int) -> str:
    """Return where a batch's counts of pixel values stand."""
    return f"{BATCHES}/{batch:06d}.counts.npz"


def check_place(storage: ObjectStorage) -> None:
    """Raise `InputError` where a new cube would be written among somebody else's files."""
    if storage.is_empty() or storage.read(BEGUN_KEY) is not None:
        return
    if set(storage.list_sizes()) <= {"lease.json", ".lease.json.lock"}:
        return
    raise InputError(f"{storage} is not empty and holds no cube: choose another place, or empty it")


def content_digests(layout: Layout, arrays: Arrays) -> dict[str, str]:
    """Return array name -> sha256 of a batch's content, as its marker records it."""
    names = layout.names("pixels", "location", "patch")
    return {name: digest_of_array(arrays[name]) for name in names}


def digest_of_array(values: npt.NDArray[Any]) -> str:
    """Return the sha256 of an array: dtype and shape, then little-endian bytes or strings."""
    digest = hashlib.sha256()
    if values.dtype == object or values.dtype.kind == "T":
        strings = [str(value) for value in values.ravel()]
        digest.update(json.dumps(["string", values.shape, strings]).encode())
        return digest.hexdigest()
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest.update(json.dumps([values.dtype.name, values.shape]).encode())
    digest.update(little.data.cast("B") if little.size else b"")
    return digest.hexdigest()


def digest_of(value: object) -> str:
    """Return the sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(object) if name == "string" else np.dtype(name)


def _storing(storage: ObjectStorage, name: str, write: Callable[[], object]) -> None:
    """Run a write through zarr; a full disk becomes a sentence."""
    try:
        write()
    except OSError as error:
        raise storage.translate(error, f"writing {name}") from error


def _reopen(storage: ObjectStorage, description: CubeDescription) -> PatchStore:
    return PatchStore(storage, describe(description))
