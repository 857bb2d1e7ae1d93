"""A choice that has another value raises: no open else takes it in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from training.backbones.backbone_files import to_layout
from training.evaluation.features import LabelledFeatures
from training.evaluation.probe import score
from training.evaluation.published_datasets import open_dataset
from training.objective.label_similarity import SIMILARITIES, label_similarity
from training.objective.losses import soft_loss

OTHER = cast("Any", "another")
SQUARE = torch.eye(3)
FEATURES = LabelledFeatures(np.eye(3, dtype=np.float32), np.eye(3) > 0, np.arange(3))
CALLS: dict[str, Callable[[], object]] = {
    "label similarity": lambda: label_similarity(SQUARE, SQUARE, OTHER),
    "form of the soft loss": lambda: soft_loss(SQUARE, SQUARE, SQUARE, SQUARE > 0, form=OTHER),
    "layout": lambda: to_layout({}, "resnet18", OTHER),
    "method": lambda: score(FEATURES, FEATURES, FEATURES, OTHER),
    "data set": lambda: open_dataset(OTHER, Path()),
}


@pytest.mark.parametrize("choice", CALLS)
def test_an_unknown_value_is_named_with_the_choices(choice: str) -> None:
    with pytest.raises(ValueError, match=rf"{choice} 'another' is unknown; the choices are \w+, "):
        CALLS[choice]()


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_every_declared_similarity_is_there(kind: Any) -> None:
    assert label_similarity(SQUARE, SQUARE, kind).diagonal().tolist() == pytest.approx([1, 1, 1])
