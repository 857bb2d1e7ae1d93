"""Looking at a cube needs no module that only POSIX systems have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.training.small_cube import write_cube

# psutil has modules of its own per platform, and those for Linux need `resource`.
WITHOUT_POSIX = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "termios", "pwd", "grp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "termios", "pwd", "grp"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())

from flows.command_line import run

cube = sys.argv[1]
assert run(["inspect", cube]) == 0
assert run(["audit", cube]) == 0
sys.exit(run(["seal", cube]))
"""


def test_inspect_and_audit_run_without_posix_and_building_says_what_is_missing(
    tmp_path: Path,
) -> None:
    cube = tmp_path / "cube.zarr"
    write_cube(cube, 4)
    command = [sys.executable, "-c", WITHOUT_POSIX, str(cube)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "needs POSIX file locks" in done.stderr
    assert "Traceback" not in done.stderr
