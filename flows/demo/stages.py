"""Stages of a demo: each is done once, whatever interrupts it, and its time is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from groundwork.errors import InputError
from groundwork.file_writes import make_folder, write_atomically

RECORD_NAME: Final = "demo.json"

Say = Callable[[str], None]


@dataclass
class Stage:
    """One stage, as the record keeps it.

    Args:
        name: unique in a demo.
        title: in words.
        command: what a user would type to do it by hand; empty where there is no such command.
        seconds: spent on it so far, over all runs.
        done: whether it has ended well.
        facts: what it found out; values that JSON can hold.
    """

    name: str
    title: str
    command: str = ""
    seconds: float = 0.0
    done: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class Stages:
    """The record of a demo in its folder.

    Args:
        out: folder of the demo; made where it is missing.
        about: what the demo is of; another demo's folder is refused.
        num: of stages, for the progress.
        say: told a line as each stage begins and ends.

    Raises:
        InputError: the folder holds something else.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], num: int, say: Say) -> None:
        self._path, self._about = out / RECORD_NAME, dict(about)
        self._num, self._say, self._begun = num, say, 0
        self.stages: dict[str, Stage] = {}
        if self._path.is_file():
            self._read()
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists and holds no demo: choose another --out")
        make_folder(out)
        self._write()

    def run(
        self,
        name: str,
        title: str,
        work: Callable[[], Mapping[str, Any] | None],
        command: str = "",
    ) -> Stage:
        """Do a stage unless it is done; what it raises goes on, with its time kept."""
        self._begun += 1
        stage = self.stages.setdefault(name, Stage(name, title))
        stage.title, stage.command = title, command
        place = f"[{self._begun}/{self._num}] {title}"
        if stage.done:
            self._say(f"{place}: done before, in {stage.seconds:.0f} s")
            return stage
        self._say(place)
        began = time.monotonic()
        try:
            stage.facts = dict(work() or {})
            stage.done = True
        finally:
            stage.seconds += time.monotonic() - began
            self._write()
        return stage

    def _read(self) -> None:
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            about, stages = record["about"], [Stage(**one) for one in record["stages"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._path} is damaged: remove the folder, or choose another --out"
            ) from error
        if about != self._about:
            differing = ", ".join(
                f"{name}: then {about.get(name)}, now {self._about.get(name)}"
                for name in sorted(about.keys() | self._about.keys())
                if about.get(name) != self._about.get(name)
            )
            raise InputError(
                f"{self._path.parent} holds another demo ({differing}): choose another --out, or "
                "remove the folder"
            )
        self.stages = {stage.name: stage for stage in stages}

    def _write(self) -> None:
        record = {
            "about": self._about,
            "stages": [asdict(stage) for stage in self.stages.values()],
        }
        write_atomically(self._path, json.dumps(record, indent=1) + "\n")
