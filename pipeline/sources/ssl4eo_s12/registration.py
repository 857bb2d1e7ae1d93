"""The published SSL4EO-S12 folders as a registered source, with splits and the label file."""

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
from pipeline.patches import LocationPatches
from pipeline.places.settings import SplitSettings
from pipeline.places.splits import assign_splits
from pipeline.sources.one_by_one import ReadsOneByOne
from pipeline.sources.registry import BuildPlan
from pipeline.sources.ssl4eo_s12.labels import SeasonLabels, attach_labels, read_labels
from pipeline.sources.ssl4eo_s12.settings import ImportSettings
from pipeline.sources.ssl4eo_s12.source import SSL4EOS12Source
from storage_schema.layout import CubeDescription
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


class SSL4EOS12Kind:
    """A `SourceKind`: folders in the layout in which SSL4EO-S12 v1 was published."""

    name = "ssl4eo_s12"
    settings_model = ImportSettings

    @contextlib.contextmanager
    def open(self, settings: ImportSettings, folder: Path) -> Iterator[BuildPlan]:
        """Look at the folders and read the label file; see `SourceKind.open`."""
        source, location_ids = _open_folder(settings, folder)
        labels_file = None if settings.labels is None else folder / settings.labels
        labels = None if labels_file is None else read_labels(labels_file)
        if labels is not None and labels.keys().isdisjoint(location_ids):
            raise InputError(
                f"label file {labels_file} names no location of {folder / settings.root} (its "
                f"first is {next(iter(labels), 'none')}, theirs {location_ids[0]}): give the file "
                "of these data"
            )
        split = settings.split.model_dump(mode="json") | {"seed": settings.split_seed}
        shaping: dict[str, Any] = {"split": split}
        if labels_file is not None:
            shaping["labels_sha256"] = _sha256(labels_file)
        description = CubeDescription(
            num_locations=len(location_ids),
            products=source.products,
            source=SOURCE,
            earth_engine_ids={
                name: entry for name, entry in EARTH_ENGINE_IDS.items() if name in source.products
            },
            settings=shaping,
            season_meaning="time order of the location's Sentinel-2 acquisitions, earliest first",
            locations_per_batch=settings.locations_per_batch,
        )

        def source_of_batch(ids: Sequence[str]) -> ImportedSource:
            of_batch = labels and {name: labels[name] for name in ids if name in labels}
            return ImportedSource(source, of_batch, settings.split, settings.split_seed)

        counts = {}
        if labels is not None:
            counts["labels_without_imagery"] = len(labels.keys() - set(location_ids))
        yield BuildPlan(description, location_ids, source_of_batch, counts=counts)

    def num_locations(self, settings: ImportSettings, folder: Path) -> int:
        """Count the folders of locations; see `SourceKind.num_locations`."""
        return len(_open_folder(settings, folder)[1])

    def plan_requests(self, settings: ImportSettings, num_locations: int) -> None:
        """Return None: files cost no requests."""
        del settings, num_locations


KIND: Final = SSL4EOS12Kind()


def _open_folder(settings: ImportSettings, folder: Path) -> tuple[SSL4EOS12Source, list[str]]:
    root = folder / settings.root
    source = SSL4EOS12Source.open(root, settings.products)
    location_ids = source.location_ids()
    if not location_ids:
        raise InputError(f"{root} holds no location: its folders s1, s2a and s2c are empty")
    return source, location_ids


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
