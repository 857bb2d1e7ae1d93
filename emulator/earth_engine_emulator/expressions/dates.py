"""Instants and ranges of time, in UTC milliseconds, and the calendar around them."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from earth_engine_emulator.expressions.errors import AlgorithmError

MS_PER = {
    "second": 1000.0,
    "minute": 60e3,
    "hour": 3600e3,
    "day": 86400e3,
    "week": 7 * 86400e3,
    "month": 365.25 * 86400e3 / 12,
    "year": 365.25 * 86400e3,
}
"""Average lengths; calendar steps of months and years are made in the calendar."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ISO = re.compile(r"^(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?:T(.*))?$")
# Joda-Time letters of a format -> how a date shows them.
_JODA = re.compile(r"'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']+")


@dataclass(frozen=True, slots=True)
class Date:
    """An instant, milliseconds since 1970-01-01 UTC."""

    ms: int


@dataclass(frozen=True, slots=True)
class DateRange:
    """Instants from `start_ms` to before `end_ms`; None is without bound."""

    start_ms: int | None
    end_ms: int | None

    def contains(self, ms: float) -> bool:
        """Return whether an instant lies in the range."""
        return (self.start_ms is None or ms >= self.start_ms) and (
            self.end_ms is None or ms < self.end_ms
        )

    @property
    def empty(self) -> bool:
        """Whether no instant lies in it."""
        return (
            self.start_ms is not None and self.end_ms is not None and self.end_ms <= self.start_ms
        )


def zone(name: str | None) -> dt.tzinfo:
    """Return a time zone, UTC for None.

    Raises:
        AlgorithmError: there is none of that name.
    """
    if name is None or name == "UTC":
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise AlgorithmError(f"The datetime zone id '{name}' is not recognised.") from None


def parse_date(value: Any, time_zone: str | None = None) -> Date:
    """Read a date: milliseconds, an ISO 8601 text, or a date.

    Raises:
        AlgorithmError: it is none of these.
    """
    if isinstance(value, Date):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Date(int(value))
    if isinstance(value, str):
        return Date(to_ms(_parse_iso(value, zone(time_zone))))
    raise AlgorithmError(f"Invalid date: '{value}'.")


def _parse_iso(text: str, default_zone: dt.tzinfo) -> dt.datetime:
    matched = _ISO.match(text.strip())
    if not matched:
        raise AlgorithmError(f"Invalid date string: '{text}'. Expected ISO 8601.")
    year, month, day, time = matched.groups()
    try:
        parsed = dt.datetime(int(year), int(month or 1), int(day or 1), tzinfo=default_zone)
        if not time:
            return parsed
        clock = dt.time.fromisoformat(time)
    except ValueError:
        raise AlgorithmError(f"Invalid date string: '{text}'. Expected ISO 8601.") from None
    return dt.datetime.combine(parsed.date(), clock, tzinfo=clock.tzinfo or default_zone)


def to_ms(moment: dt.datetime) -> int:
    """Return milliseconds since 1970-01-01 UTC."""
    return math.floor((moment - _EPOCH) / dt.timedelta(milliseconds=1))


def to_datetime(date: Date, time_zone: str | None = None) -> dt.datetime:
    """Return the moment in a time zone."""
    return (_EPOCH + dt.timedelta(milliseconds=date.ms)).astimezone(zone(time_zone))


def unit_name(unit: str) -> str:
    """Return the singular name of a unit of time.

    Raises:
        AlgorithmError: it is no unit.
    """
    name = unit.lower().removesuffix("s")
    if name not in MS_PER:
        raise AlgorithmError(
            f"Unrecognized unit '{unit}'. Valid units are: year, month, week, day, hour, minute, "
            f"second."
        )
    return name


def advance(date: Date, delta: float, unit: str, time_zone: str | None = None) -> Date:
    """Move a date by units; whole months and years by the calendar, parts by average length."""
    name = unit_name(unit)
    if name not in {"month", "year"}:
        return Date(date.ms + round(delta * MS_PER[name]))
    whole = math.trunc(delta)
    moved = _add_months(to_datetime(date, time_zone), whole * (12 if name == "year" else 1))
    return Date(to_ms(moved) + round((delta - whole) * MS_PER[name]))


def _add_months(moment: dt.datetime, months: int) -> dt.datetime:
    total = moment.year * 12 + moment.month - 1 + months
    year, month = total // 12, total % 12 + 1
    next_month = dt.date(year + month // 12, month % 12 + 1, 1)
    last = (next_month - dt.timedelta(days=1)).day
    return moment.replace(year=year, month=month, day=min(moment.day, last))


def floor_to(date: Date, unit: str, time_zone: str | None = None) -> Date:
    """Return the start of the unit that a date lies in."""
    name = unit_name(unit)
    moment = to_datetime(date, time_zone)
    if name == "week":
        moment -= dt.timedelta(days=moment.weekday())
        name = "day"
    order = ["year", "month", "day", "hour", "minute", "second"]
    lowest = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    finer = {field: lowest[field] for field in order[order.index(name) + 1 :]}
    return Date(to_ms(moment.replace(microsecond=0, **finer)))  # type: ignore[arg-type]


def get_field(date: Date, unit: str, time_zone: str | None = None) -> int:
    """Return a calendar field of a date: month 1-12, week 1-53, ..."""
    moment = to_datetime(date, time_zone)
    name = unit_name(unit)
    return moment.isocalendar().week if name == "week" else int(getattr(moment, name))


def format_date(date: Date, pattern: str | None = None, time_zone: str | None = None) -> str:
    """Show a date by a Joda-Time pattern; the ISO 8601 form by default.

    Raises:
        AlgorithmError: the pattern has a letter the emulator does not know.
    """
    moment = to_datetime(date, time_zone)
    if pattern is None:
        return moment.strftime("%Y-%m-%dT%H:%M:%S")
    return "".join(_field(moment, part.group()) for part in _JODA.finditer(pattern))


def _field(moment: dt.datetime, part: str) -> str:
    if part.startswith("'"):
        return part[1:-1].replace("''", "'") or "'"
    if not part[0].isalpha():
        return part
    number = _number_field(moment, part)
    if number is not None:
        return str(number).zfill(len(part))
    named = {"M": "%b", "E": "%a"}
    if part[0] in named:
        return moment.strftime(named[part[0]] if len(part) < 4 else named[part[0]].upper())
    if part[0] == "Z":
        return moment.strftime("%z")
    if part[0] == "a":
        return moment.strftime("%p")
    raise AlgorithmError(f"Illegal pattern component: {part}.")


def _number_field(moment: dt.datetime, part: str) -> int | None:
    letter = part[0]
    if letter in "yYx":
        year = moment.isocalendar().year if letter == "x" else moment.year
        return year % 100 if len(part) == 2 else year
    if letter == "M":
        return moment.month if len(part) < 3 else None
    if letter == "S":
        return int(f"{moment.microsecond:06d}"[: len(part)])
    values = {
        "d": moment.day,
        "D": moment.timetuple().tm_yday,
        "H": moment.hour,
        "h": (moment.hour + 11) % 12 + 1,
        "m": moment.minute,
        "s": moment.second,
        "w": moment.isocalendar().week,
        "e": moment.isoweekday(),
    }
    return values.get(letter)
