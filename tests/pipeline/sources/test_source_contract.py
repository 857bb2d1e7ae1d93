"""What every source of patches has to keep, files or service alike; and that breaking it shows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.patches import LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.earth_engine.settings import RebuildSettings
from pipeline.sources.ssl4eo_s12.settings import ImportSettings
from pipeline.testing import ContractBrokenError, Subject, check_kind, check_source
from storage_schema.products import PRODUCT_NAMES
from storage_schema.status import PatchStatus, StatusReason
from tests.pipeline.rebuilding import configuration
from tests.ssl4eo_s12_layout import write_layout
from tests.synthetic import SyntheticSource, location_names


@pytest.mark.parametrize("with_labels", [False, True])
def test_an_import_keeps_the_contract(with_labels: bool, tmp_path: Path) -> None:
    written = write_layout(tmp_path, 3, num_seasons=2)
    labels = str(written.labels) if with_labels else None
    check_kind(ImportSettings(root=str(written.root), cube="unused.zarr", labels=labels))


@pytest.mark.server
def test_a_rebuild_keeps_the_contract(simulated_emulator: str) -> None:
    values = configuration(simulated_emulator, "unused.zarr", 3)
    check_kind(RebuildSettings.model_validate(values))


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
