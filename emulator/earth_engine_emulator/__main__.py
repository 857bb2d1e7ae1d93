"""``earth-engine-emulator``, also ``python -m earth_engine_emulator``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return 2 with one sentence where something cannot be used."""
    # The service is imported after the arguments are read, so that --help answers at once.
    given = _parser().parse_args(arguments)
    from earth_engine_emulator.command import fault_settings, run
    from earth_engine_emulator.errors import EmulatorError
    from earth_engine_emulator.settings import EmulatorSettings

    try:
        settings = EmulatorSettings(
            world=given.world,
            rasters=given.rasters,
            faults=fault_settings(given.faults, given.fault, given.seed, given.latency),
            pool=given.pool,
        )
        run(
            settings,
            host=given.host,
            port=given.port,
            exposed=given.exposed,
            json_output=given.json,
            say=_say,
        )
    except EmulatorError as error:
        sys.stderr.write(f"earth-engine-emulator: {error}\n")
        return 2
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="earth-engine-emulator",
        description="Serve Earth Engine's REST interface on this machine, for trials, tests and "
        "teaching. The unmodified ee package works with it, without credentials and without a "
        "network. Ctrl-C stops it. It counts at /emulator/statistics and /emulator/faults.",
    )
    add = parser.add_argument
    add("--port", type=_number(65_535), default=8585, help="port to listen on; 0 takes a free one")
    add("--host", default="127.0.0.1", help="loopback address: 127.0.0.1, ::1 or localhost")
    add(
        "--exposed",
        action="store_true",
        help="let --host be any address; whoever reaches it may use it",
    )
    add(
        "--world",
        default="simulated",
        metavar="simulated|FOLDER",
        help="images to serve: simulated ones of all the Earth, or a folder of catalogue files "
        "(YAML, one per acquisition)",
    )
    add("--rasters", type=Path, help="folder of the catalogue's rasters (default: its own)")
    add("--faults", type=Path, help="YAML file of faults and latency")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=PROBABILITY",
        help="one fault, say dropped_connection=0.05; may be given several times",
    )
    add("--seed", type=_number(2**63 - 1), help="of the faults: another one hits other requests")
    add("--latency", type=_seconds, help="seconds that every reply waits; 0 for none")
    add(
        "--pool",
        type=_number(1000),
        default=0,
        help="for benchmarks of a client: render so many replies per kind of request for pixels, "
        "then repeat them; the pixels are then wrong for their place",
    )
    add("--json", action="store_true", help="print address and settings as one line of JSON")
    return parser


class _number:  # noqa: N801 - argparse shows the name of the type
    """A whole number between 0 and a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __call__(self, text: str) -> int:
        number = int(text)
        if not 0 <= number <= self._limit:
            raise argparse.ArgumentTypeError(f"{text} is not between 0 and {self._limit}")
        return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a time of 0 s or more")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
