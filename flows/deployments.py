"""What a Prefect server has to know: work pool, limits, automations, deployments.

The deployments are those of ``prefect.yaml`` in this folder; the rest has no place in that file.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import httpx
import yaml
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from groundwork.errors import InputError
from pipeline.errors import UnreachableError

WORK_POOL: Final = "softcon"
MOST_RUNS: Final = 4
"""Flow runs that a pool has under way at once, over all its workers."""
SILENT_S: Final = 60
"""A run without a heartbeat for so long has crashed: they come every 30 s (``prefect.yaml``)."""
_FILE: Final = Path(__file__).with_name("prefect.yaml")
_ENDS: Final = ("Completed", "Failed", "Cancelled", "Crashed", "AwaitingRetry", "Paused")


def register(defaults: Mapping[str, Mapping[str, Any]], working_dir: Path) -> list[str]:
    """Register everything, or bring it up to date; returns what, in words.

    Args:
        defaults: flow name -> its default parameters.
        working_dir: where runs start: relative paths of their settings count from here.

    Raises:
        InputError: no server is set, it refuses us, or a flow is unknown.
        UnreachableError: it does not answer.
    """
    address = PREFECT_API_URL.value()
    if not address:
        raise InputError(
            "no Prefect server is set: start one with `prefect server start`, then `prefect config "
            "set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    try:
        with get_client(sync_client=True) as client:
            client.create_work_pool(
                WorkPoolCreate(name=WORK_POOL, type="process", concurrency_limit=MOST_RUNS),
                overwrite=True,
            )
        done = [f"work pool {WORK_POOL}: {MOST_RUNS} runs at once"]
        for automation in automations():
            _put(automation)
            done.append(f"automation: {automation.name}")
    except httpx.TransportError as error:
        raise UnreachableError(
            f"no Prefect server answers at {address} ({error}): start it, or set PREFECT_API_URL"
        ) from error
    except PrefectHTTPStatusError as error:
        raise InputError(
            f"the Prefect server at {address} refuses ({error.response.status_code}): check "
            "PREFECT_API_AUTH_STRING"
        ) from error
    return done + _deploy(deployments(defaults, working_dir))


def deployments(
    defaults: Mapping[str, Mapping[str, Any]], working_dir: Path, file: Path = _FILE
) -> dict[str, Any]:
    """Return ``prefect.yaml`` with default parameters and working folder filled in.

    Raises:
        InputError: a flow has no deployment.
    """
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    left = dict(defaults)
    for one in found["deployments"]:
        flow_name = one["entrypoint"].rsplit(".", 1)[1].replace("_", "-")
        if flow_name in left:
            one["parameters"] = dict(left.pop(flow_name))
        else:
            one.pop("schedules", None)  # A schedule has nobody to ask for parameters.
        pool = one["work_pool"]
        one["work_pool"] = {
            **pool,
            "job_variables": {**pool["job_variables"], "working_dir": str(working_dir)},
        }
    if left:
        raise InputError(f"there is no flow {', '.join(left)}")
    return found


def automations() -> list[Automation]:
    """Return what keeps runs going: one for a crash, one for silence."""
    return [
        Automation(
            name="softcon: a crashed run is started again",
            description="Complete batches are not done again; see docs/operations.md.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                # Subflows are started again by their parents.
                match_related={
                    "prefect.resource.role": "deployment",
                    "prefect.resource.id": "prefect.deployment.*",
                },
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry")],
        ),
        Automation(
            name="softcon: a silent run has crashed",
            description=f"No heartbeat for {SILENT_S} s.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={
                    "prefect.flow-run.heartbeat",
                    *(f"prefect.flow-run.{end}" for end in _ENDS),
                },
                match={"prefect.resource.id": "prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=SILENT_S),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, message=f"No heartbeat for {SILENT_S} s."
                )
            ],
        ),
    ]


def _put(automation: Automation) -> None:
    with contextlib.suppress(ValueError):  # There is none of this name.
        cast("Automation", Automation.read(name=automation.name)).delete()
    automation.create()


def _deploy(description: Mapping[str, Any]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(dict(description), sort_keys=False), encoding="utf-8")
        command = ["-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, *command], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise InputError(f"prefect deploy failed: {said[-500:]}")
    return [
        f"deployment: {one['entrypoint'].rsplit('.', 1)[1].replace('_', '-')}/{one['name']}"
        for one in description["deployments"]
    ]
