"""One process or many: who we are, and what all ranks have to know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from groundwork.errors import InputError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all of a run.

    Args:
        rank: 0 to world_size - 1; rank 0 writes.
        world_size: processes.
        device: of this one.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0


def find_device(device: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        local_rank: which GPU `cuda` stands for.

    Raises:
        InputError: a GPU is wanted and there is none, or it is no name of a device.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not re.fullmatch(r"auto|cuda(:\d+)?", device):
        raise InputError(f"device {device}: give cpu, cuda, cuda:N or auto")
    if not torch.cuda.is_available():
        raise InputError(f"device {device}: this machine has no GPU that PyTorch sees")
    return torch.device(device if ":" in device else f"cuda:{local_rank}")


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; alone, be the only one.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; under torchrun, `cuda` is the local rank's.

    Raises:
        InputError: a GPU is wanted and there is none.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    chosen = find_device(device, local_rank)
    cuda = chosen.type == "cuda"
    if cuda:
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=30))
    try:
        yield Processes(rank, world_size, chosen)
    finally:
        dist.destroy_process_group()


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, in the order of the ranks, without gradient.

    Every rank has to bring as many rows.
    """
    rows = rows.detach().contiguous()
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


@torch.no_grad()
def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def any_rank(happened: bool, device: torch.device) -> bool:
    """Tell all ranks whether something happened at one of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return happened
    flag = torch.tensor(float(happened), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())
