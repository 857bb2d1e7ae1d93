"""How alike two patches are, by their land cover: the target of the soft term.

The rows are the labels of one batch, the columns those of another; every entry lies in 0..1.
"""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from groundwork.errors import unknown_choice
from training.choices import LabelSimilarity

SIMILARITIES: tuple[str, ...] = get_args(LabelSimilarity)


def label_similarity(rows: Tensor, columns: Tensor, kind: LabelSimilarity) -> Tensor:
    """Return how alike the labels of two batches are.

    Args:
        rows: (N, C), float; multi-hot for `cosine` and `jaccard`, fractions for the others.
        columns: (M, C), likewise.
        kind: `cosine` of the multi-hot vectors (assumed to be SoftCon's), `cosine_fractions`,
            `jaccard` (intersection over union of the classes), `bray_curtis` (1 - half the L1
            distance of the fractions), or `dominant_class` (1 where the largest class is the same,
            0 elsewhere: hard labels, to compare with).

    Returns:
        float32 (N, M) in 0..1. Two vectors without any class have similarity 0 to all others.

    Raises:
        ValueError: `kind` is none of these.
    """
    rows, columns = rows.float(), columns.float()
    match kind:
        case "dominant_class":
            same = rows.argmax(1)[:, None] == columns.argmax(1)[None, :]
            found = (same & _some(rows, columns)).float()
        case "cosine" | "cosine_fractions":
            found = _unit(rows) @ _unit(columns).T
        case "jaccard":
            both = rows @ columns.T
            either = rows.sum(1)[:, None] + columns.sum(1)[None, :] - both
            found = both / either.clamp(min=1e-12)
        case "bray_curtis":
            distance = torch.cdist(rows, columns, p=1)
            found = (1 - distance / 2) * _some(rows, columns)
        case _:
            raise unknown_choice("label similarity", kind, SIMILARITIES)
    return found.clamp(0.0, 1.0)


def needs_fractions(kind: LabelSimilarity) -> bool:
    """Tell whether a similarity takes fractions rather than presence.

    Raises:
        ValueError: there is no such similarity.
    """
    match kind:
        case "cosine_fractions" | "bray_curtis" | "dominant_class":
            return True
        case "cosine" | "jaccard":
            return False
        case _:
            raise unknown_choice("label similarity", kind, SIMILARITIES)


def _some(rows: Tensor, columns: Tensor) -> Tensor:
    return (rows.sum(1) > 0)[:, None] & (columns.sum(1) > 0)[None, :]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=1)
