"""Multi-label nearest neighbours: no training, hence nothing to tune by accident."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from training.evaluation.features import LabelledFeatures

_TEMPERATURE: Final = 0.07
"""Source: Wu et al. 2018, arXiv 1805.01978, weighted kNN; also DINO's."""
_ROWS: Final = 1024


def knn_scores(
    train: LabelledFeatures, features: npt.NDArray[np.floating], neighbours: int
) -> npt.NDArray[np.float32]:
    """Return, per class, the share of the nearest neighbours that have it, by weighted vote.

    Args:
        train: features and labels to look among.
        features: (N, D), to score.
        neighbours: k; cosine similarity, weights exp(similarity / 0.07).

    Returns:
        float32 (N, C), 0..1.
    """
    known, asked = unit_length(train.features), unit_length(features)
    k = min(neighbours, len(known))
    labels = train.labels.astype(np.float32)
    found = np.empty((len(asked), labels.shape[1]), np.float32)
    for start in range(0, len(asked), _ROWS):
        similarity = asked[start : start + _ROWS] @ known.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        chosen = np.take_along_axis(similarity, nearest, axis=1)
        weight = np.exp((chosen - chosen.max(axis=1, keepdims=True)) / _TEMPERATURE)
        weight /= weight.sum(axis=1, keepdims=True)
        found[start : start + _ROWS] = np.einsum("nk,nkc->nc", weight, labels[nearest])
    return found


def unit_length(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return features (N, D), float32, each scaled to length 1: dot products become cosines."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)
