"""Encoders of timm with any number of bands, initialised at random or from a foundation model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from groundwork.errors import InputError, unknown_choice

PatchEmbedding = Literal["random", "inflate"]


def make_encoder(
    name: str,
    *,
    num_bands: int,
    image_size: int,
    token_drop: float = 0.0,
    initialise: str = "random",
    patch_embedding: PatchEmbedding = "random",
) -> nn.Module:
    """Return an encoder: (B, num_bands, image_size, image_size) to features (B, num_features).

    Args:
        name: of the model in timm.
        num_bands: input channels.
        image_size: side of the input, pixels.
        token_drop: share of patch tokens left out in training mode (timm's ``patch_drop_rate``).
        initialise: `random`, `hub`, or a file of weights (.pth, .safetensors).
        patch_embedding: of an initialised encoder: `random` draws the first layer anew, `inflate`
            spreads three input bands over the new ones as timm does.

    Raises:
        InputError: timm has no such model, it has no patch tokens to drop, or the weights
            cannot be found or do not fit.
        ValueError: `patch_embedding` is no choice that there is.
    """
    from training.network.torchvision_import import import_torchvision

    import_torchvision()
    import timm

    if not timm.is_model(name):
        raise InputError(
            f"model.encoder {name!r} is no model of timm {timm.__version__}: "
            f"{_similar(name) or 'see timm.list_models()'}"
        )
    options: dict[str, Any] = {"in_chans": num_bands, "num_classes": 0}
    if is_transformer(name):
        options |= {"img_size": image_size, "dynamic_img_size": True, "patch_drop_rate": token_drop}
    elif token_drop:
        raise InputError(
            f"model.token_drop {token_drop:g}: {name} has no patch tokens to drop; set it to 0"
        )
    options |= _weights(initialise)
    try:
        encoder: nn.Module = timm.create_model(name, **options)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} cannot be made ({reason}): check model.*") from error
    match patch_embedding:
        case "random":
            if initialise != "random" and num_bands != 3:
                _draw_anew(first_layer(encoder))
        case "inflate":
            pass  # timm has done it.
        case _:
            choices = get_args(PatchEmbedding)
            raise unknown_choice("model.patch_embedding", patch_embedding, choices)
    return encoder


def is_transformer(name: str) -> bool:
    """Tell whether a model of timm works on patch tokens."""
    return name.startswith(("vit_", "deit", "eva"))


def first_layer(encoder: nn.Module) -> nn.Conv2d:
    """Return the convolution that sees the bands."""
    return next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))


def num_features(encoder: nn.Module) -> int:
    """Return the width of an encoder's features."""
    return int(encoder.num_features)  # type: ignore[arg-type]


@torch.no_grad()
def _draw_anew(layer: nn.Conv2d) -> None:
    """As timm initialises a patch embedding: fan-in scaled, truncated normal."""
    fan_in = layer.weight[0].numel()
    nn.init.trunc_normal_(layer.weight, std=fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _weights(initialise: str) -> dict[str, Any]:
    if initialise == "random":
        return {"pretrained": False}
    if initialise == "hub":
        return {"pretrained": True}
    path = Path(initialise)
    if not path.is_file():
        raise InputError(
            f"model.initialise {initialise} is no file: give random, hub, or a file of weights"
        )
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}


def _similar(name: str) -> str:
    import difflib

    import timm

    found = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f"did you mean {', '.join(found)}?" if found else ""


def weight_layers(encoder: nn.Module) -> dict[str, int]:
    """Return parameter -> depth of its layer, 0 at the input, for layer-wise learning rates.

    Blocks of a transformer count one by one, stages of a convolutional network as a whole.
    """
    blocks: dict[str, int] = {}
    deepest = 0
    for name, _ in encoder.named_parameters():
        parts = name.split(".")
        if parts[0] in {"blocks", "stages"}:
            depth = int(parts[1]) + 1
        elif parts[0].startswith("layer") and parts[0][5:].isdigit():
            depth = int(parts[0][5:])
        elif parts[0] in {"norm", "fc_norm", "head"}:
            depth = -1
        else:
            depth = 0
        blocks[name] = depth
        deepest = max(deepest, depth)
    return {name: deepest + 1 if depth < 0 else depth for name, depth in blocks.items()}


def pooled_layers(encoder: nn.Module, images: Tensor, num_layers: int) -> Tensor:
    """Return features for a linear probe.

    Args:
        encoder: in evaluation mode.
        images: (B, bands, y, x).
        num_layers: 1 takes what the encoder returns. More (transformers alone) take the class
            tokens of the last layers and the mean patch token of the last one, as DINOv2 does.
    """
    if num_layers == 1 or not hasattr(encoder, "get_intermediate_layers"):
        found: Tensor = encoder(images)
        return found
    layers: Any = encoder.get_intermediate_layers(  # type: ignore[operator]
        images, n=num_layers, return_prefix_tokens=True, norm=True
    )
    classes = [prefix[:, 0] for _, prefix in layers]
    return torch.cat([*classes, layers[-1][0].mean(dim=1)], dim=1)
