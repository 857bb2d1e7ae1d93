"""``rebuild-dataset``: a cube from Earth Engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect.client.schemas.objects import State
from pydantic import Field

from flows.artifacts import BuildArtifacts, show_forecast
from flows.building import BATCHES_PER_TASK, build_all
from flows.states import resumable_flow
from pipeline.build.forecast import forecast_build
from pipeline.build.rebuild import open_rebuild
from pipeline.cube.lease import wait_while_silent
from pipeline.cube.object_storage import ObjectStorage
from pipeline.sources.registry import AnyBuildSettings


@resumable_flow("rebuild-dataset")
def rebuild_dataset(
    settings: AnyBuildSettings,
    retry_failed: bool = False,
    pilot: Annotated[int, Field(ge=0, le=1000)] = 0,
    batches_per_task: Annotated[int, Field(ge=1, le=10_000)] = BATCHES_PER_TASK,
) -> State[Any] | None:
    """Fill a cube from Earth Engine; a run goes on where the last one of the cube stopped.

    Args:
        settings: what `softcon rebuild` reads from a YAML file.
        retry_failed: also fetch batches again that hold failed patches.
        pilot: locations to fetch first, in order to forecast the cost; they are thrown away.
        batches_per_task: batches that one task waits for.
    """
    wait_while_silent(ObjectStorage(settings.cube))
    artifacts = BuildArtifacts(settings.cube)
    with open_rebuild(settings, Path.cwd(), retry_failed=retry_failed, progress=artifacts) as build:
        expected = forecast_build(settings, build, pilot) if build.pending else None
        if expected is not None:
            show_forecast(settings.cube, expected)
        return build_all(build, batches_per_task, artifacts)
