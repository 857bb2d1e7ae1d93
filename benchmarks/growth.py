"""How the cost of a rebuild grows from 100 to 10,000 locations, and what 250,000 would cost.

One season of all products, so that 10,000 locations take minutes; the emulator answers from a pool
of pre-rendered replies (see `benchmarks.rebuild`) and shares the machine's cores. The forecast
beside it is for 250,000 locations and four seasons: requests and bytes from the plan, as
`softcon forecast` gives them; CPU time and disk from the largest size measured here. Neither knows
the latency of the real service.

Run: ``python -m benchmarks.growth [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from benchmarks.rebuild import POOL, SEASONS, rebuild
from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from pipeline.build.forecast import forecast
from pipeline.sources.earth_engine.settings import RebuildSettings

SIZES: Final = (100, 1_000, 10_000)
FULL_SCALE: Final = 250_000


def measure(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Measure all sizes, and scale the largest."""
    with emulator_in_process(EmulatorSettings(pool=POOL)) as emulator:
        rebuild(emulator, 16, seasons=SEASONS[:1])  # Fills the pool.
        found = []
        for size in sizes:
            found.append(rebuild(emulator, size, seasons=SEASONS[:1]))
            sys.stderr.write(f"{size:,} locations: {found[-1]['wall_s']:.0f} s\n")
    settings = RebuildSettings.model_validate(
        {
            "cube": "unused",
            "locations": {"kind": "gaussian_around_cities", "num_locations": FULL_SCALE},
            "seasons": {"reference_dates": SEASONS},
            "earth_engine": {"project": "benchmark"},
        }
    )
    plan = forecast(settings, FULL_SCALE)
    patches = FULL_SCALE * len(SEASONS)
    last = found[-1]
    return {
        "sizes": found,
        "full_scale": {
            "num_locations": FULL_SCALE,
            "seasons": len(SEASONS),
            "requests": plan.num_requests,
            "received_bytes": plan.bytes_received,
            "least_hours": plan.least_hours,
            "client_cpu_hours": last["client_cpu_s_per_location"] * patches / 3600,
            "stored_bytes": last["stored_bytes"] / last["num_locations"] * patches,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="without 10,000 locations")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(SIZES[:-1] if arguments.short else SIZES)
    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    first = result["sizes"][0]
    for one in result["sizes"]:
        ratio = one["client_cpu_s_per_location"] / first["client_cpu_s_per_location"]
        sys.stdout.write(
            f"{one['num_locations']:>7,} locations x 1 season: {one['wall_s']:.0f} s, "
            f"{one['locations_per_s']:.1f} locations/s, "
            f"{1e3 * one['client_cpu_s_per_location']:.0f} CPU ms per patch (x {ratio:.2f}), "
            f"{one['requests_per_location']:.2f} requests per patch, "
            f"{one['received_bytes'] / one['num_locations'] / 1e6:.2f} MB received and "
            f"{one['stored_bytes'] / one['num_locations'] / 1e6:.2f} MB stored per patch, "
            f"peak memory {one['peak_rss_gb']:.2f} GB\n"
        )
    full = result["full_scale"]
    sys.stdout.write(
        f"{full['num_locations']:>7,} locations x {full['seasons']} seasons, forecast: "
        f"{full['requests']:,} requests, {full['received_bytes'] / 1e12:.2f} TB received, "
        f"{full['stored_bytes'] / 1e12:.2f} TB stored, {full['client_cpu_hours']:.0f} CPU hours "
        f"here, at least {full['least_hours']:.1f} h by the limit on requests\n"
    )


if __name__ == "__main__":
    main()
