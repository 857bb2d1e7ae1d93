"""``softcon pretrain``, ``probe`` and ``export``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from flows.command_line.output import print_json, stdout


class Layout(StrEnum):
    """Whose key names the weights have."""

    timm = "timm"
    torchvision = "torchvision"
    dinov2 = "dinov2"


class Dataset(StrEnum):
    """Published data sets with Sentinel-2 images."""

    eurosat = "eurosat"
    bigearthnet = "bigearthnet"


class Method(StrEnum):
    """How a backbone is probed."""

    knn = "knn"
    linear = "linear"
    finetune = "finetune"


_FROZEN_METHODS: Final[Mapping[Method, Literal["knn", "linear"]]] = {
    Method.knn: "knn",
    Method.linear: "linear",
}
"""Methods that leave the weights as they are."""


def pretrain(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/pretrain_*.yaml.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: a.b=value; may be given several times."),
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto (the newest checkpoint), none, or a checkpoint.")
    ] = "auto",
) -> int:
    """Pretrain a backbone from sealed cubes; the same command goes on where the last one stopped.

    One process. On several GPUs: `torchrun --nproc_per_node=8 -m training.pretrain CONFIG`.
    """
    from training.config import read_run_settings

    settings = read_run_settings(config, changes or [])
    from training.pretrain import pretrain as run  # PyTorch takes seconds: a slip is told before.

    folder = run(settings, resume)
    stdout.print(str(folder), markup=False, soft_wrap=True)
    return 0


def probe(
    weights: Annotated[Path, typer.Argument(help="What softcon export wrote.")],
    cube: Annotated[
        list[str] | None, typer.Option(help="Sealed cube; may be given several times.")
    ] = None,
    dataset: Annotated[Dataset | None, typer.Option(help="Instead of cubes; needs --root.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    method: Annotated[Method, typer.Option(help="Neighbours, a linear head, or all layers.")] = (
        Method.linear
    ),
    layers: Annotated[
        int, typer.Option(min=1, max=12, help="Last layers that a linear head sees (ViT).")
    ] = 1,
    min_class_fraction: Annotated[
        float, typer.Option(min=0, max=0.99, help="A class is present above this share.")
    ] = 0.05,
    max_patches: Annotated[
        int | None, typer.Option(min=16, help="Of each split; all by default.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps features.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of results to add to.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the scores into the cards beside the weights.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Score a backbone by multi-label classification of land cover on the test split of cubes."""
    from groundwork.errors import InputError
    from training.evaluation.probe import (
        finetune_backbone,
        probe_backbone,
        probe_on_dataset,
        write_result,
    )

    if (dataset is None) != (root is None) or (dataset is None) == (not cube):
        raise InputError("give either --cube, or --dataset with --root")
    if method is Method.finetune:
        if dataset is not None:
            raise InputError("--method finetune takes cubes: give --cube")
        found = finetune_backbone(
            weights,
            cube or [],
            min_class_fraction=min_class_fraction,
            max_patches=max_patches,
            device=device,
        )
    elif dataset is not None and root is not None:
        found = probe_on_dataset(
            weights,
            dataset.value,
            root,
            _FROZEN_METHODS[method],
            num_layers=layers,
            max_images=max_patches,
            device=device,
        )
    else:
        found = probe_backbone(
            weights,
            cube or [],
            _FROZEN_METHODS[method],
            num_layers=layers,
            min_class_fraction=min_class_fraction,
            max_patches=max_patches,
            cache=cache,
            device=device,
        )
    if out is not None:
        write_result(out, found)
    if record:
        from training.backbones.export import record_scores

        record_scores(weights, found)
    if json_output:
        print_json(asdict(found))
        return 0
    for note in found.notes:
        stdout.print(f"note: {note}", markup=False, soft_wrap=True)
    if found.accuracy is not None:
        stdout.print(f"accuracy {found.accuracy:.4f}")
    for name in ("micro", "macro"):
        value, low, high = getattr(found, name)
        stdout.print(f"{name} mAP {value:.4f}  (95 %: {low:.4f} to {high:.4f})")
    for label, score in found.per_class.items():
        shown = "does not occur" if score is None else f"{score:.4f}"
        stdout.print(f"  {label}: {shown}", markup=False)
    stdout.print(f"{found.num_train:,} patches to fit on, {found.num_test:,} to score")
    return 0


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    out: Annotated[Path, typer.Option(help=".safetensors or .pth; .json and .md go beside it.")],
    layout: Annotated[Layout, typer.Option("--format", help="Key names.")] = Layout.timm,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="The encoder as the run began, to compare with.")
    ] = False,
) -> int:
    """Write the trained encoder for users of timm, torchvision or DINOv2, with a model card."""
    from training.backbones.export import export_backbone

    export_backbone(checkpoint, out, layout.value, untrained=untrained)
    stdout.print(str(out), markup=False, soft_wrap=True)
    return 0


COMMANDS = (pretrain, probe, export)
