"""One request: its world, its limits, and the pixels it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earth_engine_emulator.expressions.element_collections import Collection, StoredCollection
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.grids import PixelGrid
from earth_engine_emulator.expressions.images import Image
from earth_engine_emulator.expressions.rasters import Raster, Reader, Sampled
from earth_engine_emulator.limits import Limits
from earth_engine_emulator.worlds import TooManyImagesError, World

_PUBLIC = "projects/earthengine-public/assets/"


def plain_asset_id(asset_id: str) -> str:
    """Return an asset's id without the folder of the public catalogue."""
    return asset_id.removeprefix(_PUBLIC).strip("/")


@dataclass(frozen=True, slots=True)
class Session:
    """What evaluating one request needs.

    Args:
        world: of the images.
        limits: of the service.
    """

    world: World
    limits: Limits

    def load_image(self, asset_id: str) -> Image:
        """Return a stored image.

        Raises:
            AlgorithmError: there is none.
        """
        try:
            record = self.world.find_image(plain_asset_id(asset_id))
        except TooManyImagesError as error:
            raise ServiceError(str(error)) from error
        if record is None:
            raise AlgorithmError(
                f"Image asset '{asset_id}' not found (does not exist or caller does not have "
                f"access)."
            )
        return Image.of_record(record)

    def load_collection(self, asset_id: str) -> Collection:
        """Return a stored collection.

        Raises:
            AlgorithmError: there is none.
        """
        plain = plain_asset_id(asset_id)
        known = self.world.collections()
        if plain not in known:
            raise AlgorithmError(
                f"ImageCollection asset '{asset_id}' not found (does not exist or caller does not "
                f"have access)."
            )
        return StoredCollection(self.world, plain, known[plain])

    def sample(self, rasters: Sequence[Raster], grid: PixelGrid) -> list[Sampled]:
        """Compute rasters on one grid, reading bands of one lattice together."""
        reader = Reader(self.world, rasters)
        return [reader.sample(raster, grid) for raster in rasters]
