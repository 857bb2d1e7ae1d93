"""``softcon emulator``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command_line.output import stdout

if TYPE_CHECKING:
    from emulator.faults import FaultSettings
    from emulator.settings import EmulatorSettings

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
    from emulator.errors import EmulatorError
    from emulator.running import serve
    from emulator.settings import EmulatorSettings, make_app
    from groundwork.errors import InputError

    try:
        settings = EmulatorSettings(
            world=world,
            rasters=rasters,
            faults=_fault_settings(faults, fault or [], seed, latency),
            pool=pool,
        )
        serve(
            make_app(settings),
            host=host,
            port=port,
            exposed=exposed,
            announce=lambda url: _announce(url, settings, json_output),
        )
    except EmulatorError as error:
        raise InputError(str(error)) from error
    return 0


def _fault_settings(
    file: Path | None, flags: list[str], seed: int | None, latency_s: float | None
) -> FaultSettings:
    """Put the flags over the file's settings."""
    from emulator.faults import FaultSettings, parse_fault_settings, read_fault_settings

    settings = FaultSettings() if file is None else read_fault_settings(file)
    values: dict[str, Any] = settings.model_dump(mode="json")
    if seed is not None:
        values["seed"] = seed
    if latency_s is not None:
        constant = {"distribution": "constant", "seconds": latency_s}
        values["latency"] = constant if latency_s else None
    for flag in flags:
        kind, probability = _parse_flag(flag)
        if kind == "latency":
            if values["latency"] is None:
                raise _wrong(flag, "how long? give --latency or a --faults file with latency too")
            values["latency"]["probability"] = probability
        else:
            values["probabilities"][kind] = probability
    return parse_fault_settings(values, "the options of faults")


def _parse_flag(flag: str) -> tuple[str, float]:
    from emulator.faults import KINDS

    kind, _, text = flag.partition("=")
    if kind not in KINDS:
        raise _wrong(flag, f"the kinds are {', '.join(KINDS)}")
    try:
        probability = float(text)
    except ValueError:
        probability = -1.0
    if not 0.0 <= probability <= 1.0:
        raise _wrong(flag, f"give a probability between 0 and 1, as in {kind}=0.05")
    return kind, probability


def _wrong(flag: str, remedy: str) -> Exception:
    from groundwork.errors import InputError

    return InputError(f"--fault {flag}: {remedy}")


def _announce(url: str, settings: EmulatorSettings, json_output: bool) -> None:
    """Say where it listens, and how to use it."""
    if json_output:
        sys.stdout.write(_to_json(url, settings) + "\n")
    else:
        for line in _introduction(url, settings):
            stdout.print(line, markup=False, soft_wrap=True)
    sys.stdout.flush()


def _to_json(url: str, settings: EmulatorSettings) -> str:
    import json
    import os

    values = {"url": url, "process_id": os.getpid(), **settings.model_dump(mode="json")}
    return json.dumps(values)


def _introduction(url: str, settings: EmulatorSettings) -> list[str]:
    from urllib.request import getproxies, proxy_bypass

    world = "the simulated world" if settings.world == "simulated" else settings.world
    lines = [
        f"Earth Engine emulator at {url}, serving {world}. Ctrl-C stops it. To use it:",
        "",
        "  import ee",
        "  from google.auth.credentials import AnonymousCredentials",
        f'  ee.Initialize(AnonymousCredentials(), project="emulator", url="{url}")',
        "",
    ]
    host = url.removeprefix("http://").rpartition(":")[0]
    if "http" in getproxies() and not proxy_bypass(host):
        lines.append(f"HTTP_PROXY is set: set NO_PROXY={host} for the client as well.")
    return lines
