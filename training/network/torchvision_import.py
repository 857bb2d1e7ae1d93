"""Lets timm import torchvision beside a PyTorch without CUDA.

The wheel of torchvision on the public index is built for CUDA. Beside a CPU build of PyTorch its
import fails with "operator torchvision::nms does not exist", because its compiled part, which
defines the operators, cannot be loaded. timm needs none of them. Declaring their signatures lets
the import go on; whoever called one would get PyTorch's own sentence that it has no implementation.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []
"""A library's operators go away with it."""


def import_torchvision() -> None:
    """Import torchvision; where it fails for the reason above, declare the operators first."""
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if torch.cuda.is_available() or "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _SIGNATURE)
        _libraries.append(library)
        importlib.import_module("torchvision")
