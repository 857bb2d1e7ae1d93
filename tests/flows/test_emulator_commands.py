"""``softcon emulator``: an address to use, a clean end, one sentence for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import typer.main

from earth_engine_emulator.__main__ import read_arguments
from earth_engine_emulator.running import emulator_in_thread
from earth_engine_emulator.settings import EmulatorSettings
from earth_engine_emulator.testing import PROJECT, ramp, write_catalogue, write_raster
from flows.command_line import app, run

CONFIGS = Path(__file__).parents[2] / "configs" / "emulator"
Complaint = Callable[[list[str]], tuple[int, str]]


WITHOUT_EMULATOR = """
import importlib.machinery, sys

class Absent(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "earth_engine_emulator":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
from flows.command_line import main
main()
"""


@pytest.fixture
def world(tmp_path: Path) -> str:
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    write_catalogue(tmp_path)
    return str(tmp_path)


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    line = [sys.executable, "-m", "flows", "emulator", "--port", "0", *arguments]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["emulator", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Usage: softcon emulator" in said
    for option in ("port", "world", "rasters", "faults", "fault", "seed", "latency", "pool"):
        assert f"--{option}" in said


def test_the_emulator_s_own_command_has_the_same_options_and_defaults() -> None:
    ours = typer.main.get_command(app).commands["emulator"].make_context("emulator", []).params
    ours = {name.removesuffix("_output"): value or None for name, value in ours.items()}
    theirs = {name: value or None for name, value in vars(read_arguments([])).items()}
    assert theirs.pop("version") is None
    assert ours == theirs


@pytest.mark.parametrize("command", [["emulator", "--port", "0"], ["demo", "--out", "demo"]])
def test_without_the_emulator_one_sentence_says_what_to_install(
    command: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EMULATOR, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    wanted = "this command needs earth_engine_emulator: pip install 'softcon-cube[emulator]'"
    assert done.stderr == f"softcon: {wanted}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.server
@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_address_and_settings_for_programs(world: str, number: signal.Signals) -> None:
    faults = str(CONFIGS / "faults_recoverable.yaml")
    options = ["--faults", faults, "--fault", "not_npy=0.5", "--seed", "7", "--pool", "3"]
    with command("--world", world, *options, "--latency", "0.001", "--json") as process:
        reply = json.loads(first_line(process))
        status = requests.get(reply["url"] + "/emulator/faults", timeout=10).json()
        assert requests.get(reply["url"] + "/emulator/statistics", timeout=10).ok
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert reply["process_id"] == process.pid
    assert (reply["world"], reply["pool"]) == (world, 3)
    assert reply["faults"] == status["settings"]
    given = EmulatorSettings.model_validate(
        {name: reply[name] for name in EmulatorSettings.model_fields}
    ).faults
    assert given.seed == 7
    assert given.probabilities.not_npy == 0.5  # the flag, over the file
    assert given.probabilities.wrong_shape == 0.05  # the file
    assert given.latency is not None
    assert given.latency.quantile(0.9) == 0.001


@pytest.mark.server
@pytest.mark.distributed
def test_introduction_can_be_pasted(world: str) -> None:
    """The lines that are printed, run as they stand, list the world's only image."""
    with command("--world", world) as process:
        lines = [first_line(process) for _ in range(6)]
        assert re.match(r"Earth Engine emulator at http://127\.0\.0\.1:\d+, serving ", lines[0])
        code = "".join(line.removeprefix("  ") for line in lines[2:5])
        assert f'project="{PROJECT}"' in code
        code += "print(ee.ImageCollection('TEST/IMAGES').size().getInfo())\n"
        environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
        shown = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            timeout=60,
        )
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert shown.stdout == "1\n"
    assert process.returncode == 0


@pytest.mark.server
def test_taken_port_is_one_sentence(world: str, complaint: Complaint) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with emulator_in_thread(app) as running:
        port = running.url.rpartition(":")[2]
        code, said = complaint(["emulator", "--world", world, "--port", port])
    assert code == 2
    assert re.fullmatch(
        rf"softcon: port {port} of 127\.0\.0\.1 cannot be listened on .*: choose another port.*\n",
        said,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--world", "nowhere"], "nowhere is no folder"),
        (["--world", "EMPTY"], "holds no catalogue"),
        (["--world", "BROKEN"], "b2.tif is not in the folder of rasters"),
        (["--world", "WORLD", "--rasters", "nowhere"], "nowhere is no folder"),
        (["--rasters", "EMPTY"], "belong to a catalogue"),
        (["--faults", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--faults", "WRONG"], "probabilities.lost: is not a key that is known here"),
        (["--fault", "lost=0.1"], "--fault lost=0.1: the kinds are latency, too_many_requests"),
        (["--fault", "not_npy"], "as in not_npy=0.05"),
        (["--fault", "not_npy=often"], "between 0 and 1"),
        (["--fault", "not_npy=1.2"], "between 0 and 1"),
        (["--fault", "not_npy=nan"], "between 0 and 1"),
        (["--fault", "not_npy=0.7", "--fault", "wrong_shape=0.7"], "they add up to 1.4"),
        (["--fault", "latency=0.5"], "how long?"),
        (["--latency", "nan"], "latency"),
        (["--latency", "-1"], "'--latency'"),
        (["--seed", "x"], "'--seed'"),
        (["--port", "70000"], "'--port'"),
        (["--pool", "-1"], "'--pool'"),
        (["--world", "WORLD", "--host", "0.0.0.0"], "use 127.0.0.1, ::1 or localhost"),
    ],
)
def test_mistake_is_one_sentence_and_exit_2(
    arguments: list[str], sentence: str, world: str, tmp_path: Path, complaint: Complaint
) -> None:
    places = {name: tmp_path / name.lower() for name in ("EMPTY", "BROKEN", "WRONG")}
    places["EMPTY"].mkdir()
    places["BROKEN"].mkdir()
    write_catalogue(places["BROKEN"])
    places["WRONG"].write_text("probabilities: {lost: 0.1}\n")
    places["WORLD"] = Path(world)
    code, said = complaint(["emulator", *(str(places.get(word, word)) for word in arguments)])
    assert code == 2
    assert sentence in said
    assert said.startswith("softcon: ")
    assert said.count("\n") == 1
