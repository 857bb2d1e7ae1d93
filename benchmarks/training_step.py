"""What reading costs a training step, and on a GPU how well the step uses it.

The step (views, network, optimiser) is timed with the reader and with one batch of patches that
stays on the device, in turns. On a CPU: ViT-S/14 at 98 px. On a GPU: ViT-S/14 at 224 px, bf16,
batch 1,024, and also samples per second, the share of the device's peak that the model's
arithmetic makes (MFU), and peak memory.

Run: ``python -m benchmarks.training_step [--cube CUBE] [--short] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.training_cube import make_cube
from training.config import parse_run_settings
from training.distributed import processes
from training.loop.steps import ViewPair, set_learning_rate, training_step
from training.network.siamese import update_momentum_branch
from training.pretrain import Run, batches_of, make_pair, prepare
from training.reading.patch_reader import PatchBatch, PatchRefs
from training.schedules import ema_momentum

PEAK_FLOPS: Final = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "V100": 125e12}
"""Dense bf16 (V100: fp16). Source: the vendor's data sheets."""


def step(run: Run, batches: Any) -> None:
    """Make one step, as the run does."""
    precision = torch.bfloat16 if run.settings.precision == "bf16" else None
    run.network.train()
    training_step(run.network, batches, run.optimiser, run.settings.loss, precision=precision)
    update_momentum_branch(run.network, ema_momentum(run.step, start=0.99, total_steps=100))
    if run.ranks.device.type == "cuda":
        torch.cuda.synchronize()


def on_device(batch: PatchBatch, device: torch.device) -> PatchBatch:
    """Return a batch of which the pixels lie on the device."""
    return PatchBatch({k: v.to(device) for k, v in batch.pixels.items()}, batch.refs)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(cube: str, repeats: int, *, gpu: bool) -> dict[str, Any]:
    """Measure one device."""
    settings = parse_run_settings(
        {
            "out": "unused",
            "data": {"cubes": [cube], "batches_ahead": 3},
            "views": {"image_size": 224 if gpu else 98},
            "model": {"encoder": "vit_small_patch14_dinov2"},
            "epochs": 10_000,
            "batch_size": 1024 if gpu else 16,
            "precision": "bf16",
            "device": "cuda" if gpu else "cpu",
        },
        "benchmark",
    )
    with processes(settings.device) as ranks:
        run = prepare(settings, ranks)
        set_learning_rate(run.optimiser, 1e-5)
        reading = batches_of(run)
        patches = run.order.patches(0)
        kept = [
            on_device(run.reader.read(PatchRefs(patches.rows, seasons)), ranks.device)
            for seasons in (patches.first, patches.second)
        ]

        def resident() -> list[ViewPair]:
            return [make_pair(run, kept[0], kept[1], 0)]

        for _ in range(2):
            step(run, next(reading))
            step(run, resident())
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        with_reader, without = [], []
        run.waiting_s = 0.0
        # In turns, so that a busy moment of the machine meets both.
        for _ in range(repeats):
            with_reader.append(timed(lambda: step(run, next(reading))))
            without.append(timed(lambda: step(run, resident())))
        found: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "batch": settings.batch_size,
            "image_size": settings.views.image_size,
            "step_s": statistics.median(with_reader),
            "step_on_one_batch_s": statistics.median(without),
            "ratio": statistics.median(a / b for a, b in zip(with_reader, without, strict=True)),
            "share_of_views": statistics.median(timed(resident) for _ in range(repeats))
            / statistics.median(without),
            "share_waiting": run.waiting_s / sum(with_reader),
            "samples_per_s": settings.batch_size / statistics.median(with_reader),
        }
        if gpu:
            peak = next((v for k, v in PEAK_FLOPS.items() if k in found["device"]), None)
            flops = flops_of_step(run, resident())
            found["model_tflops_per_step"] = flops / 1e12
            if peak:
                found["mfu"] = flops / statistics.median(without) / peak
                found["mfu_with_reader"] = flops / found["step_s"] / peak
            found["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def flops_of_step(run: Run, batches: Any) -> float:
    """Count the floating-point operations of forward and backward passes."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step(run, batches)
    return float(counter.get_total_flops())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cube", help="a sealed cube with s2_l1c")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    repeats = 4 if arguments.short else 15
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        cube = arguments.cube or make_cube(Path(folder) / "cube.zarr", 1280 if gpu else 64)
        found = measure(cube, repeats, gpu=gpu)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    sys.stdout.write(
        f"{found['device']}, ViT-S/14, {found['image_size']} px, batch {found['batch']}: "
        f"{found['ratio']:.3f} x the step on one batch that stays on the device, "
        f"{found['share_waiting']:.1%} waiting for data, {found['share_of_views']:.0%} for views, "
        f"{found['samples_per_s']:.1f} samples/s\n"
    )
    if gpu:
        sys.stdout.write(
            f"MFU {found.get('mfu', float('nan')):.1%} on one batch, "
            f"{found.get('mfu_with_reader', float('nan')):.1%} with the reader; peak memory "
            f"{found['peak_memory_gb']:.1f} GB\n"
        )
    else:
        sys.stdout.write("no GPU at hand: MFU and peak memory were not measured\n")


if __name__ == "__main__":
    main()
