"""Fill a cube: hold its lease, hand pending batches to workers, keep the record of the run."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from groundwork.errors import InputError, LimitReachedError
from pipeline.build.batches import BatchOutcome, build_batch, cancel_batches, read_batch
from pipeline.build.budget import LEDGER_FOLDER, Budget, read_ledgers
from pipeline.cube.lease import Lease
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import BatchMarker, PatchStore, check_place, content_digests
from pipeline.cube.seal import derive_digest, seal_cube
from pipeline.errors import CubeDamagedError, LeaseLostError, UnreachableError
from pipeline.ledger import Ledger
from pipeline.patches import SourceOfBatch
from pipeline.sources.settings import BudgetSettings
from storage_schema.layout import CubeDescription

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

_ENDING_S: Final = 10.0
"""How long cancelled batches are waited for: a request on its way is not called back."""

PrepareCluster = Callable[["Client"], None]
"""Called with the cluster's client before the first batch, for what its workers have to share."""


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
        batches_at_once: that a process has under way; with two, one is written while the next is
            fetched.
    """

    num_workers: int = 1
    scheduler: str | None = None
    batches_at_once: int = 1


@dataclass(slots=True)
class BuildSummary:
    """What one run did."""

    num_batches: int
    built: list[int] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    """Of this run."""
    spent: Ledger = field(default_factory=Ledger)
    """Of all runs of this cube."""
    num_locations: int = 0
    stopped: str | None = None
    """Why batches were left for the next run."""


def build_cube(
    storage: ObjectStorage,
    description: CubeDescription,
    location_ids: Sequence[str],
    source_of_batch: SourceOfBatch,
    *,
    execution: Execution | None = None,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
    budget: BudgetSettings | None = None,
    prepare_cluster: PrepareCluster | None = None,
) -> BuildSummary:
    """Build the pending batches of a cube; running it again continues, and repairs.

    Args and errors are those of `open_build`.
    """
    with open_build(
        storage,
        description,
        location_ids,
        source_of_batch,
        execution=execution,
        retry_failed=retry_failed,
        progress=progress,
        budget=budget,
        prepare_cluster=prepare_cluster,
    ) as build:
        build.finish(build.pending)
    return build.summary


@contextlib.contextmanager
def open_build(
    storage: ObjectStorage,
    description: CubeDescription,
    location_ids: Sequence[str],
    source_of_batch: SourceOfBatch,
    *,
    execution: Execution | None = None,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
    budget: BudgetSettings | None = None,
    prepare_cluster: PrepareCluster | None = None,
) -> Iterator[Build]:
    """Hold a cube, with workers at hand, while its pending batches are built.

    Args:
        storage: where the cube is, or is to be.
        description: what it is made of.
        location_ids: one id per location, in order.
        source_of_batch: where the patches of a batch come from.
        execution: how many workers.
        retry_failed: also rewrite complete batches that have failed or rejected patches.
        progress: told after every batch.
        budget: what all runs of this cube may spend together; no further batch begins beyond it.
        prepare_cluster: what the workers of a cluster have to share.

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
        if client is not None and prepare_cluster is not None:
            prepare_cluster(client)
        tasks = stack.enter_context(_tasks(client, execution, lease.token))
        account = Budget(budget or BudgetSettings(), read_ledgers(storage))
        build = Build(store, source_of_batch, lease, tasks, account, pending, progress or _silent)
        try:
            yield build
            build.finish(())
        finally:
            build.record(execution)
    if was_sealed and build.summary.built:
        seal_cube(storage)


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


def read_pilot(source_of_batch: SourceOfBatch, location_ids: Sequence[str]) -> tuple[Ledger, float]:
    """Read some locations and throw them away.

    Returns:
        What they cost, and the seconds they took.

    Raises:
        InputError, TransientError: as the source.
    """
    source = source_of_batch(location_ids)
    began = time.monotonic()
    for _ in source.read_locations(location_ids):
        pass
    ledger = Ledger()
    ledger.add(source.ledger)
    ledger.num_locations = len(location_ids)
    return ledger, time.monotonic() - began


class Build:
    """Builds the pending batches of a cube that is held.

    Args:
        pending: batches that were pending when the cube was taken.
        summary: what was done so far.
    """

    def __init__(
        self,
        store: PatchStore,
        source_of_batch: SourceOfBatch,
        lease: Lease,
        tasks: _Tasks,
        budget: Budget,
        pending: Sequence[int],
        progress: BuildProgress,
    ) -> None:
        self._store, self._source_of_batch, self._lease = store, source_of_batch, lease
        self._tasks, self._budget, self._progress = tasks, budget, progress
        self.pending = tuple(pending)
        self._waiting = deque(pending)
        self._begun_s: dict[int, float] = {}
        self._errors: dict[int, BaseException] = {}
        self.summary = BuildSummary(
            store.description.num_batches, ledger=budget.this_run, spent=budget.spent
        )
        self._progress(0, len(self.pending), None)

    def finish(self, batches: Sequence[int]) -> dict[int, BaseException]:
        """Build these; workers that would be idle meanwhile begin with the ones after them.

        Args:
            batches: some of `pending`; those that failed are tried again. Without any, what is
                under way comes to its end.

        Returns:
            What those that failed met. Batches that the budget left out are in neither list:
            `summary.stopped` says why.

        Raises:
            LimitReachedError, LeaseLostError, InputError: an error that concerns all batches.
        """
        again = sorted(self._errors.keys() & set(batches))
        for batch in again:
            del self._errors[batch], self.summary.failures[batch]
        self._waiting.extendleft(reversed(again))
        wanted = set(batches) - set(self.summary.built)
        while wanted or not batches:
            if batches:
                self._submit()
            if not self._begun_s:
                break
            outcome = self._tasks.next_outcome()
            self._note(outcome)
            wanted.discard(outcome.batch)
        return {batch: self._errors[batch] for batch in batches if batch in self._errors}

    @property
    def location_ids(self) -> list[str]:
        """Ids of the locations that are pending, in order."""
        ranges = [self.location_range(batch) for batch in self.pending]
        return [name for a, b in ranges for name in self._store.location_ids[a:b]]

    def pilot(self, location_ids: Sequence[str]) -> tuple[Ledger, float]:
        """Fetch some locations, book what they cost, and throw them away.

        Returns:
            What they cost, and the seconds they took.

        Raises:
            InputError, TransientError: as `finish`.
        """
        ledger, took_s = read_pilot(self._source_of_batch, location_ids)
        self._budget.note(ledger, 0)
        return ledger, took_s

    def location_range(self, batch: int) -> tuple[int, int]:
        """Return the first location of a batch and the first one after it."""
        return self._store.description.batch_range(batch)

    def record(self, execution: Execution) -> None:
        """Keep what this run did."""
        self._write_ledger()
        self.summary.built.sort()
        if self.summary.built or self.summary.failures:
            _record(self._store.storage, self.summary, execution, self._lease)

    def _submit(self) -> None:
        """Keep as many batches submitted as workers take, while the budget has room for them."""
        while self._waiting and len(self._begun_s) < self._tasks.most_at_once:
            ranges = [self.location_range(batch) for batch in (*self._begun_s, self._waiting[0])]
            self.summary.stopped = self._budget.shortage(sum(b - a for a, b in ranges))
            if self.summary.stopped is not None:
                self._waiting.clear()
                return
            batch = self._waiting.popleft()
            start, stop = ranges[-1]
            ids = self._store.location_ids[start:stop]
            self._begun_s[batch] = time.monotonic()
            self._tasks.submit(
                (self._store, self._source_of_batch(ids), batch, ids, self._lease.token)
            )

    def _note(self, outcome: BatchOutcome) -> None:
        """Book how a batch ended."""
        summary = self.summary
        start, stop = self.location_range(outcome.batch)
        took_s = time.monotonic() - self._begun_s.pop(outcome.batch)
        self._budget.note(outcome.ledger, stop - start, took_s)
        if isinstance(outcome.error, LimitReachedError | LeaseLostError | InputError):
            raise outcome.error
        if outcome.marker is None:
            error = outcome.error or RuntimeError("it left no marker")
            self._errors[outcome.batch] = error
            summary.failures[outcome.batch] = f"{type(error).__name__}: {error}"
        else:
            summary.built.append(outcome.batch)
            summary.num_locations += stop - start
            summary.counts.update(outcome.marker.counts)
            summary.warnings.extend(outcome.marker.warnings)
        self._write_ledger()
        done = len(summary.built) + len(summary.failures)
        self._progress(done, len(self.pending), outcome.marker)

    def _write_ledger(self) -> None:
        """Keep what this run has spent so far: a kill loses the batches under way at most."""
        ledger = self.summary.ledger
        if ledger.num_requests:
            key = f"{LEDGER_FOLDER}/{_run_name(self._lease)}.json"
            self._store.storage.write(key, ledger.encode())


class _Tasks(Protocol):
    """Runs `build_batch` somewhere."""

    most_at_once: int

    def submit(self, work: tuple[Any, ...]) -> None:
        """Begin one batch."""
        ...

    def next_outcome(self) -> BatchOutcome:
        """Wait for the next batch to end."""
        ...


@contextlib.contextmanager
def _tasks(client: Client | None, execution: Execution, lease_token: str) -> Iterator[_Tasks]:
    """Run batches on the cluster where there is one, else in this process."""
    if client is not None:
        with _DaskTasks(client, lease_token) as on_cluster:
            yield on_cluster
    elif execution.batches_at_once > 1:
        with _Threads(execution.batches_at_once, lease_token) as in_threads:
            yield in_threads
    else:
        yield _OneByOne()


class _OneByOne:
    """Batches in this thread."""

    most_at_once = 1

    def submit(self, work: tuple[Any, ...]) -> None:
        self._work = work

    def next_outcome(self) -> BatchOutcome:
        return build_batch(*self._work)


class _DaskTasks:
    """Batches on a cluster; twice as many are submitted as it has threads: it never runs dry."""

    def __init__(self, client: Client, lease_token: str) -> None:
        from distributed import as_completed

        self.most_at_once = 2 * max(1, sum(client.nthreads().values()))
        self._client, self._lease_token = client, lease_token
        self._ended = as_completed()
        self._running: dict[str, tuple[int, DaskFuture]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._client.cancel([future for _, future in self._running.values()])
            give_up_at = time.monotonic() + _ENDING_S
            while any(self._still_running()) and time.monotonic() < give_up_at:
                time.sleep(0.1)

    def _still_running(self) -> Iterable[int]:
        """Cancel what runs; per worker, how much still does."""
        told = self._client.run(cancel_batches, self._lease_token, on_error="ignore")
        return cast("dict[str, int]", told).values()

    def submit(self, work: tuple[Any, ...]) -> None:
        future = self._client.submit(build_batch, *work, pure=False, retries=0)
        self._running[future.key] = work[2], future
        self._ended.add(future)

    def next_outcome(self) -> BatchOutcome:
        future = next(self._ended)
        batch, _ = self._running.pop(future.key)
        error = future.exception()  # Of Dask, such as a worker that died again and again.
        found = BatchOutcome(batch, None, error, Ledger()) if error else future.result()
        assert isinstance(found, BatchOutcome)
        future.release()
        return found


class _Threads:
    """Batches in threads of this process."""

    def __init__(self, num_threads: int, lease_token: str) -> None:
        self.most_at_once = num_threads
        self._lease_token = lease_token
        self._pool = ThreadPoolExecutor(num_threads, "batch")
        self._running: set[Future[BatchOutcome]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            cancel_batches(self._lease_token)
        self._pool.shutdown()

    def submit(self, work: tuple[Any, ...]) -> None:
        self._running.add(self._pool.submit(build_batch, *work))

    def next_outcome(self) -> BatchOutcome:
        done = next(as_completed(self._running))
        self._running.remove(done)
        return done.result()


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
            raise UnreachableError(
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
            threads_per_worker=execution.batches_at_once,
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
        "stopped": summary.stopped,
        "python": platform.python_version(),
        "software": {name: version(name) for name in ("softcon-cube", "zarr", "numcodecs")},
    }
    key = f"provenance/builds/{_run_name(lease)}.json"
    storage.write(key, json.dumps(record, indent=1).encode())


def _run_name(lease: Lease) -> str:
    return f"{lease.since.replace(':', '')}-{lease.token[:8]}"
