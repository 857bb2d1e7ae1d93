"""Small rasters with known pixels, and catalogues of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import yaml
from rasterio.transform import Affine

UTM = "EPSG:32618"


def write_raster(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    scale: float = 10.0,
    west: float = 400_000.0,
    north: float = 4_180_000.0,
    crs: str | None = UTM,
    transform: Affine | None = None,
    driver: str = "GTiff",
    nodata: float | None = None,
    **options: Any,
) -> None:
    """Write pixels (height, width) or (bands, height, width) as a raster."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    with rasterio.open(
        path,
        "w",
        driver=driver,
        count=pixels.shape[0],
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        crs=crs,
        transform=Affine(scale, 0, west, 0, -scale, north) if transform is None else transform,
        nodata=nodata,
        **options,
    ) as dataset:
        dataset.write(pixels)


def ramp(height: int, width: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    """Pixels that are all different: 1, 2, 3, ... row by row."""
    return np.arange(1, height * width + 1).reshape(height, width).astype(dtype)


def write_catalogue(folder: Path, name: str = "image", **changes: Any) -> Path:
    """Write a catalogue file of one image; a change to None leaves the key out."""
    values: dict[str, Any] = {
        "collection": "TEST/IMAGES",
        "index": "20210619T154811_T18SVG",
        "time_start": "2021-06-19T16:02:47Z",
        "bands": {"B2": {"file": "b2.tif"}},
        **changes,
    }
    path = folder / f"{name}.yaml"
    given = {key: value for key, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path
