"""The satellite products of the cube: their bands, units, ids, licences.

Sources: ESA Sentinel-2 Products Specification Document (bands, native resolution, DN 0 as no-data);
the Earth Engine catalogue (ids); Wang et al. 2023, "SSL4EO-S12" (published band statistics).
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

PATCH_SIZE_M: Final = 2640
"""Side of a patch: 264 px at 10 m, 132 at 20 m, 44 at 60 m."""

ProductName = Literal["s2_l1c", "s2_l2a", "s1_grd", "dynamic_world"]
Resolution = Literal[10, 20, 60]


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
        return PATCH_SIZE_M // self.resolution_m

    @property
    def suffix(self) -> str:
        """The resolution as the dimension names carry it, ``10m``."""
        return f"{self.resolution_m}m"


class Product(_Frozen):
    """A provider collection at one processing level."""

    name: ProductName
    title: str
    earth_engine_id: str
    groups: tuple[BandGroup, ...]
    dtype: Literal["uint16", "int16", "uint8"]
    unit: str
    scale_factor: float | None = None
    fill_value: int
    fill_meaning: str
    valid_range: tuple[int, int]
    """Stored values outside it are implausible."""
    radiometric_convention: str
    licence: str
    attribution: str

    @property
    def bands(self) -> tuple[str, ...]:
        """All band names, in the order of the arrays."""
        return tuple(band for group in self.groups for band in group.bands)


_COPERNICUS_LICENCE = "Copernicus Sentinel data terms: free, full and open access"
_COPERNICUS_ATTRIBUTION = "contains modified Copernicus Sentinel data [years]"
_S2_CONVENTION = (
    "digital number = reflectance x 10000, without the +1000 offset of processing baseline 04.00"
)
_S2_FILL = "no data where every band of the array is 0 (a single band may be 0 over dark water)"

S2_L1C: Final = Product(
    name="s2_l1c",
    title="Sentinel-2 L1C, top-of-atmosphere reflectance",
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
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)
S2_L2A: Final = Product(
    name="s2_l2a",
    title="Sentinel-2 L2A, surface reflectance",
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
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)
S1_GRD: Final = Product(
    name="s1_grd",
    title="Sentinel-1 GRD, backscatter",
    earth_engine_id="COPERNICUS/S1_GRD",
    groups=(BandGroup(array="s1_grd", bands=("VV", "VH"), resolution_m=10),),
    dtype="int16",
    unit="dB",
    scale_factor=0.01,
    fill_value=-32768,
    fill_meaning="non-finite backscatter (border noise, outside the swath)",
    valid_range=(-10000, 5000),
    radiometric_convention="sigma nought, 10 log10, as Earth Engine's COPERNICUS/S1_GRD",
    licence=_COPERNICUS_LICENCE,
    attribution=_COPERNICUS_ATTRIBUTION,
)
DYNAMIC_WORLD: Final = Product(
    name="dynamic_world",
    title="Google Dynamic World V1, land-cover label",
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

PRODUCTS: Final[dict[ProductName, Product]] = {
    product.name: product for product in (S2_L1C, S2_L2A, S1_GRD, DYNAMIC_WORLD)
}
PRODUCT_NAMES: Final = tuple(PRODUCTS)

# Means and standard deviations published with SSL4EO-S12 v1.0 (DN for S2, dB for S1; 50,000
# patches; no +1000 offset). Source: the data set's repository; order of `published_bands`.
_PUBLISHED: Final[dict[str, tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]]] = {
    "s2_l1c": (
        ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),
        (1605.58, 1390.78, 1314.87, 1363.52, 1549.44, 2091.75, 2371.72, 2299.90, 2560.30, 830.07,
         22.10, 2177.07, 1524.07),
        (786.79, 850.35, 875.06, 1138.85, 1122.18, 1161.59, 1274.39, 1248.43, 1345.53, 577.32,
         51.15, 1336.10, 1136.54),
    ),
    "s2_l2a": (
        ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"),
        (752.40, 884.30, 1144.16, 1297.47, 1624.91, 2194.64, 2422.21, 2517.76, 2581.65, 2645.52,
         2368.51, 1805.07),
        (1108.03, 1155.15, 1183.63, 1368.11, 1370.27, 1355.55, 1416.51, 1474.79, 1439.31, 1582.28,
         1455.52, 1343.48),
    ),
    "s1_grd": (("VV", "VH"), (-12.548, -20.192), (5.257, 5.912)),
}  # fmt: skip


def published_statistics(product: str) -> dict[str, tuple[float, float]]:
    """Return band -> (mean, std) as published with SSL4EO-S12 v1.0; empty where none exist."""
    if product not in _PUBLISHED:
        return {}
    return {band: (mean, std) for band, mean, std in zip(*_PUBLISHED[product], strict=True)}


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
            f"the products are {', '.join(PRODUCT_NAMES)}"
        )
    return tuple(name for name in PRODUCT_NAMES if name in names)
