"""Settings that belong together, by name; a configuration overrides what it likes."""

from __future__ import annotations

from typing import Any, Final

from groundwork.settings_text import shown

_VIT: Final = {
    "model": {"initialise": "hub", "token_drop": 0.5},
    "views": {"image_size": 224},
}
_RESNET: Final = {
    "model": {"encoder": "resnet50", "initialise": "random", "token_drop": 0.0},
    "views": {"image_size": 224},
}
_SMALL: Final = {"model": {"encoder": "vit_small_patch14_dinov2"}}
_BASE: Final = {"model": {"encoder": "vit_base_patch14_dinov2"}}
_S2: Final = {"data": {"modality": ["s2_l1c"]}}
_S1: Final = {"data": {"modality": ["s1_grd"]}}
_TINY: Final = {
    "model": {
        "encoder": "vit_tiny_patch16_224",
        "token_drop": 0.5,
        "hidden": 512,
        "output": 128,
    },
    "views": {"image_size": 64},
    "data": {"min_class_fraction": 0.02},
    "optimiser": {"base_lr": 1e-3, "warmup_epochs": 1},
    "evaluation": {"every_epochs": 5},
    "batch_size": 32,
    "epochs": 20,
    "precision": "float32",
    "device": "cpu",
}


def merge(first: dict[Any, Any], *others: dict[Any, Any]) -> dict[Any, Any]:
    """Return nested settings in which later ones win."""
    merged = dict(first)
    for other in others:
        for key, value in other.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


PRESETS: Final[dict[str, dict[Any, Any]]] = {
    "rn50_s2": merge(_RESNET, _S2),
    "vits14_s2": merge(_VIT, _SMALL, _S2),
    "vitb14_s2": merge(_VIT, _BASE, _S2),
    "rn50_s1": merge(_RESNET, _S1),
    "vits14_s1": merge(_VIT, _SMALL, _S1),
    "vitb14_s1": merge(_VIT, _BASE, _S1),
    "tiny": _TINY,
}
"""The six published models, and one for two CPU cores."""


def with_preset(values: dict[Any, Any]) -> dict[Any, Any]:
    """Return settings with those of the preset they name.

    Raises:
        KeyError: there is no such preset.
    """
    name = values.get("preset")
    if name is None:
        return values
    if not isinstance(name, str) or name not in PRESETS:
        raise KeyError(f"preset {shown(name)} is unknown; the presets are {', '.join(PRESETS)}")
    return merge(PRESETS[name], {key: value for key, value in values.items() if key != "preset"})
