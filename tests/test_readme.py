"""The README's commands and code, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flows.command_line import run
from tests.ssl4eo_s12_layout import write_layout

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fences(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


@pytest.mark.distributed
@pytest.mark.server
def test_commands_and_code_of_the_readme_run(
    simulated_emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = write_layout(tmp_path / "ssl4eo_s12", 2, seed=3)
    assert layout.labels is not None
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    layout.labels.rename(tmp_path / "ssl4eo_s12_ml.json")
    commands = [
        line for block in fences("") for line in block.splitlines() if line.startswith("softcon ")
    ]
    assert len(commands) == 12
    for command in commands:
        if command == "softcon emulator &":
            continue  # It runs already, on a port that is free.
        words = shlex.split(command)[1:]
        if words[0] == "rebuild":
            words += ["--set", f"earth_engine.endpoint={simulated_emulator}"]
            # Few, and some in each split.
            split = "block_size_m: 2640, buffer_m: 0, train: 0.6, validation: 0.2, test: 0.2"
            for change in ("num_locations=10", "seed=1", f"split={{{split}}}"):
                words += ["--set", f"locations.{change}"]
        if words[0] == "pretrain":
            words += ["--set", "epochs=1", "--set", "batch_size=4"]
        assert run(words) == 0, command
    assert (tmp_path / "ssl4eo.html").stat().st_size > 10_000
    (code,) = fences("python")
    exec(compile(code, "README.md", "exec"), {})


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target
