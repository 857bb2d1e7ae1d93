"""What a user says of an import of SSL4EO-S12: the command's options, the flow's form."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from groundwork.settings_text import Matching, PathText, SettingsModel
from pipeline.places.settings import MAX_SEED, SplitSettings
from pipeline.sources.settings import SCHEDULER, WHICH_SCHEDULER, BudgetSettings, ExecutionSettings
from storage_schema.layout import LOCATIONS_PER_BATCH
from storage_schema.products import ProductName

DEFAULT_SPLIT: Final = SplitSettings()
"""The blocks and shares of a rebuild: the published data have no splits."""


class ImportSettings(SettingsModel):
    """An import: the options of ``softcon import ssl4eo-s12``.

    Args:
        root: folder that holds s1, s2a, s2c, dw (any of them).
        cube: folder or s3://bucket/prefix to write.
        labels: SSL4EO-S12-ML label file (JSON).
        products: products to import; all that are there by default.
        locations_per_batch: locations per shard of a new cube.
        split: into train, validation, test and buffer, by blocks of the Earth's surface.
        split_seed: decides which block is what.
        workers: processes on this machine.
        dask: address of a Dask scheduler, instead of workers.
    """

    root: PathText
    cube: PathText
    labels: PathText | None = None
    products: tuple[ProductName, ...] | None = None
    locations_per_batch: int = Field(LOCATIONS_PER_BATCH, ge=1, le=1024)
    split: SplitSettings = DEFAULT_SPLIT
    split_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    workers: int = Field(1, ge=1, le=1024)
    dask: Annotated[str, Matching(SCHEDULER, WHICH_SCHEDULER)] | None = None

    @property
    def execution(self) -> ExecutionSettings:
        """One batch at a time and worker: reading files keeps a core busy."""
        spread = self.dask or ("threads" if self.workers == 1 else "processes")
        return ExecutionSettings(dask=spread, workers=self.workers, batches_at_once=1)

    @property
    def budget(self) -> BudgetSettings:
        """No limit: files cost no requests."""
        return BudgetSettings()
