"""What a rebuild will cost, told before it starts: requests, bytes, hours, share of the month.

Three bases, the best one there is: a pilot of a few locations, what the cube has cost so far, or
the plan alone. The plan knows requests and pixels exactly, but neither latency nor compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from pipeline.build.builder import Build, read_pilot
from pipeline.build.rebuild import find_locations, service_session, sources_of
from pipeline.cube.object_storage import ObjectStorage
from pipeline.ledger import Ledger
from pipeline.sources.earth_engine.pixels import REPLY_DTYPES
from pipeline.sources.earth_engine.settings import RebuildSettings
from storage_schema.products import PATCH_SIZE_M, PRODUCTS

MONTHLY_EECU_HOURS: Final = {"community": 150, "contributor": 1_000, "partner": 100_000}
"""Compute budget of non-commercial projects by tier, EECU-hours a month, since 2026-04-27.
Source: Earth Engine, "Noncommercial tiers"."""
_FINEST_M: Final = 10

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
        compute_hours: EECU-hours; None where the service reported none.
    """

    basis: Basis
    measured_locations: int
    num_locations: int
    num_requests: int
    bytes_received: int
    hours: float | None
    least_hours: float
    compute_hours: float | None

    @property
    def share_of_month(self) -> dict[str, float]:
        """Share of the monthly compute budget by tier; empty where compute is not known."""
        if self.compute_hours is None:
            return {}
        return {tier: self.compute_hours / hours for tier, hours in MONTHLY_EECU_HOURS.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return {**asdict(self), "share_of_month": self.share_of_month}

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
        return [*lines, f"  compute: {self.compute_hours:,.3g} EECU-hours; of a month: {shares}"]


def forecast(
    settings: RebuildSettings,
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
    limits = settings.earth_engine.limits
    num_requests, num_bytes = _plan(settings, num_locations)
    hours = compute_hours = None
    known = measured.num_locations if measured is not None else 0
    if measured is not None and known:
        scale = num_locations / known
        num_requests = math.ceil(measured.num_requests * scale)
        num_bytes = math.ceil(measured.bytes_received * scale)
        if measured.compute_s:
            compute_hours = measured.compute_s * scale / 3600
        in_flight_s = measured.waiting_s * scale / limits.max_in_flight
        # A few locations cannot fill all slots; a whole rebuild waits for them or for itself.
        hours = (measured_s * scale if measured_s is not None else in_flight_s) / 3600
    least_hours = num_requests / limits.max_requests_per_s / 3600
    return Forecast(
        basis=basis if known else "plan",
        measured_locations=known,
        num_locations=num_locations,
        num_requests=num_requests,
        bytes_received=num_bytes,
        hours=None if hours is None else max(hours, least_hours),
        least_hours=least_hours,
        compute_hours=compute_hours,
    )


def forecast_build(settings: RebuildSettings, build: Build, num_pilot: int = 0) -> Forecast:
    """Forecast what is left of a cube that is held.

    Raises:
        InputError, TransientError: the pilot cannot be fetched.
    """
    ids = build.location_ids
    if num_pilot:
        ledger, took_s = build.pilot(_spread(ids, num_pilot))
        return forecast(settings, len(ids), ledger, basis="pilot", measured_s=took_s)
    return forecast(settings, len(ids), build.summary.spent, basis="earlier runs")


def forecast_new(settings: RebuildSettings, folder: Path, num_pilot: int = 0) -> Forecast:
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
    locations = find_locations(settings, folder)
    ids = list(locations.location_id)
    if not num_pilot:
        return forecast(settings, len(ids))
    with service_session(settings, folder) as reachable:
        ledger, took_s = read_pilot(sources_of(reachable, locations), _spread(ids, num_pilot))
    return forecast(settings, len(ids), ledger, basis="pilot", measured_s=took_s)


def _spread(location_ids: Sequence[str], num: int) -> list[str]:
    """Choose places evenly from the whole list: neighbours in it may be neighbours on Earth."""
    step = max(1, len(location_ids) // max(num, 1))
    return list(location_ids[::step][:num])


def _plan(settings: RebuildSettings, num_locations: int) -> tuple[int, int]:
    """Return requests and bytes of replies if every season of every location has its image."""
    num_seasons = len(settings.seasons.reference_dates)
    s1_alone = "s1_grd" in settings.products and settings.acquisitions.s1.reprojection == "dask"
    listings = math.ceil(num_locations / settings.earth_engine.locations_per_listing)
    per_pixel = sum(
        len(PRODUCTS[name].bands) * np.dtype(REPLY_DTYPES[name]).itemsize
        for name in settings.products
    )
    seasons = num_locations * num_seasons
    num_bytes = seasons * per_pixel * (PATCH_SIZE_M // _FINEST_M) ** 2
    return listings + seasons * (1 + s1_alone), num_bytes


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
