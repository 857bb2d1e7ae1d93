"""What a rebuild makes of the provider's limits, on this machine.

The emulator answers from a pool of pre-rendered replies, so that the rebuild is measured and not
the simulated world. Emulator and rebuild share the machine's cores. Every rebuild is a process of
its own (``softcon rebuild``); memory is the largest resident set of any of its processes.

1. No latency: what one process completes, its CPU time per location, and the share of time in which
   it had nothing to do but wait.
2. A latency L that makes 40 / L half of that rate: how much of 40 / L is reached, and whether the
   limits held, counted by the server.
3. Two processes instead of one.
4. Memory of a long rebuild beside that of a short one.

Run: ``python -m benchmarks.rebuild [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import requests
import yaml

from earth_engine_emulator.faults import FaultSettings
from earth_engine_emulator.running import Emulator, emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings

MAX_IN_FLIGHT: Final = 40
POOL: Final = 32
SEASONS: Final = ["2021-09-22", "2021-06-21", "2021-03-20", "2020-12-21"]


class Watch:
    """Samples a process tree and the emulator's statistics while a rebuild runs."""

    def __init__(self, process: subprocess.Popen[str], emulator: Emulator) -> None:
        self._process, self._url = psutil.Process(process.pid), emulator.url
        self.peak_rss: dict[int, int] = {}
        self.cpu_s: dict[int, float] = {}
        self.answered: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.25):
            try:
                for process in (self._process, *self._process.children(recursive=True)):
                    with process.oneshot():
                        rss, times = process.memory_info().rss, process.cpu_times()
                    self.peak_rss[process.pid] = max(self.peak_rss.get(process.pid, 0), rss)
                    self.cpu_s[process.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
            self.answered.append((time.monotonic(), completed(statistics(self._url))))

    def rate_per_s(self) -> float:
        """Return requests completed per second, from a tenth to nine tenths of all."""
        total = self.answered[-1][1]
        middle = [(t, n) for t, n in self.answered if 0.1 * total <= n <= 0.9 * total]
        (first_s, first), (last_s, last) = middle[0], middle[-1]
        return (last - first) / (last_s - first_s)


def statistics(url: str) -> dict[str, Any]:
    """Return what the emulator has counted."""
    found: dict[str, Any] = requests.get(f"{url}/emulator/statistics", timeout=30).json()
    return found


def completed(found: dict[str, Any]) -> int:
    """Return the requests that the emulator has answered, other than to start a client."""
    kinds = found["requests_by_kind"]
    return int(kinds.get("computePixels", 0)) + int(kinds.get("value:compute", 0))


def rebuild(
    emulator: Emulator,
    num_locations: int,
    workers: int = 1,
    seasons: Sequence[str] = SEASONS,
) -> dict[str, Any]:
    """Run ``softcon rebuild`` and return what it did and took."""
    requests.post(f"{emulator.url}/emulator/statistics/reset", timeout=30)
    with tempfile.TemporaryDirectory() as place:
        config = Path(place) / "rebuild.yaml"
        settings = {
            "cube": str(Path(place) / "cube.zarr"),
            "locations": {"kind": "gaussian_around_cities", "num_locations": num_locations},
            "seasons": {"reference_dates": list(seasons)},
            "earth_engine": {
                "project": "benchmark",
                "endpoint": emulator.url,
                "credentials": "none",
            },
            "execution": {
                "dask": "processes" if workers > 1 else "threads",
                "workers": workers,
            },
        }
        config.write_text(yaml.safe_dump(settings))
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "rebuild", str(config), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with Watch(process, emulator) as watch:
            output, _ = process.communicate()
        wall_s = time.monotonic() - began
        stored_bytes = sum(
            file.stat().st_size for file in (Path(place) / "cube.zarr").rglob("*") if file.is_file()
        )
    if process.returncode:
        raise SystemExit(f"the rebuild ended with exit code {process.returncode}: {output}")
    summary = json.loads(output)
    found = statistics(emulator.url)
    cpu_s = sum(watch.cpu_s.values())
    return {
        "num_locations": num_locations,
        "workers": workers,
        "locations_per_s": num_locations / wall_s,
        "requests_per_location": sum(summary["budget"]["requests"].values()) / num_locations,
        "requests_per_s": watch.rate_per_s(),
        "client_cpu_s_per_location": cpu_s / num_locations,
        "share_of_time_waiting": max(0.0, 1 - cpu_s / wall_s / workers),
        "max_in_flight": found["max_in_flight"],
        "max_starts_per_s": found["max_starts_per_s"],
        "peak_rss_gb": max(watch.peak_rss.values()) / 1e9,
        "wall_s": wall_s,
        "received_bytes": summary["budget"]["bytes_received"],
        "stored_bytes": stored_bytes,
        "latency_s": summary["budget"]["latency_s"],
    }


def measure(num_locations: int, memory: tuple[int, int]) -> dict[str, Any]:
    """Measure everything."""
    result: dict[str, Any] = {}
    with emulator_in_process(EmulatorSettings(pool=POOL)) as emulator:
        rebuild(emulator, 16)  # Fills the pool.
        result["no_latency"] = rebuild(emulator, num_locations)
        result["two_processes"] = rebuild(emulator, num_locations, workers=2)
        result["memory"] = [rebuild(emulator, number) for number in memory]
    latency_s = 2 * MAX_IN_FLIGHT / result["no_latency"]["requests_per_s"]
    faults = FaultSettings.model_validate(
        {"latency": {"distribution": "constant", "seconds": latency_s}}
    )
    with emulator_in_process(EmulatorSettings(pool=POOL, faults=faults)) as emulator:
        rebuild(emulator, 16)
        slow = rebuild(emulator, num_locations)
    result["latency"] = slow | {
        "added_latency_s": latency_s,
        "of_the_limit": slow["requests_per_s"] / (MAX_IN_FLIGHT / latency_s),
    }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer locations")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    num_locations, memory = (128, (64, 256)) if arguments.short else (384, (100, 2000))
    result = measure(num_locations, memory)
    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    alone, two, slow = result["no_latency"], result["two_processes"], result["latency"]
    short, long = result["memory"]
    ratio = two["locations_per_s"] / alone["locations_per_s"]
    lines = [
        f"no latency, {num_locations} locations, one process: "
        f"{alone['locations_per_s']:.2f} locations/s, {alone['requests_per_s']:.1f} requests/s, "
        f"{alone['client_cpu_s_per_location']:.2f} CPU s per location, "
        f"{alone['share_of_time_waiting']:.0%} of the time waiting",
        f"requests per location: {alone['requests_per_location']:.3f}",
        f"two processes / one: {ratio:.2f} x locations/s",
        f"latency {slow['added_latency_s']:.2f} s: {slow['requests_per_s']:.1f} requests/s, "
        f"{slow['of_the_limit']:.2f} of {MAX_IN_FLIGHT} / latency; at most "
        f"{slow['max_in_flight']} in flight, {slow['max_starts_per_s']} begun in a second",
        f"memory: {short['peak_rss_gb']:.2f} GB for {short['num_locations']} locations, "
        f"{long['peak_rss_gb']:.2f} GB for {long['num_locations']}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
