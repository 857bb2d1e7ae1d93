"""Frozen features of patches: computed once, kept, and probed many times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from groundwork.file_writes import atomic_file, make_folder
from storage_schema.status import Split
from training.config import DataSettings
from training.network.encoders import pooled_layers
from training.reading.patch_index import PatchIndex, open_index
from training.reading.patch_reader import PatchReader, PatchRefs
from training.reading.views import ViewMaker

_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """Features of labelled patches.

    Args:
        features: float32 (N, D).
        labels: bool (N, C).
        groups: int64 (N,), location of each.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.features)


def labelled_patches(index: PatchIndex, max_patches: int | None = None) -> PatchRefs:
    """Return the labelled complete patches of an index; a subset is spread evenly over it."""
    rows, seasons = np.nonzero(index.complete & index.labelled)
    if max_patches is not None and len(rows) > max_patches:
        chosen = np.linspace(0, len(rows) - 1, max_patches).round().astype(np.int64)
        rows, seasons = rows[chosen], seasons[chosen]
    return PatchRefs(rows, seasons)


def features_of_cubes(
    data: DataSettings,
    split: Split,
    encoder: nn.Module,
    views: ViewMaker,
    device: torch.device,
    *,
    num_layers: int = 1,
    max_patches: int | None = None,
) -> LabelledFeatures:
    """Return features of the labelled patches of a split.

    Args:
        data: cubes and modality.
        split: which locations.
        encoder: takes what `views` makes of a whole patch.
        views: for the normalisation.
        device: of the encoder.
        num_layers: last layers that are taken.
        max_patches: of the split.

    Raises:
        InputError: a cube cannot be used, or has no location of the split.
        DamagedPatchError: a patch cannot be read.
    """
    index = open_index(data, split)
    refs = labelled_patches(index, max_patches)
    reader = PatchReader(index, data.modality)
    was_training = encoder.training
    encoder.eval()

    def batches() -> Iterator[tuple[list[PatchRefs]]]:
        for start in range(0, len(refs), _BATCH):
            chosen = slice(start, start + _BATCH)
            yield ([PatchRefs(refs.rows[chosen], refs.seasons[chosen])],)

    found: list[npt.NDArray[np.float32]] = []
    with torch.no_grad():
        for ((batch,),) in reader.prefetch(batches(), data.batches_ahead):
            pixels = {name: values.to(device) for name, values in batch.pixels.items()}
            features = pooled_layers(encoder, views.plain(pixels), num_layers)
            found.append(features.float().cpu().numpy())
    encoder.train(was_training)
    labels, _ = index.label_vectors(refs.rows, refs.seasons, fractions=False)
    # A location of one cube is another location than that of another cube.
    groups = index.cube[refs.rows].astype(np.int64) * 2**32 + index.location[refs.rows]
    features_found = np.concatenate(found) if found else np.zeros((0, 1), np.float32)
    return LabelledFeatures(features_found, labels > 0, groups)


def kept_features(folder: Path, key: dict[str, object]) -> Path:
    """Return where features of this kind are kept: a name that depends on all that shapes them."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return folder / f"features_{digest}.npz"


def save_features(path: Path, found: LabelledFeatures) -> None:
    """Keep features; whole or not at all."""
    make_folder(path.parent)
    with atomic_file(path) as part:
        np.savez(part, features=found.features, labels=found.labels, groups=found.groups)


def load_features(path: Path) -> LabelledFeatures | None:
    """Return kept features, None where there are none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return LabelledFeatures(kept["features"], kept["labels"], kept["groups"])
    except (OSError, ValueError, KeyError):
        return None
