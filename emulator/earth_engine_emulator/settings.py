"""What a user chooses about an emulator, and the app made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware

from earth_engine_emulator.errors import EmulatorError
from earth_engine_emulator.faults import FaultMiddleware, FaultSettings
from earth_engine_emulator.limits import Limits
from earth_engine_emulator.pixel_pool import PixelPool

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from earth_engine_emulator.worlds import World

SIMULATED: Final = "simulated"


class EmulatorSettings(BaseModel):
    """Settings of an emulator.

    Args:
        world: ``simulated``, or the folder of a catalogue of rasters.
        rasters: folder of that catalogue's rasters; by default the catalogue's own.
        faults: what goes wrong, and how long replies take.
        pool: pixel replies to render per kind of request, and then to repeat; 0 renders every one.
        limits: of the service.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: str = SIMULATED
    rasters: Path | None = None
    faults: FaultSettings = FaultSettings()
    pool: int = Field(0, ge=0, le=1_000)
    limits: Limits = Limits()


def make_app(settings: EmulatorSettings) -> Starlette:
    """Open the world and put the service, the pool and the faults on it.

    Raises:
        EmulatorError: the settings or the world's files do not serve.
    """
    from earth_engine_emulator.server import create_app

    middleware = [Middleware(FaultMiddleware, settings=settings.faults)]
    if settings.pool:
        middleware.append(Middleware(PixelPool, size=settings.pool))
    return create_app(open_world(settings), limits=settings.limits, middleware=middleware)


def open_world(settings: EmulatorSettings) -> World:
    """Open the world that the settings name.

    Raises:
        EmulatorError: it does not exist, or its files do not serve.
    """
    if settings.world == SIMULATED:
        if settings.rasters is not None:
            raise EmulatorError(
                f"rasters {settings.rasters} belong to a catalogue: name its folder as world"
            )
        from earth_engine_emulator.simulated_world import SimulatedWorld

        return SimulatedWorld()
    from earth_engine_emulator.raster_folder import RasterFolder

    catalogue = Path(settings.world)
    return RasterFolder(settings.rasters or catalogue, catalogue)
