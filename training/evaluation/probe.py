"""What a backbone is worth: kNN, linear probe and fine-tuning on cubes, with intervals.

Heads are fitted on the train split, chosen on the validation split, and scored once on the test
split: splits are spatial blocks, so that neighbours of a test patch were not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from groundwork.errors import InputError, unknown_choice
from groundwork.file_writes import write_atomically
from storage_schema.land_cover import CLASS_NAMES
from storage_schema.status import Split
from training.backbones.backbone_files import BackboneCard, load_encoder, read_card
from training.backbones.scores import ProbeResult
from training.config import DataSettings, ViewSettings
from training.distributed import find_device
from training.evaluation.features import (
    LabelledFeatures,
    features_of_cubes,
    kept_features,
    load_features,
    save_features,
)
from training.evaluation.finetune import FinetuneSettings, finetune
from training.evaluation.knn import knn_scores
from training.evaluation.linear_probe import ProbeSettings, train_probe
from training.evaluation.metrics import bootstrap_map, mean_average_precision
from training.evaluation.published_datasets import DatasetName, features_of_dataset, open_dataset
from training.reading.cube_files import CubeFiles
from training.reading.patch_index import BandStatistics
from training.reading.views import ViewMaker

Method = Literal["knn", "linear"]


def probe_backbone(
    weights: Path,
    cubes: Sequence[str],
    method: Method,
    *,
    num_layers: int = 1,
    min_class_fraction: float = 0.05,
    max_patches: int | None = None,
    neighbours: int = 20,
    cache: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Probe an exported backbone on the cubes' splits.

    Args:
        weights: .safetensors or .pth, with its .json.
        cubes: sealed cubes with labels.
        method: `knn` or `linear`.
        num_layers: last layers of a transformer that the linear probe sees, 1 or 4.
        min_class_fraction: a class is present where it covers more than this.
        max_patches: of each split.
        neighbours: of kNN.
        cache: folder in which features are kept.
        device: of the encoder.
        seed: of the linear head.

    Raises:
        InputError: weights or cubes cannot be used.
    """
    card = read_card(weights)
    data = DataSettings(
        cubes=tuple(cubes),
        modality=tuple(card.modality),
        min_class_fraction=min_class_fraction,
    )
    train, validation, test = features_of_backbone(
        weights,
        data,
        (Split.TRAIN, Split.VALIDATION, Split.TEST),
        num_layers=num_layers,
        max_patches=max_patches,
        cache=cache,
        device=device,
    )
    return score(train, validation, test, method, neighbours=neighbours, seed=seed)


def score(
    train: LabelledFeatures,
    validation: LabelledFeatures,
    test: LabelledFeatures,
    method: Method,
    *,
    neighbours: int = 20,
    seed: int = 0,
    classes: Sequence[str] = CLASS_NAMES,
    single_label: bool = False,
) -> ProbeResult:
    """Fit on train, choose on validation, score once on test."""
    detail: dict[str, Any]
    match method:
        case "knn":
            scores = knn_scores(train, test.features, neighbours)
            detail = {"neighbours": neighbours}
        case "linear":
            probe = train_probe(train, validation, ProbeSettings(seed=seed))
            scores = probe.scores(test.features)
            detail = {
                "learning_rate": probe.learning_rate,
                "validation_micro": probe.validation.micro,
            }
        case _:
            raise unknown_choice("method", method, get_args(Method))
    found = _result(method, scores, test.labels, test.groups, len(train), detail, classes)
    return replace(found, accuracy=_accuracy(scores, test)) if single_label else found


def _result(
    method: str,
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.integer],
    num_train: int,
    detail: dict[str, Any],
    classes: Sequence[str],
) -> ProbeResult:
    intervals = bootstrap_map(scores, labels, groups)
    each = mean_average_precision(scores, labels).per_class
    return ProbeResult(
        method=method,
        micro=cast("tuple[float, float, float]", tuple(asdict(intervals["micro"]).values())),
        macro=cast("tuple[float, float, float]", tuple(asdict(intervals["macro"]).values())),
        per_class={
            name: None if np.isnan(value) else value
            for name, value in zip(classes, each, strict=True)
        },
        num_train=num_train,
        num_test=len(labels),
        detail=detail,
    )


def _accuracy(scores: npt.NDArray[np.floating], test: LabelledFeatures) -> float:
    return float((scores.argmax(axis=1) == test.labels.argmax(axis=1)).mean())


def probe_on_dataset(
    weights: Path,
    name: DatasetName,
    root: Path,
    method: Method,
    *,
    num_layers: int = 1,
    max_images: int | None = None,
    neighbours: int = 20,
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Probe an exported backbone on EuroSAT or BigEarthNet.

    Args:
        weights: .safetensors or .pth, with its .json.
        name: of the data set.
        root: its folder, laid out as published.
        method: `knn` or `linear`.
        num_layers: last layers of a transformer that the linear probe sees.
        max_images: of each split.
        neighbours: of kNN.
        device: of the encoder.
        seed: of the linear head.

    Raises:
        InputError: weights or images cannot be used.
    """
    encoder, card = load_encoder(weights)
    where = find_device(device)
    encoder = encoder.to(where)
    dataset = open_dataset(name, root)
    train, validation, test = (
        features_of_dataset(
            dataset,
            split,
            encoder,
            card,
            where,
            num_layers=num_layers,
            max_images=max_images,
        )
        for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    )
    if not (len(train) and len(validation) and len(test)):
        raise InputError(f"{root} has no images of one of the splits: is it complete?")
    found = score(
        train,
        validation,
        test,
        method,
        neighbours=neighbours,
        seed=seed,
        classes=dataset.classes,
        single_label=dataset.single_label,
    )
    return replace(found, notes=dataset.notes)


def finetune_backbone(
    weights: Path,
    cubes: Sequence[str],
    *,
    min_class_fraction: float = 0.05,
    max_patches: int | None = None,
    device: str = "cpu",
    settings: FinetuneSettings | None = None,
) -> ProbeResult:
    """Fine-tune an exported backbone on the cubes' train split; the weights' file stays as it is.

    Args:
        weights: .safetensors or .pth, with its .json.
        cubes: sealed cubes with labels.
        min_class_fraction: a class is present where it covers more than this.
        max_patches: of each split.
        device: of the encoder.
        settings: of the training.

    Raises:
        InputError: weights or cubes cannot be used.
    """
    where = find_device(device)
    encoder, card = load_encoder(weights)
    data = DataSettings(
        cubes=tuple(cubes),
        modality=tuple(card.modality),
        min_class_fraction=min_class_fraction,
    )
    found = finetune(
        encoder.to(where),
        views_of(card).to(where),
        ViewSettings(image_size=card.image_size),
        data,
        where,
        settings or FinetuneSettings(),
        max_patches,
    )
    detail = {"best_epoch": found.best_epoch, "validation_micro": found.validation_micro}
    return _result(
        "finetune", found.scores, found.labels, found.groups, found.num_train, detail, CLASS_NAMES
    )


def views_of(card: BackboneCard) -> ViewMaker:
    """Return what normalises inputs as a backbone was trained to see them."""
    statistics = BandStatistics(tuple(card.bands), tuple(card.mean), tuple(card.std), "card")
    modality = tuple(card.modality)
    return ViewMaker(modality, statistics, ViewSettings(image_size=card.image_size))


def features_of_backbone(
    weights: Path,
    data: DataSettings,
    splits: Sequence[Split],
    *,
    num_layers: int = 1,
    max_patches: int | None = None,
    cache: Path | None = None,
    device: str = "cpu",
) -> list[LabelledFeatures]:
    """Return the features of an exported backbone: one set per split, in the order of its patches.

    Args:
        weights: .safetensors or .pth, with its .json.
        data: cubes, modality, and from which share on a class is present.
        splits: whose labelled patches (`training.evaluation.features.labelled_patches`).
        num_layers: last layers of a transformer.
        max_patches: of each split.
        cache: folder in which features are kept.
        device: of the encoder.

    Raises:
        InputError: weights or cubes cannot be used.
    """
    key: dict[str, object] = {
        "weights": _digest(weights),
        "cubes": [CubeFiles(address).attributes.get("digest") for address in data.cubes],
        "modality": data.modality,
        "min_class_fraction": data.min_class_fraction,
        "num_layers": num_layers,
        "max_patches": max_patches,
    }
    encoder, card = load_encoder(weights)
    where = find_device(device)
    encoder, views = encoder.to(where), views_of(card).to(where)
    found = []
    for split in splits:
        path = None if cache is None else kept_features(cache, key | {"split": split.name})
        kept = None if path is None else load_features(path)
        if kept is None:
            kept = features_of_cubes(
                data,
                split,
                encoder,
                views,
                where,
                num_layers=num_layers,
                max_patches=max_patches,
            )
            if path is not None:
                save_features(path, kept)
        found.append(kept)
    return found


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_result(path: Path, found: ProbeResult) -> None:
    """Add a result to a JSON file of results, by method."""
    results: dict[str, Any] = {}
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    results[found.method] = asdict(found)
    write_atomically(path, json.dumps(results, indent=1) + "\n")
