"""The contract of a source of patches, as checks that its own tests can run.

    from pipeline.testing import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_source_keeps_the_contract(check):
        check(Subject(make=lambda: MySource(...), location_ids=["a", "b", "c"]))

Each check raises `ContractBrokenError` with one sentence. None of them needs pytest.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.build.batches import assemble_batch
from pipeline.patches import LocationPatches, PatchSource, check_patch
from storage_schema.layout import NUM_SEASONS, CubeDescription, describe
from storage_schema.status import PatchStatus, StatusReason


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


def check_order(subject: Subject) -> None:
    """Locations come in the order asked for, and read the same in any order."""
    ids = list(subject.location_ids)
    forwards = _read(subject, ids)
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
    second = subject.location_ids[1]
    among = _read(subject, list(subject.location_ids))[1]
    _require_same(subject, subject.make().read_location(second), among, "read alone")


def check_outcomes(subject: Subject) -> None:
    """Every product of every season has a status, a reason where it is not complete, and pixels."""
    products = set(subject.make().products)
    num_complete = 0
    for location in _read(subject, list(subject.location_ids)):
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
    here = subject.make().read_location(first)
    _require_same(subject, travelled.read_location(first), here, "read after pickling")


def check_early_end(subject: Subject) -> None:
    """Reading may be given up, and begun again with the same source."""
    source = subject.make()
    reading = source.read_locations(subject.location_ids)
    next(reading)
    reading.close()
    source.cancel()  # Nothing is under way any more; it has to be harmless.
    third = subject.location_ids[2]
    expected = subject.make().read_location(third)
    _require_same(subject, source.read_location(third), expected, "read after giving up")


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
