"""EuroSAT and BigEarthNet in their published folder layouts, as labelled images for a probe.

Sources: Helber et al. 2019, arXiv 1709.00029 (EuroSAT, 13 bands as GeoTIFF, one folder per class);
Clasen et al. 2024, arXiv 2407.03653 (BigEarthNet v2.0, 12 bands as GeoTIFF, 19 classes, splits).
Neither is resampled to a common place on Earth: an image is its bands, each brought to one size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundwork.errors import InputError, unknown_choice
from storage_schema.status import Split
from training.backbones.backbone_files import BackboneCard
from training.evaluation.features import LabelledFeatures
from training.network.encoders import pooled_layers
from training.reading.views import normalise_

DatasetName = Literal["eurosat", "bigearthnet"]
EUROSAT_BANDS: Final = (
    "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B8A",
)  # fmt: skip
"""Order in the published files: B8A comes last."""
_BIGEARTHNET_BANDS: Final = (
    "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12",
)  # fmt: skip
_SENTINEL_2: Final = ("s2_l1c", "s2_l2a")
"""The products whose bands these images have."""
_SHARES: Final = ((Split.TRAIN, 0.6), (Split.VALIDATION, 0.8), (Split.TEST, 1.0))
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class PublishedImages:
    """A data set's images.

    Args:
        name: of the data set.
        classes: names.
        paths: a file (EuroSAT) or a folder (BigEarthNet) per image.
        labels: bool (N, C).
        split: (N,), `Split`.
        single_label: whether each image has one class.
        notes: what a reader of the scores has to know.
    """

    name: DatasetName
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: npt.NDArray[np.bool_]
    split: npt.NDArray[np.int64]
    single_label: bool
    notes: tuple[str, ...]


def open_dataset(name: DatasetName, root: Path) -> PublishedImages:
    """Find a data set's images.

    Raises:
        InputError: the folder is not laid out as published.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give the data set's own, unpacked")
    match name:
        case "eurosat":
            return _open_eurosat(root)
        case "bigearthnet":
            return _open_bigearthnet(root)
        case _:
            raise unknown_choice("data set", name, get_args(DatasetName))


def _open_eurosat(root: Path) -> PublishedImages:
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    files = [(file, number) for number, f in enumerate(folders) for file in sorted(f.glob("*.tif"))]
    if not files:
        raise InputError(
            f"{root} holds no EuroSAT: it has a folder per class with .tif files of 13 bands "
            "(EuroSAT_MS), not the RGB .jpg release"
        )
    numbers = np.asarray([number for _, number in files])
    return PublishedImages(
        name="eurosat",
        classes=tuple(folder.name for folder in folders),
        paths=tuple(file for file, _ in files),
        labels=np.eye(len(folders), dtype=bool)[numbers],
        split=np.asarray([_split_of(file.name) for file, _ in files]),
        single_label=True,
        notes=("EuroSAT has no published split: 60/20/20 by a hash of the file name",),
    )


def _open_bigearthnet(root: Path) -> PublishedImages:
    import pyarrow.parquet as pq

    table_path = root / "metadata.parquet"
    images = root / "BigEarthNet-S2"
    if not table_path.is_file() or not images.is_dir():
        raise InputError(
            f"{root} holds no BigEarthNet v2.0: it has metadata.parquet and BigEarthNet-S2/"
        )
    table = pq.read_table(table_path, columns=["patch_id", "labels", "split"]).to_pandas()
    classes = tuple(sorted({label for labels in table["labels"] for label in labels}))
    position = {label: number for number, label in enumerate(classes)}
    rows, paths, splits = [], [], []
    names = {"train": Split.TRAIN, "validation": Split.VALIDATION, "test": Split.TEST}
    for patch, labels, split in table.itertuples(index=False):
        # Patches lie in a folder per acquisition, which is the id without its last two parts.
        folder = images / str(patch).rsplit("_", 2)[0] / str(patch)
        if folder.is_dir():
            row = np.zeros(len(classes), dtype=bool)
            row[[position[label] for label in labels]] = True
            rows.append(row)
            paths.append(folder)
            splits.append(int(names[str(split)]))
    if not paths:
        raise InputError(f"{images} has none of the patches in {table_path}")
    return PublishedImages(
        name="bigearthnet",
        classes=classes,
        paths=tuple(paths),
        labels=np.stack(rows),
        split=np.asarray(splits),
        single_label=False,
        notes=(
            "BigEarthNet is L2A without B10: where the encoder wants B10, it sees zeros",
            f"{len(paths):,} of {len(table):,} patches of metadata.parquet are there",
        ),
    )


def _split_of(name: str) -> int:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return int(next(split for split, most in _SHARES if share < most))


def read_image(dataset: PublishedImages, path: Path, bands: Sequence[str], size: int) -> Tensor:
    """Read an image, float32 (bands, size, size) in DN; bands it does not have are zeros.

    Args:
        dataset: whose image it is.
        path: of the image.
        bands: wanted, `B1`, ...
        size: each band is brought to it bilinearly.

    Raises:
        InputError: it cannot be read.
    """
    import rasterio

    planes: dict[str, npt.NDArray[Any]] = {}
    try:
        match dataset.name:
            case "eurosat":
                with rasterio.open(path) as file:
                    values = file.read()
                if len(values) != len(EUROSAT_BANDS):
                    raise InputError(f"{path} has {len(values)} bands, not 13")
                planes = dict(zip(EUROSAT_BANDS, values, strict=True))
            case "bigearthnet":
                for band in _BIGEARTHNET_BANDS:
                    if band in bands:
                        number = band[1:] if band == "B8A" else f"{int(band[1:]):02d}"
                        with rasterio.open(path / f"{path.name}_B{number}.tif") as file:
                            planes[band] = file.read(1)
            case _:
                raise unknown_choice("data set", dataset.name, get_args(DatasetName))
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return torch.cat(
        [_resized(planes[b], size) if b in planes else torch.zeros(1, size, size) for b in bands]
    )


def _resized(plane: npt.NDArray[Any], size: int) -> Tensor:
    values = torch.from_numpy(plane.astype(np.float32))[None, None]
    return F.interpolate(values, (size, size), mode="bilinear", align_corners=False)[0]


def features_of_dataset(
    dataset: PublishedImages,
    split: Split,
    encoder: nn.Module,
    card: BackboneCard,
    device: torch.device,
    *,
    num_layers: int = 1,
    max_images: int | None = None,
) -> LabelledFeatures:
    """Return frozen features of a split.

    Args:
        dataset: images.
        split: which of them.
        encoder: on `device`.
        card: its bands and normalisation.
        device: of the encoder.
        num_layers: last layers that are taken.
        max_images: of the split, spread evenly.

    Raises:
        InputError: the encoder wants other than Sentinel-2 bands, or an image is damaged.
    """
    named = [name.split() for name in card.bands]
    bands = [band for product, band in named if product in _SENTINEL_2]
    if len(bands) != len(card.bands):
        raise InputError(
            f"{dataset.name} has Sentinel-2 bands alone, the encoder wants {', '.join(card.bands)}"
        )
    rows = np.flatnonzero(dataset.split == int(split))
    if max_images is not None and len(rows) > max_images:
        rows = rows[np.linspace(0, len(rows) - 1, max_images).round().astype(int)]
    mean, std = torch.tensor(card.mean, device=device), torch.tensor(card.std, device=device)
    found = []
    with torch.no_grad():
        for images in _batches(dataset, rows, bands, card.image_size):
            scaled = normalise_(images.to(device), mean, std)
            found.append(pooled_layers(encoder, scaled, num_layers).float().cpu().numpy())
    features = np.concatenate(found) if found else np.zeros((0, 1), np.float32)
    return LabelledFeatures(features, dataset.labels[rows], rows.astype(np.int64))


def _batches(
    dataset: PublishedImages, rows: npt.NDArray[Any], bands: Sequence[str], size: int
) -> Iterator[Tensor]:
    for start in range(0, len(rows), _BATCH):
        chosen = rows[start : start + _BATCH]
        yield torch.stack([read_image(dataset, dataset.paths[row], bands, size) for row in chosen])
