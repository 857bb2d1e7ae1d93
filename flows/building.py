"""A build as Prefect sees it: a task per group of batches, Dask inside, artifacts beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.artifacts import BuildArtifacts
from flows.states import partial
from groundwork.errors import SoftconError, TransientError
from pipeline.build.builder import Build

BATCHES_PER_TASK = 16
"""Of 64 locations: some minutes at the provider's limits."""
TRIES_PAUSES_S: list[float] = [5, 15, 60, 180]


class BatchesFailedError(SoftconError):
    """Batches met an error that another try does not mend."""


def build_all(build: Build, batches_per_task: int, artifacts: BuildArtifacts) -> State[Any] | None:
    """Build what is pending, group by group.

    Returns:
        The state of a run that a budget ended; None when all is done.

    Raises:
        BatchesFailedError, TransientError, LimitReachedError, LeaseLostError: as they say.
    """
    try:
        for group in groups_of(build.pending, batches_per_task):
            build_batches.with_options(task_run_name=f"batches {group[0]} to {group[-1]}")(
                build, group
            )
            if build.summary.stopped is not None:
                return partial(build.summary.stopped)
    finally:
        artifacts.finish(build)
    return None


def groups_of(batches: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield consecutive batches, `size` at a time."""
    for start in range(0, len(batches), size):
        yield list(batches[start : start + size])


def _is_transient(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TransientError)


@task(
    name="build-batches",
    retries=len(TRIES_PAUSES_S),
    retry_delay_seconds=TRIES_PAUSES_S,
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def build_batches(build: Build, batches: list[int]) -> None:
    """Build a group of batches; complete ones are never done again, whatever crashes."""
    errors = build.finish(batches)
    if not errors:
        return
    first = min(errors)
    start, stop = build.location_range(first)
    sentence = (
        f"{len(errors)} of {len(batches)} batches are left, the first {first} (locations {start} "
        f"to {stop - 1}): {errors[first]}"
    )
    if all(_may_pass(error) for error in errors.values()):
        raise TransientError(sentence)
    raise BatchesFailedError(sentence)


def _may_pass(error: BaseException) -> bool:
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    # A worker that a machine lost says nothing about the batch it had.
    return isinstance(error, TransientError | KilledWorker | CommClosedError)
