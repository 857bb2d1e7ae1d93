"""A deployment run, with everything killed around it that can be killed.

Each service once, then five times; network faults on top. The seed is printed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.budget import read_ledgers
from pipeline.cube.audit import audit_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from tests.flows.stack import Stack, running_stack
from tests.pipeline.rebuilding import configuration, digest_of, rebuild

SEED = 20261124
NUM_BATCHES = 12
TARGETS = (
    "dask-worker-0",
    "flow",
    "prefect-worker",
    "server",
    "postgres",
    "store",
    "emulator",
)
FAULTS = {
    "seed": SEED,
    "latency": {"distribution": "uniform", "least_s": 0.0, "most_s": 0.2},
    "probabilities": {
        "too_many_requests": 0.02,
        "unavailable_html": 0.02,
        "dropped_connection": 0.02,
        "truncated_body": 0.02,
    },
}
RUN_TIMEOUT_S = 900
STAYS_CRASHED_S = 120
"""A server that dies between a crash and the automation forgets it: then the next start goes on."""
ENDS = {"COMPLETED", "FAILED", "CANCELLED"}

pytestmark = [pytest.mark.server, pytest.mark.distributed]


@pytest.mark.parametrize(
    "num_kills",
    [
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(5, marks=pytest.mark.campaign),
    ],
)
def test_a_rebuild_survives_everything_around_it(
    tmp_path: Path, num_kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(SEED)
    with running_stack(tmp_path, FAULTS) as stack:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, stack.environment[name])
        monkeypatch.setenv("AWS_ENDPOINT_URL", stack.environment["AWS_ENDPOINT_URL"])
        monkeypatch.setenv("NO_PROXY", stack.environment["NO_PROXY"])
        targets = [name for name in TARGETS if name == "flow" or name in stack.services]
        # The store makes a bucket with its first object.
        ObjectStorage("s3://cubes").write("made", b"")
        calm = tmp_path / "calm.zarr"
        rebuild(stack.emulator_url, calm, NUM_BATCHES * 2, locations_per_batch=2)
        expected = digest_of(calm)
        left = Counter(dict.fromkeys(targets, num_kills))
        runs = starts = 0
        while left.total():
            cube = f"s3://cubes/run-{runs}.zarr"
            starts += run_with_kills(stack, cube, left, rng)
            storage = ObjectStorage(cube)
            assert seal_cube(storage).digest == expected, f"seed {SEED}, run {runs}"
            assert audit_cube(storage, all_batches=True).violations == []
            check_ledger(cube)
            runs += 1
        assert stack.flow_processes() == []
    sys.stdout.write(
        f"\nseed {SEED}: {num_kills} kills of each of {', '.join(targets)}; {runs} runs of "
        f"{NUM_BATCHES} batches in {starts} starts; losses 0\n"
    )


def run_with_kills(stack: Stack, cube: str, left: Counter[str], rng: random.Random) -> int:
    """Run the deployment to a complete cube while services die; returns the starts it took."""
    settings = configuration(
        stack.emulator_url,
        cube,
        NUM_BATCHES * 2,
        locations_per_batch=2,
        execution={"dask": stack.scheduler},
    )
    parameters = json.dumps({"settings": settings, "batches_per_task": 3})
    for start in range(1, 10):
        run = retried(
            stack, "prefect", "deployment", "run", "rebuild-dataset/local", "--params", parameters
        )
        run_id = next(word for word in run.split() if len(word) == 36 and word.count("-") == 4)
        state = follow(stack, run_id, left, rng)
        if state["type"] == "COMPLETED":
            return start
    raise AssertionError(f"{cube} is not done after {start} starts: {state}")


def follow(stack: Stack, run_id: str, left: Counter[str], rng: random.Random) -> dict[str, Any]:
    """Kill one service after the other while a run goes, until it has ended by itself."""
    give_up_at = time.monotonic() + RUN_TIMEOUT_S
    next_kill = time.monotonic() + rng.uniform(4, 10)
    crashed_at: float | None = None
    while time.monotonic() < give_up_at:
        time.sleep(0.5)
        state = read_state(stack, run_id)
        if state is not None and state["type"] in ENDS:
            return state
        crashed = state is not None and state["type"] == "CRASHED"
        crashed_at = (crashed_at or time.monotonic()) if crashed else None
        if state is not None and crashed_at and time.monotonic() - crashed_at > STAYS_CRASHED_S:
            return state
        running = state is None or state["type"] == "RUNNING"
        if left.total() and running and time.monotonic() > next_kill:
            target = rng.choice(sorted(+left))
            if stack.kill(target):
                left[target] -= 1
            next_kill = time.monotonic() + rng.uniform(2, 12)
    raise AssertionError(
        f"run {run_id} did not end: {state}; {stack.log('prefect-worker')[-3000:]}"
    )


def read_state(stack: Stack, run_id: str) -> dict[str, Any] | None:
    """Return a run's state; None while the server is away."""
    import httpx

    try:
        reply = httpx.get(
            f"{stack.environment['PREFECT_API_URL']}/flow_runs/{run_id}", timeout=5, trust_env=False
        )
        found: dict[str, Any] = reply.raise_for_status().json()["state"]
    except (httpx.HTTPError, KeyError, TypeError):
        return None
    return found


def retried(stack: Stack, *command: str) -> str:
    """Run a command that needs the server, which may be on its way up."""
    for _ in range(20):
        try:
            return stack.run(*command)
        except AssertionError:
            time.sleep(3)
    return stack.run(*command)


def check_ledger(cube: str) -> None:
    """Every request that is booked has its outcome, and no run wrote what another had written."""
    storage = ObjectStorage(cube)
    total = read_ledgers(storage)
    assert total.num_requests >= NUM_BATCHES
    assert total.outcomes.total() == total.num_requests
    builds = [json.loads(storage.read(k) or b"{}") for k in storage.list_sizes("provenance/builds")]
    written = Counter(batch for build in builds for batch in build["built"])
    assert all(num == 1 for num in written.values()), f"written twice: {written}"
