"""Pixels of a reply: which grid, how large it may be, and how it is encoded."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.geometries import in_projection
from earth_engine_emulator.expressions.grids import PixelGrid
from earth_engine_emulator.expressions.images import Image, ImageBand, select_bands
from earth_engine_emulator.expressions.projections import WGS84_CRS, Projection, parse_crs
from earth_engine_emulator.expressions.rasters import Sampled
from earth_engine_emulator.expressions.regions import covering_grid
from earth_engine_emulator.expressions.session import Session
from earth_engine_emulator.limits import Limits

CONTENT_TYPES = {"NPY": "application/octet-stream", "GEO_TIFF": "image/tiff"}
_ROWS_AT_A_TIME = 32
_AFFINE_FIELDS = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")


@dataclass(frozen=True, slots=True, eq=False)
class PixelReply:
    """An encoded reply.

    Args:
        content: its bytes.
        content_type: of them.
    """

    content: bytes | memoryview
    content_type: str


def compute_pixels(session: Session, image: Any, request: Mapping[str, Any]) -> PixelReply:
    """Compute an image's pixels as ``image:computePixels`` does.

    Args:
        session: of the request.
        image: what the expression is.
        request: the body: `fileFormat`, `grid`, `bandIds`.

    Raises:
        ServiceError: the service would refuse the request.
    """
    if not isinstance(image, Image):
        raise ServiceError("The expression must evaluate to an Image.")
    file_format = str(request.get("fileFormat", "AUTO_JPEG_PNG"))
    if file_format not in CONTENT_TYPES:
        raise ServiceError(
            f"Unsupported file format '{file_format}': the emulator has NPY and GEO_TIFF."
        )
    if request.get("visualizationOptions"):
        raise ServiceError("The emulator does not have visualizationOptions.")
    try:
        bands = _wanted_bands(image, request.get("bandIds"))
        grid = _wanted_grid(image, bands, request.get("grid") or {})
    except AlgorithmError as error:
        raise ServiceError(str(error)) from error
    check_size(bands, grid, session.limits)
    sampled = session.sample([band.raster for band in bands], grid)
    if file_format == "NPY":
        return PixelReply(encode_npy(bands, sampled, grid), CONTENT_TYPES["NPY"])
    return PixelReply(encode_geotiff(bands, sampled, grid), CONTENT_TYPES["GEO_TIFF"])


def _wanted_bands(image: Image, names: Any) -> tuple[ImageBand, ...]:
    bands = select_bands(image, list(names), None).bands if names else image.bands
    if not bands:
        raise ServiceError("The image has no bands.")
    return bands


def _wanted_grid(image: Image, bands: Sequence[ImageBand], wanted: Mapping[str, Any]) -> PixelGrid:
    projection = _projection(bands[0].projection, wanted)
    dimensions = wanted.get("dimensions")
    if dimensions is not None:
        width, height = (_pixels(dimensions, name) for name in ("width", "height"))
        return PixelGrid(projection, width, height)
    if image.footprint is None:
        raise ServiceError("Unable to compute pixels of an unbounded image without dimensions.")
    grid, _, _ = covering_grid(in_projection(image.footprint, projection), projection)
    return grid


def _pixels(dimensions: Mapping[str, Any], name: str) -> int:
    try:
        size = int(dimensions[name])
    except (KeyError, TypeError, ValueError):
        size = 0
    if size <= 0:
        raise ServiceError(f"Pixel grid dimensions must be positive: '{name}' is not.")
    return size


def _projection(default: Projection, wanted: Mapping[str, Any]) -> Projection:
    code = wanted.get("crsCode") or wanted.get("crsWkt")
    affine = wanted.get("affineTransform")
    if affine is None:
        if code and code != default.crs:
            raise ServiceError(f"An affineTransform is needed with the CRS '{code}'.")
        return default
    numbers = tuple(float(affine.get(name, 0.0)) for name in _AFFINE_FIELDS)
    a, b, c, d, e, f = numbers
    if a * e - b * d == 0.0 or not np.isfinite(numbers).all():
        raise ServiceError(f"The affine transform {list(numbers)} is not invertible.")
    crs = str(code) if code else WGS84_CRS
    parse_crs(crs)
    return Projection(crs, (a, b, c, d, e, f))


def check_size(bands: Sequence[ImageBand], grid: PixelGrid, limits: Limits) -> None:
    """Refuse a request beyond the service's limits.

    Raises:
        ServiceError: too many pixels along a side, bands, or bytes; each pixel of each band counts
            with one byte of mask.
    """
    if max(grid.shape) > limits.max_dimension_px:
        raise ServiceError(
            f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to "
            f"{limits.max_dimension_px}."
        )
    if len(bands) > limits.max_bands:
        raise ServiceError(
            f"Number of bands ({len(bands)}) must be less than or equal to {limits.max_bands}."
        )
    size = grid.width * grid.height * sum(band.pixel_type.itemsize + 1 for band in bands)
    if size > limits.max_response_bytes:
        raise ServiceError(
            f"Total request size ({size} bytes) must be less than or equal to "
            f"{limits.max_response_bytes} bytes."
        )


def _filled(sampled: Sampled) -> npt.NDArray[Any]:
    """Return the values with 0 where masked; that the service sends 0 is not verified."""
    values, valid = sampled
    if valid.all():
        return values
    return np.where(valid, values, values.dtype.type(0))


def encode_npy(
    bands: Sequence[ImageBand], sampled: Sequence[Sampled], grid: PixelGrid
) -> memoryview:
    """Encode a structured array (height, width) with one field for each band, as NPY."""
    dtype = np.dtype([(band.name, band.pixel_type.dtype) for band in bands])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": dtype.descr, "fortran_order": False, "shape": grid.shape}
    )
    start = header.tell()
    buffer = bytearray(start + grid.width * grid.height * dtype.itemsize)
    buffer[:start] = header.getvalue()
    out = np.frombuffer(buffer, dtype, offset=start).reshape(grid.shape)
    fields = [out[band.name] for band in bands]
    filled = [np.broadcast_to(_filled(one), grid.shape) for one in sampled]
    # A few rows at a time stay in the processor's cache while their fields are interleaved.
    for row in range(0, grid.height, _ROWS_AT_A_TIME):
        rows = slice(row, row + _ROWS_AT_A_TIME)
        for field, values in zip(fields, filled, strict=True):
            field[rows] = values[rows]
    return memoryview(buffer)


def encode_geotiff(
    bands: Sequence[ImageBand], sampled: Sequence[Sampled], grid: PixelGrid
) -> bytes:
    """Encode a GeoTIFF with the bands' names; masked pixels are 0, without a no-data value."""
    import rasterio
    from rasterio.io import MemoryFile

    dtype = np.result_type(*(band.pixel_type.dtype for band in bands))
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=grid.width,
            height=grid.height,
            count=len(bands),
            dtype=dtype,
            crs=grid.projection.crs,
            transform=rasterio.Affine(*grid.projection.transform),
            compress="deflate",
        ) as target:
            for number, (band, one) in enumerate(zip(bands, sampled, strict=True), start=1):
                values = np.broadcast_to(_filled(one), grid.shape).astype(dtype)
                target.write(values, number)
                target.set_band_description(number, band.name)
        content: bytes = memory.read()
    return content
