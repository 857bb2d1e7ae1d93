"""Fine-tuning: the whole encoder and a linear head learn the land-cover classes of patches.

The epoch is chosen on the validation split; the test split is read once, at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storage_schema.status import Split
from training.config import DataSettings, ViewSettings
from training.evaluation.features import labelled_patches
from training.evaluation.metrics import mean_average_precision
from training.network.encoders import num_features, weight_layers
from training.reading.patch_index import PatchIndex, open_index
from training.reading.patch_reader import PatchReader, PatchRefs
from training.reading.views import ViewMaker, ViewParameters, draw_parameters
from training.schedules import learning_rate


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How a backbone is fine-tuned.

    Args:
        epochs: passes over the labelled patches of the train split.
        batch_size: patches of a step.
        peak_lr: of the head and the last layer.
        layer_decay: the rate of each earlier layer is so many times that of the next.
        weight_decay: of AdamW.
        seed: of order, views and head.
    """

    epochs: int = 10
    batch_size: int = 64
    peak_lr: float = 5e-4
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What fine-tuning gave on the test split.

    Args:
        scores: float32 (N, C), logits.
        labels: bool (N, C).
        groups: int64 (N,), location of each.
        num_train: patches learnt from.
        best_epoch: chosen on the validation split.
        validation_micro: micro mAP there.
    """

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]
    num_train: int
    best_epoch: int
    validation_micro: float


def finetune(
    encoder: nn.Module,
    views: ViewMaker,
    view_settings: ViewSettings,
    data: DataSettings,
    device: torch.device,
    settings: FinetuneSettings,
    max_patches: int | None = None,
) -> Finetuned:
    """Fine-tune an encoder on the cubes' train split.

    Args:
        encoder: is changed.
        views: for normalisation, crops and flips; colours stay as they are.
        view_settings: of the crops and flips.
        data: cubes and modality.
        device: of the encoder.
        settings: of the training.
        max_patches: of each split.

    Raises:
        InputError: a cube cannot be used, or has no location of a split.
    """
    used = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    indices: dict[Split, PatchIndex] = {split: open_index(data, split) for split in used}
    refs = {split: labelled_patches(index, max_patches) for split, index in indices.items()}
    train, of_train = indices[Split.TRAIN], refs[Split.TRAIN]
    torch.manual_seed(settings.seed)
    labels = _labels(train, of_train)
    head = nn.Linear(num_features(encoder), labels.shape[1]).to(device)
    optimiser = _optimiser(encoder, head, settings)
    steps_per_epoch = -(-len(of_train) // settings.batch_size)
    best: tuple[float, int, dict[str, Tensor], dict[str, Tensor]] | None = None
    step = 0
    for epoch in range(settings.epochs):
        encoder.train()
        order = np.random.default_rng((settings.seed, epoch)).permutation(len(of_train))
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        for rows, pixels in _read(train, of_train, order, data, settings.batch_size, device):
            rate = learning_rate(
                step,
                peak=settings.peak_lr,
                warmup_steps=steps_per_epoch,
                total_steps=settings.epochs * steps_per_epoch,
            )
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            drawn = _plain_colours(draw_parameters(view_settings, len(rows), 0, generator))
            logits = head(encoder(views(pixels, drawn)))
            loss = F.binary_cross_entropy_with_logits(logits, labels[rows].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
        split = Split.VALIDATION
        scores = _predict(encoder, head, views, indices[split], refs[split], data, device)
        truth = _labels(indices[split], refs[split]).numpy() > 0
        micro = mean_average_precision(scores, truth).micro
        if best is None or micro > best[0]:
            best = (
                micro, epoch, copy.deepcopy(encoder.state_dict()),
                copy.deepcopy(head.state_dict()),
            )  # fmt: skip
    assert best is not None
    encoder.load_state_dict(best[2])
    head.load_state_dict(best[3])
    test, of_test = indices[Split.TEST], refs[Split.TEST]
    return Finetuned(
        scores=_predict(encoder, head, views, test, of_test, data, device),
        labels=_labels(test, of_test).numpy() > 0,
        groups=test.cube[of_test.rows].astype(np.int64) * 2**32 + test.location[of_test.rows],
        num_train=len(of_train),
        best_epoch=best[1] + 1,
        validation_micro=best[0],
    )


def _read(
    index: PatchIndex,
    refs: PatchRefs,
    order: npt.NDArray[np.integer],
    data: DataSettings,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[npt.NDArray[np.integer], dict[str, Tensor]]]:
    """Yield positions in `refs` and the pixels of their patches."""
    reader = PatchReader(index, data.modality)
    cuts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    wanted = (([PatchRefs(refs.rows[cut], refs.seasons[cut])], cut) for cut in cuts)
    for (batch,), cut in reader.prefetch(wanted, data.batches_ahead):
        yield cut, {name: values.to(device) for name, values in batch.pixels.items()}


@torch.no_grad()
def _predict(
    encoder: nn.Module,
    head: nn.Module,
    views: ViewMaker,
    index: PatchIndex,
    refs: PatchRefs,
    data: DataSettings,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    encoder.eval()
    order = np.arange(len(refs))
    parts = [
        head(encoder(views.plain(pixels))).float().cpu().numpy()
        for _, pixels in _read(index, refs, order, data, 128, device)
    ]
    return np.concatenate(parts)


def _labels(index: PatchIndex, refs: PatchRefs) -> Tensor:
    return torch.from_numpy(index.label_vectors(refs.rows, refs.seasons, fractions=False)[0])


def _plain_colours(drawn: ViewParameters) -> ViewParameters:
    """Keep crops and flips alone."""
    num = len(drawn.crop)
    return ViewParameters(
        crop=drawn.crop,
        flip=drawn.flip,
        brightness=torch.ones(num),
        contrast=torch.ones(num),
        gray=torch.zeros(num, dtype=torch.bool),
        blur_sigma=torch.zeros(num),
        sar_shift_db=torch.zeros(num, 2),
        sar_contrast=torch.ones(num),
    )


def _optimiser(
    encoder: nn.Module, head: nn.Module, settings: FinetuneSettings
) -> torch.optim.AdamW:
    depth = weight_layers(encoder)
    deepest = max(depth.values())
    groups = [
        {
            "params": [parameter],
            "scale": settings.layer_decay ** (deepest - depth[name]),
            "weight_decay": settings.weight_decay if parameter.ndim > 1 else 0.0,
        }
        for name, parameter in encoder.named_parameters()
    ]
    groups.append({"params": list(head.parameters()), "scale": 1.0, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)
