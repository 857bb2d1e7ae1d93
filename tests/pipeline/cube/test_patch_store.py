"""The contract of the store, on a local folder and on a real S3 server alike."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr

from groundwork.errors import InputError, TransientError
from pipeline.build.batches import assemble_batch
from pipeline.build.builder import BuildSummary, Execution, build_cube
from pipeline.cube.lease import Lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore, marker_key
from pipeline.cube.seal import seal_cube
from pipeline.errors import CubeDamagedError
from pipeline.patches import LocationPatches, PatchSource
from storage_schema.layout import CubeDescription
from storage_schema.status import PatchStatus, StatusReason
from tests.synthetic import SyntheticSource, describe_cube, location_names

NUM_LOCATIONS = 5


def build(
    address: str | Path,
    source: PatchSource | None = None,
    *,
    num: int = NUM_LOCATIONS,
    description: CubeDescription | None = None,
    execution: Execution | None = None,
) -> BuildSummary:
    return build_cube(
        ObjectStorage(address),
        description or describe_cube(num),
        location_names(num),
        lambda _: source or SyntheticSource(),
        execution=execution,
    )


def stored_files(folder: Path) -> dict[str, bytes]:
    """Everything the digest covers, byte by byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "provenance" not in path.parts and "lease" not in path.name
    }


# --- one life of a cube, on both kinds of storage ----------------------------------------------


def test_what_was_written_is_read_back(cube_address: str) -> None:
    summary = build(cube_address)
    assert summary.built == [0, 1, 2]
    assert not summary.failures
    store = PatchStore.open(ObjectStorage(cube_address))
    wanted = assemble_batch(
        store.layout, [SyntheticSource().read_location(name) for name in location_names(2)], 2
    )
    for name, values in wanted.arrays.items():
        found = np.asarray(store.group[name][:2])
        np.testing.assert_array_equal(found.astype(values.dtype), values, err_msg=name)


def test_building_again_finds_nothing_to_do(cube_address: str) -> None:
    build(cube_address)
    assert build(cube_address).built == []


def test_seal_gives_one_digest_and_repeats_it(cube_address: str, tmp_path: Path) -> None:
    build(cube_address)
    first = seal_cube(ObjectStorage(cube_address))
    assert not first.was_sealed
    assert seal_cube(ObjectStorage(cube_address)).was_sealed
    build(tmp_path / "elsewhere.zarr")
    assert seal_cube(ObjectStorage(tmp_path / "elsewhere.zarr")).digest == first.digest


def test_lost_marker_and_lost_shard_are_rebuilt_exactly_and_restore_the_digest(
    cube_address: str,
) -> None:
    storage = ObjectStorage(cube_address)
    build(cube_address)
    digest = seal_cube(storage).digest
    storage.delete([marker_key(0)])
    storage.delete(list(storage.list_sizes("s1_grd/c/2")))
    assert PatchStore.open(storage).pending_batches() == [0, 2]
    assert build(cube_address).built == [0, 2]
    assert seal_cube(storage).digest == digest


@pytest.mark.parametrize("batch", [0, 2])
def test_damaged_shard_is_replaced_once_its_marker_is_gone(tmp_path: Path, batch: int) -> None:
    """The remedy the audit gives, for a whole and for a short batch."""
    cube = tmp_path / "cube.zarr"
    build(cube)
    before = stored_files(cube)
    for name in ("s2_l1c_10m", "class_fraction"):
        (path,) = (p for p in (cube / name / "c" / str(batch)).rglob("*") if p.is_file())
        content = bytearray(path.read_bytes())
        content[-20] ^= 0xFF
        path.write_bytes(content)
    (cube / marker_key(batch)).unlink()
    assert build(cube).built == [batch]
    assert stored_files(cube) == before


def test_second_builder_is_refused_with_a_sentence_naming_the_first(cube_address: str) -> None:
    with Lease(ObjectStorage(cube_address)), pytest.raises(InputError) as refusal:
        build(cube_address)
    assert f"is being built by process {os.getpid()}" in str(refusal.value)
    assert "wait for it, or stop it" in str(refusal.value)


def test_open_names_what_is_missing(cube_address: str) -> None:
    with pytest.raises(InputError, match=r"there is no cube at .*: check the path"):
        PatchStore.open(ObjectStorage(cube_address))


def test_seal_refuses_a_cube_with_pending_batches(cube_address: str) -> None:
    storage = ObjectStorage(cube_address)
    build(cube_address)
    storage.delete([marker_key(1)])
    with pytest.raises(InputError, match=r"1 of 3 batches are pending \(1\); run its build"):
        seal_cube(storage)


def test_newer_schema_is_refused_with_the_remedy(cube_address: str) -> None:
    storage = ObjectStorage(cube_address)
    build(cube_address)
    document = json.loads(storage.read("zarr.json") or b"")
    document["attributes"]["schema_version"] = 2
    storage.write("zarr.json", json.dumps(document).encode())
    for operation in (PatchStore.open, seal_cube):
        with pytest.raises(InputError, match=r"schema version 2.*upgrade softcon-cube"):
            operation(storage)
    with pytest.raises(InputError, match="upgrade softcon-cube"):
        build(cube_address)


def test_missing_bucket_is_a_sentence(s3_endpoint: str) -> None:
    with pytest.raises(InputError, match="does not exist: create it first"):
        build("s3://no-such-bucket/cube")


# --- the plan ----------------------------------------------------------------------------------


def test_another_plan_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    build(tmp_path / "cube.zarr")
    before = stored_files(tmp_path / "cube.zarr")
    with pytest.raises(InputError, match=r"another plan \(source: then .*synthetic.*now .*other"):
        build(
            tmp_path / "cube.zarr",
            description=describe_cube(NUM_LOCATIONS, source={"name": "other"}),
        )
    with pytest.raises(InputError, match=r"another plan \(num locations: then 5, now 6"):
        build(tmp_path / "cube.zarr", num=6)
    assert stored_files(tmp_path / "cube.zarr") == before


def test_renamed_location_is_another_plan(tmp_path: Path) -> None:
    build(tmp_path / "cube.zarr")
    names = [*location_names(NUM_LOCATIONS - 1), "9999999"]
    with pytest.raises(InputError, match="location 4: then 0000004, now 9999999"):
        build_cube(
            ObjectStorage(tmp_path / "cube.zarr"),
            describe_cube(NUM_LOCATIONS),
            names,
            lambda _: SyntheticSource(),
        )


def test_repeated_location_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ids have to be unique"):
        build_cube(
            ObjectStorage(tmp_path / "cube.zarr"),
            describe_cube(2),
            ["a", "a"],
            lambda _: SyntheticSource(),
        )


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(InputError, match="is not empty and holds no cube"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("gs://bucket/cube", "only local folders and s3"),
        ("s3://", "only local folders and s3"),
        ("", "is not a path"),
        ("a\0b", "is not a path"),
    ],
)
def test_addresses_of_another_kind_are_refused(address: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ObjectStorage(address)


def test_file_in_the_place_of_a_cube_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cube.zarr").write_text("not a folder")
    with pytest.raises(InputError, match="is a file: a cube is a folder"):
        build(tmp_path / "cube.zarr")


def test_structure_that_was_never_completed_is_begun_again(tmp_path: Path) -> None:
    build(tmp_path / "cube.zarr")
    (tmp_path / "cube.zarr" / "zarr.json").unlink()
    with pytest.raises(InputError, match="begun but never completed"):
        PatchStore.open(ObjectStorage(tmp_path / "cube.zarr"))
    build(tmp_path / "cube.zarr")
    build(tmp_path / "whole.zarr")
    assert stored_files(tmp_path / "cube.zarr") == stored_files(tmp_path / "whole.zarr")


# --- same inputs, same bytes -------------------------------------------------------------------


@pytest.mark.distributed
def test_worker_count_and_order_change_no_byte(tmp_path: Path) -> None:
    build(tmp_path / "one.zarr")
    build(tmp_path / "two.zarr", execution=Execution(num_workers=2))
    for name in ("one.zarr", "two.zarr"):
        seal_cube(ObjectStorage(tmp_path / name))
    one, two = stored_files(tmp_path / "one.zarr"), stored_files(tmp_path / "two.zarr")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_other_pixels_give_another_digest(tmp_path: Path) -> None:
    build(tmp_path / "one.zarr")
    build(tmp_path / "two.zarr", SyntheticSource(salt="other"))
    digests = {seal_cube(ObjectStorage(tmp_path / n)).digest for n in ("one.zarr", "two.zarr")}
    assert len(digests) == 2


def test_repair_of_a_sealed_cube_with_other_pixels_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    build(tmp_path / "cube.zarr")
    seal_cube(storage)
    storage.delete([marker_key(1)])
    before = stored_files(tmp_path / "cube.zarr")
    with pytest.raises(CubeDamagedError, match=r"misses batches \(1\).*nothing was written"):
        build(tmp_path / "cube.zarr", SyntheticSource(salt="other"))
    assert stored_files(tmp_path / "cube.zarr") == before


def test_failed_patches_are_tried_again_on_request(tmp_path: Path) -> None:
    cube = tmp_path / "cube.zarr"
    build(cube, TroubledSource(error=ZeroDivisionError("oops")))
    assert build(cube).built == []
    again = build_cube(
        ObjectStorage(cube),
        describe_cube(NUM_LOCATIONS),
        location_names(NUM_LOCATIONS),
        lambda _: SyntheticSource(),
        retry_failed=True,
    )
    assert again.built == [1]
    build(tmp_path / "calm.zarr")
    digests = {seal_cube(ObjectStorage(c)).digest for c in (cube, tmp_path / "calm.zarr")}
    assert len(digests) == 1
    with pytest.raises(InputError, match="is sealed and does not change"):
        build_cube(
            ObjectStorage(cube),
            describe_cube(NUM_LOCATIONS),
            location_names(NUM_LOCATIONS),
            lambda _: SyntheticSource(),
            retry_failed=True,
        )


def test_stores_are_picklable_for_workers(tmp_path: Path) -> None:
    build(tmp_path / "cube.zarr")
    store = PatchStore.open(ObjectStorage(tmp_path / "cube.zarr"))
    copy = pickle.loads(pickle.dumps(store))
    assert copy.location_ids == store.location_ids
    assert copy.description == store.description


# --- trouble with sources ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TroubledSource(SyntheticSource):
    """Raises for one location."""

    error: Exception | None = None

    def read_location(self, location_id: str) -> LocationPatches:
        if location_id == "0000002" and self.error is not None:
            raise self.error
        return super().read_location(location_id)


def test_unforeseen_error_spoils_its_location_only(tmp_path: Path) -> None:
    summary = build(tmp_path / "cube.zarr", TroubledSource(error=ZeroDivisionError("oops")))
    assert summary.warnings
    assert "location 0000002 could not be read: ZeroDivisionError: oops" in summary.warnings[0]
    group = zarr.open_group(tmp_path / "cube.zarr", mode="r")
    status, reason = np.asarray(group["patch_status"]), np.asarray(group["status_reason"])
    assert (status[2, 0] == PatchStatus.FAILED).all()
    assert (reason[2, 0] == StatusReason.UNREADABLE_FILE).all()
    assert (status[[0, 1, 3, 4], 0] == PatchStatus.COMPLETE).all()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.distributed)])
def test_source_out_of_reach_leaves_its_batch_pending(tmp_path: Path, workers: int) -> None:
    execution = Execution(num_workers=workers)
    summary = build(
        tmp_path / "cube.zarr", TroubledSource(error=TransientError("no net")), execution=execution
    )
    assert summary.built == [0, 2]
    assert summary.failures == {1: "TransientError: no net"}
    assert build(tmp_path / "cube.zarr").built == [1]


def test_dead_scheduler_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Dask scheduler answers at nowhere"):
        build(tmp_path / "cube.zarr", execution=Execution(scheduler="nowhere"))
    assert not (tmp_path / "cube.zarr").exists()


def test_wrong_arrays_never_reach_the_disk(tmp_path: Path) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    with Lease(storage) as lease:
        store = PatchStore.begin(storage, describe_cube(2), location_names(2))
        locations: Sequence[LocationPatches] = [
            SyntheticSource().read_location(name) for name in location_names(2)
        ]
        arrays = assemble_batch(store.layout, locations, 2).arrays
        arrays["epsg"] = arrays["epsg"].astype(np.int64)
        with pytest.raises(ValueError, match="epsg is int64"):
            store.write_batch(0, arrays, lease_token=lease.token)
        del arrays["epsg"]
        with pytest.raises(ValueError, match="epsg"):
            store.write_batch(0, arrays, lease_token=lease.token)
        assert store.pending_batches() == [0]
        assert not storage.list_sizes("s2_l1c_10m/c")
