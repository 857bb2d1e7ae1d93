"""Where a published SSL4EO-S12 patch really lies: the UTM grid behind its wrong lat/lon header.

The published GeoTIFFs hold UTM pixels under a lat/lon transform. What they were cut from can be
rebuilt: Earth Engine sampled a rectangle of longitude and latitude from every band in the band's
own lattice (the smallest block of whole pixels that covers the rectangle), the downloader cropped
each array at its centre, and wrote one nominal corner, computed from the first band, into every
file. `recover_grid` follows these steps. Bands of different resolution then start at predictable
distances from each other, which `correlate_offset` measures in the pixels, as a check of its own.

The result is an estimate. See ``docs/decisions/0005-georeference-recovery.md``.

Source: zhu-xlab/SSL4EO-S12, ``ssl4eo_s12_downloader.py`` (`center_crop`, `adjust_coords`,
`save_geotiff`, ``buffer(1320).bounds()``), read as documentation, and Earth Engine's
``Image.sampleRectangle``. "The smallest covering block" is our inference: of the rules tried it is
the one that gives the array sizes and the offsets of the public sample, Sentinel-1 included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice, product
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.grids import from_lon_lat
from storage_schema.products import PATCH_SIZE_M, patch_size_px

REGION_SIDE_M: Final = 2631.0
"""Side of the sampled rectangle: 2629.6 m x 2633.0 m in the public sample. Not 2640: Earth Engine's
buffer is a polygon."""
REGION_TOLERANCE_M: Final = 29.0
"""How far a side may be from it; half of the 60 m by which two possible array sizes differ."""
EDGE_TOLERANCE_M: Final = 0.05
"""A rectangle's edge this close to a pixel boundary may have been sampled either way. Assumed."""
AGREEMENT_20M_M: Final = 7.0
"""A measured offset of the 20 m array agrees with the predicted one up to here, along each axis:
less than the 10 m by which neighbouring predictions differ. Measured ones are right to 1 m on land
and to 6 m on waves, which move between the bands (decision 0005)."""
AGREEMENT_60M_M: Final = 15.0
"""The same for the 60 m array: less than 20 m, because 10 m more or less would move the 20 m array
too, on its own lattice."""
MIN_CORRELATION: Final = 0.5
"""Below it (open water, haze) the pixels say nothing about an offset. Trial and error."""

# Errors along one axis, m.
_CONFIRMED_M: Final = 5.0  # half a 10 m pixel: the next lattice position is ruled out
_UNCHECKED_M: Final = 10.0  # a 10 m pixel: on trust in the steps of the cut
_ASSUMED_LATTICE_M: Final = 30.0  # half a 60 m pixel: the lattice may be another one
_CENTRE_ONLY_M: Final = 60.0  # half a 60 m pixel of the corner's own spread, half for the snapping


@dataclass(frozen=True, slots=True)
class Lattice:
    """The pixel lattice of a whole image.

    Args:
        epsg: its UTM CRS.
        x_origin: easting of the upper-left corner of the image, m.
        y_origin: northing of the same corner, m.
        assumed: inferred from the tile's name, not read from metadata.
    """

    epsg: int
    x_origin: float
    y_origin: float
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class NominalExtent:
    """What a published GeoTIFF claims, deg: its upper-left corner and the extent of its array."""

    left_deg: float
    top_deg: float
    width_deg: float
    height_deg: float

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the centre, deg."""
        return self.left_deg + self.width_deg / 2, self.top_deg - self.height_deg / 2


@dataclass(frozen=True, slots=True)
class Offset:
    """Displacement of a coarse array's upper-left corner from the 10 m array's, m."""

    east_m: float
    south_m: float

    def agrees(self, other: Offset, tolerance_m: float) -> bool:
        """Tell whether both axes agree up to a tolerance."""
        difference_m = abs(self.east_m - other.east_m), abs(self.south_m - other.south_m)
        return max(difference_m) <= tolerance_m

    def distance_m(self, other: Offset) -> float:
        """Return how far the two corners lie apart."""
        return math.hypot(self.east_m - other.east_m, self.south_m - other.south_m)


class Evidence(Enum):
    """What a recovered grid rests on, best first."""

    FROM_FILE = "from_file"
    """Somebody has mended the file: it carries a projected CRS already."""
    CONFIRMED = "confirmed"
    """The cut was rebuilt, and the band offsets measured in the pixels agree with it."""
    UNCHECKED = "unchecked"
    """The cut was rebuilt; the pixels do not tell the offsets (or there is nothing to compare)."""
    CONTRADICTED = "contradicted"
    """The cut was rebuilt, but the bands are displaced otherwise (cloud parallax, another cut)."""
    CENTRE_ONLY = "centre_only"
    """The cut could not be rebuilt: the nominal centre, snapped to the lattice."""


@dataclass(frozen=True, slots=True)
class RecoveredGrid:
    """The estimated place of a patch's 10 m array, and of its coarser arrays relative to it.

    Args:
        epsg: UTM CRS.
        x_origin: easting of the upper-left corner of the 10 m array, m.
        y_origin: northing of the same corner, m.
        error_m: estimated error of this corner, both axes together; never 0. It says nothing of the
            20 m and 60 m arrays, which start elsewhere.
        evidence: what the estimate rests on.
        offset_20m: where the 20 m array starts, relative to the 10 m one; None if not known.
        offset_60m: the same for the 60 m array.
    """

    epsg: int
    x_origin: float
    y_origin: float
    error_m: float
    evidence: Evidence
    offset_20m: Offset | None = None
    offset_60m: Offset | None = None


def nominal_extent(transform: Sequence[float], size_px: int) -> NominalExtent:
    """Return what a published file claims, with its half-pixel shift undone.

    Args:
        transform: affine coefficients (a, b, c, d, e, f) of the file, deg.
        size_px: pixels per side.
    """
    a, _, c, _, e, f = transform[:6]
    # The downloader writes its corner as the centre of the first pixel.
    return NominalExtent(c + a / 2, f + e / 2, a * size_px, -e * size_px)


def nominal_origin(extent: NominalExtent, epsg: int) -> tuple[float, float]:
    """Return the upper-left corner of a 2.64 km patch around the nominal centre, m, not snapped."""
    x, y = from_lon_lat(epsg).transform(*extent.centre)
    return float(x) - PATCH_SIZE_M / 2, float(y) + PATCH_SIZE_M / 2


def tile_lattice(mgrs_tile: str) -> Lattice:
    """Return the lattice of a Sentinel-2 tile, inferred from its name (``43RCP``).

    Tiles start at multiples of 60 m east, and north of the equator at multiples of 60 m north; in
    the southern zones, with their false northing of 10,000,000 m, at 40 modulo 60. Read off the
    tiles at hand, hence `assumed`.

    Raises:
        ValueError: no tile name.
    """
    zone, band = mgrs_tile[:2], mgrs_tile[2:3]
    if not (zone.isdecimal() and 1 <= int(zone) <= 60 and "C" <= band <= "X"):
        raise ValueError(f"{mgrs_tile!r} is no MGRS tile such as 43RCP")
    if band >= "N":
        return Lattice(32600 + int(zone), 0.0, 0.0, assumed=True)
    return Lattice(32700 + int(zone), 0.0, 40.0, assumed=True)


def recover_grid(
    extent: NominalExtent,
    lattice: Lattice,
    measured_20m: Offset | None = None,
    measured_60m: Offset | None = None,
    first_band_resolution_m: int = 60,
) -> RecoveredGrid | None:
    """Estimate where the 10 m array of a published patch lies.

    Args:
        extent: what one of its files claims.
        lattice: the image's lattice, from its metadata.
        measured_20m: offset of the 20 m array found in the pixels; None where they do not tell.
        measured_60m: the same for the 60 m array.
        first_band_resolution_m: resolution of the band that the nominal corner was computed from:
            60 (B1) for Sentinel-2, 10 (VV) for Sentinel-1.

    Returns:
        The estimate; None where the file's place is not in the lattice's UTM zone at all.
    """
    x, y = nominal_origin(extent, lattice.epsg)
    if not (0 < x < 1e6 and -1e5 < y < 1.01e7):
        return None
    # With 10 m pixels several sizes of the array are possible and hardly differ: the likeliest will
    # do. With 60 m pixels there is one, rarely two, and the pixels can tell them apart.
    regions = islice(
        _sampled_regions(extent, lattice, first_band_resolution_m),
        1 if first_band_resolution_m == 10 else None,
    )
    rebuilt = [
        _check(_cut_grid(region, lattice), region, measured_20m, measured_60m) for region in regions
    ]
    if not rebuilt:
        return _snap_centre(x, y, lattice, measured_60m)
    # `min` keeps the first of equals: the region whose sides are nearest to the expected ones.
    grid = min(rebuilt, key=lambda grid: list(Evidence).index(grid.evidence))
    if first_band_resolution_m == 10:
        return replace(grid, offset_20m=None, offset_60m=None)
    return grid


def correlate_offset(
    pairs: Sequence[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]],
    factor: int,
    reach_px: int,
) -> Offset | None:
    """Measure where a coarse array lies relative to the 10 m array, by correlating similar bands.

    For every offset up to `reach_px` along both axes the fine band is averaged over the coarse
    pixels and correlated with the coarse band; the correlations of all pairs are averaged.

    Args:
        pairs: (fine (n * factor, n * factor), coarse (n, n)) bands of similar wavelength.
        factor: side of a coarse pixel in fine pixels.
        reach_px: largest offset tried, fine pixels.

    Returns:
        The offset, to a fraction of a pixel, or `reach_px` where it is that or more; None where
        the peak is weak.
    """
    maps = [correlation_map(fine, coarse, factor, reach_px) for fine, coarse in pairs]
    mean = np.mean(maps, axis=0)
    row, column = (int(i) for i in np.unravel_index(np.argmax(mean), mean.shape))
    if mean[row, column] < MIN_CORRELATION:
        return None
    east_px = column - reach_px + _vertex(mean[row, column - 1 : column + 2])
    south_px = row - reach_px + _vertex(mean[row - 1 : row + 2, column])
    return Offset(10.0 * east_px, 10.0 * south_px)


def correlation_map(
    fine: npt.NDArray[np.generic], coarse: npt.NDArray[np.generic], factor: int, reach_px: int
) -> npt.NDArray[np.float32]:
    """Return Pearson's correlation for every offset, 0 where a band is flat.

    Args:
        fine: (n * factor, n * factor).
        coarse: (n, n).
        factor: side of a coarse pixel in fine pixels.
        reach_px: largest offset, fine pixels.

    Returns:
        float32 (2 * reach_px + 1, 2 * reach_px + 1), by southward and eastward offset.
    """
    margin = -(-reach_px // factor)  # rim of coarse pixels that some offset moves off the array
    target = coarse[margin:-margin, margin:-margin].astype(np.float32)
    target -= target.mean()
    target_energy = float(np.vdot(target, target))
    count = target.shape[0]
    starts = range(margin * factor - reach_px, margin * factor + reach_px + 1)

    def block_sums(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        # Along axis 0: sums of `factor` neighbours, then every factor-th one from each start.
        size = values.shape[0] - factor + 1
        sums = values[:size].copy()
        for shift in range(1, factor):
            sums += values[shift : shift + size]
        return [sums[s : s + factor * (count - 1) + 1 : factor] for s in starts]

    centred = fine.astype(np.float32)
    centred -= centred.mean()  # first, so that float32 keeps the digits that matter
    result = np.zeros((len(starts), len(starts)), np.float32)
    transposed = np.ascontiguousarray(target.T)
    for i, rows in enumerate(block_sums(centred)):
        for j, blocks in enumerate(block_sums(np.ascontiguousarray(rows.T))):
            moved = blocks - blocks.mean()
            energy = target_energy * float(np.vdot(moved, moved))
            if energy > 0:
                result[i, j] = float(np.vdot(moved, transposed)) / math.sqrt(energy)
    return result


def _vertex(around_peak: npt.NDArray[np.floating]) -> float:
    """Return where the parabola through three values peaks, from the middle one; 0 at a border."""
    if around_peak.size < 3:
        return 0.0
    before, middle, after = (float(value) for value in around_peak)
    curvature = before - 2 * middle + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Span:
    """One side of a sampled rectangle, m from the lattice's origin, eastwards or southwards.

    `start_slack` and `stop_slack`: how far inside the ends may really lie.
    """

    start: float
    stop: float
    start_slack: float
    stop_slack: float

    def variants(self) -> tuple[_Span, _Span, _Span]:
        """Return the span as it is, at its shortest and at its longest."""
        return (
            self,
            replace(self, start=self.start + self.start_slack, stop=self.stop - self.stop_slack),
            replace(self, start=self.start - EDGE_TOLERANCE_M, stop=self.stop + EDGE_TOLERANCE_M),
        )

    def num_pixels(self, resolution_m: int) -> int:
        """Return the size of the smallest block of whole pixels that covers the span."""
        return math.ceil(self.stop / resolution_m) - math.floor(self.start / resolution_m)

    def crop_start_m(self, resolution_m: int) -> int:
        """Return where the centre crop of that block starts, m from the lattice's origin."""
        first = math.floor(self.start / resolution_m)
        crop_px = patch_size_px(resolution_m)
        return (first + _crop_start(self.num_pixels(resolution_m), crop_px)) * resolution_m

    def ambiguity_m(self) -> int:
        """Return by how much the 10 m crop's start moves within the slack."""
        starts = [span.crop_start_m(10) for span in self.variants()]
        return max(starts) - min(starts)


_Region = tuple[_Span, _Span]
"""A sampled rectangle's bounding box on the lattice: eastwards and southwards."""


def _crop_start(size_px: int, crop_px: int) -> int:
    """Return the first pixel of a centre crop, as the downloader rounds it."""
    return (size_px - crop_px + 1) // 2


def _sampled_regions(
    extent: NominalExtent, lattice: Lattice, resolution_m: int
) -> Iterator[_Region]:
    """Yield the rectangles that may have been sampled, likeliest first.

    The size of the first band's array before the crop is not recorded. A size is possible if the
    rectangle it implies has a plausible side and, put on the lattice, gives that size again.
    """
    crop_px = patch_size_px(resolution_m)
    x_deg, y_deg = extent.width_deg / crop_px, extent.height_deg / crop_px
    latitude = math.radians(extent.centre[1])
    # Length of a degree on WGS 84, m. Source: Snyder 1987, "Map Projections", pp. 24-25, as series.
    degree_x_m = 111412.84 * math.cos(latitude) - 93.5 * math.cos(3 * latitude)
    degree_y_m = 111132.92 - 559.82 * math.cos(2 * latitude)
    sizes = product(
        _possible_sizes(x_deg * degree_x_m, crop_px), _possible_sizes(y_deg * degree_y_m, crop_px)
    )
    by_misfit = sorted(sizes, key=lambda pair: pair[0][1] + pair[1][1])
    for (num_columns, _), (num_rows, _) in by_misfit:
        left_deg = extent.left_deg - _crop_start(num_columns, crop_px) * x_deg
        top_deg = extent.top_deg + _crop_start(num_rows, crop_px) * y_deg
        region = _project(left_deg, top_deg, num_columns * x_deg, num_rows * y_deg, lattice)
        if all(
            size in [variant.num_pixels(resolution_m) for variant in span.variants()]
            for size, span in zip((num_columns, num_rows), region, strict=True)
        ):
            yield region


def _possible_sizes(pixel_m: float, crop_px: int) -> list[tuple[int, float]]:
    """Return (array size before the crop, misfit of the side it implies, m)."""
    sizes = range(crop_px, crop_px + crop_px // 4 + 1)
    misfits_m = ((size, abs(size * pixel_m - REGION_SIDE_M)) for size in sizes)
    return [(size, misfit_m) for size, misfit_m in misfits_m if misfit_m <= REGION_TOLERANCE_M]


def _project(
    left_deg: float, top_deg: float, width_deg: float, height_deg: float, lattice: Lattice
) -> _Region:
    """Return the bounding box of a rectangle on a lattice."""
    steps, zeros, ones = np.linspace(0.0, 1.0, 9), np.zeros(9), np.ones(9)
    u = np.concatenate([steps, steps, zeros, ones])
    v = np.concatenate([zeros, ones, steps, steps])
    x, y = from_lon_lat(lattice.epsg).transform(left_deg + u * width_deg, top_deg - v * height_deg)
    is_corner = np.isin(u, (0, 1)) & np.isin(v, (0, 1))

    def span(distance_m: npt.NDArray[np.float64]) -> _Span:
        # Edges are curved in UTM, by up to 0.4 m. Whether Earth Engine follows the curve or joins
        # the corners is not documented: both are possible.
        corners = distance_m[is_corner]
        start, stop = float(distance_m.min()), float(distance_m.max())
        return _Span(
            start,
            stop,
            float(corners.min()) - start + EDGE_TOLERANCE_M,
            stop - float(corners.max()) + EDGE_TOLERANCE_M,
        )

    return span(np.asarray(x) - lattice.x_origin), span(lattice.y_origin - np.asarray(y))


def _cut_grid(region: _Region, lattice: Lattice) -> RecoveredGrid:
    """Return the grid that follows from a sampled rectangle, not checked against the pixels."""
    east, south = region
    offset_20m, offset_60m = (
        Offset(
            float(east.crop_start_m(resolution_m) - east.crop_start_m(10)),
            float(south.crop_start_m(resolution_m) - south.crop_start_m(10)),
        )
        for resolution_m in (20, 60)
    )
    error_m = _ASSUMED_LATTICE_M if lattice.assumed else _UNCHECKED_M
    return RecoveredGrid(
        lattice.epsg,
        lattice.x_origin + east.crop_start_m(10),
        lattice.y_origin - south.crop_start_m(10),
        math.hypot(error_m + east.ambiguity_m(), error_m + south.ambiguity_m()),
        Evidence.UNCHECKED,
        offset_20m,
        offset_60m,
    )


def _check(
    grid: RecoveredGrid, region: _Region, measured_20m: Offset | None, measured_60m: Offset | None
) -> RecoveredGrid:
    """Compare the offsets that follow from the cut with those found in the pixels."""
    compared = [
        (measured, predicted, tolerance_m)
        for measured, predicted, tolerance_m in (
            (measured_20m, grid.offset_20m, AGREEMENT_20M_M),
            (measured_60m, grid.offset_60m, AGREEMENT_60M_M),
        )
        if measured is not None and predicted is not None
    ]
    if not all(
        measured.agrees(predicted, tolerance) for measured, predicted, tolerance in compared
    ):
        farthest_m = max(measured.distance_m(predicted) for measured, predicted, _ in compared)
        return replace(grid, error_m=grid.error_m + farthest_m, evidence=Evidence.CONTRADICTED)
    if len(compared) < 2:  # one of the two alone fits several cuts
        return grid
    # No measurement tells a rectangle's edge on one side of a pixel boundary from one on the other.
    error_m = math.hypot(*(_CONFIRMED_M + span.ambiguity_m() for span in region))
    return replace(grid, error_m=error_m, evidence=Evidence.CONFIRMED)


def _snap_centre(
    x: float, y: float, lattice: Lattice, measured_60m: Offset | None
) -> RecoveredGrid:
    """Return the lattice position nearest to the nominal origin; the 60 m array may narrow it."""
    step_m, east_m, south_m = 10.0, 0.0, 0.0
    if measured_60m is not None:
        step_m = 60.0
        east_m, south_m = (
            10.0 * round(offset / 10) for offset in (measured_60m.east_m, measured_60m.south_m)
        )
    columns = round((x + east_m - lattice.x_origin) / step_m)
    rows = round((lattice.y_origin - (y - south_m)) / step_m)
    return RecoveredGrid(
        lattice.epsg,
        lattice.x_origin + columns * step_m - east_m,
        lattice.y_origin - rows * step_m + south_m,
        math.hypot(_CENTRE_ONLY_M, _CENTRE_ONLY_M),
        Evidence.CENTRE_ONLY,
    )
