"""Local files that appear whole or not at all, whatever interrupts the writer.

The content goes to a hidden file beside the target, reaches the disk, and then takes the target's
name. A reader sees the old file or the new one, also after a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from groundwork.errors import InputError, LimitReachedError, SoftconError

_STALE_S: Final = 3600.0
"""A part this old belongs to a writer that was killed: no file of ours takes an hour to write."""
_NO_ROOM: Final = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)
)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file there replaces `path` when the block ends.

    The yielded path has the suffix of `path`, since some libraries choose the format by it. Two
    processes that write the same target do not disturb each other: the later one wins.

    Args:
        path: the file to replace. Its folder has to exist.

    Raises:
        LimitReachedError: the disk is full.
        InputError: the file cannot be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        _remove_stale_parts(path)
        yield part
        _sync(part)
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        # On a full or broken disk this may fail too; the error above says more.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    r"""Write a file as a whole. Text is UTF-8 with ``\n`` on every platform.

    Args:
        path: the file to replace. Its folder has to exist.
        content: bytes, or text.

    Raises:
        LimitReachedError: the disk is full.
        InputError: the file cannot be written.
    """
    with atomic_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_error(path: Path, error: OSError) -> SoftconError:
    """Return the sentence for a failed write, by the number of the error."""
    if error.errno in _NO_ROOM:
        return LimitReachedError(
            f"{path} cannot be written: the disk is full or a quota is used up; free some space, "
            "then run the same command again"
        )
    return InputError(f"{path} cannot be written: {error.strerror or error}")


def _sync(part: Path) -> None:
    # Opened for writing: Windows refuses to sync a file that is open for reading only.
    with part.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale_parts(path: Path) -> None:
    for part in path.parent.glob(f".{_literal(path.stem)}.*.part{_literal(path.suffix)}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()


def _literal(text: str) -> str:
    """Return a pattern for `Path.glob` that matches the text only."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
