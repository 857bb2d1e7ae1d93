"""What can go wrong in a run, by what the user can do about it."""

from __future__ import annotations


class TrainingError(Exception):
    """A sentence for the user: what, where, how to mend it."""


class ConfigurationError(TrainingError):
    """A setting, a file or a cube is not what a run needs."""


class DamagedPatchError(TrainingError):
    """A stored patch cannot be read."""


class NonFiniteLossError(TrainingError):
    """The loss is not a number any more."""


class OutOfMemoryError(TrainingError):
    """The device has no room for a step."""
