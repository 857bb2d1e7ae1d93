"""The date windows of a location: one per season slot."""

from __future__ import annotations

import hashlib
import itertools
import math
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from groundwork.settings_text import SettingsModel
from pipeline.places.settings import Seed
from storage_schema.layout import NUM_SEASONS

MS_PER_DAY: Final = 86_400_000

ReferenceDate = Annotated[date, Field(ge=date(2014, 1, 1), lt=date(2100, 1, 1))]
"""No Sentinel flew before 2014."""


class SeasonSettings(SettingsModel):
    """The date windows of a location, one per season slot.

    Args:
        reference_dates: middle of each window; slot 0 is the first one named.
        half_window_days: a window reaches so many days to either side.
        max_shift_days: SSL4EO-S12 moved the dates of every location back by one random number of
            days, 0 to 364; 0 moves none.
        seed: of the shifts, together with the location's id.
    """

    reference_dates: tuple[ReferenceDate, ...] = Field(min_length=1, max_length=NUM_SEASONS)
    half_window_days: int = Field(15, ge=0, le=182)
    max_shift_days: int = Field(0, ge=0, le=3650)
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        days = sorted(self.reference_dates)
        for first, second in itertools.pairwise(days):
            if (second - first).days <= 2 * self.half_window_days:
                raise ValueError(
                    f"the windows around {first} and {second} overlap: one image could fill two "
                    "seasons; lower half_window_days or move a date"
                )
        return self

    def windows_of(self, location_id: str) -> tuple[Window, ...]:
        """Return the windows of one location, in the order of the slots."""
        named = f"{self.seed}:{location_id}".encode()
        drawn = int.from_bytes(hashlib.sha256(named).digest()[:8], "big")
        shift_days = drawn % (self.max_shift_days + 1)
        return tuple(
            Window.around(day - timedelta(days=shift_days), self.half_window_days)
            for day in self.reference_dates
        )

    @property
    def meaning(self) -> str:
        """What a season slot is, for the cube's attributes."""
        dates = ", ".join(day.isoformat() for day in self.reference_dates)
        shifted = (
            f", moved back by 0 to {self.max_shift_days} days per location"
            if self.max_shift_days
            else ""
        )
        return f"date windows of +-{self.half_window_days} days around {dates}{shifted}"


class Window(SettingsModel):
    """A span of time.

    Args:
        start_ms: first millisecond since 1970-01-01 UTC.
        end_ms: first one after it.
        centre_ms: noon of the reference date.
    """

    start_ms: int
    end_ms: int
    centre_ms: int

    @classmethod
    def around(cls, day: date, half_days: int) -> Window:
        """Return the window of whole days around a date."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        start_ms = int(midnight.timestamp() * 1000) - half_days * MS_PER_DAY
        return cls(
            start_ms=start_ms,
            end_ms=start_ms + (2 * half_days + 1) * MS_PER_DAY,
            centre_ms=start_ms + half_days * MS_PER_DAY + MS_PER_DAY // 2,
        )

    def contains(self, time_ms: int) -> bool:
        """Tell whether a moment lies in the window."""
        return self.start_ms <= time_ms < self.end_ms


def days_apart(first_ms: int, second_ms: int) -> float:
    """Return the time between two moments, days."""
    return math.fabs(first_ms - second_ms) / MS_PER_DAY
