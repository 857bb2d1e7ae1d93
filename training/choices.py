"""Names of choices that settings and their work share; it imports nothing heavy."""

from __future__ import annotations

from typing import Literal

LabelSimilarity = Literal["cosine", "cosine_fractions", "jaccard", "bray_curtis", "dominant_class"]
"""See `training.objective.label_similarity`."""
SoftForm = Literal["bce", "softmax", "mse"]
"""See `training.objective.losses.soft_loss`."""
Layout = Literal["timm", "torchvision", "dinov2"]
"""Whose key names exported weights have; see `training.backbones.backbone_files`."""
