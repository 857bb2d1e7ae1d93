"""What a person chooses on a command line, turned into a running emulator.

Both ``earth-engine-emulator`` and the command of a package that wraps it use this module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

from earth_engine_emulator.errors import FaultError
from earth_engine_emulator.faults import (
    KINDS,
    FaultSettings,
    parse_fault_settings,
    read_fault_settings,
)
from earth_engine_emulator.running import serve
from earth_engine_emulator.settings import SIMULATED, EmulatorSettings, make_app

DEFAULT_PORT: Final = 8585


def run(
    settings: EmulatorSettings,
    *,
    host: str,
    port: int,
    exposed: bool,
    json_output: bool,
    say: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C.

    Args:
        settings: of the emulator.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        exposed: allow other addresses than loopback.
        json_output: announce the address and the settings as one line of JSON.
        say: prints a line.

    Raises:
        EmulatorError: world, files or address cannot be used.
    """

    def announce(url: str) -> None:
        for line in [_to_json(url, settings)] if json_output else _introduction(url, settings):
            say(line)

    serve(make_app(settings), host=host, port=port, exposed=exposed, announce=announce)


def fault_settings(
    file: Path | None, flags: Sequence[str], seed: int | None, latency_s: float | None
) -> FaultSettings:
    """Read the file of faults and put the flags over it.

    Args:
        file: YAML file; None starts from no faults.
        flags: ``KIND=PROBABILITY`` each.
        seed: of the faults; None keeps the file's.
        latency_s: of every reply, s; 0 removes the file's, None keeps it.

    Raises:
        EmulatorError: the file or a flag cannot be used.
    """
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


def _wrong(flag: str, remedy: str) -> FaultError:
    return FaultError(f"--fault {flag}: {remedy}")


def _to_json(url: str, settings: EmulatorSettings) -> str:
    return json.dumps({"url": url, "process_id": os.getpid(), **settings.model_dump(mode="json")})


def _introduction(url: str, settings: EmulatorSettings) -> list[str]:
    world = "the simulated world" if settings.world == SIMULATED else settings.world
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
