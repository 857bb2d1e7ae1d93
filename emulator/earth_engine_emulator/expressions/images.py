"""Images: bands that are computed when they are asked for, with metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import get_ident
from typing import Any

from earth_engine_emulator.expressions.elements import Element, Properties
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.geometries import Geometry, of_footprint
from earth_engine_emulator.expressions.pixel_types import PixelType, type_of_band, type_of_constant
from earth_engine_emulator.expressions.projections import WGS84, Projection
from earth_engine_emulator.expressions.rasters import AssetRaster, Constant, Raster
from earth_engine_emulator.worlds import ImageRecord, LonLat

_SYSTEM = ("system:id", "system:version", "system:bands", "system:band_names")
_FOOTPRINTS_KEPT = 8192


@dataclass(frozen=True, slots=True, eq=False)
class ImageBand:
    """One band of an image.

    Args:
        name: of the band.
        pixel_type: of its values.
        projection: its default projection.
        raster: its pixels.
        dimensions: width and height (px) where it has an extent.
    """

    name: str
    pixel_type: PixelType
    projection: Projection
    raster: Raster
    dimensions: tuple[int, int] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the band as the service sends it in an image's `bands`."""
        out: dict[str, Any] = {"id": self.name, **self.describe_grid()}
        return out

    def describe_grid(self) -> dict[str, Any]:
        """Return type, size and projection, as `system:bands` has them by name."""
        out: dict[str, Any] = {"data_type": self.pixel_type.describe()}
        if self.dimensions is not None:
            out["dimensions"] = list(self.dimensions)
        out["crs"] = self.projection.crs
        out["crs_transform"] = list(self.projection.transform)
        return out


class Image(Element):
    """The service's Image.

    Args:
        bands: in order.
        properties: name -> value; the footprint among them where the image has one.
        footprint: where it has pixels; None is everywhere.
        asset_id: where it is a stored image, else None.
        version: of the stored image.
    """

    __slots__ = ("_bands", "_footprint", "_record", "asset_id", "version")

    def __init__(
        self,
        bands: Sequence[ImageBand] | None,
        properties: Properties,
        footprint: Geometry | None = None,
        asset_id: str | None = None,
        version: int | None = None,
        record: ImageRecord | None = None,
    ) -> None:
        super().__init__(properties)
        self._bands = tuple(bands) if bands is not None else None
        self._footprint = footprint
        self._record = record
        self.asset_id = asset_id
        self.version = version

    @classmethod
    def of_record(cls, record: ImageRecord) -> Image:
        """Return a stored image; its bands are looked at when they are needed."""
        return cls(None, record.properties, None, record.asset_id, record.version, record)

    @property
    def bands(self) -> tuple[ImageBand, ...]:
        """The bands, in order."""
        if self._bands is None:
            assert self._record is not None
            self._bands = _bands_of(self._record)
        return self._bands

    @property
    def band_names(self) -> list[str]:
        """The names of the bands, in order."""
        return [band.name for band in self.bands]

    @property
    def footprint(self) -> Geometry | None:
        """Where the image has pixels; None is everywhere."""
        if self._footprint is None and self._record is not None:
            self._footprint = _footprint_of(tuple(self._record.footprint), get_ident())
        return self._footprint

    @property
    def geometry(self) -> Geometry | None:
        """The footprint."""
        return self.footprint

    def get(self, name: str) -> Any:
        """Return a property, also the ones that the service derives from the asset."""
        found = self.properties.get(name)
        if found is not None or name not in _SYSTEM:
            return found
        if name == "system:id":
            return self.asset_id
        if name == "system:version":
            return self.version
        if name == "system:band_names":
            return self.band_names
        return {band.name: band.describe_grid() for band in self.bands}

    def property_names(self) -> list[str]:
        """Return the names of all properties, also the derived ones."""
        derived = _SYSTEM if self.asset_id is not None else _SYSTEM[2:]
        return list(dict.fromkeys([*self.properties, *derived]))

    def with_properties(self, properties: Properties) -> Image:
        """Return a copy with other properties."""
        return Image(
            self._bands,
            properties,
            self._footprint,
            self.asset_id,
            self.version,
            self._record,
        )

    def with_bands(self, bands: Sequence[ImageBand]) -> Image:
        """Return a copy with other bands, metadata and footprint kept."""
        return Image(bands, self.properties, self.footprint, self.asset_id, self.version)

    def with_footprint(self, footprint: Geometry | None) -> Image:
        """Return a copy with another footprint."""
        properties = dict(self.properties)
        if footprint is not None:
            properties["system:footprint"] = footprint.describe()
        return Image(self.bands, properties, footprint, self.asset_id, self.version)

    def computed(self, bands: Sequence[ImageBand]) -> Image:
        """Return an image of computed bands.

        It keeps the footprint and the index alone: the service drops other metadata in arithmetic.
        """
        kept = {
            name: self.properties[name]
            for name in ("system:footprint", "system:index")
            if name in self.properties
        }
        return Image(bands, kept, self.footprint)

    def describe(self) -> dict[str, Any]:
        """Return the image as the service sends it (`getInfo`)."""
        out: dict[str, Any] = {"type": "Image", "bands": [band.describe() for band in self.bands]}
        if self.asset_id is not None:
            out |= {"version": self.version, "id": self.asset_id}
        properties = {k: v for k, v in self.properties.items() if k not in _SYSTEM}
        if properties:
            out["properties"] = dict(sorted(properties.items()))
        return out


def _bands_of(record: ImageRecord) -> tuple[ImageBand, ...]:
    return tuple(
        ImageBand(
            band.name,
            type_of_band(band),
            Projection.of_lattice(band.lattice),
            AssetRaster(record, band),
            (band.width, band.height),
        )
        for band in record.bands
    )


@lru_cache(maxsize=_FOOTPRINTS_KEPT)
def _footprint_of(ring: tuple[LonLat, ...], _thread: int) -> Geometry:
    # One for each thread: prepared shapes are not to be used by several at once.
    return of_footprint(ring)


def constant_image(value: Any) -> Image:
    """Return a constant image: one band for a number, several for a list.

    Raises:
        AlgorithmError: the value is neither.
    """
    if isinstance(value, (bool, int, float)):
        return Image([_constant_band("constant", value)], {})
    if isinstance(value, list) and all(isinstance(v, (bool, int, float)) for v in value):
        names = [f"constant{'' if i == 0 else f'_{i}'}" for i in range(len(value))]
        return Image([_constant_band(n, v) for n, v in zip(names, value, strict=True)], {})
    raise AlgorithmError(f"Image.constant: a number or a list of numbers is needed, not {value!r}.")


def _constant_band(name: str, value: float) -> ImageBand:
    pixel_type = type_of_constant(value)
    return ImageBand(name, pixel_type, WGS84, Constant(value, pixel_type.dtype))


def select_bands(image: Image, selectors: Sequence[Any], names: Sequence[str] | None) -> Image:
    """Select bands by name, regular expression or index, and rename them.

    Raises:
        AlgorithmError: a selector matches nothing, or the number of names is wrong.
    """
    chosen = [band for selector in selectors for band in _matching(image, selector)]
    if names is None:
        return image.with_bands(chosen)
    if len(names) != len(chosen):
        raise AlgorithmError(
            f"Can't rename bands: the number of names ({len(names)}) must match the number of "
            f"bands selected ({len(chosen)})."
        )
    return image.with_bands(
        [replace(band, name=name) for band, name in zip(chosen, names, strict=True)]
    )


def _matching(image: Image, selector: Any) -> list[ImageBand]:
    if isinstance(selector, (int, float)) and not isinstance(selector, bool):
        index = int(selector)
        if not -len(image.bands) <= index < len(image.bands):
            raise AlgorithmError(
                f"Band index {index} out of bounds; the image has {len(image.bands)} bands."
            )
        return [image.bands[index]]
    if not isinstance(selector, str):
        raise AlgorithmError(f"Invalid band selector: {selector}.")
    exact = [band for band in image.bands if band.name == selector]
    if exact:
        return exact[:1]
    try:
        pattern = re.compile(selector)
    except re.error:
        raise AlgorithmError(f"Invalid regular expression '{selector}'.") from None
    found = [band for band in image.bands if pattern.fullmatch(band.name)]
    if not found:
        raise AlgorithmError(
            f"Band pattern '{selector}' did not match any bands. Available bands: "
            f"[{', '.join(image.band_names)}]"
        )
    return found


def add_bands(
    image: Image, other: Image, names: Sequence[str] | None = None, overwrite: bool = False
) -> Image:
    """Append the bands of another image; a name taken already gets the suffix ``_1``, ``_2``, ...

    With `overwrite`, the other image's band replaces the one of the same name.
    """
    added = select_bands(other, names, None).bands if names is not None else other.bands
    bands = list(image.bands)
    places = {band.name: i for i, band in enumerate(bands)}
    for band in added:
        if overwrite and band.name in places:
            bands[places[band.name]] = band
            continue
        name = _free_name(band.name, places)
        places[name] = len(bands)
        bands.append(band if name == band.name else replace(band, name=name))
    return image.with_bands(bands)


def _free_name(name: str, taken: dict[str, int]) -> str:
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def default_projection(image: Image) -> Projection:
    """Return the default projection of an image's bands.

    Raises:
        AlgorithmError: the bands have several.
    """
    if not image.bands:
        raise AlgorithmError("The image has no bands.")
    first = image.bands[0]
    for band in image.bands:
        if band.projection != first.projection:
            raise AlgorithmError(
                f"The bands of the specified image contains different projections. Use "
                f".select('{first.name}') to get a single band; '{band.name}' differs from it."
            )
    return first.projection
