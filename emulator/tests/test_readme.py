"""The README's commands, code and files work, and so does the example."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from earth_engine_emulator.__main__ import read_arguments
from earth_engine_emulator.expressions.algorithms import IMPLEMENTED, signatures
from earth_engine_emulator.faults import KINDS, read_fault_settings
from earth_engine_emulator.raster_folder import RasterFolder
from earth_engine_emulator.testing import ramp, write_raster

FOLDER = Path(__file__).parent.parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def files(language: str) -> dict[str, str]:
    """Name -> text of the blocks that begin with the name of a file."""
    named = [re.fullmatch(r"# (\S+\.\w+)\n(.*)", text, re.DOTALL) for text in fences(language)]
    return {found[1]: found[2] for found in named if found}


def test_commands_are_understood() -> None:
    commands = [line for text in fences("sh") for line in text.splitlines()]
    ours = [line for line in commands if line.startswith("earth-engine-emulator")]
    ours += re.findall(r"`(--\w+ \S+)`", TEXT)
    assert len(ours) >= 4
    for line in ours:
        read_arguments(shlex.split(line.removeprefix("earth-engine-emulator")))


@pytest.mark.server
@pytest.mark.distributed
def test_code_at_the_top_runs(simulated_emulator: str) -> None:
    code = fences("python")[0]
    assert code.startswith("import ee")
    done = python("-c", code.replace("http://127.0.0.1:8585", simulated_emulator))
    assert re.fullmatch(r"\[\d+\.?\d*(, \d+\.?\d*)+\]\n", done)


@pytest.mark.server
@pytest.mark.distributed
def test_the_test_passes(tmp_path: Path) -> None:
    for name, text in files("python").items():
        (tmp_path / name).write_text(text)
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), folder=tmp_path)
    assert "1 passed" in said


def test_catalogue_and_faults_are_valid(tmp_path: Path) -> None:
    for name, text in files("yaml").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "rasters").mkdir()
    for band in ("B02", "B03"):
        write_raster(tmp_path / "rasters" / f"{band}.tif", ramp(20, 20))
    world = RasterFolder(tmp_path / "rasters", tmp_path / "catalogue")
    (image,) = world.find_images("COPERNICUS/S2_HARMONIZED", None, None, None)
    assert [band.name for band in image.bands] == ["B2", "B3"]
    given = read_fault_settings(tmp_path / "faults.yaml")
    assert given.latency is not None
    assert given.probabilities.truncated_body == 0.02
    assert set(re.findall(r"--fault (\w+)=", TEXT)) <= set(KINDS)


def test_numbers_of_functions_are_true() -> None:
    import earth_engine_emulator.expressions.evaluation  # noqa: F401 - registers them

    found = re.search(r"It has (\d+) of some (\d+) functions", " ".join(TEXT.split()))
    assert found is not None
    assert int(found[1]) == len(IMPLEMENTED)
    # Each version of the client knows a few more.
    assert len(signatures()) == pytest.approx(int(found[2]), abs=15)


@pytest.mark.server
@pytest.mark.distributed
def test_example_runs_through_its_faults() -> None:
    *months, failures = python(str(FOLDER / "examples" / "ndvi_with_faults.py")).splitlines()
    ndvi = {line.split()[0]: float(line.split()[1]) for line in months}
    assert list(ndvi) == ["2021-01", "2021-04", "2021-07", "2021-10"]
    assert ndvi["2021-01"] < 0.1 < 0.3 < ndvi["2021-07"] < 0.9
    assert int(failures.removeprefix("failed requests: ")) > 0


def python(*arguments: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
