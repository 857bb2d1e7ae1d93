"""Products that this file alone knows: their cubes are filled, audited, drawn and trained on."""

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
from pipeline.patches import Acquisition
from pipeline.sources.earth_engine.collections import collection_of
from pipeline.sources.registry import parse_build_settings
from pipeline.sources.seasons import arrange_seasons
from pipeline.sources.ssl4eo_s12.source import SSL4EOS12Source
from storage_schema.layout import CubeDescription
from storage_schema.products import PRODUCTS, BandGroup, Pairing, Product, Role
from storage_schema.status import PatchStatus, Split
from tests.pipeline.rebuilding import configuration
from tests.ssl4eo_s12_layout import write_layout
from tests.synthetic import SyntheticSource, describe_cube, location_names
from training.config import DataSettings, ViewSettings, parse_run_settings
from training.reading.patch_index import BandStatistics, open_index, read_statistics
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
LANDSAT = Product(
    name="landsat8",
    title="Landsat 8, surface reflectance",
    short_title="Landsat 8",
    level="L2SP",
    role=Role.OPTICAL,
    pairing=Pairing.NEAREST_IN_TIME,
    earth_engine_id="NOBODY/LC08",
    groups=(BandGroup(array="landsat8", bands=("SR_B2", "SR_B3", "SR_B4"), resolution_m=60),),
    true_colour=("SR_B4", "SR_B3", "SR_B2"),
    dtype="uint16",
    unit="1",
    scale_factor=1e-4,
    fill_value=0,
    fill_meaning="outside the scene",
    valid_range=(0, 20000),
    radiometric_convention="surface reflectance",
    licence="public domain",
    attribution="made up in [years]",
)
"""Not like Sentinel-2: scaled, without data value by value, and no twin of anything."""
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


def test_products_of_one_role_stand_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for product in (ALOS, LANDSAT):
        monkeypatch.setitem(PRODUCTS, product.name, product)
    products = ("s1_grd", "alos2", "landsat8")
    address = str(tmp_path / "cube.zarr")
    source = SyntheticSource(products=products)
    description = describe_cube(3, products)
    build_cube(ObjectStorage(address), description, location_names(3), lambda _ids: source)
    assert run(["seal", address]) == 0
    assert run(["audit", address, "--all"]) == 0
    assert run(["report", address, "--out", str(tmp_path / "cube.html")]) == 0
    page = (tmp_path / "cube.html").read_text()
    for title in ("SAR, Sentinel-1 GRD", "SAR, ALOS-2", "L2SP true colour"):
        assert f'alt="{title} of location' in page

    # xarray masks and scales; the sums are those of the reflectances that are there.
    opened = xr.open_zarr(address, chunks=None)["landsat8"]
    reflectance = opened.values.astype(np.float64)
    assert np.nanmax(reflectance) < 0.31
    assert np.isnan(reflectance[0, 0, :, :, 0]).all() or np.nanmin(reflectance) > 0
    statistics, histogram = opened.attrs["statistics"], opened.attrs["histogram"]
    counted = np.isfinite(reflectance).sum(axis=(0, 1, 3, 4))
    assert statistics["num_valid_pixels"] == counted.tolist()
    assert statistics["mean"] == pytest.approx(np.nanmean(reflectance, axis=(0, 1, 3, 4)).tolist())
    # 28 bins between 0.02 and 0.30, and none of the pixels beyond.
    assert [sum(1 for number in band if number) for band in histogram["counts"]] == [28, 28, 28]
    assert [sum(band) for band in histogram["counts"]] == counted.tolist()


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


def test_radar_of_one_polarisation_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single = BandGroup(array="alos2", bands=("HH",), resolution_m=20)
    monkeypatch.setitem(PRODUCTS, "alos2", ALOS.model_copy(update={"groups": (single,)}))
    statistics = BandStatistics(("alos2 HH",), (-12.0,), (5.0,), "made up")
    with pytest.raises(InputError, match="alos2 has 1 bands: views are made of radar with 2"):
        ViewMaker(("alos2",), statistics, ViewSettings(image_size=32))
    with pytest.raises(InputError, match="dynamic_world holds labels, which no encoder sees"):
        ViewMaker(("dynamic_world",), statistics, ViewSettings(image_size=32))


@pytest.mark.usefixtures("alos")
def test_its_acquisitions_make_season_slots() -> None:
    images = [Acquisition(f"{day}", time_ms=day) for day in (3, 1)]
    slots = arrange_seasons({"alos2": images}).slots
    assert [slot["alos2"].id for slot in slots] == ["1", "3"]


@pytest.mark.usefixtures("alos")
def test_the_published_folders_have_no_place_for_it(tmp_path: Path) -> None:
    write_layout(tmp_path, 1, folders=("s2c",), num_seasons=1)
    with pytest.raises(InputError, match="SSL4EO-S12 has no folder for product alos2: ask for s2_"):
        SSL4EOS12Source.open(tmp_path, ["s2_l1c", "alos2"])


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
