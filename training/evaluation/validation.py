"""What is looked at during a run: features of the validation split, by kNN and a linear probe."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from groundwork.errors import InputError
from storage_schema.status import Split
from training.config import RunSettings
from training.evaluation.features import features_of_cubes
from training.evaluation.knn import knn_scores
from training.evaluation.linear_probe import ProbeSettings, train_probe
from training.evaluation.metrics import mean_average_precision
from training.reading.views import ViewMaker

_QUICK: Final = ProbeSettings(epochs=20, learning_rates=(1e-3, 1e-2))


def validate(
    settings: RunSettings, encoder: nn.Module, views: ViewMaker, device: torch.device
) -> dict[str, float]:
    """Return micro mAP of kNN and of a quick linear probe: fitted on train, scored on validation.

    Empty where the cubes have no labelled patches of one of the splits.
    """
    data = settings.data.model_copy(
        update={"min_class_fraction": settings.evaluation.min_class_fraction}
    )
    try:
        train, validation = (
            features_of_cubes(
                data,
                split,
                encoder,
                views,
                device,
                max_patches=settings.evaluation.max_patches,
            )
            for split in (Split.TRAIN, Split.VALIDATION)
        )
    except InputError:
        return {}
    if not len(train) or not len(validation):
        return {}
    scores = knn_scores(train, validation.features, settings.evaluation.neighbours)
    probe = train_probe(train, validation, _QUICK)
    return {
        "knn_map_micro": mean_average_precision(scores, validation.labels).micro,
        "linear_map_micro": probe.validation.micro,
    }
