"""``softcon emulator``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_PORT = 8585


def emulator(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Loopback address: 127.0.0.1, ::1 or localhost.")
    ] = "127.0.0.1",
    exposed: Annotated[
        bool,
        typer.Option(
            "--exposed",
            help="Let --host be any address. Whoever reaches it may use it: for closed networks, "
            "such as that of containers.",
        ),
    ] = False,
    world: Annotated[
        str,
        typer.Option(
            metavar="simulated|FOLDER",
            help="Images to serve: simulated ones of all the Earth, or a folder of catalogue files "
            "(YAML, one per acquisition; see configs/emulator).",
        ),
    ] = "simulated",
    rasters: Annotated[
        Path | None,
        typer.Option(help="Folder of the catalogue's GeoTIFF or JP2 files (default: its own)."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="YAML file of faults and latency; see configs/emulator/faults_*.yaml."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=PROBABILITY",
            help="One fault, say dropped_connection=0.05; may be given several times.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the faults: another one hits other requests.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option(min=0, help="Seconds that every reply waits; 0 for none.")
    ] = None,
    pool: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="For benchmarks of a client: render so many replies per kind of request for "
            "pixels, then repeat them. The pixels are then wrong for their place.",
        ),
    ] = 0,
    json_output: Annotated[
        bool,
        typer.Option("--json", help="Print address and settings as one line of JSON, then serve."),
    ] = False,
) -> int:
    """Serve Earth Engine's REST interface on this machine, for trials, tests and teaching.

    The unmodified ee package works with it, without credentials and without a network. Ctrl-C stops
    it. It counts at /emulator/statistics and /emulator/faults.
    """
    from earth_engine_emulator.command import fault_settings, run
    from earth_engine_emulator.errors import EmulatorError
    from earth_engine_emulator.settings import EmulatorSettings
    from groundwork.errors import InputError

    try:
        settings = EmulatorSettings(
            world=world,
            rasters=rasters,
            faults=fault_settings(faults, fault or [], seed, latency),
            pool=pool,
        )
        run(
            settings,
            host=host,
            port=port,
            exposed=exposed,
            json_output=json_output,
            say=_say,
        )
    except EmulatorError as error:
        raise InputError(str(error)) from error
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
