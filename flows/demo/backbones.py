"""The backbones of a demo: trained, exported, and probed against the encoder they began as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from flows.demo.stages import Stages
from groundwork.file_writes import write_atomically
from storage_schema.products import PRODUCTS, ImageryName
from training.config import RunSettings, parse_run_settings

MIN_CLASS_FRACTION: Final = 0.05
"""A class is present where it covers more than this share of a patch."""
_METHODS: Final[tuple[Literal["knn", "linear"], ...]] = ("knn", "linear")
_BATCH: Final = 48
_IMAGE_SIZE: Final = 48
"""Half the work of 64 pixels, for a demo."""
_EVALUATIONS: Final = 5
_MAX_PATCHES: Final = 240
"""Of each split, for a look on the way."""


@dataclass(frozen=True, slots=True)
class DemoBackbone:
    """One backbone of a demo.

    Args:
        name: s2 or s1.
        title: in words.
        settings: of its run.
        config: YAML file of the settings.
    """

    name: str
    title: str
    settings: RunSettings
    config: Path

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return Path(self.settings.out)

    @property
    def weights(self) -> Path:
        """The trained encoder."""
        return self.run.parent / f"backbone_{self.name}.safetensors"

    @property
    def untrained(self) -> Path:
        """The encoder as the run began."""
        return self.run.parent / f"untrained_{self.name}.safetensors"


def describe_backbone(
    out: Path,
    name: str,
    cubes: Sequence[Path],
    modality: ImageryName,
    num_train: int,
    num_steps: int,
) -> DemoBackbone:
    """Return a backbone of the preset `tiny`; its settings are written to the demo's folder.

    Args:
        out: folder of the demo.
        name: s2 or s1.
        cubes: it is trained on.
        modality: the one product it sees.
        num_train: locations of the training split.
        num_steps: about how many steps to train.
    """
    batch_size = min(_BATCH, num_train // 2 * 2)
    epochs = max(1, round(num_steps / (num_train // batch_size)))
    values: dict[str, Any] = {
        "preset": "tiny",
        "out": str(out / f"run_{name}"),
        "data": {
            "cubes": [str(cube) for cube in cubes],
            "modality": [modality],
            "min_class_fraction": MIN_CLASS_FRACTION,
        },
        "views": {"image_size": _IMAGE_SIZE},
        "evaluation": {
            "every_epochs": max(1, epochs // _EVALUATIONS),
            "min_class_fraction": MIN_CLASS_FRACTION,
            "max_patches": _MAX_PATCHES,
        },
        "optimiser": {"warmup_epochs": max(1, epochs // 10)},
        "batch_size": batch_size,
        "epochs": epochs,
    }
    config = out / f"pretrain_{name}.yaml"
    text = yaml.safe_dump(values, sort_keys=False)
    write_atomically(config, f"# Written by softcon demo.\n{text}")
    title = PRODUCTS[modality].short_title.removesuffix(f" {PRODUCTS[modality].level}")
    return DemoBackbone(name, title, parse_run_settings(values, str(config)), config)


def make_backbone(backbone: DemoBackbone, stages: Stages) -> None:
    """Train, export and probe, each once."""
    stages.run(
        f"pretrain {backbone.name}",
        f"Pretrain tiny on {backbone.title}",
        lambda: _pretrain(backbone),
        command=f"softcon pretrain {backbone.config}",
    )
    stages.run(
        f"export {backbone.name}",
        "Export it, and the encoder it began as",
        lambda: _export(backbone),
        command=f"softcon export {backbone.run} --out {backbone.weights}\n"
        f"softcon export {backbone.run} --untrained --out {backbone.untrained}",
    )
    cubes = " ".join(f"--cube {cube}" for cube in backbone.settings.data.cubes)
    stages.run(
        f"probe {backbone.name}",
        "Probe both: nearest neighbours and a linear head, on the test split",
        lambda: _probe(backbone),
        command=f"softcon probe {backbone.weights} {cubes} --method linear --record\n"
        f"softcon probe {backbone.weights} {cubes} --method knn --record",
    )


def _pretrain(backbone: DemoBackbone) -> None:
    from training.pretrain import pretrain

    pretrain(backbone.settings)


def _export(backbone: DemoBackbone) -> None:
    from training.backbones.export import export_backbone

    export_backbone(backbone.run, backbone.weights, "timm")
    export_backbone(backbone.run, backbone.untrained, "timm", untrained=True)


def _probe(backbone: DemoBackbone) -> Mapping[str, Any]:
    from training.backbones.export import record_scores
    from training.evaluation.probe import probe_backbone

    found: dict[str, Any] = {}
    for name, weights in (("trained", backbone.weights), ("random", backbone.untrained)):
        for method in _METHODS:
            result = probe_backbone(
                weights,
                backbone.settings.data.cubes,
                method,
                min_class_fraction=MIN_CLASS_FRACTION,
                cache=features_folder(backbone),
            )
            record_scores(weights, result)
            found[f"{name} {method}"] = asdict(result)
    return found


def features_folder(backbone: DemoBackbone) -> Path:
    """Return where features are kept: probes and pictures share them."""
    return backbone.run.parent / "features"
