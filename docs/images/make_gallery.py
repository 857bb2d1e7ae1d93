"""Draw `gallery.jpg`, the picture in the README, from an imported cube.

Usage: ``python docs/images/make_gallery.py CUBE OUT.jpg [LOCATION:SEASON ...]``, by default the
first two patches of the report's gallery.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import zarr
from PIL import Image, ImageDraw, ImageFont

from pages.formats import percent
from pipeline.report.gallery import FractionBar, choose_patches, read_pixels, view_patch
from pipeline.report.patch_pictures import (
    LABEL_COLOURS,
    Rgb,
    label_indices,
    optical_picture,
    sar_picture,
)
from pipeline.report.small_arrays import read_description, read_small_arrays
from storage_schema.products import patch_size_px

_SIDE: Final = patch_size_px()
_GAP: Final = 14
_SHARES_WIDTH: Final = 230
_TOP: Final = 40
_INK: Final = "#1c2733"
_TITLES: Final = ("true colour", "false colour", "SAR", "Dynamic World")
_QUALITY: Final = 82


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cube")
    parser.add_argument("out", type=Path)
    parser.add_argument("patches", nargs="*", help="LOCATION:SEASON, counted from 0")
    given = parser.parse_args()
    patches = [tuple(int(n) for n in p.split(":")) for p in given.patches]
    draw_gallery(zarr.open_group(given.cube, mode="r"), given.out, patches)


def draw_gallery(group: zarr.Group, out: Path, patches: list[tuple[int, ...]]) -> None:
    """Draw one row per patch: true colour, false colour, SAR, label map, class fractions."""
    arrays, products = read_small_arrays(group), read_description(group).products
    rows = patches or list(choose_patches(arrays, 2))
    width = 4 * (_SIDE + _GAP) + _SHARES_WIDTH + _GAP
    canvas = Image.new("RGB", (width, _TOP + len(rows) * (_SIDE + _GAP)), "#ffffff")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(_TITLES):
        left = _GAP + column * (_SIDE + _GAP)
        draw.text((left, 10), title, _INK, ImageFont.load_default(18))
    for row, (location, season) in enumerate(rows):
        top = _TOP + row * (_SIDE + _GAP)
        pixels = read_pixels(group, products, location, season)
        pictures = (
            optical_picture("s2_l1c", pixels["s2_l1c_10m"], ("B4", "B3", "B2")),
            optical_picture("s2_l1c", pixels["s2_l1c_10m"], ("B8", "B4", "B3")),
            sar_picture("s1_grd", pixels["s1_grd"]),
            _label_picture(label_indices(pixels["dynamic_world_label"])),
        )
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (_GAP + column * (_SIDE + _GAP), top))
        shares = view_patch(arrays, products, pixels, location, season).fractions
        _draw_shares(draw, shares, 4 * (_SIDE + _GAP) + _GAP, top)
    canvas.save(out, "JPEG", quality=_QUALITY)


def _label_picture(indices: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Rgb:
    colours = [list(bytes.fromhex(colour[1:])) for colour in LABEL_COLOURS]
    return np.asarray(colours, dtype=np.uint8)[indices]


def _draw_shares(
    draw: ImageDraw.ImageDraw, shares: tuple[FractionBar, ...], left: int, top: int
) -> None:
    for line, share in enumerate(s for s in shares if s.fraction):
        fraction, y = share.fraction or 0.0, top + 34 * line
        font = ImageFont.load_default(15)
        draw.text((left, y), share.name.replace("_", " "), _INK, font)
        right = (left + _SHARES_WIDTH - _GAP, y)
        draw.text(right, percent(fraction), _INK, font, anchor="ra")
        end = left + max(round(fraction * (_SHARES_WIDTH - _GAP)), 2)
        draw.rectangle((left, y + 19, end, y + 24), share.colour)


if __name__ == "__main__":
    main()
