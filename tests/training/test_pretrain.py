"""Whole runs: alone and on two ranks, killed, asked to stop, and told to do nonsense."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from groundwork.errors import InputError
from tests.full_disk import largest_file
from tests.made_once import made_once
from training.checkpoints import find_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from training.config import parse_run_settings, read_run_settings
from training.errors import NonFiniteLossError
from training.loop.run_log import read_log
from training.presets import PRESETS
from training.pretrain import main, pretrain

ROOT = Path(__file__).parents[2]
EPOCHS = 3
SMALL = {"encoder": "test_resnet", "token_drop": 0.0}
"""timm's smallest network: where what is tested is around the network, and not in it."""


def values(cube: str, out: Path, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "out": str(out),
        "data": {"cubes": [cube], "min_class_fraction": 0.02},
        "views": {"image_size": 32},
        "model": {"encoder": "vit_tiny_patch16_224", "hidden": 32, "output": 16},
        "optimiser": {"base_lr": 0.01, "warmup_epochs": 1},
        "evaluation": {"every_epochs": 0},
        "epochs": EPOCHS,
        "batch_size": 4,
        "precision": "float32",
        "device": "cpu",
        "deterministic": True,
        "log_every": 1,
        "checkpoint_minutes": 0.01,
        "keep_checkpoints": 2,
    }
    for name, change in changes.items():
        merge = isinstance(change, dict)
        found[name] = found.get(name, {}) | change if merge else change
    return found


def losses(run: Path) -> list[tuple[int, float, float, float]]:
    return [
        (r["step"], r["loss"], r["contrastive"], r["soft"]) for r in read_log(run) if "loss" in r
    ]


@pytest.fixture(scope="session")
def calm(cube: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from start to end."""
    folder = made_once(
        tmp_path_factory,
        "calm_run",
        lambda folder: pretrain(parse_run_settings(values(cube, folder / "run"), "test")),
    )
    return folder / "run"


def test_a_run_writes_what_shaped_it(calm: Path, cube: str) -> None:
    record = json.loads((calm / "run.json").read_text())
    assert record["cubes"][0]["address"] == cube
    assert len(record["cubes"][0]["digest"]) == 64
    assert record["bands"][0] == "s2_l1c B1"
    assert record["settings"]["model"]["token_drop"] == 0.5
    assert record["settings"]["seed"] == 0
    assert record["software"]["torch"].startswith("2.")
    found = losses(calm)
    assert [step for step, *_ in found] == list(range(1, record["steps"] + 1))
    # Four patches a step are too few for the loss to fall on every processor: that steps lower the
    # loss is tested where one batch is repeated.
    assert all(math.isfinite(value) for _, *values in found for value in values)
    assert len({loss for _, loss, *_ in found}) == len(found)
    assert len(list_checkpoints(calm)) == 2  # Of three or more: one at the end of each epoch.
    assert list((calm / "tensorboard").iterdir())


def test_same_seed_same_losses_and_another_prefetch(calm: Path, cube: str, tmp_path: Path) -> None:
    again = values(cube, tmp_path / "run", data={"batches_ahead": 5})
    assert losses(pretrain(parse_run_settings(again, "test"))) == losses(calm)


@pytest.mark.parametrize("name", ["data", "loss", "seed"])
def test_a_run_with_other_settings_is_not_continued(
    calm: Path, cube: str, name: str, tmp_path: Path
) -> None:
    # Linked, not copied: 150 MB of checkpoints, and none is written to.
    shutil.copytree(calm, tmp_path / "run", copy_function=os.link)
    change = {"data": {"modality": ["s2_l2a"]}, "loss": {"soft_weight": 2}, "seed": 5}[name]
    with pytest.raises(InputError, match=f"holds a run with other settings of {name}"):
        pretrain(parse_run_settings(values(cube, tmp_path / "run", **{name: change}), "test"))
    with pytest.raises(InputError, match="holds a run already"):
        pretrain(parse_run_settings(values(cube, tmp_path / "run"), "test"), resume="none")


@pytest.mark.parametrize("modality", [["s1_grd"], ["s2_l2a"], ["s2_l1c", "s1_grd"]])
def test_other_modalities_and_convolutions_run(
    cube: str, tmp_path: Path, modality: list[str]
) -> None:
    settings = values(
        cube,
        tmp_path / "run",
        data={"modality": modality, "statistics": "cube"},
        model=SMALL,
        optimiser={"accumulate": 2, "clip_norm": 1.0},
        epochs=1,
        evaluation={"every_epochs": 1, "max_patches": 16},
        precision="bf16",
    )
    run = pretrain(parse_run_settings(settings, "test"))
    scores = [record for record in read_log(run) if "knn_map_micro" in record]
    assert len(scores) == 1
    assert 0 < scores[0]["linear_map_micro"] <= 1


# --- interruptions --------------------------------------------------------------------------------


def start(config: Path, ranks: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.pretrain", str(config)]
    if ranks > 1:
        command[1:3] = [
            "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}",
            "-m", "training.pretrain",
        ]  # fmt: skip
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run_with_kills(config: Path, out: Path, kills: int, rng: random.Random, ranks: int) -> int:
    """Run to the end, killed at random moments after the first checkpoint; return the kills."""
    killed = 0
    while True:
        process = start(config, ranks)
        before = list_checkpoints(out)
        if killed < kills:
            give_up_at = time.monotonic() + 120
            while process.poll() is None and list_checkpoints(out) == before:
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 0.5))
        if killed < kills and process.poll() is None:
            # torchrun gives its workers sessions of their own: all of them lose power at once.
            parent = psutil.Process(process.pid)
            for one in (parent, *parent.children(recursive=True)):
                one.kill()
            process.communicate()
            killed += 1
            continue
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return killed


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("ranks", "kills"),
    [
        pytest.param(1, 3, marks=pytest.mark.slow),
        pytest.param(2, 3, marks=pytest.mark.slow),
        pytest.param(1, 25, marks=pytest.mark.campaign),
        pytest.param(2, 25, marks=pytest.mark.campaign),
    ],
)
def test_killed_runs_have_the_losses_of_a_calm_one(
    cube: str, tmp_path: Path, ranks: int, kills: int
) -> None:
    rng = random.Random(4)
    found = {}
    for name, number in (("calm", 0), ("killed", kills)):
        out, config = tmp_path / name, tmp_path / f"{name}.yaml"
        settings = values(cube, out, epochs=4 * kills, checkpoint_minutes=0.002)
        config.write_text(yaml.safe_dump(settings))
        assert run_with_kills(config, out, number, rng, ranks) == number
        found[name] = losses(out)
    assert found["killed"] == found["calm"]
    assert [step for step, *_ in found["calm"]] == list(range(1, len(found["calm"]) + 1))


def test_a_warning_signal_saves_and_the_next_run_goes_on(cube: str, tmp_path: Path) -> None:
    out, config = tmp_path / "run", tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values(cube, out, model=SMALL, epochs=5)))
    for number in (signal.SIGTERM, signal.SIGUSR1):
        process = start(config)
        assert process.stderr is not None
        said = ""
        while not said.startswith("step "):
            said = process.stderr.readline()
            assert said, process.wait()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert "asked to stop: saved step" in errors
    assert main([str(config)]) == 0
    steps = json.loads((out / "run.json").read_text())["steps"]
    assert [step for step, *_ in losses(out)] == list(range(1, steps + 1))


@pytest.mark.slow
@pytest.mark.distributed
def test_torchrun_passes_a_warning_on_and_the_run_can_be_queued_again(
    cube: str, tmp_path: Path
) -> None:
    """What configs/cluster/pretrain.slurm relies on."""
    out, config = tmp_path / "run", tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values(cube, out, epochs=15, checkpoint_minutes=10)))
    process = start(config, ranks=2)
    give_up_at = time.monotonic() + 120
    while not list_checkpoints(out):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (out / "requeue").is_file(), errors
    step = load_checkpoint(list_checkpoints(out)[-1])["step"]
    assert step > 0
    config.write_text(yaml.safe_dump(values(cube, out, epochs=15)))
    again = start(config, ranks=2)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert not (out / "requeue").exists()


def test_scripts_of_the_cluster_are_sound() -> None:
    scripts = [str(path) for path in (ROOT / "configs" / "cluster").glob("*.slurm")]
    assert scripts
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([str(shellcheck), *scripts], check=True)


@pytest.mark.distributed
def test_two_ranks_see_the_loss_of_one(tmp_path: Path) -> None:
    """The objective, keys gathered, on two processes and on one: equal value and gradient."""
    script = ROOT / "tests" / "training" / "two_ranks.py"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(script), str(tmp_path),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, timeout=300, cwd=ROOT, env=environment)
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name in ("contrastive", "soft", "total"):
        mean = (ranks[0][name] + ranks[1][name]) / 2
        torch.testing.assert_close(mean, alone[name], atol=1e-6, rtol=1e-5)
    together = torch.cat([rank["gradient"] for rank in ranks], dim=1) / 2
    torch.testing.assert_close(together, alone["gradient"], atol=1e-6, rtol=1e-5)


# --- trouble --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_step_and_terms(
    cube: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_run_settings(values(cube, tmp_path / "run"), "test")
    # Beyond what a configuration may say: it takes few steps.
    optimiser = settings.optimiser.model_copy(update={"base_lr": 1e30})
    settings = settings.model_copy(update={"optimiser": optimiser})
    with pytest.raises(
        NonFiniteLossError, match=r"loss of step \d+ is not finite \(contrastive .*, soft .*lower"
    ):
        pretrain(settings)


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"batch_size": 4096}, 2, "is more than the .* locations of the train split"),
        ({"data": {"cubes": ["absent.zarr"]}}, 2, "absent.zarr does not exist"),
        ({"model": {"encoder": "resnet99"}}, 2, "is no model of timm"),
        ({"loss": {"temprature": 0.1}}, 2, "loss.temprature is not a setting"),
        ({"loss": {"contrastive_weight": 0, "soft_weight": 0}}, 2, "nothing is learnt"),
        ({"device": "cuda"}, 2, "no GPU that PyTorch sees"),
        ({"preset": "huge"}, 2, "preset 'huge' is unknown; the presets are"),
        ({"batch_size": 6, "optimiser": {"accumulate": 4}}, 2, "not a multiple of"),
    ],
)
def test_wrong_settings_are_one_sentence(
    cube: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict,
    code: int,
    sentence: str,
) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values(cube, tmp_path / "run", **changes)))
    assert main([str(config)]) == code
    said = capsys.readouterr().err
    assert re.search(sentence, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_exit_code_3_and_the_same_command_continues(
    cube: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "run", tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values(cube, out, model=SMALL, epochs=1)))
    with largest_file(500_000):
        assert main([str(config)]) == 3
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"softcon: .*step_\d+\.pt cannot be written: the disk is full.*", said[-1])
    assert list((out / "checkpoints").iterdir()) == []
    assert main([str(config)]) == 0
    assert [step for step, *_ in losses(out)] == list(range(1, 1 + len(losses(out))))


def test_every_preset_and_example_is_valid() -> None:
    for name in PRESETS:
        settings = parse_run_settings(
            {"preset": name, "out": "run", "data": {"cubes": ["cube.zarr"]}}, name
        )
        assert settings.data.num_bands == (2 if name.endswith("s1") else 13)
    examples = list((ROOT / "configs").glob("pretrain_*.yaml"))
    assert len(examples) == len(PRESETS)
    for path in examples:
        read_run_settings(path)


def test_checkpoints_are_whole_rotated_and_data_only(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, {"network": {}, "step": step}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step_000000004.pt",
        "step_000000005.pt",
    ]
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    found = find_checkpoint(tmp_path, "auto")
    assert found is not None
    assert found["step"] == 4
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        load_checkpoint(newest)
    torch.save({"network": os.system}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        load_checkpoint(tmp_path / "evil.pt")
