"""``import-dataset``: a cube from folders in the published SSL4EO-S12 layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect.client.schemas.objects import State
from pydantic import Field

from flows.artifacts import BuildArtifacts
from flows.building import BATCHES_PER_TASK, build_all
from flows.states import resumable_flow
from groundwork.settings_text import Matching, PathText, SettingsModel
from pipeline.build.builder import Execution
from pipeline.build.importing import DEFAULT_SPLIT, open_import
from pipeline.cube.lease import wait_while_silent
from pipeline.cube.object_storage import ObjectStorage
from pipeline.places.settings import MAX_SEED, SplitSettings
from pipeline.sources.earth_engine.settings import SCHEDULER, WHICH_SCHEDULER
from storage_schema.layout import LOCATIONS_PER_BATCH
from storage_schema.products import ProductName


class ImportSettings(SettingsModel):
    """An import: the options of ``softcon import ssl4eo-s12``.

    Args:
        root: folder that holds s1, s2a, s2c, dw (any of them).
        cube: folder or s3://bucket/prefix to write.
        labels: SSL4EO-S12-ML label file (JSON).
        products: products to import; all that are there by default.
        locations_per_batch: locations per shard of a new cube.
        split: into train, validation, test and buffer, by blocks of the Earth's surface.
        split_seed: decides which block is what.
        workers: processes on this machine.
        dask: address of a Dask scheduler, instead of workers.
    """

    root: PathText
    cube: PathText
    labels: PathText | None = None
    products: tuple[ProductName, ...] | None = None
    locations_per_batch: int = Field(LOCATIONS_PER_BATCH, ge=1, le=1024)
    split: SplitSettings = DEFAULT_SPLIT
    split_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    workers: int = Field(1, ge=1, le=1024)
    dask: Annotated[str, Matching(SCHEDULER, WHICH_SCHEDULER)] | None = None


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
    storage = ObjectStorage(settings.cube)
    wait_while_silent(storage)
    artifacts = BuildArtifacts(settings.cube)
    with open_import(
        storage,
        Path(settings.root),
        None if settings.labels is None else Path(settings.labels),
        products=settings.products,
        locations_per_batch=settings.locations_per_batch,
        split=settings.split,
        split_seed=settings.split_seed,
        execution=Execution(num_workers=settings.workers, scheduler=settings.dask),
        retry_failed=retry_failed,
        progress=artifacts,
    ) as build:
        return build_all(build, batches_per_task, artifacts)
