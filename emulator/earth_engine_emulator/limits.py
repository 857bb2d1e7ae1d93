"""What the service refuses to do for one request, or for too many at once."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the service; the defaults are the published ones.

    Source: Earth Engine quotas (40 concurrent requests and 100 requests/s per project; 10 MB of
    request body; 5,000 elements accumulated) and the reference of ``image:computePixels`` (48 MB,
    32K pixels, 1,024 bands).

    Args:
        max_in_flight: requests answered at one time.
        max_requests_per_s: requests started within any second.
        max_response_bytes: of the pixels of one reply, each pixel of each band with one mask byte.
        max_dimension_px: width or height of a pixel grid.
        max_bands: of one reply.
        max_body_bytes: of one request.
        max_elements: of a collection that is sent or turned into a list.
    """

    max_in_flight: int = 40
    max_requests_per_s: int = 100
    max_response_bytes: int = 48 * MEBIBYTE
    max_dimension_px: int = 32768
    max_bands: int = 1024
    max_body_bytes: int = 10 * MEBIBYTE
    max_elements: int = 5000
