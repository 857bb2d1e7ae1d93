"""Numbers, times, coordinates and nested settings as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

_MAGNITUDES: Final = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def compact(number: float, digits: int = 3) -> str:
    """Return a count as people read it in a chart: 950, 12.4k, 1.3M."""
    for limit, divisor, suffix in _MAGNITUDES:
        if abs(number) >= limit:
            return f"{number / divisor:.{digits}g}{suffix}"
    return f"{number:,.0f}"


def tick_text(value: float) -> str:
    """Return the exact value of a tick, which is a round number: 0.25, 1,500, 12.5k."""
    return minus(compact(value, 10) if abs(value) >= 1e4 else f"{value:,.10g}")


def minus(number: str) -> str:
    """Return a formatted number with a minus sign, which is as wide as a plus, for a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def percent(share: float | None) -> str:
    """Return a share of 1 as a percentage that never rounds something to nothing."""
    if share is None:
        return "unknown"
    if share == 0:
        return "0%"
    if share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return "100%" if share == 1 else f"{share:.1%}"


def significant(value: float) -> str:
    """Return a physical value with about four significant digits."""
    if abs(value) >= 1000:
        return minus(f"{value:,.0f}")
    return minus(f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}")


def utc(time_ms: int) -> str:
    """Return a time as ``2020-06-04 05:48``, UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, tz=UTC):%Y-%m-%d %H:%M}"


def place(longitude: float, latitude: float) -> str:
    """Return coordinates (deg) as ``30.464° N, 73.306° E``."""
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        return "coordinates not known"
    return (
        f"{abs(latitude):.3f}° {'N' if latitude >= 0 else 'S'}, "
        f"{abs(longitude):.3f}° {'E' if longitude >= 0 else 'W'}"
    )


def flatten(
    values: Mapping[str, Any], prefix: str = "", *, omit_none: bool = False
) -> list[tuple[str, str]]:
    """Return nested settings as (dotted name, text) rows, in their order.

    Args:
        values: the settings.
        prefix: of the names.
        omit_none: leave out settings that are None.
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flatten(value, f"{name}.", omit_none=omit_none)
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(str(v) for v in value)))
        elif value is not None or not omit_none:
            rows.append((name, str(value)))
    return rows
