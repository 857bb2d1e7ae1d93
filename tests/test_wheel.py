"""What is published: a wheel that holds all it needs, away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("groundwork", "storage_schema", "pipeline", "emulator", "training", "flows")


def test_git_ignores_nothing_that_a_package_needs() -> None:
    """What is ignored is there on the machine of who wrote it, and nowhere else."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *PACKAGES],
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
        "pipeline/report/templates/report.css",
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
