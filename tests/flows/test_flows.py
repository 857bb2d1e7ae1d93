"""Flows against a real Prefect server of this process's own, and the emulator."""

from __future__ import annotations

import contextlib
import gc
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from pydantic import ValidationError

from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from flows.artifacts import artifact_key, ledger_page
from flows.building import groups_of
from flows.deployments import deployments
from flows.full_rebuild import full_rebuild
from flows.import_dataset import ImportSettings, import_dataset
from flows.pretrain_backbone import pretrain_backbone
from flows.rebuild_dataset import rebuild_dataset
from flows.seal_and_audit import seal_and_audit
from flows.states import PARTIAL, PAUSES_S
from groundwork.errors import InputError
from pipeline.cube.inspection import inspect_cube
from pipeline.cube.lease import LEASE_KEY
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.ledger import Ledger
from pipeline.sources.earth_engine.settings import RebuildSettings
from tests.pipeline.rebuilding import FEW_PRODUCTS, configuration, digest_of
from training.config import RunSettings, parse_run_settings

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
NUM_LOCATIONS = 8


@pytest.fixture(scope="module", autouse=True)
def _prefect(_loopback_without_proxy: None) -> Iterator[None]:
    # Prefect's server takes seconds to import: not for the workers that only collect this module.
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        with prefect_test_harness(server_startup_timeout=120):
            yield
    with warnings.catch_warnings():
        # What Prefect leaves open must not be found in another module's test.
        warnings.simplefilter("ignore")
        gc.collect()


def settings_of(url: str, cube: Path | str, **changes: Any) -> RebuildSettings:
    return RebuildSettings.model_validate(configuration(url, cube, NUM_LOCATIONS, **changes))


def artifacts(kind: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        return [a for a in client.read_artifacts() if str(a.key).startswith(kind)]


def test_a_rebuild_is_that_of_the_command_line(
    simulated_emulator: str, rebuilt_cube: Path, tmp_path: Path
) -> None:
    cube = tmp_path / "cube.zarr"
    settings = settings_of(simulated_emulator, cube)
    state = rebuild_dataset(settings, pilot=1, batches_per_task=1, return_state=True)
    assert (state.name, state.message) == ("Completed", None)
    assert seal_and_audit(str(cube), every_batch=True, return_state=True).is_completed()
    assert digest_of(cube) == digest_of(rebuilt_cube)
    assert b"<html" in (ObjectStorage(str(cube)).read("provenance/report.html") or b"")
    assert artifacts("progress-")[-1].data == 100
    assert "requests" in artifacts("budget-")[-1].data
    assert "s2_l1c" in artifacts("statuses-")[-1].data
    assert "pilot" in artifacts("forecast-")[-1].data
    assert artifacts("report-")


def test_a_budget_ends_a_run_as_partial_and_the_next_run_goes_on(
    simulated_emulator: str,
    tmp_path: Path,
) -> None:
    settings = settings_of(
        simulated_emulator, tmp_path / "cube.zarr", locations_per_batch=1, **FEW_PRODUCTS
    )
    frugal = settings.model_copy(
        update={"budget": settings.budget.model_copy(update={"max_requests": 20})}
    )
    state = rebuild_dataset(frugal, return_state=True)
    assert state.is_completed()
    assert state.name == PARTIAL
    assert "budget of 20 requests" in str(state.message)
    pending = PatchStore.open(ObjectStorage(settings.cube)).pending_batches()
    assert 0 < len(pending) < NUM_LOCATIONS
    assert rebuild_dataset(settings, return_state=True).name == "Completed"
    assert inspect_cube(ObjectStorage(settings.cube)).pending_batches == 0


def test_a_service_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    settings = settings_of(
        address, tmp_path / "cube.zarr", locations={"num_locations": 2}, **FEW_PRODUCTS
    )
    with contextlib.ExitStack() as stack:
        # The service comes back during the first pause.
        monkeypatch.setattr(
            "flows.states.sleep",
            lambda _s: stack.enter_context(emulator_in_process(EmulatorSettings(), port=port)),
        )
        state = rebuild_dataset(settings, return_state=True)
    assert state.name == "Completed", state.message


def test_a_service_that_stays_away_ends_the_run_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("flows.states.sleep", pauses.append)
    service = {"endpoint": "http://127.0.0.1:9", "limits": {"first_pause_s": 0.01}}
    settings = settings_of("", tmp_path / "cube.zarr", earth_engine=service)
    state = rebuild_dataset(settings, return_state=True)
    assert state.is_failed()
    assert "cannot be reached" in str(state.message)
    assert pauses == list(PAUSES_S)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cube": "gs://bucket/cube"}, "only local folders and s3://bucket/prefix"),
        (
            {
                "earth_engine": {
                    "credentials": "service_account",
                    "credentials_file": "nowhere.json",
                }
            },
            "nowhere.json does not exist",
        ),
    ],
)
def test_what_no_second_try_mends_fails_at_once_with_its_sentence(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    values = configuration("https://127.0.0.1:9", tmp_path / "cube.zarr", NUM_LOCATIONS)
    for name, value in change.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    state = rebuild_dataset(RebuildSettings.model_validate(values), return_state=True)
    assert state.is_failed()
    assert sentence in str(state.message)
    assert not (tmp_path / "cube.zarr").exists()


def test_one_rebuild_per_cube_at_a_time(
    simulated_emulator: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.cube.lease import Lease

    cube = tmp_path / "cube.zarr"
    monkeypatch.setattr("pipeline.cube.lease.LEASE_S", 4.0)
    settings = settings_of(simulated_emulator, cube)
    with Lease(ObjectStorage(str(cube)), lease_s=0.4):
        state = rebuild_dataset(settings, return_state=True)
    assert state.is_failed()
    assert "is being built by process" in str(state.message)
    assert ObjectStorage(str(cube)).read(LEASE_KEY)


def test_parameters_make_a_form_with_descriptions_and_bounds() -> None:
    schema = rebuild_dataset.parameters.model_dump()
    settings = schema["definitions"]["RebuildSettings"]["properties"]
    assert settings["cube"]["description"].startswith("folder or s3://bucket/prefix")
    budget = schema["definitions"]["BudgetSettings"]["properties"]["max_requests"]
    assert "requests to the service" in budget["description"]
    cloud = schema["definitions"]["AcquisitionSettings"]["properties"]["max_cloud_percentage"]
    assert (cloud["minimum"], cloud["maximum"]) == (0, 100)
    # Prefect's form shows no other bounds.
    assert cloud["description"].endswith("percent. [at least 0, at most 100]")
    assert schema["properties"]["pilot"]["maximum"] == 1000


@pytest.mark.parametrize("model", [RebuildSettings, RunSettings, ImportSettings])
def test_every_setting_of_a_form_is_described(model: type[RebuildSettings]) -> None:
    schema = model.model_json_schema()
    for name, part in {**schema.get("$defs", {}), "": schema}.items():
        for field, about in part.get("properties", {}).items():
            assert about.get("description"), f"{name}.{field}"


def test_the_chain_asks_for_the_cube_it_builds(tmp_path: Path) -> None:
    training = parse_run_settings(
        {"preset": "tiny", "out": str(tmp_path / "run"), "data": {"cubes": ["other.zarr"]}}, "test"
    )
    dataset = settings_of("http://127.0.0.1:9", tmp_path / "cube.zarr")
    state = full_rebuild(dataset, training, return_state=True)
    assert state.is_failed()
    assert "does not name the cube" in str(state.message)


def test_an_import_is_resumed(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "ssl4eo_s12_sample"
    settings = ImportSettings(root=str(root), cube=str(tmp_path / "cube.zarr"))
    assert import_dataset(settings, return_state=True).name == "Completed"
    assert import_dataset(settings, return_state=True).name == "Completed"
    assert inspect_cube(ObjectStorage(settings.cube)).pending_batches == 0


def test_training_says_what_is_wrong_in_its_own_words(tmp_path: Path) -> None:
    settings = parse_run_settings(
        {"preset": "tiny", "out": str(tmp_path / "run"), "data": {"cubes": ["nowhere.zarr"]}},
        "test",
    )
    state = pretrain_backbone(settings, return_state=True)
    assert state.is_failed()
    assert "nowhere.zarr" in str(state.message)
    assert "Traceback" not in str(state.message)


# --- decisions without a server -------------------------------------------------------------------


def test_groups_are_consecutive_and_whole() -> None:
    assert list(groups_of([0, 2, 3, 7, 9], 2)) == [[0, 2], [3, 7], [9]]
    assert list(groups_of([], 2)) == []


def test_keys_of_artifacts_are_ones_that_prefect_takes() -> None:
    assert artifact_key("report", "s3://Bucket/some_cube.zarr/") == (
        "report-s3-bucket-some-cube-zarr"
    )


def test_a_ledger_shows_this_run_beside_all_runs() -> None:
    now, ever = Ledger(num_locations=2), Ledger(num_locations=5, bytes_received=1234567)
    page = ledger_page(now, ever)
    assert "| locations paid for | 2 | 5 |" in page
    assert "1,234,567" in page


def test_deployments_take_defaults_and_unknown_flows_are_refused(tmp_path: Path) -> None:
    found = deployments({"rebuild-dataset": {"settings": {"cube": "x"}}}, tmp_path)
    first, second = found["deployments"][0], found["deployments"][-1]
    assert first["parameters"] == {"settings": {"cube": "x"}}
    assert first["schedules"][0]["active"] is False
    assert first["work_pool"]["job_variables"]["working_dir"] == str(tmp_path)
    assert "schedules" not in second  # Nobody would give it parameters.
    with pytest.raises(InputError, match="there is no flow rebuild"):
        deployments({"rebuild": {}}, tmp_path)


def test_a_form_refuses_what_the_command_line_refuses() -> None:
    with pytest.raises(ValidationError, match="max_requests"):
        RebuildSettings.model_validate({"budget": {"max_requests": 0}})
