"""A source that makes patches up: a pure function of location id, quick, with every status."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import numpy as np

from pipeline.patches import Acquisition, LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.one_by_one import ReadsOneByOne
from storage_schema.layout import CubeDescription
from storage_schema.products import PRODUCT_NAMES, PRODUCTS, ProductName, Role
from storage_schema.status import OrbitPass, PatchStatus, StatusReason

DAY_MS = 86_400_000
START_MS = 1_600_000_000_000


def location_names(num: int) -> list[str]:
    return [f"{index:07d}" for index in range(num)]


def describe_cube(
    num_locations: int,
    products: tuple[ProductName, ...] = PRODUCT_NAMES,
    locations_per_batch: int = 2,
    **changes: object,
) -> CubeDescription:
    return CubeDescription.model_validate(
        {
            "num_locations": num_locations,
            "products": products,
            "source": {"name": "synthetic"},
            "season_meaning": "time order",
            "locations_per_batch": locations_per_batch,
            **changes,
        }
    )


@dataclass(frozen=True)
class SyntheticSource(ReadsOneByOne):
    """Patches with invalid pixels, missing seasons and failures, by location.

    `render_once` gives every location the same pixels: a pre-rendered patch costs nothing to make.
    """

    products: tuple[ProductName, ...] = PRODUCT_NAMES
    num_seasons: int = 2
    pause_s: float = 0.0
    render_once: bool = False
    salt: str = ""
    _rendered: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    def read_location(self, location_id: str) -> LocationPatches:
        if self.pause_s:
            time.sleep(self.pause_s)
        number = int(location_id)
        seasons = [self._season(location_id, season) for season in range(self.num_seasons)]
        return LocationPatches(
            location_id,
            longitude=-75.0 + (number % 100) / 50,
            latitude=37.0 + (number // 100) / 50,
            epsg=32618,
            x_origin=400_000.0 + 2640 * (number % 100),
            y_origin=4_100_000.0 + 2640 * (number // 100),
            georeference_error_m=0.0,
            seasons=seasons,
            notes={"made_up": 1},
        )

    def _season(self, location_id: str, season: int) -> SeasonPatches:
        return SeasonPatches(
            {name: self._product(location_id, season, name) for name in self.products}
        )

    def _product(self, location_id: str, season: int, name: ProductName) -> ProductPatch:
        number = int(location_id)
        if number % 7 == 5 and name == "s2_l2a":
            return ProductPatch(PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, detail="made up")
        radar = PRODUCTS[name].role is Role.RADAR
        when = START_MS + (91 * season + number % 90) * DAY_MS
        acquisition = Acquisition(
            id=f"{'S1A' if radar else 'S2'}_{location_id}_{season}",
            time_ms=when,
            cloud_percentage=None if radar else float(number % 20),
            orbit_pass=OrbitPass.DESCENDING,
            relative_orbit=number % 143 + 1,
            sun_elevation_deg=None if radar else 45.0,
        )
        key = f"{season}/{name}" if self.render_once else f"{location_id}/{season}/{name}"
        pixels = self._rendered.get(key) if self.render_once else None
        if pixels is None:
            pixels = _render(name, f"{self.salt}{key}")
            if self.render_once:
                self._rendered[key] = pixels
        return ProductPatch(PatchStatus.COMPLETE, acquisition=acquisition, pixels=pixels)  # type: ignore[arg-type]


def _render(name: ProductName, key: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()[:8]))
    pixels: dict[str, np.ndarray] = {}
    for group in PRODUCTS[name].groups:
        side = group.size_px
        if PRODUCTS[name].role is Role.LABELS:
            label = np.kron(rng.integers(0, 9, (12, 12)), np.ones((22, 22))).astype(np.uint8)
            label[: rng.integers(0, 30)] = 255
            pixels[group.array] = label
        elif PRODUCTS[name].role is Role.RADAR:
            values = rng.normal(-1500, 400, (len(group.bands), side, side)).astype(np.int16)
            values[:, :, : rng.integers(0, 9)] = -32768
            pixels[group.array] = values
        else:
            values = rng.integers(200, 3000, (len(group.bands), side, side), dtype=np.uint16)
            values[:, : rng.integers(0, 4)] = 0
            pixels[group.array] = values
    return pixels
