"""What a failed request to Earth Engine means: try again, do otherwise, or stop.

The client says little: the HTTP status hides in the context of its exception, a broken connection
is no ``EEException`` at all, and a proxy's HTML page becomes ``EEException("Ok")``. So the decision
is made here, from status and text alone.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final


class Failure(Enum):
    """What to do about it."""

    TRANSIENT = auto()
    """Overloaded, throttled, broken on the way: the same request may succeed later."""
    TOO_LARGE = auto()
    """Out of memory or over a size limit: ask for less at once."""
    DISAPPEARED = auto()
    """An image is not there any more."""
    REFUSED = auto()
    """Credentials or project: no request of this run can succeed."""
    PERMANENT = auto()
    """This request cannot succeed."""


_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 499})
_RATE_LIMIT: Final = re.compile(r"rate.?limit|quota|too many|concurren", re.IGNORECASE)
_TOO_LARGE: Final = re.compile(
    r"memory limit exceeded|total request size|must be less than or equal to \d+ bytes"
    r"|too many pixels|response size exceeds",
    re.IGNORECASE,
)
_NOT_FOUND: Final = re.compile(r"(?:Image|ImageCollection)?\s*asset '(?P<id>[^']+)' not found")
_TIMED_OUT: Final = re.compile(r"computation timed out|deadline exceeded", re.IGNORECASE)
_MEANINGS: Final = (
    (_TOO_LARGE, Failure.TOO_LARGE),
    (_NOT_FOUND, Failure.DISAPPEARED),
    (_TIMED_OUT, Failure.TRANSIENT),
)


def classify(status: int | None, message: str) -> Failure:
    """Decide what a failure means.

    Args:
        status: of HTTP; None where there was no answer, or one that could not be read.
        message: of the service or of the client.
    """
    if status is None or status >= 500 or status in _TRANSIENT_STATUS or 200 <= status < 300:
        return Failure.TRANSIENT
    if status in {401, 403}:
        throttled = status == 403 and _RATE_LIMIT.search(message)
        return Failure.TRANSIENT if throttled else Failure.REFUSED
    for pattern, meaning in _MEANINGS:
        if pattern.search(message):
            return meaning
    return Failure.REFUSED if status == 404 else Failure.PERMANENT


def missing_asset(message: str) -> str | None:
    """Return the id of the asset that the service does not find."""
    found = _NOT_FOUND.search(message)
    return found["id"] if found else None
