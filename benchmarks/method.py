"""What the soft term is worth on a simulated cube: one budget, three seeds, signed differences.

Arms: a random encoder; pixel statistics (mean and standard deviation per band); contrastive only;
hard multi-positive supervision (patches of the same largest class are positives); soft with the
cosine of multi-hot labels; soft with the cosine of class fractions; and, as a control, the last one
with labels permuted across locations. All trained arms have the same encoder, epochs, batch and
views; each arm's learning rate is chosen on the validation split by shorter runs with a seed of
their own; the test split is read once, by a linear probe.

The simulated world is easy: with all labels, even a random encoder's features give nearly all there
is. What pretraining is for is fewer labels, so the differences are those of probes fitted on 100
labelled patches of the training split, the mean over ten draws of them, which are the same for all
arms; the score with all labels stands beside it.

What has to hold whatever the differences are is checked too.

Run: ``python -m benchmarks.method [--short] [--json] [--cube CUBE]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.training_cube import make_cube
from storage_schema.status import Split
from training.config import DataSettings, RunSettings, parse_run_settings
from training.distributed import processes
from training.evaluation.features import LabelledFeatures, features_of_cubes, labelled_patches
from training.evaluation.probe import score
from training.loop.steps import set_learning_rate, training_step
from training.network.siamese import SiameseNetwork, update_momentum_branch
from training.objective.label_similarity import label_similarity
from training.objective.losses import soft_loss
from training.pretrain import Run, batches_of, prepare
from training.reading.patch_index import PatchIndex, open_index
from training.reading.patch_reader import PatchReader, PatchRefs
from training.schedules import ema_momentum, learning_rate

LOCATIONS, LOCATIONS_SHORT = 480, 160
EPOCHS, EPOCHS_SHORT = 24, 2
TUNING_EPOCHS: Final = 8
NUM_LABELS, NUM_DRAWS = 100, 10
SEEDS: Final = (0, 1, 2)
TUNING_SEED: Final = 100
RATES: Final = (1e-3, 4e-3)
"""Per 256 patches of a batch."""
SOFT: Final = {"soft_weight": 1.0, "soft_form": "bce"}
ARMS: Final[dict[str, dict[str, Any]]] = {
    "contrastive only": {"soft_weight": 0.0},
    "hard multi-positive": {"soft_form": "softmax", "similarity": "dominant_class"},
    "soft, multi-hot cosine": {**SOFT, "similarity": "cosine"},
    "soft, fractions": {**SOFT, "similarity": "cosine_fractions"},
    "soft, labels permuted": {**SOFT, "similarity": "cosine_fractions"},
}
PERMUTED: Final = "soft, labels permuted"
MAX_PATCHES: Final = 1_500
FREE_PATCHES, FREE_STEPS, FREE_STEPS_SHORT = 256, 400, 40


def settings_of(cube: str, arm: str, seed: int, rate: float, epochs: int) -> RunSettings:
    """Return the run of an arm."""
    return parse_run_settings(
        {
            "preset": "tiny",
            "out": "unused",
            "data": {"cubes": [cube], "min_class_fraction": 0.05},
            "views": {"image_size": 48},
            "loss": ARMS[arm],
            "optimiser": {"base_lr": rate, "warmup_epochs": 1},
            "batch_size": 64,
            "epochs": epochs,
            "seed": seed,
        },
        arm,
    )


def permuted(index: PatchIndex, seed: int) -> PatchIndex:
    """Return the index with the labels of whole locations exchanged."""
    order = np.random.default_rng(seed).permutation(len(index))
    return dataclasses.replace(
        index,
        class_fraction=index.class_fraction[order],
        class_present=index.class_present[order],
        labelled=index.labelled[order],
    )


def train(settings: RunSettings, *, permute: bool = False) -> Run:
    """Train as `training.pretrain` does, without logs and checkpoints."""
    with processes("cpu") as ranks:
        run = prepare(settings, ranks)
        if permute:
            run.index = permuted(run.index, settings.seed)
        run.network.train()
        for batches in batches_of(run):
            rate = learning_rate(
                run.step,
                peak=settings.optimiser.base_lr * settings.batch_size / 256,
                warmup_steps=round(settings.optimiser.warmup_epochs * run.steps_per_epoch),
                total_steps=run.total_steps,
            )
            set_learning_rate(run.optimiser, rate)
            torch.manual_seed(settings.seed * 1_000_003 + run.step)
            training_step(run.network, batches, run.optimiser, settings.loss)
            update_momentum_branch(
                run.network,
                ema_momentum(run.step, start=settings.model.ema_start, total_steps=run.total_steps),
            )
            run.step += 1
    return run


def features(run: Run, split: Split) -> LabelledFeatures:
    """Return frozen features of a split."""
    return features_of_cubes(
        run.settings.data,
        split,
        run.network.base_encoder,
        run.views,
        run.ranks.device,
        max_patches=MAX_PATCHES,
    )


def pixel_statistics(data: DataSettings, split: Split) -> LabelledFeatures:
    """Return mean and standard deviation per band of each patch."""
    index = open_index(data, split)
    refs = labelled_patches(index, MAX_PATCHES)
    reader = PatchReader(index, data.modality)
    rows = []
    for start in range(0, len(refs), 64):
        part = PatchRefs(refs.rows[start : start + 64], refs.seasons[start : start + 64])
        planes = [v.float().flatten(2) for v in reader.read(part).pixels.values()]
        rows.append(torch.cat([f for p in planes for f in (p.mean(2), p.std(2))], dim=1))
    labels, _ = index.label_vectors(refs.rows, refs.seasons, fractions=False)
    groups = index.location[refs.rows].astype(np.int64)
    return LabelledFeatures(torch.cat(rows).numpy(), labels > 0, groups)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Micro mAP: with few labels, the mean over draws; and with all, with its interval."""

    few: float
    all: float
    interval: tuple[float, float]


def few_labels(
    fit: LabelledFeatures, held: LabelledFeatures, scored: LabelledFeatures, seed: int
) -> float:
    """Return micro mAP of linear probes fitted on a few patches: the mean over draws."""
    found = []
    for draw in range(NUM_DRAWS):
        rows = np.random.default_rng([seed, draw]).permutation(len(fit.features))[:NUM_LABELS]
        part = LabelledFeatures(fit.features[rows], fit.labels[rows], fit.groups[rows])
        found.append(score(part, held, scored, "linear", seed=draw).micro[0])
    return statistics.fmean(found)


def scores_of(fit: LabelledFeatures, held: LabelledFeatures, test: LabelledFeatures) -> Scores:
    """Probe features: fitted on train, chosen on validation, scored on test."""
    whole = score(fit, held, test, "linear").micro
    return Scores(few_labels(fit, held, test, 0), whole[0], whole[1:])


def test_scores(run: Run) -> Scores:
    """Probe a run."""
    return scores_of(
        *(features(run, split) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    )


def choose_rate(cube: str, arm: str, epochs: int) -> float:
    """Choose an arm's learning rate by its linear probes on the validation split alone."""

    def validation(rate: float) -> float:
        run = train(settings_of(cube, arm, TUNING_SEED, rate, epochs), permute=arm == PERMUTED)
        fit, held = features(run, Split.TRAIN), features(run, Split.VALIDATION)
        return few_labels(fit, held, held, TUNING_SEED)

    return max(RATES, key=validation)


def as_row(found: list[Scores], **more: Any) -> dict[str, Any]:
    """Return what the report says of an arm."""
    return {
        "micro": [each.few for each in found],
        "micro_all_labels": [each.all for each in found],
        "interval_all_labels": found[0].interval,
        **more,
    }


def compare_arms(cube: str, epochs: int) -> dict[str, Any]:
    """Return micro mAP on the test split by arm and seed."""
    found: dict[str, Any] = {}
    data = settings_of(cube, "contrastive only", 0, RATES[0], epochs).data
    pixels = scores_of(
        *(pixel_statistics(data, split) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    )
    found["pixel statistics"] = as_row([pixels] * len(SEEDS))
    untrained = []
    for seed in SEEDS:
        with processes("cpu") as ranks:
            run = prepare(settings_of(cube, "contrastive only", seed, RATES[0], epochs), ranks)
        untrained.append(test_scores(run))
    found["random init"] = as_row(untrained)
    for arm in ARMS:
        began = time.monotonic()
        rate = choose_rate(cube, arm, min(epochs, TUNING_EPOCHS))
        runs = [
            train(settings_of(cube, arm, seed, rate, epochs), permute=arm == PERMUTED)
            for seed in SEEDS
        ]
        found[arm] = as_row([test_scores(run) for run in runs], base_lr=rate)
        sys.stderr.write(f"{arm}: {time.monotonic() - began:.0f} s\n")
    return found


def free_vectors(cube: str, steps: int) -> dict[str, float]:
    """Return what the soft loss alone reaches on 256 patches: by a network, and by free vectors."""
    settings = settings_of(cube, "soft, fractions", 0, 1e-3, 1)
    index = open_index(settings.data, Split.TRAIN)
    refs = labelled_patches(index, FREE_PATCHES)
    label, labelled = index.label_vectors(refs.rows, refs.seasons, fractions=True)
    vectors = torch.from_numpy(label)
    similarity = label_similarity(vectors, vectors, "cosine_fractions")
    known = torch.from_numpy(labelled[:, None] & labelled[None, :])

    def loss(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        total, count = soft_loss(queries, keys, similarity, known)
        return total / count

    torch.manual_seed(0)
    free = torch.randn(len(refs), settings.model.output, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.05)
    for _ in range(1_000):
        optimiser.zero_grad()
        reached = loss(free, free)
        reached.backward()
        optimiser.step()
    with processes("cpu") as ranks:
        run = prepare(settings, ranks)
    images = run.views.plain(PatchReader(index, settings.data.modality).read(refs).pixels, 48)
    model = settings.model.model_copy(update={"token_drop": 0.0})
    torch.manual_seed(0)
    network = SiameseNetwork(model, settings.data.num_bands, 48).train()
    adam = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0
    )
    values: list[float] = []
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, peak=1e-3, warmup_steps=10, total_steps=steps)
        adam.zero_grad()
        query = network.predictor(network.base_projector(network.base_encoder(images)))
        with torch.no_grad():
            key = network.momentum_projector(network.momentum_encoder(images))
        now = loss(query, key)
        now.backward()
        adam.step()
        update_momentum_branch(network, 0.9)
        values.append(now.item())
    return {
        "free_vectors": reached.item(),
        "network": statistics.fmean(values[-5:]),
        "start": values[0],
        "patches": float(len(refs)),
    }


def difference(found: dict[str, Any], one: str, other: str) -> dict[str, Any]:
    """Return the paired differences over seeds, with their sign."""
    pairs = zip(found[one]["micro"], found[other]["micro"], strict=True)
    each = [a - b for a, b in pairs]
    spread = statistics.stdev(each) / len(each) ** 0.5
    # Student's t for two degrees of freedom, 95 %.
    return {"mean": statistics.fmean(each), "each": each, "half_interval": 4.303 * spread}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cube", help="a sealed cube with s2_l1c and labels")
    parser.add_argument("--short", action="store_true", help="to see that it runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    epochs = EPOCHS_SHORT if arguments.short else EPOCHS
    locations = LOCATIONS_SHORT if arguments.short else LOCATIONS
    steps = FREE_STEPS_SHORT if arguments.short else FREE_STEPS
    with tempfile.TemporaryDirectory() as folder:
        cube = arguments.cube or make_cube(
            Path(folder) / "cube.zarr", locations, products=("s2_l1c", "dynamic_world")
        )
        free = free_vectors(cube, steps)
        arms = compare_arms(cube, epochs)
    pairs = [
        ("soft, multi-hot cosine", "contrastive only"),
        ("soft, fractions", "contrastive only"),
        ("soft, fractions", "soft, multi-hot cosine"),
        ("soft, fractions", "hard multi-positive"),
        ("soft, fractions", "soft, labels permuted"),
        ("soft, labels permuted", "contrastive only"),
        ("contrastive only", "random init"),
        ("soft, fractions", "random init"),
    ]
    found = {
        "arms": arms,
        "differences": {f"{a} - {b}": difference(arms, a, b) for a, b in pairs},
        "free_vectors": free,
    }
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    sys.stdout.write(f"{'arm':<26} {f'micro mAP, {NUM_LABELS} labels':<28} mean    all labels\n")
    for name, values in arms.items():
        listed = "  ".join(f"{value:.4f}" for value in values["micro"])
        means = [statistics.fmean(values[key]) for key in ("micro", "micro_all_labels")]
        sys.stdout.write(f"{name:<26} {listed:<28} {means[0]:.4f}  {means[1]:.4f}\n")
    sys.stdout.write("\npaired difference (95 % interval over three seeds)\n")
    for name, value in found["differences"].items():
        sys.stdout.write(f"{name:<52} {value['mean']:+.4f} +- {value['half_interval']:.4f}\n")
    sys.stdout.write(
        f"\nsoft loss alone on {free['patches']:.0f} patches: network {free['network']:.4f}, free "
        f"vectors {free['free_vectors']:.4f} ({free['network'] / free['free_vectors']:.3f} x), "
        f"start {free['start']:.4f}\n"
    )


if __name__ == "__main__":
    main()
