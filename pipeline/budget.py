"""What a rebuild spends at the provider: a ledger that adds up, and the budget it is held against.

Every run of a cube writes its ledger under ``provenance/requests/``, outside the digest. The sum of
them is what the cube has cost so far; a budget is compared with that sum.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pipeline.object_storage import ObjectStorage
from pipeline.settings import BudgetSettings

LEDGER_FOLDER: Final = "provenance/requests"
_BINS_PER_DECADE: Final = 20
_LEAST_S: Final = 1e-3
_QUANTILES: Final = (0.5, 0.9, 0.99)
_SUMS: Final = (
    "num_locations",
    "bytes_sent",
    "bytes_received",
    "compute_s",
    "waiting_s",
    "slot_waiting_s",
    "retry_waiting_s",
)


@dataclass(slots=True)
class Ledger:
    """Requests to the provider, counted. Ledgers add up in any order.

    Args:
        requests: kind (listing, pixels) -> sent.
        outcomes: done, or what went wrong -> requests.
        num_locations: that this has paid for.
        bytes_sent: of request bodies.
        bytes_received: of replies, also of those that broke off.
        compute_s: compute seconds where the service reports them.
        latency_bins: bin -> requests that were answered; see `latency_quantiles`.
        waiting_s: summed over threads, for replies.
        slot_waiting_s: summed over threads, for the limits to allow a request.
        retry_waiting_s: summed over threads, between tries.
    """

    requests: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    num_locations: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    compute_s: float = 0.0
    latency_bins: Counter[int] = field(default_factory=Counter)
    waiting_s: float = 0.0
    slot_waiting_s: float = 0.0
    retry_waiting_s: float = 0.0

    @property
    def num_requests(self) -> int:
        """Requests of all kinds."""
        return self.requests.total()

    def note_latency(self, seconds: float) -> None:
        """Count the time from a request to the end of its reply."""
        self.waiting_s += seconds
        position = math.log10(max(seconds, _LEAST_S) / _LEAST_S) * _BINS_PER_DECADE
        self.latency_bins[int(position)] += 1

    def latency_quantiles(self) -> dict[str, float]:
        """Return p50, p90, p99 of the latency, s: the upper edge of a bin, up to 12 % too high."""
        total = self.latency_bins.total()
        found = {}
        for quantile in _QUANTILES if total else ():
            counted = 0
            for position in sorted(self.latency_bins):
                counted += self.latency_bins[position]
                if counted >= quantile * total:
                    edge_s = _LEAST_S * 10 ** ((position + 1) / _BINS_PER_DECADE)
                    found[f"p{100 * quantile:g}"] = round(edge_s, 4)
                    break
        return found

    def add(self, other: Ledger) -> None:
        """Add another ledger to this one."""
        for name in ("requests", "outcomes", "latency_bins"):
            getattr(self, name).update(getattr(other, name))
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def summary(self) -> dict[str, Any]:
        """Return what a person or a program wants to read."""
        return {
            "requests": dict(sorted(self.requests.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "num_locations": self.num_locations,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "compute_s": round(self.compute_s, 3),
            "latency_s": self.latency_quantiles(),
            "waiting_s": round(self.waiting_s, 3),
            "slot_waiting_s": round(self.slot_waiting_s, 3),
            "retry_waiting_s": round(self.retry_waiting_s, 3),
        }

    def encode(self) -> bytes:
        """Return the ledger as JSON, with what is needed to add it to others."""
        bins = {str(position): count for position, count in sorted(self.latency_bins.items())}
        return json.dumps({**self.summary(), "latency_bins": bins}, indent=1).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read back what `encode` wrote."""
        found = json.loads(value)
        bins = {int(position): count for position, count in found["latency_bins"].items()}
        return cls(
            requests=Counter(found["requests"]),
            outcomes=Counter(found["outcomes"]),
            latency_bins=Counter(bins),
            **{name: found[name] for name in _SUMS},
        )


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
