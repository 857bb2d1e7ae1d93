"""One grid per SSL4EO-S12 location, out of what its images say and show.

Source: `pipeline.sources.ssl4eo_s12.georeference` and
``docs/decisions/0005-georeference-recovery.md``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from pipeline.sources.ssl4eo_s12.georeference import (
    Evidence,
    Offset,
    RecoveredGrid,
    correlate_offset,
    recover_grid,
)
from pipeline.sources.ssl4eo_s12.images import Image, ReadingLog
from storage_schema.products import PRODUCTS, ProductName, Role
from storage_schema.status import PatchStatus

_recover_once = lru_cache(maxsize=64)(recover_grid)
"""A location's images mostly share header and lattice."""

Slot = Mapping[ProductName, Image]
"""The images of one season slot."""


def locate(
    slots: Sequence[Slot], location_id: str, log: ReadingLog
) -> tuple[RecoveredGrid | None, tuple[float, float]]:
    """Estimate the location's grid from all its images; count the patches that lie on another one.

    Sentinel-2 decides, by majority, L1C before L2A; Sentinel-1 only where there is no Sentinel-2.

    Returns:
        The grid, or None; and the nominal centre (longitude, latitude, deg), NaN if there is none.
    """
    # The most trusted first.
    images = [slot[name] for name in PRODUCTS for slot in slots if name in slot]
    estimates = [(image, _estimate(image)) for image in images]
    centre = next((i.extent.centre for i in images if i.extent), (math.nan, math.nan))
    votes: Counter[tuple[int, float, float]] = Counter()
    for role in (Role.OPTICAL, Role.RADAR):
        for image, estimate in estimates:
            if estimate and _role(image) is role:
                votes[_place(estimate)] += 1
        if votes:
            break
    if not votes:
        if images:
            log.count(
                "grid_unknown",
                f"location {location_id}: neither files nor ids tell its UTM grid; pixels are kept",
            )
        return None, centre
    place = votes.most_common(1)[0][0]  # the first of equals
    sharing = [(image, e) for image, e in estimates if e is not None and _place(e) == place]
    grid = _confirm([image for image, _ in sharing], sharing[0][1])
    log.notes[f"grid_{grid.evidence.value}"] += 1
    if grid.offset_60m is not None:
        largest_m = max(abs(grid.offset_60m.east_m), abs(grid.offset_60m.south_m))
        log.notes[f"band_offset_60m_{largest_m:.0f}m"] += 1
    for image, estimate in estimates:
        if estimate is None and image.patch.status is PatchStatus.COMPLETE:
            log.count(
                "patches_without_grid",
                f"{image.folder.path}: its header and metadata do not tell where it lies; it is "
                "taken to lie where the location's other images do",
            )
        elif estimate is not None and _displaced(image, estimate, grid):
            log.count(
                "patches_on_another_grid",
                f"{image.folder.path}: its pixels lie on EPSG:{estimate.epsg} from "
                f"({estimate.x_origin:.0f}, {estimate.y_origin:.0f}), those of the location on "
                f"EPSG:{grid.epsg} from ({grid.x_origin:.0f}, {grid.y_origin:.0f}); kept as is",
            )
    return grid, centre


def _estimate(image: Image) -> RecoveredGrid | None:
    """Estimate an image's grid from its header and metadata alone."""
    if image.file_grid is not None:
        return image.file_grid
    if image.extent is None or image.folder.lattice is None:
        return None
    first_band_m = 10 if _role(image) is Role.RADAR else 60  # VV, B1
    return _recover_once(image.extent, image.folder.lattice, first_band_resolution_m=first_band_m)


def _role(image: Image) -> Role:
    return PRODUCTS[image.folder.product].role


def _place(grid: RecoveredGrid) -> tuple[int, float, float]:
    return grid.epsg, grid.x_origin, grid.y_origin


def _displaced(image: Image, estimate: RecoveredGrid, grid: RecoveredGrid) -> bool:
    """Tell whether an image lies elsewhere.

    S1 has a lattice of its own, up to one pixel away, and its estimate is good to one more.
    """
    if estimate.epsg != grid.epsg:
        return True
    tolerance_m = 20.0 if _role(image) is Role.RADAR else 0.0
    moved = max(abs(estimate.x_origin - grid.x_origin), abs(estimate.y_origin - grid.y_origin))
    return moved > tolerance_m


def _confirm(images: Sequence[Image], estimate: RecoveredGrid) -> RecoveredGrid:
    """Check an estimate against the pixels of its Sentinel-2 images, the clearest first.

    Clouds stand high above the ground and are displaced between bands, so one image that agrees
    outweighs others that do not; if none does, the clearest one's word is kept.
    """
    if estimate.evidence is Evidence.FROM_FILE:
        return estimate
    complete = [
        image
        for image in images
        if _role(image) is Role.OPTICAL and image.patch.status is PatchStatus.COMPLETE
    ]
    verdict = estimate
    for image in sorted(complete, key=_cloudiness):
        if image.extent is None or image.folder.lattice is None:
            continue
        measured_20m, measured_60m = _measure_offsets(image)
        checked = recover_grid(image.extent, image.folder.lattice, measured_20m, measured_60m)
        if checked is None:
            continue
        if checked.evidence is Evidence.CONFIRMED:
            return checked
        if verdict.evidence is Evidence.UNCHECKED or verdict is estimate:
            verdict = checked
    return verdict


def _cloudiness(image: Image) -> float:
    cloud = image.folder.acquisition.cloud_percentage
    return math.inf if cloud is None else cloud


def _measure_offsets(image: Image) -> tuple[Offset | None, Offset | None]:
    """Measure where an S2 image's 20 m and 60 m arrays lie relative to its 10 m array."""
    # Neighbouring wavelengths, nm: B8 833, B8A 865; B2 492, B1 443; B8 833, B9 945.
    measured_20m = correlate_offset([(image.band("B8"), image.band("B8A"))], factor=2, reach_px=3)
    pairs_60m = [(image.band("B2"), image.band("B1")), (image.band("B8"), image.band("B9"))]
    return measured_20m, correlate_offset(pairs_60m, factor=6, reach_px=7)
