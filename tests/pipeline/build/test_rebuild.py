"""Rebuilds over real HTTP, with the unmodified client, from an emulator that fails on demand."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml
import zarr

from earth_engine_emulator.faults import FaultSettings, Probabilities
from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from groundwork.errors import InputError
from pipeline.cube.audit import audit_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from storage_schema.status import PatchStatus, StatusReason
from tests.pipeline.rebuilding import FEW_PRODUCTS, configuration, digest_of, rebuild

pytestmark = [
    pytest.mark.server,
    # rasterio silences its own warning in a way that threads undo for each other.
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

RECOVERABLE = [kind for kind in Probabilities.model_fields if kind != "image_disappears"]


IMPATIENT = {"first_pause_s": 0.05, "longest_pause_s": 0.5}


def faults(share: float, *kinds: str, seed: int = 0) -> EmulatorSettings:
    probabilities = Probabilities(**dict.fromkeys(kinds, share))
    settings = FaultSettings(seed=seed, probabilities=probabilities, stall_s=20)
    return EmulatorSettings(faults=settings)


def statistics(url: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/emulator/statistics", timeout=10).json()
    return found


def arrays(cube: Path) -> zarr.Group:
    return zarr.open_group(cube, mode="r")


def test_a_rebuilt_cube_is_whole_and_explained(rebuilt_cube: Path) -> None:
    storage = ObjectStorage(str(rebuilt_cube))
    assert audit_cube(storage, all_batches=True).violations == []
    group = arrays(rebuilt_cube)
    status = np.asarray(group["patch_status"])
    assert (status == PatchStatus.COMPLETE).sum() > 0.7 * status.size
    assert not np.isin(status, [PatchStatus.PENDING, PatchStatus.FAILED]).any()
    # Every patch that is missing says why, and every image that was not taken is counted.
    reason = np.asarray(group["status_reason"])
    assert (reason[status != PatchStatus.COMPLETE] != StatusReason.NONE).all()
    markers = PatchStore.open(storage).read_markers()
    assert len(markers) == 2
    assert all(marker and marker.counts["images_ranked_lower"] > 0 for marker in markers)
    # The three Sentinel-2 products are one acquisition, on its tile's 60 m lattice.
    ids = np.asarray(group["acquisition_id"])
    s2 = ids[..., [0, 1, 3]][status[..., 0] == PatchStatus.COMPLETE]
    assert (s2 == s2[:, :1]).all()
    located = np.asarray(group["epsg"]) > 0
    assert (np.asarray(group["x_origin"])[located] % 60 == 0).all()


@pytest.mark.slow
def test_requests_stay_near_one_per_season(simulated_emulator: str, tmp_path: Path) -> None:
    before = statistics(simulated_emulator)["requests"]
    summary = rebuild(simulated_emulator, tmp_path / "cube.zarr", 32, locations_per_batch=32)
    sent = statistics(simulated_emulator)["requests"] - before
    # Discovery, twice, and the list of algorithms belong to the start of a process.
    assert sent - summary.ledger.num_requests <= 3
    assert summary.ledger.requests["listing"] == 2
    assert summary.ledger.num_requests / 32 <= 4.2
    assert summary.ledger.outcomes == {"answered": summary.ledger.num_requests}


def test_the_ledger_counts_what_the_server_counts(simulated_emulator: str, tmp_path: Path) -> None:
    requests.post(f"{simulated_emulator}/emulator/statistics/reset", timeout=10)
    summary = rebuild(simulated_emulator, tmp_path / "cube.zarr", 2)
    found = statistics(simulated_emulator)
    kinds = found["requests_by_kind"]
    assert summary.ledger.requests["pixels"] == kinds["computePixels"]
    assert summary.ledger.requests["listing"] == kinds["value:compute"]
    assert 0 < summary.ledger.compute_s < 60
    pixels_only = summary.ledger.bytes_received
    assert 0.5 * found["bytes_out"] < pixels_only <= found["bytes_out"]
    (record,) = (tmp_path / "cube.zarr" / "provenance" / "requests").iterdir()
    assert json.loads(record.read_text())["requests"] == dict(summary.ledger.requests)


@pytest.mark.distributed
def test_same_bytes_whatever_the_workers_and_the_listing(
    simulated_emulator: str, rebuilt_cube: Path, tmp_path: Path
) -> None:
    rebuild(
        simulated_emulator,
        tmp_path / "two.zarr",
        execution={"dask": "processes", "workers": 2},
        earth_engine={"locations_per_listing": 3},
    )
    assert digest_of(rebuilt_cube) == digest_of(tmp_path / "two.zarr")


@pytest.fixture(scope="session")
def calm_digest(simulated_emulator: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a cube of four locations, rebuilt without a fault."""
    cube = tmp_path_factory.mktemp("calm") / "cube.zarr"
    rebuild(simulated_emulator, cube, 4, **FEW_PRODUCTS)
    return digest_of(cube)


@pytest.mark.parametrize(
    ("share", "kinds"),
    [
        (0.05, RECOVERABLE),
        *(pytest.param(0.35, [kind], marks=pytest.mark.slow) for kind in RECOVERABLE),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) and len(value) == 1 else None,
)
def test_no_recoverable_fault_changes_a_byte(
    calm_digest: str, tmp_path: Path, share: float, kinds: list[str]
) -> None:
    with emulator_in_process(faults(share, *kinds)) as emulator:
        summary = rebuild(
            emulator.url,
            tmp_path / "cube.zarr",
            4,
            earth_engine={"limits": {"read_timeout_s": 2.0, **IMPATIENT}},
            **FEW_PRODUCTS,
        )
    assert summary.ledger.outcomes.total() > summary.ledger.outcomes["answered"]
    assert digest_of(tmp_path / "cube.zarr") == calm_digest


@pytest.mark.slow
@pytest.mark.distributed
def test_an_image_that_disappears_gives_way_to_the_next(
    simulated_emulator: str, tmp_path: Path
) -> None:
    rebuild(simulated_emulator, tmp_path / "calm.zarr", locations_per_batch=2)
    digests = []
    with emulator_in_process(faults(0.3, "image_disappears")) as emulator:
        four: dict[str, Any] = {"dask": "processes", "workers": 4}
        for name, execution in (("first", {"dask": "threads"}), ("second", four)):
            summary = rebuild(
                emulator.url,
                tmp_path / f"{name}.zarr",
                locations_per_batch=2,
                execution=execution,
            )
            assert summary.counts["images_disappeared"] > 0
            digests.append(digest_of(tmp_path / f"{name}.zarr"))
    assert digests[0] == digests[1] != digest_of(tmp_path / "calm.zarr")
    calm, left = arrays(tmp_path / "calm.zarr"), arrays(tmp_path / "first.zarr")
    status = np.asarray(left["patch_status"])
    assert not (status == PatchStatus.FAILED).any()
    taken, before = np.asarray(left["acquisition_id"]), np.asarray(calm["acquisition_id"])
    changed = (taken != before) & (status == PatchStatus.COMPLETE)
    assert changed.any()


def test_service_that_never_answers_leaves_batches_pending(
    simulated_emulator: str, calm_digest: str, tmp_path: Path
) -> None:
    cube = tmp_path / "cube.zarr"
    with emulator_in_process(faults(1.0, "internal_error")) as emulator:
        summary = rebuild(
            emulator.url,
            cube,
            4,
            earth_engine={"limits": {"deadline_s": 1.0, **IMPATIENT}},
            **FEW_PRODUCTS,
        )
    assert list(summary.failures) == [0]
    assert "gave no answer within 1 s" in summary.failures[0]
    assert summary.counts == {}
    assert PatchStore.open(ObjectStorage(str(cube))).pending_batches() == [0]
    # What was asked for in vain is in the ledger all the same.
    assert summary.ledger.num_requests > 1
    rebuild(simulated_emulator, cube, 4, **FEW_PRODUCTS)
    assert digest_of(cube) == calm_digest


def test_what_the_service_refused_is_fetched_again_on_request(
    simulated_emulator: str, tmp_path: Path
) -> None:
    plan: dict[str, Any] = {"num_locations": 4, "locations_per_batch": 1, **FEW_PRODUCTS}
    cube = tmp_path / "cube.zarr"
    with emulator_in_process(faults(0.6, "memory_limit", seed=3)) as emulator:
        first = rebuild(emulator.url, cube, **plan, earth_engine={"limits": IMPATIENT})
    assert first.built == [0, 1, 2, 3]
    failed = np.asarray(arrays(cube)["patch_status"]) == PatchStatus.FAILED
    hurt = np.flatnonzero(failed.any(axis=(1, 2))).tolist()
    assert 0 < len(hurt) < 4
    # Without being asked to, a rebuild leaves complete batches alone.
    assert rebuild(simulated_emulator, cube, **plan).built == []
    assert rebuild(simulated_emulator, cube, **plan, retry_failed=True).built == hurt
    rebuild(simulated_emulator, tmp_path / "calm.zarr", **plan)
    assert digest_of(cube) == digest_of(tmp_path / "calm.zarr")
    with pytest.raises(InputError, match="is sealed and does not change"):
        rebuild(simulated_emulator, cube, **plan, retry_failed=True)


def test_budget_stops_cleanly_and_the_next_run_continues(
    simulated_emulator: str, tmp_path: Path
) -> None:
    cube = tmp_path / "cube.zarr"
    plan: dict[str, Any] = {"num_locations": 8, "locations_per_batch": 2, **FEW_PRODUCTS}
    first = rebuild(
        simulated_emulator,
        cube,
        **plan,
        budget={"max_requests": 20},
        execution={"batches_at_once": 1},
    )
    assert first.stopped is not None
    assert "budget of 20 requests (budget.max_requests)" in first.stopped
    assert 0 < first.ledger.num_requests <= 20
    assert 0 < len(first.built) < 4
    again = rebuild(simulated_emulator, cube, **plan, budget={"max_requests": 20})
    assert again.stopped is not None
    assert again.ledger.num_requests <= 20 - first.ledger.num_requests
    last = rebuild(simulated_emulator, cube, **plan)
    assert last.stopped is None
    built = len(first.built) + len(again.built) + len(last.built)
    assert built == 4
    assert last.spent.num_requests >= first.ledger.num_requests + last.ledger.num_requests


def test_own_resampling_of_s1_agrees_with_the_service(
    simulated_emulator: str, tmp_path: Path
) -> None:
    for way in ("service", "dask"):
        summary = rebuild(
            simulated_emulator,
            tmp_path / f"{way}.zarr",
            2,
            products=["s1_grd"],
            acquisitions={"s1": {"reprojection": way}},
        )
        assert not summary.failures
    ours, theirs = (
        np.asarray(arrays(tmp_path / f"{way}.zarr")["s1_grd"]).astype(float)
        for way in ("dask", "service")
    )
    seen = (ours > -32768) & (theirs > -32768)
    assert seen.mean() > 0.4
    # GDAL and the service's emulator differ in how exactly they place a pixel: hundredths of dB.
    assert np.median(np.abs(ours - theirs)[seen]) <= 2
    assert np.quantile(np.abs(ours - theirs)[seen], 0.99) < 60
    attributes = arrays(tmp_path / "dask.zarr").attrs["settings"]
    assert attributes["reprojection"]["s1"].startswith("dask")  # type: ignore[index]


def test_replies_over_the_limit_are_asked_for_in_parts(
    simulated_emulator: str, tmp_path: Path
) -> None:
    whole = rebuild(simulated_emulator, tmp_path / "whole.zarr", 2)
    parts = rebuild(
        simulated_emulator,
        tmp_path / "parts.zarr",
        2,
        earth_engine={"limits": {"max_response_bytes": 3 * 2**20}},
    )
    assert parts.ledger.requests["pixels"] == 4 * whole.ledger.requests["pixels"]
    assert digest_of(tmp_path / "parts.zarr") == digest_of(tmp_path / "whole.zarr")


def test_too_few_seasons_leave_a_location_out(simulated_emulator: str, tmp_path: Path) -> None:
    seasons = {"reference_dates": ["2021-09-22", "2015-06-21"]}  # before the world begins
    settings = {"min_seasons": 2}
    summary = rebuild(
        simulated_emulator, tmp_path / "cube.zarr", 4, seasons=seasons, acquisitions=settings
    )
    assert summary.ledger.requests["pixels"] == 0
    reason = np.asarray(arrays(tmp_path / "cube.zarr")["status_reason"])
    assert np.isin(
        reason[:, 0],
        [
            StatusReason.TOO_FEW_SEASONS,
            StatusReason.OUTSIDE_FOOTPRINT,
            StatusReason.TOO_CLOUDY,
            StatusReason.NO_L2A,
            StatusReason.NO_DYNAMIC_WORLD,
            StatusReason.NO_IMAGE_IN_WINDOW,
        ],
    ).all()
    assert (reason[:, 0] == StatusReason.TOO_FEW_SEASONS).any()
    assert (reason[:, 1] == StatusReason.NO_IMAGE_IN_WINDOW).all()


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"project": "a..b"}, "refuses project"),
        (
            {
                "credentials": "service_account",
                "credentials_file": "absent.json",
                "endpoint": "https://127.0.0.1:9",
            },
            "absent.json does not exist",
        ),
    ],
)
def test_a_wrong_service_is_found_before_anything_is_written(
    simulated_emulator: str, tmp_path: Path, service: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        rebuild(simulated_emulator, tmp_path / "cube.zarr", 1, earth_engine=service)
    assert not (tmp_path / "cube.zarr").exists()


# --- kills --------------------------------------------------------------------------------------


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "flows", "rebuild", str(config), "--json", *more]


def rebuild_with_kills(
    config: Path, num_kills: int, rng: random.Random, seconds: float
) -> tuple[int, int]:
    """Run the command to its end, killed now and then; return kills and requests answered."""
    kills = 0
    while True:
        process = subprocess.Popen(
            command(config),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_s = rng.uniform(2.0, seconds) if kills < num_kills else 1800
        try:
            output, errors = process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            # The command and, with it, its Dask workers: as a machine that loses its power.
            for one in _session(process.pid):
                one.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, errors
        if kills >= num_kills or "nothing to do" in output or not json.loads(output)["built"]:
            return kills, json.loads(output)["budget_of_all_runs"]["outcomes"].get("answered", 0)


def _session(pid: int) -> list[Any]:
    import psutil

    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("num_locations", "num_kills", "per_batch", "seconds"),
    [
        pytest.param(24, 3, 2, 9, marks=pytest.mark.slow),
        pytest.param(256, 10, 8, 60, marks=pytest.mark.campaign),
    ],
)
def test_faults_and_kills_change_no_digest(
    tmp_path: Path, num_locations: int, num_kills: int, per_batch: int, seconds: float
) -> None:
    """One and four workers, in peace and under every fault with kills: four equal digests."""
    rng = random.Random(20261124)
    digests, told = {}, []
    for name, settings, kills in (
        ("calm", EmulatorSettings(), 0),
        ("rough", faults(0.05, *RECOVERABLE), num_kills),
    ):
        for workers in (1, 4):
            cube = tmp_path / f"{name}_{workers}.zarr"
            values = configuration(
                "",
                cube,
                num_locations,
                locations_per_batch=per_batch,
                execution={"dask": "processes" if workers > 1 else "threads", "workers": workers},
            )
            with emulator_in_process(settings) as emulator:
                values["earth_engine"] |= {
                    "endpoint": emulator.url,
                    "limits": {"read_timeout_s": 5.0},
                }
                config = tmp_path / f"{name}_{workers}.yaml"
                config.write_text(yaml.safe_dump(values))
                began = time.monotonic()
                killed, answered = rebuild_with_kills(config, kills, rng, seconds)
            report = audit_cube(ObjectStorage(str(cube)), all_batches=True)
            assert report.violations == []
            status = np.asarray(arrays(cube)["patch_status"])
            assert not np.isin(status, [PatchStatus.PENDING, PatchStatus.FAILED]).any()
            digests[name, workers] = digest_of(cube)
            told.append(
                f"{name}, {workers} workers: {killed} kills, {answered} answers, "
                f"{time.monotonic() - began:.0f} s"
            )
    sys.stdout.write("\n" + "\n".join(told) + "\n")
    assert len(set(digests.values())) == 1, digests
