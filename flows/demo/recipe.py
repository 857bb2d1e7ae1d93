"""The chain of a demo: cubes, backbones, page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flows.demo.backbones import DemoBackbone, describe_backbone, make_backbone
from flows.demo.cubes import (
    Bar,
    DemoCube,
    check_real_data,
    make_cube,
    simulated_cube,
    ssl4eo_cube,
    virginia_cube,
)
from flows.demo.stages import Say, Stages
from storage_schema.products import ImageryName
from storage_schema.status import Split
from training.config import DataSettings

PAGE_NAME: Final = "report.html"
_STAGES_OF_CUBE, _STAGES_OF_BACKBONE = 4, 3
STEPS: Final = 90
STEPS_REAL: Final = 300


def run_demo(out: Path, num_locations: int, num_steps: int, say: Say, bar: Bar) -> Path:
    """Run the demo in the simulated world, or go on with it; return its page.

    Args:
        out: its folder.
        num_locations: of the cube.
        num_steps: about how many steps each backbone is trained.
        say: told a line as each stage begins and ends.
        bar: makes progress bars.

    Raises:
        InputError: the folder holds something else.
        SoftconError: a stage failed; the same call continues.
    """
    about = {"kind": "simulated", "locations": num_locations, "steps": num_steps}
    stages = Stages(out, about, _STAGES_OF_CUBE + 2 * _STAGES_OF_BACKBONE + 1, say)
    return _run(
        out,
        stages,
        [simulated_cube(out, num_locations, bar)],
        [("s2", "s2_l1c"), ("s1", "s1_grd")],
        num_steps,
        bar,
    )


def run_real_demo(out: Path, data: Path, num_steps: int, say: Say, bar: Bar) -> Path:
    """Run the demo on real pixels, or go on with it; return its page.

    Args:
        out: its folder.
        data: folder with ``virginia_coast`` and ``ssl4eo_s12_sample``.
        num_steps: about how many steps the backbone is trained.
        say: told a line as each stage begins and ends.
        bar: makes progress bars.

    Raises:
        InputError: the data are not there, or the folder holds something else.
        SoftconError: a stage failed; the same call continues.
    """
    check_real_data(data)
    about = {"kind": "real", "steps": num_steps}
    stages = Stages(out, about, 2 * _STAGES_OF_CUBE + _STAGES_OF_BACKBONE + 1, say)
    cubes = [virginia_cube(out, data, bar), ssl4eo_cube(out, data, bar)]
    return _run(out, stages, cubes, [("s2", "s2_l1c")], num_steps, bar)


def _run(
    out: Path,
    stages: Stages,
    cubes: Sequence[DemoCube],
    modalities: Sequence[tuple[str, ImageryName]],
    num_steps: int,
    bar: Bar,
) -> Path:
    for cube in cubes:
        make_cube(cube, stages, bar)
    addresses = [cube.address for cube in cubes]
    backbones: list[DemoBackbone] = []
    for name, modality in modalities:
        num_train = _num_locations(addresses, modality)
        backbone = describe_backbone(out, name, addresses, modality, num_train, num_steps)
        make_backbone(backbone, stages)
        backbones.append(backbone)
    page = out / PAGE_NAME
    stages.run("page", "Draw the page about all of it", _draw(page, stages, cubes, backbones))
    return page


def _draw(
    page: Path, stages: Stages, cubes: Sequence[DemoCube], backbones: Sequence[DemoBackbone]
) -> Callable[[], None]:
    def draw() -> None:
        from flows.demo.page import write_page

        write_page(page, stages, cubes, backbones)

    return draw


def _num_locations(cubes: Sequence[Path], modality: ImageryName) -> int:
    from training.reading.patch_index import open_index

    data = DataSettings(cubes=tuple(str(cube) for cube in cubes), modality=(modality,))
    return len(open_index(data, Split.TRAIN))
