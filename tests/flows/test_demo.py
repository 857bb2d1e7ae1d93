"""``softcon demo``: stages are done once, Ctrl-C loses nothing, the page stands alone."""

from __future__ import annotations

import html
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.command_line import run
from flows.demo.cubes import patches_of_raster
from flows.demo.pictures import choose_queries
from flows.demo.stages import Stages
from groundwork.errors import InputError
from storage_schema.status import Split

ROOT = Path(__file__).parents[2]
LOCATIONS, STEPS = 24, 10


def test_a_stage_is_done_once_and_keeps_its_time(tmp_path: Path) -> None:
    calls: list[str] = []

    def stages() -> Stages:
        return Stages(tmp_path / "demo", {"kind": "test"}, 2, said.append)

    def interrupted() -> None:
        time.sleep(0.02)
        raise KeyboardInterrupt

    said: list[str] = []
    first = stages()
    first.run("one", "One", lambda: calls.append("one") or {"found": 1})  # type: ignore[func-returns-value]
    with pytest.raises(KeyboardInterrupt):
        first.run("two", "Two", interrupted)
    second = stages()
    assert second.run("one", "One", lambda: calls.append("again") or {}).facts == {"found": 1}  # type: ignore[func-returns-value]
    stage = second.run("two", "Two", lambda: {"found": 2})
    assert calls == ["one"]
    assert stage.done
    assert stage.seconds >= 0.02
    assert "done before" in said[-2]


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds no demo"):
        Stages(tmp_path, {"kind": "test"}, 1, print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    Stages(tmp_path / "demo", {"kind": "test", "locations": 24}, 1, print)
    with pytest.raises(InputError, match="locations: then 24, now 48"):
        Stages(tmp_path / "demo", {"kind": "test", "locations": 48}, 1, print)
    (tmp_path / "demo" / "demo.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        Stages(tmp_path / "demo", {"kind": "test", "locations": 24}, 1, print)


def test_real_data_that_are_not_there_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[[list[str]], tuple[int, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = complaint(["demo", "--real", str(tmp_path / "nowhere")])
    assert code == 2
    assert "has no folder virginia_coast" in said
    assert not list(tmp_path.iterdir())


def test_patches_of_the_crop_are_split_by_columns(real_data: Path) -> None:
    found = patches_of_raster(real_data / "virginia_coast" / "B02.jp2")
    assert len(found) >= 40
    columns: dict[int, set[int]] = {}
    for name, split in zip(found.location_id, found.split.tolist(), strict=True):
        columns.setdefault(int(name.split("-")[1]), set()).add(split)
    order = [Split(split) for _, (split,) in sorted(columns.items())]
    for one, other in itertools.pairwise(order):
        assert one == other or Split.BUFFER in {one, other}
    assert {Split.TRAIN, Split.VALIDATION, Split.TEST} <= set(order)


def test_queries_show_every_class_rarest_first() -> None:
    dominant = np.asarray([4] * 10 + [0] * 3 + [6])
    chosen = choose_queries(dominant, 5)
    assert dominant[chosen].tolist() == [6, 0, 4, 0, 4]
    assert len(set(chosen)) == 5
    assert len(choose_queries(np.asarray([1, 1]), 5)) == 2


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_ctrl_c_at_any_stage_then_the_same_command_finishes(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "flows", "demo", "--out", "demo-run",
        "--locations", str(LOCATIONS), "--steps", str(STEPS),
    ]  # fmt: skip
    interrupted = 0
    for stage in ("rebuilding: 1", "[3/11]", "step 10", "[7/11]", "[8/11]", "[11/11]"):
        with subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as process:  # fmt: skip
            assert process.stderr is not None
            for line in process.stderr:
                if stage in line:
                    process.send_signal(signal.SIGINT)
                    break
            rest = process.stderr.read()
            code = process.wait(120)
        assert "Traceback" not in rest, rest
        # 0: it was done before the signal came; -2: done, and on its way out.
        assert code in {0, 3, 130, -signal.SIGINT}, rest
        interrupted += code != 0
    assert interrupted >= 3
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    check_page(page.read_text())
    record = json.loads((tmp_path / "demo-run" / "demo.json").read_text())
    assert all(stage["done"] for stage in record["stages"])
    again = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert again.stderr.count("done before") == len(record["stages"])
    card = (tmp_path / "demo-run" / "backbone_s2.md").read_text()
    assert "simulated world are made up" in card
    assert "| linear | micro |" in card


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_the_demo_on_real_pixels(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert run(["demo", "--real", str(real_data), "--out", "real", "--steps", "20"]) == 0
    page = (tmp_path / "real" / "report.html").read_text()
    check_page(page)
    assert "This is a smoke test." in page
    record = json.loads((tmp_path / "real" / "demo.json").read_text())
    facts = {stage["name"]: stage["facts"] for stage in record["stages"]}
    assert facts["audit virginia_coast"]["violations"] == 0
    assert facts["audit ssl4eo_s12_sample"]["violations"] == 0
    assert facts["seal virginia_coast"]["patches"] >= 40


def check_page(page: str) -> None:
    """The page asks for nothing, and the commands on it are ones that exist."""
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"https?://", page)
    assert page.count("<svg") >= 5
    blocks = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    shown = html.unescape("\n".join(blocks)).replace("\\\n", "")
    commands = shown.splitlines()
    for line in commands:
        if line.startswith("softcon "):
            words = shlex.split(line)
            assert run([words[1], "--help"]) == 0
