"""Damage done on purpose, and what the audit says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from groundwork.errors import InputError
from pipeline.build.builder import build_cube
from pipeline.cube.audit import audit_cube, unmark_damaged
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from storage_schema.land_cover import LabelStatus
from storage_schema.status import StatusReason
from tests.synthetic import SyntheticSource, describe_cube, location_names

NUM_LOCATIONS = 6


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "cube.zarr"
    storage = ObjectStorage(folder)
    names = location_names(NUM_LOCATIONS)
    build_cube(storage, describe_cube(NUM_LOCATIONS), names, lambda _: SyntheticSource())
    seal_cube(storage)
    return folder


@pytest.fixture
def cube(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "cube.zarr"))


def findings(cube: Path, **options: Any) -> list[str]:
    return [str(violation) for violation in audit_cube(ObjectStorage(cube), **options).violations]


def shard(cube: Path, name: str, batch: int) -> Path:
    (path,) = (p for p in (cube / name / "c" / str(batch)).rglob("*") if p.is_file())
    return path


def change(cube: Path, edit: Callable[[Any], None]) -> None:
    edit(zarr.open_group(LocalStore(cube), mode="r+", use_consolidated=False))


def test_sound_cube_passes(sealed: Path) -> None:
    result = audit_cube(ObjectStorage(sealed))
    assert result.violations == []
    assert result.passed
    assert result.batches_read == [0, 1, 2]


def test_truncated_shard_is_named_with_array_batch_and_locations(cube: Path) -> None:
    path = shard(cube, "s2_l1c_10m", 1)
    path.write_bytes(path.read_bytes()[:-1000])
    found = findings(cube)
    assert found
    for finding in found:
        assert finding.startswith("s2_l1c_10m, batch 1 (locations 0000002 to 0000003): expected")


def test_flipped_byte_is_named_with_array_batch_location_and_season(cube: Path) -> None:
    """Every patch has a checksum of its own, so one bad byte names one patch."""
    path = shard(cube, "s2_l1c_20m", 2)
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(content)
    named = [f for f in findings(cube) if f.startswith("s2_l1c_20m, batch 2, location")]
    assert len(named) == 1
    assert "season" in named[0]
    assert "expected readable bytes" in named[0]


@pytest.mark.parametrize("name", ["cloud_percentage", "acquisition_id"])
def test_flipped_byte_in_a_small_array_is_found(cube: Path, name: str) -> None:
    path = shard(cube, name, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)
    assert any(name in finding and "batch 0" in finding for finding in findings(cube))


def test_marker_without_data_is_found(cube: Path) -> None:
    shutil.rmtree(cube / "dynamic_world_label" / "c" / "0")
    assert findings(cube) == [
        "dynamic_world_label, batch 0 (locations 0000000 to 0000001): expected "
        f"dynamic_world_label/c/0/0/0/0 of {shard_size(cube)} bytes, found nothing"
    ]


def shard_size(cube: Path) -> int:
    marker = json.loads((cube / "batches" / "000000.json").read_text())
    return int(marker["objects"]["dynamic_world_label/c/0/0/0/0"])


def test_data_without_marker_is_found(cube: Path) -> None:
    (cube / "batches" / "000001.json").unlink()
    assert any("batch 1" in f and "a completion marker" in f for f in findings(cube))


def test_another_season_s_dynamic_world_id_is_found(cube: Path) -> None:
    def edit(group: Any) -> None:
        ids = group["acquisition_id"][:]
        ids[3, 0, 3] = ids[3, 1, 3]
        group["acquisition_id"][:] = ids

    change(cube, edit)
    assert (
        "acquisition_id of dynamic_world, batch 1, location 0000003, season 0: expected that of "
        "s2_l1c, S2_0000003_0, found S2_0000003_1"
    ) in findings(cube)


def test_hidden_difference_between_l1c_and_l2a_is_found(cube: Path) -> None:
    def edit(group: Any) -> None:
        ids = group["acquisition_id"][:]
        ids[0, 0, 1] = "another"
        group["acquisition_id"][:] = ids

    change(cube, edit)
    assert any(
        f.startswith("status_reason of s2_l2a, batch 0, location 0000000, season 0: expected acq")
        for f in findings(cube)
    )


def test_flag_without_difference_is_found(cube: Path) -> None:
    change(
        cube,
        lambda group: group["status_reason"].set_basic_selection(
            (0, 0, 1), StatusReason.ACQUISITION_DIFFERS
        ),
    )
    assert any("found acquisition_differs" in f for f in findings(cube))


@pytest.mark.parametrize(
    ("name", "at", "value", "finding"),
    [
        ("class_fraction", (0, 0, 0), 0.9, "fractions that sum to 1"),
        ("class_present", (0, 0, 0), 255, "class_present, batch 0, location 0000000, season 0"),
        ("label_status", (0, 0), LabelStatus.EMPTY_LIST, "255: it is not labelled"),
        ("label_status", (0, 0), 77, "label_status, batch 0, location 0000000, season 0"),
        ("valid_fraction", (0, 0, 0), 0.25, "valid_fraction of s2_l1c, batch 0"),
        ("patch_status", (0, 0, 0), 2, "no pixels: it is not complete"),
        ("patch_status", (0, 0, 0), 0, "an outcome, found pending"),
        ("patch_status", (0, 0, 0), 9, "a status, found 9"),
        ("status_reason", (0, 0, 0), 99, "a reason, found 99"),
        ("epsg", (0,), 4326, "a UTM zone of WGS 84, found 4326"),
        ("acquisition_time", (0, 0, 0), -(2**63), "a time, found none"),
    ],
)
def test_contradiction_is_found(
    cube: Path, name: str, at: tuple[int, ...], value: float, finding: str
) -> None:
    change(cube, lambda group: group[name].set_basic_selection(at, value))
    assert any(finding in found for found in findings(cube)), findings(cube)


def test_implausible_and_unknown_values_are_found(cube: Path) -> None:
    def edit(group: Any) -> None:
        group["s1_grd"][0, 0, 0, 100, 100] = 20000
        group["dynamic_world_label"][0, 0, 100, 100] = 77

    change(cube, edit)
    found = findings(cube)
    assert any("s1_grd" in f and "found 20000" in f for f in found)
    assert any("dynamic_world_label" in f and "found 77" in f for f in found)


def test_fractions_that_are_not_those_of_the_map_are_found(cube: Path) -> None:
    def edit(group: Any) -> None:
        group["class_fraction"][0, 0] = np.eye(9, dtype=np.float32)[0]

    change(cube, edit)
    assert any(f.startswith("class_fraction of dynamic_world, batch 0") for f in findings(cube))


def test_changed_attribute_of_a_sealed_cube_is_found(cube: Path) -> None:
    text = (cube / "zarr.json").read_text()
    (cube / "zarr.json").write_text(text.replace("time order", "something else"))
    assert any(f.startswith("cube attribute digest: expected") for f in findings(cube))


def test_lost_or_foreign_patch_table_is_found(cube: Path) -> None:
    (cube / "patches.parquet").unlink()
    assert findings(cube) == [
        "patches.parquet: expected the table of patches, found nothing: seal the cube again"
    ]
    (cube / "patches.parquet").write_bytes(b"PAR1 no table PAR1")
    assert any(f.startswith("patches.parquet: expected a readable table") for f in findings(cube))


def test_flipped_byte_in_the_patch_table_is_found_and_sealing_again_mends_it(cube: Path) -> None:
    content = bytearray((cube / "patches.parquet").read_bytes())
    content[600] ^= 0x01
    (cube / "patches.parquet").write_bytes(content)
    assert any("the bytes that were sealed" in finding for finding in findings(cube))
    seal_cube(ObjectStorage(cube))
    assert findings(cube) == []


def test_damaged_batches_can_be_unmarked_and_built_again(cube: Path) -> None:
    for name, batch in (("s2_l1c_10m", 1), ("relative_orbit", 2)):
        path = shard(cube, name, batch)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)
    storage = ObjectStorage(cube)
    result = audit_cube(storage)
    assert result.damaged_batches == {1, 2}
    assert unmark_damaged(storage, result) == [1, 2]
    names = location_names(NUM_LOCATIONS)
    build_cube(storage, describe_cube(NUM_LOCATIONS), names, lambda _: SyntheticSource())
    assert findings(cube, all_batches=True) == []


def test_damaged_location_ids_are_a_finding(cube: Path) -> None:
    path = cube / "location_id" / "c" / "0"
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.write_bytes(content)
    (finding,) = findings(cube)
    assert finding.startswith("location_id: expected readable bytes")


def test_structure_is_judged_before_contents(cube: Path) -> None:
    shutil.rmtree(cube / "s1_grd")
    assert any(f == "s1_grd: expected an array, found nothing" for f in findings(cube))


def test_damaged_root_is_a_finding_and_a_missing_one_a_sentence(cube: Path, tmp_path: Path) -> None:
    text = (cube / "zarr.json").read_text()
    (cube / "zarr.json").write_text(text.replace('"locations_per_batch": 2', '"locations": 2'))
    assert any("locations_per_batch" in finding for finding in findings(cube))
    with pytest.raises(InputError, match="there is no cube"):
        audit_cube(ObjectStorage(tmp_path / "nothing"))


def test_unsealed_and_unfinished_cubes_can_be_audited(tmp_path: Path) -> None:
    storage = ObjectStorage(tmp_path / "cube.zarr")
    build_cube(storage, describe_cube(4), location_names(4), lambda _: SyntheticSource())
    assert audit_cube(storage).passed
    storage.delete(["batches/000000.json"])
    (finding,) = audit_cube(storage).violations
    assert "run the build command again" in str(finding)


def test_spread_of_batches_is_read_unless_all_are_asked_for(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cube.audit.BATCHES_LOOKED_INTO", 2)
    assert audit_cube(ObjectStorage(sealed)).batches_read == [0, 2]
    assert audit_cube(ObjectStorage(sealed), all_batches=True).batches_read == [0, 1, 2]
