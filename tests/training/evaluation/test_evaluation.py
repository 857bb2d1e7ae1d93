"""Scores against brute force, and exported backbones in the hands of others."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.errors import InputError
from tests.training.dinov2_module import DinoVisionTransformer
from tests.training.test_pretrain import values
from training.backbones.backbone_files import encoder_state, load_encoder, read_card, read_weights
from training.backbones.export import export_backbone, record_scores
from training.checkpoints import list_checkpoints, load_checkpoint
from training.config import DataSettings, ViewSettings, parse_run_settings
from training.distributed import processes
from training.evaluation.features import LabelledFeatures
from training.evaluation.finetune import Finetuned, FinetuneSettings, finetune
from training.evaluation.knn import knn_scores
from training.evaluation.linear_probe import ProbeSettings, train_probe
from training.evaluation.metrics import average_precision, bootstrap_map, mean_average_precision
from training.evaluation.probe import finetune_backbone, probe_backbone, score, write_result
from training.loop.run_report import write_run_report
from training.network.encoders import make_encoder
from training.pretrain import prepare, pretrain
from training.reading.patch_index import read_statistics
from training.reading.views import ViewMaker


def naive_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Precision at each distinct threshold, weighted by the recall it adds."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = (taken & labels).sum() / labels.sum()
        total += (recall - before) * (taken & labels).sum() / taken.sum()
        before = recall
    return float(total)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), coarse=st.booleans())
def test_average_precision_equals_a_naive_loop(seed: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, 30).astype(float) if coarse else rng.random(30)
    labels = rng.random(30) < 0.3
    labels[0] = True
    assert average_precision(scores, labels) == pytest.approx(naive_precision(scores, labels))


def test_micro_pools_pairs_and_macro_averages_classes() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((40, 3)), rng.random((40, 3)) < 0.4
    labels[:, 2] = False
    found = mean_average_precision(scores, labels)
    assert found.micro == pytest.approx(naive_precision(scores.ravel(), labels.ravel()))
    each = [naive_precision(scores[:, c], labels[:, c]) for c in range(2)]
    assert found.macro == pytest.approx(np.mean(each))
    assert np.isnan(found.per_class[2])
    perfect = mean_average_precision(labels.astype(float), labels)
    assert perfect.micro == perfect.macro == 1.0


def test_bootstrap_draws_whole_locations() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((30, 2)) < 0.5
    scores = labels + rng.normal(0, 0.7, labels.shape)
    alone = bootstrap_map(scores, labels, np.arange(30))
    repeated = bootstrap_map(
        np.repeat(scores, 4, axis=0), np.repeat(labels, 4, axis=0), np.repeat(np.arange(30), 4)
    )
    # Copies of the same location add no evidence: the interval is as wide.
    assert repeated["micro"].value == pytest.approx(alone["micro"].value)
    assert repeated["micro"].high - repeated["micro"].low == pytest.approx(
        alone["micro"].high - alone["micro"].low
    )
    assert alone["micro"].low < alone["micro"].value < alone["micro"].high


def separable(num: int, seed: int) -> LabelledFeatures:
    rng = np.random.default_rng(seed)
    labels = rng.random((num, 3)) < 0.4
    features = (labels @ np.eye(3, 8) + rng.normal(0, 0.05, (num, 8))).astype(np.float32)
    return LabelledFeatures(features, labels, np.arange(num))


def test_nearest_neighbours_vote_by_similarity() -> None:
    train = LabelledFeatures(
        np.asarray([[1, 0], [0.9, 0.1], [0, 1]], np.float32),
        np.asarray([[1, 0], [1, 1], [0, 1]], bool),
        np.arange(3),
    )
    found = knn_scores(train, np.asarray([[2.0, 0.0]], np.float32), 2)
    cosines = np.asarray([1.0, 0.9 / np.hypot(0.9, 0.1)])
    weight = np.exp(cosines / 0.07)
    assert found[0, 0] == pytest.approx(1.0)
    assert found[0, 1] == pytest.approx(weight[1] / weight.sum(), rel=1e-4)


@pytest.mark.parametrize("method", ["knn", "linear"])
def test_probes_solve_what_can_be_solved(method: str) -> None:
    found = score(
        separable(300, 0), separable(80, 1), separable(80, 2), method, classes=["a", "b", "c"]
    )
    assert found.micro[0] > 0.97
    assert found.micro[1] <= found.micro[0] <= found.micro[2]
    assert set(found.per_class) == {"a", "b", "c"}
    shuffled = LabelledFeatures(
        separable(300, 0).features, separable(300, 9).labels, np.arange(300)
    )
    chance = score(shuffled, separable(80, 1), separable(80, 2), method, classes=["a", "b", "c"])
    assert chance.micro[0] < 0.7


def test_all_learning_rates_in_one_pass_equal_each_alone() -> None:
    train, validation = separable(200, 0), separable(50, 1)
    rates = (1e-3, 1e-2)
    together = train_probe(train, validation, ProbeSettings(epochs=5, learning_rates=rates))
    alone = [
        train_probe(train, validation, ProbeSettings(epochs=5, learning_rates=(rate,)))
        for rate in rates
    ]
    best = max(alone, key=lambda probe: probe.validation.micro)
    assert together.learning_rate == best.learning_rate
    np.testing.assert_allclose(together.weight, best.weight, atol=1e-6)


# --- export ---------------------------------------------------------------------------------------


def trained(
    cube: str, folder: Path, encoder: str, size: int, modality: str, drop: float = 0.0
) -> Path:
    return pretrain(
        parse_run_settings(
            values(
                cube,
                folder / "run",
                model={"encoder": encoder, "token_drop": drop},
                views={"image_size": size},
                data={"modality": [modality]},
                epochs=1,
                batch_size=16,
            ),
            "test",
        )
    )


@pytest.fixture(scope="module")
def vit_run(cube: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    return trained(cube, folder, "vit_small_patch14_dinov2", 28, "s2_l1c", 0.5)


@pytest.fixture(scope="module")
def resnet_run(cube: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(cube, tmp_path_factory.mktemp("resnet"), "resnet50", 32, "s1_grd")


@pytest.fixture(scope="module")
def exported(vit_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run's backbone and its card."""
    folder = tmp_path_factory.mktemp("exported")
    export_backbone(vit_run, folder / "vit.safetensors", "timm")
    return folder


@pytest.fixture
def backbone(exported: Path, tmp_path: Path) -> Path:
    """The same, a test's own."""
    return shutil.copytree(exported, tmp_path / "own") / "vit.safetensors"


def training_time_encoder(run: Path, name: str, bands: int, size: int) -> torch.nn.Module:
    encoder = make_encoder(name, num_bands=bands, image_size=size)
    encoder.load_state_dict(encoder_state(load_checkpoint(list_checkpoints(run)[-1])))
    return encoder.eval()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timm_loads_a_vit_strictly(vit_run: Path, tmp_path: Path, suffix: str) -> None:
    import timm

    out = tmp_path / f"vit{suffix}"
    export_backbone(vit_run, out, "timm")
    model = timm.create_model(
        "vit_small_patch14_dinov2", in_chans=13, img_size=28, num_classes=0
    ).eval()
    model.load_state_dict(read_weights(out), strict=True)
    images = torch.rand(2, 13, 28, 28)
    ours = training_time_encoder(vit_run, "vit_small_patch14_dinov2", 13, 28)
    with torch.no_grad():
        torch.testing.assert_close(model(images), ours(images), atol=1e-5, rtol=0)
        torch.testing.assert_close(load_encoder(out)[0](images), ours(images), atol=1e-5, rtol=0)


def test_the_authors_module_layout_loads_a_vit_strictly(vit_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "vit.pth"
    export_backbone(vit_run, out, "dinov2")
    module = DinoVisionTransformer(13, 28, 384, 12, 6).eval()
    module.load_state_dict(read_weights(out), strict=True)
    assert not module.mask_token.any()
    ours = training_time_encoder(vit_run, "vit_small_patch14_dinov2", 13, 28)
    images = torch.rand(2, 13, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(module(images), ours(images), atol=1e-5, rtol=0)
        torch.testing.assert_close(load_encoder(out)[0](images), ours(images), atol=1e-5, rtol=0)


def test_torchvision_loads_a_resnet_strictly(resnet_run: Path, tmp_path: Path) -> None:
    from torchvision.models import resnet50

    out = tmp_path / "rn50.safetensors"
    export_backbone(resnet_run, out, "torchvision")
    model = resnet50()
    model.conv1 = torch.nn.Conv2d(2, 64, 7, stride=2, padding=3, bias=False)
    model.fc = torch.nn.Identity()
    model.load_state_dict(read_weights(out), strict=True)
    images = torch.rand(2, 2, 64, 64)
    ours = training_time_encoder(resnet_run, "resnet50", 2, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), ours(images), atol=1e-5, rtol=1e-5)


def test_the_card_says_what_weights_need(backbone: Path) -> None:
    card = read_card(backbone)
    assert card.bands[0] == "s2_l1c B1"
    assert len(card.bands) == len(card.mean) == len(card.std) == 13
    assert card.image_size == 28
    assert card.cubes[0]["digest"]
    text = backbone.with_suffix(".md").read_text()
    assert "| s2_l1c B12 | 1524.07 | 1136.54 |" in text
    assert "contains modified Copernicus Sentinel data" in text
    backbone.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="says which bands and which normalisation"):
        load_encoder(backbone)


def test_cards_take_the_scores_of_each_method(backbone: Path, cube: str) -> None:
    assert "Not probed yet" in backbone.with_suffix(".md").read_text()
    knn = probe_backbone(backbone, [cube], "knn")
    for found in (knn, probe_backbone(backbone, [cube], "linear"), knn):
        record_scores(backbone, found)
    page = backbone.with_suffix(".md").read_text()
    assert "Not probed yet" not in page
    assert page.count("| knn | micro |") == page.count("| linear | macro |") == 1
    assert f"| {knn.micro[0]:.4f} |" in page
    assert page.index("## Scores") < page.index("## Data and licences")
    assert load_encoder(backbone)[1].probe["knn"]["num_test"] == knn.num_test


def test_the_untrained_encoder_is_the_one_the_run_began_with(
    vit_run: Path, cube: str, tmp_path: Path
) -> None:
    out = tmp_path / "untrained.safetensors"
    export_backbone(vit_run, out, "timm", untrained=True)
    record = json.loads((vit_run / "run.json").read_text())
    with processes("cpu") as ranks:
        begun = prepare(parse_run_settings(record["settings"], "run.json"), ranks).network
    weights = read_weights(out)
    for name, value in begun.base_encoder.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    assert read_card(out).step == 0
    assert "as a run of softcon-cube began" in out.with_suffix(".md").read_text()


def test_probes_say_what_they_miss(
    vit_run: Path, backbone: Path, cube: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="give cpu, cuda, cuda:N or auto"):
        probe_backbone(backbone, [cube], "knn", device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU that PyTorch sees"):
            probe_backbone(backbone, [cube], "knn", device="cuda")
    with pytest.raises(InputError, match=r"absent\.safetensors does not exist"):
        probe_backbone(tmp_path / "absent.safetensors", [cube], "knn")
    with pytest.raises(InputError, match="export a run first"):
        probe_backbone(vit_run, [cube], "knn")


@pytest.mark.parametrize(
    ("layout", "name", "sentence"),
    [
        ("torchvision", "vit.pth", "is for ResNets"),
        ("timm", "vit.onnx", "has to end with"),
    ],
)
def test_exports_that_make_no_sense(
    vit_run: Path, tmp_path: Path, layout: str, name: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        export_backbone(vit_run, tmp_path / name, layout)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("method", "layers"), [("knn", 1), ("linear", 1), ("linear", 4)])
def test_a_backbone_is_probed_on_the_splits(
    backbone: Path, cube: str, tmp_path: Path, method: str, layers: int
) -> None:
    first = probe_backbone(backbone, [cube], method, num_layers=layers, cache=tmp_path / "kept")
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 3
    changed = [path.stat().st_mtime_ns for path in kept]
    again = probe_backbone(backbone, [cube], method, num_layers=layers, cache=tmp_path / "kept")
    assert again == first
    assert [path.stat().st_mtime_ns for path in kept] == changed
    assert 0 < first.micro[0] <= 1
    assert first.num_train > first.num_test > 0
    write_result(tmp_path / "probe.json", first)
    assert json.loads((tmp_path / "probe.json").read_text())[method]["num_test"] == first.num_test


@pytest.mark.slow
def test_fine_tuning_learns_and_is_repeatable(cube: str) -> None:
    data = DataSettings(cubes=(cube,), modality=("s2_l1c",), min_class_fraction=0.05)
    view_settings = ViewSettings(image_size=32)
    views = ViewMaker(data.modality, read_statistics(data), view_settings)

    def tuned(epochs: int, peak_lr: float) -> Finetuned:
        torch.manual_seed(0)
        encoder = make_encoder("resnet18", num_bands=13, image_size=32)
        settings = FinetuneSettings(epochs=epochs, batch_size=16, peak_lr=peak_lr)
        return finetune(encoder, views, view_settings, data, torch.device("cpu"), settings)

    found, again, untouched = tuned(8, 2e-3), tuned(8, 2e-3), tuned(1, 1e-12)
    np.testing.assert_array_equal(found.scores, again.scores)
    assert 1 <= found.best_epoch <= 8
    learnt, chance = (
        mean_average_precision(one.scores, one.labels).micro for one in (found, untouched)
    )
    assert learnt > chance + 0.1


def test_fine_tuning_leaves_the_weights_file_alone(backbone: Path, cube: str) -> None:
    before = backbone.read_bytes()
    found = finetune_backbone(
        backbone, [cube], max_patches=16, settings=FinetuneSettings(epochs=1, batch_size=16)
    )
    assert found.method == "finetune"
    assert found.num_train == 16
    assert backbone.read_bytes() == before


def test_a_run_is_drawn(vit_run: Path, tmp_path: Path) -> None:
    write_run_report(vit_run, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text()
    assert page.count("<svg") >= 5
    assert "vit" in page
    assert not re.findall(r"(?:src|href)=\"https?://", page)
    write_run_report(vit_run, tmp_path / "run.svg")
    assert "Curves of " in (tmp_path / "run.svg").read_text()
    with pytest.raises(InputError, match=r"\.svg"):
        write_run_report(vit_run, tmp_path / "run.png")
    with pytest.raises(InputError, match="holds no run"):
        write_run_report(tmp_path, tmp_path / "x.html")


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from training.backbones.backbone_files import _safetensors

    state = {"head.weight": torch.arange(6.0).reshape(2, 3), "body.büas": torch.ones(3)}
    metadata = {"format": "pt", "layout": "timm"}
    files = {_safetensors(state, metadata) for _ in range(16)}
    assert len(files) == 1
    path = tmp_path / "weights.safetensors"
    path.write_bytes(files.pop())
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, state[name])
