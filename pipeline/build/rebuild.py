"""Fill a cube from a registered source: settings in, batches out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from groundwork.errors import InputError
from pipeline.build.builder import (
    Build,
    BuildProgress,
    BuildSummary,
    Execution,
    open_build,
)
from pipeline.cube.object_storage import ObjectStorage
from pipeline.sources.registry import BuildPlan, SettingsOfBuild, kind_of
from pipeline.sources.settings import ExecutionSettings


def rebuild_cube(
    settings: SettingsOfBuild,
    folder: Path = Path(),
    *,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> BuildSummary:
    """Fill a cube from the source of the settings; the same call continues where the last stopped.

    Args and errors are those of `open_rebuild`.
    """
    with open_rebuild(settings, folder, retry_failed=retry_failed, progress=progress) as build:
        build.finish(build.pending)
    return build.summary


@contextlib.contextmanager
def open_rebuild(
    settings: SettingsOfBuild,
    folder: Path = Path(),
    *,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> Iterator[Build]:
    """Hold a cube while its pending batches are read from the source of the settings.

    Args:
        settings: what to build, and how; their type decides the source.
        folder: where relative paths of the settings start, other than the cube's.
        retry_failed: also read batches again that hold failed patches.
        progress: told after every batch.

    Raises:
        InputError: settings, files, credentials or address are wrong; or as `open_build`.
        TransientError: the source does not answer for now.
        LimitReachedError, LeaseLostError, CubeDamagedError: as `open_build`.
    """
    storage = ObjectStorage(settings.cube)  # Refuses an address before anything is asked.
    kind = kind_of(settings)
    # Wrong credentials are found before anything is written or any worker started.
    with kind.open(settings, folder) as plan:
        _check_products(kind.name, plan)
        with open_build(
            storage,
            plan.description,
            plan.location_ids,
            plan.source_of_batch,
            execution=execution_of(settings.execution),
            retry_failed=retry_failed,
            progress=progress,
            budget=settings.budget,
            prepare_cluster=plan.prepare_cluster,
        ) as build:
            yield build
    build.summary.counts.update(plan.counts)


def _check_products(name: str, plan: BuildPlan) -> None:
    """Refuse a plan whose source would leave arrays of the cube empty, without a word.

    Args:
        name: of the source.
        plan: of the cube.

    Raises:
        InputError: the source delivers other products than the cube is described with.
    """
    delivered = plan.source_of_batch(plan.location_ids[:1]).products
    if set(delivered) != set(plan.description.products):
        raise InputError(
            f"the source {name} delivers {', '.join(delivered)}, not "
            f"{', '.join(plan.description.products)}: ask for the products that it has"
        )


def execution_of(settings: ExecutionSettings) -> Execution:
    """Return how a build runs, from what a user wrote."""
    named = {"threads": Execution(), "processes": Execution(num_workers=settings.workers)}
    found = named.get(settings.dask, Execution(scheduler=settings.dask))
    return Execution(found.num_workers, found.scheduler, settings.batches_at_once)
