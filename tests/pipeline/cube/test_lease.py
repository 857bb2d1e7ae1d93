"""One builder per cube, on both kinds of storage."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.build.batches import assemble_batch
from pipeline.cube.lease import LEASE_KEY, Lease, LeaseRecord, check_lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.errors import CubeInUseError, LeaseLostError
from tests.synthetic import SyntheticSource, describe_cube, location_names


@pytest.fixture
def storage(cube_address: str) -> ObjectStorage:
    return ObjectStorage(cube_address)


def set_lease(storage: ObjectStorage, **changes: object) -> None:
    record = json.loads(storage.read(LEASE_KEY) or b"")
    storage.write(LEASE_KEY, json.dumps({**record, **changes}).encode())


def test_lease_is_free_again_after_its_holder(storage: ObjectStorage) -> None:
    with Lease(storage) as first:
        check_lease(storage, first.token)
    with Lease(storage) as second:
        check_lease(storage, second.token)
        with pytest.raises(LeaseLostError):
            check_lease(storage, first.token)


def test_live_lease_of_another_machine_is_respected(storage: ObjectStorage) -> None:
    with Lease(storage):
        set_lease(storage, host="far-away", pid=1, command="softcon")
        with pytest.raises(CubeInUseError, match=r"process 1 \(softcon\) on far-away, since 20"):
            Lease(storage).__enter__()


def test_expired_lease_is_taken_over(storage: ObjectStorage) -> None:
    with Lease(storage):
        set_lease(storage, host="far-away", expires_s=time.time() - 1)
        with Lease(storage) as taken:
            check_lease(storage, taken.token)


def test_dead_process_of_this_machine_is_not_waited_for(storage: ObjectStorage) -> None:
    """A killed builder is resumed at once, not after its lease."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    with Lease(storage):
        set_lease(storage, pid=child.pid, expires_s=time.time() + 1000)
        with Lease(storage) as taken:
            check_lease(storage, taken.token)


def test_reused_process_id_does_not_pass_for_the_dead_holder(storage: ObjectStorage) -> None:
    with Lease(storage):
        set_lease(storage, process_started_s=1.0, expires_s=time.time() + 1000)
        with Lease(storage) as taken:
            check_lease(storage, taken.token)


def test_heartbeat_keeps_a_long_build(storage: ObjectStorage) -> None:
    with Lease(storage, lease_s=1.0) as lease:
        first = LeaseRecord.decode(storage.read(LEASE_KEY) or b"")
        time.sleep(1.6)
        check_lease(storage, lease.token)
        now = LeaseRecord.decode(storage.read(LEASE_KEY) or b"")
    assert first is not None
    assert now is not None
    assert now.expires_s > first.expires_s


def test_of_many_starting_together_one_wins(storage: ObjectStorage) -> None:
    gate, won, refused = threading.Barrier(8), [], []
    done = threading.Event()

    def start() -> None:
        mine = ObjectStorage(storage.address)
        gate.wait()
        try:
            with Lease(mine):
                won.append(1)
                done.wait(20)
        except CubeInUseError as error:
            refused.append(str(error))
        if len(refused) == 7:
            done.set()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)


def test_builder_that_lost_its_lease_writes_no_marker(tmp_path: Path) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    with Lease(storage) as lease:
        store = PatchStore.begin(storage, describe_cube(2), location_names(2))
        locations = [SyntheticSource().read_location(name) for name in location_names(2)]
        arrays = assemble_batch(store.layout, locations, 2).arrays
        set_lease(storage, expires_s=time.time() - 1, host="far-away")
        with Lease(storage) as thief:
            with pytest.raises(LeaseLostError, match="run the same command again"):
                store.write_batch(0, arrays, lease_token=lease.token)
            assert store.read_marker(0) is None
            store.write_batch(0, arrays, lease_token=thief.token)
    assert store.pending_batches() == []


def test_unreadable_lease_is_replaced(storage: ObjectStorage) -> None:
    storage.write(LEASE_KEY, b"not json")
    with Lease(storage) as lease:
        check_lease(storage, lease.token)
