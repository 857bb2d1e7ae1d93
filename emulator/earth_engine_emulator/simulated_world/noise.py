"""Random numbers that are functions of their place: hashes of integers, and smooth noise of them.

Nothing here has a state. Coordinates are those of the spherical Mercator projection, scaled to
0..1 around the Earth: conformal, so that noise looks the same in every direction, and periodic, so
that it meets itself at the antimeridian. A level k has 2**k cells around the equator: level 15 has
cells of 1.2 km there, and of 0.6 km at 60 degrees.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

_M1: Final = np.uint32(0x7FEB352D)
_M2: Final = np.uint32(0x846CA68B)


def seed_of(*parts: object) -> int:
    """Return a 32-bit seed that depends on every part's text."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def share_of(*parts: object) -> float:
    """Return a number in [0, 1) that depends on every part's text."""
    return seed_of(*parts) / 2**32


def mix(words: npt.NDArray[Any]) -> Words:
    """Hash 32-bit integers, one by one.

    Source: Wellons, "Prospecting for hash functions": triple-xorshift `lowbias32`.
    """
    found = words.astype(np.uint32)
    found ^= found >> np.uint32(16)
    found *= _M1
    found ^= found >> np.uint32(15)
    found *= _M2
    found ^= found >> np.uint32(16)
    return found


def hash_cells(column: npt.NDArray[Any], row: npt.NDArray[Any], seed: int) -> Words:
    """Hash integer coordinates (any shapes that go together)."""
    wrapped = np.asarray(row, dtype=np.int64) & 0xFFFFFFFF
    inner = mix(np.bitwise_xor(wrapped.astype(np.uint32), np.uint32(seed & 0xFFFFFFFF)))
    wrapped = np.asarray(column, dtype=np.int64) & 0xFFFFFFFF
    return mix(inner + wrapped.astype(np.uint32) * np.uint32(0x9E3779B1))


def uniform(words: Words) -> Singles:
    """Turn hashes into numbers in [0, 1)."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def smooth_noise(u: Floats, v: Floats, level: int, seed: int) -> Singles:
    """Return gradient noise with cells of one size.

    Args:
        u: Mercator x, 0..1 around the Earth, any shape.
        v: Mercator y, same shape.
        level: 2**level cells around the Earth.
        seed: another one, another noise.

    Returns:
        float32 of the shape of `u`; mean 0, standard deviation about 0.5.
    """
    size = 1 << level
    x, y = u * size, v * size
    column, row = np.floor(x), np.floor(y)
    fx, fy = (x - column).astype(np.float32), (y - row).astype(np.float32)
    first_column, first_row = int(column.min()), int(row.min())
    columns = np.arange(first_column, int(column.max()) + 2) % size
    rows = np.arange(first_row, int(row.max()) + 2)
    angle = uniform(hash_cells(columns[None, :], rows[:, None], seed)) * np.float32(2 * np.pi)
    width = len(columns)
    gx, gy = np.cos(angle).ravel(), np.sin(angle).ravel()
    corner = (row - first_row).astype(np.int32) * width + (column - first_column).astype(np.int32)
    sx = fx * fx * fx * (fx * (fx * 6 - 15) + 10)
    sy = fy * fy * fy * (fy * (fy * 6 - 15) + 10)
    one = np.float32(1)
    top = gx[corner] * fx + gy[corner] * fy
    corner += 1
    top += sx * (gx[corner] * (fx - one) + gy[corner] * fy - top)
    corner += width - 1
    low = gx[corner] * fx + gy[corner] * (fy - one)
    corner += 1
    low += sx * (gx[corner] * (fx - one) + gy[corner] * (fy - one) - low)
    return np.asarray((top + sy * (low - top)) * np.float32(2.0), dtype=np.float32)


def rough_noise(
    u: Floats, v: Floats, levels: tuple[int, int], seed: int, persistence: float = 0.5
) -> Singles:
    """Return a sum of noises, each finer and weaker than the one before.

    Args:
        u: Mercator x.
        v: Mercator y.
        levels: first and last, both included.
        seed: of the sum.
        persistence: amplitude of a level over that of the one before.

    Returns:
        float32, mean 0, standard deviation about 0.5.
    """
    first, last = levels
    total = np.zeros(u.shape, np.float32)
    amplitude, power = 1.0, 0.0
    for level in range(first, last + 1):
        total += np.float32(amplitude) * smooth_noise(u, v, level, seed + 7919 * level)
        power += amplitude**2
        amplitude *= persistence
    return total * np.float32(power**-0.5)
