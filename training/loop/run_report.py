"""A run in one picture, and a page around it."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from groundwork.errors import InputError
from groundwork.file_writes import make_folder, write_atomically
from training.loop.run_log import read_log

_PANELS = (
    ("Loss", ("loss", "contrastive", "soft")),
    ("Scores on the validation split (micro mAP)", ("knn_map_micro", "linear_map_micro")),
    ("Collapse: per-dimension std (1 is healthy)", ("feature_std",)),
    ("Collapse: effective rank", ("effective_rank",)),
    ("Alignment and uniformity", ("alignment", "uniformity")),
    ("Samples per second", ("samples_per_s",)),
)


def write_run_report(run: Path, out: Path) -> None:
    """Write the curves of a run.

    Args:
        run: folder of the run.
        out: .png for the picture alone, .html for a page with settings and scores.

    Raises:
        InputError: the folder holds no run, or the name ends otherwise.
    """
    records = read_log(run)
    if not records or not (run / "run.json").is_file():
        raise InputError(f"{run} holds no run with a log: give the folder of a run")
    picture = draw_curves(records)
    if out.suffix == ".png":
        content = picture
    elif out.suffix == ".html":
        content = _page(run, records, picture).encode()
    else:
        raise InputError(f"{out} has to end with .png or .html")
    make_folder(out.parent)
    write_atomically(out, content)


def draw_curves(records: list[dict[str, Any]]) -> bytes:
    """Return the curves of a run's log as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(3, 2).flat, _PANELS, strict=True):
        for name in names:
            points = [(r["epoch"], r[name]) for r in records if name in r]
            if points:
                marker = "o" if len(points) < 40 else ""
                axes.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines and len(names) > 1:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _page(run: Path, records: list[dict[str, Any]], picture: bytes) -> str:
    document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    last = [record for record in records if "loss" in record][-1]
    scores = [record for record in records if "knn_map_micro" in record]
    facts = {
        "Encoder": document["settings"]["model"]["encoder"],
        "Modality": ", ".join(document["settings"]["data"]["modality"]),
        "Locations": f"{document['locations']:,}",
        "Steps": f"{last['step']:,} of {document['steps']:,}",
        "Last loss": f"{last['loss']:.4f}",
        "Skipped patches": f"{int(last['skipped'])}",
    }
    if scores:
        facts["Validation, kNN / linear (micro mAP)"] = (
            f"{scores[-1]['knn_map_micro']:.4f} / {scores[-1]['linear_map_micro']:.4f}"
        )
    for cube in document["cubes"]:
        facts[f"Cube {cube['address']}"] = f"digest {cube['digest']}"
    rows = "".join(
        f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>"
        for k, v in facts.items()
    )
    settings = html.escape(json.dumps(document["settings"], indent=1))
    image = base64.b64encode(picture).decode()
    title = html.escape(run.name)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }}
img {{ width: 100%; }} th {{ text-align: left; padding-right: 1.5rem; font-weight: 600; }}
td {{ font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
pre {{ background: #f5f5f2; padding: 1rem; overflow-x: auto; font-size: 13px; }}
</style></head><body>
<h1>{title}</h1><table>{rows}</table>
<img alt="Loss, scores and collapse monitors by epoch" src="data:image/png;base64,{image}">
<h2>Settings</h2><pre>{settings}</pre></body></html>
"""
