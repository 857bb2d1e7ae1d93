"""Folders that several tests read and that are made once, whatever the number of workers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder of this run of the tests, which is read and never written to.

    Under pytest-xdist each worker has its own session fixtures. The first worker that asks makes
    the folder; another one waits for it instead of making the same again.

    Args:
        factory: of the session.
        name: of the folder; unique among all tests.
        make: fills the folder, which exists.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
