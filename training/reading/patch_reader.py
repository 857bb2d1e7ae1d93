"""Patches from cubes to tensors: tensorstore futures in this process, a bounded number ahead.

Native resolution and stored integers all the way: bands are brought to one size on the device.
There are no worker processes, because a batch that crosses a process boundary costs more than
reading it, and no fancy indexing, which is slower than a loop of single reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from storage_schema.products import PRODUCTS, ProductName
from training.errors import DamagedPatchError
from training.reading.patch_index import PatchIndex

CACHE_BYTES: Final = 0
"""Chunks are read once per epoch; a cache would only hold what is not asked for again."""


@dataclass(frozen=True, slots=True)
class PatchRefs:
    """Patches to read.

    Args:
        rows: (B,), positions in the index.
        seasons: (B,), of each.
    """

    rows: npt.NDArray[np.integer]
    seasons: npt.NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Patches as they are stored.

    Args:
        pixels: array name -> (B, bands, y, x), the stored dtype (uint16 or int16).
        refs: which patches; without those that were skipped.
        skipped: sentences on those that could not be read.
    """

    pixels: dict[str, Tensor]
    refs: PatchRefs
    skipped: tuple[str, ...] = ()


def arrays_of(modality: Sequence[ProductName]) -> tuple[str, ...]:
    """Return the arrays of a modality's products."""
    return tuple(group.array for name in modality for group in PRODUCTS[name].groups)


class PatchReader:
    """Reads patches of an index.

    Args:
        index: which patches there are.
        modality: products to read.
        pin: use page-locked memory, from which a GPU copies while it computes.
        skip_unreadable: leave a damaged patch out and say so, instead of stopping.
    """

    def __init__(
        self,
        index: PatchIndex,
        modality: Sequence[ProductName],
        *,
        pin: bool = False,
        skip_unreadable: bool = False,
    ) -> None:
        self._index, self._modality = index, tuple(modality)
        self._pin, self._skip = pin, skip_unreadable
        self._arrays: dict[tuple[int, str], Any] | None = None

    def start(self, refs: PatchRefs) -> Callable[[], PatchBatch]:
        """Begin to read patches; the returned function waits for them.

        Raises (when waited for):
            DamagedPatchError: one is missing or corrupt, by array, location and season.
        """
        import tensorstore

        arrays = self._open()
        targets = {
            name: torch.empty(
                (len(refs), *shape[2:]), dtype=_TORCH_TYPES[dtype], pin_memory=self._pin
            )
            for name, (shape, dtype) in self._shapes().items()
        }
        views = {name: target.numpy() for name, target in targets.items()}
        under_way = []
        for at, (row, season) in enumerate(zip(refs.rows, refs.seasons, strict=True)):
            cube, location = int(self._index.cube[row]), int(self._index.location[row])
            for name in targets:
                # Decoded straight into the batch, by tensorstore's threads.
                place = tensorstore.array(views[name][at])
                future = place.write(arrays[cube, name][location, int(season)])
                under_way.append((at, name, future))

        def finish() -> PatchBatch:
            failed: dict[int, str] = {}
            for at, name, future in under_way:
                try:
                    future.result()
                except Exception as error:  # noqa: BLE001 - codecs and drivers raise what they like
                    failed.setdefault(at, self._complaint(refs, at, name, error))
            if not failed:
                return PatchBatch(targets, refs)
            if not self._skip:
                raise DamagedPatchError(next(iter(failed.values())))
            kept = np.asarray([at for at in range(len(refs)) if at not in failed], dtype=np.int64)
            chosen = torch.from_numpy(kept)
            pixels = {name: target[chosen] for name, target in targets.items()}
            left = PatchRefs(refs.rows[kept], refs.seasons[kept])
            return PatchBatch(pixels, left, tuple(failed.values()))

        return finish

    def read(self, refs: PatchRefs) -> PatchBatch:
        """Read patches now."""
        return self.start(refs)()

    def prefetch(self, batches: Iterator[Any], ahead: int) -> Iterator[Any]:
        """Read batches in order, so many before they are asked for.

        Args:
            batches: tuples whose first part is a sequence of PatchRefs; the rest is passed on.
            ahead: batches under way.

        Yields:
            (list of PatchBatch, *rest) per batch.
        """
        waiting: deque[tuple[list[Callable[[], PatchBatch]], Any]] = deque()
        for several, *rest in batches:
            waiting.append(([self.start(refs) for refs in several], rest))
            if len(waiting) > ahead:
                begun, passed = waiting.popleft()
                yield [finish() for finish in begun], *passed
        while waiting:
            begun, passed = waiting.popleft()
            yield [finish() for finish in begun], *passed

    def _open(self) -> dict[tuple[int, str], Any]:
        if self._arrays is None:
            import tensorstore

            context = tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
            self._arrays = {
                (number, name): cube.open_array(name, context, may_lack_chunks=False)
                for number, cube in enumerate(self._index.cubes)
                for name in arrays_of(self._modality)
            }
        return self._arrays

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        arrays = self._open()
        return {
            name: (tuple(arrays[0, name].shape), arrays[0, name].dtype.name)
            for name in arrays_of(self._modality)
        }

    def _complaint(self, refs: PatchRefs, at: int, name: str, error: Exception) -> str:
        row = int(refs.rows[at])
        cube = self._index.cubes[int(self._index.cube[row])]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (
            f"{cube}: {name} of location {self._index.location_id[row]}, season "
            f"{int(refs.seasons[at])} cannot be read ({reason[:200]}): run softcon audit, or set "
            "data.unreadable=skip"
        )


_TORCH_TYPES: Final = {"uint16": torch.uint16, "int16": torch.int16, "uint8": torch.uint8}
