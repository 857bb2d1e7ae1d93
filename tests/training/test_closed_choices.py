"""A choice that has another value raises: no open else takes it in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from groundwork.errors import InputError
from training.backbones.backbone_files import BackboneCard, read_card, to_layout, write_card
from training.config import DataSettings, RunSettings
from training.evaluation.features import LabelledFeatures
from training.evaluation.probe import score
from training.evaluation.published_datasets import PublishedImages, open_dataset, read_image
from training.network.encoders import make_encoder
from training.objective.label_similarity import SIMILARITIES, label_similarity, needs_fractions
from training.objective.losses import soft_loss
from training.pretrain import autocast_type, skips_unreadable
from training.reading.patch_index import read_statistics

OTHER = cast("Any", "another")
DATA = DataSettings(cubes=("cube.zarr",))
RUN = RunSettings(out="run", data=DATA)
SQUARE = torch.eye(3)
FEATURES = LabelledFeatures(np.eye(3, dtype=np.float32), np.eye(3) > 0, np.arange(3))
IMAGES = PublishedImages(OTHER, (), (), np.zeros((0, 0), bool), np.zeros(0, np.int64), False, ())
CALLS: dict[str, Callable[[], object]] = {
    "label similarity": lambda: label_similarity(SQUARE, SQUARE, OTHER),
    "form of the soft loss": lambda: soft_loss(SQUARE, SQUARE, SQUARE, SQUARE > 0, form=OTHER),
    "layout": lambda: to_layout({}, "resnet18", OTHER),
    "method": lambda: score(FEATURES, FEATURES, FEATURES, OTHER),
    "data set": lambda: open_dataset(OTHER, Path()),
    "label similarity, whether it needs fractions,": lambda: needs_fractions(OTHER),
    "data set of an image,": lambda: read_image(IMAGES, Path(), ("B1",), 8),
    "model.patch_embedding": lambda: make_encoder(
        "resnet18", num_bands=2, image_size=32, patch_embedding=OTHER
    ),
    "precision": lambda: autocast_type(RUN.model_copy(update={"precision": OTHER})),
    "data.unreadable": lambda: skips_unreadable(DATA.model_copy(update={"unreadable": OTHER})),
}


@pytest.mark.parametrize("choice", CALLS)
def test_an_unknown_value_is_named_with_the_choices(choice: str) -> None:
    name = choice.partition(",")[0].removesuffix(" of an image")
    with pytest.raises(ValueError, match=rf"{name} 'another' is unknown; the choices are \w+, "):
        CALLS[choice]()


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_every_declared_similarity_is_there(kind: Any) -> None:
    assert label_similarity(SQUARE, SQUARE, kind).diagonal().tolist() == pytest.approx([1, 1, 1])


def test_statistics_of_another_origin_are_refused(cube: str) -> None:
    data = DataSettings(cubes=(cube,)).model_copy(update={"statistics": OTHER})
    with pytest.raises(ValueError, match=r"data\.statistics 'another' is unknown; the choices are"):
        read_statistics(data)


def test_a_card_with_another_layout_is_refused_in_one_sentence(tmp_path: Path) -> None:
    weights = tmp_path / "backbone.safetensors"
    weights.touch()
    card = BackboneCard("resnet18", OTHER, [], [], [], "", 32, [], [], 0, None, [])
    write_card(weights, card)
    with pytest.raises(InputError, match="layout 'another', this program knows timm, torchvision"):
        read_card(weights)


@pytest.mark.parametrize(("precision", "found"), [("bf16", torch.bfloat16), ("float32", None)])
def test_every_declared_precision_is_there(precision: Any, found: torch.dtype | None) -> None:
    assert autocast_type(RUN.model_copy(update={"precision": precision})) is found
