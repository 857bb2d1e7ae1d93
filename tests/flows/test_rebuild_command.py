"""``softcon rebuild``: what it prints, what it refuses, and how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.command_line import run
from groundwork.errors import InputError
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.seal import seal_cube
from pipeline.sources.registry import read_build_settings
from tests.pipeline.rebuilding import FEW_PRODUCTS, configuration

EXAMPLES = sorted((Path(__file__).parents[2] / "configs").glob("rebuild_*.yaml"))
Complaint = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that reads well and names a service that is not there."""
    return write(tmp_path, "http://127.0.0.1:9", 4)


def write(folder: Path, url: str, num_locations: int, **changes: object) -> Path:
    path = folder / "rebuild.yaml"
    values = configuration(url, folder / "cube.zarr", num_locations, **changes)
    path.write_text(yaml.safe_dump(values))
    return path


def test_help_names_the_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rebuild", "--help"]) == 0
    assert "Exit code 3" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(path: Path) -> None:
    read_build_settings(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("cubes=x", "cubes is not a setting"),
        ("earth_engine.limit=3", "earth_engine.limit is not a setting"),
        ("earth_engine.project=", "earth_engine.project"),
        ("seasons.half_window_days=60", "windows around 2020-12-21 and 2021-03-20 overlap"),
        ("acquisitions.min_seasons=5", "acquisitions.min_seasons 5"),
        ("grid=EPSG:4326", "EPSG:32617"),
        ("locations.kind=grid", "locations: kind 'grid' is unknown"),
        ("locations_file=a.parquet", "either locations or locations_file"),
        ("earth_engine.credentials=application_default", "is not encrypted"),
        ("earth_engine.credentials=service_account", "belong together"),
        ("products=[s3]", "products"),
        ("execution.dask=slurm", "execution.dask"),
        ("cube", "write it as a.b=value"),
        ("cube.name=x", "has no settings inside"),
        ("cube=[", "is not a YAML value"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    config: Path, complaint: Complaint, change: str, sentence: str
) -> None:
    code, said = complaint(["rebuild", str(config), "--set", change])
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1
    assert not config.with_name("cube.zarr").exists()


def test_a_missing_project_is_named(config: Path, complaint: Complaint) -> None:
    values = yaml.safe_load(config.read_text())
    del values["earth_engine"]["project"]
    config.write_text(yaml.safe_dump(values))
    code, said = complaint(["rebuild", str(config)])
    assert (code, "earth_engine.project is missing" in said) == (2, True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([], "endpoint http://127.0.0.1:9 cannot be reached"),
        (["--dask", "tcp://127.0.0.1:9"], "cannot be reached"),
    ],
)
def test_an_unreachable_endpoint_is_one_sentence(
    config: Path, complaint: Complaint, changes: list[str], sentence: str
) -> None:
    code, said = complaint(["rebuild", str(config), *changes])
    assert code == 2
    assert sentence in said
    assert not config.with_name("cube.zarr").exists()


def test_missing_credentials_are_one_sentence(
    config: Path, complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    service = ["earth_engine.endpoint=https://127.0.0.1:9"]
    service.append("earth_engine.credentials=application_default")
    code, said = complaint(["rebuild", str(config), "--set", service[0], "--set", service[1]])
    assert code == 2
    assert "no application default credentials" in said


def test_what_earthengine_authenticate_stored_is_used(
    config: Path, complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google is not reachable from a test: that the token is tried is what can be seen here."""
    from pipeline.sources.earth_engine.client import _find_credentials
    from pipeline.sources.earth_engine.settings import EarthEngineSettings

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    stored = tmp_path / ".config" / "earthengine" / "credentials"
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"refresh_token": "a-token", "project": "mine"}))
    found = _find_credentials(EarthEngineSettings(project="p"))
    assert found.refresh_token == "a-token"
    assert found.quota_project_id == "mine"
    stored.write_text("{")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(InputError, match="no application default credentials"):
        _find_credentials(EarthEngineSettings(project="p"))


def test_a_key_that_is_none_is_one_sentence_without_its_text(
    config: Path, complaint: Complaint
) -> None:
    key = config.with_name("key.json")
    key.write_text('{"private_key": "TOP-SECRET"}')
    changes = [
        "earth_engine.endpoint=https://127.0.0.1:9",
        "earth_engine.credentials=service_account",
        "earth_engine.credentials_file=key.json",
    ]
    code, said = complaint(
        ["rebuild", str(config), *(part for change in changes for part in ("--set", change))]
    )
    assert code == 2
    assert "no key of a service account" in said
    assert "TOP-SECRET" not in said


@pytest.mark.server
def test_a_run_and_a_second_one(
    simulated_emulator: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write(tmp_path, simulated_emulator, 4, **FEW_PRODUCTS)
    assert run(["rebuild", str(config), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["built"] == [0]
    assert found["budget"]["requests"]["listing"] == 1
    assert found["budget"]["outcomes"] == {"answered": sum(found["budget"]["requests"].values())}
    assert "locations/s" in captured.err
    assert run(["rebuild", str(config)]) == 0
    assert "is complete: nothing to do" in " ".join(capsys.readouterr().out.split())


@pytest.mark.server
def test_a_used_up_budget_is_exit_code_3(
    simulated_emulator: str,
    tmp_path: Path,
    complaint: Complaint,
) -> None:
    config = write(
        tmp_path, simulated_emulator, 8, execution={"batches_at_once": 1}, **FEW_PRODUCTS
    )
    code, said = complaint(["rebuild", str(config), "--set", "budget.max_requests=18"])
    assert code == 3
    assert "budget of 18 requests" in said
    assert complaint(["rebuild", str(config)])[0] == 0


@pytest.mark.server
@pytest.mark.distributed
@pytest.mark.parametrize("dask", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_ctrl_c_leaves_whole_batches_and_the_same_command_continues(
    simulated_emulator: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dask: str,
) -> None:
    plan = {"num_locations": 12, "locations_per_batch": 1, **FEW_PRODUCTS}
    config = write(tmp_path, simulated_emulator, **plan)
    command = [sys.executable, "-m", "flows", "rebuild", str(config), "--dask", dask, "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    cube = ObjectStorage(str(tmp_path / "cube.zarr"))
    give_up_at = time.monotonic() + 120
    while not (tmp_path / "cube.zarr" / "batches").exists():
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command continues" in errors
    assert "Traceback" not in errors, errors
    left = PatchStore.open(cube).pending_batches()
    assert left
    capsys.readouterr()
    assert run(command[3:]) == 0
    assert json.loads(capsys.readouterr().out)["built"] == left
    calm = tmp_path / "calm"
    calm.mkdir()
    assert run(["rebuild", str(write(calm, simulated_emulator, **plan))]) == 0
    digests = {seal_cube(ObjectStorage(str(p / "cube.zarr"))).digest for p in (tmp_path, calm)}
    assert len(digests) == 1
