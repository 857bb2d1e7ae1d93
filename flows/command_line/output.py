"""How the command line speaks: results on stdout, progress and complaints on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

if TYPE_CHECKING:
    from pipeline.cube.patch_store import BatchMarker

_MOST_CHARS = 1500

stdout = Console(highlight=False, soft_wrap=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def complain(sentence: str, code: int) -> int:
    """Print one sentence and return the exit code."""
    # Plain text: a terminal's width must not break a path, nor brackets pass for markup.
    words = " ".join(sentence.split())
    if len(words) > _MOST_CHARS:  # How to mend it stands at the end.
        words = f"{words[: _MOST_CHARS // 2]} ... {words[-_MOST_CHARS // 2 :]}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    sys.stderr.write(f"softcon: {shown}\n")
    return code


def check_output(path: Path, cube: str) -> None:
    """Refuse a file that cannot be written, or would be written into the cube.

    Raises:
        InputError: it is a folder, its folder is missing, or it lies in the cube.
    """
    from groundwork.errors import InputError

    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: create it first")
    if Path(cube).resolve() in path.resolve().parents:
        raise InputError(f"{path} lies in the cube {cube}: choose another place")


def print_json(value: Any) -> None:
    """Print a result for programs."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


class Report(Protocol):
    """Called with (done, of, what happened last)."""

    def __call__(self, done: int, of: int, marker: BatchMarker | None = None) -> None:
        """Move the bar."""
        ...


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Report]:
    """Show a bar with the time left; on a pipe, a line every tenth of the way."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if not stderr.is_terminal:
        yield _PlainProgress(what, unit)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        console=stderr,
    ) as bar:
        task = bar.add_task(what, total=None, rate="")
        pace = _Pace()

        def report(done: int, of: int, marker: BatchMarker | None = None) -> None:
            bar.update(task, completed=done, total=of, rate=pace.note(marker))
            for warning in marker.warnings if marker is not None else ():
                bar.console.print(f"warning: {warning}", markup=False)

        yield report


class _Pace:
    """Locations per second since the start, for work that is done in batches."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._num_locations = 0

    def note(self, marker: BatchMarker | None) -> str:
        """Count a batch's locations; returns the rate in words, empty before the first."""
        if marker is not None:
            self._num_locations += marker.stop - marker.start
        seconds = self.seconds
        return f"{self._num_locations / seconds:.3g} locations/s" if self._num_locations else ""

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self._began, 1e-9)


class _PlainProgress:
    """Progress for a log file."""

    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._tenth = -1
        self._pace = _Pace()

    def __call__(self, done: int, of: int, marker: BatchMarker | None = None) -> None:
        for warning in marker.warnings if marker is not None else ():
            stderr.print(f"warning: {warning}", markup=False)
        rate = self._pace.note(marker)
        tenth = 10 * done // of if of else 10
        if tenth > self._tenth:
            self._tenth = tenth
            words = [f"{self._what}: {done} of {of} {self._unit}"]
            if rate:
                left = timedelta(seconds=round(self._pace.seconds / done * (of - done)))
                words += [rate, f"{left} left"]
            stderr.print(", ".join(words), markup=False)
