"""What a user writes in a configuration of locations, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from groundwork.errors import InputError
from groundwork.settings_text import (
    PathText,
    SettingsModel,
    read_settings,
    sentence_of,
)
from storage_schema.products import PATCH_SIZE_M

DEFAULT_MIN_DISTANCE_M: Final = 3_840.0
"""No two patches overlap, however they are turned: the diagonal of 2640 m in UTM is up to 3735 m on
the ground, and each centre moves by up to 42 m when its patch is put on a tile's 60 m lattice."""
MAX_SEED: Final = 2**63 - 1
KINDS: Final = ("gaussian_around_cities", "uniform_on_land", "utm_tiling", "file")

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
NumLocations = Annotated[int, Field(ge=1, le=10_000_000, description="7-digit ids end there")]
MinDistance = Annotated[float, Field(ge=PATCH_SIZE_M, le=1_000_000)]


class SplitSettings(SettingsModel):
    """How locations are divided by blocks of the Earth's surface.

    Args:
        block_size_m: side of a block, m.
        buffer_m: locations of different splits are farther apart than this, m; those that would
            not be are set aside.
        train: share of the blocks.
        validation: share of the blocks.
        test: share of the blocks.
    """

    block_size_m: float = Field(50_000.0, ge=PATCH_SIZE_M, le=10_000_000)
    buffer_m: float = Field(5_000.0, ge=0)
    train: float = Field(0.8, ge=0, le=1)
    validation: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"train, validation and test add up to {total:g}, not to 1")
        if self.buffer_m > self.block_size_m:
            raise ValueError(
                f"buffer_m {self.buffer_m:g} is larger than block_size_m {self.block_size_m:g}: "
                "little would be left between the buffers"
            )
        return self


class RegionSettings(SettingsModel):
    """A part of the Earth: a box, or the polygons of a GeoJSON file.

    Args:
        bbox: west, south, east, north, deg; west > east crosses the antimeridian.
        geojson: path of a file with polygons in longitude and latitude, relative to the
            configuration; cut at the antimeridian, as RFC 7946 wants it.
    """

    bbox: tuple[float, float, float, float] | None = None
    geojson: PathText | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.bbox is None) == (self.geojson is None):
            raise ValueError("give either bbox or geojson")
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not -180 <= west <= 180 or not -180 <= east <= 180 or west == east:
                raise ValueError(
                    f"bbox has west {west:g} and east {east:g}: two different longitudes between "
                    "-180 and 180 are needed"
                )
            if not -90 <= south < north <= 90:
                raise ValueError(
                    f"bbox has south {south:g} and north {north:g}: -90 <= south < north <= 90 is "
                    "needed"
                )
        return self


class _Common(SettingsModel):
    """What all kinds have.

    Args:
        kind: how places are chosen.
        seed: of the draw.
        split: into train, validation, test and buffer.
    """

    seed: Seed = 0
    split: SplitSettings = SplitSettings()


class GaussianAroundCities(_Common):
    """Normally distributed around the most populous cities, as SSL4EO-S12 was sampled.

    Args:
        num_locations: how many; the first 100 of 1,000 are those of a list of 100.
        num_cities: each of the so many most populous cities is drawn equally often.
        sigma_m: standard deviation to the east and to the north, m.
        on_land: leave out centres on open water (SSL4EO-S12 kept them).
        min_distance_m: least distance of two centres, m.
    """

    kind: Literal["gaussian_around_cities"]
    num_locations: NumLocations
    num_cities: int = Field(10_000, ge=1, le=1_000_000)
    sigma_m: float = Field(50_000.0, ge=0, le=2_000_000)
    on_land: bool = False
    min_distance_m: MinDistance = DEFAULT_MIN_DISTANCE_M


class UniformOnLand(_Common):
    """Every square kilometre of land is as likely as any other.

    Args:
        num_locations: how many.
        region: where; by default the latitudes that Sentinel-2 images, 56 S to 84 N.
        min_distance_m: least distance of two centres, m.
    """

    kind: Literal["uniform_on_land"]
    num_locations: NumLocations
    region: RegionSettings = RegionSettings(bbox=(-180.0, -56.0, 180.0, 84.0))
    min_distance_m: MinDistance = DEFAULT_MIN_DISTANCE_M


class UtmTiling(_Common):
    """All tiles of 2640 m in a region, edge to edge, on the UTM grid of their zone.

    Args:
        region: tiles whose centre lies in it are taken.
        on_land: leave out tiles whose centre lies on open water.
    """

    kind: Literal["utm_tiling"]
    region: RegionSettings
    on_land: bool = False


class FromFile(_Common):
    """The locations of a CSV or (Geo)Parquet file, with the ids they have there.

    Args:
        path: the file, relative to the configuration; ``.csv``, ``.parquet`` or ``.geoparquet``.
        id_column: name of the column of ids.
        longitude_column: deg; a GeoParquet file may have points in `geometry` instead.
        latitude_column: deg.
        has_header: False for a CSV of id, longitude, latitude without a first line of names.
        id_width: ids that are shorter get zeros in front: 7 turns 200 into 0000200.
        min_distance_m: two centres nearer than this count as an overlap, m.
        on_overlap: `refuse` the file, `drop` the later one of two, or `keep` both.
    """

    kind: Literal["file"]
    path: PathText
    id_column: str = Field("location_id", max_length=1000)
    longitude_column: str = Field("longitude", max_length=1000)
    latitude_column: str = Field("latitude", max_length=1000)
    has_header: bool = True
    id_width: int = Field(0, ge=0, le=32)
    min_distance_m: MinDistance = DEFAULT_MIN_DISTANCE_M
    on_overlap: Literal["refuse", "drop", "keep"] = "refuse"


LocationSettings = Annotated[
    GaussianAroundCities | UniformOnLand | UtmTiling | FromFile, Field(discriminator="kind")
]
_ADAPTER: Final[TypeAdapter[LocationSettings]] = TypeAdapter(LocationSettings)


def read_location_settings(path: Path) -> LocationSettings:
    """Read a YAML file.

    Raises:
        InputError: the file cannot be read, is not YAML, or holds something that does not belong.
    """
    return parse_location_settings(read_settings(path), str(path))


def parse_location_settings(values: Mapping[Any, Any], where: str) -> LocationSettings:
    """Check settings.

    Args:
        values: as read from a file.
        where: the file, for the sentence of an error.

    Raises:
        InputError: something is missing, unknown or out of range.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise InputError(f"{where}: {sentence_of(error, tags=KINDS, skip=1)}") from error
