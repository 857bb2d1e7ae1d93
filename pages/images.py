"""Pictures as ``data:`` addresses, which need no request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

_JPEG_QUALITY: Final = 88


def data_uri(content: bytes, media_type: str) -> str:
    """Return bytes as a ``data:`` address."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def jpeg_uri(picture: npt.NDArray[np.uint8]) -> str:
    """Return a picture, uint8 (y, x, 3), as a JPEG without colour subsampling."""
    buffer = BytesIO()
    # No `optimize`: libjpeg then needs one buffer for the whole picture, and speckle overflows it.
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return data_uri(buffer.getvalue(), "image/jpeg")


def palette_png(
    indices: npt.NDArray[np.uint8], colours: Sequence[str], transparent: int | None = None
) -> str:
    """Return a picture as a PNG with a palette.

    Args:
        indices: uint8 (rows, columns), into `colours`.
        colours: ``#rrggbb`` per index.
        transparent: index to leave clear.
    """
    image = Image.fromarray(indices)
    image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in colours))
    buffer = BytesIO()
    options = {} if transparent is None else {"transparency": transparent}
    image.save(buffer, "PNG", optimize=True, **options)
    return data_uri(buffer.getvalue(), "image/png")
