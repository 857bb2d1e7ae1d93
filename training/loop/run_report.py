"""A run as a page of curves, facts and settings, or the curves alone as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from groundwork.errors import InputError
from groundwork.file_writes import make_folder, write_atomically
from pages.charts import Series, chart_grid, line_chart
from pages.environment import page_environment
from pages.formats import flatten
from pages.svg import svg_file
from training.loop.run_log import read_log

_BLUE, _GREEN, _YELLOW, _DARK = "#1f6f8b", "#3f8f6b", "#e0a63f", "#1c2733"
_PANELS: Final = (
    ("Loss", {"loss": _DARK, "contrastive": _BLUE, "soft": _YELLOW}, False),
    (
        "Micro mAP on the validation split",
        {"knn_map_micro": _GREEN, "linear_map_micro": _BLUE},
        False,
    ),
    ("Standard deviation per dimension (1 is healthy)", {"feature_std": _BLUE}, True),
    ("Effective rank (near 1: collapsed)", {"effective_rank": _BLUE}, True),
    ("Alignment and uniformity", {"alignment": _BLUE, "uniformity": _YELLOW}, False),
    ("Samples per second", {"samples_per_s": _BLUE}, True),
)
"""Title, colours of the log's columns, and whether the vertical axis begins at 0."""
_NAMES: Final = {"knn_map_micro": "kNN", "linear_map_micro": "linear head"}
_MAX_MARKED: Final = 40
"""More points than this are drawn as a line alone: dots would hide it."""


def write_run_report(run: Path, out: Path) -> None:
    """Write the curves of a run.

    Args:
        run: folder of the run.
        out: .svg for the picture alone, .html for a page with settings and scores.

    Raises:
        InputError: the folder holds no run or a damaged one, or the name ends otherwise.
    """
    records = read_log(run)
    if not records or not (run / "run.json").is_file():
        raise InputError(f"{run} holds no run with a log: give the folder of a run")
    if out.suffix == ".svg":
        content = svg_file(
            chart_grid(draw_curves(records), 2, f"Curves of {run.resolve().name} by epoch")
        )
    elif out.suffix == ".html":
        content = _page(run, records)
    else:
        raise InputError(
            f"{out}: the report of a run is a page or a picture; its name has to end with .html "
            "or .svg"
        )
    make_folder(out.parent)
    write_atomically(out, content)


def draw_curves(records: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """Return title and chart of each panel that the log has numbers for, by epoch."""
    panels = []
    for title, colours, from_zero in _PANELS:
        series = []
        for column, colour in colours.items():
            points = [(r["epoch"], r[column]) for r in records if column in r]
            name = _NAMES.get(column, column)
            series.append(Series(name, colour, points, marked=len(points) < _MAX_MARKED))
        chart = line_chart(series, f"{title}, by epoch", x_title="epoch", from_zero=from_zero)
        if chart is not None:
            panels.append((title, chart))
    return panels


def _page(run: Path, records: list[dict[str, Any]]) -> str:
    try:
        document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{run / 'run.json'} is damaged: {error}") from error
    return (
        page_environment("training.loop")
        .get_template("run_report.html")
        .render(
            name=run.resolve().name,
            run=document,
            last=next((r for r in reversed(records) if "loss" in r), None),
            scores=next((r for r in reversed(records) if "knn_map_micro" in r), None),
            charts=draw_curves(records),
            settings=flatten(document["settings"]),
        )
    )
