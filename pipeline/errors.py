"""The exceptions of data production; their root and exit codes are in `groundwork.errors`."""

from __future__ import annotations

from typing import ClassVar

from groundwork.errors import InputError, SoftconError, TransientError


class CubeInUseError(InputError):
    """Another builder holds the cube's lease."""


class LeaseLostError(SoftconError):
    """This builder's lease expired and was taken over: it has to stop writing."""

    exit_code: ClassVar[int] = 3


class CubeDamagedError(SoftconError):
    """Stored bytes are missing, truncated or altered; the sentence names array and batch."""


class UnreachableError(InputError, TransientError):
    """No answer at an address: wrong input for a person at the keyboard, transient for a flow."""

    exit_code: ClassVar[int] = 2
