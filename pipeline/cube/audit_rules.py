"""What must hold within a cube, whatever its source: rules over arrays, no access to the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError
from pipeline.cube.patch_table import SmallArrays
from pipeline.land_cover.class_counts import count_classes
from pipeline.patches import valid_fraction
from storage_schema.land_cover import UNKNOWN, LabelStatus
from storage_schema.layout import NO_TIME, NUM_SEASONS
from storage_schema.products import PRODUCTS, ProductName, Role, of_role, optical_twins
from storage_schema.status import PatchStatus, StatusReason

FRACTION_TOLERANCE: Final = 0.01
"""Fractions from a resampled land-cover raster follow sub-pixels, not the stored label map."""
EXACT_TOLERANCE: Final = 1e-6
SUM_TOLERANCE: Final = 1e-5
"""Nine float32 fractions, each rounded."""

Mask = npt.NDArray[np.bool_]


class Contradiction(NamedTuple):
    """A rule that a patch breaks: `what` names the array, `location` counts among those given."""

    location: int
    season: int
    what: str
    expected: str
    found: str


def find_contradictions(
    products: Sequence[ProductName], small: SmallArrays
) -> Iterator[Contradiction]:
    """Check location and patch arrays against each other.

    Args:
        products: of the cube, in its order.
        small: arrays (location, season, ...) of any number of whole locations.
    """
    yield from _places(small)
    for position, name in enumerate(products):
        yield from _product(name, position, small)
    yield from _pairs(products, small)
    yield from _labels(small)


def _places(small: SmallArrays) -> Iterator[Contradiction]:
    epsg = small["epsg"]
    is_utm = ((epsg > 32600) & (epsg <= 32660)) | ((epsg > 32700) & (epsg <= 32760))
    for index in np.flatnonzero((epsg != 0) & ~is_utm):
        yield Contradiction(int(index), 0, "epsg", "a UTM zone of WGS 84", str(epsg[index]))


def _product(name: str, position: int, small: SmallArrays) -> Iterator[Contradiction]:
    status = small["patch_status"][..., position]
    reason = small["status_reason"][..., position]
    complete = status == PatchStatus.COMPLETE
    nameless = small["acquisition_id"][..., position] == ""
    timeless = small["acquisition_time"][..., position] == NO_TIME
    for mask, what, expected, found in (
        (status == PatchStatus.PENDING, "patch_status", "an outcome", "pending"),
        (~np.isin(status, list(PatchStatus)), "patch_status", "a status", status),
        (~np.isin(reason, list(StatusReason)), "status_reason", "a reason", reason),
        (complete & nameless, "acquisition_id", "an id", "none"),
        (complete & timeless, "acquisition_time", "a time", "none"),
    ):
        yield from _each(mask, f"{what} of {name}", expected, found)


def _pairs(products: Sequence[ProductName], small: SmallArrays) -> Iterator[Contradiction]:
    """Products that share an acquisition, or have to say that they do not."""
    ids = {name: small["acquisition_id"][..., i] for i, name in enumerate(products)}
    complete = {
        name: small["patch_status"][..., i] == PatchStatus.COMPLETE
        for i, name in enumerate(products)
    }
    for labels in of_role(Role.LABELS, products):
        # A label map is made from one optical image and has its id: the first there is counts.
        unclaimed = complete[labels]
        for name in of_role(Role.OPTICAL, products):
            claimed = unclaimed & complete[name]
            unclaimed = unclaimed & ~complete[name]
            for index, season in np.argwhere(claimed & (ids[name] != ids[labels])):
                yield Contradiction(
                    int(index),
                    int(season),
                    f"acquisition_id of {labels}",
                    f"that of {name}, {ids[name][index, season]}",
                    str(ids[labels][index, season]),
                )
    for anchor, twin in optical_twins(products):
        both = complete[anchor] & complete[twin]
        differs = ids[anchor] != ids[twin]
        reason = small["status_reason"][..., products.index(twin)]
        flagged = reason == StatusReason.ACQUISITION_DIFFERS
        what = f"status_reason of {twin}"
        yield from _each(both & differs & ~flagged, what, "acquisition_differs", "no flag")
        expected = f"no flag: it is the {PRODUCTS[anchor].level} acquisition"
        yield from _each(both & ~differs & flagged, what, expected, "acquisition_differs")


def _labels(small: SmallArrays) -> Iterator[Contradiction]:
    status, present = small["label_status"], small["class_present"]
    fraction = small["class_fraction"].astype(np.float64)
    labelled = status == LabelStatus.LABELLED
    unknown = (present == UNKNOWN).any(axis=-1)
    has_map = ~np.isnan(fraction).all(axis=-1)
    total = fraction.sum(axis=-1)
    sums = (np.abs(total - 1) <= SUM_TOLERANCE) & ~(fraction < 0).any(axis=-1)
    empty = ~(small["labelled_fraction"] > 0)
    for mask, what, expected, found in (
        (~np.isin(status, list(LabelStatus)), "label_status", "a status", status),
        (labelled & unknown, "class_present", "0 and 1: it is labelled", present),
        (~labelled & ~unknown, "class_present", f"{UNKNOWN}: it is not labelled", present),
        (has_map & ~sums, "class_fraction", "fractions that sum to 1", total),
        (has_map & empty, "labelled_fraction", "above 0", small["labelled_fraction"]),
    ):
        yield from _each(mask, what, expected, found)


def _each(
    mask: Mask, what: str, expected: str, found: str | npt.NDArray[Any]
) -> Iterator[Contradiction]:
    for index, season in np.argwhere(mask):
        text = found if isinstance(found, str) else str(found[index, season])
        yield Contradiction(int(index), int(season), what, expected, text)


def find_pixel_contradictions(
    products: Sequence[ProductName], arrays: Mapping[str, npt.NDArray[Any]]
) -> Iterator[Contradiction]:
    """Check the pixels of a batch against its statuses, valid fractions and class fractions.

    Args:
        products: of the cube, in its order.
        arrays: every array of the batch, (location, season, ...).
    """
    for index, season in np.ndindex(len(arrays["patch_status"]), NUM_SEASONS):
        for position, name in enumerate(products):
            yield from _pixels(name, position, arrays, index, season)


def _pixels(
    name: ProductName,
    position: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    index: int,
    season: int,
) -> Iterator[Contradiction]:
    product, at = PRODUCTS[name], (index, season)
    pixels = {group.array: arrays[group.array][at] for group in product.groups}
    if arrays["patch_status"][at][position] != PatchStatus.COMPLETE:
        if any((values != product.fill_value).any() for values in pixels.values()):
            expected = "no pixels: it is not complete"
            yield Contradiction(index, season, name, expected, "pixels")
        return
    stored = float(arrays["valid_fraction"][at][position])
    found = valid_fraction(product, pixels)
    if not abs(stored - found) <= EXACT_TOLERANCE:
        what = f"valid_fraction of {name}"
        yield Contradiction(index, season, what, f"{found:.6f}", f"{stored:.6f}")
    low, high = product.valid_range
    for array, values in pixels.items():
        stray = values[(values < low) | (values > high)]
        stray = stray[stray != product.fill_value]
        if stray.size:
            yield Contradiction(index, season, array, f"values {low} to {high}", f"{stray[0]}")
    if product.role is Role.LABELS:
        label, fraction = pixels[product.groups[0].array], arrays["class_fraction"][at]
        difference = _compare_fractions(label, fraction)
        if difference is not None:
            yield Contradiction(index, season, f"class_fraction of {name}", *difference)


def _compare_fractions(label: npt.NDArray[Any], stored: npt.NDArray[Any]) -> tuple[str, str] | None:
    """Return (expected, found) where fractions are not those of the label map."""
    try:
        counts = count_classes(label)
    except InputError as error:
        return "Dynamic World classes", str(error)
    if not counts.sum():
        return None if np.isnan(stored).all() else ("NaN: no valid pixel", str(stored))
    wanted = counts / counts.sum()
    if (np.abs(stored - wanted) <= FRACTION_TOLERANCE).all():
        return None
    return str(np.round(wanted, 4)), str(np.round(stored, 4))
