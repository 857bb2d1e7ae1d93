"""``softcon demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import progress_bar, stderr, stdout


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write [default: demo-run, or demo-real-run with --real]."),
    ] = None,
    locations: Annotated[
        int, typer.Option(min=24, max=10_000, help="Places of the simulated world.")
    ] = 128,
    steps: Annotated[
        int | None,
        typer.Option(min=10, help="Of each pretraining, about [default: 90, or 300 with --real]."),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            help="Instead of the simulated world: a folder of real data, with virginia_coast and "
            "ssl4eo_s12_sample."
        ),
    ] = None,
) -> int:
    """Run the whole chain on this machine, without credentials, and write a page about it.

    Emulator, rebuild, seal, audit, pretraining on Sentinel-2 and Sentinel-1, probes, export,
    report: some minutes on two cores. After Ctrl-C the same command goes on where it stopped.
    """
    import earth_engine_emulator  # noqa: F401 - if it is missing, say so before a folder is made
    from flows.demo.recipe import STEPS, STEPS_REAL, run_demo, run_real_demo

    def say(line: str) -> None:
        stderr.print(line, markup=False, soft_wrap=True)

    if real is not None:
        folder = out or Path("demo-real-run")
        page = run_real_demo(folder, real, steps or STEPS_REAL, say, progress_bar)
    else:
        page = run_demo(out or Path("demo-run"), locations, steps or STEPS, say, progress_bar)
    stdout.print(str(page.resolve()), markup=False, soft_wrap=True)
    return 0
