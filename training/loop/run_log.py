"""What a run says while it goes: a line for people, JSON lines for programs, TensorBoard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, Self, TextIO

from groundwork.file_writes import write_atomically

LOG_NAME: Final = "log.jsonl"


class RunLog:
    """Writes the records of a run; only the leading process has one.

    A run that is resumed cuts off what a lost process had logged beyond its last checkpoint, so
    that every step stands in the log once.

    Args:
        run: folder of the run.
        step: steps done so far.
        stream: for the lines for people.
    """

    def __init__(self, run: Path, step: int, stream: TextIO | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._stream = stream or sys.stderr
        path = run / LOG_NAME
        kept = [record for record in read_log(run) if record["step"] <= step]
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def write(self, record: dict[str, Any]) -> None:
        """Write one record: `step`, and numbers by name."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                self._board.add_scalar(name, value, record["step"])

    def say(self, line: str) -> None:
        """Say one line to people."""
        self._stream.write(line + "\n")
        self._stream.flush()


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run, without a last line that a killed process left half-written."""
    path = run / LOG_NAME
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
