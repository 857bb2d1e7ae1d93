"""One acquisition of SSL4EO-S12: its folder's metadata and bands, or what is wrong with them.

Paths in sentences are relative to the data set's root, so that a cube does not depend on where the
files lay.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from groundwork.errors import TransientError
from pipeline.patches import Acquisition, Pixels, ProductPatch
from pipeline.sources.ssl4eo_s12.georeference import (
    Evidence,
    Lattice,
    NominalExtent,
    RecoveredGrid,
    nominal_extent,
    tile_lattice,
)
from storage_schema.land_cover import MASKED, NUM_CLASSES
from storage_schema.products import DYNAMIC_WORLD, PRODUCTS, S1_GRD, BandGroup, ProductName, Role
from storage_schema.status import OrbitPass, PatchStatus, StatusReason

_FIRST_10M_BAND: Final[Mapping[Role, str]] = {Role.OPTICAL: "B2", Role.RADAR: "VV"}
"""The band of the published metadata whose lattice is that of the 10 m pixels."""
_TIME_IN_ID: Final = re.compile(r"\d{8}T\d{6}")
_TILE_IN_ID: Final = re.compile(r"_T(\d{2}[A-Z]{3})$")
_BASELINE: Final = re.compile(r"\d{1,2}\.\d{1,2}")
_YEAR_2100_MS: Final = 4_102_444_800_000
_OFFSET_BASELINE: Final = 4.0
"""From this processing baseline on, unharmonised S2 numbers are 1000 higher (2022-01-25)."""


@dataclass(slots=True)
class ReadingLog:
    """What is said and counted while one location is read."""

    notes: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def count(self, note: str, sentence: str) -> None:
        """Count a note and say what it was about."""
        self.notes[note] += 1
        self.warnings.append(sentence)


@dataclass(frozen=True, slots=True)
class AcquisitionFolder:
    """One acquisition before its pixels are read; `path` is relative to the root."""

    product: ProductName
    path: Path
    acquisition: Acquisition
    lattice: Lattice | None


@dataclass(frozen=True, slots=True)
class Image:
    """One acquisition with its pixels (or what went wrong), and what its files say of the place."""

    folder: AcquisitionFolder
    patch: ProductPatch
    extent: NominalExtent | None = None
    file_grid: RecoveredGrid | None = None

    def band(self, name: str) -> Pixels:
        """Return one band of a complete patch."""
        for group in PRODUCTS[self.folder.product].groups:
            if name in group.bands:
                values: Pixels = self.patch.pixels[group.array][group.bands.index(name)]
                return values
        raise KeyError(name)


def read_metadata(
    root: Path, path: Path, product: ProductName, log: ReadingLog
) -> AcquisitionFolder:
    """Read an acquisition's ``metadata.json``; what it does not say comes from the folder's name.

    Args:
        root: the data set's folder.
        path: the acquisition's folder below it.
        product: what it holds.
        log: counts ``unreadable_metadata``, ``metadata_without_lattice`` and
            ``processing_baseline_04_or_later``.

    Raises:
        TransientError: the file is there but cannot be reached for now.
    """
    file = path / "metadata.json"
    content, problem = _load_object(root, file)
    lattice = _image_lattice(content, _FIRST_10M_BAND[PRODUCTS[product].role])
    if problem:
        log.count(
            "unreadable_metadata",
            f"{file} cannot be used ({problem}): time and tile are taken from the folder's name",
        )
    elif lattice is None:
        log.count("metadata_without_lattice", f"{file} has no CRS and transform of the 10 m bands")
    if PRODUCTS[product].role is Role.OPTICAL:
        lattice = lattice or _lattice_of_tile(path.name)
        baseline = str(content.get("PROCESSING_BASELINE", ""))
        if _BASELINE.fullmatch(baseline) and float(baseline) >= _OFFSET_BASELINE:
            log.count(
                "processing_baseline_04_or_later",
                f"{path} has processing baseline {baseline}: unless the +1000 offset was removed, "
                "its numbers do not compare with those of the other images",
            )
    return AcquisitionFolder(product, path, _acquisition(path.name, product, content), lattice)


def _load_object(root: Path, file: Path) -> tuple[dict[str, Any], str]:
    """Return the content of a JSON file and "", or {} and what is wrong with it."""
    try:
        content = json.loads((root / file).read_bytes())
    except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        return {}, str(error.strerror)
    except OSError as error:
        raise TransientError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    return (content, "") if isinstance(content, dict) else ({}, "not a JSON object")


def _lattice_of_tile(image_id: str) -> Lattice | None:
    """Return the lattice that an S2 image's id implies."""
    tile = _TILE_IN_ID.search(image_id)
    try:
        return tile_lattice(tile.group(1)) if tile else None
    except ValueError:
        return None


def _acquisition(image_id: str, product: ProductName, content: Mapping[str, Any]) -> Acquisition:
    """Describe an acquisition by its Earth Engine properties."""
    is_radar = PRODUCTS[product].role is Role.RADAR

    def number(name: str, highest: float) -> float | None:
        value = content.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if 0 <= value <= highest else None  # NaN fails too

    time_ms = number("system:time_start", _YEAR_2100_MS)
    zenith_deg = number("MEAN_SOLAR_ZENITH_ANGLE", 180)
    orbit = number("relativeOrbitNumber_start" if is_radar else "SENSING_ORBIT_NUMBER", 999)
    direction = content.get("orbitProperties_pass" if is_radar else "SENSING_ORBIT_DIRECTION")
    return Acquisition(
        id=image_id,
        time_ms=_time_in_id(image_id) if time_ms is None else int(time_ms),
        cloud_percentage=number("CLOUDY_PIXEL_PERCENTAGE", 100),
        orbit_pass=OrbitPass.__members__.get(str(direction), OrbitPass.UNKNOWN),
        relative_orbit=None if orbit is None else int(orbit),
        sun_elevation_deg=None if zenith_deg is None else 90.0 - zenith_deg,
    )


def _time_in_id(image_id: str) -> int | None:
    """Return the first time stamp in an image's id, ms since 1970-01-01 UTC."""
    match = _TIME_IN_ID.search(image_id)
    try:
        time = datetime.strptime(match.group(), "%Y%m%dT%H%M%S") if match else None  # noqa: DTZ007
    except ValueError:
        return None
    return None if time is None else int(time.replace(tzinfo=UTC).timestamp() * 1000)


def _image_lattice(content: Mapping[str, Any], band: str) -> Lattice | None:
    """Return the lattice of a 10 m band out of an image's metadata; None where it is not there."""
    try:
        described = content["system:bands"][band]
        authority, _, code = described["crs"].partition(":")
        a, b, c, d, e, f = (float(v) for v in described["crs_transform"])
        epsg = int(code)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    is_utm = authority == "EPSG" and epsg // 100 in (326, 327) and 1 <= epsg % 100 <= 60
    is_10m = (a, b, d, e) == (10.0, 0.0, 0.0, -10.0) and math.isfinite(c) and math.isfinite(f)
    return Lattice(epsg, c, f) if is_utm and is_10m else None


class _UnusableFileError(Exception):
    """Why a file cannot become part of a patch; internal to this module."""

    def __init__(self, status: PatchStatus, reason: StatusReason, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


@dataclass(frozen=True, slots=True)
class _Raster:
    """A file's only band, and its transform; `epsg` only where the CRS is projected."""

    values: Pixels
    transform: tuple[float, ...]
    epsg: int | None = None


def _read_raster(
    root: Path, file: Path, size_px: int, dtypes: tuple[str, ...], with_crs: bool = False
) -> _Raster:
    """Read a single-band file whole.

    Raises:
        _UnusableFileError: it is missing, cannot be read to its end, or has another size or type.
        TransientError: it cannot be reached for now.
    """
    try:
        with rasterio.open(root / file, driver="GTiff") as dataset:
            shape = (dataset.count, *dataset.shape)
            dtype = str(dataset.dtypes[0])
            if shape != (1, size_px, size_px):
                raise _UnusableFileError(
                    PatchStatus.REJECTED,
                    StatusReason.WRONG_SIZE,
                    f"{file} has (bands, rows, columns) {shape}, not {(1, size_px, size_px)}",
                )
            if dtype not in dtypes:
                raise _UnusableFileError(
                    PatchStatus.REJECTED,
                    StatusReason.WRONG_DTYPE,
                    f"{file} holds {dtype}, not {' or '.join(dtypes)}",
                )
            crs = dataset.crs if with_crs else None
            return _Raster(
                dataset.read(1),
                tuple(dataset.transform[:6]),
                crs.to_epsg() if crs and crs.is_projected else None,
            )
    except (RasterioError, ValueError, TypeError, MemoryError) as error:
        # The last three: what damaged headers make of rasterio, found by flipping bytes.
        raise _why_unreadable(root, file) from error


def _why_unreadable(root: Path, file: Path) -> _UnusableFileError:
    """Tell a missing file from a damaged one, and both from storage that does not answer."""
    try:
        with (root / file).open("rb") as stream:
            while stream.read(1 << 20):
                pass
    except (FileNotFoundError, NotADirectoryError):
        return _UnusableFileError(
            PatchStatus.FAILED, StatusReason.MISSING_BAND, f"{file} is missing: fetch it again"
        )
    except (PermissionError, IsADirectoryError) as denied:
        return _UnusableFileError(
            PatchStatus.FAILED,
            StatusReason.UNREADABLE_FILE,
            f"{file} cannot be read ({denied.strerror})",
        )
    except OSError as unreachable:
        raise TransientError(f"{file} cannot be read ({unreachable.strerror})") from unreachable
    return _UnusableFileError(
        PatchStatus.FAILED,
        StatusReason.UNREADABLE_FILE,
        f"{file} is truncated or no GeoTIFF: fetch it again",
    )


def read_bands(root: Path, folder: AcquisitionFolder) -> Image:
    """Read all bands of an acquisition; the first that cannot be used decides its status.

    S2 values are kept bit for bit; S1 becomes hundredths of dB.
    """
    product = PRODUCTS[folder.product]
    # Backscatter was published as floating-point decibels, reflectance in the stored dtype.
    is_radar = product.role is Role.RADAR
    dtypes = ("float32", "float64") if is_radar else (product.dtype,)
    pixels: dict[str, Pixels] = {}
    image = Image(folder, ProductPatch(PatchStatus.PENDING, acquisition=folder.acquisition))
    try:
        for group in product.groups:
            bands: list[Pixels] = []
            for band in group.bands:
                file = folder.path / f"{band}.tif"
                raster = _read_raster(root, file, group.size_px, dtypes, image.extent is None)
                if image.extent is None:
                    image = _with_place(image, raster, group)
                bands.append(_to_centi_db(raster.values, file) if is_radar else raster.values)
            pixels[group.array] = np.stack(bands)
    except _UnusableFileError as problem:
        patch = ProductPatch(
            problem.status, problem.reason, folder.acquisition, detail=problem.detail
        )
        return replace(image, patch=patch)
    return replace(image, patch=replace(image.patch, status=PatchStatus.COMPLETE, pixels=pixels))


def _with_place(image: Image, raster: _Raster, group: BandGroup) -> Image:
    """Note what an acquisition's first readable file says of the place."""
    if raster.epsg is not None:
        a, _, c, _, e, f = raster.transform
        if group.resolution_m == 10 and (a, e) == (10.0, -10.0):
            grid = RecoveredGrid(raster.epsg, c, f, math.hypot(5.0, 5.0), Evidence.FROM_FILE)
            return replace(image, file_grid=grid)
        return image
    extent = nominal_extent(raster.transform, group.size_px)
    longitude, latitude = extent.centre
    in_degrees = abs(longitude) <= 181 and abs(latitude) <= 90  # NaN fails too
    if not (in_degrees and 0 < extent.width_deg < 1 and 0 < extent.height_deg < 1):
        return image  # no transform, or one of something else
    return replace(image, extent=extent)


def _to_centi_db(backscatter_db: Pixels, file: Path) -> npt.NDArray[np.int16]:
    """Turn backscatter into hundredths of dB, rounding half to even; non-finite becomes the fill.

    Raises:
        _UnusableFileError: a finite value does not fit; no radar measures it.
    """
    with np.errstate(invalid="ignore"):  # damaged bytes can be signalling NaNs
        centi_db = np.rint(backscatter_db.astype(np.float64) * 100)
    finite = np.isfinite(centi_db)
    if (np.abs(centi_db[finite]) > np.iinfo(np.int16).max).any():
        worst_db = np.abs(centi_db[finite]).max() / 100
        raise _UnusableFileError(
            PatchStatus.REJECTED,
            StatusReason.IMPLAUSIBLE_VALUES,
            f"{file} holds values up to {worst_db:g} in magnitude, which are no dB",
        )
    return np.where(finite, centi_db, S1_GRD.fill_value).astype(np.int16)


def read_label_map(root: Path, path: Path, image: Acquisition) -> ProductPatch:
    """Read a Dynamic World label map; `image` is the acquisition it was made from."""
    file = path / "label.tif"
    group = DYNAMIC_WORLD.groups[0]
    try:
        labels = cast(
            npt.NDArray[np.uint8], _read_raster(root, file, group.size_px, ("uint8",)).values
        )
        strange = np.unique(labels[(labels >= NUM_CLASSES) & (labels != MASKED)])
        if strange.size:
            raise _UnusableFileError(  # noqa: TRY301 - handled with the other problems below
                PatchStatus.REJECTED,
                StatusReason.IMPLAUSIBLE_VALUES,
                f"{file} holds {', '.join(map(str, strange[:5]))}, which are no classes",
            )
    except _UnusableFileError as problem:
        return ProductPatch(problem.status, problem.reason, image, detail=problem.detail)
    return ProductPatch(PatchStatus.COMPLETE, acquisition=image, pixels={group.array: labels})
