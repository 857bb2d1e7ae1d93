"""The two terms of SoftCon's objective.

Source: Wang, Albrecht, Zhu, arXiv 2405.20462 (the framework figure); the contrastive term as in
MoCo-v3 (Chen, Xie, He, arXiv 2104.02057, Algorithm 1). Which form the soft term takes is published
nowhere; the default here is an assumption and the others are there to be compared with.

Queries are this process's; keys are those of all ranks, in the order of the ranks. Neither
function communicates. All arithmetic is float32, whatever autocast does around it.
"""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from groundwork.errors import unknown_choice
from training.choices import SoftForm


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float, first: int = 0) -> Tensor:
    """Return InfoNCE with identity targets, times 2 tau as in MoCo-v3.

    Args:
        queries: (N, D); normalised here.
        keys: (M, D) with M >= N; normalised here.
        temperature: tau.
        first: column of the first query's own key.

    Returns:
        float32 scalar.
    """
    logits = _cosines(queries, keys) / temperature
    own = torch.arange(first, first + len(queries), device=logits.device)
    return F.cross_entropy(logits, own) * (2 * temperature)


def soft_loss(
    queries: Tensor,
    keys: Tensor,
    similarity: Tensor,
    labelled: Tensor,
    *,
    form: SoftForm = "bce",
    temperature: float = 0.2,
    bias: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return how far the similarities of features are from those of labels, as sum and count.

    The mean is their quotient; several ranks divide their sums by the mean of their counts, so that
    the mean over ranks is the mean over all pairs.

    Args:
        queries: (N, D); normalised here.
        keys: (M, D); normalised here.
        similarity: (N, M) of the labels, 0..1.
        labelled: bool (N, M): whether both patches of a pair have labels. Others drop out.
        form: `bce`: binary cross-entropy of sigmoid(cosine / tau + bias), over pairs; with binary
            similarities this is multi-positive supervision. `softmax`: cross-entropy of the
            softmax over a row against the similarities normalised to sum 1, over rows; rows
            without any similar key drop out. `mse`: squared difference of cosine and similarity,
            over pairs.
        temperature: tau of `bce` and `softmax`.
        bias: of `bce`.

    Returns:
        float32 scalars: the sum (0, with a gradient of 0, where no pair is labelled), and over how
        many.

    Raises:
        ValueError: `form` is none of these.
    """
    cosines = _cosines(queries, keys)
    similarity = similarity.float()
    match form:
        case "softmax":
            return _soft_cross_entropy(cosines / temperature, similarity, labelled)
        case "bce":
            logits = cosines / temperature + bias
            each = F.binary_cross_entropy_with_logits(logits, similarity, reduction="none")
        case "mse":
            each = (cosines - similarity) ** 2
        case _:
            raise unknown_choice("form of the soft loss", form, get_args(SoftForm))
    return (each * labelled).sum(), labelled.sum().float()


def _soft_cross_entropy(
    logits: Tensor, similarity: Tensor, labelled: Tensor
) -> tuple[Tensor, Tensor]:
    weight = similarity * labelled
    total = weight.sum(dim=1, keepdim=True)
    counted = total.squeeze(1) > 0
    # A large negative number rather than -inf: 0 x inf is not a number.
    log_share = F.log_softmax(logits.masked_fill(~labelled, -1e9), dim=1)
    each = -(weight / total.clamp(min=1e-12) * log_share).sum(dim=1)
    return (each * counted).sum(), counted.sum().float()


def _cosines(queries: Tensor, keys: Tensor) -> Tensor:
    with torch.autocast(device_type=queries.device.type, enabled=False):
        rows = F.normalize(queries.float(), dim=1)
        columns = F.normalize(keys.float(), dim=1)
        return rows @ columns.T
