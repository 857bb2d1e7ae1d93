"""What a rebuild will cost, told before it starts: requests, bytes, hours, share of the month.

Three bases, the best one there is: a pilot of a few locations, what the cube has cost so far, or
the plan alone. The plan knows requests and pixels exactly, but neither latency nor compute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from groundwork.errors import InputError
from pipeline.build.builder import Build, read_pilot
from pipeline.cube.object_storage import ObjectStorage
from pipeline.ledger import Ledger
from pipeline.sources.registry import SettingsOfBuild, kind_of

Basis = Literal["plan", "earlier runs", "pilot"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is still to be spent.

    Args:
        basis: what the figures rest on.
        measured_locations: behind them; 0 for a plan.
        num_locations: still to fetch.
        num_requests: to the service.
        bytes_received: of replies.
        hours: of fetching; None where no latency was measured.
        least_hours: that the limit on requests per second allows.
        compute_hours: in the provider's unit; None where the service reported none.
        compute_unit: that unit.
        monthly_compute: tier -> what it grants in a month, in that unit.
    """

    basis: Basis
    measured_locations: int
    num_locations: int
    num_requests: int
    bytes_received: int
    hours: float | None
    least_hours: float
    compute_hours: float | None
    compute_unit: str
    monthly_compute: Mapping[str, float]

    @property
    def share_of_month(self) -> dict[str, float]:
        """Share of the monthly compute budget by tier; empty where compute is not known."""
        if self.compute_hours is None:
            return {}
        return {tier: self.compute_hours / hours for tier, hours in self.monthly_compute.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the figures for programs."""
        figures = asdict(self)
        del figures["compute_unit"], figures["monthly_compute"]
        return {**figures, "share_of_month": self.share_of_month}

    def sentences(self) -> list[str]:
        """Return the figures for people, a line each."""
        based = self.basis if self.basis == "plan" else f"{self.basis}, {self.measured_locations:,}"
        took = "not known without a pilot" if self.hours is None else f"{_hours(self.hours)}"
        lines = [
            f"forecast for {self.num_locations:,} locations (from: {based}"
            f"{'' if self.basis == 'plan' else ' locations'})",
            f"  requests: {self.num_requests:,}; received: {_bytes(self.bytes_received)} before "
            "compression by HTTP",
            f"  time: {took}; at least {_hours(self.least_hours)} by the limit on requests",
        ]
        if self.compute_hours is None:
            return [*lines, "  compute: not reported by the service so far"]
        shares = ", ".join(
            f"{100 * share:.2g} % ({tier})" for tier, share in self.share_of_month.items()
        )
        return [
            *lines,
            f"  compute: {self.compute_hours:,.3g} {self.compute_unit}; of a month: {shares}",
        ]


def forecast(
    settings: SettingsOfBuild,
    num_locations: int,
    measured: Ledger | None = None,
    *,
    basis: Basis = "plan",
    measured_s: float | None = None,
) -> Forecast:
    """Forecast a rebuild.

    Args:
        settings: of the rebuild.
        num_locations: still to fetch.
        measured: what some locations have cost; None forecasts from the plan.
        basis: where that comes from.
        measured_s: wall time that those locations took, s.
    """
    plan = kind_of(settings).plan_requests(settings, num_locations)
    if plan is None:
        raise InputError("this source asks no service: there is nothing to forecast")
    num_requests, num_bytes = plan.num_requests, plan.num_bytes
    hours = compute_hours = None
    known = measured.num_locations if measured is not None else 0
    if measured is not None and known:
        scale = num_locations / known
        num_requests = math.ceil(measured.num_requests * scale)
        num_bytes = math.ceil(measured.bytes_received * scale)
        if measured.compute_s:
            compute_hours = measured.compute_s * scale / 3600
        in_flight_s = measured.waiting_s * scale / plan.max_in_flight
        # A few locations cannot fill all slots; a whole rebuild waits for them or for itself.
        hours = (measured_s * scale if measured_s is not None else in_flight_s) / 3600
    least_hours = num_requests / plan.max_requests_per_s / 3600
    return Forecast(
        basis=basis if known else "plan",
        measured_locations=known,
        num_locations=num_locations,
        num_requests=num_requests,
        bytes_received=num_bytes,
        hours=None if hours is None else max(hours, least_hours),
        least_hours=least_hours,
        compute_hours=compute_hours,
        compute_unit=plan.compute_unit,
        monthly_compute=plan.monthly_compute,
    )


def forecast_build(settings: SettingsOfBuild, build: Build, num_pilot: int = 0) -> Forecast | None:
    """Forecast what is left of a cube that is held; None where the source asks no service.

    Args:
        settings: of the build.
        build: the cube that is held.
        num_pilot: locations to fetch first, in order to measure.

    Raises:
        InputError, TransientError: the pilot cannot be fetched.
    """
    if kind_of(settings).plan_requests(settings, 0) is None:
        return None
    ids = build.location_ids
    if num_pilot:
        ledger, took_s = build.pilot(_spread(ids, num_pilot))
        return forecast(settings, len(ids), ledger, basis="pilot", measured_s=took_s)
    return forecast(settings, len(ids), build.summary.spent, basis="earlier runs")


def forecast_new(settings: SettingsOfBuild, folder: Path, num_pilot: int = 0) -> Forecast:
    """Forecast a cube from its first batch on; nothing is written.

    Args:
        settings: of the rebuild.
        folder: where relative paths of the settings start.
        num_pilot: locations to fetch, in order to measure.

    Raises:
        InputError: settings, credentials or endpoint are wrong.
        TransientError: the service does not answer for now.
    """
    ObjectStorage(settings.cube)  # Refuses an address that holds no cube.
    if not num_pilot:
        return forecast(settings, kind_of(settings).num_locations(settings, folder))
    with kind_of(settings).open(settings, folder) as plan:
        pilot = _spread(plan.location_ids, num_pilot)
        ledger, took_s = read_pilot(plan.source_of_batch, pilot)
    return forecast(settings, len(plan.location_ids), ledger, basis="pilot", measured_s=took_s)


def _spread(location_ids: Sequence[str], num: int) -> list[str]:
    """Choose places evenly from the whole list: neighbours in it may be neighbours on Earth."""
    step = max(1, len(location_ids) // max(num, 1))
    return list(location_ids[::step][:num])


def _bytes(number: int) -> str:
    for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= divisor:
            return f"{number / divisor:.3g} {unit}"
    return f"{number:,} bytes"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.0f} h" if hours < 72 else f"{hours / 24:,.1f} days"
