"""The report's gallery: which patches to show, and their pixels as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image

from pipeline.patches import Pixels, valid_mask
from pipeline.report.figures import palette_png
from pipeline.report.summary import SmallArrays, code_name, differing_classes, has_time, read_array
from pipeline.report.svg import data_uri
from storage_schema.land_cover import CLASSES, NUM_CLASSES, PRESENT, LabelStatus
from storage_schema.products import PRODUCTS, ProductName, Role
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason

Rgb = npt.NDArray[np.uint8]

STRETCH_PERCENTILES: Final = (2.0, 98.0)
_MIN_RANGE: Final = {"1": 250.0, "dB": 12.0}
"""Least range of a stretch, by unit: without it, open water and speckle show as loud noise."""
SPECKLE_WINDOW_PX: Final = 5
"""Side of the square that SAR power is averaged over before it is shown."""
OPTICAL_EXPONENT: Final = 0.75
"""Brightens the dark end of reflectances; below a few clouds, a linear stretch shows only them."""
NO_DATA_COLOUR: Final = "#e9edf1"
_JPEG_QUALITY: Final = 88
_TYPICAL_FRACTION: Final = 0.6
"""A patch that shows a class: mostly of it, but not of it alone."""
_SAMPLE_BINS: Final = 60


# --- which patches ----------------------------------------------------------------------------


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


# --- pixels -----------------------------------------------------------------------------------


def read_pixels(
    group: zarr.Group, products: Iterable[ProductName], location: int, season: int
) -> dict[str, Pixels]:
    """Read all arrays of one patch: array name -> stored values, (band, y, x) or (y, x)."""
    return {
        bands.array: read_array(group, bands.array, (location, season))
        for name in products
        for bands in PRODUCTS[name].groups
    }


def stretch(
    bands: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    min_range: float,
    exponent: float = 1.0,
) -> Rgb:
    """Stretch three bands to a picture, each between its 2nd and 98th percentile.

    Args:
        bands: float (3, y, x).
        valid: bool (y, x); other pixels become the colour of missing data.
        min_range: least distance of the two limits, in the bands' unit.
        exponent: applied to 0..1 after the stretch.

    Returns:
        uint8 (y, x, 3).
    """
    picture = np.empty((*bands.shape[1:], 3), dtype=np.uint8)
    for index, band in enumerate(bands):
        values = band[valid]
        if not values.size:
            break
        low, high = np.percentile(values, STRETCH_PERCENTILES)
        missing = max(min_range - (high - low), 0.0)
        low, high = low - missing / 2, high + missing / 2
        picture[..., index] = np.clip((band - low) / (high - low), 0, 1) ** exponent * 255 + 0.5
    picture[~valid] = tuple(bytes.fromhex(NO_DATA_COLOUR[1:]))
    return picture


def optical_picture(product: ProductName, pixels: Pixels, bands: Sequence[str]) -> Rgb:
    """Return three bands of the finest array as red, green and blue.

    Args:
        product: decides what is valid.
        pixels: stored values of the product's first array, (band, y, x).
        bands: names of the three.
    """
    order = PRODUCTS[product].groups[0].bands
    chosen = pixels[[order.index(band) for band in bands]].astype(np.float64)
    return stretch(
        chosen, valid_mask(PRODUCTS[product], pixels)[0], _MIN_RANGE["1"], OPTICAL_EXPONENT
    )


def sar_picture(name: ProductName, pixels: Pixels) -> Rgb:
    """Return two polarisations and their difference (all dB) as red, green and blue.

    Speckle is averaged in power. A product with one polarisation is drawn in grey.

    Args:
        name: of the product; decides what is valid.
        pixels: stored values of its first array, (band, y, x).
    """
    product = PRODUCTS[name]
    valid = np.asarray(valid_mask(product, pixels).all(axis=0))
    decibel = pixels.astype(np.float64) * (product.scale_factor or 1.0)
    power = np.where(valid, 10 ** (decibel / 10), 0.0)
    # Invalid neighbours take no part: their power is 0, and so is their weight.
    weight = np.where(valid, _mean_of_neighbours(valid.astype(np.float64)), 1.0)
    mean_power = np.where(valid, _mean_of_neighbours(power) / weight, 1.0)
    first, second = (10 * np.log10(mean_power))[[0, min(1, len(mean_power) - 1)]]
    third = first if len(mean_power) == 1 else first - second
    return stretch(np.stack([first, second, third]), valid, _MIN_RANGE["dB"])


def _mean_of_neighbours(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return means over squares of `SPECKLE_WINDOW_PX`, (..., y, x); beyond the border is 0."""
    size_y, size_x = values.shape[-2:]
    reach = SPECKLE_WINDOW_PX // 2
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(reach, reach)] * 2)
    offsets = range(SPECKLE_WINDOW_PX)
    windows = [padded[..., y : y + size_y, x : x + size_x] for y in offsets for x in offsets]
    return np.asarray(sum(windows) / len(windows))


def label_indices(label: Pixels) -> npt.NDArray[np.uint8]:
    """Return class ids, with `NUM_CLASSES` for masked pixels."""
    return np.where(label < NUM_CLASSES, label, NUM_CLASSES).astype(np.uint8)


LABEL_COLOURS: Final = (*(c.colour for c in CLASSES), NO_DATA_COLOUR)


def jpeg_uri(picture: Rgb) -> str:
    """Return a picture as the data URI of a JPEG without colour subsampling."""
    buffer = BytesIO()
    # No `optimize`: libjpeg then needs one buffer for the whole picture, and speckle overflows it.
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return data_uri(buffer.getvalue(), "image/jpeg")


# --- one patch, ready to show -----------------------------------------------------------------


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


def place(longitude: float, latitude: float) -> str:
    """Return coordinates (deg) as ``30.464° N, 73.306° E``."""
    if not (np.isfinite(longitude) and np.isfinite(latitude)):
        return "coordinates not known"
    return (
        f"{abs(latitude):.3f}° {'N' if latitude >= 0 else 'S'}, "
        f"{abs(longitude):.3f}° {'E' if longitude >= 0 else 'W'}"
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

    has_false_colour = False
    for name in products:
        product = PRODUCTS[name]
        match product.role:
            case Role.OPTICAL:
                bands = product.true_colour or product.groups[0].bands[:3]
                yield tile(name, f"{product.level} true colour", bands)
                if product.false_colour and not has_false_colour:
                    has_false_colour = True
                    yield tile(name, f"{product.level} false colour", product.false_colour)
            case Role.RADAR:
                yield tile(name, "SAR", product.groups[0].bands[:2])
            case Role.LABELS:
                yield tile(name, "Label map", ())


def _band_words(name: ProductName, bands: Sequence[str]) -> str:
    """Return what the colours of a tile stand for."""
    match PRODUCTS[name].role:
        case Role.OPTICAL:
            return " ".join(bands)
        case Role.RADAR:
            # Red, green and blue are both polarisations and their difference.
            return " ".join([*bands, "−".join(bands)] if len(bands) > 1 else bands)  # noqa: RUF001
        case Role.LABELS:
            return PRODUCTS[name].short_title


def _uri(name: ProductName, bands: Sequence[str], pixels: Mapping[str, Pixels]) -> str:
    stored = pixels[PRODUCTS[name].groups[0].array]
    match PRODUCTS[name].role:
        case Role.OPTICAL:
            return jpeg_uri(optical_picture(name, stored, bands))
        case Role.RADAR:
            return jpeg_uri(sar_picture(name, stored))
        case Role.LABELS:
            return palette_png(label_indices(stored), LABEL_COLOURS)


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


def utc(time_ms: int) -> str:
    """Return a time as ``2020-06-04 05:48``, UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, tz=UTC):%Y-%m-%d %H:%M}"


# --- statistics of the patches shown, for a cube that is not sealed -----------------------------


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """One band: moments, percentiles and histogram in physical units."""

    num_valid_pixels: int
    mean: float
    std: float
    p01: float
    p99: float
    edges: npt.NDArray[np.floating]
    counts: npt.NDArray[np.integer]


def sample_statistics(
    product: ProductName, array: str, patches: Iterable[Mapping[str, Pixels]]
) -> list[BandStatistics | None]:
    """Describe one array's bands from a few patches; None for a band without a valid pixel.

    Args:
        product: the array's product; decides what is valid and the scale.
        array: array name.
        patches: stored pixels of *complete* patches of that product.
    """
    spec = PRODUCTS[product]
    num_bands = next(len(group.bands) for group in spec.groups if group.array == array)
    # Whole digital numbers per bin: else some bins catch one more number than their neighbours.
    least_step = 1.0 if spec.scale_factor is None else spec.scale_factor
    values: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(num_bands)]
    for pixels in patches:
        stored = pixels[array]
        valid = np.broadcast_to(valid_mask(spec, stored), stored.shape)
        for index, band in enumerate(stored):
            values[index].append(band[valid[index]] * (spec.scale_factor or 1.0))
    return [_describe(np.concatenate(v), least_step) if v else None for v in values]


def _describe(values: npt.NDArray[np.float64], least_step: float) -> BandStatistics | None:
    if not values.size:
        return None
    p01, p99 = (float(p) for p in np.percentile(values, (1, 99)))
    # Bins follow the bulk: a single bright cloud would otherwise leave two bins in use.
    start = max(float(values.min()), p01 - (p99 - p01) / 2)
    end = min(float(values.max()), p99 + (p99 - p01) / 2)
    step = max(np.ceil((end - start) / least_step / _SAMPLE_BINS), 1.0) * least_step
    first = np.floor(start / step)
    edges = step * np.arange(first, np.floor(end / step) + 2)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return BandStatistics(
        values.size, float(values.mean()), float(values.std()), p01, p99, edges, counts
    )
