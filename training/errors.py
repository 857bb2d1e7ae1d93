"""The exceptions of training; their root and exit codes are in `groundwork.errors`."""

from __future__ import annotations

from groundwork.errors import SoftconError


class TrainingError(SoftconError):
    """A run or a probe failed."""


class DamagedPatchError(TrainingError):
    """A stored patch cannot be read."""


class NonFiniteLossError(TrainingError):
    """The loss is not a finite number."""


class OutOfMemoryError(TrainingError):
    """A step does not fit into the device's memory."""
