"""``probe-backbone``: what frozen features are worth on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.artifacts import show_table
from flows.states import resumable_flow


@resumable_flow("probe-backbone")
def probe_backbone(
    weights: str,
    cubes: Annotated[list[str], Field(min_length=1)],
    methods: tuple[Literal["knn", "linear"], ...] = ("knn", "linear"),
    min_class_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05,
    max_patches: Annotated[int | None, Field(ge=16)] = None,
    device: str = "cpu",
) -> State[Any] | None:
    """Score a backbone by multi-label classification of land cover.

    Args:
        weights: what `softcon export` wrote.
        cubes: sealed cubes with labels.
        methods: nearest neighbours, a linear head, or both.
        min_class_fraction: a class is present where it covers more than this share of a patch.
        max_patches: of each split; all by default.
        device: cpu, or cuda.
    """
    rows: list[dict[str, Any]] = []
    for method in methods:
        found = probe(weights, cubes, method, min_class_fraction, max_patches, device)
        for name in ("micro", "macro"):
            value, low, high = found[name]
            rows.append({"method": method, "mean": name, "mAP": value, "low": low, "high": high})
            get_run_logger().info(
                "%s, %s mAP %.4f (95 %%: %.4f to %.4f)", method, name, value, low, high
            )
    show_table("probe", weights, rows, f"{weights}: mAP with 95 % intervals")
    return None


@task(cache_policy=NO_CACHE, persist_result=False)
def probe(
    weights: str,
    cubes: list[str],
    method: Literal["knn", "linear"],
    min_class_fraction: float,
    max_patches: int | None,
    device: str,
) -> dict[str, tuple[float, float, float]]:
    """Probe; the scores are also written into the cards beside the weights."""
    from training.backbones.export import record_scores
    from training.evaluation import probe as training_probe

    found = training_probe.probe_backbone(
        Path(weights),
        cubes,
        method,
        min_class_fraction=min_class_fraction,
        max_patches=max_patches,
        device=device,
    )
    record_scores(Path(weights), found)
    return {"micro": found.micro, "macro": found.macro}
