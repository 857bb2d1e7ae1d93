"""Average precision of multi-label scores, micro and macro, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """What a set of scores is worth.

    Args:
        micro: average precision over all (patch, class) pairs together.
        macro: mean over the classes that occur.
        per_class: average precision of each class, NaN where it does not occur.
    """

    micro: float
    macro: float
    per_class: tuple[float, ...]


def mean_average_precision(scores: Scores, labels: Labels) -> MeanAveragePrecision:
    """Score predictions.

    Args:
        scores: (N, C), higher means more likely.
        labels: bool (N, C).
    """
    each = tuple(
        average_precision(scores[:, c], labels[:, c]) if labels[:, c].any() else float("nan")
        for c in range(labels.shape[1])
    )
    found = [value for value in each if not np.isnan(value)]
    macro = float(np.mean(found)) if found else float("nan")
    return MeanAveragePrecision(average_precision(scores.ravel(), labels.ravel()), macro, each)


def average_precision(scores: Scores, labels: Labels) -> float:
    """Return the sum of precision x gained recall over the thresholds; ties count as one.

    Args:
        scores: (N,).
        labels: bool (N,); NaN is returned where none is true.
    """
    num_positive = int(labels.sum())
    if not num_positive:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, hits = scores[order], labels[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    true_positive = np.cumsum(hits)[last_of_tie]
    precision = true_positive / (last_of_tie + 1)
    recall = true_positive / num_positive
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_map(
    scores: Scores,
    labels: Labels,
    groups: npt.NDArray[np.integer],
    *,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return micro and macro mAP with intervals; whole locations are drawn, not patches.

    Args:
        scores: (N, C).
        labels: bool (N, C).
        groups: (N,), location of each patch: patches of one location are no independent draws.
        resamples: drawn with replacement.
        seed: of the draws.
        level: share of the resamples inside.
    """
    whole = mean_average_precision(scores, labels)
    rng = np.random.default_rng(seed)
    names, member = np.unique(groups, return_inverse=True)
    rows_of = [np.flatnonzero(member == number) for number in range(len(names))]
    drawn: list[tuple[float, float]] = []
    for _ in range(resamples):
        chosen = rng.integers(len(names), size=len(names))
        rows = np.concatenate([rows_of[number] for number in chosen])
        found = mean_average_precision(scores[rows], labels[rows])
        drawn.append((found.micro, found.macro))
    edges = np.nanquantile(np.asarray(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(getattr(whole, name), float(edges[0, at]), float(edges[1, at]))
        for at, name in enumerate(("micro", "macro"))
    }
