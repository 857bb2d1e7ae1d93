"""Draw the README's picture of a demo on real pixels: what was learnt, and what comes near to what.

Run, where the demo was run, as ``python docs/images/make_demo_picture.py demo-real-run OUT.jpg``.
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

from flows.demo.backbones import DemoBackbone
from flows.demo.pictures import Picture, neighbours
from training.config import read_run_settings
from training.loop.run_log import read_log


def pixels(picture: Picture) -> np.ndarray:
    """Return a picture's RGB."""
    content = base64.b64decode(picture.uri.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)))


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a demo with --real")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    config = given.demo / "pretrain_s2.yaml"
    changes = [f"out={given.demo / 'run_s2'}"]
    backbone = DemoBackbone("s2", "Sentinel-2", read_run_settings(config, changes), config)
    rows = neighbours(backbone, 3, 4)
    figure = plt.figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    records = [record for record in read_log(backbone.run) if "loss" in record]
    upper, lower = left.subplots(2, 1, sharex=True)
    for name, colour in (("loss", "#1c2733"), ("contrastive", "#1f6f8b"), ("soft", "#e0a63f")):
        upper.plot(
            [r["step"] for r in records], [r[name] for r in records], label=name, color=colour
        )
    upper.legend(fontsize=7, frameon=False)
    upper.set_title("Pretraining on real pixels: the loss", fontsize=9, loc="left")
    lower.plot(
        [r["step"] for r in records], [r["effective_rank"] for r in records], color="#1f6f8b"
    )
    lower.set_ylim(bottom=0)
    lower.set_title("Effective rank of the features (1: collapsed)", fontsize=9, loc="left")
    lower.set_xlabel("step", fontsize=8)
    for axes in (upper, lower):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    right.suptitle("A patch of the test split, and the nearest of the train split", fontsize=9)
    grid = right.subplots(len(rows), 5)
    for line, row in zip(grid, rows, strict=True):
        for axes, shown in zip(line, (row.query, *row.found), strict=True):
            axes.imshow(pixels(shown))
            axes.set_title(shown.land_cover.split(",")[0], fontsize=6, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
        for spine in line[0].spines.values():
            spine.set_linewidth(2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    Image.open(buffer).convert("RGB").save(given.out, quality=85, optimize=True)


if __name__ == "__main__":
    main()
