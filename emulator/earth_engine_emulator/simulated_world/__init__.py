"""A world that does not exist, the same for everyone: any place, any date, as often as wanted."""

from earth_engine_emulator.simulated_world.world import SimulatedWorld

__all__ = ["SimulatedWorld"]
