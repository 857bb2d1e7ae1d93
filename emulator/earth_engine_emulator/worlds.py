"""What the emulator serves: images of a world, whichever world it is.

A world knows its images' metadata and the pixels on each band's own lattice, no more. Everything
that Earth Engine does with images (filters, masks, reprojection, arithmetic) is the interpreter's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_]
LonLat = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Where the pixels of a raster lie: a CRS and an axis-parallel affine transform.

    Args:
        crs: authority code, ``EPSG:32618``.
        x_scale: width of a pixel in units of the CRS (m or deg).
        y_scale: height of a pixel, negative where rows run southwards.
        x_origin: outer corner of the first pixel.
        y_origin: outer corner of the first pixel.
    """

    crs: str
    x_scale: float
    y_scale: float
    x_origin: float
    y_origin: float

    @property
    def crs_transform(self) -> list[float]:
        """The transform in the service's order: x scale, 0, x origin, 0, y scale, y origin."""
        return [self.x_scale, 0.0, self.x_origin, 0.0, self.y_scale, self.y_origin]


@dataclass(frozen=True, slots=True)
class Band:
    """One band of one image.

    Args:
        name: ``B2``, ``VV``, ``label``.
        dtype: NumPy name of the stored values, ``uint16``, ``float64``, ``uint8``, ...
        lattice: of its pixels.
        width: pixels.
        height: pixels.
        precision: of the service's data type; integers also have a range there.
        value_range: least and greatest value of an integer band; None where that says nothing.
    """

    name: str
    dtype: str
    lattice: Lattice
    width: int
    height: int
    precision: Literal["int", "float", "double"] = "int"
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image: everything about it but its pixels.

    Args:
        asset_id: ``COPERNICUS/S2_HARMONIZED/20200604T054639_20200604T054831_T43RCP``.
        properties: as the service names them; among them `system:index`, `system:time_start` and
            `system:time_end` (ms since 1970-01-01 UTC), `system:asset_size` (bytes) and
            `system:footprint` (GeoJSON LinearRing). Values are str, int, float or lists of them.
        footprint: closed ring of longitude, latitude (deg), counter-clockwise.
        bands: in the service's order.
        version: of the asset, as the service gives one.
    """

    asset_id: str
    properties: Mapping[str, Any]
    footprint: Sequence[LonLat]
    bands: Sequence[Band]
    version: int

    @property
    def index(self) -> str:
        """The last part of the id."""
        return self.asset_id.rsplit("/", 1)[1]

    @property
    def collection_id(self) -> str:
        """The id without its last part."""
        return self.asset_id.rsplit("/", 1)[0]

    @property
    def time_start_ms(self) -> int:
        """Start of sensing, milliseconds since 1970-01-01 UTC."""
        return int(self.properties["system:time_start"])


@dataclass(frozen=True, slots=True)
class Bounds:
    """A box in longitude and latitude (deg); west > east crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


class TooManyImagesError(Exception):
    """A search would have to look at more images than a world is ready to."""


class World(Protocol):
    """A supply of images. Deterministic: the same question has the same answer, always.

    Instances are used from several threads at once.
    """

    def collections(self) -> Mapping[str, Mapping[str, Any]]:
        """Return collection id -> its own properties (title, ...)."""
        ...

    def find_image(self, asset_id: str) -> ImageRecord | None:
        """Return one image; None where there is none of this id."""
        ...

    def find_images(
        self,
        collection_id: str,
        bounds: Bounds | None,
        start_ms: int | None,
        end_ms: int | None,
    ) -> list[ImageRecord]:
        """Return the images of a collection whose footprint may touch a box, in start <= t < end.

        Args:
            collection_id: one of `collections`.
            bounds: the search area; None means everywhere. Images that do not quite touch it may
                be among the result: the interpreter looks at footprints exactly.
            start_ms: least `system:time_start`; None means from the beginning.
            end_ms: first `system:time_start` not wanted; None means to the end.

        Returns:
            In the order of the collection: by time, then by index.

        Raises:
            TooManyImagesError: the search is too wide for this world.
        """
        ...

    def read(
        self,
        image: ImageRecord,
        band_names: Sequence[str],
        *,
        row: int,
        column: int,
        height: int,
        width: int,
    ) -> dict[str, tuple[Pixels, Valid]]:
        """Read a window of bands that share one lattice.

        Args:
            image: as this world returned it.
            band_names: bands with equal lattice and size.
            row: first row, >= 0.
            column: first column, >= 0.
            height: rows; the window lies within the band.
            width: columns.

        Returns:
            Band name -> values (height, width) in the band's dtype, and bool (height, width): False
            where the pixel is masked.
        """
        ...
