"""Fill a cube: hold its lease, hand pending batches to workers, keep the record of the run."""

from __future__ import annotations

import contextlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.batches import build_batch, read_batch
from pipeline.errors import CubeDamagedError, InputError, LeaseLostError, LimitReachedError
from pipeline.lease import Lease
from pipeline.object_storage import ObjectStorage
from pipeline.patch_store import BatchMarker, PatchStore, check_place, content_digests
from pipeline.patches import PatchSource
from pipeline.seal import derive_digest, seal_cube
from storage_schema.layout import CubeDescription

if TYPE_CHECKING:
    from distributed import Client

SourceOfBatch = Callable[[Sequence[str]], PatchSource]
"""Returns the source for these locations: a worker then gets what its batch needs, no more."""


class BuildProgress(Protocol):
    """Told how a build goes on."""

    def __call__(self, done: int, of: int, marker: BatchMarker | None) -> None:
        """Report `done` of `of` pending batches; `marker` is the newest (None at the start)."""
        ...


def _silent(done: int, of: int, marker: BatchMarker | None) -> None:
    del done, of, marker


@dataclass(frozen=True, slots=True)
class Execution:
    """How a build runs; it shapes no byte of the cube.

    Args:
        num_workers: processes on this machine; 1 runs in this process.
        scheduler: address of a Dask scheduler to use instead.
    """

    num_workers: int = 1
    scheduler: str | None = None


@dataclass(slots=True)
class BuildSummary:
    """What one run did."""

    num_batches: int
    built: list[int] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


def build_cube(
    storage: ObjectStorage,
    description: CubeDescription,
    location_ids: Sequence[str],
    source_of_batch: SourceOfBatch,
    *,
    execution: Execution | None = None,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> BuildSummary:
    """Build the pending batches of a cube; running it again continues, and repairs.

    Args:
        storage: where the cube is, or is to be.
        description: what it is made of.
        location_ids: one id per location, in order.
        source_of_batch: where the patches of a batch come from.
        execution: how many workers.
        retry_failed: also rewrite complete batches that have failed or rejected patches.
        progress: told after every batch.

    Raises:
        CubeInUseError: another builder holds the cube.
        InputError: the place is taken, or the cube has another plan.
        LimitReachedError: the disk is full; what is complete stays.
        LeaseLostError: another builder took over.
        CubeDamagedError: batches of a sealed cube are to be repaired, but would differ from those
            sealed; nothing was written.
    """
    execution = execution or Execution()
    with contextlib.ExitStack() as stack:
        client = None
        if execution.scheduler is not None:
            client = stack.enter_context(dask_client(execution))  # Before anything is written.
        check_place(storage)
        lease = stack.enter_context(Lease(storage))
        store = PatchStore.begin(storage, description, location_ids)
        was_sealed = store.is_sealed
        if retry_failed:
            if was_sealed:
                raise InputError(
                    f"{storage} is sealed and does not change: build a new cube to try failed "
                    "patches again"
                )
            store.unmark(store.failed_batches())
        pending = store.pending_batches()
        if was_sealed and pending:
            _check_repair(store, source_of_batch, pending)
        if client is None and execution.num_workers > 1 and len(pending) > 1:
            client = stack.enter_context(dask_client(execution))
        summary = _build(store, source_of_batch, pending, lease.token, client, progress or _silent)
        if summary.built or summary.failures:
            _record(storage, summary, execution, lease)
    if was_sealed and summary.built:
        seal_cube(storage)
    return summary


def _check_repair(
    store: PatchStore, source_of_batch: SourceOfBatch, pending: Sequence[int]
) -> None:
    """Refuse to replace batches of a sealed cube by others: read first, write later."""
    markers = store.read_markers()
    for batch in pending:
        start, stop = store.description.batch_range(batch)
        ids = store.location_ids[start:stop]
        assembled = read_batch(store.layout, source_of_batch(ids), ids)
        digests = content_digests(store.layout, assembled.arrays)
        markers[batch] = BatchMarker(batch, start, stop, digests, {})
    digest = derive_digest(store, [marker for marker in markers if marker is not None])
    if digest != store.attributes.get("digest"):
        numbers = ", ".join(str(batch) for batch in pending[:5])
        raise CubeDamagedError(
            f"{store.storage} is sealed and misses batches ({numbers}), but what the source has "
            "for them now is not what was sealed: restore the source, or build a new cube; "
            "nothing was written"
        )


def _build(
    store: PatchStore,
    source_of_batch: SourceOfBatch,
    pending: Sequence[int],
    lease_token: str,
    client: Client | None,
    progress: BuildProgress,
) -> BuildSummary:
    """Build the pending batches; an error of one batch ends the run only if it concerns all."""
    summary = BuildSummary(store.description.num_batches)
    progress(0, len(pending), None)
    outcomes = _run(store, source_of_batch, pending, lease_token, client)
    for done, (batch, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, LimitReachedError | LeaseLostError | InputError):
            raise outcome
        if isinstance(outcome, Exception):
            summary.failures[batch] = f"{type(outcome).__name__}: {outcome}"
            progress(done, len(pending), None)
            continue
        summary.built.append(batch)
        summary.counts.update(outcome.counts)
        summary.warnings.extend(outcome.warnings)
        progress(done, len(pending), outcome)
    summary.built.sort()
    return summary


def _run(
    store: PatchStore,
    source_of_batch: SourceOfBatch,
    pending: Sequence[int],
    lease_token: str,
    client: Client | None,
) -> Iterator[tuple[int, BatchMarker | Exception]]:
    """Yield (batch, its marker or its error) as batches end."""

    def work(batch: int) -> tuple[PatchStore, PatchSource, int, Sequence[str], str]:
        start, stop = store.description.batch_range(batch)
        ids = store.location_ids[start:stop]
        return store, source_of_batch(ids), batch, ids, lease_token

    if client is not None:
        yield from _run_on_dask(client, work, pending)
        return
    for batch in pending:
        try:
            yield batch, build_batch(*work(batch))
        except Exception as error:  # noqa: BLE001 - the caller decides which errors end the run
            yield batch, error


def _run_on_dask(
    client: Client, work: Callable[[int], tuple[Any, ...]], pending: Sequence[int]
) -> Iterator[tuple[int, BatchMarker | Exception]]:
    """Keep twice as many batches submitted as there are threads: the scheduler stays small."""
    from distributed import as_completed

    waiting = iter(pending)
    batch_of = {}
    most = 2 * max(1, sum(client.nthreads().values()))
    running = as_completed()

    def submit_next() -> None:
        batch = next(waiting, None)
        if batch is not None:
            future = client.submit(build_batch, *work(batch), pure=False, retries=0)
            batch_of[future.key] = batch
            running.add(future)

    for _ in range(min(most, len(pending))):
        submit_next()
    for future in running:
        batch = batch_of.pop(future.key)
        error = future.exception()
        yield batch, error if error is not None else future.result()
        future.release()
        submit_next()


@contextlib.contextmanager
def dask_client(execution: Execution) -> Iterator[Client]:
    """Connect to the scheduler, or start worker processes on loopback.

    Raises:
        InputError: the scheduler does not answer.
    """
    from distributed import Client, LocalCluster

    if execution.scheduler is not None:
        try:
            client = Client(execution.scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {execution.scheduler}: start one with `dask "
                "scheduler`, or leave --dask out"
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            # Ctrl-C reaches every process of the terminal; ending workers is the builder's matter.
            preload=["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
            n_workers=execution.num_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _record(
    storage: ObjectStorage, summary: BuildSummary, execution: Execution, lease: Lease
) -> None:
    """Keep what this run did; execution settings belong here and nowhere near the digest."""
    record = {
        "started": lease.since,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_workers": execution.num_workers,
        "scheduler": execution.scheduler is not None,
        "built": summary.built,
        "failures": summary.failures,
        "counts": dict(summary.counts),
        "python": platform.python_version(),
        "software": {name: version(name) for name in ("softcon-cube", "zarr", "numcodecs")},
    }
    key = f"provenance/builds/{lease.since.replace(':', '')}-{lease.token[:8]}.json"
    storage.write(key, json.dumps(record, indent=1).encode())
