"""The command line as a user meets it: results, exit codes, one sentence for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from flows.command_line import run
from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from tests.ssl4eo_s12_layout import write_layout
from tests.synthetic import SyntheticSource, describe_cube, location_names

SOFTCON = [sys.executable, "-m", "flows"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three locations in the published layout, with labels.json beside them."""
    root = tmp_path_factory.mktemp("published")
    write_layout(root, 3, seed=1)
    return root


@pytest.fixture(scope="module")
def cube(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cubes") / "cube.zarr"
    arguments = ["--root", str(published), "--labels", str(published / "labels.json")]
    assert run(["import", "ssl4eo-s12", *arguments, "--out", str(out)]) == 0
    assert run(["seal", str(out)]) == 0
    return out


def test_help_answers_without_heavy_imports() -> None:
    script = (
        "import sys, flows.command_line as c; c.run(['--help']); "
        "heavy = {'zarr', 'xarray', 'numpy', 'dask', 'distributed', 'rasterio', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().endswith("[]"), shown.stdout[-200:] + shown.stderr


@pytest.mark.parametrize(
    "command",
    ["import", "import ssl4eo-s12", "seal", "inspect", "audit", "report", "export-labels"],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert "Usage: softcon" in capsys.readouterr().out


def test_module_and_version_run() -> None:
    shown = subprocess.run([*SOFTCON, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("softcon-cube ")


def test_import_seal_audit_inspect_report_and_export(
    cube: Path, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", str(cube), "--all"]) == 0
    assert "no violations; pixels of 1 of 1 batches read" in capsys.readouterr().out
    assert run(["inspect", str(cube)]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "CC-BY-4.0" in shown
    assert "Copernicus" in shown
    assert run(["inspect", str(cube), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_locations"] == 3
    html = tmp_path / "cube.html"
    assert run(["report", str(cube), "--out", str(html)]) == 0
    assert html.read_text().lstrip().lower().startswith("<!doctype html>")
    assert run(["export-labels", str(cube), "--json", str(tmp_path / "labels.json")]) == 0
    assert (tmp_path / "labels.json").read_bytes() == (published / "labels.json").read_bytes()


def test_inspect_explains_the_reasons_that_it_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    products, out = ("s1_grd", "s2_l2a"), tmp_path / "cube.zarr"
    source = SyntheticSource(products=products)
    build_cube(ObjectStorage(out), describe_cube(6, products), location_names(6), lambda _: source)
    assert run(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    assert "s2_l2a: 2 unreadable file unreadable file: a file is damaged" in words
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_second_import_has_nothing_to_do(
    cube: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(published), "--labels", str(published / "labels.json")]
    assert run(["import", "ssl4eo-s12", *arguments, "--out", str(cube)]) == 0
    assert "is complete: nothing to do" in capsys.readouterr().out


def test_seal_says_whether_it_was_sealed(cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seal", str(cube), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["was_sealed"] is True
    assert len(result["digest"]) == 64


def test_audit_of_a_damaged_cube_exits_1_with_the_list(
    cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.zarr"
    shutil.copytree(cube, damaged)
    ids = zarr.open_array(damaged / "acquisition_id", mode="r+")
    values = ids[:]
    position = [str(name) for name in zarr.open_array(damaged / "product")[:]]
    values[0, 0, position.index("dynamic_world")] = values[0, 1, position.index("dynamic_world")]
    ids[:] = values
    assert run(["audit", str(damaged)]) == 1
    assert "acquisition_id of dynamic_world, batch 0, location" in capsys.readouterr().out
    assert run(["audit", str(damaged), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is False
    assert {"where", "expected", "found"} == set(result["violations"][0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["audit"], "Missing argument 'cube'"),
        (["audit", "CUBE", "--nonsense"], "No such option: --nonsense"),
        (["sael", "CUBE"], "No such command 'sael'"),
        (["audit", "nowhere.zarr"], "there is no cube at nowhere.zarr: check the path"),
        (["seal", "ftp://host/cube"], "only local folders and s3://bucket/prefix"),
        (
            ["import", "ssl4eo-s12", "--root", "nowhere", "--out", "x.zarr"],
            "nowhere is not a folder",
        ),
        (["import", "ssl4eo-s12", "--root", ".", "--out", "x.zarr"], "has none of the folders"),
        (
            ["import", "ssl4eo-s12", "--root", "ROOT", "--out", "x.zarr", "--products", "s3"],
            "'s3' is unknown; the products are s2_l1c",
        ),
        (
            ["import", "ssl4eo-s12", "--root", "ROOT", "--out", "x.zarr", "--labels", "none.json"],
            "label file none.json cannot be read",
        ),
        (
            ["import", "ssl4eo-s12", "--root", "ROOT", "--out", "x.zarr", "--workers", "0"],
            "'--workers': Input should be greater",
        ),
        (["import", "ssl4eo-s12", "--root", "ROOT", "--out", "CUBE"], "another plan"),
        (["report", "CUBE", "--out", "no/such/folder/x.html"], "does not exist: create it first"),
        (["report", "CUBE", "--out", "CUBE/zarr.json"], "lies in the cube"),
        (["report", "CUBE", "--out", "x.png"], "has to end with .html"),
        (["export-labels", "CUBE", "--json", ""], "is a folder"),
        (["import", "ssl4eo-s12", "--root", "ROOT", "--out", "s3:/b/x"], "only local folders"),
        (
            [
                "import",
                "ssl4eo-s12",
                "--root",
                "ROOT",
                "--out",
                "x",
                "--dask",
                "a",
                "--workers",
                "2",
            ],
            "exclude each other",
        ),
        (
            ["import", "ssl4eo-s12", "--root", "ROOT", "--out", "x", "--products", "dynamic_world"],
            "only label maps are asked for",
        ),
        (
            ["export-labels", "CUBE", "--json", "no/such/folder/x.json"],
            "does not exist: create it first",
        ),
    ],
)
def test_mistake_is_one_sentence_and_exit_2_and_leaves_nothing_behind(
    arguments: list[str],
    sentence: str,
    cube: Path,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[[list[str]], tuple[int, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = complaint(
        [word.replace("CUBE", str(cube)).replace("ROOT", str(published)) for word in arguments]
    )
    assert code == 2
    assert sentence in said
    (line,) = [line for line in said.splitlines() if line.startswith("softcon: ")]
    assert "Traceback" not in said
    assert line.endswith(said.splitlines()[-1])
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_a_sentence(
    cube: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[[list[str]], tuple[int, str]]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in [name for name in sys.modules if name.startswith(("pipeline.report.", "pages."))]:
        monkeypatch.delitem(sys.modules, name)
    code, said = complaint(["report", str(cube), "--out", "x.html"])
    assert code == 2
    assert "pip install 'softcon-cube[report]'" in said


def test_interrupt_says_that_the_same_command_continues(tmp_path: Path) -> None:
    # More batches than can be imported before the signal is there.
    published = write_layout(tmp_path / "ssl4eo_s12", 16, seed=5).root
    command = [*SOFTCON, "import", "ssl4eo-s12", "--root", str(published)]
    command += ["--out", str(tmp_path / "cube.zarr"), "--locations-per-batch", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("importing: 0 of 16")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130
    assert said.splitlines()[-1].startswith("softcon: interrupted; the same command continues")
    assert "Traceback" not in said


@pytest.mark.server
def test_import_into_a_bucket(published: Path, s3_endpoint: str) -> None:
    cube = f"s3://cubes/{os.getpid()}/cube.zarr"
    assert run(["import", "ssl4eo-s12", "--root", str(published), "--out", cube]) == 0
    assert run(["seal", cube]) == 0
    assert run(["audit", cube, "--all"]) == 0


def test_import_shows_a_bar_and_the_time_left_on_a_terminal(
    published: Path, tmp_path: Path
) -> None:
    import pty

    master, slave = pty.openpty()
    command = [*SOFTCON, "import", "ssl4eo-s12", "--root", str(published)]
    command += ["--out", str(tmp_path / "cube.zarr"), "--locations-per-batch", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait() == 0
    assert b"3/3" in shown
    assert b"left" in shown
