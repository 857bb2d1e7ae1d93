"""Pixels of Earth Engine: which window to ask for, and what to make of the reply.

One request carries all bands of a season on a 10 m lattice that agrees with the tile's 60 m one.
Nearest-neighbour resampling then repeats every 20 m pixel 2 x 2 and every 60 m pixel 6 x 6 times;
taking each second or sixth gives back exactly the pixels of the image.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from groundwork.errors import unknown_choice
from pipeline.grids import Grid, from_lon_lat, patch_grid
from pipeline.land_cover.lattices import Lattice
from pipeline.land_cover.reproject import (
    reproject_backscatter_db,
    reproject_labels,
    reproject_reflectance,
)
from pipeline.patches import Pixels
from pipeline.sources.earth_engine.acquisitions import Candidate
from pipeline.sources.earth_engine.collections import collection_of
from storage_schema.products import PATCH_SIZE_M, PRODUCTS, S1_GRD, Pairing, ProductName, Role

LATTICE_M: Final = 60
"""Patches sit on the lattice of the coarsest Sentinel-2 bands."""
_MARGIN_M: Final = 120
"""Around a patch that is resampled here: bilinear interpolation looks one 60 m pixel further."""
_S1_MARGIN_PX: Final = 4


class UnusableReplyError(Exception):
    """The bytes are not what was asked for; the request may be repeated."""


@dataclass(frozen=True, slots=True)
class PixelWindow:
    """A rectangle of pixels to ask for.

    Args:
        crs: authority code.
        transform: from (column, row) to the CRS.
        width: columns.
        height: rows.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int

    @property
    def request_grid(self) -> dict[str, Any]:
        """The window as ``computePixels`` wants it."""
        a, b, c, d, e, f = self.transform
        return {
            "dimensions": {"width": self.width, "height": self.height},
            "affineTransform": {
                "scaleX": a,
                "shearX": b,
                "translateX": c,
                "shearY": d,
                "scaleY": e,
                "translateY": f,
            },
            "crsCode": self.crs,
        }


@dataclass(frozen=True, slots=True)
class PixelRequest:
    """One request for pixels.

    Args:
        images: product -> image.
        window: what of them.
        resample_s1: whether the service resamples Sentinel-1, which is on another lattice.
    """

    images: Mapping[ProductName, Candidate]
    window: PixelWindow
    resample_s1: bool = False

    @property
    def counted_bytes(self) -> int:
        """What the service counts: the pixels and one mask byte per pixel and band."""
        per_pixel = sum(
            len(PRODUCTS[name].bands) * (np.dtype(collection_of(name).reply_dtype).itemsize + 1)
            for name in self.images
        )
        return per_pixel * self.window.width * self.window.height

    def split(self) -> list[PixelRequest]:
        """Return one request per product."""
        return [
            PixelRequest({name: image}, self.window, self.resample_s1)
            for name, image in self.images.items()
        ]


def band_name(product: ProductName, band: str) -> str:
    """Return what a band is called in a reply that holds several products."""
    return f"{product}_{band}"


def place_grid(longitude: float, latitude: float, anchor: Candidate, epsg: int | None) -> Grid:
    """Return a location's grid.

    Args:
        longitude: of the centre wanted, deg.
        latitude: likewise.
        anchor: an image of the location's tile; its transform is that of a 60 m band.
        epsg: the zone of all patches; None takes the tile's, and its lattice.
    """
    code, x_start, y_start = epsg or _epsg(anchor.crs), 0.0, 0.0
    if epsg is None or epsg == _epsg(anchor.crs):
        assert anchor.transform is not None
        x_start, y_start = anchor.transform[2], anchor.transform[5]
    x, y = from_lon_lat(code).transform(longitude, latitude)
    half_m = PATCH_SIZE_M / 2
    return patch_grid(
        code,
        x_start + LATTICE_M * math.floor((x - half_m - x_start) / LATTICE_M + 0.5),
        y_start + LATTICE_M * math.floor((y + half_m - y_start) / LATTICE_M + 0.5),
    )


def plan_requests(
    images: Mapping[ProductName, Candidate], grid: Grid, anchor: Candidate, s1_by_service: bool
) -> list[PixelRequest]:
    """Return the requests that bring one season's images.

    Args:
        images: of the season.
        grid: of the location.
        anchor: an image of its tile.
        s1_by_service: whether Earth Engine resamples Sentinel-1 to the grid.
    """
    on_grid = PixelWindow(f"EPSG:{grid.epsg}", grid.transform, grid.size_px, grid.size_px)
    native = _epsg(anchor.crs) == grid.epsg
    # Images on lattices of their own come alone, unless the service brings them onto the grid.
    alone = {
        name: image
        for name, image in images.items()
        if PRODUCTS[name].pairing is Pairing.NEAREST_IN_TIME and not (native and s1_by_service)
    }
    together = {name: image for name, image in images.items() if name not in alone}
    requests = []
    if together:
        window = on_grid if native else _tile_window(grid, anchor)
        requests.append(PixelRequest(together, window, s1_by_service))
    for name, image in alone.items():
        window = on_grid if s1_by_service else _own_window(grid, image)
        requests.append(PixelRequest({name: image}, window, s1_by_service))
    return requests


def _tile_window(grid: Grid, anchor: Candidate) -> PixelWindow:
    """Return the part of a tile, on its 60 m lattice, that a grid of another zone needs."""
    assert anchor.transform is not None
    left, bottom, right, top = _bounds_in(grid, anchor.crs)
    x_start, y_start = anchor.transform[2], anchor.transform[5]
    first_x = x_start + LATTICE_M * math.floor((left - _MARGIN_M - x_start) / LATTICE_M)
    first_y = y_start + LATTICE_M * math.ceil((top + _MARGIN_M - y_start) / LATTICE_M)
    width = LATTICE_M * math.ceil((right + _MARGIN_M - first_x) / LATTICE_M)
    height = LATTICE_M * math.ceil((first_y - bottom + _MARGIN_M) / LATTICE_M)
    transform = (10.0, 0.0, first_x, 0.0, -10.0, first_y)
    return PixelWindow(anchor.crs, transform, width // 10, height // 10)


def _own_window(grid: Grid, image: Candidate) -> PixelWindow:
    """Return the part of an image, on its own lattice, that a grid needs."""
    assert image.transform is not None
    a, _, c, _, e, f = image.transform
    left, bottom, right, top = _bounds_in(grid, image.crs)
    column = math.floor((left - c) / a) - _S1_MARGIN_PX
    row = math.floor((top - f) / e) - _S1_MARGIN_PX
    width = math.ceil((right - c) / a) + _S1_MARGIN_PX - column
    height = math.ceil((bottom - f) / e) + _S1_MARGIN_PX - row
    transform = (a, 0.0, c + a * column, 0.0, e, f + e * row)
    return PixelWindow(image.crs, transform, width, height)


def _bounds_in(grid: Grid, crs: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of a grid in another CRS."""
    from rasterio.warp import transform_bounds

    left, bottom, right, top = transform_bounds(f"EPSG:{grid.epsg}", crs, *grid.bounds)
    return left, bottom, right, top


def _epsg(crs: str) -> int:
    return int(crs.removeprefix("EPSG:"))


def decode_npy(body: bytes, request: PixelRequest) -> npt.NDArray[Any]:
    """Read a reply: a structured array (height, width) with one field per band.

    Nothing is copied and nothing is unpickled.

    Raises:
        UnusableReplyError: not NPY, truncated, or not the bands and the size asked for.
    """
    expected = np.dtype(
        [
            (band_name(name, band), collection_of(name).reply_dtype)
            for name in request.images
            for band in PRODUCTS[name].bands
        ]
    )
    shape = (request.window.height, request.window.width)
    if body[:6] != b"\x93NUMPY":
        raise UnusableReplyError(f"the reply is not NPY: it starts with {body[:16]!r}")
    wide = body[6] >= 2
    start = 12 if wide else 10
    length = int.from_bytes(body[8:start], "little")
    try:
        header = ast.literal_eval(body[start : start + length].decode("latin1"))
        found = np.dtype([tuple(part) for part in header["descr"]])
        found_shape, fortran = tuple(header["shape"]), header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise UnusableReplyError("the reply's NPY header is damaged") from error
    if found_shape != shape or fortran:
        raise UnusableReplyError(f"the reply has {found_shape} pixels, not {shape}")
    if found != expected:
        raise UnusableReplyError(f"the reply has bands {found}, not {expected}")
    data = memoryview(body)[start + length :]
    if len(data) != found.itemsize * shape[0] * shape[1]:
        raise UnusableReplyError(
            f"the reply has {len(data)} bytes of pixels, not {found.itemsize * shape[0] * shape[1]}"
        )
    return np.frombuffer(data, dtype=found).reshape(shape)


def patch_pixels(
    product: ProductName, reply: npt.NDArray[Any], window: PixelWindow, grid: Grid
) -> dict[str, Pixels]:
    """Return one product's arrays in the stored dtype and on the location's grid.

    Args:
        product: which.
        reply: structured (height, width), as `decode_npy` returns it.
        window: of the request.
        grid: of the location, 10 m.
    """
    arrays: dict[str, Pixels] = {}
    for group in PRODUCTS[product].groups:
        step = group.resolution_m // 10
        bands = [reply[band_name(product, band)][::step, ::step] for band in group.bands]
        lattice = _lattice(window, step, bands[0].shape)
        wanted = patch_grid(grid.epsg, grid.x_origin, grid.y_origin, group.resolution_m)
        arrays[group.array] = _to_grid(product, bands, lattice, wanted)
    return arrays


def _lattice(window: PixelWindow, step: int, shape: tuple[int, ...]) -> Lattice:
    a, b, c, d, e, f = window.transform
    return Lattice(window.crs, (step * a, b, c, d, step * e, f), shape[0], shape[1])


def _to_grid(product: ProductName, bands: Sequence[Pixels], lattice: Lattice, grid: Grid) -> Pixels:
    on_grid = lattice == Lattice.of_grid(grid)
    role = PRODUCTS[product].role
    match role:
        case Role.LABELS:
            label = np.ascontiguousarray(bands[0])
            return label if on_grid else reproject_labels(label, lattice, grid)
        case Role.RADAR:
            stacked = np.stack(bands)
            # Halfway to the fill: far below any backscatter, far above the fill itself.
            limit = collection_of(product).reply_fill / 2
            backscatter_db = np.where(stacked > limit, stacked, np.float32(np.nan))
            if not on_grid:
                backscatter_db = reproject_backscatter_db(backscatter_db, lattice, grid)
            return to_centi_db(backscatter_db)
        case Role.OPTICAL:
            stacked = np.stack(bands)
            return stacked if on_grid else reproject_reflectance(stacked, lattice, grid)
        case _:
            raise unknown_choice("role", role, list(Role))


def to_centi_db(backscatter_db: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Turn backscatter into hundredths of dB, rounding half to even; non-finite becomes the fill.

    A value that int16 cannot hold ends at its border, where the check of the patch refuses it.
    """
    centi_db = np.rint(backscatter_db.astype(np.float64) * 100)
    finite = np.isfinite(centi_db)
    limited = np.clip(centi_db, -32767, 32767, where=finite, out=np.zeros_like(centi_db))
    return np.where(finite, limited, S1_GRD.fill_value).astype(np.int16)
