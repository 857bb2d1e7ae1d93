"""What all sources of files have in common: they read one location after the other, for nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from groundwork.errors import SoftconError
from pipeline.ledger import Ledger
from pipeline.patches import LocationPatches, ProductPatch
from storage_schema.products import ProductName
from storage_schema.status import PatchStatus, StatusReason


class ReadsOneByOne:
    """The rest of `PatchSource`, for a source that has `products` and `read_location`."""

    __slots__ = ()

    if TYPE_CHECKING:  # A dataclass would take an inherited property for a field's default.

        @property
        def products(self) -> tuple[ProductName, ...]:
            """The products this source delivers."""

    @abstractmethod
    def read_location(self, location_id: str) -> LocationPatches:
        """Read one location."""

    @property
    def ledger(self) -> Ledger:
        """Reading files costs nothing at any provider."""
        return Ledger()

    def read_locations(self, location_ids: Sequence[str]) -> Generator[LocationPatches, None, None]:
        """Read locations, in order."""
        for location_id in location_ids:
            yield self._read_safely(location_id)

    def cancel(self) -> None:
        """Nothing is under way between two locations."""

    def _read_safely(self, location_id: str) -> LocationPatches:
        """Read one location; whatever goes wrong with it stays its own trouble.

        Errors of ours (a source out of reach, wrong input) concern more than one location and pass.
        """
        try:
            return self.read_location(location_id)
        except SoftconError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad location must not spoil its batch
            detail = f"location {location_id} could not be read: {type(error).__name__}: {error}"
            failed = ProductPatch(PatchStatus.FAILED, StatusReason.UNREADABLE_FILE, detail=detail)
            return LocationPatches.without_place(
                location_id, dict.fromkeys(self.products, failed), warnings=(detail,)
            )
