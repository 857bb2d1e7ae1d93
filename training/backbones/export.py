"""From a checkpoint to a backbone that others load, with a card for programs and one for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from training.backbones.backbone_files import (
    NORMALISATION,
    BackboneCard,
    encoder_state,
    read_card,
    to_layout,
    write_backbone,
    write_card,
)
from training.backbones.scores import ProbeResult
from training.checkpoints import list_checkpoints, load_checkpoint
from training.choices import Layout
from training.config import RunSettings
from training.network.siamese import SiameseNetwork
from training.reading.cube_files import CubeFiles


def export_backbone(
    checkpoint: Path, out: Path, layout: Layout, *, untrained: bool = False
) -> BackboneCard:
    """Write the trained encoder of a checkpoint.

    Args:
        checkpoint: a file, or the folder of a run for its newest one.
        out: .safetensors or .pth; a .json and a .md of the same name are written beside it.
        layout: of the keys.
        untrained: the encoder as the run began, instead: what training is to be compared with.

    Raises:
        InputError: a file is missing or damaged, or the layout does not fit.
    """
    run = checkpoint if checkpoint.is_dir() else checkpoint.parent.parent
    if checkpoint.is_dir():
        found = list_checkpoints(checkpoint)
        if not found:
            raise InputError(f"{checkpoint} has no checkpoints: is it the folder of a run?")
        checkpoint = found[-1]
    state = load_checkpoint(checkpoint)
    record = _read_record(run)
    settings = RunSettings.model_validate(record["settings"])
    encoder = _first_encoder(settings) if untrained else encoder_state(state)
    card = BackboneCard(
        encoder=settings.model.encoder,
        layout=layout,
        bands=record["bands"],
        mean=record["mean"],
        std=record["std"],
        normalisation=NORMALISATION,
        image_size=settings.views.image_size,
        modality=list(settings.data.modality),
        cubes=record["cubes"],
        step=0 if untrained else int(state["step"]),
        probe=None,
        attribution=_attribution(record, settings),
    )
    weights = to_layout(encoder, card.encoder, layout)
    write_backbone(out, weights, card)
    write_atomically(out.with_suffix(".md"), describe(card, settings, out))
    return card


def _first_encoder(settings: RunSettings) -> dict[str, Tensor]:
    """Return the encoder with which a run of these settings begins."""
    torch.manual_seed(settings.seed)
    network = SiameseNetwork(settings.model, settings.data.num_bands, settings.views.image_size)
    return network.base_encoder.state_dict()


def describe(card: BackboneCard, settings: RunSettings, weights: Path) -> str:
    """Return the model card in Markdown, from the run's own records."""
    rows = "\n".join(
        f"| {band} | {mean:.2f} | {std:.2f} |"
        for band, mean, std in zip(card.bands, card.mean, card.std, strict=True)
    )
    cubes = "\n".join(f"- {cube['address']}, digest `{cube['digest']}`" for cube in card.cubes)
    data_terms = "\n".join(f"- {line}" for line in card.attribution)
    origin = (
        f"pretrained by SoftCon (arXiv 2405.20462) with\nsoftcon-cube: {card.step} steps of "
        f"{settings.batch_size} locations, views of {card.image_size} px."
        if card.step
        else "as a run of softcon-cube began:\nwhat pretraining is to be compared with."
    )
    return f"""# {weights.stem}

{card.encoder} with {len(card.bands)} input bands, {origin}

## Input

Bands in this order. Normalisation: {card.normalisation}.

| band | mean | std |
| --- | --- | --- |
{rows}

## Trained on

{cubes}

Loss: {settings.loss.contrastive_weight:g} x contrastive + {settings.loss.soft_weight:g} x soft
({settings.loss.soft_form}, label similarity {settings.loss.similarity}). Seed {settings.seed}.

{_scores(card)}
## Data and licences

{data_terms}
- Labels: Dynamic World (Brown et al. 2022), CC-BY-4.0.

## Loading

Layout `{card.layout}`, `{weights.name}`; all numbers: `{weights.with_suffix(".json").name}`.
"""


def _read_record(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: a checkpoint is exported from the folder of its run"
        ) from error
    return found


def record_scores(weights: Path, found: ProbeResult) -> None:
    """Write scores into the cards beside weights; other methods' scores stay.

    Args:
        weights: an exported backbone.
        found: of one method.

    Raises:
        InputError: the card is missing or damaged, or cannot be written.
    """
    card = read_card(weights)
    card = replace(card, probe={**(card.probe or {}), found.method: asdict(found)})
    page = weights.with_suffix(".md")
    try:
        write_card(weights, card)
        if page.is_file():
            text = _SCORES.sub(lambda _: _scores(card), page.read_text(encoding="utf-8"))
            write_atomically(page, text)
    except InputError as error:
        raise InputError(
            f"{error}: copy the backbone to a folder of yours, or leave --record out"
        ) from error


_SCORES: Final = re.compile(r"^## Scores\n.*?(?=^## )", re.MULTILINE | re.DOTALL)


def _scores(card: BackboneCard) -> str:
    """Return the part of the card about scores."""
    if not card.probe:
        said = "Not probed yet: `softcon probe WEIGHTS --cube CUBE --record` writes them here."
        return f"## Scores\n\n{said}\n\n"
    rows = [
        f"| {method} | {mean} | {found[mean][0]:.4f} | {found[mean][1]:.4f} to "
        f"{found[mean][2]:.4f} | {found['num_train']:,} | {found['num_test']:,} |"
        for method, found in sorted(card.probe.items())
        for mean in ("micro", "macro")
    ]
    lines = "\n".join(rows)
    return f"""## Scores

Multi-label classification of land cover on the test split of the probed cubes, with frozen features
unless fine-tuned. Intervals: 95 %, bootstrap over locations.

| method | mean | mAP | interval | patches to fit on | to score |
| --- | --- | --- | --- | --- | --- |
{lines}

"""


def _attribution(record: Mapping[str, Any], settings: RunSettings) -> list[str]:
    lines: set[str] = set()
    for cube in record["cubes"]:
        try:
            attributes = CubeFiles(cube["address"]).attributes
        except InputError:
            continue  # The cube may have moved since; its digest is what counts.
        products = attributes["products"]
        if "emulator" in str(attributes.get("source", {}).get("service", "")):
            lines.add(
                f"{cube['address']} was served by an emulator of Earth Engine: pixels of its "
                "simulated world are made up, and these terms are those of what they imitate"
            )
        lines |= {str(products[name]["attribution"]) for name in settings.data.modality}
    return sorted(lines) or ["contains modified Copernicus Sentinel data"]
