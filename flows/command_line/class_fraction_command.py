"""``softcon class-fractions``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import print_json, progress_bar, stdout


def class_fractions(
    raster: Annotated[
        Path,
        typer.Argument(
            help="Land-cover raster that GDAL reads: a band of Dynamic World classes (0 to 8), or "
            "nine of probabilities."
        ),
    ],
    grids: Annotated[
        Path,
        typer.Option(
            help="CSV or Parquet of locations, or of grids (epsg, x_origin, y_origin), such as a "
            "cube's patches.parquet."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .parquet file to write: a row per location.")],
    nodata: Annotated[
        float | None,
        typer.Option(
            help="Value of pixels without data (default: what the raster declares). 255 for a "
            "raster that declares a class as no data by mistake."
        ),
    ] = None,
    min_class_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="A class is present where it covers more than this.")
    ] = 0.0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Worker processes on this machine (default 1)."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, instead of --workers.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Derive the class fractions of patches from any land-cover raster.

    On the raster's own lattice pixels are counted; elsewhere fractions are shares of the patch's
    area. The same input gives the same bytes, whatever the number of workers.
    """
    from groundwork.errors import InputError
    from pipeline.build.builder import Execution
    from pipeline.build.fraction_table import write_class_fractions

    if workers is not None and dask is not None:
        raise InputError("--workers and --dask exclude each other: leave one out")
    with progress_bar("class fractions", "grids") as report:
        summary = write_class_fractions(
            raster,
            grids,
            out,
            nodata=nodata,
            min_class_fraction=min_class_fraction,
            execution=Execution(num_workers=workers or 1, scheduler=dask),
            progress=report,
        )
    if json_output:
        print_json({"file": str(out), **asdict(summary)})
        return 0
    listed = ", ".join(
        f"{num:,} {name.replace('_', ' ')}" for name, num in summary.statuses.items()
    )
    stdout.print(f"{out}: {summary.num_grids:,} grids ({listed})", markup=False, soft_wrap=True)
    for name, fraction in summary.mean_fraction.items():
        if fraction is not None:
            stdout.print(f"  {name.replace('_', ' ')}: {fraction:.4f}", markup=False)
    return 0
