"""Import a published data set into a cube: the source, its labels, and the cube they make."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from groundwork.errors import InputError
from pipeline.build.builder import Build, BuildProgress, BuildSummary, Execution, open_build
from pipeline.cube.object_storage import ObjectStorage
from pipeline.patches import LocationPatches
from pipeline.places.settings import SplitSettings
from pipeline.places.splits import assign_splits
from pipeline.sources.one_by_one import ReadsOneByOne
from pipeline.sources.ssl4eo_s12.labels import SeasonLabels, attach_labels, read_labels
from pipeline.sources.ssl4eo_s12.source import SSL4EOS12Source
from storage_schema.layout import LOCATIONS_PER_BATCH, CubeDescription
from storage_schema.products import ProductName
from storage_schema.status import Split

SOURCE: Final = {
    "name": "ssl4eo-s12",
    "format": "SSL4EO-S12 v1 GeoTIFF folders",
    "licence": "CC-BY-4.0",
    "attribution": "SSL4EO-S12: Wang et al. 2023, arXiv 2211.07044",
}
EARTH_ENGINE_IDS: Final[dict[ProductName, str]] = {
    "s2_l1c": "COPERNICUS/S2",
    "s2_l2a": "COPERNICUS/S2_SR",
}
"""SSL4EO-S12 v1 was cut before the harmonised collections existed."""


DEFAULT_SPLIT: Final = SplitSettings()
"""The blocks and shares of a rebuild: the published data have no splits."""


@dataclass(frozen=True, slots=True)
class ImportedSource(ReadsOneByOne):
    """A folder of imagery, with what it lacks: splits, and labels from a file; a `PatchSource`.

    Args:
        source: the folder.
        labels: the part of the label file that a batch needs; None without a file.
        split: into train, validation, test and buffer.
        split_seed: decides which block is what.
    """

    source: SSL4EOS12Source
    labels: Mapping[str, SeasonLabels] | None
    split: SplitSettings
    split_seed: int

    @property
    def products(self) -> tuple[ProductName, ...]:
        """The products of the folder."""
        return self.source.products

    def read_location(self, location_id: str) -> LocationPatches:
        """Read one location, find its split, and attach what the label file says of it."""
        location = self.source.read_location(location_id)
        if math.isfinite(location.longitude):
            location = replace(location, split=self._split_at(location))
        if self.labels is None:
            return location
        return attach_labels(location, self.labels.get(location_id))

    def _split_at(self, location: LocationPatches) -> Split:
        """Find the block a location lies in: its split depends on its place alone."""
        longitude, latitude = np.asarray([location.longitude]), np.asarray([location.latitude])
        return Split(int(assign_splits(longitude, latitude, self.split, self.split_seed)[0]))


def import_ssl4eo_s12(
    storage: ObjectStorage,
    root: Path,
    labels_file: Path | None = None,
    *,
    products: Sequence[ProductName] | None = None,
    locations_per_batch: int = LOCATIONS_PER_BATCH,
    split: SplitSettings = DEFAULT_SPLIT,
    split_seed: int = 0,
    execution: Execution | None = None,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> BuildSummary:
    """Import a folder in the published SSL4EO-S12 layout; the same call continues and repairs.

    Args and errors are those of `open_import`.
    """
    with open_import(
        storage,
        root,
        labels_file,
        products=products,
        locations_per_batch=locations_per_batch,
        split=split,
        split_seed=split_seed,
        execution=execution,
        retry_failed=retry_failed,
        progress=progress,
    ) as build:
        build.finish(build.pending)
    return build.summary


@contextlib.contextmanager
def open_import(
    storage: ObjectStorage,
    root: Path,
    labels_file: Path | None = None,
    *,
    products: Sequence[ProductName] | None = None,
    locations_per_batch: int = LOCATIONS_PER_BATCH,
    split: SplitSettings = DEFAULT_SPLIT,
    split_seed: int = 0,
    execution: Execution | None = None,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> Iterator[Build]:
    """Hold a cube while a folder in the published SSL4EO-S12 layout is imported into it.

    Args:
        storage: where the cube is, or is to be.
        root: folder that holds ``s1``, ``s2a``, ``s2c``, ``dw``, or any of them.
        labels_file: SSL4EO-S12-ML JSON.
        products: products to import; default: all that are there.
        locations_per_batch: locations per shard.
        split: into train, validation, test and buffer, by blocks of the Earth's surface.
        split_seed: decides which block is what.
        execution: how many workers.
        retry_failed: also read batches again that have failed or rejected patches.
        progress: told after every batch.

    Raises:
        InputError: no such folder or file, nothing in it, or as `open_build`.
    """
    source = SSL4EOS12Source.open(root, products)
    location_ids = source.location_ids()
    if not location_ids:
        raise InputError(f"{root} holds no location: its folders s1, s2a and s2c are empty")
    labels = None if labels_file is None else read_labels(labels_file)
    if labels is not None and labels.keys().isdisjoint(location_ids):
        raise InputError(
            f"label file {labels_file} names no location of {root} (its first is "
            f"{next(iter(labels), 'none')}, theirs {location_ids[0]}): give the file of these data"
        )
    settings: dict[str, Any] = {"split": split.model_dump(mode="json") | {"seed": split_seed}}
    if labels_file is not None:
        settings["labels_sha256"] = _sha256(labels_file)
    description = CubeDescription(
        num_locations=len(location_ids),
        products=source.products,
        source=SOURCE,
        earth_engine_ids={
            name: entry for name, entry in EARTH_ENGINE_IDS.items() if name in source.products
        },
        settings=settings,
        season_meaning="time order of the location's Sentinel-2 acquisitions, earliest first",
        locations_per_batch=locations_per_batch,
    )

    def source_of_batch(ids: Sequence[str]) -> ImportedSource:
        of_batch = labels and {name: labels[name] for name in ids if name in labels}
        return ImportedSource(source, of_batch, split, split_seed)

    with open_build(
        storage,
        description,
        location_ids,
        source_of_batch,
        execution=execution,
        retry_failed=retry_failed,
        progress=progress,
    ) as build:
        yield build
    if labels is not None:
        build.summary.counts["labels_without_imagery"] = len(labels.keys() - set(location_ids))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
