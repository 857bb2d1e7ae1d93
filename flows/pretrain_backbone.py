"""``pretrain-backbone``: from sealed cubes to an exported backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.artifacts import show_link
from flows.states import partial, resumable_flow
from flows.training_process import run_processes, run_slurm_job
from groundwork.errors import unknown_choice
from groundwork.file_writes import make_folder, write_atomically
from groundwork.settings_text import SettingsModel
from training.choices import Layout
from training.config import RunSettings


class LaunchSettings(SettingsModel):
    """Where a run trains.

    Args:
        how: `processes` on the machine of the worker, or a job of `slurm`.
        num_processes: one per GPU; with `processes`.
        slurm_script: for sbatch; with `slurm`.
    """

    how: Literal["processes", "slurm"] = "processes"
    num_processes: int = Field(1, ge=1, le=64)
    slurm_script: str = "configs/cluster/pretrain.slurm"


HERE: Final = LaunchSettings()


def exported_to(settings: RunSettings) -> Path:
    """Return where a run's backbone is exported to, where no other file is named."""
    return Path(settings.out) / "backbone.safetensors"


@resumable_flow("pretrain-backbone")
def pretrain_backbone(
    settings: RunSettings,
    launch: LaunchSettings = HERE,
    backbone: Annotated[str | None, Field(pattern=r"\.(safetensors|pth)$")] = None,
    layout: Layout = "timm",
) -> State[Any] | None:
    """Pretrain a backbone, export it, and draw the run; goes on at the last checkpoint.

    Args:
        settings: what `softcon pretrain` reads from a YAML file.
        launch: where it trains.
        backbone: file to export to; backbone.safetensors in the run's folder by default.
        layout: of the exported keys.
    """
    out = Path(settings.out)
    if not train(settings, launch):
        return partial(f"{out} was asked to stop and has saved itself: the next run goes on")
    file = exported_to(settings) if backbone is None else Path(backbone)
    weights, page = finish(out, file, layout)
    show_link("backbone", settings.out, weights)
    show_link("run", settings.out, page)
    return None


@task(cache_policy=NO_CACHE, persist_result=False)
def train(settings: RunSettings, launch: LaunchSettings) -> bool:
    """Train; tells whether the run is done."""
    out = Path(settings.out)
    make_folder(out)
    config = out / "settings.yaml"
    write_atomically(config, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
    say = get_run_logger().info
    match launch.how:
        case "slurm":
            return run_slurm_job(config, out, Path(launch.slurm_script), say)
        case "processes":
            return run_processes(config, out, launch.num_processes, say)
        case _:
            choices = get_args(LaunchSettings.model_fields["how"].annotation)
            raise unknown_choice("launch.how", launch.how, choices)


@task(cache_policy=NO_CACHE, persist_result=False)
def finish(out: Path, weights: Path, layout: Layout) -> tuple[str, str]:
    """Export, and draw the run; returns where both are."""
    from training.backbones.export import export_backbone
    from training.loop.run_report import write_run_report

    export_backbone(out, weights, layout)
    page = out / "report.html"
    write_run_report(out, page)
    return str(weights.resolve()), str(page.resolve())
