from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.charts import ticks
from pages.formats import compact, flatten, percent, place, significant, tick_text, utc

MAGNITUDES = {"k": 1e3, "M": 1e6, "G": 1e9}


def value_of(text: str) -> float:
    """Read a tick back."""
    text = text.replace("\N{MINUS SIGN}", "-").replace(",", "")
    factor = MAGNITUDES.get(text[-1])
    return float(text) if factor is None else float(text[:-1]) * factor


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.integers(2, 8))
def test_a_tick_says_its_exact_value(low: float, span: float, most: int) -> None:
    if span < 1e-6 * abs(low):
        return
    for tick in ticks(low, low + span, most):
        assert math.isclose(value_of(tick_text(tick)), tick, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.5, "1.5"), (-0.25, "\N{MINUS SIGN}0.25"), (1500, "1,500"), (12_500, "12.5k")],
)
def test_ticks_read_as_people_write_them(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (1_300_000, "1.3M")]
)
def test_counts_in_a_chart_are_short(count: int, text: str) -> None:
    assert compact(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1e-6, "< 0.1%"),
        (0.12345, "12.3%"),
        (0.99999, "> 99.9%"),
        (1.0, "100%"),
        (None, "unknown"),
    ],
)
def test_percentage_never_rounds_something_to_nothing(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_physical_values_keep_about_four_digits() -> None:
    assert [significant(v) for v in (1390.78, 850.35, 22.1, -12.345)] == [
        "1,391",
        "850.4",
        "22.10",
        "\N{MINUS SIGN}12.35",
    ]


def test_places_and_times() -> None:
    assert place(-73.3061, 30.4639) == "30.464° N, 73.306° W"
    assert place(math.nan, 1.0) == "coordinates not known"
    assert utc(1_591_249_680_000) == "2020-06-04 05:48"


def test_nested_settings_become_dotted_rows_in_their_order() -> None:
    settings = {"b": {"y": [1, 2], "x": None}, "a": True}
    assert flatten(settings) == [("b.y", "1, 2"), ("b.x", "None"), ("a", "True")]
    assert flatten(settings, omit_none=True) == [("b.y", "1, 2"), ("a", "True")]
