"""A multi-label linear classifier on frozen features, all learning rates in one pass.

Source: Oquab et al. 2023, arXiv 2304.07193 (DINOv2): one head per learning rate, trained side by
side on the same batches; the best on the validation split is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.evaluation.features import LabelledFeatures
from training.evaluation.metrics import MeanAveragePrecision, mean_average_precision

_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How a probe is trained.

    Args:
        epochs: passes over the features.
        learning_rates: tried side by side.
        seed: of order and weights.
    """

    epochs: int = 50
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """The best head.

    Args:
        weight: float32 (D, C), on standardised features.
        bias: float32 (C,).
        centre: float32 (D,), mean of the training features.
        scale: float32 (D,), their standard deviation.
        learning_rate: that of the head.
        validation: its score where it was chosen.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    learning_rate: float
    validation: MeanAveragePrecision

    def scores(self, features: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return logits, float32 (N, C)."""
        standard = (features - self.centre) / self.scale
        return np.asarray(standard @ self.weight + self.bias, np.float32)


def train_probe(
    train: LabelledFeatures, validation: LabelledFeatures, settings: ProbeSettings
) -> Probe:
    """Train one head per learning rate and return the best on the validation split (micro mAP).

    Args:
        train: what the heads are fitted on.
        validation: where the learning rate is chosen; nothing else may be chosen on a test split.
        settings: of the training.
    """
    centre = train.features.mean(axis=0)
    scale = np.maximum(train.features.std(axis=0), 1e-6)
    x = torch.from_numpy(np.asarray((train.features - centre) / scale, np.float32))
    y = torch.from_numpy(train.labels.astype(np.float32))
    generator = torch.Generator().manual_seed(settings.seed)
    heads, width, classes = len(settings.learning_rates), x.shape[1], y.shape[1]
    weight = torch.zeros(heads, width, classes)
    bias = torch.zeros(heads, classes)
    rates = torch.tensor(settings.learning_rates)
    moments = [torch.zeros_like(weight), torch.zeros_like(weight)]
    bias_moments = [torch.zeros_like(bias), torch.zeros_like(bias)]
    steps_per_epoch = -(-len(x) // _BATCH)
    total, step = settings.epochs * steps_per_epoch, 0
    for _ in range(settings.epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), _BATCH):
            rows = order[start : start + _BATCH]
            shrink = 0.5 * (1 + np.cos(np.pi * step / total))
            step += 1
            grad, bias_grad = _gradients(x[rows], y[rows], weight, bias)
            _adam(weight, grad, moments, rates[:, None, None] * shrink, step)
            _adam(bias, bias_grad, bias_moments, rates[:, None] * shrink, step)
    found: list[Probe] = []
    for head, rate in enumerate(settings.learning_rates):
        probe = Probe(weight[head].numpy(), bias[head].numpy(), centre, scale, rate, _NOTHING)
        score = mean_average_precision(probe.scores(validation.features), validation.labels)
        found.append(Probe(probe.weight, probe.bias, centre, scale, rate, score))
    return max(found, key=lambda probe: probe.validation.micro)


_NOTHING: Final = MeanAveragePrecision(float("nan"), float("nan"), ())


def _gradients(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the mean binary cross-entropy for every head at once."""
    logits = torch.einsum("nd,hdc->hnc", x, weight) + bias[:, None]
    residual = (torch.sigmoid(logits) - y) / y.numel() * y.shape[1]
    return torch.einsum("nd,hnc->hdc", x, residual), residual.sum(dim=1)


def _adam(parameter: Tensor, grad: Tensor, moments: list[Tensor], rate: Tensor, step: int) -> None:
    first, second = moments
    first.lerp_(grad, 0.1)
    second.lerp_(grad * grad, 0.001)
    update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    parameter.sub_(rate * update)
