"""What is published: two wheels that hold all they need, away from the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from tests.ssl4eo_s12_layout import write_layout

ROOT = Path(__file__).parent.parent
PACKAGES = ("groundwork", "pages", "storage_schema", "pipeline", "training", "flows")
EMULATOR = ROOT / "emulator"


def test_git_ignores_nothing_that_a_package_needs() -> None:
    """What is ignored is there on the machine of who wrote it, and nowhere else."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    folders = (*PACKAGES, "emulator/earth_engine_emulator")
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [name for name in ignored if "__pycache__" not in name] == []


def test_both_distributions_have_the_same_licence() -> None:
    assert (EMULATOR / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of softcon-cube."""
    return build(tmp_path_factory.mktemp("softcon"), ROOT, PACKAGES)


@pytest.fixture(scope="module")
def emulator_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of earth-engine-emulator."""
    return build(tmp_path_factory.mktemp("emulator"), EMULATOR, ("earth_engine_emulator",))


def build(folder: Path, project: Path, packages: Sequence[str]) -> Path:
    """Build a wheel from a copy: pip would build in the repository, on what older builds left."""
    source = folder / "source"
    for name in packages:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(project / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    run(folder, sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_the_demo_of_a_wheel_runs_in_an_empty_folder(
    wheel: Path, emulator_wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    for each in (wheel, emulator_wheel):
        with zipfile.ZipFile(each) as archive:
            archive.extractall(site)
    for needed in (
        "pages/templates/style.css",
        "flows/demo/templates/demo.html",
        "flows/demo/virginia_coast/s2_l1c.yaml",
        "flows/prefect.yaml",
        "earth_engine_emulator/py.typed",
    ):
        assert (site / needed).is_file(), needed
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import flows, earth_engine_emulator as e; print(flows.__file__, e.__file__)"
    found = run(elsewhere, sys.executable, "-c", code, path=site)
    assert found.count(str(site)) == 2
    command = ("-m", "flows", "demo", "--locations", "24", "--steps", "10")
    run(elsewhere, sys.executable, *command, path=site)
    assert (elsewhere / "demo-run" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_the_emulator_s_wheel_alone_serves_earth_engine(
    emulator_wheel: Path, tmp_path: Path
) -> None:
    binaries = install(tmp_path / "environment", f"{emulator_wheel}")
    for name in PACKAGES:
        code = f"import importlib.util as u; print(u.find_spec({name!r}))"
        assert run(tmp_path, binaries / "python", "-c", code) == "None\n"
    example = (EMULATOR / "examples" / "ndvi_with_faults.py").read_text(encoding="utf-8")
    (tmp_path / "example.py").write_text(example)
    assert "2021-07 0." in run(tmp_path, binaries / "python", "example.py")
    with subprocess.Popen(
        [binaries / "earth-engine-emulator", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            readme = (EMULATOR / "README.md").read_text(encoding="utf-8")
            code = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[0]
            code = code.replace("http://127.0.0.1:8585", url)
            assert re.match(r"\[\d+\.", run(tmp_path, binaries / "python", "-c", code))
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_a_wheel_without_the_emulator_builds_cubes(wheel: Path, tmp_path: Path) -> None:
    binaries = install(tmp_path / "environment", f"{wheel}[build]")
    softcon = binaries / "softcon"
    code = "import importlib.util as u; print(u.find_spec('earth_engine_emulator'))"
    assert run(tmp_path, binaries / "python", "-c", code) == "None\n"
    assert "emulator" in run(tmp_path, softcon, "--help")
    write_layout(tmp_path / "ssl4eo_s12", 2, seed=3)
    run(tmp_path, softcon, "import", "ssl4eo-s12", "--root", "ssl4eo_s12", "--out", "a.zarr")
    with emulator_in_process(EmulatorSettings()) as emulator:
        changes = (
            f"earth_engine.endpoint={emulator.url}",
            "locations.num_locations=2",
            "cube=b.zarr",
            "execution.dask=threads",
        )
        options = [word for change in changes for word in ("--set", change)]
        run(tmp_path, softcon, "rebuild", ROOT / "configs" / "rebuild_emulator.yaml", *options)
    for cube in ("a.zarr", "b.zarr"):
        run(tmp_path, softcon, "seal", cube)
        run(tmp_path, softcon, "audit", cube, "--all")
    said = run(tmp_path, softcon, "demo", code=2)
    needed = "this command needs earth_engine_emulator: pip install 'softcon-cube[emulator]'"
    assert said == f"softcon: {needed}\n"
    assert run(tmp_path, softcon, "emulator", code=2) == said
    assert not (tmp_path / "demo-run").exists()


def install(folder: Path, requirement: str) -> Path:
    """Make an environment of what a wheel declares, and nothing else; return its ``bin``."""
    run(folder.parent, sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip")
    constraints = ROOT / "constraints.txt"
    run(folder.parent, *pip, "install", "--quiet", "-c", constraints, requirement)
    run(folder.parent, *pip, "check")
    return folder / "bin"


def environment(path: Path | None = None) -> dict[str, str]:
    """Return the variables of a process that sees no repository, but for the one folder."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return variables | ({"PYTHONPATH": str(path)} if path is not None else {})


def run(folder: Path, *command: str | Path, path: Path | None = None, code: int = 0) -> str:
    """Run a command; return what it printed, or what it said on stderr if it is to fail."""
    done = subprocess.run(
        command, cwd=folder, env=environment(path), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout
