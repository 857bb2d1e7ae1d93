"""The satellite products of the cube: what each is, and how it behaves.

A product's description decides what is done with it: code asks for its role, pairing or rule of
no-data and never for its name. The values are plain, so that a cube can carry them.

Sources: ESA Sentinel-2 Products Specification Document (bands, native resolution, DN 0 as no-data);
the Earth Engine catalogue (ids); Wang et al. 2023, "SSL4EO-S12" (published band statistics).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, assert_never

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from storage_schema.land_cover import MASKED, NUM_CLASSES
from storage_schema.status import StatusReason

PATCH_SIZE_M: Final = 2640
"""Side of a patch: 264 px at 10 m, 132 at 20 m, 44 at 60 m."""
FINEST_M: Final = 10
"""The finest resolution there is: class fractions, offsets and requests count in its pixels."""

Resolution = Literal[10, 20, 60]


def patch_size_px(resolution_m: int = FINEST_M) -> int:
    """Return the side of a patch in pixels of a resolution."""
    return PATCH_SIZE_M // resolution_m


class Role(StrEnum):
    """What the pixels of a product mean; decides how they are checked, drawn and normalised."""

    OPTICAL = "optical"
    """Reflectance in several bands."""
    RADAR = "radar"
    """Backscatter in decibels."""
    LABELS = "labels"
    """One land-cover class id per pixel, without a band dimension."""


class Pairing(StrEnum):
    """How an acquisition of a product is found for a season."""

    ANCHOR = "anchor"
    """Chosen for itself; the other products follow it."""
    SAME_IMAGE = "same_image"
    """The image with the anchor's id."""
    NEAREST_IN_TIME = "nearest_in_time"
    """The image closest to the anchor's time."""


class NoData(StrEnum):
    """Which pixels carry no data."""

    EVERY_BAND = "every_band"
    """Those where every band of the array has the fill value."""
    EACH_VALUE = "each_value"
    """Every value that is the fill value, band by band."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Annotation of a product's name: one that is in the registry.

    Args:
        imagery: whether products of labels are refused.
    """

    imagery: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "enum": self._names()}

    def _check(self, name: str) -> str:
        if name not in self._names():
            kind = "products with imagery" if self.imagery else "products"
            raise ValueError(f"the {kind} are {', '.join(self._names())}")
        return name

    def _names(self) -> list[str]:
        return [
            name for name, product in PRODUCTS.items() if product.is_imagery or not self.imagery
        ]


ProductName = Annotated[str, _Known()]
"""Key of `PRODUCTS`."""
ImageryName = Annotated[str, _Known(imagery=True)]
"""Key of a product whose pixels are measurements: what an encoder can see."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandGroup(_Frozen):
    """The bands of one product that share a native resolution, hence one array of the cube."""

    array: str
    bands: tuple[str, ...]
    resolution_m: Resolution

    @property
    def size_px(self) -> int:
        """Side of a patch in pixels of this group."""
        return patch_size_px(self.resolution_m)

    @property
    def suffix(self) -> str:
        """The resolution as the dimension names carry it, ``10m``."""
        return f"{self.resolution_m}m"


class PublishedStatistics(_Frozen):
    """Mean and standard deviation of one band, in the product's unit, as others published them."""

    band: str
    mean: float
    std: float


class Product(_Frozen):
    """A provider collection at one processing level."""

    name: str
    title: str
    short_title: str
    """For captions and axes."""
    level: str
    """Of processing, for captions that have little room."""
    role: Role
    pairing: Pairing
    missing_reason: StatusReason = StatusReason.NOT_IN_SOURCE
    """Why a season lacks it where the anchor has no image of this product beside it."""
    earth_engine_id: str
    groups: tuple[BandGroup, ...] = Field(min_length=1)
    """The finest first."""
    band_dimension: str | None = None
    """Name of the band dimension; by default ``band_`` and the name of the array."""
    no_data: NoData = NoData.EACH_VALUE
    true_colour: tuple[str, ...] = ()
    """Red, green and blue of a natural picture: bands of the first group. Optical products have it;
    one with a single band names it three times."""
    false_colour: tuple[str, ...] = ()
    """Near infrared, red and green, likewise."""
    dtype: Literal["uint16", "int16", "uint8"]
    unit: str
    scale_factor: float | None = None
    fill_value: int
    fill_meaning: str
    valid_range: tuple[int, int]
    """Stored values outside it are implausible."""
    radiometric_convention: str
    published: tuple[PublishedStatistics, ...] = ()
    """Of every band, in the order of an encoder's channels: by wavelength. Empty where nobody has
    published any."""
    licence: str
    attribution: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what would be stored, counted or drawn wrongly without anybody noticing."""
        trouble = self._contradiction() or self._contradiction_to_role()
        if trouble is not None:
            raise ValueError(f"product {self.name} {trouble}")
        return self

    def _contradiction(self) -> str | None:
        """Return what of the description does not fit together."""
        if len(set(self.bands)) < len(self.bands):
            return "names a band twice"
        if self.published and sorted(s.band for s in self.published) != sorted(self.bands):
            return "has published statistics of other bands than its own"
        if self.band_dimension is not None and len(self.groups) > 1:
            return (
                f"gives its arrays one band_dimension, {self.band_dimension}: xarray needs one each"
            )
        return None

    def _contradiction_to_role(self) -> str | None:
        """Return what of the description does not fit its role."""
        match self.role:
            case Role.OPTICAL:
                colours = [self.true_colour, *([self.false_colour] if self.false_colour else [])]
                if any(len(c) != 3 or not {*c} <= {*self.groups[0].bands} for c in colours):
                    return "is optical: true_colour and false_colour are three bands of groups[0]"
            case Role.RADAR:
                if self.unit != "dB":
                    return f"is radar, which is stored in dB, not in {self.unit}"
            case Role.LABELS:
                classes = (self.dtype, self.fill_value, self.valid_range)
                if len(self.bands) != 1 or classes != ("uint8", MASKED, (0, NUM_CLASSES - 1)):
                    return (
                        f"holds labels: one band of uint8, classes 0 to {NUM_CLASSES - 1}, "
                        f"{MASKED} where masked"
                    )
            case _:
                assert_never(self.role)
        return None

    @property
    def bands(self) -> tuple[str, ...]:
        """All band names, in the order of the arrays."""
        return tuple(band for group in self.groups for band in group.bands)

    @property
    def channels(self) -> tuple[str, ...]:
        """All band names, in the order of an encoder's channels."""
        return tuple(s.band for s in self.published) or self.bands

    @property
    def is_imagery(self) -> bool:
        """Whether its pixels are measurements, with a band dimension, and not labels."""
        match self.role:
            case Role.OPTICAL | Role.RADAR:
                return True
            case Role.LABELS:
                return False
            case _:
                assert_never(self.role)

    @property
    def shown_unit(self) -> str:
        """The unit for people: reflectances without a unit are digital numbers."""
        return "DN" if self.is_imagery and self.unit == "1" else self.unit

    def dimension_of(self, group: BandGroup) -> str | None:
        """Return the name of the band dimension of one of its arrays; None for labels."""
        if not self.is_imagery:
            return None
        return self.band_dimension or f"band_{group.array}"


_COPERNICUS_LICENCE = "Copernicus Sentinel data terms: free, full and open access"
_COPERNICUS_ATTRIBUTION = "contains modified Copernicus Sentinel data [years]"
_S2_CONVENTION = (
    "digital number = reflectance x 10000, without the +1000 offset of processing baseline 04.00"
)
_TRUE_COLOUR = ("B4", "B3", "B2")
_FALSE_COLOUR = ("B8", "B4", "B3")
_S2_FILL = "no data where every band of the array is 0 (a single band may be 0 over dark water)"


def _published(
    bands: tuple[str, ...], means: tuple[float, ...], stds: tuple[float, ...]
) -> tuple[PublishedStatistics, ...]:
    """Lay out the statistics of SSL4EO-S12 v1.0: 50,000 patches, without the +1000 offset.

    Source: the data set's repository.
    """
    columns = zip(bands, means, stds, strict=True)
    return tuple(PublishedStatistics(band=b, mean=m, std=s) for b, m, s in columns)


S2_L1C: Final = Product(
    name="s2_l1c",
    title="Sentinel-2 L1C, top-of-atmosphere reflectance",
    short_title="Sentinel-2 L1C",
    level="L1C",
    role=Role.OPTICAL,
    pairing=Pairing.ANCHOR,
    no_data=NoData.EVERY_BAND,
    true_colour=_TRUE_COLOUR,
    false_colour=_FALSE_COLOUR,
    earth_engine_id="COPERNICUS/S2_HARMONIZED",
    groups=(
        BandGroup(array="s2_l1c_10m", bands=("B2", "B3", "B4", "B8"), resolution_m=10),
        BandGroup(
            array="s2_l1c_20m", bands=("B5", "B6", "B7", "B8A", "B11", "B12"), resolution_m=20
        ),
        BandGroup(array="s2_l1c_60m", bands=("B1", "B9", "B10"), resolution_m=60),
    ),
    dtype="uint16",
    unit="1",
    fill_value=0,
    fill_meaning=_S2_FILL,
    valid_range=(0, 65535),
    radiometric_convention=_S2_CONVENTION,
    published=_published(
        ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),
        (1605.58, 1390.78, 1314.87, 1363.52, 1549.44, 2091.75, 2371.72, 2299.90, 2560.30, 830.07,
         22.10, 2177.07, 1524.07),
        (786.79, 850.35, 875.06, 1138.85, 1122.18, 1161.59, 1274.39, 1248.43, 1345.53, 577.32,
         51.15, 1336.10, 1136.54),
    ),
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)  # fmt: skip
S2_L2A: Final = Product(
    name="s2_l2a",
    title="Sentinel-2 L2A, surface reflectance",
    short_title="Sentinel-2 L2A",
    level="L2A",
    role=Role.OPTICAL,
    pairing=Pairing.SAME_IMAGE,
    missing_reason=StatusReason.NO_L2A,
    no_data=NoData.EVERY_BAND,
    true_colour=_TRUE_COLOUR,
    false_colour=_FALSE_COLOUR,
    earth_engine_id="COPERNICUS/S2_SR_HARMONIZED",
    groups=(
        BandGroup(array="s2_l2a_10m", bands=("B2", "B3", "B4", "B8"), resolution_m=10),
        BandGroup(
            array="s2_l2a_20m", bands=("B5", "B6", "B7", "B8A", "B11", "B12"), resolution_m=20
        ),
        BandGroup(array="s2_l2a_60m", bands=("B1", "B9"), resolution_m=60),
    ),
    dtype="uint16",
    unit="1",
    fill_value=0,
    fill_meaning=_S2_FILL,
    valid_range=(0, 65535),
    radiometric_convention=_S2_CONVENTION,
    published=_published(
        ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"),
        (752.40, 884.30, 1144.16, 1297.47, 1624.91, 2194.64, 2422.21, 2517.76, 2581.65, 2645.52,
         2368.51, 1805.07),
        (1108.03, 1155.15, 1183.63, 1368.11, 1370.27, 1355.55, 1416.51, 1474.79, 1439.31, 1582.28,
         1455.52, 1343.48),
    ),
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)  # fmt: skip
S1_GRD: Final = Product(
    name="s1_grd",
    title="Sentinel-1 GRD, backscatter",
    short_title="Sentinel-1 GRD",
    level="GRD",
    role=Role.RADAR,
    pairing=Pairing.NEAREST_IN_TIME,
    band_dimension="band_s1",
    earth_engine_id="COPERNICUS/S1_GRD",
    groups=(BandGroup(array="s1_grd", bands=("VV", "VH"), resolution_m=10),),
    dtype="int16",
    unit="dB",
    scale_factor=0.01,
    fill_value=-32768,
    fill_meaning="non-finite backscatter (border noise, outside the swath)",
    valid_range=(-10000, 5000),
    radiometric_convention="sigma nought, 10 log10, as Earth Engine's COPERNICUS/S1_GRD",
    published=_published(("VV", "VH"), (-12.548, -20.192), (5.257, 5.912)),
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)
DYNAMIC_WORLD: Final = Product(
    name="dynamic_world",
    title="Google Dynamic World V1, land-cover label",
    short_title="Dynamic World",
    level="V1",
    role=Role.LABELS,
    pairing=Pairing.SAME_IMAGE,
    missing_reason=StatusReason.NO_DYNAMIC_WORLD,
    earth_engine_id="GOOGLE/DYNAMICWORLD/V1",
    groups=(BandGroup(array="dynamic_world_label", bands=("label",), resolution_m=10),),
    dtype="uint8",
    unit="1",
    fill_value=255,
    fill_meaning="masked: cloud, or outside the land-cover raster",
    valid_range=(0, 8),
    radiometric_convention="class id of the most probable class",
    licence="CC-BY-4.0",
    attribution=(
        "produced for the Dynamic World Project by Google in partnership with National Geographic "
        "Society and the World Resources Institute"
    ),
)

PRODUCTS: Final[dict[str, Product]] = {
    product.name: product for product in (S2_L1C, S2_L2A, S1_GRD, DYNAMIC_WORLD)
}
"""Name -> product, in the order in which a cube has them."""
PRODUCT_NAMES: Final = tuple(PRODUCTS)
"""The products of the published recipe."""


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Return names of products in the order of the registry, each once."""
    return tuple(name for name in PRODUCTS if name in names)


def of_role(role: Role, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some products that have a role, in their order."""
    return tuple(name for name in names if PRODUCTS[name].role is role)


def optical_twins(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return (anchor, twin) of the optical products that should come from the same images."""
    optical = of_role(Role.OPTICAL, names)
    return tuple(
        (anchor, twin)
        for anchor in optical
        if PRODUCTS[anchor].pairing is Pairing.ANCHOR
        for twin in optical
        if PRODUCTS[twin].pairing is Pairing.SAME_IMAGE
    )


def published_statistics(product: str) -> dict[str, tuple[float, float]]:
    """Return band -> (mean, std) as published with SSL4EO-S12 v1.0; empty where none exist."""
    found = PRODUCTS.get(product)
    return {} if found is None else {s.band: (s.mean, s.std) for s in found.published}


def parse_product_names(text: str) -> tuple[ProductName, ...]:
    """Read a comma-separated list of products.

    Raises:
        ValueError: a name is unknown, or none is given.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PRODUCTS]
    if unknown or not names:
        raise ValueError(
            f"products {text!r}: {'none given' if not names else f'{unknown[0]!r} is unknown'}; "
            f"the products are {', '.join(PRODUCTS)}"
        )
    return in_order(names)
