"""Season slots: order in time, matching across products."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.patches import Acquisition
from pipeline.sources.seasons import arrange_seasons, match_in_order

DAY_MS = 86_400_000


def image(day: float, name: str | None = None) -> Acquisition:
    return Acquisition(name or f"day{day:g}", time_ms=int(day * DAY_MS))


def dated(days: list[int], names: list[str] | None = None) -> list[tuple[int, Acquisition]]:
    names = names or [f"{day}" for day in days]
    return [(day, Acquisition(name, time_ms=day)) for day, name in zip(days, names, strict=True)]


def days_of(arrangement, product):
    return [
        slot[product].time_ms / DAY_MS if product in slot else None for slot in arrangement.slots
    ]


def brute_force(slots, others):
    """The least (differing ids, sum of differences) over every full order-preserving matching."""
    count = min(len(slots), len(others))
    return min(
        (
            sum(slots[i][1].id != others[j][1].id for i, j in zip(a, b, strict=True)),
            sum(abs(slots[i][0] - others[j][0]) for i, j in zip(a, b, strict=True)),
        )
        for a in combinations(range(len(slots)), count)
        for b in combinations(range(len(others)), count)
    )


days = st.lists(st.integers(0, 30), min_size=1, max_size=5).map(sorted)


@given(days, days)
def test_matching_is_the_best_of_all_order_preserving_ones(slot_days, other_days):
    # Days double as ids, so that equal ids occur.
    slots, others = dated(slot_days), dated(other_days)
    matches = match_in_order(slots, others)

    used = [index for index in matches if index is not None]
    assert len(matches) == len(slots)
    assert len(used) == min(len(slots), len(others))
    assert used == sorted(set(used))
    pairs = [(slots[i], others[j]) for i, j in enumerate(matches) if j is not None]
    cost = (
        sum(slot[1].id != other[1].id for slot, other in pairs),
        sum(abs(slot[0] - other[0]) for slot, other in pairs),
    )
    assert cost == brute_force(slots, others)


def test_same_image_wins_over_a_nearer_one():
    slots = dated([0, 100], ["a", "b"])
    others = dated([60], ["a"])
    assert match_in_order(slots, others) == [0, None]


def test_matching_never_crosses():
    assert match_in_order(dated([0, 100]), dated([99, 101])) == [0, 1]


def test_slots_are_in_time_order_whatever_the_order_given():
    arrangement = arrange_seasons({"s2_l1c": [image(200), image(10), image(90)]})
    assert days_of(arrangement, "s2_l1c") == [10, 90, 200]


def test_the_product_with_most_seasons_makes_the_slots():
    arrangement = arrange_seasons(
        {"s2_l1c": [image(100)], "s1_grd": [image(11), image(103), image(190)]}
    )
    assert days_of(arrangement, "s1_grd") == [11, 103, 190]
    assert days_of(arrangement, "s2_l1c") == [None, 100, None]


def test_l1c_makes_the_slots_where_products_have_equally_many():
    arrangement = arrange_seasons(
        {"s1_grd": [image(5), image(95)], "s2_l2a": [image(3), image(93)], "s2_l1c": [image(1)]}
    )
    assert days_of(arrangement, "s2_l2a") == [3, 93]
    assert days_of(arrangement, "s2_l1c") == [1, None]


def test_further_seasons_are_left_out_by_time_and_named():
    arrangement = arrange_seasons(
        {"s2_l1c": [image(d) for d in (50, 10, 40, 20, 30)], "s1_grd": [image(29)]}
    )
    assert days_of(arrangement, "s2_l1c") == [10, 20, 30, 40]
    assert days_of(arrangement, "s1_grd") == [None, None, 29, None]
    assert arrangement.left_out == (("s2_l1c", image(50)),)


def test_a_product_with_more_than_four_seasons_does_not_outvote_l1c():
    arrangement = arrange_seasons(
        {
            "s2_l1c": [image(d) for d in (100, 200, 300, 400)],
            "s2_l2a": [image(d) for d in (1, 100, 200, 300, 400)],
        }
    )
    assert days_of(arrangement, "s2_l1c") == days_of(arrangement, "s2_l2a") == [100, 200, 300, 400]
    assert arrangement.left_out == (("s2_l2a", image(1)),)


def test_no_acquisitions_make_no_slots():
    assert arrange_seasons({"s2_l1c": [], "s1_grd": []}).slots == ()


def test_an_acquisition_without_time_is_refused():
    with pytest.raises(ValueError, match="undated has no time"):
        arrange_seasons({"s2_l1c": [Acquisition("undated")]})
