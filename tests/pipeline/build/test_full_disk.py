"""A disk that fills up in the middle of a build: a sentence, nothing spoilt, then it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundwork.errors import LimitReachedError
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.seal import seal_cube
from tests.pipeline.build_synthetic import build


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; two of three batches fit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_stops_with_a_sentence_and_the_same_build_continues(
    small_disk: Path, tmp_path: Path
) -> None:
    cube = small_disk / "cube.zarr"
    with pytest.raises(LimitReachedError, match=r"is full .*then run the same command again"):
        build(str(cube))
    assert not list(cube.rglob("*.partial"))
    pending = PatchStore.open(ObjectStorage(cube)).pending_batches()
    assert 0 < len(pending) < 3
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    build(str(cube))
    build(str(tmp_path / "calm.zarr"))
    digests = {seal_cube(ObjectStorage(c)).digest for c in (cube, tmp_path / "calm.zarr")}
    assert len(digests) == 1
