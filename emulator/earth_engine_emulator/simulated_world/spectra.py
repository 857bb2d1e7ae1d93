"""Reflectance of the simulated ground: spectra by class, seasons, light, air.

The endmembers are rounded from the habits of such spectra (chlorophyll's red edge, water's fall
towards the infrared, snow's towards the short-wave infrared); then the haze, the brightness of
soils and the share of clouds were set so that means and standard deviations come near those
published with SSL4EO-S12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from earth_engine_emulator.simulated_world.clouds import Sky
from earth_engine_emulator.simulated_world.ground import (
    BARE,
    BUILT,
    CROPS,
    FLOODED,
    GRASS,
    SHRUB,
    SNOW,
    TREES,
    WATER,
    Classes,
    Ground,
)
from earth_engine_emulator.simulated_world.noise import Floats, Singles

BANDS: Final = (
    "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12",
)  # fmt: skip

# Reflectance x 10000 in the order of BANDS; B10 is what the ground would give without water vapour.
_DRY: Final = {
    WATER: (560, 520, 470, 330, 270, 180, 170, 150, 130, 110, 90, 60, 40),
    TREES: (350, 420, 620, 640, 1000, 1500, 1700, 1750, 1900, 1900, 1000, 1750, 1150),
    GRASS: (560, 720, 1050, 1350, 1650, 2000, 2200, 2350, 2500, 2500, 1500, 3200, 2500),
    FLOODED: (420, 480, 620, 680, 900, 1200, 1350, 1400, 1450, 1400, 800, 1250, 850),
    CROPS: (650, 820, 1150, 1500, 1750, 2000, 2200, 2350, 2550, 2550, 1500, 3600, 3050),
    SHRUB: (560, 690, 960, 1220, 1500, 1800, 1980, 2100, 2250, 2300, 1400, 3000, 2350),
    BUILT: (1050, 1200, 1400, 1600, 1720, 1880, 1990, 2080, 2150, 2150, 1400, 2350, 2100),
    BARE: (1050, 1250, 1750, 2350, 2600, 2750, 2900, 3000, 3150, 3150, 2000, 4900, 4400),
    SNOW: (6000, 6300, 6300, 6250, 6200, 6050, 5850, 5600, 5400, 4900, 1200, 1000, 800),
}
_GREEN: Final = {
    WATER: (560, 560, 580, 360, 300, 210, 200, 180, 150, 120, 90, 60, 40),
    TREES: (230, 270, 480, 290, 760, 2200, 2750, 2950, 3100, 3050, 1000, 1400, 600),
    GRASS: (300, 380, 720, 430, 1080, 2750, 3350, 3550, 3700, 3600, 1500, 2150, 1080),
    FLOODED: (330, 400, 620, 470, 850, 1650, 1950, 2050, 2100, 2000, 800, 1100, 600),
    CROPS: (290, 360, 680, 390, 1050, 3000, 3900, 4100, 4250, 4100, 1500, 2000, 980),
    SHRUB: (340, 420, 680, 560, 1050, 2050, 2450, 2600, 2750, 2750, 1400, 2150, 1300),
    BUILT: (1000, 1150, 1350, 1520, 1680, 1950, 2100, 2180, 2250, 2250, 1400, 2300, 2000),
    BARE: (1000, 1200, 1680, 2250, 2520, 2700, 2850, 2950, 3100, 3100, 2000, 4800, 4300),
    SNOW: (6000, 6300, 6300, 6250, 6200, 6050, 5850, 5600, 5400, 4900, 1200, 1000, 800),
}
_CLOUD: Final = (5200, 5300, 5400, 5600, 5700, 5800, 5900, 6000, 6000, 3600, 350, 4400, 3500)
# Light scattered by clean air, and its transmission; B9 and B10 lie in bands of water vapour.
_PATH: Final = (1000, 640, 380, 230, 190, 150, 125, 90, 75, 40, 2, 12, 6)
_THROUGH: Final = (
    0.78, 0.82, 0.87, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.32, 0.004, 0.97, 0.97,
)  # fmt: skip
_HAZE: Final = (1.0, 0.95, 0.85, 0.76, 0.72, 0.66, 0.62, 0.55, 0.52, 0.2, 0.02, 0.2, 0.12)
_HAZE_REFLECTANCE: Final = 1900.0
_VAPOUR_BAND: Final = BANDS.index("B9")
_LOT_CONTRAST: Final = {CROPS: 0.42, GRASS: 0.26, BUILT: 0.55, BARE: 0.40, TREES: 0.22, SHRUB: 0.3}
_TEXTURE: Final = {CROPS: 0.06, GRASS: 0.10, BUILT: 0.36, BARE: 0.10, TREES: 0.24, SHRUB: 0.16}


def _table(values: Mapping[int, tuple[int, ...]]) -> npt.NDArray[np.float32]:
    return np.asarray([values[number] for number in range(len(values))], np.float32)


def _amounts(values: dict[int, float], other: float) -> npt.NDArray[np.float32]:
    return np.asarray([values.get(number, other) for number in range(len(_DRY))], np.float32)


_DRY_TABLE, _GREEN_TABLE = _table(_DRY), _table(_GREEN)
_LOT_TABLE, _TEXTURE_TABLE = _amounts(_LOT_CONTRAST, 0.1), _amounts(_TEXTURE, 0.03)


def season_of(day_of_year: int) -> float:
    """Return the phase of the northern summer, -1 in late January .. 1 in late July."""
    return float(np.cos(2 * np.pi * (day_of_year - 205) / 365.25))


def cover_of(ground: Ground, day_of_year: int) -> Classes:
    """Return the classes of a day: the ground's, with snow where it is cold; (height, width)."""
    temperature = ground.temperature + ground.swing * np.float32(season_of(day_of_year))
    line = np.float32(-4.0) + ground.texture + np.where(ground.cover == TREES, np.float32(-4), 0)
    snowy = (temperature < line) & ((ground.cover != WATER) | (temperature < -9))
    return np.where(snowy, np.uint8(SNOW), ground.cover)


def greenness(ground: Ground, day_of_year: int) -> Singles:
    """Return how green the plants are, 0..1, (height, width)."""
    warmth = ground.temperature + ground.swing * np.float32(season_of(day_of_year - 20))
    growing = np.clip((warmth - np.float32(1)) / np.float32(12), 0, 1)
    # Each field has its own sowing and harvest.
    phase = np.float32(2 * np.pi) * (
        ground.lot * np.float32(0.8) - np.float32(day_of_year / 365.25)
    )
    grown = np.clip(np.float32(0.45) + np.float32(0.75) * np.cos(phase), 0, 1)
    own = np.where(ground.cover == CROPS, grown, np.float32(0.85))
    found = growing * own * (np.float32(0.25) + np.float32(0.75) * ground.vigour)
    found = np.clip(found + np.float32(0.12) * ground.texture, 0, 1)
    return np.asarray(found, dtype=np.float32)


def surface_reflectance(
    ground: Ground, day_of_year: int, sun_zenith: float, sun_azimuth: float
) -> npt.NDArray[np.float32]:
    """Return reflectance x 10000 of the ground as it is lit, (13, height, width)."""
    cover, green = cover_of(ground, day_of_year), greenness(ground, day_of_year)
    light = _light(ground, sun_zenith, sun_azimuth)
    lot = np.float32(1) + _LOT_TABLE[cover] * (ground.lot - np.float32(0.5)) * np.float32(2)
    lot += _TEXTURE_TABLE[cover] * ground.texture * np.float32(2)
    light *= np.clip(lot, np.float32(0.25), np.float32(2.2))
    found = np.empty((len(BANDS), *cover.shape), np.float32)
    clear = np.where(cover == WATER, ground.depth, np.float32(0))
    for band in range(len(BANDS)):
        dry = _DRY_TABLE[:, band][cover]
        plane = dry + green * (_GREEN_TABLE[:, band][cover] - dry)
        # Deep water is darker, and bluer.
        plane *= np.float32(1) - np.float32(0.45 if band < 2 else 0.72) * clear
        found[band] = plane * light
    return found


def _light(ground: Ground, sun_zenith: float, sun_azimuth: float) -> Singles:
    """Return the light on a slope over that on level ground."""
    zenith, azimuth = np.radians(min(sun_zenith, 75.0)), np.radians(sun_azimuth)
    towards = ground.slope_east * np.float32(np.sin(azimuth))
    towards = towards + ground.slope_north * np.float32(np.cos(azimuth))
    steep = np.hypot(ground.slope_east, ground.slope_north)
    lit = (1 - towards * np.float32(np.tan(zenith))) / np.sqrt(1 + steep * steep)
    return np.asarray(np.clip(0.2 + 0.8 * lit, 0.12, 1.6), dtype=np.float32)


def mixed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mix pixels with their neighbours, as optics do; (..., height, width) lose 1 px per side."""
    along = values[..., 1:-1] * np.float32(0.6)
    along += (values[..., :-2] + values[..., 2:]) * np.float32(0.2)
    found = along[..., 1:-1, :] * np.float32(0.6)
    found += (along[..., :-2, :] + along[..., 2:, :]) * np.float32(0.2)
    return found


def at_level(
    surface: npt.NDArray[np.float32], sky: Sky, bands: tuple[int, ...], top_of_atmosphere: bool
) -> npt.NDArray[np.float32]:
    """Return what a satellite reports of some bands: (bands, height, width), reflectance x 10000.

    Args:
        surface: of these bands.
        sky: of the window.
        bands: positions in `BANDS`.
        top_of_atmosphere: True for L1C; L2A has the air taken out, clouds and shadows left in.
    """
    found = np.empty_like(surface)
    for index, band in enumerate(bands):
        plane = surface[index]
        if sky.shadow is not None:
            plane = plane * (1 - np.float32(0.62) * sky.shadow)
        if top_of_atmosphere:
            veil = np.float32(sky.haze * _HAZE[band])
            through = _THROUGH[band] ** (sky.vapour if band == _VAPOUR_BAND else 1.0)
            plane = np.float32(_PATH[band]) + np.float32(through) * plane
            plane = plane * (1 - veil) + veil * np.float32(_HAZE_REFLECTANCE)
            plane += np.float32(sky.cirrus * (1.0 if band == BANDS.index("B10") else 0.5))
        elif band == BANDS.index("B9"):
            plane = plane * np.float32(1.02)
        if sky.cloud is not None:
            bright = np.float32(_CLOUD[band])
            if not top_of_atmosphere and band == BANDS.index("B9"):
                bright = np.float32(6300)
            plane = plane + sky.cloud * (bright - plane)
        found[index] = plane
    return found


def read_noise(words: npt.NDArray[np.uint32]) -> Floats:
    """Turn hashes into roughly normal numbers: the sum of four bytes; mean 0, deviation 1."""
    total = sum(
        ((words >> np.uint32(shift)) & np.uint32(255)).astype(np.float32)
        for shift in (0, 8, 16, 24)
    )
    return np.asarray((total - np.float32(510)) * np.float32(1 / 147.8))
