"""EuroSAT and BigEarthNet, written as they are published and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import torch

from groundwork.errors import InputError
from storage_schema.status import Split
from training.backbones.backbone_files import NORMALISATION, BackboneCard, write_backbone
from training.evaluation.probe import probe_on_dataset
from training.evaluation.published_datasets import EUROSAT_BANDS, open_dataset, read_image
from training.network.encoders import make_encoder
from training.reading.patch_index import band_order

AFFINE = rasterio.Affine(1e-4, 0, 11.0, 0, -1e-4, 48.0)


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1],
        count=len(values), dtype="uint16", crs="EPSG:4326", transform=AFFINE,
    ) as file:  # fmt: skip
        file.write(values)


@pytest.fixture(scope="module")
def eurosat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eurosat")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("Forest", "Highway", "SeaLake")):
        for index in range(40):
            stripes = 1200 * ((np.arange(64) // 8) % 2)
            pattern = (0, stripes[None, :], stripes[:, None])[number]
            values = rng.integers(500, 700, (13, 64, 64)) + pattern
            values += 10 * np.arange(13)[:, None, None]
            write(root / name / f"{name}_{index}.tif", values.astype(np.uint16))
    return root


@pytest.fixture(scope="module")
def bigearthnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bigearthnet")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(36):
        acquisition = f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{index // 12:02d}"
        patch = f"{acquisition}_{index % 12:02d}_{index:02d}"
        labels = ["Arable land"] if index % 2 else ["Arable land", "Marine waters"]
        rows.append((patch, labels, ("train", "validation", "test")[index % 3]))
        for band in ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "11", "12"):
            size = {"01": 20, "09": 20}.get(band, 120 if band in {"02", "03", "04", "08"} else 60)
            value = 3000 if index % 2 else 200
            plane = rng.integers(value, value + 100, (1, size, size)).astype(np.uint16)
            write(root / "BigEarthNet-S2" / acquisition / patch / f"{patch}_B{band}.tif", plane)
    table = pa.table(
        {
            "patch_id": [row[0] for row in rows] + ["not_there_00_00"],
            "labels": [row[1] for row in rows] + [["Arable land"]],
            "split": [row[2] for row in rows] + ["train"],
        }
    )
    pq.write_table(table, root / "metadata.parquet")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ResNet-18 with its card."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "rn18.safetensors"
    encoder = make_encoder("resnet18", num_bands=13, image_size=32)
    card = BackboneCard(
        encoder="resnet18", layout="timm", bands=[f"s2_l1c {b}" for b in band_order("s2_l1c")],
        mean=[1500.0] * 13, std=[1000.0] * 13, normalisation=NORMALISATION, image_size=32,
        modality=["s2_l1c"], cubes=[], step=0, probe=None, attribution=[],
    )  # fmt: skip
    write_backbone(path, encoder.state_dict(), card)
    return path


def test_bands_of_eurosat_come_in_the_order_of_the_encoder(eurosat: Path) -> None:
    dataset = open_dataset("eurosat", eurosat)
    assert dataset.classes == ("Forest", "Highway", "SeaLake")
    image = read_image(dataset, dataset.paths[0], band_order("s2_l1c"), 64)
    with rasterio.open(dataset.paths[0]) as file:
        stored = file.read().astype(np.float32)
    for channel, band in enumerate(band_order("s2_l1c")):
        np.testing.assert_allclose(image[channel], stored[EUROSAT_BANDS.index(band)])
    shares = [np.mean(dataset.split == int(s)) for s in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.15)


def test_bigearthnet_has_no_b10_and_says_so(bigearthnet: Path) -> None:
    dataset = open_dataset("bigearthnet", bigearthnet)
    assert len(dataset.paths) == 36
    assert dataset.labels.sum(axis=0).tolist() == [36, 18]
    image = read_image(dataset, dataset.paths[0], band_order("s2_l1c"), 120)
    b10 = band_order("s2_l1c").index("B10")
    assert (image[b10] == 0).all()
    assert (np.delete(image.numpy(), b10, axis=0) > 0).all()
    assert any("B10" in note for note in dataset.notes)
    assert any("36 of 37" in note for note in dataset.notes)


@pytest.mark.parametrize("method", ["knn", "linear"])
def test_backbones_are_probed_on_both(
    weights: Path, eurosat: Path, bigearthnet: Path, method: str
) -> None:
    found = probe_on_dataset(weights, "eurosat", eurosat, method, neighbours=5)
    assert found.accuracy is not None
    assert found.accuracy > 0.9  # plain, and stripes of two directions
    multi = probe_on_dataset(weights, "bigearthnet", bigearthnet, method)
    assert multi.accuracy is None
    assert multi.per_class["Arable land"] == 1.0
    assert multi.notes


@pytest.mark.parametrize("name", ["eurosat", "bigearthnet"])
def test_another_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="holds no"):
        open_dataset(name, tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        open_dataset(name, tmp_path / "absent")
