"""Where this process's memory comes from."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""Source: glibc, malloc.h."""


def use_one_heap() -> None:
    """Let all threads share one heap, where the C library is glibc.

    By default glibc gives threads heaps of their own. Forty threads that each receive replies of
    megabytes then keep some hundred megabytes that nobody uses: a rebuild of 256 locations peaked
    at 1.81 GB with them, and at 1.43 GB without (resident set, when this was chosen). The
    interpreter's lock makes a second heap pointless anyway.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
