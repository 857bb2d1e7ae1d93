"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from groundwork.errors import InputError, LimitReachedError
from groundwork.file_writes import atomic_file, make_folder, write_atomically, write_error
from tests.full_disk import largest_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "first\nsecond ü\n")
    write_atomically(tmp_path / "b", b"\0\1")
    assert (tmp_path / "a.txt").read_bytes() == "first\nsecond ü\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\0\1"
    assert names(tmp_path) == ["a.txt", "b"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_atomically(path, "old")

    def write() -> None:
        with atomic_file(path) as part:
            part.write_text("half of the n")
            raise RuntimeError("the library gave up")

    with pytest.raises(RuntimeError, match="gave up"):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["scores.json"]


def test_the_part_keeps_the_suffix_that_libraries_choose_the_format_by(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "features.npz") as part:
        assert part.suffix == ".npz"
        assert part.name.startswith(".")
        part.write_bytes(b"x")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, LimitReachedError),
        (errno.EDQUOT, LimitReachedError),
        (errno.EACCES, InputError),
        (errno.EROFS, InputError),
    ],
)
def test_the_number_of_an_error_decides_and_not_its_text(
    number: int, kind: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "No space left on device"  # a name that a search in texts would fall for

    def write() -> None:
        with atomic_file(path):
            raise OSError(number, os.strerror(number), str(path))

    with pytest.raises(kind, match="cannot be written"):
        write()
    assert type(write_error(path, OSError(number, ""))) is kind


def save_by_torch(part: Path, values: np.ndarray) -> None:
    with part.open("wb") as file:
        torch.save(torch.from_numpy(values), file)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.bin", lambda part, values: part.write_bytes(values.tobytes())),
        ("a.npz", lambda part, values: np.savez(part, values=values)),
        ("a.parquet", lambda part, values: pq.write_table(pa.table({"a": values}), part)),
        ("a.pt", save_by_torch),
    ],
)
def test_a_full_disk_stops_every_library_with_the_same_sentence(
    name: str, write: Callable[[Path, np.ndarray], object], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).random(100_000)

    def save() -> None:
        with atomic_file(tmp_path / name) as part:
            write(part, values)

    with largest_file(100_000), pytest.raises(LimitReachedError, match="the disk is full or"):
        save()
    assert names(tmp_path) == []
    save()
    assert names(tmp_path) == [name]


def test_other_errors_of_a_library_pass(tmp_path: Path) -> None:
    def save() -> None:
        with atomic_file(tmp_path / "a.npz"):
            raise ValueError("not for this format")

    with pytest.raises(ValueError, match="not for this format"):
        save()


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"scores\.json cannot be written: the folder .*absent does not exist"
    ):
        write_atomically(tmp_path / "absent" / "scores.json", "x")


def test_a_folder_and_a_device_are_no_targets(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(InputError, match="cannot be written: it is not a file"):
            write_atomically(path, "x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_folders_are_made_or_refused_in_one_sentence(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "c"):
        with pytest.raises(InputError, match="cannot be written"):
            make_folder(path)


def test_parts_of_killed_writers_are_cleared_away_and_those_of_living_ones_are_not(
    tmp_path: Path,
) -> None:
    script = f"""
import os, pathlib, signal
from groundwork.file_writes import atomic_file
with atomic_file(pathlib.Path({str(tmp_path / "step_1.pt")!r})) as part:
    part.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode < 0
    killed, living = sorted(tmp_path.iterdir())
    os.utime(killed, (1, 1))
    own = tmp_path / ".hidden.part.pt"  # not of ours, whatever its age
    own.touch()
    os.utime(own, (1, 1))
    # The next checkpoint has another name: that of the killed writer never comes again.
    write_atomically(tmp_path / "step_2.pt", b"whole")
    assert names(tmp_path) == sorted([own.name, living.name, "step_2.pt"])


def test_processes_that_write_one_target_do_not_mix_their_content(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    script = """
import pathlib, sys
from groundwork.file_writes import write_atomically
for _ in range(20):
    write_atomically(pathlib.Path(sys.argv[1]), sys.argv[2] * 300_000)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), letter]) for letter in "abc"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert len(text) == 300_000
            assert len(set(text)) == 1
            seen.add(text[0])
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen
    assert names(tmp_path) == ["run.json"]


def test_threads_that_write_one_target_do_not_mix_their_content(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    contents = [letter * 200_000 for letter in "abcd"]
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(lambda content: write_atomically(path, content), contents * 5))
    assert path.read_text() in contents
    assert names(tmp_path) == ["run.json"]
