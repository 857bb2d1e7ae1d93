from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.date_windows import MS_PER_DAY, Window
from pipeline.sources.earth_engine.acquisitions import Candidate, Listing, choose_acquisitions
from pipeline.sources.earth_engine.settings import AcquisitionSettings, Sentinel1Settings
from storage_schema.products import PRODUCT_NAMES
from storage_schema.status import OrbitPass, StatusReason

SUMMER = Window.around(date(2021, 6, 21), 15)
AUTUMN = Window.around(date(2021, 9, 22), 15)
LATTICE = (60.0, 0.0, 600_000.0, 0.0, -60.0, 4_700_040.0)
R = StatusReason


def s2(name: str, window: Window = SUMMER, day: float = 0, **changes: object) -> Candidate:
    image = Candidate(
        id=name,
        time_ms=window.centre_ms + int(day * MS_PER_DAY),
        cloud_percentage=5.0,
        tile="32TPT",
        crs="EPSG:32632",
        transform=LATTICE,
    )
    return replace(image, **changes)  # type: ignore[arg-type]


def s1(name: str, window: Window = SUMMER, day: float = 0, **changes: object) -> Candidate:
    image = Candidate(
        id=name,
        time_ms=window.centre_ms + int(day * MS_PER_DAY),
        bands=frozenset({"VV", "VH", "angle"}),
        orbit_pass=OrbitPass.ASCENDING,
    )
    return replace(image, **changes)  # type: ignore[arg-type]


def listing(*l1c: Candidate, radar: tuple[Candidate, ...] = (), **without: set[str]) -> Listing:
    """Every L1C image has its twins but those named in `without`."""
    return Listing(
        {
            "s2_l1c": l1c,
            "s1_grd": radar,
            "s2_l2a": [x for x in l1c if x.id not in without.get("l2a", set())],
            "dynamic_world": [x for x in l1c if x.id not in without.get("labels", set())],
        }
    )


def choose(found: Listing, *windows: Window, gone=frozenset(), **settings):  # type: ignore[no-untyped-def]
    return choose_acquisitions(
        found, windows or (SUMMER,), PRODUCT_NAMES, AcquisitionSettings(**settings), gone
    )


def chosen(plan, product="s2_l1c"):  # type: ignore[no-untyped-def]
    found = [season.acquisitions.get(product) for season in plan.seasons]
    return [None if image is None else image.id for image in found]


def test_the_three_s2_products_share_one_index() -> None:
    plan = choose(listing(s2("a", cloud_percentage=9.0), s2("b"), radar=(s1("r"),)))
    assert {name: image.id for name, image in plan.seasons[0].acquisitions.items()} == {
        "s2_l1c": "b",
        "s2_l2a": "b",
        "dynamic_world": "b",
        "s1_grd": "r",
    }
    assert plan.rejected == {R.RANKED_LOWER: 1}


@pytest.mark.parametrize(
    ("order", "expected"), [("least_cloudy", "clear"), ("nearest", "near"), ("newest", "late")]
)
def test_order_of_preference(order: str, expected: str) -> None:
    images = (
        s2("clear", day=-9, cloud_percentage=0.1),
        s2("near", day=1, cloud_percentage=9.0),
        s2("late", day=12, cloud_percentage=19.0),
    )
    assert chosen(choose(listing(*images), order=order)) == [expected]


@pytest.mark.parametrize(
    ("image", "without", "reason"),
    [
        (s2("a", contains_patch=False), {}, R.OUTSIDE_FOOTPRINT),
        (s2("a", cloud_percentage=20.1), {}, R.TOO_CLOUDY),
        (s2("a"), {"l2a": {"a"}}, R.NO_L2A),
        (s2("a"), {"labels": {"a"}}, R.NO_DYNAMIC_WORLD),
    ],
)
def test_a_season_without_image_says_why(
    image: Candidate, without: dict[str, set[str]], reason: StatusReason
) -> None:
    plan = choose(listing(image, **without))
    assert plan.anchor is None
    assert plan.seasons[0].reasons == dict.fromkeys(PRODUCT_NAMES, reason)
    assert plan.rejected == {reason: 1}


def test_no_image_is_said_only_of_an_empty_listing() -> None:
    assert choose(listing()).seasons[0].reasons["s2_l1c"] == R.NO_IMAGE_IN_WINDOW
    unreadable = Listing({"s2_l1c": []}, {"s2_l1c": 2})
    plan = choose(unreadable)
    assert plan.seasons[0].reasons["s2_l1c"] == R.UNREADABLE_METADATA
    assert plan.rejected == {R.UNREADABLE_METADATA: 2}


def test_the_image_that_came_nearest_explains_the_season() -> None:
    plan = choose(listing(s2("a", contains_patch=False), s2("b", cloud_percentage=90.0)))
    assert plan.seasons[0].reasons["s2_l1c"] == R.TOO_CLOUDY


def test_one_tile_serves_all_seasons() -> None:
    images = (
        s2("a1", SUMMER, cloud_percentage=10.0),
        s2("a2", AUTUMN, cloud_percentage=10.0),
        s2("b1", SUMMER, cloud_percentage=0.0, tile="33TUN", crs="EPSG:32633"),
    )
    plan = choose(listing(*images), SUMMER, AUTUMN)
    assert chosen(plan) == ["a1", "a2"]
    assert plan.rejected == {R.OTHER_TILE: 1}


def test_a_season_that_only_another_tile_has_says_so() -> None:
    other = {"tile": "33TUN", "crs": "EPSG:32633"}
    images = (s2("a", SUMMER), s2("b", AUTUMN, cloud_percentage=9.0, **other))
    plan = choose(listing(*images), SUMMER, AUTUMN)
    assert chosen(plan) == ["a", None]
    assert plan.seasons[1].reasons["s2_l1c"] == R.OTHER_TILE


def test_too_few_seasons_leave_the_location_out() -> None:
    plan = choose(listing(s2("a")), SUMMER, AUTUMN, min_seasons=2)
    assert plan.anchor is None
    assert chosen(plan) == [None, None]
    assert plan.seasons[0].reasons["s2_l1c"] == R.TOO_FEW_SEASONS
    assert plan.seasons[1].reasons["s2_l1c"] == R.NO_IMAGE_IN_WINDOW


def test_a_gone_image_gives_way_to_the_next() -> None:
    found = listing(s2("a", cloud_percentage=1.0), s2("b"))
    plan = choose(found, gone=frozenset({("s2_l1c", "a")}))
    assert chosen(plan) == ["b"]
    assert plan.rejected == {R.DISAPPEARED: 1}
    # Its twin being gone is the image's own loss where the twin is required, ...
    assert chosen(choose(found, gone=frozenset({("s2_l2a", "a")}))) == ["b"]
    # ... and only the twin's where it is not.
    plan = choose(found, gone=frozenset({("s2_l2a", "a")}), require_l2a=False)
    assert chosen(plan) == ["a"]
    assert plan.seasons[0].reasons["s2_l2a"] == R.DISAPPEARED


def test_s1_is_the_nearest_in_time() -> None:
    radar = (s1("r1", day=-3), s1("r2", day=2), s1("r3", day=14))
    plan = choose(listing(s2("a"), radar=radar))
    assert chosen(plan, "s1_grd") == ["r2"]
    assert plan.rejected == {R.RANKED_LOWER: 2}


@pytest.mark.parametrize(
    ("image", "settings", "reason"),
    [
        (s1("r", bands=frozenset({"VV", "angle"})), {}, R.MISSING_POLARISATION),
        (s1("r", contains_patch=False), {}, R.OUTSIDE_FOOTPRINT),
        (s1("r", day=4), {"max_days_apart": 3}, R.TOO_FAR_IN_TIME),
        (s1("r"), {"orbit_pass": "descending"}, R.OTHER_ORBIT_PASS),
    ],
)
def test_missing_s1_says_why(
    image: Candidate, settings: dict[str, object], reason: StatusReason
) -> None:
    radar = Sentinel1Settings(**settings)  # type: ignore[arg-type]
    plan = choose(listing(s2("a"), radar=(image,)), s1=radar)
    assert chosen(plan) == ["a"]
    assert plan.seasons[0].reasons == {"s1_grd": reason}


def test_preferred_pass_is_no_condition() -> None:
    down = s1("down", day=9, orbit_pass=OrbitPass.DESCENDING)
    prefer = Sentinel1Settings(orbit_pass="prefer_descending")
    found = listing(s2("a"), radar=(s1("up"), down))
    assert chosen(choose(found, s1=prefer), "s1_grd") == ["down"]
    found = listing(s2("a"), radar=(s1("up"),))
    assert chosen(choose(found, s1=prefer), "s1_grd") == ["up"]


candidates = st.lists(
    st.builds(
        lambda number, season, day, cloud, tile, inside: s2(
            f"{number:03d}",
            (SUMMER, AUTUMN)[season],
            day,
            cloud_percentage=cloud,
            tile=tile,
            contains_patch=inside,
        ),
        st.integers(0, 999),
        st.integers(0, 1),
        st.integers(-15, 15),
        st.sampled_from([0.0, 5.0, 19.0, 40.0]),
        st.sampled_from(["32TPT", "32TQT"]),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda image: image.id,
)


@given(candidates, st.randoms(use_true_random=False))
def test_every_image_is_taken_or_counted_whatever_the_order(
    images: list[Candidate], random: object
) -> None:
    plan = choose(listing(*images), SUMMER, AUTUMN)
    taken = sum(name is not None for name in chosen(plan))
    assert taken + plan.rejected.total() == len(images)
    assert all(isinstance(reason, StatusReason) for reason in plan.rejected)
    shuffled = list(images)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = choose(listing(*shuffled), SUMMER, AUTUMN)
    assert chosen(again) == chosen(plan)
    assert again.rejected == plan.rejected


@given(candidates)
def test_images_going_one_by_one_end_in_no_image_at_all(images: list[Candidate]) -> None:
    found, gone = listing(*images), frozenset[tuple[str, str]]()
    for _ in range(len(images) + 1):
        plan = choose(found, SUMMER, AUTUMN, gone=gone)
        taken = {("s2_l1c", name) for name in chosen(plan) if name is not None}
        assert not taken & gone
        if not taken:
            return
        gone |= taken
    pytest.fail("an image was taken twice")


def test_counts_are_of_reasons_only() -> None:
    assert isinstance(choose(listing(s2("a"))).rejected, Counter)
    assert not choose(listing(s2("a"))).rejected[R.RANKED_LOWER]
