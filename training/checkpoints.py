"""Checkpoints: written whole or not at all, the newest kept, loaded as data and never as code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import torch

from groundwork.errors import InputError
from groundwork.file_writes import atomic_file, make_folder

FOLDER: Final = "checkpoints"
_NAME: Final = re.compile(r"^step_(\d{9})\.pt$")


def save_checkpoint(run: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint and remove the oldest ones beyond `keep`.

    Args:
        run: folder of the run.
        step: optimiser steps done.
        state: tensors, numbers, strings, and containers of them.
        keep: newest checkpoints that stay.
    """
    folder = run / FOLDER
    make_folder(folder)
    path = folder / f"step_{step:09d}.pt"
    with atomic_file(path) as part, part.open("wb") as file:
        torch.save(state, file)
    for old in list_checkpoints(run)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, the oldest first."""
    folder = run / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, or of another kind.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist: give a checkpoint, or the folder of a run"
        ) from error
    except Exception as error:  # damaged archives raise many things
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path} is no checkpoint that can be read ({reason})") from error
    if not isinstance(found, dict) or "network" not in found:
        raise InputError(f"{path} is no checkpoint of a pretraining run")
    return found


def find_checkpoint(run: Path, resume: str) -> dict[str, Any] | None:
    """Return the checkpoint to go on from, None to start anew.

    Args:
        run: folder of the run.
        resume: `auto` takes the newest that can be read; `none`; or a path.

    Raises:
        InputError: the path cannot be read; or the run has checkpoints and `none` was said.
    """
    found = list_checkpoints(run)
    if resume == "none":
        if found:
            raise InputError(f"{run} holds a run already: choose another out, or say --resume auto")
        return None
    if resume != "auto":
        return load_checkpoint(Path(resume))
    for path in reversed(found):
        try:
            return load_checkpoint(path)
        except InputError:
            continue  # A disk may lose what it has promised; the one before is older, but whole.
    return None
