"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from groundwork.errors import InputError, LimitReachedError
from groundwork.file_writes import atomic_file, write_atomically, write_error


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


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.json cannot be written: No such file"):
        write_atomically(tmp_path / "absent" / "scores.json", "x")


def test_parts_of_killed_writers_are_cleared_away_and_those_of_living_ones_are_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "step[1].pt"
    old, fresh, other = (
        tmp_path / name
        for name in (".step[1].1-aa.part.pt", ".step[1].2-bb.part.pt", ".step2.1-aa.part.pt")
    )
    for part in (old, fresh, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (1, 1))
    write_atomically(path, b"whole")
    assert names(tmp_path) == sorted([path.name, fresh.name, other.name])


def test_writers_of_one_target_do_not_mix_their_content(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    contents = [letter * 200_000 for letter in "abcd"]

    def write(content: str) -> None:
        for _ in range(5):
            write_atomically(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert names(tmp_path) == ["run.json"]
