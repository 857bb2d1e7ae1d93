"""A list of locations as a map: one self-contained HTML page, or an SVG picture."""

from __future__ import annotations

from pathlib import Path

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pages.formats import flatten
from pages.svg import svg_file
from pipeline.places.files import Locations
from pipeline.report.environment import cube_environment
from pipeline.report.world_map import world_map


def write_map(locations: Locations, out: Path, *, title: str) -> None:
    """Draw the locations; the file appears whole or not at all, and makes no request.

    Args:
        locations: what to draw.
        out: ``.html`` (maps, numbers, settings) or ``.svg`` (the map of the world alone).
        title: heading of the page.

    Raises:
        InputError: another ending, or a place that cannot be written to.
    """
    drawn = world_map(locations.longitude, locations.latitude, locations.split_names)
    suffix = out.suffix.lower()
    if suffix == ".html":
        rows = flatten(locations.provenance, omit_none=True)
        template = cube_environment().get_template("locations_map.html")
        text = template.render(
            title=title,
            map=drawn,
            num_locations=len(locations),
            splits=locations.split_counts,
            settings=[(name.removeprefix("settings."), text) for name, text in rows],
        )
    elif suffix == ".svg":
        text = svg_file(drawn.world)
    else:
        raise InputError(f"{out} is neither .html nor .svg: name the map so")
    write_atomically(out, text)
