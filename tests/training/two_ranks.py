"""Run by torchrun: the objective on two ranks, and by rank 0 alone; results go to a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from training.config import LossSettings
from training.distributed import processes
from training.loop.steps import objective


def main(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, 8, 16, generator=generator) for _ in range(2))
    labels = (torch.rand(2, 8, 9, generator=generator) < 0.4).float()
    # Ranks have different numbers of labelled pairs: the mean is over all pairs all the same.
    labelled = torch.rand(2, 8, generator=generator) < torch.tensor([0.9] * 4 + [0.4] * 4)
    settings = LossSettings(soft_weight=0.7)
    with processes("cpu") as ranks:
        share = slice(ranks.rank * 4, ranks.rank * 4 + 4)
        own = queries[:, share].clone().requires_grad_()
        found = objective(
            own, keys[:, share], labels[:, share], labelled[:, share], settings, ranks.rank
        )
        found.total.backward()
        save(folder / f"rank{ranks.rank}.pt", found, own)
    if ranks.is_main:
        own = queries.clone().requires_grad_()
        found = objective(own, keys, labels, labelled, settings)
        found.total.backward()
        save(folder / "alone.pt", found, own)


def save(path: Path, found, own: torch.Tensor) -> None:
    values = {name: getattr(found, name).detach() for name in ("total", "contrastive", "soft")}
    torch.save(values | {"gradient": own.grad}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
