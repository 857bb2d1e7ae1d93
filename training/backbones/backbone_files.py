"""Backbones as files, with what is needed to use them rightly: weights, and a JSON beside them.

Layouts: `timm` (vit_small_patch14_dinov2, resnet50, ...), `torchvision` (resnet50, `fc` left out),
`dinov2` (the vision_transformer of facebookresearch/dinov2, which SoftCon's authors publish in).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from groundwork.errors import InputError, unknown_choice
from groundwork.file_writes import make_folder, write_atomically
from training.choices import Layout
from training.network.encoders import is_transformer, make_encoder

_BASE: Final = "base_encoder."


@dataclass(frozen=True, slots=True)
class BackboneCard:
    """What belongs to weights, and is lost without a file beside them.

    Args:
        encoder: name in timm.
        layout: of the keys.
        bands: in the order of the input channels, `s2_l1c B1`, ...
        mean: per band; DN for Sentinel-2, dB for Sentinel-1.
        std: per band.
        normalisation: in words.
        image_size: side of the input in pretraining, pixels.
        modality: products.
        cubes: address and digest of what it was trained on.
        step: optimiser steps.
        probe: scores by method, as `softcon probe --record` wrote them; None before.
        attribution: of the data.
    """

    encoder: str
    layout: Layout
    bands: list[str]
    mean: list[float]
    std: list[float]
    normalisation: str
    image_size: int
    modality: list[str]
    cubes: list[dict[str, Any]]
    step: int
    probe: dict[str, Any] | None
    attribution: list[str]


NORMALISATION: Final = (
    "per band (x - (mean - 2 std)) / (4 std), clipped to 0..1; pixels without data become 0.5"
)


def load_encoder(path: Path) -> tuple[nn.Module, BackboneCard]:
    """Read an exported backbone into its encoder.

    Args:
        path: .safetensors or .pth, in any of the layouts, with its JSON beside it.

    Raises:
        InputError: a file is missing, damaged, or does not fit.
    """
    card = read_card(path)
    encoder = make_encoder(card.encoder, num_bands=len(card.bands), image_size=card.image_size)
    state = read_weights(path)
    if card.layout == "dinov2":
        state.pop("mask_token", None)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit {card.encoder}: {str(error).splitlines()[0]}"
        ) from error
    return encoder.eval(), card


def read_card(path: Path) -> BackboneCard:
    """Read the JSON beside weights.

    Raises:
        InputError: it is missing or damaged.
    """
    beside = card_path(path)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder: give the file that softcon export wrote (export a run first)"
        )
    if not path.is_file():
        raise InputError(f"{path} does not exist: give what softcon export wrote")
    try:
        card = BackboneCard(**json.loads(beside.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(
            f"{beside} is missing: it says which bands and which normalisation {path.name} wants"
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{beside} is damaged ({error}): export again") from error
    if card.layout not in get_args(Layout):
        raise InputError(
            f"{beside} has layout {card.layout!r}, this program knows "
            f"{', '.join(get_args(Layout))}: export again"
        )
    return card


def write_backbone(path: Path, state: Mapping[str, Tensor], card: BackboneCard) -> None:
    """Write weights and their card; each whole or not at all.

    Args:
        path: ends with .safetensors or .pth.
        state: in the layout that the card names.
        card: of the backbone.

    Raises:
        InputError: the name ends otherwise.
    """
    make_folder(path.parent)
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if path.suffix == ".safetensors":
        content = _safetensors(whole, {"format": "pt", "layout": card.layout})
    elif path.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        content = buffer.getvalue()
    else:
        raise InputError(f"{path} has to end with .safetensors or .pth")
    write_card(path, card)
    write_atomically(path, content)


def _safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a .safetensors file; same tensors, same bytes.

    The library writes the metadata in the random order of a hash map, so the header is written anew
    with its keys sorted: a JSON text of the same length, after its length in 8 bytes.
    """
    from safetensors.torch import save

    content = save(dict(tensors), metadata=dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(length) + content[8 + length :]


def write_card(weights: Path, card: BackboneCard) -> None:
    """Write the JSON beside weights; whole or not at all."""
    write_atomically(card_path(weights), json.dumps(asdict(card), indent=1) + "\n")


def card_path(path: Path) -> Path:
    """Return where the JSON of weights is."""
    return path.with_suffix(".json")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights as data; nothing in them is executed.

    Raises:
        InputError: they are missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many things
        raise InputError(f"{path} holds no weights that can be read") from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path} holds no plain weights")
    return found


def encoder_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the trained encoder of a checkpoint."""
    network: Mapping[str, Tensor] = checkpoint["network"]
    return {k.removeprefix(_BASE): v for k, v in network.items() if k.startswith(_BASE)}


def to_layout(state: Mapping[str, Tensor], encoder: str, layout: Layout) -> dict[str, Tensor]:
    """Return an encoder's weights as a layout wants them.

    timm names a ResNet's weights as torchvision does and a DINOv2 transformer's as its authors do;
    what differs is what else there is.

    Raises:
        InputError: the encoder has no such layout.
    """
    match layout:
        case "timm":
            return dict(state)
        case "torchvision":
            if not encoder.startswith("resnet"):
                raise InputError(f"layout torchvision is for ResNets, not for {encoder}")
            return dict(state)
        case "dinov2":
            if not (is_transformer(encoder) and "dinov2" in encoder):
                raise InputError(f"layout dinov2 is for *_dinov2 encoders, not for {encoder}")
            # Its module has a token for masked patches; here nothing was masked but left out.
            return {**state, "mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
        case _:
            raise unknown_choice("layout", layout, get_args(Layout))
