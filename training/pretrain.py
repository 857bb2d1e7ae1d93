"""A pretraining run: ``torchrun -m training.pretrain CONFIG`` or ``softcon pretrain CONFIG``.

The same code runs alone on a CPU, on one GPU, and on many. A run that is interrupted at any step
goes on with exactly the next sample, and with the same loss.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from torch import nn

from groundwork.errors import InputError, LimitReachedError, SoftconError, unknown_choice
from groundwork.file_writes import make_folder, write_atomically
from storage_schema.status import Split
from training.checkpoints import find_checkpoint, list_checkpoints, save_checkpoint
from training.config import DataSettings, RunSettings, read_run_settings
from training.distributed import Processes, any_rank, mean_over_ranks, processes
from training.errors import NonFiniteLossError, OutOfMemoryError, TrainingError
from training.loop.monitors import collapse_monitors
from training.loop.run_log import RunLog
from training.loop.steps import (
    LossTerms,
    ViewPair,
    make_optimiser,
    set_learning_rate,
    training_step,
)
from training.network.siamese import SiameseNetwork, update_momentum_branch
from training.objective.label_similarity import needs_fractions
from training.reading.cube_files import CubeFiles
from training.reading.patch_index import PatchIndex, open_index, read_statistics
from training.reading.patch_reader import PatchBatch, PatchReader, PatchRefs
from training.reading.sample_order import SampleOrder
from training.reading.views import ViewMaker, draw_parameters
from training.schedules import ema_momentum, learning_rate

REQUEUE_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""A cluster's warning before it ends a job, or Ctrl-C: save, and leave for the next run."""
REQUEUED: Final = LimitReachedError.exit_code
"""Exit code of a run that was asked to stop: it can be resumed."""
REQUEUE_NAME: Final = "requeue"
"""Left in a run's folder with that code: torchrun ends with 1 whatever its processes return."""
_VIEWS: Final = 0x71E5


@dataclass
class Run:
    """Everything a run consists of while it goes."""

    settings: RunSettings
    folder: Path
    ranks: Processes
    index: PatchIndex
    order: SampleOrder
    reader: PatchReader
    views: ViewMaker
    network: SiameseNetwork
    optimiser: torch.optim.AdamW
    step: int = 0
    skipped: int = 0
    waiting_s: float = 0.0
    stop_wanted: list[int] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return self.order.steps_per_epoch // self.settings.optimiser.accumulate


def pretrain(settings: RunSettings, resume: str = "auto", log: Any = None) -> Path:
    """Run, or go on with a run; return its folder.

    Args:
        settings: of the run.
        resume: `auto`, `none`, or a checkpoint.
        log: a stream for people; standard error by default.

    Raises:
        InputError: settings and cubes do not go together.
        TrainingError: a patch cannot be read, the loss is not finite, or the device is too small.
        SystemExit: code 3 after a signal: saved, to be resumed.
    """
    with processes(settings.device) as ranks:
        _make_repeatable(settings)
        run = prepare(settings, ranks)
        state = find_checkpoint(run.folder, resume)
        if state is not None:
            _restore(run, state)
        if ranks.is_main:
            make_folder(run.folder)
            (run.folder / REQUEUE_NAME).unlink(missing_ok=True)
            _describe(run)
        with _signals(run), _run_log(run, log) as lines:
            _loop(run, lines)
        return run.folder


def prepare(settings: RunSettings, ranks: Processes) -> Run:
    """Open what a run reads and make what it trains; nothing is written.

    Raises:
        InputError: settings and cubes do not go together.
    """
    index = open_index(settings.data, Split.TRAIN)
    per_batch = settings.batch_size // settings.optimiser.accumulate
    if settings.batch_size % (settings.optimiser.accumulate * ranks.world_size):
        raise InputError(
            f"batch_size {settings.batch_size} is not a multiple of {ranks.world_size} processes x "
            f"{settings.optimiser.accumulate} accumulated batches"
        )
    order = SampleOrder(index.complete, settings.seed, per_batch, ranks.rank, ranks.world_size)
    if order.steps_per_epoch < settings.optimiser.accumulate:
        raise InputError(
            f"batch_size {settings.batch_size} is more than the {len(index)} locations of the "
            "train split: lower it, or give more cubes"
        )
    statistics = read_statistics(settings.data)
    views = ViewMaker(settings.data.modality, statistics, settings.views).to(ranks.device)
    torch.manual_seed(settings.seed)
    network = SiameseNetwork(settings.model, settings.data.num_bands, settings.views.image_size).to(
        ranks.device
    )
    if ranks.device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if ranks.world_size > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return Run(
        settings=settings,
        folder=Path(settings.out),
        ranks=ranks,
        index=index,
        order=order,
        reader=PatchReader(
            index,
            settings.data.modality,
            pin=ranks.device.type == "cuda",
            skip_unreadable=skips_unreadable(settings.data),
        ),
        views=views,
        network=network,
        optimiser=make_optimiser(network, settings.optimiser, fused=ranks.device.type == "cuda"),
    )


def skips_unreadable(data: DataSettings) -> bool:
    """Tell whether patches that cannot be read are left out.

    Raises:
        ValueError: `data.unreadable` is no choice that there is.
    """
    match data.unreadable:
        case "skip":
            return True
        case "stop":
            return False
        case _:
            choices = get_args(DataSettings.model_fields["unreadable"].annotation)
            raise unknown_choice("data.unreadable", data.unreadable, choices)


def autocast_type(settings: RunSettings) -> torch.dtype | None:
    """Return the type that a step computes in, None without autocast.

    Raises:
        ValueError: `settings.precision` is no choice that there is.
    """
    match settings.precision:
        case "bf16":
            return torch.bfloat16
        case "float32":
            return None
        case _:
            choices = get_args(RunSettings.model_fields["precision"].annotation)
            raise unknown_choice("precision", settings.precision, choices)


def _loop(run: Run, lines: RunLog | None) -> None:
    settings = run.settings
    trained = _wrap(run)
    saved_at = logged_at = time.monotonic()
    logged_step = run.step
    for batches in batches_of(run):
        rate = learning_rate(
            run.step,
            peak=settings.optimiser.base_lr * settings.batch_size / 256,
            warmup_steps=round(settings.optimiser.warmup_epochs * run.steps_per_epoch),
            total_steps=run.total_steps,
        )
        set_learning_rate(run.optimiser, rate)
        _seed_step(settings.seed, run.step, run.ranks.rank)
        run.network.train()
        with _explain_out_of_memory(run):
            terms, queries = training_step(
                trained,
                batches,
                run.optimiser,
                settings.loss,
                rank=run.ranks.rank,
                precision=autocast_type(settings),
                clip_norm=settings.optimiser.clip_norm,
            )
        terms = LossTerms(*(mean_over_ranks(getattr(terms, name)) for name in LossTerms.__slots__))
        momentum = ema_momentum(
            run.step, start=settings.model.ema_start, total_steps=run.total_steps
        )
        update_momentum_branch(run.network, momentum)
        run.step += 1
        if not torch.isfinite(terms.total):
            raise _not_finite(run, terms)
        epoch_ends = run.step % run.steps_per_epoch == 0
        due = run.step % settings.log_every == 0 or run.step == run.total_steps
        if lines is not None and due:
            now = time.monotonic()
            record = {
                "step": run.step,
                "epoch": run.step / run.steps_per_epoch,
                "loss": terms.total.item(),
                "contrastive": terms.contrastive.item(),
                "soft": terms.soft.item(),
                "lr": rate,
                "momentum": momentum,
                **collapse_monitors(*queries),
            }
            pace = _pace(run, now - logged_at, run.step - logged_step)
            lines.write(record | pace)
            lines.say(_line(run, record, pace))
            logged_at, logged_step, run.waiting_s = now, run.step, 0.0
        paused_at = time.monotonic()
        if epoch_ends:
            _evaluate(run, lines)
        stop = any_rank(bool(run.stop_wanted), run.ranks.device)
        minutes = (time.monotonic() - saved_at) / 60
        if epoch_ends or stop or any_rank(minutes >= settings.checkpoint_minutes, run.ranks.device):
            _save(run)
            saved_at = time.monotonic()
        logged_at += time.monotonic() - paused_at  # The pace is that of training.
        if stop and run.step < run.total_steps:
            if lines is not None:
                lines.say(f"asked to stop: saved step {run.step}; the same command goes on")
            if run.ranks.is_main:
                (run.folder / REQUEUE_NAME).touch()
            raise SystemExit(REQUEUED)


def batches_of(run: Run) -> Iterator[list[ViewPair]]:
    """Yield the views of each step, from the run's own to its last."""
    accumulate = run.settings.optimiser.accumulate

    def wanted() -> Iterator[tuple[list[PatchRefs], int]]:
        for step in range(run.step * accumulate, run.total_steps * accumulate):
            patches = run.order.patches(_batch_number(run, step))
            both = [
                PatchRefs(patches.rows, patches.first),
                PatchRefs(patches.rows, patches.second),
            ]
            yield both, step

    reading = run.reader.prefetch(wanted(), run.settings.data.batches_ahead)
    while True:
        pairs: list[ViewPair] = []
        for _ in range(accumulate):
            began = time.monotonic()
            found = next(reading, None)
            run.waiting_s += time.monotonic() - began
            if found is None:
                return
            (first, second), number = found
            pairs.append(make_pair(run, first, second, number))
        yield pairs


def _batch_number(run: Run, step: int) -> int:
    """Return the position in the order: batches that fill no step of an epoch are left out."""
    per_epoch = run.steps_per_epoch * run.settings.optimiser.accumulate
    epoch, within = divmod(step, per_epoch)
    return epoch * run.order.steps_per_epoch + within


def make_pair(run: Run, first: PatchBatch, second: PatchBatch, number: int) -> ViewPair:
    """Turn the patches of a batch into two views on the device, with their labels.

    Args:
        run: whose settings apply.
        first: patches of the first view.
        second: of the second view, row by row of the same locations.
        number: of the batch in the run; it decides on what is drawn.
    """
    first, second = _both_readable(run, first, second)
    generator = torch.Generator().manual_seed(
        int(
            np.random.default_rng((run.settings.seed, _VIEWS, number, run.ranks.rank)).integers(
                2**62
            )
        )
    )
    views, vectors, known = [], [], []
    fractions = needs_fractions(run.settings.loss.similarity)
    device = run.ranks.device
    for position, batch in enumerate((first, second)):
        drawn = draw_parameters(run.settings.views, len(batch.refs), position, generator)
        pixels = {
            name: values.to(device, non_blocking=True) for name, values in batch.pixels.items()
        }
        view = run.views(pixels, drawn)
        if device.type == "cuda":
            view = view.contiguous(memory_format=torch.channels_last)
        views.append(view)
        label, labelled = run.index.label_vectors(
            batch.refs.rows, batch.refs.seasons, fractions=fractions
        )
        vectors.append(torch.from_numpy(label).to(device))
        known.append(torch.from_numpy(labelled).to(device))
    return ViewPair(*views, *vectors, *known)


def _both_readable(
    run: Run, first: PatchBatch, second: PatchBatch
) -> tuple[PatchBatch, PatchBatch]:
    """Replace locations of which a patch could not be read by others of the same batch.

    Ranks have to bring equally many rows; a replaced one is counted and said.
    """
    complaints = (*first.skipped, *second.skipped)
    if not complaints:
        return first, second
    good = np.intersect1d(first.refs.rows, second.refs.rows)
    if not good.size:
        raise TrainingError(f"no patch of a batch can be read, the first: {complaints[0]}")
    num = run.order.batch_size // run.order.world_size
    run.skipped += num - len(good)
    for complaint in complaints:
        sys.stderr.write(f"skipped: {complaint}\n")
    filled = np.resize(good, num)

    def choose(batch: PatchBatch) -> PatchBatch:
        position = {int(row): at for at, row in enumerate(batch.refs.rows)}
        at = np.asarray([position[int(row)] for row in filled])
        taken = torch.from_numpy(at)
        return PatchBatch(
            {name: values[taken] for name, values in batch.pixels.items()},
            PatchRefs(batch.refs.rows[at], batch.refs.seasons[at]),
        )

    return choose(first), choose(second)


def _evaluate(run: Run, lines: RunLog | None) -> None:
    every = run.settings.evaluation.every_epochs
    epoch = run.step // run.steps_per_epoch
    if not every or (epoch % every and run.step != run.total_steps):
        return
    if lines is not None:
        from training.evaluation.validation import validate

        found = validate(run.settings, run.network.base_encoder, run.views, run.ranks.device)
        if found:
            lines.write({"step": run.step, "epoch": float(epoch), **found})
            said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            lines.say(f"epoch {epoch}: {said}")


def _wrap(run: Run) -> nn.Module:
    network: nn.Module = run.network
    if run.settings.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    if run.ranks.world_size > 1:
        devices = [run.ranks.device.index] if run.ranks.device.type == "cuda" else None
        # Buffers of BatchNorm are synchronised (GPU) or each rank's own; rank 0's are saved.
        network = nn.parallel.DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False
        )
    return network


def _make_repeatable(settings: RunSettings) -> None:
    random.seed(settings.seed)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Let what the network draws (token dropping) depend on the step, not on the past."""
    torch.manual_seed(int(np.random.default_rng((seed, step, rank)).integers(2**62)))


def _save(run: Run) -> None:
    if run.ranks.is_main:
        save_checkpoint(
            run.folder,
            run.step,
            {
                "step": run.step,
                "network": run.network.state_dict(),
                "optimiser": run.optimiser.state_dict(),
                "settings": run.settings.model_dump(mode="json"),
                "locations": len(run.index),
                "world_size": run.ranks.world_size,
            },
            run.settings.keep_checkpoints,
        )


_SHAPING: Final = ("data", "views", "model", "loss", "optimiser", "epochs", "batch_size", "seed")


def _restore(run: Run, state: dict[str, Any]) -> None:
    """Go on with a checkpoint.

    Raises:
        InputError: it belongs to a run with other settings.
    """
    ours = run.settings.model_dump(mode="json")
    for name in _SHAPING:
        if state["settings"][name] != ours[name]:
            raise InputError(
                f"{run.folder} holds a run with other settings of {name}: choose another out, or "
                "restore the settings in its run.json"
            )
    if state["locations"] != len(run.index):
        raise InputError(
            f"{run.folder} began with {state['locations']} locations, the cubes now have "
            f"{len(run.index)}: choose another out"
        )
    run.network.load_state_dict(state["network"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.step = int(state["step"])


def _describe(run: Run) -> None:
    """Write what shaped the result beside it."""
    cubes = [CubeFiles(address) for address in run.settings.data.cubes]
    statistics = read_statistics(run.settings.data)
    document = {
        "settings": run.settings.model_dump(mode="json"),
        "cubes": [
            {"address": str(cube), "digest": cube.attributes.get("digest")} for cube in cubes
        ],
        "locations": len(run.index),
        "steps": run.total_steps,
        "bands": list(statistics.bands),
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "statistics": statistics.origin,
        "world_size": run.ranks.world_size,
        "device": str(run.ranks.device),
        "python": platform.python_version(),
        "software": {
            name: version(name)
            for name in ("softcon-cube", "torch", "timm", "tensorstore", "numpy")
        },
    }
    write_atomically(run.folder / "run.json", json.dumps(document, indent=1) + "\n")


def _pace(run: Run, seconds: float, steps: int) -> dict[str, float]:
    per_step = seconds / max(1, steps)
    return {
        "samples_per_s": run.settings.batch_size / per_step,
        "share_waiting": min(1.0, run.waiting_s / max(seconds, 1e-9)),
        "seconds_left": per_step * (run.total_steps - run.step),
        "skipped": float(run.skipped),
    }


def _line(run: Run, record: dict[str, Any], pace: dict[str, float]) -> str:
    left = int(pace["seconds_left"])
    return (
        f"step {run.step}/{run.total_steps}: loss {record['loss']:.4f} (contrastive "
        f"{record['contrastive']:.4f}, soft {record['soft']:.4f}), "
        f"{pace['samples_per_s']:.0f} samples/s, {pace['share_waiting']:.0%} waiting for data, "
        f"std {record['feature_std']:.2f}, rank {record['effective_rank']:.0f}, "
        f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
    )


def _not_finite(run: Run, terms: LossTerms) -> NonFiniteLossError:
    kept = list_checkpoints(run.folder)
    last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
    return NonFiniteLossError(
        f"the loss of step {run.step} is not finite (contrastive {terms.contrastive.item():g}, "
        f"soft {terms.soft.item():g}): lower optimiser.base_lr or set optimiser.clip_norm; {last}"
    )


@contextlib.contextmanager
def _explain_out_of_memory(run: Run) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{run.ranks.device} has no room for a step of {run.settings.batch_size} patches: "
            "raise optimiser.accumulate, or lower batch_size, views.image_size or model.hidden"
        ) from error


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Note a signal; the loop looks after every step."""

    def note(number: int, _: object) -> None:
        run.stop_wanted.append(number)
        if number == signal.SIGINT:  # A second Ctrl-C is obeyed at once.
            signal.signal(number, before[number])

    before = {int(number): signal.signal(number, note) for number in REQUEUE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_log(run: Run, stream: Any) -> contextlib.AbstractContextManager[RunLog | None]:
    if run.ranks.is_main:
        return RunLog(run.folder, run.step, stream)
    return contextlib.nullcontext()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; what ``torchrun -m training.pretrain`` calls."""
    import argparse

    parser = argparse.ArgumentParser(prog="training.pretrain", description=pretrain.__doc__)
    parser.add_argument("config", type=Path, help="YAML file; see configs/pretrain_*.yaml")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--resume", default="auto", help="auto, none, or a checkpoint")
    given = parser.parse_args(arguments)
    try:
        pretrain(read_run_settings(given.config, given.changes), given.resume)
    except SoftconError as error:
        sys.stderr.write(f"softcon: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    # Under torchrun an exception would only be somebody else's traceback.
    sys.exit(main())
