"""What requests to a provider cost, counted: ledgers add up in any order."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Self

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
