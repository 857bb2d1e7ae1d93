"""``softcon locations ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import print_json, progress_bar, stdout

app = typer.Typer(
    help="Choose where patches are taken, and look at the choice.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("sample")
def sample(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/locations_*.yaml.")],
    out: Annotated[Path, typer.Option(help="GeoParquet file to write.")],
    json_output: Json = False,
) -> int:
    """Draw, tile or read locations, assign their splits, and write them as GeoParquet.

    The same configuration gives the same bytes; the first 100 of 1,000 drawn locations are those of
    a list of 100.
    """
    from pipeline.places.files import write_locations
    from pipeline.places.locations import make_locations
    from pipeline.places.settings import read_location_settings

    settings = read_location_settings(config)
    with progress_bar("sampling", "locations") as report:
        locations = make_locations(settings, config.parent, progress=report)
    write_locations(out, locations)
    counts = locations.split_counts
    if json_output:
        print_json({"file": str(out), "num_locations": len(locations), "splits": counts})
    else:
        listed = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
        stdout.print(
            f"{out}: {len(locations):,} locations ({listed})", markup=False, soft_wrap=True
        )
    return 0


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="GeoParquet file of 'softcon locations sample'.")],
    out: Annotated[Path, typer.Option(help="Map to write: .html (self-contained) or .svg.")],
) -> int:
    """Draw the locations on a map of the world."""
    from pipeline.places.files import read_locations
    from pipeline.report.location_map import write_map

    write_map(read_locations(file), out, title=file.stem)
    stdout.print(str(out), markup=False, soft_wrap=True)
    return 0
