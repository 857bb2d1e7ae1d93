"""A source that this file alone knows: registered, it fills a cube by the recipe of all others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from flows.command_line import run
from groundwork.errors import InputError
from groundwork.settings_text import SettingsModel
from pipeline.grids import from_lon_lat, patch_grid
from pipeline.patches import Acquisition, LocationPatches, Place, ProductPatch, SeasonPatches
from pipeline.places.locations import find_locations
from pipeline.sources import registry
from pipeline.sources.earth_engine.settings import RebuildSettings
from pipeline.sources.one_by_one import ReadsOneByOne
from pipeline.sources.places import describe_places, places_of
from pipeline.sources.registry import (
    AnyBuildSettings,
    BuildPlan,
    parse_build_settings,
    read_build_settings,
    register,
    source_kind,
)
from pipeline.sources.settings import BuildSettings
from pipeline.testing import ContractBrokenError, check_kind
from storage_schema.layout import CubeDescription
from storage_schema.products import ProductName
from storage_schema.status import PatchStatus, Split

ZONE = 32632


class FogSettings(SettingsModel):
    """The section of the source.

    Args:
        reflectance: of every pixel, DN.
    """

    reflectance: int = 5000


class FogBuild(BuildSettings):
    """A build from fog.

    Args:
        fog: the source.
    """

    products: tuple[ProductName, ...] = ("s2_l2a",)
    fog: FogSettings


@dataclass(frozen=True)
class FogSource(ReadsOneByOne):
    """Fog everywhere: one value in every band."""

    places: dict[str, Place]
    reflectance: int
    products: tuple[ProductName, ...] = ("s2_l2a",)

    def read_location(self, location_id: str) -> LocationPatches:
        place = self.places[location_id]
        x, y = from_lon_lat(ZONE).transform(place.longitude, place.latitude)
        grid = patch_grid(ZONE, 60.0 * round((x - 1320) / 60), 60.0 * round((y + 1320) / 60))
        pixels = {
            f"s2_l2a_{m}m": np.full((bands, 2640 // m, 2640 // m), self.reflectance, np.uint16)
            for m, bands in ((10, 4), (20, 6), (60, 2))
        }
        patch = ProductPatch(
            PatchStatus.COMPLETE, acquisition=Acquisition("fog", 1_600_000_000_000), pixels=pixels
        )
        return LocationPatches(
            location_id,
            *grid.centre_lon_lat,
            epsg=ZONE,
            x_origin=grid.x_origin,
            y_origin=grid.y_origin,
            georeference_error_m=0.0,
            seasons=(SeasonPatches({"s2_l2a": patch}),),
            split=place.split,
        )


class FogKind:
    """Fog as a registered source."""

    name = "fog"
    settings_model = FogBuild

    @contextlib.contextmanager
    def open(self, settings: FogBuild, folder: Path) -> Iterator[BuildPlan]:
        found = find_locations(settings.locations, settings.locations_file, folder)
        places = places_of(found)
        description = CubeDescription(
            num_locations=len(found),
            products=settings.products,
            source={"name": "fog", **describe_places(found)},
            settings=settings.fog.model_dump(),
            season_meaning="one grey day",
            locations_per_batch=settings.locations_per_batch,
        )

        def source_of_batch(ids: Sequence[str]) -> FogSource:
            return FogSource({name: places[name] for name in ids}, settings.fog.reflectance)

        yield BuildPlan(description, list(found.location_id), source_of_batch, counts={"fog": 1})

    def num_locations(self, settings: FogBuild, folder: Path) -> int:
        return len(find_locations(settings.locations, settings.locations_file, folder))

    def plan_requests(self, settings: FogBuild, num_locations: int) -> None:
        del settings, num_locations


KIND = FogKind()


def install(folder: Path, package: str, entry: str) -> None:
    """Write what pip leaves of a package with one entry point."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[softcon_cube.sources]\n{entry}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; what is registered from them is forgotten afterwards."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def fog(packages: Path) -> None:
    register(KIND)


def configuration(folder: Path, **changes: Any) -> Path:
    values = {
        "cube": str(folder / "fog.zarr"),
        "locations": {
            "kind": "utm_tiling",
            "region": {"bbox": [10.0, 48.0, 10.12, 48.08]},
            "split": {"train": 1, "validation": 0, "test": 0},
        },
        "locations_per_batch": 4,
        "fog": {"reflectance": 4321},
    } | changes
    path = folder / "fog.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("known_by", ["a call", "a package"])
def test_a_registered_source_fills_a_cube_that_is_sealed_audited_and_drawn(
    known_by: str, packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if known_by == "a call":
        register(KIND)
    else:
        install(packages, "fog", f"fog = {__name__}:KIND")
    config, cube = configuration(tmp_path), str(tmp_path / "fog.zarr")
    assert run(["rebuild", str(config), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["counts"]["fog"] == 1
    assert summary["num_locations"] > 4
    assert run(["seal", cube]) == 0
    assert run(["audit", cube, "--all"]) == 0
    report = tmp_path / "fog.html"
    assert run(["report", cube, "--out", str(report)]) == 0
    assert "one grey day" in report.read_text()

    import xarray as xr

    opened = xr.open_zarr(cube, chunks=None, mask_and_scale=False)
    assert set(np.unique(opened["s2_l2a_10m"].isel(season=0))) == {4321}
    assert int(opened["patch_status"].isel(season=0).min()) == PatchStatus.COMPLETE


def test_the_new_source_keeps_the_contract(fog: None, tmp_path: Path) -> None:
    check_kind(read_build_settings(configuration(tmp_path)), tmp_path)
    assert not (tmp_path / "fog.zarr").exists()


class Faulty(FogKind):
    """Fog with one fault, chosen by name."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.num_opened = 0

    @contextlib.contextmanager
    def open(self, settings: FogBuild, folder: Path) -> Iterator[BuildPlan]:
        self.num_opened += 1
        with super().open(settings, folder) as plan:
            yield self.spoil(plan)

    def num_locations(self, settings: FogBuild, folder: Path) -> int:
        return super().num_locations(settings, folder) + (self.fault == "counts more")

    def spoil(self, plan: BuildPlan) -> BuildPlan:
        said = plan.description.source
        changed: dict[str, Any] = {}
        if self.fault == "forgets places":
            changed = {"source": {"name": "fog"}}
        elif self.fault == "keeps a path":
            changed = {"source": {**said, "folder": Path("fog")}}
        elif self.fault == "changes its mind":
            changed = {"source": {**said, "opened": self.num_opened}}
        elif self.fault == "other products":
            changed = {"products": ("s2_l1c",)}
        elif self.fault == "other order":
            return replace(plan, location_ids=plan.location_ids[::-1])
        description = plan.description.model_copy(update=changed)
        return replace(
            plan,
            description=description,
            source_of_batch=lambda ids: self.spoil_source(plan.source_of_batch(ids)),
        )

    def spoil_source(self, source: Any) -> FogSource:
        places = {name: self.spoil_place(place) for name, place in source.places.items()}
        reflectance = 0 if self.fault == "empty" else source.reflectance
        return FogSource(places, reflectance)

    def spoil_place(self, place: Place) -> Place:
        if self.fault == "swaps axes":
            return replace(place, longitude=place.latitude, latitude=place.longitude)
        return replace(place, split=Split.TEST) if self.fault == "loses the split" else place


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("counts more", "num_locations counts"),
        ("forgets places", "locations_sha256 in the source"),
        ("keeps a path", "have to be JSON"),
        ("changes its mind", "another description or other locations when opened again"),
        ("other products", "the source of a batch has"),
        ("other order", "other locations than the settings, or another order"),
        ("empty", "is said to be complete, but no valid pixel"),
        ("swaps axes", "does not cover the place"),
        ("loses the split", "is in split test, not in train"),
    ],
)
def test_a_new_source_that_breaks_the_contract_is_told_so(
    fault: str, sentence: str, packages: Path, tmp_path: Path
) -> None:
    register(Faulty(fault))
    with pytest.raises(ContractBrokenError, match=sentence):
        check_kind(read_build_settings(configuration(tmp_path)), tmp_path)


@pytest.mark.usefixtures("fog")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fog": {"reflectance": "thick"}}, "fog.reflectance 'thick'"),
        ({"fog": {"colour": "grey"}}, "fog.colour is not a setting here"),
        ({"products": ["s1_grd"]}, "the source fog delivers s2_l2a, not s1_grd"),
        ({"earth_engine": {"project": "p"}}, "names 2 sources, earth_engine and fog: keep one"),
    ],
)
def test_mistakes_in_its_settings_are_one_sentence(
    changes: dict[str, Any],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["rebuild", str(configuration(tmp_path, **changes))]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "fog.zarr").exists()


@pytest.mark.usefixtures("fog")
def test_a_source_that_asks_no_service_has_no_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["forecast", str(configuration(tmp_path))]) == 2
    assert "there is nothing to forecast" in capsys.readouterr().err


def test_without_registration_its_section_is_unknown(tmp_path: Path) -> None:
    values = yaml.safe_load(configuration(tmp_path).read_text())
    with pytest.raises(InputError, match=r"fog is not a setting here|earth_engine is missing"):
        parse_build_settings(values, "fog.yaml")
    with pytest.raises(InputError, match="the sources are earth_engine, ssl4eo_s12"):
        source_kind("fog")


def test_a_source_that_has_no_section_is_not_chosen_by_its_name(tmp_path: Path) -> None:
    values = {"cube": "c", "ssl4eo_s12": {"root": "data"}}
    with pytest.raises(InputError, match=r"earth_engine is missing.* ssl4eo_s12 is not a setting"):
        parse_build_settings(values, "import.yaml")


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["fog = nowhere.at_all:KIND"], "of the package one cannot be loaded .*nowhere"),
        ([f"fog = {__name__}:ZONE"], "of the package one cannot be loaded .*AttributeError"),
        ([f"mist = {__name__}:KIND"], "the source mist, which calls itself fog"),
        ([f"fog = {__name__}:KIND"] * 2, "offered by .* and .*: remove one"),
    ],
)
def test_a_package_that_is_broken_is_one_sentence(
    entries: list[str], sentence: str, packages: Path
) -> None:
    for package, entry in zip(("one", "two"), entries, strict=False):
        install(packages, package, entry)
    name = entries[0].split()[0]
    with pytest.raises(InputError, match=sentence):
        source_kind(name)


def test_a_broken_package_does_not_stop_other_sources(
    fog: None, packages: Path, tmp_path: Path
) -> None:
    install(packages, "one", "dust = nowhere.at_all:KIND")
    assert registry.kind_of(read_build_settings(configuration(tmp_path))).name == "fog"
    assert registry.kind_of(earth_engine_settings()).name == "earth_engine"


def earth_engine_settings() -> RebuildSettings:
    return RebuildSettings.model_validate(
        {
            "cube": "c.zarr",
            "locations_file": "l.parquet",
            "seasons": {"reference_dates": ["2021-06-21"]},
            "earth_engine": {"project": "p"},
        }
    )


def test_two_sources_of_one_name_are_refused(fog: None) -> None:
    for kind in (FogKind(), source_kind("earth_engine")):
        with pytest.raises(ValueError, match="registered already"):
            register(kind)
    register(KIND)  # The same once more is no other source.


def test_a_form_takes_the_settings_of_every_source(fog: None, tmp_path: Path) -> None:
    form = TypeAdapter(AnyBuildSettings)
    values = yaml.safe_load(configuration(tmp_path).read_text())
    ours = earth_engine_settings()
    assert form.validate_python(values) == read_build_settings(tmp_path / "fog.yaml")
    assert form.validate_python(ours.model_dump(mode="json")) == ours
    assert form.validate_python(ours) is ours
    with pytest.raises(ValidationError, match="settings of one source: earth_engine, fog"):
        form.validate_python({**values, "earth_engine": {"project": "p"}})
    with pytest.raises(ValidationError, match="earth_engine"):
        form.validate_python({"cube": "c.zarr"})
    assert "#/$defs/FogBuild" in json.dumps(form.json_schema())


def test_a_form_is_that_of_the_only_source_with_a_section() -> None:
    assert TypeAdapter(AnyBuildSettings).json_schema() == RebuildSettings.model_json_schema()
