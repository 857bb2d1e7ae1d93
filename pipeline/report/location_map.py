"""A list of locations as a map: one self-contained HTML page, or an SVG picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pipeline.places.files import Locations
from pipeline.report.figures import SPLIT_COLOURS, world_map

_SVG_STYLE: Final = """<style>
svg { font-family: Helvetica, Arial, "Liberation Sans", sans-serif; background: #f6f9fb; }
.land { fill: #dfe5ea; stroke: #fff; stroke-width: .6; fill-rule: evenodd; }
.graticule { stroke: #b4c0cb; stroke-width: .5; fill: none; opacity: .6; }
.map-label { fill: #5a6775; font-size: 12px; }
.dots circle { stroke: #fff; stroke-width: .9; fill-opacity: .92; }
.close-up-frame { fill: none; stroke: #1c2733; stroke-width: 1; }
.pixelated { image-rendering: pixelated; }
</style>"""


def write_map(locations: Locations, out: Path, *, title: str) -> None:
    """Draw the locations; the file appears whole or not at all, and makes no request.

    Args:
        locations: what to draw.
        out: ``.html`` (maps, numbers, settings) or ``.svg`` (the map of the world alone).
        title: heading of the page.

    Raises:
        InputError: another ending, or a place that cannot be written to.
    """
    suffix = out.suffix.lower()
    if suffix == ".html":
        text = _page(locations, title)
    elif suffix == ".svg":
        text = _picture(locations)
    else:
        raise InputError(f"{out} is neither .html nor .svg: name the map so")
    write_atomically(out, text)


def _picture(locations: Locations) -> str:
    drawn = world_map(locations.longitude, locations.latitude, locations.split_names)
    # Inline in a page, SVG needs neither namespace nor style; in a file of its own, both.
    opening, rest = str(drawn.world).split(">", 1)
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{opening}>{_SVG_STYLE}{rest}\n"


def _page(locations: Locations, title: str) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    drawn = world_map(locations.longitude, locations.latitude, locations.split_names)
    total = len(locations)
    return environment.get_template("locations_map.html").render(
        title=title,
        map=drawn,
        num_locations=total,
        splits=[
            (name, SPLIT_COLOURS[name], count, f"{count / total:.1%}")
            for name, count in locations.split_counts.items()
        ],
        # float() keeps NumPy's type out of the text.
        extent=[
            f"{float(edge):.3f}".replace("-", "\N{MINUS SIGN}")
            for values in (locations.longitude, locations.latitude)
            for edge in (values.min(), values.max())
        ],
        provenance=_rows(locations.provenance),
    )


def _rows(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted name, value), in their order."""
    rows = []
    for name, value in values.items():
        place = f"{prefix}{name}"
        if isinstance(value, dict):
            rows += _rows(value, f"{place}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((place.removeprefix("settings."), text))
    return rows
