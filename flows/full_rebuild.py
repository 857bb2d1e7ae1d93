"""``full-rebuild``: from places on Earth to a probed backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State

from flows.pretrain_backbone import HERE, LaunchSettings, exported_to, pretrain_backbone
from flows.probe_backbone import probe_backbone
from flows.rebuild_dataset import rebuild_dataset
from flows.seal_and_audit import seal_and_audit
from flows.states import is_partial, resumable_flow
from groundwork.errors import InputError
from pipeline.sources.registry import AnyBuildSettings
from training.config import RunSettings


@resumable_flow("full-rebuild")
def full_rebuild(
    dataset: AnyBuildSettings,
    training: RunSettings | None = None,
    launch: LaunchSettings = HERE,
) -> State[Any] | None:
    """Rebuild a cube, seal and audit it; pretrain a backbone on it, and probe that.

    Each step goes on where it stopped; the chain ends with the first that is not done.

    Args:
        dataset: of the cube.
        training: of the backbone; its `data.cubes` has to name the cube. None ends with the cube.
        launch: where the backbone trains.
    """
    if training is not None and dataset.cube not in training.data.cubes:
        raise InputError(
            f"training.data.cubes {list(training.data.cubes)} does not name the cube that is built "
            f"({dataset.cube}): add it"
        )
    steps: list[Callable[[], State[Any]]] = [
        lambda: rebuild_dataset(dataset, return_state=True),
        lambda: seal_and_audit(dataset.cube, return_state=True),
    ]
    if training is not None:
        steps += [
            lambda: pretrain_backbone(training, launch, return_state=True),
            lambda: probe_backbone(
                str(exported_to(training)),
                list(training.data.cubes),
                min_class_fraction=training.data.min_class_fraction,
                return_state=True,
            ),
        ]
    for step in steps:
        state = step()
        if is_partial(state) or not state.is_completed():
            return state
    return None
