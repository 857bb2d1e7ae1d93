"""Stored pixels of one patch as pictures: optical bands, radar, label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.patches import Pixels, valid_mask
from storage_schema.land_cover import CLASSES, NUM_CLASSES
from storage_schema.products import PRODUCTS, ProductName

Rgb = npt.NDArray[np.uint8]

STRETCH_PERCENTILES: Final = (2.0, 98.0)
_MIN_RANGE_DN: Final = 250.0
_MIN_RANGE_DB: Final = 12.0
"""Least range of a stretch: without it, open water and speckle show as loud noise."""
SPECKLE_WINDOW_PX: Final = 5
"""Side of the square that SAR power is averaged over before it is shown."""
OPTICAL_EXPONENT: Final = 0.75
"""Brightens the dark end of reflectances; below a few clouds, a linear stretch shows only them."""
NO_DATA_COLOUR: Final = "#e9edf1"
LABEL_COLOURS: Final = (*(c.colour for c in CLASSES), NO_DATA_COLOUR)


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
    valid = np.asarray(valid_mask(PRODUCTS[product], pixels).all(axis=0))
    return stretch(chosen, valid, _MIN_RANGE_DN, OPTICAL_EXPONENT)


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
    return stretch(np.stack([first, second, third]), valid, _MIN_RANGE_DB)


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
