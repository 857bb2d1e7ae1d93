"""What the configuration of every build has, whatever its source."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from groundwork.settings_text import Matching, PathText, SettingsModel
from pipeline.places.settings import LocationSettings
from storage_schema.layout import LOCATIONS_PER_BATCH
from storage_schema.products import PRODUCT_NAMES, ProductName, in_order

SCHEDULER: Final = r"(tcp|tls|ws|wss|ucx)://[!-~]{1,500}"
"""Pattern of a Dask scheduler's address."""
WHICH_SCHEDULER: Final = "give the address of a Dask scheduler, such as tcp://host:8786"
_MAX_BUDGET: Final = 10**15
"""Upper bound of a budget value; anything larger is a typing mistake."""
_MAX_RUN_S: Final = 86_400 * 366.0


class ExecutionSettings(SettingsModel):
    """How the work is spread; it shapes no byte of the cube.

    Args:
        dask: `threads` (this process), `processes` (workers on this machine), or the address of a
            scheduler (tcp://host:8786).
        workers: processes, with `processes`.
        batches_at_once: batches a worker has under way: one is written while the next is fetched.
    """

    dask: Annotated[
        str,
        Matching(
            f"threads|processes|{SCHEDULER}",
            "give threads, processes, or the address of a scheduler such as tcp://host:8786",
        ),
    ] = "threads"
    workers: int = Field(2, ge=1, le=1024)
    batches_at_once: int = Field(2, ge=1, le=8)


class BudgetSettings(SettingsModel):
    """Where to stop, over all runs of one cube; None is without limit.

    Args:
        max_requests: requests to the service.
        max_bytes: of replies.
        max_compute_s: compute seconds, where the service reports them.
        max_run_s: time that one run may take, s: the deadline of a night, say.
    """

    max_requests: int | None = Field(None, ge=1, le=_MAX_BUDGET)
    max_bytes: int | None = Field(None, ge=1, le=_MAX_BUDGET)
    max_compute_s: float | None = Field(None, gt=0, le=_MAX_BUDGET)
    max_run_s: float | None = Field(None, gt=0, le=_MAX_RUN_S)


class BuildSettings(SettingsModel):
    """A build: which cube, where on Earth, which products, how it runs.

    A source that takes places adds a section of its own, named as the source, as its last field.

    Args:
        cube: folder or s3://bucket/prefix to write; a relative path starts from the current folder.
        locations: what ``softcon locations sample`` would read.
        locations_file: instead, the GeoParquet file it wrote (starts from the configuration's
            folder).
        products: products to store.
        locations_per_batch: locations per shard.
        execution: workers.
        budget: where to stop.
    """

    cube: PathText
    locations: LocationSettings | None = None
    locations_file: PathText | None = None
    products: tuple[ProductName, ...] = Field(
        PRODUCT_NAMES, min_length=1, max_length=len(PRODUCT_NAMES)
    )
    locations_per_batch: int = Field(LOCATIONS_PER_BATCH, ge=1, le=1024)
    execution: ExecutionSettings = ExecutionSettings()
    budget: BudgetSettings = BudgetSettings()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put the source's own fields before those that say how the build runs.

        Pydantic lists inherited fields first; forms and tables read better in the order in which
        people write a configuration: what is built, from which source, how.
        """
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        properties = schema["properties"]
        *_, section = cls.model_fields
        for name in ("locations_per_batch", section, "execution", "budget"):
            properties[name] = properties.pop(name)
        return schema

    @field_validator("products")
    @classmethod
    def _sort_products(cls, products: tuple[ProductName, ...]) -> tuple[ProductName, ...]:
        return in_order(products)

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if (self.locations is None) == (self.locations_file is None):
            raise ValueError("give either locations or locations_file")
        return self
