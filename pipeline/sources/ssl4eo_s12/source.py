"""SSL4EO-S12 as published: one folder per product, location and acquisition, one GeoTIFF per band.

::

    s2c/0000200/20200604T054639_20200604T054831_T43RCP/{B1, ..., B12}.tif, metadata.json   (L1C)
    s2a/...                                                                                (L2A)
    s1/0000200/S1A_IW_GRDH_.../{VV, VH}.tif, metadata.json                                 (GRD, dB)
    dw/0000200/20200604T054639_20200604T054831_T43RCP/label.tif     (Dynamic World, id of the L1C)

Everything that is wrong with a file becomes the status of its own patch and a sentence; nothing
that is wrong with one acquisition touches another.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from groundwork.errors import InputError, TransientError
from pipeline.grids import Grid
from pipeline.patches import LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.one_by_one import ReadsOneByOne
from pipeline.sources.seasons import arrange_seasons
from pipeline.sources.ssl4eo_s12.georeference import Offset
from pipeline.sources.ssl4eo_s12.grid import Slot, locate
from pipeline.sources.ssl4eo_s12.images import (
    AcquisitionFolder,
    ReadingLog,
    read_bands,
    read_label_map,
    read_metadata,
)
from storage_schema.products import (
    DYNAMIC_WORLD,
    PRODUCTS,
    ProductName,
    Role,
    in_order,
    of_role,
    optical_twins,
)
from storage_schema.status import PatchStatus, StatusReason

FOLDERS: Final[Mapping[ProductName, str]] = {
    "s2_l1c": "s2c",
    "s2_l2a": "s2a",
    "s1_grd": "s1",
    "dynamic_world": "dw",
}
"""Product -> its folder; `dw` is our addition, SSL4EO-S12 has no label maps."""
IMAGERY: Final = tuple(name for name in in_order(FOLDERS) if PRODUCTS[name].is_imagery)
"""Products with pixels of their own to locate."""

_PLAIN_NAME: Final = re.compile(r"[0-9A-Za-z_-]+")


@dataclass(frozen=True, slots=True)
class SSL4EOS12Source(ReadsOneByOne):
    """A folder in the published layout; a `PatchSource`.

    Args:
        root: folder that holds `s1`, `s2a`, `s2c`, `dw`, or any of them.
        products: which of them to read.
    """

    root: Path
    products: tuple[ProductName, ...]

    @classmethod
    def open(cls, root: Path, products: Sequence[ProductName] | None = None) -> SSL4EOS12Source:
        """Find the products under a folder.

        Args:
            root: folder in the published layout.
            products: products to read; default: all that are there.

        Raises:
            InputError: no such folder, no imagery in it, or a product asked for is not there.
        """
        if not root.is_dir():
            raise InputError(f"{root} is not a folder: give the one that holds s1, s2a, s2c")
        for folder in FOLDERS.values():
            if (root / folder).exists() and not (root / folder).is_dir():
                raise InputError(
                    f"{root / folder} is a file: it has to be the folder of locations, or away"
                )
        found = {name for name, folder in FOLDERS.items() if (root / folder).is_dir()}
        for name in products or ():
            if name not in FOLDERS:
                raise InputError(
                    f"SSL4EO-S12 has no folder for product {name}: ask for {', '.join(FOLDERS)}"
                )
            if name not in found:
                raise InputError(
                    f"{root} has no folder {FOLDERS[name]} for {name}: leave it out, or add it"
                )
        chosen = found if products is None else set(products)
        if not chosen.intersection(IMAGERY):
            raise InputError(
                f"{root} has none of the folders s1, s2a, s2c to read imagery from: give the "
                "folder that holds them"
                if products is None
                else "only label maps are asked for: add "
                f"{', '.join(IMAGERY[:-1])} or {IMAGERY[-1]} to the products"
            )
        return cls(root, in_order(chosen))

    def location_ids(self) -> list[str]:
        """Return all locations, sorted: folders of any imagery product.

        Files and folders whose name is not letters, digits, ``_`` and ``-`` are ignored.

        Raises:
            TransientError: a product's folder cannot be listed.
        """
        found: set[str] = set()
        for product in IMAGERY:
            if product in self.products:
                found.update(self._list_folders(self.root / FOLDERS[product])[0])
        return sorted(found)

    def read_location(self, location_id: str) -> LocationPatches:
        """Read one location: all products, up to four seasons, and an estimate of its grid.

        Labels of a label file are attached elsewhere (`attach_labels`).

        Raises:
            TransientError: the folder or a file is there but cannot be reached for now.
        """
        log = ReadingLog()
        with (
            warnings.catch_warnings(),
            # Listing the folder of every file for side-car files doubles the time of an open.
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        ):
            # A label map without a georeference is fine: its grid is the imagery's.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            folders = {
                product: self._read_folders(product, location_id, log)
                for product in IMAGERY
                if product in self.products
            }
            arrangement = arrange_seasons(
                {name: [f.acquisition for f in found.values()] for name, found in folders.items()}
            )
            for name, acquisition in arrangement.left_out:
                log.count(
                    "further_seasons",
                    f"{folders[name][acquisition.id].path} is left out: {len(arrangement.slots)} "
                    "seasons are used",
                )
            slots = [
                {name: read_bands(self.root, folders[name][a.id]) for name, a in slot.items()}
                for slot in arrangement.slots
            ]
            label_maps: Sequence[ProductPatch | None] = [None] * len(slots)
            if of_role(Role.LABELS, self.products):
                label_maps = self._read_label_maps(location_id, slots, log)
        if not slots:
            log.count("empty_locations", f"location {location_id} has no image at all")
        grid, centre = locate(slots, location_id, log)
        seasons = [
            self._season(slot, label_map, grid is not None, log)
            for slot, label_map in zip(slots, label_maps, strict=True)
        ]
        if grid is not None:
            centre = Grid(grid.epsg, grid.x_origin, grid.y_origin).centre_lon_lat
        return LocationPatches(
            location_id=location_id,
            longitude=centre[0],
            latitude=centre[1],
            epsg=0 if grid is None else grid.epsg,
            x_origin=math.nan if grid is None else grid.x_origin,
            y_origin=math.nan if grid is None else grid.y_origin,
            georeference_error_m=math.nan if grid is None else grid.error_m,
            offset_20m=_east_north(grid.offset_20m if grid is not None else None),
            offset_60m=_east_north(grid.offset_60m if grid is not None else None),
            seasons=tuple(seasons),
            notes=log.notes,
            warnings=tuple(log.warnings),
        )

    def _read_folders(
        self, product: ProductName, location_id: str, log: ReadingLog
    ) -> dict[str, AcquisitionFolder]:
        """Return the acquisitions of one product: id -> what is known before pixels are read."""
        path = Path(FOLDERS[product]) / location_id
        names, ignored = self._list_folders(self.root / path)
        for name in ignored:
            log.count("ignored_folders", f"{path / name} is ignored: not the name of an image")
        found: dict[str, AcquisitionFolder] = {}
        for name in names:
            folder = read_metadata(self.root, path / name, product, log)
            if folder.acquisition.time_ms is None:
                log.count(
                    "ignored_folders",
                    f"{path / name} is ignored: neither its name nor its metadata.json says when "
                    "it was taken",
                )
            else:
                found[name] = folder
        return found

    def _list_folders(self, path: Path) -> tuple[list[str], list[str]]:
        """Return names of sub-folders, sorted, and those that cannot be ids; none where no folder.

        A missing folder is normal for one location, but not if the whole product has gone.
        """
        try:
            with os.scandir(path) as entries:
                names = sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
        except (FileNotFoundError, NotADirectoryError) as error:
            product_folder = self.root / path.relative_to(self.root).parts[0]
            if not product_folder.is_dir():
                raise TransientError(f"{product_folder} is not there any more") from error
            return [], []
        except OSError as error:
            raise TransientError(f"{path} cannot be listed ({error.strerror})") from error
        plain = [name for name in names if _PLAIN_NAME.fullmatch(name)]
        return plain, [name for name in names if not _PLAIN_NAME.fullmatch(name)]

    def _read_label_maps(
        self, location_id: str, slots: Sequence[Slot], log: ReadingLog
    ) -> list[ProductPatch | None]:
        """Return each slot's label map; None where there is none."""
        path = Path(FOLDERS[DYNAMIC_WORLD.name]) / location_id
        names = set(self._list_folders(self.root / path)[0])
        result: list[ProductPatch | None] = []
        for slot in slots:
            # Dynamic World is made from the L1C image and shares its id, as L2A does.
            image = next((slot[name] for name in of_role(Role.OPTICAL, in_order(slot))), None)
            if image is None or image.folder.acquisition.id not in names:
                result.append(None)
                continue
            names.remove(image.folder.acquisition.id)
            result.append(
                read_label_map(
                    self.root, path / image.folder.acquisition.id, image.folder.acquisition
                )
            )
        for name in sorted(names):
            log.count("label_maps_without_season", f"{path / name} belongs to no season read here")
        return result

    def _season(
        self, slot: Slot, label_map: ProductPatch | None, located: bool, log: ReadingLog
    ) -> SeasonPatches:
        """Put one slot's patches together, flagged and logged."""
        patches: dict[ProductName, ProductPatch] = {}
        for product in self.products:
            image = slot.get(product)
            patch = image.patch if image is not None else None
            if PRODUCTS[product].role is Role.LABELS:
                patch = label_map
            if patch is None:
                patch = ProductPatch(PatchStatus.NO_ACQUISITION, StatusReason.NOT_IN_SOURCE)
            if patch.detail:
                log.warnings.append(patch.detail)
            if not located and patch.status is PatchStatus.COMPLETE:
                patch = replace(patch, reason=StatusReason.NO_GRID)
            patches[product] = patch
        for anchor, twin in optical_twins(slot):
            if slot[anchor].folder.acquisition.id != slot[twin].folder.acquisition.id:
                log.notes[f"{PRODUCTS[twin].level.lower()}_acquisition_differs"] += 1
                if patches[twin].status is PatchStatus.COMPLETE:
                    patches[twin] = replace(patches[twin], reason=StatusReason.ACQUISITION_DIFFERS)
        return SeasonPatches(patches)


def _east_north(offset: Offset | None) -> tuple[float, float]:
    return (math.nan, math.nan) if offset is None else (offset.east_m, 0.0 - offset.south_m)
