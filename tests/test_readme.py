"""The README's commands and code, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with emulator_in_process(EmulatorSettings()) as emulator:
        for command in commands:
            if command == "softcon emulator &":
                continue  # It runs already, on a port that is free.
            words = shlex.split(command)[1:]
            if words[0] == "rebuild":
                words += ["--set", f"earth_engine.endpoint={emulator.url}"]
                words += ["--set", "locations.num_locations=20"]
                words += ["--set", "locations.split.block_size_m=2640"]
                words += ["--set", "locations.split.buffer_m=0"]
            if words[0] == "pretrain":
                words += ["--set", "epochs=1", "--set", "batch_size=8"]
            assert run(words) == 0, command
    assert (tmp_path / "ssl4eo.html").stat().st_size > 10_000
    (code,) = fences("python")
    exec(compile(code, "README.md", "exec"), {})


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target
