"""What every source of patches has to keep, files or service alike; and that breaking it shows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.patches import LocationPatches, Place, ProductPatch, SeasonPatches
from pipeline.places.locations import make_locations
from pipeline.sources.earth_engine.client import close_sessions
from pipeline.sources.earth_engine.settings import RebuildSettings
from pipeline.sources.earth_engine.source import EarthEngineSource
from pipeline.sources.ssl4eo_s12.source import SSL4EOS12Source
from pipeline.testing import CHECKS, ContractBrokenError, Subject, check_source
from storage_schema.products import PRODUCT_NAMES
from storage_schema.status import PatchStatus, Split, StatusReason
from tests.pipeline.rebuilding import configuration
from tests.ssl4eo_s12_layout import write_layout
from tests.synthetic import SyntheticSource, location_names


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

    def make() -> EarthEngineSource:
        return EarthEngineSource(
            places=places,
            products=PRODUCT_NAMES,
            seasons=settings.seasons,
            acquisitions=settings.acquisitions,
            grid_epsg=None,
            service=settings.earth_engine,
        )

    return Subject(make, list(places), asks_service=True)


@pytest.fixture(
    scope="module",
    params=["ssl4eo_s12", "synthetic", pytest.param("earth_engine", marks=pytest.mark.server)],
)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("source")
    if request.param == "ssl4eo_s12":
        yield files(folder)
    elif request.param == "synthetic":
        yield Subject(SyntheticSource, location_names(3))
    else:
        yield service(request.getfixturevalue("simulated_emulator"), folder)
        close_sessions()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_source_keeps_the_contract(check: Callable[[Subject], None], subject: Subject) -> None:
    check(subject)


@dataclass(frozen=True)
class Broken(SyntheticSource):
    """A source with one fault, chosen by name."""

    fault: str = ""
    spent: Ledger = field(default_factory=Ledger, compare=False)

    @property
    def ledger(self) -> Ledger:
        return self.spent

    def read_location(self, location_id: str) -> LocationPatches:
        location = super().read_location(location_id)
        season, *others = location.seasons
        changed = dict(season.products)
        if self.fault == "no reason":
            changed["s1_grd"] = ProductPatch(PatchStatus.FAILED)
        elif self.fault == "wrong pixels":
            name = next(n for n in changed if changed[n].status is PatchStatus.COMPLETE)
            changed[name] = replace(changed[name], pixels={})
        elif self.fault == "product missing":
            del changed["s1_grd"]
        elif self.fault == "nothing complete":
            reason = StatusReason.NO_IMAGE_IN_WINDOW
            nothing = ProductPatch(PatchStatus.NO_ACQUISITION, reason)
            seasons = [SeasonPatches(dict.fromkeys(PRODUCT_NAMES, nothing))]
            return replace(location, seasons=tuple(seasons))
        elif self.fault == "hidden request":
            self.ledger.requests["pixels"] += 1
        elif self.fault == "depends on the order":
            self.ledger.num_locations += 1
            return replace(location, longitude=float(self.ledger.num_locations))
        return replace(location, seasons=(SeasonPatches(changed, season.label), *others))

    def read_locations(self, location_ids: Sequence[str]) -> Generator[LocationPatches, None, None]:
        ids = sorted(location_ids) if self.fault == "order of its own" else location_ids
        yield from super().read_locations(ids)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("order of its own", "in that order"),
        ("depends on the order", "has another longitude when it is"),
        ("no reason", "without a reason"),
        ("wrong pixels", "is said to be complete, but"),
        ("product missing", "in a season, not"),
        ("nothing complete", "no patch of these locations is complete"),
        ("hidden request", "asks no service"),
    ],
)
def test_a_source_that_breaks_the_contract_is_told_so(fault: str, sentence: str) -> None:
    def make() -> Broken:
        return Broken(fault=fault)

    with pytest.raises(ContractBrokenError, match=sentence):
        check_source(Subject(make, location_names(3)))


def test_the_faultless_form_of_the_broken_source_passes() -> None:
    check_source(Subject(Broken, location_names(3)))
