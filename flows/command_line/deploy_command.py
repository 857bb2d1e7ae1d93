"""``softcon deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_line.output import print_json, stdout


def deploy(
    rebuild: Annotated[
        Path | None, typer.Option(help="YAML of a rebuild: the default of its deployments.")
    ] = None,
    pretrain: Annotated[
        Path | None, typer.Option(help="YAML of a pretraining: the default of its deployments.")
    ] = None,
    working_dir: Annotated[
        Path, typer.Option(help="Where runs start: relative paths count from here.")
    ] = Path(),
    json_output: Annotated[bool, typer.Option("--json", help="Print what was registered.")] = False,
) -> int:
    """Register work pool, limits, automations and deployments at a Prefect server; again updates.

    Then `prefect worker start --pool softcon`, and
    `prefect deployment run rebuild-dataset/local -p settings='{...}'`.
    """
    from flows.deployments import register

    done = register(_defaults(rebuild, pretrain), working_dir.resolve())
    if json_output:
        print_json(done)
    else:
        for line in done:
            stdout.print(line, markup=False, soft_wrap=True)
    return 0


def _defaults(rebuild: Path | None, pretrain: Path | None) -> dict[str, dict[str, Any]]:
    from pipeline.sources.registry import read_build_settings
    from training.config import read_run_settings

    found: dict[str, dict[str, Any]] = {}
    if rebuild is not None:
        dataset = read_build_settings(rebuild).model_dump(mode="json")
        found["rebuild-dataset"] = {"settings": dataset}
        found["seal-and-audit"] = {"cube": dataset["cube"]}
        found["full-rebuild"] = {"dataset": dataset}
    if pretrain is not None:
        training = read_run_settings(pretrain).model_dump(mode="json")
        found["pretrain-backbone"] = {"settings": training}
        found.setdefault("full-rebuild", {})["training"] = training
    return found
