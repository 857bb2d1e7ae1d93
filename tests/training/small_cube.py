"""A cube whose patches a tiny encoder can tell apart: smooth fields that follow the land cover."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from pipeline.patches import Acquisition, LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.one_by_one import ReadsOneByOne
from storage_schema.products import PRODUCT_NAMES, PRODUCTS, ProductName, published_statistics
from storage_schema.status import PatchStatus, Split, StatusReason
from tests.synthetic import describe_cube, location_names


@dataclass(frozen=True)
class SmoothSource(ReadsOneByOne):
    """Land cover in two halves; every band follows the class under it, with noise."""

    products: tuple[ProductName, ...] = PRODUCT_NAMES

    def read_location(self, location_id: str) -> LocationPatches:
        number = int(location_id)
        rng = np.random.default_rng(number)
        left, right = rng.integers(0, 9, 2)
        border = int(rng.integers(40, 224))
        seasons = []
        for season in range(1 + number % 4):
            label = np.full((264, 264), left, np.uint8)
            label[:, border:] = right
            seasons.append(self._season(location_id, number, season, label))
        split = (Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)[number // 4 % 4]
        return LocationPatches(
            location_id, number / 10, 1.0, 32631, 500_000.0 + 2640 * number, 60_000.0, 0.0,
            seasons, split,
        )  # fmt: skip

    def _season(
        self, location_id: str, number: int, season: int, label: np.ndarray
    ) -> SeasonPatches:
        rng = np.random.default_rng((number, season))
        patches: dict[ProductName, ProductPatch] = {}
        for name in self.products:
            acquisition = Acquisition(f"{location_id}_{season}", 1_600_000_000_000 + season)
            if name == "dynamic_world":
                pixels = {"dynamic_world_label": label}
            elif name == "s2_l2a" and number % 8 == 7:
                patches[name] = ProductPatch(PatchStatus.NO_ACQUISITION, StatusReason.NO_L2A)
                continue
            else:
                pixels = {}
                stats = published_statistics(name)
                for group in PRODUCTS[name].groups:
                    step = group.resolution_m // 10
                    cover = label[::step, ::step].astype(float) / 4 - 1
                    planes = []
                    for band in group.bands:
                        mean, std = stats[band]
                        noise = rng.normal(0, 0.2, cover.shape)
                        planes.append(mean + std * (cover + noise))
                    values = np.stack(planes) * (100 if name == "s1_grd" else 1)
                    least = 1 if name != "s1_grd" else -6000
                    pixels[group.array] = np.clip(values, least, 20000).astype(PRODUCTS[name].dtype)
            patches[name] = ProductPatch(
                PatchStatus.COMPLETE, acquisition=acquisition, pixels=pixels
            )
        return SeasonPatches(patches)


def write_cube(path: Path, num_locations: int) -> None:
    """Build and seal a cube."""
    storage = ObjectStorage(path)
    summary = build_cube(
        storage,
        describe_cube(num_locations, locations_per_batch=8),
        location_names(num_locations),
        lambda _: SmoothSource(),
    )
    assert not summary.failures
    seal_cube(storage)
