"""Builders killed with SIGKILL at random moments, resumed with the same command.

Ten kills in ``make test-slow``, a hundred in ``make campaign``. The seed is printed.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.cube.audit import audit_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.seal import seal_cube
from storage_schema.products import PRODUCT_NAMES, PRODUCTS
from storage_schema.status import PatchStatus
from tests.pipeline.build_synthetic import NUM_LOCATIONS, build
from tests.synthetic import SyntheticSource, location_names

SEED = 20261123
BUILD_TIMEOUT_S = 120


@pytest.mark.parametrize(
    "num_kills",
    [
        pytest.param(10, marks=pytest.mark.slow),
        pytest.param(100, marks=pytest.mark.campaign),
    ],
)
def test_killed_builders_lose_and_spoil_nothing(tmp_path: Path, num_kills: int) -> None:
    run_campaign(tmp_path, num_kills)


def run_campaign(folder: Path, num_kills: int) -> None:
    rng = random.Random(SEED)
    started = time.monotonic()
    build(str(folder / "calm.zarr"))
    build_s = time.monotonic() - started
    calm = seal_cube(ObjectStorage(folder / "calm.zarr")).digest
    expected = expected_patches()
    kills = builds = patches_seen = resumed_with_progress = 0
    while kills < num_kills:
        cube = folder / f"killed_{builds}.zarr"
        while True:
            # From the lease to the last marker, and a little beyond.
            kill_after_s = rng.uniform(0.0, 1.2 * build_s)
            with watching(cube, expected) as reader:
                killed = build_and_kill(cube, kill_after_s)
            assert reader.wrong == [], f"seed {SEED}, kill {kills}"
            patches_seen += reader.num_seen
            if not killed:
                break
            kills += 1
            resumed_with_progress += has_some_batches(cube)
        assert seal_cube(ObjectStorage(cube)).digest == calm
        assert audit_cube(ObjectStorage(cube), all_batches=True).violations == []
        assert not [p for p in cube.rglob("*") if "partial" in p.name]
        builds += 1
    sys.stdout.write(
        f"\nkill campaign, seed {SEED}: {kills} kills in {builds} builds of 3 batches, "
        f"{resumed_with_progress} with batches done, {patches_seen} complete patches read "
        "meanwhile, 0 half-written, every digest that of the calm build\n"
    )
    assert resumed_with_progress, "no kill came between two batches: the campaign tested too little"
    assert patches_seen


def build_and_kill(cube: Path, kill_after_s: float) -> bool:
    """Run the builder; return whether it had to be killed."""
    command = [sys.executable, "-m", "tests.pipeline.build_synthetic", str(cube)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as builder:
        # Imports take longer than the build: wait for the builder's first trace, then draw.
        deadline = time.monotonic() + BUILD_TIMEOUT_S
        before = lease_of(cube)
        while builder.poll() is None and lease_of(cube) == before:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        try:
            _, errors = builder.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            builder.send_signal(signal.SIGKILL)
            builder.communicate()
            return True
    assert builder.returncode == 0, errors
    return False


def lease_of(cube: Path) -> bytes:
    lease = cube / "lease.json"
    return lease.read_bytes() if lease.exists() else b""


def has_some_batches(cube: Path) -> bool:
    if not (cube / "zarr.json").exists():
        return False
    pending = PatchStore.open(ObjectStorage(cube)).pending_batches()
    return 0 < len(pending) < 3


# --- a reader at work the whole time -----------------------------------------------------------


def expected_patches() -> dict[tuple[int, int, str], str]:
    """(location, season, array) -> digest of the pixels a complete patch must have."""
    source = SyntheticSource()
    return {
        (index, season, array): digest(pixels)
        for index, name in enumerate(location_names(NUM_LOCATIONS))
        for season, patches in enumerate(source.read_location(name).seasons)
        for patch in patches.products.values()
        for array, pixels in patch.pixels.items()
    }


def digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


@dataclass
class Reader:
    """What a reader of the growing cube saw."""

    num_seen: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def watching(cube: Path, expected: dict[tuple[int, int, str], str]) -> Iterator[Reader]:
    reader, stop = Reader(), threading.Event()

    def watch() -> None:
        rng = random.Random(0)
        while not stop.is_set():
            look(cube, expected, reader, rng)
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield reader
    finally:
        stop.set()
        thread.join()


def look(
    cube: Path, expected: dict[tuple[int, int, str], str], reader: Reader, rng: random.Random
) -> None:
    """Read one patch that says it is complete, and compare all its pixels."""
    if not (cube / "zarr.json").exists():
        return
    group: Any = zarr.open_group(cube, mode="r")
    complete = np.argwhere(group["patch_status"][:] == PatchStatus.COMPLETE).tolist()
    if not complete:
        return
    index, season, position = rng.choice(complete)
    for band_group in PRODUCTS[PRODUCT_NAMES[position]].groups:
        found = digest(group[band_group.array][index, season])
        reader.num_seen += 1
        if found != expected[index, season, band_group.array]:
            reader.wrong.append(f"{band_group.array}, location {index}, season {season}")
