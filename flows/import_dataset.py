"""``import-dataset``: a cube from folders in the published SSL4EO-S12 layout."""

from __future__ import annotations

from typing import Annotated, Any

from prefect.client.schemas.objects import State
from pydantic import Field

from flows.artifacts import BuildArtifacts
from flows.building import BATCHES_PER_TASK, build_all
from flows.states import resumable_flow
from pipeline.build.rebuild import open_rebuild
from pipeline.cube.lease import wait_while_silent
from pipeline.cube.object_storage import ObjectStorage
from pipeline.sources.ssl4eo_s12.settings import ImportSettings


@resumable_flow("import-dataset")
def import_dataset(
    settings: ImportSettings,
    retry_failed: bool = False,
    batches_per_task: Annotated[int, Field(ge=1, le=10_000)] = BATCHES_PER_TASK,
) -> State[Any] | None:
    """Import SSL4EO-S12 into a cube; a run goes on where the last one of the cube stopped.

    Args:
        settings: what is imported into which cube.
        retry_failed: also read batches again that hold failed patches.
        batches_per_task: batches that one task waits for.
    """
    wait_while_silent(ObjectStorage(settings.cube))
    artifacts = BuildArtifacts(settings.cube)
    with open_rebuild(settings, retry_failed=retry_failed, progress=artifacts) as build:
        return build_all(build, batches_per_task, artifacts)
