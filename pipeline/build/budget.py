"""What a rebuild spends at the provider: a ledger that adds up, and the budget it is held against.

Every run of a cube writes its ledger under ``provenance/requests/``, outside the digest. The sum of
them is what the cube has cost so far; a budget is compared with that sum.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pipeline.cube.object_storage import ObjectStorage
from pipeline.ledger import Ledger
from pipeline.sources.settings import BudgetSettings

LEDGER_FOLDER: Final = "provenance/requests"


def read_ledgers(storage: ObjectStorage) -> Ledger:
    """Return what all runs of a cube have spent together."""
    total = Ledger()
    for key in sorted(storage.list_sizes(f"{LEDGER_FOLDER}/")):
        found = storage.read(key)
        if found is not None:
            total.add(Ledger.decode(found))
    return total


@dataclass(slots=True)
class Budget:
    """Decides whether another batch may begin.

    Args:
        settings: the limits.
        spent: by earlier runs and by the finished batches of this one; grows.
        this_run: of this run alone.
        began_s: when this run began, on the monotonic clock.
        slowest_s: the longest that a batch of this run took.
    """

    settings: BudgetSettings
    spent: Ledger
    this_run: Ledger = field(default_factory=Ledger)
    began_s: float = field(default_factory=time.monotonic)
    slowest_s: float = 0.0

    def note(self, ledger: Ledger, num_locations: int, took_s: float = 0.0) -> None:
        """Book what a batch has spent."""
        self.slowest_s = max(self.slowest_s, took_s)
        for account in (self.spent, self.this_run):
            account.add(ledger)
            account.num_locations += num_locations

    def shortage(self, locations_under_way: int) -> str | None:
        """Say which limit another batch would break; None where there is room.

        Args:
            locations_under_way: locations of running batches and of the one that would begin; they
                are taken to cost what the ones before did.
        """
        limit_s = self.settings.max_run_s
        ran_s = time.monotonic() - self.began_s
        if limit_s is not None and ran_s + self.slowest_s > limit_s:
            return (
                f"the time of a run, {limit_s:,.6g} s (budget.max_run_s), is used up: {ran_s:,.4g} "
                f"s passed, another batch may take {self.slowest_s:,.4g} s; the same command "
                "continues"
            )
        paid = self.spent.num_locations
        share = locations_under_way / paid if paid else 0.0
        for name, unit, limit, spent in self._accounts():
            if limit is None:
                continue
            # Without a batch to judge by, only what is spent already counts.
            expected = spent * (1 + share)
            if spent >= limit or expected > limit:
                return (
                    f"the budget of {limit:,.6g} {unit} (budget.{name}) is used up: {spent:,.6g} "
                    f"spent, {expected - spent:,.4g} more for the batches under way and the next; "
                    "raise it, and the same command continues"
                )
        return None

    def _accounts(self) -> Iterable[tuple[str, str, float | None, float]]:
        limits, spent = self.settings, self.spent
        yield "max_requests", "requests", limits.max_requests, spent.num_requests
        yield "max_bytes", "bytes", limits.max_bytes, spent.bytes_received
        yield "max_compute_s", "compute seconds", limits.max_compute_s, spent.compute_s
