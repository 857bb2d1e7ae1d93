"""A product that this file alone knows: its cube is filled, audited, drawn and trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from flows.command_line import run
from groundwork.errors import InputError
from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.sources.earth_engine.collections import collection_of
from pipeline.sources.registry import parse_build_settings
from storage_schema.layout import CubeDescription
from storage_schema.products import PRODUCTS, BandGroup, Pairing, Product, Role
from storage_schema.status import PatchStatus, Split
from tests.pipeline.rebuilding import configuration
from tests.synthetic import SyntheticSource, describe_cube, location_names
from training.config import DataSettings, ViewSettings, parse_run_settings
from training.reading.patch_index import open_index, read_statistics
from training.reading.patch_reader import PatchReader, PatchRefs
from training.reading.views import ViewMaker

ALOS = Product(
    name="alos2",
    title="ALOS-2, backscatter",
    short_title="ALOS-2",
    level="GRD",
    role=Role.RADAR,
    pairing=Pairing.NEAREST_IN_TIME,
    earth_engine_id="NOBODY/ALOS2",
    groups=(BandGroup(array="alos2", bands=("HH", "HV"), resolution_m=20),),
    dtype="int16",
    unit="dB",
    scale_factor=0.01,
    fill_value=-32768,
    fill_meaning="outside the swath",
    valid_range=(-10000, 5000),
    radiometric_convention="gamma nought, 10 log10",
    licence="nobody's",
    attribution="made up in [years]",
)
PRODUCTS_OF_CUBE = ("s2_l1c", "alos2", "dynamic_world")


@pytest.fixture
def alos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRODUCTS, "alos2", ALOS)


@pytest.fixture
def cube(alos: None, tmp_path: Path) -> str:
    del alos
    address, names = str(tmp_path / "alos.zarr"), location_names(4)
    source = SyntheticSource(products=PRODUCTS_OF_CUBE)
    build_cube(
        ObjectStorage(address), describe_cube(4, PRODUCTS_OF_CUBE), names, lambda _ids: source
    )
    assert run(["seal", address]) == 0
    return address


def test_its_cube_is_filled_sealed_audited_and_drawn(cube: str, tmp_path: Path) -> None:
    assert run(["audit", cube, "--all"]) == 0
    assert run(["report", cube, "--out", str(tmp_path / "alos.html")]) == 0
    page = (tmp_path / "alos.html").read_text()
    assert "ALOS-2" in page
    assert "HH HV HH−HV" in page  # noqa: RUF001 - a minus sign
    assert run(["card", cube, "--out", str(tmp_path / "alos.md")]) == 0
    assert "made up in 2020" in (tmp_path / "alos.md").read_text()

    opened = xr.open_zarr(cube, chunks=None)
    assert opened["alos2"].dims == ("location", "season", "band_alos2", "y_20m", "x_20m")
    assert opened["alos2"].shape[-2:] == (132, 132)
    assert list(opened["band_alos2"].values) == ["HH", "HV"]
    status = opened["patch_status"].sel(product="alos2").isel(season=slice(2))
    assert (status == PatchStatus.COMPLETE).all()
    # An independent sum over the pixels, against the statistics that sealing stored.
    decibel = opened["alos2"].sel(band_alos2="HV").values
    stored = opened["alos2"].attrs["statistics"]["mean"][1]
    assert np.nanmean(decibel.astype(np.float64)) == pytest.approx(stored, abs=1e-6)


def test_a_backbone_can_be_trained_on_it(cube: str) -> None:
    data = DataSettings(cubes=(cube,), modality=("alos2",), statistics="cube")
    index, statistics = open_index(data, Split.TRAIN), read_statistics(data)
    assert statistics.bands == ("alos2 HH", "alos2 HV")
    refs = PatchRefs(np.asarray([0, 1]), np.asarray([0, 1]))
    batch = PatchReader(index, data.modality).start(refs)()
    views = ViewMaker(data.modality, statistics, ViewSettings(image_size=32))
    image = views.plain(batch.pixels)
    assert image.shape == (2, 2, 32, 32)
    assert bool(torch.isfinite(image).all())


def test_published_statistics_of_it_are_refused_in_one_sentence(cube: str) -> None:
    data = DataSettings(cubes=(cube,), modality=("alos2",))
    with pytest.raises(InputError, match=r"no statistics are published for alos2.*=cube"):
        read_statistics(data)


@pytest.mark.usefixtures("alos")
def test_a_source_that_has_no_such_product_says_so(tmp_path: Path) -> None:
    values = configuration("http://127.0.0.1:9", tmp_path / "c.zarr", 1, products=["alos2"])
    with pytest.raises(InputError, match="Earth Engine has no collection for alos2"):
        parse_build_settings(values, "c.yaml")
    with pytest.raises(InputError, match="no collection for product alos2"):
        collection_of("alos2")


@pytest.mark.usefixtures("alos")
def test_a_second_label_product_in_one_cube_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cover = PRODUCTS["dynamic_world"].model_copy(update={"name": "world_cover"})
    monkeypatch.setitem(PRODUCTS, "world_cover", cover)
    with pytest.raises(ValidationError, match="dynamic_world and world_cover both hold labels"):
        describe_cube(1, ("s2_l1c", "dynamic_world", "world_cover"))


def test_without_registration_it_is_unknown_everywhere() -> None:
    with pytest.raises(ValidationError, match="the products are s2_l1c, s2_l2a, s1_grd, dynamic"):
        CubeDescription(num_locations=1, products=("alos2",), source={}, season_meaning="")
    with pytest.raises(InputError, match="the products with imagery are s2_l1c, s2_l2a, s1_grd"):
        parse_run_settings({"out": "x", "data": {"cubes": ["c"], "modality": ["alos2"]}}, "x.yaml")
    with pytest.raises(InputError, match="the products with imagery are"):
        parse_run_settings(
            {"out": "x", "data": {"cubes": ["c"], "modality": ["dynamic_world"]}}, "x.yaml"
        )
