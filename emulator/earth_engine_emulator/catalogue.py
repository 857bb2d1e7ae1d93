"""The catalogue of a raster folder: one YAML file per acquisition, checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from earth_engine_emulator.errors import CatalogueError
from earth_engine_emulator.worlds import LonLat
from earth_engine_emulator.yaml_files import PathText, read_mapping, sentence_of

Dtype = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
PropertyValue = StrictStr | StrictInt | StrictFloat | list[StrictStr | StrictInt | StrictFloat]
_OWN_PROPERTIES: Final = {
    "system:index": "index",
    "system:time_start": "time_start",
    "system:time_end": "time_end",
    "system:footprint": "footprint",
    "system:asset_size": "nothing: it is measured",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BandEntry(_Frozen):
    """Where the pixels of a band are.

    Args:
        file: raster, relative to the folder of rasters.
        band: number of the band in it, from 1.
        dtype: as which its values are served; by default that of the file. It has to hold them all.
        divisor: value = stored value / divisor; probabilities stored as 0..255 have 255.
        nodata: stored value that is masked; by default the file's own; null means none is.
    """

    file: PathText
    band: int = Field(1, ge=1)
    dtype: Dtype | None = None
    divisor: float = Field(1.0, gt=0)
    nodata: float | None = None

    @property
    def overrides_nodata(self) -> bool:
        """Whether the catalogue, and not the file, says which value is masked."""
        return "nodata" in self.model_fields_set

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.divisor != 1.0 and self.dtype not in {"float32", "float64"}:
            raise ValueError("divisor makes fractions: dtype: float32 or float64 belongs to it")
        return self


class Acquisition(_Frozen):
    """One image of a collection.

    Args:
        collection: id of its collection, ``COPERNICUS/S2_HARMONIZED``.
        index: its name there, ``20200604T054639_20200604T054831_T43RCP``.
        time_start: ISO date and time with time zone, ``2020-06-04T05:48:31Z``.
        time_end: by default `time_start`.
        version: of the asset; by default `time_start` in microseconds.
        properties: under the names that clients ask for.
        footprint: ring of longitude, latitude (deg); by default the ground that all bands cover.
        bands: name -> where it is, in the service's order.
    """

    collection: str = Field(pattern=r"^[A-Za-z0-9_\-]+(/[A-Za-z0-9_\-]+)*$")
    index: str = Field(pattern=r"^[A-Za-z0-9_\-]+$")
    time_start: AwareDatetime
    time_end: AwareDatetime | None = None
    version: int | None = Field(None, ge=0)
    properties: dict[str, PropertyValue] = Field(default_factory=dict)
    footprint: Annotated[tuple[LonLat, ...], Field(min_length=3)] | None = None
    bands: dict[str, BandEntry] = Field(min_length=1)

    @property
    def asset_id(self) -> str:
        """Collection and index."""
        return f"{self.collection}/{self.index}"

    @property
    def time_start_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return (self.time_start - _EPOCH) // timedelta(milliseconds=1)

    @property
    def time_end_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        end = self.time_start if self.time_end is None else self.time_end
        return (end - _EPOCH) // timedelta(milliseconds=1)

    @field_validator("properties")
    @classmethod
    def _check_properties(cls, properties: dict[str, PropertyValue]) -> dict[str, PropertyValue]:
        for name in properties:
            if name in _OWN_PROPERTIES:
                raise ValueError(f"{name} does not belong here: give {_OWN_PROPERTIES[name]}")
        return properties

    @field_validator("footprint")
    @classmethod
    def _check_footprint(cls, ring: tuple[LonLat, ...] | None) -> tuple[LonLat, ...] | None:
        for longitude, latitude in ring or ():
            if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
                raise ValueError(f"[{longitude:g}, {latitude:g}] is no longitude and latitude")
        return ring

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.time_end is not None and self.time_end < self.time_start:
            raise ValueError("time_end is before time_start")
        return self


def read_catalogue(folder: Path) -> dict[Path, Acquisition]:
    """Read all catalogue files of a folder (``*.yaml``, ``*.yml``).

    Raises:
        CatalogueError: there are none, one is wrong, or two describe the same image.
    """
    check_folder(folder, "the catalogue's files")
    files = sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    if not files:
        raise CatalogueError(
            f"{folder} holds no catalogue: write one .yaml file per acquisition into it"
        )
    acquisitions: dict[Path, Acquisition] = {}
    seen: dict[str, Path] = {}
    for path in files:
        acquisition = read_acquisition(path)
        other = seen.setdefault(acquisition.asset_id, path)
        if other != path:
            raise CatalogueError(
                f"{path} describes {acquisition.asset_id}, as {other.name} does: change the index "
                "of one"
            )
        acquisitions[path] = acquisition
    return acquisitions


def check_folder(folder: Path, content: str) -> None:
    """Refuse a path that is not a folder.

    Args:
        folder: the path.
        content: what the folder should hold, for the sentence.

    Raises:
        CatalogueError: it is not a folder, or cannot be one.
    """
    try:
        is_folder = folder.is_dir()
    except OSError as error:  # its name is too long
        raise CatalogueError(
            f"{folder} cannot be read ({error.strerror}): give the folder with {content}"
        ) from error
    if not is_folder:
        raise CatalogueError(f"{folder} is no folder: give the one with {content}")


def read_acquisition(path: Path) -> Acquisition:
    """Read one catalogue file.

    Raises:
        CatalogueError: it cannot be read, is not YAML, or holds something that does not belong.
    """
    values = read_mapping(path)
    try:
        return Acquisition.model_validate(values)
    except ValidationError as error:
        raise CatalogueError(f"{path}: {sentence_of(error)}") from error
