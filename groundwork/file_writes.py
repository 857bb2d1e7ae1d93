"""Local files that appear whole or not at all, whatever interrupts the writer.

The content goes to a hidden file beside the target, reaches the disk, and then takes the target's
name. A reader sees the old file or the new one, also after a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from groundwork.errors import InputError, LimitReachedError, SoftconError

_STALE_S: Final = 3600.0
"""A part this old belongs to a writer that was killed: no file of ours takes an hour to write."""
_PART: Final = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.part(\.[^.]*)?")
"""Names of parts, of whatever target."""
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
        _check_target(path)
        _remove_stale_parts(path.parent)
        yield part
        _sync(part)
        part.replace(path)
        _sync_folder(path.parent)
    except SoftconError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    except Exception as error:
        # torch.save answers an OSError of its file with a RuntimeError that names no cause.
        if isinstance(error.__context__, OSError):
            raise write_error(path, error.__context__) from error
        raise
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


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that exists is left as it is.

    Raises:
        LimitReachedError: the disk is full.
        InputError: it cannot be made, or something else has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> SoftconError:
    """Return the sentence for a failed write, by the number of the error."""
    if error.errno in _NO_ROOM:
        return LimitReachedError(
            f"{path} cannot be written: the disk is full or a quota is used up; free some space, "
            "then run the same command again"
        )
    if error.errno == errno.ENOENT and not path.parent.exists():
        return InputError(
            f"{path} cannot be written: the folder {path.parent} does not exist, create it first"
        )
    return InputError(f"{path} cannot be written: {error.strerror or error}")


def _check_target(path: Path) -> None:
    # Renamed onto /dev/null, a part would replace the device.
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it is not a file, give the path of one")


def _sync(part: Path) -> None:
    # Opened for writing: Windows refuses to sync a file that is open for reading only.
    with part.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems sync files only, and a folder may be writable without being
        # readable: the file is there all the same.
        if error.errno not in {errno.EACCES, errno.EINVAL, errno.ENOTSUP}:
            raise


def _remove_stale_parts(folder: Path) -> None:
    """Remove what killed writers left, for any target: a checkpoint's name never comes again."""
    with contextlib.suppress(OSError):  # Another writer may clear the same part away.
        for part in folder.iterdir():
            if _PART.fullmatch(part.name) and time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()
