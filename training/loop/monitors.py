"""Whether features collapse: a few numbers per logged step, over the queries of a batch.

Sources: Wang & Isola 2020, arXiv 2005.10242 (alignment, uniformity); Roy & Vetterli 2007 (effective
rank: the exponential of the entropy of the normalised singular values).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def collapse_monitors(first: Tensor, second: Tensor) -> dict[str, float]:
    """Return what tells a collapse.

    Args:
        first: (N, D), features of one view.
        second: (N, D), of the other view of the same locations.

    Returns:
        `feature_std`: mean standard deviation per dimension times sqrt(D): about 1 for directions
        spread evenly, 0 where all features are one. `alignment`: mean squared distance of the two
        views. `uniformity`: log of the mean Gaussian potential; near 0 where collapsed.
        `effective_rank`: 1 to min(N, D).
    """
    a, b = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    squared_distance = torch.pdist(a) ** 2
    singular = torch.linalg.svdvals(a - a.mean(dim=0))
    share = singular / singular.sum().clamp(min=1e-12)
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    return {
        "feature_std": float(a.std(dim=0).mean() * a.shape[1] ** 0.5),
        "alignment": float(((a - b) ** 2).sum(dim=1).mean()),
        "uniformity": float(torch.exp(-2 * squared_distance).mean().clamp(min=1e-12).log()),
        "effective_rank": float(entropy.exp()),
    }
