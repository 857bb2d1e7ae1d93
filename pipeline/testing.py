"""The contract of a source of patches, as checks that its own tests can run.

    from pipeline.testing import CHECKS, Subject, check_kind

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_source_keeps_the_contract(check):
        check(Subject(make=lambda: MySource(...), location_ids=["a", "b", "c"]))

    def test_it_is_what_a_build_expects():
        check_kind(parse_build_settings(values, "values"), folder)

`CHECKS` are about a `PatchSource`, `check_kind` about the `SourceKind` that is registered and about
the source that it makes of settings. Each raises `ContractBrokenError` with one sentence. None of
them needs pytest.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.build.batches import assemble_batch
from pipeline.grids import from_lon_lat
from pipeline.patches import LocationPatches, PatchSource, check_patch
from pipeline.places.locations import find_locations
from pipeline.sources.registry import BuildPlan, SettingsOfBuild, kind_of
from pipeline.sources.settings import BuildSettings
from storage_schema.layout import NUM_SEASONS, CubeDescription, describe
from storage_schema.products import PATCH_SIZE_M
from storage_schema.status import PatchStatus, Split, StatusReason

_CENTRE_WITHIN_M: Final = 1.0
"""How far the stored centre may lie from that of the grid: degrees are rounded, not moved."""


class ContractBrokenError(AssertionError):
    """A source does what no source may."""


@dataclass(frozen=True)
class Subject:
    """A source under test.

    Args:
        make: returns the source, made anew on every call.
        location_ids: at least three that it has; one of them at least with a complete patch.
        asks_service: whether reading a location costs requests.
    """

    make: Callable[[], PatchSource]
    location_ids: Sequence[str]
    asks_service: bool = False

    @cached_property
    def locations(self) -> list[LocationPatches]:
        """All locations, read in order, once for all checks of this subject."""
        return _read(self, list(self.location_ids))


def check_order(subject: Subject) -> None:
    """Locations come in the order asked for, and read the same in any order."""
    ids = list(subject.location_ids)
    forwards = subject.locations
    backwards = _read(subject, ids[::-1])
    _require(
        [found.location_id for found in forwards] == ids
        and [found.location_id for found in backwards] == ids[::-1],
        "read_locations has to yield every location it is asked for, in that order",
    )
    for one, other in zip(forwards, backwards[::-1], strict=True):
        _require_same(subject, one, other, "read in another order")


def check_one_location(subject: Subject) -> None:
    """A location reads alone as it does among others."""
    second = subject.make().read_location(subject.location_ids[1])
    _require_same(subject, second, subject.locations[1], "read alone")


def check_outcomes(subject: Subject) -> None:
    """Every product of every season has a status, a reason where it is not complete, and pixels."""
    products = set(subject.make().products)
    num_complete = 0
    for location in subject.locations:
        where = f"location {location.location_id}"
        _require(
            1 <= len(location.seasons) <= NUM_SEASONS,
            f"{where} has {len(location.seasons)} seasons, not 1 to {NUM_SEASONS}",
        )
        for season in location.seasons:
            _require(
                set(season.products) == products,
                f"{where} has {sorted(season.products)} in a season, not {sorted(products)}",
            )
            for name, patch in season.products.items():
                checked = check_patch(name, patch)
                _require(
                    checked.status is patch.status,
                    f"{where}: {name} is said to be {patch.status.name.lower()}, but "
                    f"{checked.detail}",
                )
                if patch.status is PatchStatus.COMPLETE:
                    num_complete += 1
                    _require(patch.acquisition is not None, f"{where}: {name} names no acquisition")
                else:
                    _require(
                        patch.reason is not StatusReason.NONE,
                        f"{where}: {name} is {patch.status.name.lower()} without a reason",
                    )
    _require(num_complete > 0, "no patch of these locations is complete: choose other ones")


def check_travels(subject: Subject) -> None:
    """A pickled source reads the same: Dask sends sources to its workers."""
    first = subject.location_ids[0]
    travelled = pickle.loads(pickle.dumps(subject.make()))  # noqa: S301 - pickled just before
    read = travelled.read_location(first)
    _require_same(subject, read, subject.locations[0], "read after pickling")


def check_early_end(subject: Subject) -> None:
    """Reading may be given up, and begun again with the same source."""
    source = subject.make()
    reading = source.read_locations(subject.location_ids)
    next(reading)
    reading.close()
    source.cancel()  # Nothing is under way any more; it has to be harmless.
    third = source.read_location(subject.location_ids[2])
    _require_same(subject, third, subject.locations[2], "read after giving up")


def check_ledger(subject: Subject) -> None:
    """The ledger counts requests from nothing, and an outcome for each."""
    source = subject.make()
    _require(source.ledger.num_requests == 0, "a new source has requests in its ledger")
    source.read_location(subject.location_ids[0])
    ledger = source.ledger
    _require(
        (ledger.num_requests > 0) == subject.asks_service,
        f"{ledger.num_requests} requests are in the ledger of a source that asks "
        f"{'a' if subject.asks_service else 'no'} service",
    )
    _require(
        ledger.outcomes.total() == ledger.num_requests,
        f"{ledger.num_requests} requests have {ledger.outcomes.total()} outcomes in the ledger",
    )


CHECKS: Final = (
    check_order,
    check_one_location,
    check_outcomes,
    check_travels,
    check_early_end,
    check_ledger,
)


def check_source(subject: Subject) -> None:
    """Run all checks.

    Raises:
        ContractBrokenError: the first that fails.
    """
    for check in CHECKS:
        check(subject)


def check_kind(settings: SettingsOfBuild, folder: Path = Path()) -> None:
    """Check what a registered source tells a build, and the source that it makes.

    Args:
        settings: of a build from the source, with three locations at least, the first three with a
            complete patch among them. Nothing is written to their cube.
        folder: where relative paths of the settings start.

    Raises:
        ContractBrokenError: the first thing that is wrong.
        InputError, TransientError: the source cannot be opened.
    """
    kind = kind_of(settings)
    num_announced = kind.num_locations(settings, folder)
    requests = kind.plan_requests(settings, num_announced)
    with kind.open(settings, folder) as plan:
        first = plan
        _check_plan(plan, num_announced)
        ids = list(plan.location_ids[:3])
        source = plan.source_of_batch(ids)
        _require(
            source.products == plan.description.products,
            f"the source of a batch has {source.products}, the description of the cube "
            f"{plan.description.products}",
        )
        subject = Subject(lambda: plan.source_of_batch(ids), ids, requests is not None)
        check_source(subject)
        if isinstance(settings, BuildSettings):
            _check_places(settings, folder, plan, subject.locations)
    with kind.open(settings, folder) as plan:
        _require(
            plan.description == first.description
            and list(plan.location_ids) == list(first.location_ids),
            "the same settings have another description or other locations when opened again: a "
            "build could not continue",
        )


def _check_plan(plan: BuildPlan, num_announced: int) -> None:
    description, num_planned = plan.description, len(plan.location_ids)
    _require(
        num_announced == num_planned == description.num_locations,
        f"num_locations counts {num_announced} locations, the plan has {num_planned}, its "
        f"description says {description.num_locations}",
    )
    _require(num_planned >= 3, f"the settings have {num_planned} locations: give three at least")
    _require(
        len(set(plan.location_ids)) == num_planned, "two locations of the plan have the same id"
    )
    said = {"source": dict(description.source), "settings": dict(description.settings)}
    try:
        kept = json.loads(json.dumps(said))
    except (TypeError, ValueError) as error:
        raise ContractBrokenError(
            f"source and settings of the description have to be JSON: {error}"
        ) from error
    _require(kept == said, "source and settings of the description change when stored as JSON")
    _require("name" in description.source, "source of the description has no name")


def _check_places(
    settings: BuildSettings, folder: Path, plan: BuildPlan, read: Sequence[LocationPatches]
) -> None:
    """Compare the places that were asked for with the patches that came.

    Args:
        settings: with the places.
        folder: where relative paths of the settings start.
        plan: of the build.
        read: its first locations.
    """
    wanted = find_locations(settings.locations, settings.locations_file, folder)
    _require(
        list(plan.location_ids) == list(wanted.location_id),
        "the plan has other locations than the settings, or another order",
    )
    _require(
        plan.description.source.get("locations_sha256") == wanted.digest,
        "locations_sha256 in the source of the description is missing or of other places: add "
        "describe_places(locations), or a build would continue a cube whose places were others",
    )
    for index, location in enumerate(read):
        where = f"location {location.location_id}"
        split = Split(int(wanted.split[index]))
        _require(
            location.split is split,
            f"{where} is in split {location.split.name.lower()}, not in {split.name.lower()}",
        )
        if location.epsg == 0:
            continue
        to_grid = from_lon_lat(location.epsg)
        half_m = PATCH_SIZE_M / 2
        centre_x, centre_y = location.x_origin + half_m, location.y_origin - half_m
        x, y = to_grid.transform(wanted.longitude[index], wanted.latitude[index])
        _require(
            abs(x - centre_x) <= half_m and abs(y - centre_y) <= half_m,
            f"the patch of {where} does not cover the place that was asked for",
        )
        x, y = to_grid.transform(location.longitude, location.latitude)
        _require(
            max(abs(x - centre_x), abs(y - centre_y)) <= _CENTRE_WITHIN_M,
            f"longitude and latitude of {where} are not the centre of its patch",
        )


def stored_arrays(source: PatchSource, location: LocationPatches) -> Mapping[str, npt.NDArray[Any]]:
    """Return everything a cube would keep of a location: array name -> (1, ...)."""
    description = CubeDescription(
        num_locations=1,
        products=source.products,
        locations_per_batch=1,
        source={"name": "test"},
        season_meaning="test",
    )
    return assemble_batch(describe(description), [location], 1).arrays


def _read(subject: Subject, ids: Sequence[str]) -> list[LocationPatches]:
    with closing(subject.make().read_locations(ids)) as reading:
        return list(reading)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ContractBrokenError(sentence)


def _require_same(subject: Subject, one: LocationPatches, other: LocationPatches, how: str) -> None:
    source = subject.make()
    for name in _differences(stored_arrays(source, one), stored_arrays(source, other)):
        raise ContractBrokenError(
            f"location {one.location_id} has another {name} when it is {how}: reading has to "
            "depend on the location alone"
        )
    _require(one.notes == other.notes, f"location {one.location_id} has other notes when {how}")


def _differences(
    ours: Mapping[str, npt.NDArray[Any]], theirs: Mapping[str, npt.NDArray[Any]]
) -> Iterator[str]:
    for name, values in ours.items():
        try:
            np.testing.assert_array_equal(values, theirs[name])
        except AssertionError:
            yield name
