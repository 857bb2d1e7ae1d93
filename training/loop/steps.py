"""One training step, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.config import LossSettings, OptimiserSettings
from training.distributed import gather_rows, mean_over_ranks
from training.network.encoders import first_layer, weight_layers
from training.network.siamese import SiameseNetwork
from training.objective.label_similarity import label_similarity
from training.objective.losses import contrastive_loss, soft_loss


@dataclass(frozen=True, slots=True)
class ViewPair:
    """The two views of a batch, and their labels.

    Args:
        first: (B, bands, y, x).
        second: likewise; of the same locations, of another season where there is one.
        first_label: (B, 9), multi-hot or fractions.
        second_label: likewise.
        first_labelled: bool (B,).
        second_labelled: bool (B,).
    """

    first: Tensor
    second: Tensor
    first_label: Tensor
    second_label: Tensor
    first_labelled: Tensor
    second_labelled: Tensor


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What a step minimises; float32 scalars."""

    total: Tensor
    contrastive: Tensor
    soft: Tensor


def objective(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    labels: Sequence[Tensor],
    labelled: Sequence[Tensor],
    settings: LossSettings,
    rank: int = 0,
) -> LossTerms:
    """Return the loss, symmetrised over the two views.

    Args:
        queries: (B, D) of the first and of the second view; this rank's.
        keys: likewise; gathered here over all ranks.
        labels: (B, 9) of the first and of the second view.
        labelled: bool (B,) likewise.
        settings: weights and forms.
        rank: of this process.
    """
    contrastive: list[Tensor] = []
    soft: list[Tensor] = []
    for query, key in ((0, 1), (1, 0)):
        all_keys = gather_rows(keys[key])
        all_labels = gather_rows(labels[key])
        all_labelled = gather_rows(labelled[key].to(torch.uint8)).bool()
        contrastive.append(
            contrastive_loss(
                queries[query], all_keys, settings.temperature, first=rank * len(queries[query])
            )
        )
        similarity = label_similarity(labels[query], all_labels, settings.similarity)
        soft_sum, count = soft_loss(
            queries[query],
            all_keys,
            similarity,
            labelled[query][:, None] & all_labelled[None, :],
            form=settings.soft_form,
            temperature=settings.soft_temperature,
            bias=settings.soft_bias,
        )
        soft.append(soft_sum / mean_over_ranks(count).clamp(min=1e-6))
    first, second = sum(contrastive, torch.zeros(())), sum(soft, torch.zeros(()))
    total = settings.contrastive_weight * first + settings.soft_weight * second
    return LossTerms(total, first, second)


def training_step(
    network: nn.Module,
    batches: Sequence[ViewPair],
    optimiser: torch.optim.Optimizer,
    settings: LossSettings,
    *,
    rank: int = 0,
    precision: torch.dtype | None = None,
    clip_norm: float | None = None,
) -> tuple[LossTerms, tuple[Tensor, Tensor]]:
    """Make one step of the optimiser over one or several batches.

    Args:
        network: a `SiameseNetwork`, perhaps wrapped.
        batches: more than one accumulates gradients.
        optimiser: its learning rate is set already.
        settings: of the loss.
        rank: of this process.
        precision: of autocast; None computes in float32.
        clip_norm: greatest norm of the gradient.

    Returns:
        The mean loss terms, and the queries of the last batch, for monitors. The step is not taken
        where the loss is not finite.
    """
    optimiser.zero_grad(set_to_none=True)
    terms: list[LossTerms] = []
    for pair in batches:
        device = pair.first.device.type
        with torch.autocast(device, dtype=precision, enabled=precision is not None):
            first, second, first_key, second_key = network(pair.first, pair.second)
        found = objective(
            (first, second),
            (first_key, second_key),
            (pair.first_label, pair.second_label),
            (pair.first_labelled, pair.second_labelled),
            settings,
            rank,
        )
        (found.total / len(batches)).backward()
        terms.append(LossTerms(*(getattr(found, n).detach() for n in LossTerms.__slots__)))
    mean = LossTerms(
        *(torch.stack([getattr(t, n) for t in terms]).mean() for n in LossTerms.__slots__)
    )
    if torch.isfinite(mean.total):
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimiser.step()
    return mean, (first.detach(), second.detach())


def make_optimiser(
    network: SiameseNetwork, settings: OptimiserSettings, *, fused: bool
) -> torch.optim.AdamW:
    """Return AdamW over the trained branch: no decay on norms and biases, layer-wise rates.

    Each group has `scale`: its learning rate over that of the schedule.
    """
    if settings.freeze_patch_embedding:
        first_layer(network.base_encoder).requires_grad_(requires_grad=False)
    depth = weight_layers(network.base_encoder)
    deepest = max(depth.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        inner = name.removeprefix("base_encoder.")
        above = deepest - depth[inner] if inner != name else 0
        groups.setdefault((decay, settings.layer_decay**above), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "scale": scale}
            for (decay, scale), parameters in groups.items()
        ],
        betas=settings.betas,
        fused=fused,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group, times its scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
