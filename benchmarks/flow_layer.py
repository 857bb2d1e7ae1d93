"""What the flow layer costs over the plain command, on this machine.

The same rebuild runs as ``softcon rebuild`` and as the flow ``rebuild-dataset``, each a process of
its own, in turns. The emulator answers from a pool of pre-rendered replies; the Prefect server
keeps its state in SQLite. Emulator, server and rebuild share the machine's cores.

1. The build part: from the first reply to a question of a batch to the last batch's marker. Nothing
   of the start of a process is in it, nor of its end.
2. CPU time of the whole process, and of the threads in it that are Prefect's, beside it: they say
   more on a machine that does other work too.
3. Starts: server on SQLite up; command and flow to their first batch; a deployment's run from its
   creation to its pick-up by a worker, and to its first batch.

Run: ``python -m benchmarks.flow_layer [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import requests
import yaml

from benchmarks.rebuild import POOL, SEASONS, completed
from benchmarks.rebuild import statistics as asked_of
from earth_engine_emulator.running import Emulator, emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings

LOCATIONS_PER_BATCH: Final = 8
"""A batch then takes about a second."""
TARGET: Final = 0.05
_POLL_S: Final = 0.05
_GIVE_UP_S: Final = 900
_BIN: Final = Path(sys.executable).parent
_FLOW: Final = """
import json, sys, threading, time
from flows.rebuild_dataset import rebuild_dataset

state = rebuild_dataset(json.load(open("settings.json")), return_state=True)
cpu_s = [
    (thread.name, time.clock_gettime(time.pthread_getcpuclockid(thread.ident)))
    for thread in threading.enumerate()
]
json.dump(cpu_s, open("threads.json", "w"))
sys.exit(not state.is_completed())
"""
_OUR_THREADS: Final = ("MainThread", "batch", "earth-engine", "zarr_io", "asyncio", "cube-lease")

Times = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer batches, once")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # Servers on loopback are not behind anybody's proxy.
    os.environ["NO_PROXY"] = f"{os.environ.get('NO_PROXY', '')},127.0.0.1,localhost".lstrip(",")
    result = measure(*((8, 1) if arguments.short else (40, 3)))
    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    plain, flow, starts = result["plain"], result["flow"], result["starts_s"]
    lines = [
        f"{result['num_batches']} batches of {LOCATIONS_PER_BATCH} locations, "
        f"{len(plain)} times each, in turns; medians:",
        f"  build part: command {result['build_s']['plain']:.1f} s, "
        f"flow {result['build_s']['flow']:.1f} s: {result['ratio']:.3f} times "
        f"(pairs: {', '.join(f'{ratio:.3f}' for ratio in result['ratios'])}); "
        f"target at most {1 + TARGET:g}",
        f"  CPU time of the process: command {median_of(plain, 'cpu_s'):.1f} s, "
        f"flow {median_of(flow, 'cpu_s'):.1f} s, of which Prefect's own threads "
        f"{median_of(flow, 'prefect_cpu_s'):.2f} s",
        f"starts: server up {starts['server']:.1f} s; to the first batch: command "
        f"{median_of(plain, 'first_batch_s'):.1f} s, flow {median_of(flow, 'first_batch_s'):.1f} s",
        f"deployment, from the run's creation: picked up {starts['picked_up']:.1f} s, running "
        f"{starts['running']:.1f} s, first batch {starts['first_batch']:.1f} s",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def measure(num_batches: int, repetitions: int) -> dict[str, Any]:
    """Measure everything."""
    runs: dict[str, list[Times]] = {"plain": [], "flow": []}
    with (
        tempfile.TemporaryDirectory() as place,
        emulator_in_process(EmulatorSettings(pool=POOL)) as emulator,
        prefect_server(Path(place)) as (environment, server_s),
    ):
        run_rebuild("plain", emulator, environment, 4)  # Fills the pool.
        for repetition in range(repetitions):
            # Whoever goes first meets a machine that was idle: each does it in turns.
            for how in ("plain", "flow") if repetition % 2 == 0 else ("flow", "plain"):
                found = run_rebuild(how, emulator, environment, num_batches)
                runs[how].append(found)
                sys.stderr.write(f"{how}: {', '.join(f'{k} {v:.1f}' for k, v in found.items())}\n")
        starts = measure_deployment(emulator, environment)
    pairs = zip(runs["plain"], runs["flow"], strict=True)
    build_s = {how: median_of(found, "build_s") for how, found in runs.items()}
    return {
        **runs,
        "num_batches": num_batches,
        "build_s": build_s,
        "ratio": build_s["flow"] / build_s["plain"],
        "ratios": [flow["build_s"] / plain["build_s"] for plain, flow in pairs],
        "starts_s": {"server": server_s, **starts},
    }


def median_of(runs: list[Times], name: str) -> float:
    """Return the median of one figure."""
    return statistics.median(run[name] for run in runs)


def run_rebuild(
    how: str, emulator: Emulator, environment: Mapping[str, str], num_batches: int
) -> Times:
    """Rebuild once, by command or by flow; returns what it took."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = settings_of(emulator, folder / "cube.zarr", num_batches)
        if how == "plain":
            (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
            command = ["-m", "flows", "rebuild", "settings.yaml", "--json"]
        else:
            (folder / "settings.json").write_text(json.dumps(settings))
            command = ["-c", _FLOW]
        requests.post(f"{emulator.url}/emulator/statistics/reset", timeout=30)
        with (folder / "log").open("w+") as log:
            began = time.time()
            process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log
            )
            first_s = wait_for_first_reply(emulator, process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            ended = time.time()
            if process.returncode:
                log.seek(0)
                raise SystemExit(f"{how} ended with {process.returncode}: {log.read()[-2000:]}")
        last_s = last_marker_s(folder / "cube.zarr", num_batches)
        threads = json.loads((folder / "threads.json").read_text()) if how == "flow" else []
    return {
        "first_batch_s": first_s - began,
        "build_s": last_s - first_s,
        "whole_s": ended - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "prefect_cpu_s": sum(t for name, t in threads if not name.startswith(_OUR_THREADS)),
    }


def settings_of(emulator: Emulator, cube: Path, num_batches: int) -> dict[str, Any]:
    """Return the configuration of a rebuild."""
    return {
        "cube": str(cube),
        "locations": {
            "kind": "gaussian_around_cities",
            "num_locations": num_batches * LOCATIONS_PER_BATCH,
        },
        "locations_per_batch": LOCATIONS_PER_BATCH,
        "seasons": {"reference_dates": SEASONS},
        "earth_engine": {"project": "benchmark", "endpoint": emulator.url, "credentials": "none"},
    }


def wait_for_first_reply(emulator: Emulator, process: subprocess.Popen[bytes] | None) -> float:
    """Return when the emulator had answered the first question of a batch, s since 1970."""
    give_up_at = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < give_up_at:
        if completed(asked_of(emulator.url)):
            return time.time()
        # Not poll(): it would take the exit status, and with it the CPU time, away from wait4.
        if process is not None and os.waitid(
            os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            return time.time()
        time.sleep(_POLL_S)
    raise SystemExit("no batch began")


def last_marker_s(cube: Path, num_batches: int) -> float:
    """Return when the last batch was complete, s since 1970."""
    markers = list((cube / "batches").glob("*.json"))
    if len(markers) != num_batches:
        raise SystemExit(f"{len(markers)} of {num_batches} batches are written")
    return max(marker.stat().st_mtime for marker in markers)


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[tuple[dict[str, str], float]]:
    """Run a Prefect server on SQLite; yields its clients' environment, and its start's seconds."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    began = time.monotonic()
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with prefect(command, folder, environment):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), "the Prefect server")
        yield environment, time.monotonic() - began


@contextlib.contextmanager
def prefect(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run one of Prefect's services while the context lasts."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(_BIN / "prefect"), *command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def measure_deployment(emulator: Emulator, environment: Mapping[str, str]) -> Times:
    """Run the deployment once; returns seconds from its run's creation."""
    api = environment["PREFECT_API_URL"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        deploy = [str(_BIN / "softcon"), "deploy", "--working-dir", place]
        subprocess.run(deploy, env=environment, cwd=place, check=True, capture_output=True)
        with prefect(["worker", "start", "--pool", "softcon"], folder, environment):
            workers = f"{api}/work_pools/softcon/workers/filter"
            wait_until(lambda: bool(post(workers, {})), "the worker")
            requests.post(f"{emulator.url}/emulator/statistics/reset", timeout=30)
            name = f"{api}/deployments/name/rebuild-dataset/local"
            deployment = requests.get(name, timeout=30).json()["id"]
            parameters = {"settings": settings_of(emulator, folder / "cube.zarr", 2)}
            created = time.time()
            run = post(
                f"{api}/deployments/{deployment}/create_flow_run", {"parameters": parameters}
            )["id"]
            first_s = wait_for_first_reply(emulator, None)
            wait_until(lambda: state_of(api, run) == "COMPLETED", "the deployment's run")
            states = requests.get(
                f"{api}/flow_run_states/", params={"flow_run_id": run}, timeout=30
            ).json()
    at = {state["type"]: state["timestamp"] for state in reversed(states)}
    return {
        "picked_up": seconds_of(at["PENDING"]) - created,
        "running": seconds_of(at["RUNNING"]) - created,
        "first_batch": first_s - created,
    }


def state_of(api: str, run: str) -> str:
    """Return the type of a run's state; a run that failed ends the measurement."""
    state = requests.get(f"{api}/flow_runs/{run}", timeout=30).json()["state"]
    if state["type"] in {"FAILED", "CRASHED"}:
        raise SystemExit(f"the deployment's run has failed: {state['message']}")
    return str(state["type"])


def post(address: str, value: Any) -> Any:
    """Ask Prefect's API, again while its database is locked."""
    for _ in range(10):
        reply = requests.post(address, json=value, timeout=30)
        if reply.status_code != requests.codes.service_unavailable:
            break
        time.sleep(1)
    reply.raise_for_status()
    return reply.json()


def seconds_of(text: str) -> float:
    """Return a moment of Prefect's API, s since 1970."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def answers(address: str) -> bool:
    """Tell whether a service is up."""
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        return False


def wait_until(done: Any, what: str) -> None:
    """Wait for something to happen."""
    give_up_at = time.monotonic() + _GIVE_UP_S
    while not done():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{what} is not ready after {_GIVE_UP_S} s")
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
