"""A source that this file alone knows: registered, it fills a cube by the recipe of all others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.command_line import run
from groundwork.errors import InputError
from groundwork.settings_text import SettingsModel
from pipeline.grids import from_lon_lat
from pipeline.patches import Acquisition, LocationPatches, Place, ProductPatch, SeasonPatches
from pipeline.places.locations import find_locations
from pipeline.sources import registry
from pipeline.sources.one_by_one import ReadsOneByOne
from pipeline.sources.registry import BuildPlan, parse_build_settings, register, source_kind
from pipeline.sources.settings import BuildSettings
from pipeline.testing import Subject, check_source
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
        pixels = {
            f"s2_l2a_{m}m": np.full((bands, 2640 // m, 2640 // m), self.reflectance, np.uint16)
            for m, bands in ((10, 4), (20, 6), (60, 2))
        }
        patch = ProductPatch(
            PatchStatus.COMPLETE, acquisition=Acquisition("fog", 1_600_000_000_000), pixels=pixels
        )
        return LocationPatches(
            location_id,
            place.longitude,
            place.latitude,
            epsg=ZONE,
            x_origin=60.0 * round(x / 60),
            y_origin=60.0 * round(y / 60),
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
        places = {
            name: Place(float(lon), float(lat), Split(int(split)))
            for name, lon, lat, split in zip(
                found.location_id, found.longitude, found.latitude, found.split, strict=True
            )
        }
        description = CubeDescription(
            num_locations=len(found),
            products=settings.products,
            source={"name": "fog", "locations_sha256": found.digest},
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


@pytest.fixture
def fog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register(FogKind())


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


@pytest.mark.usefixtures("fog")
def test_a_registered_source_fills_a_cube_that_is_sealed_audited_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


@pytest.mark.usefixtures("fog")
def test_the_new_source_keeps_the_contract() -> None:
    places = {name: Place(9.0 + index / 9, 48.0, Split.TRAIN) for index, name in enumerate("abc")}
    check_source(Subject(lambda: FogSource(places, 4321), list(places)))


@pytest.mark.usefixtures("fog")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fog": {"reflectance": "thick"}}, "fog.reflectance 'thick'"),
        ({"fog": {"colour": "grey"}}, "fog.colour is not a setting here"),
        ({"earth_engine": {"project": "p"}}, "names 2 sources, earth_engine and fog: keep one"),
    ],
)
def test_mistakes_in_its_section_are_one_sentence(
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


def test_a_package_registers_its_source_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("fog", f"{__name__}:KIND", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(
        registry, "entry_points", lambda **wanted: EntryPoints([entry]).select(**wanted)
    )
    assert registry.source_names() == ["earth_engine", "ssl4eo_s12", "fog"]
    assert source_kind("fog") is KIND
    with pytest.raises(ValueError, match="registered already"):
        register(FogKind())


KIND = FogKind()
