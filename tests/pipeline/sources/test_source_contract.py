"""What every source of patches has to keep, files or service alike."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.batches import assemble_batch
from pipeline.patches import LocationPatches, PatchSource, check_patch
from pipeline.places.locations import make_locations
from pipeline.sources.earth_engine.client import close_sessions
from pipeline.sources.earth_engine.settings import RebuildSettings
from pipeline.sources.earth_engine.source import EarthEngineSource, Place
from pipeline.sources.ssl4eo_s12.source import SSL4EOS12Source
from storage_schema.layout import NUM_SEASONS, describe
from storage_schema.products import PRODUCT_NAMES
from storage_schema.status import PatchStatus, Split, StatusReason
from tests.pipeline.rebuilding import configuration
from tests.ssl4eo_s12_layout import write_layout
from tests.synthetic import describe_cube


@dataclass(frozen=True)
class Subject:
    """A source, made anew on every call, and locations it has."""

    make: Callable[[], PatchSource]
    location_ids: list[str]


def files(folder: Path) -> Subject:
    written = write_layout(folder, 3, num_seasons=2)
    return Subject(lambda: SSL4EOS12Source.open(written.root), list(written.locations))


def service(url: str, folder: Path) -> Subject:
    settings = RebuildSettings.model_validate(configuration(url, "unused.zarr", 3))
    assert settings.locations is not None
    found = make_locations(settings.locations, folder)
    places = {
        str(name): Place(float(lon), float(lat), Split.TRAIN)
        for name, lon, lat in zip(found.location_id, found.longitude, found.latitude, strict=True)
    }

    def make() -> PatchSource:
        return EarthEngineSource(
            places=places,
            products=PRODUCT_NAMES,
            seasons=settings.seasons,
            acquisitions=settings.acquisitions,
            grid_epsg=None,
            service=settings.earth_engine,
        )

    return Subject(make, list(places))


@pytest.fixture(
    scope="module", params=["ssl4eo_s12", pytest.param("earth_engine", marks=pytest.mark.server)]
)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("source")
    if request.param == "ssl4eo_s12":
        yield files(folder)
    else:
        yield service(request.getfixturevalue("simulated_emulator"), folder)
        close_sessions()


@pytest.fixture(scope="module")
def locations(subject: Subject) -> list[LocationPatches]:
    """All locations, read once in order."""
    return list(subject.make().read_locations(subject.location_ids))


def arrays_of(location: LocationPatches) -> dict[str, np.ndarray]:
    """Return everything a cube keeps of a location."""
    layout = describe(describe_cube(1, locations_per_batch=1))
    return assemble_batch(layout, [location], 1).arrays


def assert_same(one: LocationPatches, other: LocationPatches) -> None:
    ours, theirs = arrays_of(one), arrays_of(other)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    assert one.notes == other.notes


def test_locations_come_in_the_order_asked_for(
    subject: Subject, locations: list[LocationPatches]
) -> None:
    assert [location.location_id for location in locations] == subject.location_ids
    backwards = subject.location_ids[::-1]
    found = list(subject.make().read_locations(backwards))
    assert [location.location_id for location in found] == backwards
    for one, other in zip(locations, found[::-1], strict=True):
        assert_same(one, other)


def test_one_location_reads_as_among_others(
    subject: Subject, locations: list[LocationPatches]
) -> None:
    assert_same(subject.make().read_location(subject.location_ids[1]), locations[1])


def test_every_product_of_every_season_has_an_outcome(
    subject: Subject, locations: list[LocationPatches]
) -> None:
    products = set(subject.make().products)
    complete = 0
    for location in locations:
        assert 1 <= len(location.seasons) <= NUM_SEASONS
        for season in location.seasons:
            assert set(season.products) == products
            for name, patch in season.products.items():
                checked = check_patch(name, patch)
                assert checked.status is patch.status, checked.detail
                if patch.status is PatchStatus.COMPLETE:
                    complete += 1
                    assert patch.acquisition is not None
                else:
                    assert patch.reason is not StatusReason.NONE
    assert complete > 0


def test_source_travels_to_a_worker(subject: Subject, locations: list[LocationPatches]) -> None:
    source = pickle.loads(pickle.dumps(subject.make()))
    assert_same(source.read_location(subject.location_ids[0]), locations[0])


def test_reading_may_end_early_and_begin_again(
    subject: Subject, locations: list[LocationPatches]
) -> None:
    source = subject.make()
    reading = source.read_locations(subject.location_ids)
    next(reading)
    reading.close()
    source.cancel()  # Nothing is under way any more; it is harmless.
    assert_same(source.read_location(subject.location_ids[2]), locations[2])


def test_ledger_knows_what_was_asked(subject: Subject) -> None:
    source = subject.make()
    assert source.ledger.num_requests == 0
    source.read_location(subject.location_ids[0])
    asked = source.ledger
    assert (asked.num_requests > 0) == isinstance(source, EarthEngineSource)
    assert asked.outcomes.total() == asked.num_requests
