"""Reads windows of raster files from many threads.

A GDAL dataset serves one reader at a time. Datasets are kept open and lent to one thread each; as
many are open at once as threads read at once, up to a limit.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from earth_engine_emulator.errors import CatalogueError
from earth_engine_emulator.worlds import Lattice, Pixels, Valid

# By content, as names lie. No other driver: a VRT would lead out of the folder, or of this machine.
_DRIVERS: Final = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0c": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
_MAX_IDLE: Final = 256
"""Datasets kept open without a reader; a process may usually have 1,024 files open."""


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What the header of a raster says.

    Args:
        lattice: of its pixels.
        width: pixels.
        height: pixels.
        dtypes: NumPy names, band by band.
        nodata: stored value that is masked, band by band.
    """

    lattice: Lattice
    width: int
    height: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]


class RasterFiles:
    """Open rasters, shared by threads."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Path, list[Any]] = OrderedDict()
        self._num_idle = 0
        self._lock = threading.Lock()

    def facts(self, path: Path) -> RasterFacts:
        """Read a raster's header.

        Raises:
            CatalogueError: it is no GeoTIFF or JP2, or lies on no lattice that can be served.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, as an error
                with self._lend(path) as dataset:
                    return _facts(path, dataset)
        except (RasterioError, OSError) as error:
            raise CatalogueError(
                f"{path} is no GeoTIFF or JP2 that GDAL reads ({' '.join(str(error).split())}): "
                "convert it, say with rio convert"
            ) from error

    def read(
        self, path: Path, bands: Sequence[int], *, row: int, column: int, height: int, width: int
    ) -> tuple[Pixels, Valid | None]:
        """Read a window.

        Args:
            path: raster.
            bands: numbers, from 1.
            row: first row.
            column: first column.
            height: rows.
            width: columns.

        Returns:
            Stored values (bands, height, width), and bool of the same shape from the file's own
            mask, None where it has none.
        """
        window = Window(column, row, width, height)
        with self._lend(path) as dataset:
            values = dataset.read(list(bands), window=window)
            masked = any(
                MaskFlags.per_dataset in dataset.mask_flag_enums[band - 1] for band in bands
            )
            valid = dataset.read_masks(list(bands), window=window) != 0 if masked else None
        return values, valid

    @contextlib.contextmanager
    def _lend(self, path: Path) -> Iterator[Any]:
        dataset = self._take(path)
        if dataset is None:
            dataset = rasterio.open(path, driver=_driver_of(path))
        try:
            yield dataset
        except BaseException:
            dataset.close()
            raise
        for surplus in self._put_back(path, dataset):
            surplus.close()

    def _take(self, path: Path) -> Any | None:
        with self._lock:
            waiting = self._idle.get(path)
            if not waiting:
                return None
            self._num_idle -= 1
            return waiting.pop()

    def _put_back(self, path: Path, dataset: Any) -> list[Any]:
        surplus = []
        with self._lock:
            self._idle.setdefault(path, []).append(dataset)
            self._idle.move_to_end(path)
            self._num_idle += 1
            while self._num_idle > _MAX_IDLE:
                oldest, waiting = next(iter(self._idle.items()))
                if waiting:
                    surplus.append(waiting.pop())
                    self._num_idle -= 1
                if not waiting:
                    del self._idle[oldest]
        return surplus


def _driver_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start not in _DRIVERS:
        raise RasterioError(f"it begins with {start!r}")
    return _DRIVERS[start]


def _facts(path: Path, dataset: Any) -> RasterFacts:
    transform = dataset.transform
    if transform.b or transform.d or not transform.a > 0:
        raise CatalogueError(
            f"{path} is rotated or mirrored (transform {list(transform)[:6]}): warp it to a "
            "north-up grid first"
        )
    authority = dataset.crs.to_authority() if dataset.crs else None
    if authority is None:
        raise CatalogueError(
            f"{path} has no CRS with an authority code: assign one, say with rio edit-info --crs"
        )
    return RasterFacts(
        lattice=Lattice(":".join(authority), transform.a, transform.e, transform.c, transform.f),
        width=dataset.width,
        height=dataset.height,
        dtypes=tuple(np.dtype(name).name for name in dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
    )
