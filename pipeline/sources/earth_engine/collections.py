"""Earth Engine's collections: what is listed of each, and how its pixels travel.

What a product is stands in `storage_schema.products`; this table holds what only Earth Engine
knows. A product without an entry is refused with a sentence, so none is silently left empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from groundwork.errors import InputError
from storage_schema.products import PRODUCTS, Pairing, ProductName


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection.

    Args:
        columns: properties in the order of a row of its listing; lower-case ones are derived by
            the listing itself.
        reply_dtype: what the expression casts its bands to.
        reply_fill: stands for masked pixels in a reply; outside what the band can hold.
        lattice_band: the band whose projection is listed; None where it is that of the anchor.
        equals: property -> value that an image must have.
    """

    columns: tuple[str, ...]
    reply_dtype: Literal["uint8", "uint16", "float32"]
    reply_fill: float
    lattice_band: str | None = None
    equals: tuple[tuple[str, str | int], ...] = ()


COLLECTIONS: Final[Mapping[ProductName, Collection]] = {
    "s2_l1c": Collection(
        columns=(
            "system:index",
            "system:time_start",
            "contains_patch",
            "CLOUDY_PIXEL_PERCENTAGE",
            "MEAN_SOLAR_ZENITH_ANGLE",
            "MGRS_TILE",
            "SENSING_ORBIT_DIRECTION",
            "SENSING_ORBIT_NUMBER",
            "crs",
            "transform",
        ),
        reply_dtype="uint16",
        reply_fill=0,
        lattice_band="B1",  # the 60 m lattice of a tile
    ),
    "s2_l2a": Collection(
        columns=(
            "system:index",
            "system:time_start",
            "CLOUDY_PIXEL_PERCENTAGE",
            "MEAN_SOLAR_ZENITH_ANGLE",
            "SENSING_ORBIT_DIRECTION",
            "SENSING_ORBIT_NUMBER",
        ),
        reply_dtype="uint16",
        reply_fill=0,
    ),
    "s1_grd": Collection(
        columns=(
            "system:index",
            "system:time_start",
            "contains_patch",
            "band_names",
            "orbitProperties_pass",
            "relativeOrbitNumber_start",
            "crs",
            "transform",
        ),
        reply_dtype="float32",
        reply_fill=-9999.0,
        lattice_band="VV",
        equals=(("instrumentMode", "IW"), ("resolution_meters", 10)),
    ),
    # Dynamic World has no CLOUDY_PIXEL_PERCENTAGE: asking for it would drop every row.
    "dynamic_world": Collection(
        columns=("system:index", "system:time_start"), reply_dtype="uint8", reply_fill=255
    ),
}

ANCHOR: Final = next(name for name in COLLECTIONS if PRODUCTS[name].pairing is Pairing.ANCHOR)
"""The product whose images decide on seasons and tile; it is always listed."""


def collection_of(product: ProductName) -> Collection:
    """Return the collection of a product.

    Raises:
        InputError: Earth Engine is not known to have this product.
    """
    try:
        return COLLECTIONS[product]
    except KeyError as error:
        raise InputError(
            f"Earth Engine has no collection for product {product}: ask for "
            f"{', '.join(COLLECTIONS)}"
        ) from error
