"""The report's gallery: which patches to show, and everything that is shown of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import zarr

from groundwork.errors import unknown_choice
from pages.formats import place, utc
from pages.images import jpeg_uri, palette_png
from pipeline.patches import Pixels
from pipeline.report.labels import differing_classes
from pipeline.report.patch_pictures import (
    LABEL_COLOURS,
    label_indices,
    optical_picture,
    sar_picture,
)
from pipeline.report.small_arrays import SmallArrays, code_name, has_time, read_array
from storage_schema.land_cover import CLASSES, PRESENT, LabelStatus
from storage_schema.products import PRODUCTS, ProductName, Role, of_role, patch_size_px
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason

_MAX_PICTURE_BYTES: Final = 6_000_000
"""Pictures stop here: with everything else the page stays below 8 MB, which mail still takes."""
_TYPICAL_FRACTION: Final = 0.6
"""A patch that shows a class: mostly of it, but not of it alone."""


def choose_patches(arrays: SmallArrays, num_patches: int) -> tuple[tuple[int, int], ...]:
    """Choose (location, season) pairs to show, spread over classes and locations.

    One patch whose sources contradict each other (if there is any), one that shows each class,
    rarest first, and the rest evenly over the location list. Patches with more products and
    locations not yet shown go first. The same cube always gives the same choice.

    Returns:
        pairs in the order of the cube; fewer than `num_patches` where the cube has fewer.
    """
    has_patch = arrays.has_patch
    num_missing = (~arrays.complete).sum(axis=-1).astype(np.float64)
    chosen: list[tuple[int, int]] = []
    shown = np.zeros(len(arrays.location_id), dtype=bool)

    def pick(score: npt.NDArray[np.float64]) -> None:
        if len(chosen) == num_patches:
            return
        # Both outweigh a class score: a location is shown again, and a patch that lacks products
        # is shown, only where no other has the class.
        cost = np.where(has_patch, score + 2.0 * num_missing + 1.0 * shown[:, None], np.inf)
        for location, season in chosen:
            cost[location, season] = np.inf
        best = divmod(int(np.argmin(cost)), cost.shape[1])
        if np.isfinite(cost[best]):
            chosen.append(best)
            shown[best[0]] = True

    contradicts = differing_classes(arrays).any(axis=-1) | (
        arrays.status_reason == StatusReason.ACQUISITION_DIFFERS
    ).any(axis=-1)
    pick(np.where(contradicts, 0.0, np.inf))
    present = arrays.class_present == PRESENT
    for index in np.argsort(present.sum(axis=(0, 1)), kind="stable"):
        fraction = arrays.class_fraction[..., index].astype(np.float64)
        distance = np.where(fraction > 0, np.abs(fraction - _TYPICAL_FRACTION), np.inf)
        only_listed = present[..., index] & np.isnan(fraction)
        pick(np.where(only_listed, 1.0, distance))
    num_locations = len(arrays.location_id)
    position = (np.arange(num_locations) + 0.5) / num_locations
    for k in range(num_patches - len(chosen)):
        target = (k + 0.5) / max(num_patches - len(chosen), 1)
        pick(np.repeat(np.abs(position - target)[:, None], has_patch.shape[1], axis=1))
    for _ in range(num_patches - len(chosen)):
        pick(np.zeros(has_patch.shape))
    return tuple(sorted(chosen))


def read_pixels(
    group: zarr.Group, products: Iterable[ProductName], location: int, season: int
) -> dict[str, Pixels]:
    """Read all arrays of one patch: array name -> stored values, (band, y, x) or (y, x)."""
    return {
        bands.array: read_array(group, bands.array, (location, season))
        for name in products
        for bands in PRODUCTS[name].groups
    }


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a patch, or the reason why there is none."""

    title: str
    bands: str
    alt: str
    uri: str | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class FractionBar:
    """One class of one patch; `fraction` None where only its presence is known."""

    name: str
    colour: str
    fraction: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProductLine:
    """Where one product of a patch comes from."""

    title: str
    acquisition_id: str
    time: str
    cloud_percentage: float | None
    orbit: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class PatchView:
    """Everything the gallery shows of one patch."""

    location_id: str
    season: int
    place: str
    split: str
    tiles: tuple[Tile, ...]
    fractions: tuple[FractionBar, ...]
    label_status: str
    labelled_fraction: float | None
    """Valid pixels of the label map / all pixels; None where there is no map."""
    products: tuple[ProductLine, ...]

    @property
    def side_px(self) -> int:
        """Width and height at which its pictures are shown: a pixel of the finest arrays each."""
        return patch_size_px()

    @property
    def num_bytes(self) -> int:
        """Size of its pictures in the file."""
        return sum(len(tile.uri) for tile in self.tiles if tile.uri)


def view_patch(
    arrays: SmallArrays,
    products: tuple[ProductName, ...],
    pixels: Mapping[str, Pixels],
    location: int,
    season: int,
) -> PatchView:
    """Prepare one patch for the page."""
    longitude, latitude = float(arrays.longitude[location]), float(arrays.latitude[location])
    labelled = float(arrays.labelled_fraction[location, season])
    return PatchView(
        str(arrays.location_id[location]),
        season,
        place(longitude, latitude),
        code_name(Split, arrays.split[location]),
        tuple(_tiles(arrays, products, pixels, (location, season))),
        _fractions(arrays, location, season),
        code_name(LabelStatus, arrays.label_status[location, season]),
        None if np.isnan(labelled) else labelled,
        tuple(
            _product_line(arrays, name, index, location, season)
            for index, name in enumerate(products)
        ),
    )


def _tiles(
    arrays: SmallArrays,
    products: tuple[ProductName, ...],
    pixels: Mapping[str, Pixels],
    patch: tuple[int, int],
) -> Iterable[Tile]:
    here = f"location {arrays.location_id[patch[0]]}, slot {patch[1]}"

    def tile(name: ProductName, title: str, bands: Sequence[str]) -> Tile:
        index, shown = products.index(name), _band_words(name, bands)
        if arrays.complete[*patch, index]:
            return Tile(title, shown, f"{title} of {here}", _uri(name, bands, pixels))
        status = code_name(PatchStatus, arrays.patch_status[*patch, index])
        reason = code_name(StatusReason, arrays.status_reason[*patch, index])
        words = status if reason == "none" else f"{status}: {reason}"
        return Tile(title, shown, "", None, words.replace("_", " "))

    has_false_colour, alone = False, len(of_role(Role.RADAR, products)) == 1
    for name in products:
        product = PRODUCTS[name]
        match product.role:
            case Role.OPTICAL:
                yield tile(name, f"{product.level} true colour", product.true_colour)
                if product.false_colour and not has_false_colour:
                    has_false_colour = True
                    yield tile(name, f"{product.level} false colour", product.false_colour)
            case Role.RADAR:
                title = "SAR" if alone else f"SAR, {product.short_title}"
                yield tile(name, title, product.groups[0].bands[:2])
            case Role.LABELS:
                yield tile(name, "Label map", ())
            case _:
                raise unknown_choice("role", product.role, list(Role))


def _band_words(name: ProductName, bands: Sequence[str]) -> str:
    """Return what the colours of a tile stand for."""
    product = PRODUCTS[name]
    match product.role:
        case Role.OPTICAL:
            return " ".join(bands)
        case Role.RADAR:
            # Red, green and blue are both polarisations and their difference.
            return " ".join([*bands, "−".join(bands)] if len(bands) > 1 else bands)  # noqa: RUF001
        case Role.LABELS:
            return product.short_title
        case _:
            raise unknown_choice("role", product.role, list(Role))


def _uri(name: ProductName, bands: Sequence[str], pixels: Mapping[str, Pixels]) -> str:
    product = PRODUCTS[name]
    stored = pixels[product.groups[0].array]
    match product.role:
        case Role.OPTICAL:
            return jpeg_uri(optical_picture(name, stored, bands))
        case Role.RADAR:
            return jpeg_uri(sar_picture(name, stored))
        case Role.LABELS:
            return palette_png(label_indices(stored), LABEL_COLOURS)
        case _:
            raise unknown_choice("role", product.role, list(Role))


def _fractions(arrays: SmallArrays, location: int, season: int) -> tuple[FractionBar, ...]:
    fraction = arrays.class_fraction[location, season]
    present = arrays.class_present[location, season] == PRESENT
    differs = differing_classes(arrays, (location, season))
    bars = []
    for c in CLASSES:
        known = not np.isnan(fraction[c.id])
        note = ""
        if differs[c.id]:
            note = "not in the multi-label" if fraction[c.id] > 0 else "not on the map"
        if present[c.id] or (known and fraction[c.id] > 0):
            bars.append(
                FractionBar(c.name, c.colour, float(fraction[c.id]) if known else None, note)
            )
    return tuple(sorted(bars, key=lambda bar: -(bar.fraction or 0.0)))


def _product_line(
    arrays: SmallArrays, name: ProductName, index: int, location: int, season: int
) -> ProductLine:
    at = (location, season, index)
    cloud, orbit = float(arrays.cloud_percentage[at]), int(arrays.relative_orbit[at])
    direction = code_name(OrbitPass, arrays.orbit_pass[at])
    parts = [] if direction == "unknown" else [direction]
    if orbit >= 0:
        parts.append(f"orbit {orbit}")
    return ProductLine(
        name,
        str(arrays.acquisition_id[at]),
        utc(int(arrays.acquisition_time[at])) if has_time(arrays.acquisition_time[at]) else "",
        None if np.isnan(cloud) else cloud,
        ", ".join(parts),
        code_name(PatchStatus, arrays.patch_status[at]),
        code_name(StatusReason, arrays.status_reason[at]),
    )


def gallery(
    group: zarr.Group,
    products: tuple[ProductName, ...],
    arrays: SmallArrays,
    num_patches: int,
    *,
    keep_pixels: bool,
) -> tuple[list[PatchView], list[tuple[tuple[int, int], dict[str, Pixels]]]]:
    """Return the patches to show and, where asked for, the pixels of all their bands.

    Args:
        group: the cube.
        products: of the cube.
        arrays: of the cube.
        num_patches: most patches to show.
        keep_pixels: return ((location, season), pixels by array) of each patch, too.
    """
    views: list[PatchView] = []
    sample: list[tuple[tuple[int, int], dict[str, Pixels]]] = []
    for location, season in choose_patches(arrays, num_patches):
        complete = tuple(n for i, n in enumerate(products) if arrays.complete[location, season, i])
        pixels = read_pixels(group, complete, location, season)
        view = view_patch(arrays, products, pixels, location, season)
        if sum(v.num_bytes for v in views) + view.num_bytes > _MAX_PICTURE_BYTES:
            break
        views.append(view)
        if keep_pixels:
            sample.append(((location, season), pixels))
    return views, sample
