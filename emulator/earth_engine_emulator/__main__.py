"""``earth-engine-emulator``, also ``python -m earth_engine_emulator``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

NAME = "earth-engine-emulator"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C.

    Args:
        arguments: of the command line; by default those of the process.

    Returns:
        Exit code: 0, 2 after one sentence about a mistake, or 130 where Ctrl-C came before the
        server listened.
    """
    given = read_arguments(arguments)
    if given.version:
        _say(f"{NAME} {version(NAME)}")
        return 0
    # The service is imported after the arguments are read, so that --help answers at once.
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
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(sentence: str) -> int:
    words = " ".join(sentence.split())
    # Names of files may hold control characters, which would change the terminal.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    sys.stderr.write(f"{NAME}: {shown}\n")
    return 2


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence; argparse puts the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        sys.exit(_complain(f"{message}; see --help"))


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; exit with code 2 and one sentence where it is wrong."""
    parser = _Parser(
        prog=NAME,
        # An abbreviation that works today would be ambiguous with tomorrow's option.
        allow_abbrev=False,
        description="Serve Earth Engine's REST interface on this machine, for trials, tests and "
        "teaching. The unmodified ee package works with it, without credentials and without a "
        "network. Ctrl-C stops it. It counts at /emulator/statistics and /emulator/faults.",
    )
    add = parser.add_argument
    add("--version", action="store_true", help="print the version and exit")
    add("--port", type=_whole(65_535), default=8585, help="port to listen on; 0 takes a free one")
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
    add("--seed", type=_whole(2**63 - 1), help="of the faults: another one hits other requests")
    add("--latency", type=_seconds, help="seconds that every reply waits; 0 for none")
    add(
        "--pool",
        type=_whole(1000),
        default=0,
        help="for benchmarks of a client: render so many replies per kind of request for pixels, "
        "then repeat them; the pixels are then wrong for their place",
    )
    add("--json", action="store_true", help="print address and settings as one line of JSON")
    return parser.parse_args(arguments)


def _whole(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 0 to a limit."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = -1
        if not 0 <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {most:,}")
        return number

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
