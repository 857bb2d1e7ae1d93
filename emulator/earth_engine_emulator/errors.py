"""What a user of the emulator can mend; each text is one sentence: what, where, how."""

from __future__ import annotations


class EmulatorError(ValueError):
    """The emulator was asked for something it cannot do."""


class CatalogueError(EmulatorError):
    """A catalogue file, or a raster that it names, does not serve."""


class FaultError(EmulatorError):
    """Settings of faults that make no sense."""


class AddressError(EmulatorError):
    """An address that the emulator cannot or will not listen on."""


class StartError(EmulatorError):
    """The emulator's process or thread ended before it listened."""
