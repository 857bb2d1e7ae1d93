"""``earth-engine-emulator``: an address to use, a clean end, one sentence for every mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import requests

from earth_engine_emulator.__main__ import main
from earth_engine_emulator.testing import ramp, write_catalogue, write_raster


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--world", "nowhere"], "nowhere is no folder"),
        (["--world", "x" * 500], "cannot be read (File name too long)"),
        (["--world", "a\0b"], "a\\x00b is no folder"),
        (["--world", "two\nlines"], "two lines is no folder"),
        (["--rasters", "rasters"], "belong to a catalogue"),
        (["--faults", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file"),
        (["--fault", "lost=0.1"], "--fault lost=0.1: the kinds are latency, too_many_requests"),
        (["--fault", "not_npy=1.2"], "between 0 and 1"),
        (["--fault", "latency=0.5"], "how long?"),
        (["--latency", "1e9"], "latency.constant.seconds: 1000000000.0 cannot be used"),
        (["--host", "0.0.0.0"], "use 127.0.0.1, ::1 or localhost"),
    ],
)
def test_mistake_is_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--port", "0", *arguments]) == 2
    check_sentence(capsys.readouterr().err, sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "--port: '70000' is not a whole number from 0 to 65,535"),
        (["--port", "x"], "--port: 'x' is not a whole number"),
        (["--seed", "-1"], "--seed: '-1' is not a whole number"),
        (["--pool", "1" * 5000], "is not a whole number from 0 to 1,000"),
        (["--latency", "nan"], "--latency: 'nan' is not a number of seconds"),
        (["--latency", "inf"], "--latency: 'inf' is not a number of seconds"),
        (["--latency", "soon"], "--latency: 'soon' is not a number of seconds"),
        (["--fault"], "--fault: expected one argument"),
        (["--por", "3"], "unrecognized arguments: --por 3"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    check_sentence(capsys.readouterr().err, sentence, "; see --help")


def check_sentence(said: str, sentence: str, end: str = "") -> None:
    assert said.startswith("earth-engine-emulator: ")
    assert sentence in said
    assert said.endswith(f"{end}\n")
    assert said[:-1].isprintable()


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name = "earth-engine-emulator"
    assert capsys.readouterr().out == f"{name} {version(name)}\n"


@pytest.mark.server
@pytest.mark.distributed
def test_it_serves_what_was_asked_for_until_ctrl_c(tmp_path: Path) -> None:
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    write_catalogue(tmp_path)
    options = ["--port", "0", "--world", str(tmp_path), "--fault", "not_npy=0.5", "--seed", "7"]
    with subprocess.Popen(
        [sys.executable, "-m", "earth_engine_emulator", *options, "--latency", "0.01", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            status = requests.get(told["url"] + "/emulator/faults", timeout=10).json()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")
    assert (told["process_id"], told["world"]) == (process.pid, str(tmp_path))
    assert told["faults"] == status["settings"]
    assert status["settings"]["seed"] == 7
    assert status["settings"]["probabilities"]["not_npy"] == 0.5
    assert status["settings"]["latency"]["seconds"] == 0.01
