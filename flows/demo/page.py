"""A demo as one self-contained page: what was built, what was learnt, what it took."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
import zarr

from flows.demo.backbones import MIN_CLASS_FRACTION, DemoBackbone
from flows.demo.cubes import DemoCube
from flows.demo.pictures import cloud, neighbours
from flows.demo.stages import Stages
from groundwork.file_writes import write_atomically
from pages.charts import Interval, interval_chart, point_cloud
from pipeline.report.environment import cube_environment
from pipeline.report.page import report_values
from pipeline.sources.earth_engine.settings import HIGH_VOLUME_ENDPOINT
from storage_schema.land_cover import CLASSES
from training.loop.run_log import read_log
from training.loop.run_report import draw_curves

_GALLERY: Final = 4
_QUERIES, _FOUND = 6, 5
_TRAINED, _RANDOM = "#1f6f8b", "#b4552d"


def write_page(
    page: Path, stages: Stages, cubes: Sequence[DemoCube], backbones: Sequence[DemoBackbone]
) -> None:
    """Write the page of a demo whose other stages are done.

    Args:
        page: HTML file; an older one is replaced.
        stages: with times and facts.
        cubes: that were built.
        backbones: that were trained.
    """
    real = len(cubes) > 1
    done = [stage for stage in stages.stages.values() if stage.done]
    longest = max(stage.seconds for stage in done)
    write_atomically(
        page,
        cube_environment("flows.demo")
        .get_template("demo.html")
        .render(
            real=real,
            links=_links(real, cubes, backbones),
            stages=done,
            seconds=sum(stage.seconds for stage in done),
            longest=longest,
            cubes=[_cube(cube, stages) for cube in cubes],
            backbones=[_backbone(backbone, stages) for backbone in backbones],
            classes=[(c.name, c.colour) for c in CLASSES],
            min_class_fraction=MIN_CLASS_FRACTION,
            by_hand=real_commands(cubes[0], backbones),
            trained_colour=_TRAINED,
            random_colour=_RANDOM,
            machine=f"{platform.system()}, {psutil.cpu_count()} CPU cores, "
            f"{psutil.virtual_memory().total / 2**30:.0f} GiB memory, Python "
            f"{platform.python_version()}, torch {version('torch')}",
            version=version("softcon-cube"),
        ),
    )


def _links(
    real: bool, cubes: Sequence[DemoCube], backbones: Sequence[DemoBackbone]
) -> list[tuple[str, str]]:
    """Return id and title of every section of the page."""
    return [
        ("stages", "What happened"),
        *((cube.name, _heading(cube)) for cube in cubes),
        *((backbone.name, f"Backbone {backbone.title}") for backbone in backbones),
        *([] if real else [("by-hand", "With real credentials")]),
        ("licences", "Licences"),
    ]


def _heading(cube: DemoCube) -> str:
    return cube.title[0].upper() + cube.title[1:]


def real_commands(cube: DemoCube, backbones: Sequence[DemoBackbone]) -> list[str]:
    """Return what does the same with the real service, from the settings that the demo wrote."""
    folder = cube.address.parent
    lines = [
        "earthengine authenticate",
        f"softcon rebuild {folder / 'rebuild.yaml'} --set cube=real.zarr \\\n"
        "  --set earth_engine.project=MY-PROJECT "
        "--set earth_engine.credentials=application_default \\\n"
        f"  --set earth_engine.endpoint={HIGH_VOLUME_ENDPOINT}",
        "softcon seal real.zarr",
        "softcon audit real.zarr",
        "softcon report real.zarr --out real.html",
    ]
    for backbone in backbones:
        name = f"real_{backbone.name}"
        lines += [
            f"softcon pretrain {backbone.config} --set 'data.cubes=[real.zarr]' --set out={name}",
            f"softcon export {name} --out {name}.safetensors",
            f"softcon probe {name}.safetensors --cube real.zarr --record",
        ]
    return lines


def _cube(cube: DemoCube, stages: Stages) -> dict[str, Any]:
    group = zarr.open_group(cube.address, mode="r")
    found = report_values(group, title=cube.address.name, num_gallery=_GALLERY)
    built = stages.stages[f"build {cube.name}"]
    return found | {
        "name": cube.name,
        "heading": _heading(cube),
        "page": cube.address.with_suffix(".html").name,
        "built": built,
        "audited": stages.stages[f"audit {cube.name}"].facts,
    }


def _backbone(backbone: DemoBackbone, stages: Stages) -> dict[str, Any]:
    records = [r for r in read_log(backbone.run) if "loss" in r]
    probes = stages.stages[f"probe {backbone.name}"].facts
    plane = cloud(backbone)
    settings = backbone.settings
    return {
        "name": backbone.name,
        "title": backbone.title,
        "encoder": settings.model.encoder,
        "bands": settings.data.num_bands,
        "steps": records[-1]["step"],
        "batch_size": settings.batch_size,
        "image_size": settings.views.image_size,
        "first": records[0],
        "last": records[-1],
        "weights": backbone.weights.name,
        "card": backbone.weights.with_suffix(".md").name,
        # Loss, scores, and the two monitors of a collapse; the run's own report has the rest.
        "curves": draw_curves(read_log(backbone.run))[:4],
        "probes": probes,
        "probe_figure": interval_chart(_intervals(probes), f"Probes of {backbone.title}"),
        "num_train": probes["trained knn"]["num_train"],
        "num_test": probes["trained knn"]["num_test"],
        "neighbours": neighbours(backbone, _QUERIES, _FOUND),
        "cloud": point_cloud(
            plane.points,
            plane.colours,
            plane.names,
            f"Patches in the plane of the two strongest directions of {backbone.title}'s features",
        ),
        "explained": plane.explained,
    }


def _intervals(probes: dict[str, Any]) -> list[Interval]:
    rows = []
    for mean in ("micro", "macro"):
        for method, words in (("knn", "kNN"), ("linear", "linear head")):
            for name, colour in (("trained", _TRAINED), ("random", _RANDOM)):
                value, low, high = probes[f"{name} {method}"][mean]
                title = "pretrained" if name == "trained" else "random init"
                rows.append(Interval(f"{mean} mAP, {words}, {title}", colour, value, low, high))
    return rows
