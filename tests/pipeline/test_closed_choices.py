"""A choice of a build's settings that has another value raises, whoever left validation out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.places.locations import make_locations
from pipeline.places.settings import FromFile
from pipeline.sources.date_windows import Window
from pipeline.sources.earth_engine.acquisitions import Candidate, Listing, choose_acquisitions
from pipeline.sources.earth_engine.client import _find_credentials
from pipeline.sources.earth_engine.settings import (
    AcquisitionSettings,
    EarthEngineSettings,
    PassChoice,
    Sentinel1Settings,
)
from storage_schema.layout import describe
from storage_schema.status import OrbitPass
from tests.synthetic import describe_cube

OTHER = cast("Any", "another")


def with_other(settings: Any, name: str) -> Any:
    """Return settings with a value that validation would have refused."""
    return settings.model_copy(update={name: OTHER})


def choose(settings: AcquisitionSettings) -> object:
    window = Window.around(date(2021, 6, 21), 15)
    images = [Candidate(name, window.centre_ms, cloud_percentage=1.0) for name in ("a", "b")]
    return choose_acquisitions(Listing({"s2_l1c": images}), [window], ["s2_l1c"], settings)


def locate(folder: Path) -> object:
    (folder / "places.csv").write_text("location_id,longitude,latitude\na,1,2\nb,3,4\n")
    settings = FromFile(kind="file", path="places.csv", on_overlap="keep")
    return make_locations(with_other(settings, "on_overlap"), folder)


CALLS: dict[str, Callable[[Path], object]] = {
    "on_overlap": locate,
    "acquisitions.order": lambda _: choose(with_other(AcquisitionSettings(), "order")),
    "s1.orbit_pass": lambda _: with_other(Sentinel1Settings(), "orbit_pass").refuses_other_pass,
    "s1.reprojection": lambda _: with_other(Sentinel1Settings(), "reprojection").by_service,
    "earth_engine.credentials": lambda _: _find_credentials(
        with_other(EarthEngineSettings(project="p"), "credentials")
    ),
    "role of an array": lambda _: describe(describe_cube(1)).names(OTHER),
}


@pytest.mark.parametrize("choice", CALLS)
def test_an_unknown_value_is_named_with_the_choices(choice: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{choice} 'another' is unknown; the choices are \w+, "):
        CALLS[choice](tmp_path)


@pytest.mark.parametrize(
    ("choice", "wanted", "refuses"),
    [
        ("any", None, False),
        ("ascending", OrbitPass.ASCENDING, True),
        ("descending", OrbitPass.DESCENDING, True),
        ("prefer_ascending", OrbitPass.ASCENDING, False),
        ("prefer_descending", OrbitPass.DESCENDING, False),
    ],
)
def test_every_declared_pass_is_there(
    choice: PassChoice, wanted: OrbitPass | None, refuses: bool
) -> None:
    settings = Sentinel1Settings(orbit_pass=choice)
    assert (settings.wanted_pass, settings.refuses_other_pass) == (wanted, refuses)
