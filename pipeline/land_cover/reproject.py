"""A raster on a grid: labels nearest, reflectance bilinear, backscatter in linear power."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

from pipeline.grids import Grid
from pipeline.land_cover.label_sampling import nearest_labels
from pipeline.land_cover.lattices import ArrayLabels, Floats, Labels, Lattice, same_lattice


def reproject_labels(labels: Labels, source: Lattice, grid: Grid) -> Labels:
    """Return the label under each pixel centre of a grid (nearest neighbour).

    Args:
        labels: uint8 (height, width), 0..8, 255 masked.
        source: where they lie.
        grid: where they are wanted.

    Returns:
        uint8 (size, size); 255 masked or outside the source.
    """
    raster = ArrayLabels(labels, source)
    window = same_lattice(source, grid)
    if window is not None:
        return raster.read_window(window)
    return nearest_labels(raster, grid)


def reproject_reflectance(
    reflectance: npt.NDArray[np.uint16], source: Lattice, grid: Grid, fill: int = 0
) -> npt.NDArray[np.uint16]:
    """Resample Sentinel-2 digital numbers bilinearly.

    A pixel is no data where every band of the array is `fill`; such pixels take no part, so that
    the border of a swath does not darken its neighbours. A single band at `fill` is dark water.

    Args:
        reflectance: uint16 (band, height, width), DN.
        source: where they lie.
        grid: where they are wanted.
        fill: DN of no data.

    Returns:
        uint16 (band, size, size), `fill` where no valid pixel is near.
    """
    has_data = (reflectance != fill).any(axis=0)
    out = _warp_bilinear(np.where(has_data, reflectance, np.nan), source, grid)
    return np.where(np.isnan(out), fill, np.rint(out)).astype(np.uint16)


def reproject_backscatter_db(
    backscatter_db: npt.NDArray[np.floating], source: Lattice, grid: Grid
) -> npt.NDArray[np.float32]:
    """Resample Sentinel-1 backscatter bilinearly in linear power; decibels do not average.

    Args:
        backscatter_db: float (polarisation, height, width), dB; non-finite is no data.
        source: where they lie.
        grid: where they are wanted.

    Returns:
        float32 (polarisation, size, size), dB; NaN where no valid pixel is near.
    """
    finite = np.isfinite(backscatter_db)
    power = np.full(backscatter_db.shape, np.nan)
    np.power(10.0, backscatter_db / 10, out=power, where=finite, dtype=np.float64)
    return np.asarray(10 * np.log10(_warp_bilinear(power, source, grid)), dtype=np.float32)


def _warp_bilinear(values: Floats, source: Lattice, grid: Grid) -> Floats:
    """Warp (band, y, x) to (band, size, size); NaN takes no part, and is what lies outside."""
    out = np.full((len(values), grid.size_px, grid.size_px), np.nan)
    reproject(
        values,
        out,
        src_transform=Affine(*source.transform),
        src_crs=source.crs,
        src_nodata=np.nan,
        dst_transform=Affine(*grid.transform),
        dst_crs=f"EPSG:{grid.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return out
