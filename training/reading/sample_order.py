"""Which patches a step sees: a pure function of seed, epoch, step, rank and world size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ORDER, _SEASONS = 0x0DE5, 0x5EA5


@dataclass(frozen=True, slots=True)
class StepPatches:
    """The patches of one batch of one rank.

    Args:
        rows: int64 (B,), positions in the index.
        first: int64 (B,), season of the first view.
        second: int64 (B,), season of the second view: another one where there are two.
    """

    rows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The order of a run. Nothing is remembered: any step can be asked for at any time.

    An epoch takes each location at most once; what does not fill a whole global batch at its end
    waits for the next epoch's order.

    Args:
        complete: bool (N, 4): usable seasons.
        seed: of the run.
        batch_size: of all ranks together.
        rank: of this process.
        world_size: processes.
    """

    complete: npt.NDArray[np.bool_]
    seed: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise ValueError(f"{self.batch_size} is no multiple of {self.world_size} ranks")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.complete) // self.batch_size

    def patches(self, step: int) -> StepPatches:
        """Return what this rank sees at a step of the run, counted from 0."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(len(self.complete))
        share = self.batch_size // self.world_size
        start = within * self.batch_size + self.rank * share
        rows = order[start : start + share].astype(np.int64)
        first, second = self._seasons(epoch, rows)
        return StepPatches(rows, first, second)

    def _seasons(
        self, epoch: int, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw two seasons per location, different ones where there are two."""
        # Of all locations at once: what a location gets depends on neither batch nor rank.
        drawn = np.random.default_rng((self.seed, _SEASONS, epoch)).random(self.complete.shape)
        drawn = np.where(self.complete, drawn, np.inf)[rows]
        ranked = np.argsort(drawn, axis=1, kind="stable")
        first, second = ranked[:, 0], ranked[:, 1]
        alone = self.complete[rows].sum(axis=1) < 2
        return first.astype(np.int64), np.where(alone, first, second).astype(np.int64)
