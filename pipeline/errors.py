"""The exceptions of the pipeline: what a user can mend, and what is worth another try."""

from __future__ import annotations


class SoftconError(Exception):
    """Anything this project raises on purpose. Its text is one sentence fit for a user."""


class InputError(SoftconError):
    """Wrong input: the sentence says what, where and how to mend it (exit code 2)."""


class CubeInUseError(InputError):
    """Another builder holds the cube's lease."""


class LeaseLostError(SoftconError):
    """This builder's lease expired and was taken over: it has to stop writing."""


class CubeDamagedError(SoftconError):
    """Stored bytes are missing, truncated or altered; the sentence names array and batch."""


class TransientError(SoftconError):
    """Trying again may succeed (network, quota, overloaded service)."""


class UnreachableError(InputError, TransientError):
    """No answer at an address: wrong, as a person at the keyboard sees it; for who waits, down."""


class LimitReachedError(SoftconError):
    """A budget, a deadline or the disk ends this run; the same command continues (exit code 3)."""
