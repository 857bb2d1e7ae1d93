"""Distances between places, and an index that keeps them apart."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Pairs = npt.NDArray[np.int64]

MEAN_RADIUS_M: Final = 6_371_008.8
"""IUGG mean radius: for offsets, where the average error should vanish."""
CAUTIOUS_RADIUS_M: Final = 6_335_439.0
"""For "at least so far apart": the smallest radius of curvature of WGS84, a (1 - e^2), of the
meridian at the equator. Geodetic coordinates put on a sphere of this radius lie nowhere farther
apart than on the ellipsoid (and up to 1 % nearer), so what is far enough here is so on Earth."""
_MIN_STEP: Final = 1_024
_MAX_STEP: Final = 65_536


def unit_vectors(longitude: Floats, latitude: Floats) -> Floats:
    """Return the points (deg, (N,)) as unit vectors (N, 3); poles and antimeridian vanish."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def normalise_longitude(longitude: Floats) -> Floats:
    """Return longitudes in [-180, 180), deg."""
    longitude = np.asarray(longitude, dtype=np.float64)
    wrapped = np.mod(longitude + 180.0, 360.0) - 180.0
    # Rounding turns a hair below -180 into 180; and 79.3 must stay 79.3.
    wrapped = np.where(wrapped >= 180.0, -180.0, wrapped)
    return np.where((longitude >= -180.0) & (longitude < 180.0), longitude, wrapped)


def destination(
    longitude: Floats, latitude: Floats, bearing_rad: Floats, distance_m: Floats
) -> tuple[Floats, Floats]:
    """Return where one arrives: longitude in [-180, 180) and latitude, deg.

    Args:
        longitude: of the start, deg, (N,).
        latitude: of the start, deg, (N,).
        bearing_rad: clockwise from north, (N,).
        distance_m: along the great circle, on the mean sphere, (N,).

    Source: direct formula on the sphere, with vectors: exact at the poles too.
    """
    lon, lat = np.radians(longitude), np.radians(latitude)
    angle = np.asarray(distance_m / MEAN_RADIUS_M)
    start = unit_vectors(longitude, latitude)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    heading = np.cos(bearing_rad)[:, None] * north + np.sin(bearing_rad)[:, None] * east
    end = np.cos(angle)[:, None] * start + np.sin(angle)[:, None] * heading
    return (
        normalise_longitude(np.degrees(np.arctan2(end[:, 1], end[:, 0]))),
        np.degrees(np.arctan2(end[:, 2], np.hypot(end[:, 0], end[:, 1]))),
    )


def _chord(distance_m: float) -> float:
    """Return the straight line between unit vectors this far apart on the cautious sphere."""
    return 2.0 * float(np.sin(min(distance_m / (2.0 * CAUTIOUS_RADIUS_M), np.pi / 2)))


def find_overlaps(longitude: Floats, latitude: Floats, min_distance_m: float) -> Pairs:
    """Return every pair of points nearer to each other than a distance.

    Args:
        longitude: deg, (N,).
        latitude: deg, (N,).
        min_distance_m: on the cautious sphere: a pair that is not listed is at least so far apart
            on the ellipsoid.

    Returns:
        int64 (K, 2): indices, the smaller one first, in ascending order.
    """
    vectors = unit_vectors(np.asarray(longitude, float), np.asarray(latitude, float))
    # query_pairs includes the distance itself; two points exactly that far apart are apart.
    radius = float(np.nextafter(_chord(min_distance_m), 0.0))
    pairs = cKDTree(vectors).query_pairs(radius, output_type="ndarray")
    return _ordered(pairs)


def _ordered(pairs: npt.NDArray[np.integer]) -> Pairs:
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], dtype=np.int64)


class Spacing:
    """Admits points in order: each one that no point admitted before is too near to.

    The answer for a point depends on the points before it and on nothing else: not on how many
    follow, nor on how they are cut into calls.

    Args:
        min_distance_m: least distance of two admitted points, on the cautious sphere, m.
    """

    def __init__(self, min_distance_m: float) -> None:
        self._chord = _chord(min_distance_m)
        # Trees of at least doubling size: adding n points costs O(n log^2 n) in all.
        self._trees: list[cKDTree] = []
        self.num_admitted = 0

    def admit(self, longitude: Floats, latitude: Floats) -> Booleans:
        """Admit the next points (deg, (N,)); return which were, bool (N,)."""
        vectors = unit_vectors(longitude, latitude)
        admitted = np.zeros(len(vectors), dtype=bool)
        start = 0
        while start < len(vectors):
            # Few at first: in a small region nearly all pairs of a long step would be too near.
            stop = start + int(np.clip(self.num_admitted, _MIN_STEP, _MAX_STEP))
            admitted[start:stop] = self._admit_step(vectors[start:stop])
            start = stop
        return admitted

    def _admit_step(self, vectors: Floats) -> Booleans:
        free = np.ones(len(vectors), dtype=bool)
        for tree in self._trees:
            remaining = np.flatnonzero(free)
            distance, _ = tree.query(vectors[remaining], distance_upper_bound=self._chord)
            free[remaining] = np.isinf(distance)
        candidates = np.flatnonzero(free)
        if not candidates.size:
            return free
        radius = float(np.nextafter(self._chord, 0.0))
        pairs = cKDTree(vectors[candidates]).query_pairs(radius, output_type="ndarray")
        stays = [True] * len(candidates)
        # By the earlier point: when its turn comes, all before it have been decided.
        for earlier, later in _ordered(pairs).tolist():
            if stays[earlier]:
                stays[later] = False
        free[candidates] = stays
        self._insert(vectors[free])
        return free

    def _insert(self, vectors: Floats) -> None:
        self.num_admitted += len(vectors)
        self._trees.append(cKDTree(vectors))
        while len(self._trees) > 1 and self._trees[-2].n <= 2 * self._trees[-1].n:
            last, before = self._trees.pop(), self._trees.pop()
            self._trees.append(cKDTree(np.concatenate([before.data, last.data])))
