"""From a sealed cube to batches: the right patches, in the right order, or a sentence."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.errors import InputError
from storage_schema.status import Split
from training.config import DataSettings
from training.errors import DamagedPatchError
from training.reading.patch_index import open_index, read_statistics
from training.reading.patch_reader import PatchReader, PatchRefs, arrays_of
from training.reading.sample_order import SampleOrder

MODALITIES = [("s2_l1c",), ("s2_l2a",), ("s1_grd",), ("s2_l1c", "s1_grd")]


def data(*cubes: object, **changes: object) -> DataSettings:
    return DataSettings.model_validate({"cubes": [str(cube) for cube in cubes], **changes})


@pytest.mark.parametrize("modality", MODALITIES, ids="+".join)
def test_every_pixel_is_what_xarray_reads(cube: str, modality: tuple[str, ...]) -> None:
    index = open_index(data(cube, modality=modality), Split.TRAIN)
    rows, seasons = np.nonzero(index.complete)
    batch = PatchReader(index, modality).read(PatchRefs(rows[:7], seasons[:7]))
    dataset = xr.open_zarr(cube, chunks=None, mask_and_scale=False)
    assert set(batch.pixels) == set(arrays_of(modality))
    for name, values in batch.pixels.items():
        for at in range(7):
            expected = dataset[name][int(index.location[rows[at]]), int(seasons[at])].to_numpy()
            np.testing.assert_array_equal(values[at].numpy(), expected)


def test_index_says_what_the_cube_says(cube: str) -> None:
    dataset = xr.open_zarr(cube, chunks=None)
    found = [open_index(data(cube, modality=["s2_l2a"]), split) for split in Split if split < 3]
    assert sum(len(index) for index in found) == 48 - 48 // 8
    for index in found:
        for row in range(len(index)):
            place = dataset.isel(location=int(index.location[row]))
            assert index.location_id[row] == str(place["location_id"].item())
            complete = place["patch_status"].sel(product="s2_l2a") == 1
            np.testing.assert_array_equal(index.complete[row], complete)
            np.testing.assert_array_equal(index.class_fraction[row], place["class_fraction"])


def test_unsealed_cubes_are_refused_or_read_alike(own_cube: Path, tmp_path: Path) -> None:
    import zarr

    sealed = open_index(data(own_cube), Split.TRAIN)
    growing = tmp_path / "growing.zarr"
    shutil.copytree(own_cube, growing)
    (growing / "patches.parquet").unlink()
    zarr.open_group(growing, mode="r+").attrs["sealed"] = False
    with pytest.raises(InputError, match=r"is not sealed.*data\.unsealed=true"):
        open_index(data(growing), Split.TRAIN)
    found = open_index(data(growing, unsealed=True), Split.TRAIN)
    for name in ("location", "complete", "class_fraction", "class_present", "labelled"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sealed, name))


def test_several_cubes_follow_each_other(cube: str, own_cube: Path) -> None:
    both = open_index(data(cube, own_cube), Split.TRAIN)
    alone = open_index(data(own_cube), Split.TRAIN)
    second = both.take(np.flatnonzero(both.cube == 1))
    assert second.location_id == alone.location_id
    rows, seasons = np.nonzero(second.complete)
    refs = PatchRefs(rows[:3], seasons[:3])
    ours = PatchReader(second, ["s1_grd"]).read(refs).pixels["s1_grd"]
    theirs = PatchReader(alone, ["s1_grd"]).read(refs).pixels["s1_grd"]
    torch.testing.assert_close(ours, theirs)


def test_class_threshold_decides_on_presence(cube: str) -> None:
    any_pixel, half = (
        open_index(data(cube, min_class_fraction=least), Split.TRAIN) for least in (0.0, 0.5)
    )
    np.testing.assert_array_equal(half.class_present, half.class_fraction > 0.5)
    assert (any_pixel.class_present & ~half.class_present).any()
    vectors, labelled = half.label_vectors(np.arange(3), np.zeros(3, int), fractions=True)
    np.testing.assert_allclose(vectors.sum(axis=1), 1.0, rtol=1e-6)
    assert labelled.all()


def test_statistics_are_published_or_pooled(cube: str, own_cube: Path) -> None:
    published = read_statistics(data(cube))
    assert published.bands[:2] == ("s2_l1c B1", "s2_l1c B2")
    assert published.mean[0] == 1605.58
    one, other, both = (
        read_statistics(data(*cubes, statistics="cube", modality=["s1_grd"]))
        for cubes in ((cube,), (own_cube,), (cube, own_cube))
    )
    for band in range(2):
        low, high = sorted((one.mean[band], other.mean[band]))
        assert low <= both.mean[band] <= high


@pytest.mark.server
def test_cubes_in_a_bucket_read_alike(cube: str, s3_endpoint: str, tmp_path: Path) -> None:
    from pipeline.cube.object_storage import ObjectStorage

    del s3_endpoint
    address = f"s3://cubes/{tmp_path.name}/cube.zarr"
    remote = ObjectStorage(address)
    for file in Path(cube).rglob("*"):
        if file.is_file():
            remote.write(file.relative_to(cube).as_posix(), file.read_bytes())
    local, far = (open_index(data(place), Split.TRAIN) for place in (cube, address))
    refs = PatchRefs(np.asarray([0, 1]), np.asarray([0, 0]))
    ours, theirs = (PatchReader(index, ["s2_l1c"]).read(refs).pixels for index in (local, far))
    for name, values in ours.items():
        torch.testing.assert_close(values, theirs[name])


# --- trouble --------------------------------------------------------------------------------------


def damage(cube: Path, array: str) -> None:
    # The first shard holds locations of the train split; a folder's own order is any order.
    shard = min(file for file in (cube / array / "c").rglob("*") if file.is_file())
    content = bytearray(shard.read_bytes())
    content[100:200] = bytes(100)
    shard.write_bytes(bytes(content))


def test_damaged_chunk_is_named_or_skipped(own_cube: Path) -> None:
    index = open_index(data(own_cube), Split.TRAIN)
    damage(own_cube, "s2_l1c_20m")
    rows, seasons = np.nonzero(index.complete)
    refs = PatchRefs(rows, seasons)
    with pytest.raises(
        DamagedPatchError, match=r"s2_l1c_20m of location \d{7}, season \d cannot be read"
    ):
        PatchReader(index, ["s2_l1c"]).read(refs)
    batch = PatchReader(index, ["s2_l1c"], skip_unreadable=True).read(refs)
    assert 0 < len(batch.skipped) < len(refs)
    assert len(batch.refs) == len(refs) - len(batch.skipped) == len(batch.pixels["s2_l1c_10m"])


def test_lost_shard_is_no_black_image(own_cube: Path) -> None:
    index = open_index(data(own_cube), Split.TRAIN)
    shutil.rmtree(own_cube / "s1_grd" / "c" / "0")
    with pytest.raises(DamagedPatchError, match="s1_grd of location 0000000"):
        PatchReader(index, ["s1_grd"]).read(PatchRefs(np.asarray([0]), np.asarray([0])))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cubes": ["absent.zarr"]}, "absent.zarr does not exist: check the address"),
        ({"cubes": ["https://x/y"]}, "only local folders and s3://bucket/prefix"),
        ({"modality": ["s1_grd", "s1_grd"]}, "have to differ"),
    ],
)
def test_wrong_cubes_are_one_sentence(cube: str, changes: dict, sentence: str) -> None:
    with pytest.raises((InputError, ValueError), match=sentence):
        open_index(DataSettings.model_validate({"cubes": [cube]} | changes), Split.TRAIN)


def test_a_folder_that_is_no_cube_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cube"):
        open_index(data(tmp_path), Split.TRAIN)


def test_readers_are_opened_in_the_process_that_reads(cube: str) -> None:
    index = pickle.loads(pickle.dumps(open_index(data(cube), Split.TRAIN)))
    batch = PatchReader(index, ["s1_grd"]).read(PatchRefs(np.asarray([0]), np.asarray([0])))
    assert batch.pixels["s1_grd"].shape == (1, 2, 264, 264)


# --- order ----------------------------------------------------------------------------------------


def order(num: int = 23, **changes: int) -> SampleOrder:
    rng = np.random.default_rng(0)
    complete = rng.random((num, 4)) < 0.6
    complete[:, 0] |= ~complete.any(axis=1)
    return SampleOrder(complete, **({"seed": 1, "batch_size": 4} | changes))


@settings(max_examples=30)
@given(seed=st.integers(0, 100), world=st.sampled_from([1, 2, 4]))
def test_ranks_share_an_epoch_without_overlap(seed: int, world: int) -> None:
    alone = order(seed=seed)
    ranks = [order(seed=seed, rank=rank, world_size=world) for rank in range(world)]
    seen = []
    for step in range(alone.steps_per_epoch):
        rows = np.concatenate([rank.patches(step).rows for rank in ranks])
        np.testing.assert_array_equal(rows, alone.patches(step).rows)
        seen += rows.tolist()
    assert len(set(seen)) == len(seen) == alone.steps_per_epoch * 4


def test_any_step_can_be_asked_for_and_seasons_differ_where_they_can() -> None:
    first = [order().patches(step) for step in range(12)]
    again = [order().patches(step) for step in reversed(range(12))][::-1]
    complete = order().complete
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.first, other.first)
        np.testing.assert_array_equal(one.second, other.second)
        assert complete[one.rows, one.first].all()
        assert complete[one.rows, one.second].all()
        several = complete[one.rows].sum(axis=1) > 1
        assert ((one.first != one.second) == several).all()
    epochs = [np.concatenate([order().patches(5 * e + s).rows for s in range(5)]) for e in (0, 1)]
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_prefetch_depth_changes_nothing(cube: str, ahead: int) -> None:
    index = open_index(data(cube), Split.TRAIN)
    plan = SampleOrder(index.complete, 0, 4)
    reader = PatchReader(index, ["s1_grd"])
    wanted = (
        ([PatchRefs(p.rows, p.first)], step) for step in range(5) for p in [plan.patches(step)]
    )
    for expected, ((batch,), step) in enumerate(reader.prefetch(wanted, ahead)):
        assert step == expected
        patches = plan.patches(step)
        direct = reader.read(PatchRefs(patches.rows, patches.first))
        torch.testing.assert_close(batch.pixels["s1_grd"], direct.pixels["s1_grd"])
