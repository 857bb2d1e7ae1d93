from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
from PIL import Image

from pages.images import jpeg_uri, palette_png


def decode(uri: str, media_type: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == f"data:{media_type};base64"
    return Image.open(BytesIO(b64decode(content)))


def test_a_palette_picture_keeps_every_index_and_its_clear_one() -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    image = decode(palette_png(indices, ["#ffffff", "#b4552d", "#27577f"], 0), "image/png")
    rgba = np.asarray(image.convert("RGBA"))
    assert rgba[indices == 0, 3].tolist() == [0] * 4
    assert (rgba[indices == 1] == [0xB4, 0x55, 0x2D, 0xFF]).all()
    assert (rgba[indices == 2] == [0x27, 0x57, 0x7F, 0xFF]).all()


def test_a_photograph_is_nearly_the_same_after_it_and_noise_does_not_stop_it() -> None:
    y, x = np.mgrid[:64, :64]
    smooth = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    shown = np.asarray(decode(jpeg_uri(smooth), "image/jpeg")).astype(int)
    assert np.abs(shown - smooth).mean() < 2
    noise = np.random.default_rng(0).integers(0, 256, (264, 264, 3), dtype=np.uint8)
    assert np.asarray(decode(jpeg_uri(noise), "image/jpeg")).shape == noise.shape
