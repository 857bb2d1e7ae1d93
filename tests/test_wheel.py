"""What is published: a wheel that holds all it needs, away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.ssl4eo_s12_layout import write_layout

ROOT = Path(__file__).parent.parent
GIT_IGNORED = ("git", "ls-files", "--others", "--ignored", "--exclude-standard", "--")
PACKAGES = ("groundwork", "pages", "storage_schema", "pipeline", "training", "flows")


def test_git_ignores_nothing_that_a_package_needs() -> None:
    """What is ignored is there on the machine of who wrote it, and nowhere else."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    ignored = subprocess.run(
        [
            "git",
            "ls-files",
            "--others",
            "--ignored",
            "--exclude-standard",
            "--",
            *PACKAGES,
            "emulator",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [name for name in ignored if "__pycache__" not in name] == []


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_the_demo_of_a_wheel_runs_in_an_empty_folder(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(tmp_path, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    for needed in (
        "pages/templates/style.css",
        "flows/demo/templates/demo.html",
        "flows/demo/virginia_coast/s2_l1c.yaml",
        "flows/prefect.yaml",
    ):
        assert needed in names, needed
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = run(elsewhere, "-c", "import flows, pipeline; print(flows.__file__)", path=site)
    assert str(site) in found
    run(elsewhere, "-m", "flows", "demo", "--locations", "24", "--steps", "10", path=site)
    assert (elsewhere / "demo-run" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.server
def test_the_wheel_of_the_emulator_alone_serves_the_unmodified_client(tmp_path: Path) -> None:
    """In an environment that holds what the wheel declares, and nothing of ours."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "emulator",
        source,
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "tests"),
    )
    run(tmp_path, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    python = empty_environment(
        tmp_path / "alone", f"earth-engine-emulator[testing] @ {wheel.as_uri()}"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "from earth_engine_emulator.running import emulator_in_process\n"
        "from earth_engine_emulator.settings import EmulatorSettings\n"
        "import ee\n"
        "from google.auth.credentials import AnonymousCredentials\n"
        "with emulator_in_process(EmulatorSettings()) as running:\n"
        "    ee.Initialize(AnonymousCredentials(), project='emulator', url=running.url)\n"
        "    images = ee.ImageCollection('COPERNICUS/S2_HARMONIZED')\n"
        "    images = images.filterBounds(ee.Geometry.Point(11.57, 48.14))\n"
        "    print(images.filterDate('2021-06-01', '2021-07-01').size().getInfo())\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [str(python), str(script)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["NO_PROXY"] = "127.0.0.1,localhost"
    done = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    listed = subprocess.run(
        [str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "softcon" not in listed
    assert "torch" not in listed


@pytest.mark.slow
def test_without_the_emulator_everything_but_it_runs(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "earth_engine_emulator").mkdir(parents=True)
    # A package of this name that is not there: what an environment without the distribution says.
    (hidden / "earth_engine_emulator" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'earth_engine_emulator'\", "
        "name='earth_engine_emulator')\n"
    )
    layout = write_layout(tmp_path / "data", 2, num_seasons=1)
    cube = str(tmp_path / "cube.zarr")
    run(tmp_path, "-m", "flows", "--help", path=hidden)
    run(
        tmp_path, "-m", "flows", "import", "ssl4eo-s12", "--root", str(layout.root), "--out", cube,
        path=hidden,
    )  # fmt: skip
    run(tmp_path, "-m", "flows", "seal", cube, path=hidden)
    run(tmp_path, "-m", "flows", "audit", cube, path=hidden)
    refused = subprocess.run(
        [sys.executable, "-m", "flows", "emulator"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr == (
        "softcon: this command needs earth_engine_emulator: pip install 'softcon-cube[emulator]'\n"
    )


def empty_environment(folder: Path, *requirements: str) -> Path:
    """Make an environment that holds these and what they declare; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["-c", str(ROOT / "constraints.txt"), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def run(folder: Path, *command: str, path: Path | None = None) -> str:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path is not None else {})
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
