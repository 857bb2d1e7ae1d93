"""Patches in memory: what a source hands over, checked, before the store writes it.

A source (files, Earth Engine) returns one :class:`LocationPatches` per location. Pixels are already
in the stored dtype and on the location's grid. `check_patch` decides whether they can be kept;
`assemble_batch` (in ``batches.py``) lays checked locations out as the arrays of the cube.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from groundwork.errors import unknown_choice
from pipeline.ledger import Ledger
from storage_schema.land_cover import LabelStatus
from storage_schema.products import PRODUCTS, BandGroup, NoData, Product, ProductName
from storage_schema.status import OrbitPass, PatchStatus, Split, StatusReason

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One satellite image, as the provider names and describes it."""

    id: str
    """``system:index`` of the provider."""
    time_ms: int | None = None
    """Start of sensing, milliseconds since 1970-01-01 UTC."""
    cloud_percentage: float | None = None
    orbit_pass: OrbitPass = OrbitPass.UNKNOWN
    relative_orbit: int | None = None
    sun_elevation_deg: float | None = None


@dataclass(frozen=True, slots=True)
class ProductPatch:
    """One product of one location and season.

    Args:
        status: what became of it. Only complete patches carry pixels.
        reason: why, or a flag on a complete patch.
        acquisition: the image it was cut from; None where there was none.
        pixels: array name -> stored values, (band, y, x), or (y, x) for `dynamic_world_label`.
        detail: one sentence for the log: which file, what is wrong with it.
    """

    status: PatchStatus
    reason: StatusReason = StatusReason.NONE
    acquisition: Acquisition | None = None
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """What a published label file says of one patch.

    Args:
        status: LABELLED, EMPTY_LIST, ABSENT_FROM_FILE or UNKNOWN_CLASS.
        class_present: uint8 (9,), 1 present, 0 absent; None unless labelled.
    """

    status: LabelStatus
    class_present: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class SeasonPatches:
    """Everything of one location in one season slot."""

    products: Mapping[ProductName, ProductPatch]
    label: Label | None = None
    """From a label file; None where no file was given (then the label map alone decides)."""


@dataclass(frozen=True, slots=True)
class LocationPatches:
    """One location: where it is, and up to four seasons of patches in slot order.

    The 20 m and 60 m arrays of a rebuilt patch share the corner of the 10 m one. Those of an import
    need not: `offset_20m`, `offset_60m` say where they start, m (east, north), NaN if unknown.
    `epsg` 0 and NaN origins mean that the grid is not known; the products then say why.
    `notes` counts what happened on the way (further seasons left out, ...), for the summary.
    """

    location_id: str
    longitude: float
    latitude: float
    epsg: int
    x_origin: float
    y_origin: float
    georeference_error_m: float
    seasons: Sequence[SeasonPatches]
    split: Split = Split.TRAIN
    offset_20m: tuple[float, float] = (0.0, 0.0)
    offset_60m: tuple[float, float] = (0.0, 0.0)
    notes: Mapping[str, int] = field(default_factory=Counter)
    warnings: Sequence[str] = ()
    """Sentences for the log, each naming its file."""

    @classmethod
    def without_place(
        cls,
        location_id: str,
        products: Mapping[ProductName, ProductPatch],
        warnings: Sequence[str] = (),
    ) -> Self:
        """Return a location of which nothing is known but why it could not be read."""
        nan = float("nan")
        return cls(
            location_id,
            nan,
            nan,
            0,
            nan,
            nan,
            nan,
            (SeasonPatches(products),),
            offset_20m=(nan, nan),
            offset_60m=(nan, nan),
            warnings=warnings,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a location is wanted (longitude and latitude of its centre, deg), and its split."""

    longitude: float
    latitude: float
    split: Split


class PatchSource(Protocol):
    """Where patches come from. Instances are picklable: Dask sends them to its workers."""

    @property
    def products(self) -> tuple[ProductName, ...]:
        """The products this source delivers."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What reading has cost at a provider so far."""
        ...

    def read_location(self, location_id: str) -> LocationPatches:
        """Read one location. Trouble with its data is a status, never an exception.

        Raises:
            TransientError: the source is not reachable for now.
        """
        ...

    def read_locations(self, location_ids: Sequence[str]) -> Generator[LocationPatches, None, None]:
        """Read locations, in order; as `read_location`, but several may be under way at once."""
        ...

    def cancel(self) -> None:
        """Let its reads that are under way in this process end soon, whatever they raise."""
        ...


SourceOfBatch = Callable[[Sequence[str]], PatchSource]
"""Returns the source for these locations: a worker then gets what its batch needs, no more."""


def check_patch(name: ProductName, patch: ProductPatch) -> ProductPatch:
    """Return the patch, or a rejected one where shape, dtype or values cannot be right."""
    if patch.status is not PatchStatus.COMPLETE:
        return patch
    product = PRODUCTS[name]
    trouble = next(
        (found for group in product.groups if (found := _trouble(product, group, patch.pixels))),
        None,
    )
    if trouble is None and product.is_imagery and not valid_fraction(product, patch.pixels):
        trouble = StatusReason.TOO_FEW_VALID_PIXELS, "no valid pixel at all"
    if trouble is None:
        return patch
    reason, detail = trouble
    return replace(
        patch, status=PatchStatus.REJECTED, reason=reason, pixels={}, detail=patch.detail or detail
    )


def _trouble(
    product: Product, group: BandGroup, arrays: Mapping[str, Pixels]
) -> tuple[StatusReason, str] | None:
    """Return what is wrong with the pixels of one array, if anything."""
    name, side = group.array, group.size_px
    pixels = arrays.get(name)
    if pixels is None:
        return StatusReason.MISSING_BAND, f"{name} is missing"
    expected = (len(group.bands), side, side) if product.is_imagery else (side, side)
    if pixels.shape != expected:
        return StatusReason.WRONG_SIZE, f"{name} is {pixels.shape}, not {expected}"
    if pixels.dtype != np.dtype(product.dtype):
        return StatusReason.WRONG_DTYPE, f"{name} is {pixels.dtype}, not {product.dtype}"
    low, high = product.valid_range
    outside = (pixels < low) | (pixels > high)
    if product.fill_value not in range(low, high + 1):
        outside &= pixels != product.fill_value
    if outside.any():
        return (
            StatusReason.IMPLAUSIBLE_VALUES,
            f"{name} holds {pixels[outside].flat[0]}, outside {low} to {high}",
        )
    return None


def valid_mask(product: Product, pixels: Pixels) -> npt.NDArray[np.bool_]:
    """Tell which pixels of one array carry data.

    Args:
        product: its rule of no-data decides.
        pixels: stored values, (..., band, y, x), or (..., y, x) for labels.

    Returns:
        bool, of the shape of `pixels` where each value counts, (..., 1, y, x) where a pixel is
        without data only if every band is.
    """
    has_value = np.asarray(pixels != product.fill_value)
    match product.no_data:
        case NoData.EVERY_BAND:
            return np.asarray(np.any(has_value, axis=-3, keepdims=True))
        case NoData.EACH_VALUE:
            return has_value
        case _:
            raise unknown_choice("rule of no data", product.no_data, list(NoData))


def valid_fraction(product: Product, pixels: Mapping[str, Pixels]) -> float:
    """Return the share of 10 m pixels, 0..1, that are valid in every band."""
    mask = valid_mask(product, pixels[product.groups[0].array])
    if mask.ndim == 3:
        mask = np.asarray(mask.all(axis=0))
    return float(np.count_nonzero(mask)) / mask.size
