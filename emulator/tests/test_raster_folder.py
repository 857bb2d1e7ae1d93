"""A folder of rasters as a world: the pixels of the files, and one sentence for every mistake."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform

from earth_engine_emulator import raster_files
from earth_engine_emulator.errors import CatalogueError
from earth_engine_emulator.raster_folder import RasterFolder
from earth_engine_emulator.testing import ramp, write_catalogue, write_raster
from earth_engine_emulator.worlds import Bounds, ImageRecord, World

ASSET = "TEST/IMAGES/20210619T154811_T18SVG"


def open_image(folder: Path, **changes: Any) -> tuple[RasterFolder, ImageRecord]:
    write_catalogue(folder, **changes)
    world = RasterFolder(folder)
    image = world.find_image(ASSET)
    assert image is not None
    return world, image


def read_all(world: World, image: ImageRecord, band: str) -> tuple[Any, Any]:
    (entry,) = (b for b in image.bands if b.name == band)
    found = world.read(image, [band], row=0, column=0, height=entry.height, width=entry.width)
    return found[band]


def test_window_has_the_pixels_of_the_file(tmp_path: Path) -> None:
    pixels = ramp(30, 40)
    write_raster(tmp_path / "b2.tif", pixels)
    world, image = open_image(tmp_path)
    found = world.read(image, ["B2"], row=3, column=5, height=20, width=11)
    values, valid = found["B2"]
    np.testing.assert_array_equal(values, pixels[3:23, 5:16])
    assert values.dtype == np.uint16
    assert valid.all()


def test_jp2_is_read_without_loss(tmp_path: Path) -> None:
    pixels = ramp(64, 48)
    options = {"QUALITY": "100", "REVERSIBLE": "YES"}
    write_raster(tmp_path / "b2.jp2", pixels, driver="JP2OpenJPEG", **options)
    world, image = open_image(tmp_path, bands={"B2": {"file": "b2.jp2"}})
    np.testing.assert_array_equal(read_all(world, image, "B2")[0], pixels)


def test_bands_keep_their_order_lattices_and_types(tmp_path: Path) -> None:
    write_raster(tmp_path / "b1.tif", ramp(4, 4), scale=60, west=399_980)
    write_raster(tmp_path / "b2.tif", np.stack([ramp(20, 20, "float32"), ramp(20, 20, "float32")]))
    bands = {"B2": {"file": "b2.tif", "band": 2}, "B1": {"file": "b1.tif"}}
    _, image = open_image(tmp_path, bands=bands)
    first, second = image.bands
    assert (first.name, first.dtype, first.precision, first.value_range) == (
        "B2",
        "float32",
        "float",
        None,
    )
    assert (second.name, second.dtype, second.precision, second.value_range) == (
        "B1",
        "uint16",
        "int",
        (0, 65535),
    )
    assert first.lattice.crs_transform == [10, 0, 400_000, 0, -10, 4_180_000]
    assert second.lattice.crs_transform == [60, 0, 399_980, 0, -60, 4_180_000]
    assert (second.width, second.height, second.lattice.crs) == (4, 4, "EPSG:32618")


def test_bands_of_one_file_come_in_the_order_asked_for(tmp_path: Path) -> None:
    both = np.stack([ramp(5, 6), 100 + ramp(5, 6)])
    write_raster(tmp_path / "both.tif", both)
    write_raster(tmp_path / "b2.tif", 1000 + ramp(5, 6))
    bands = {
        "a": {"file": "both.tif", "band": 1},
        "b": {"file": "both.tif", "band": 2},
        "c": {"file": "b2.tif"},
    }
    world, image = open_image(tmp_path, bands=bands)
    found = world.read(image, ["b", "c", "a"], row=1, column=2, height=2, width=3)
    assert list(found) == ["b", "c", "a"]
    np.testing.assert_array_equal(found["a"][0], both[0, 1:3, 2:5])
    np.testing.assert_array_equal(found["b"][0], both[1, 1:3, 2:5])
    np.testing.assert_array_equal(found["c"][0], 1000 + both[0, 1:3, 2:5])


def test_value_of_no_data_is_masked(tmp_path: Path) -> None:
    pixels = ramp(3, 3, "uint8")
    write_raster(tmp_path / "b2.tif", pixels, nodata=5)
    bands = {
        "own": {"file": "b2.tif"},
        "other": {"file": "b2.tif", "nodata": 7},
        "none": {"file": "b2.tif", "nodata": None},
    }
    world, image = open_image(tmp_path, bands=bands)
    np.testing.assert_array_equal(read_all(world, image, "own")[1], pixels != 5)
    np.testing.assert_array_equal(read_all(world, image, "other")[1], pixels != 7)
    assert read_all(world, image, "none")[1].all()


def test_nan_and_a_file_s_own_mask_are_masked(tmp_path: Path) -> None:
    pixels = ramp(3, 3, "float32")
    pixels[0, 1] = np.nan
    write_raster(tmp_path / "b2.tif", pixels)
    write_raster(tmp_path / "mask.tif", ramp(3, 3))
    mask = np.ones((3, 3), bool)
    mask[2, 0] = False
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "mask.tif", "r+") as dataset,
    ):
        dataset.write_mask(mask)
    bands = {"nan": {"file": "b2.tif"}, "mask": {"file": "mask.tif"}}
    world, image = open_image(tmp_path, bands=bands)
    np.testing.assert_array_equal(read_all(world, image, "nan")[1], ~np.isnan(pixels))
    np.testing.assert_array_equal(read_all(world, image, "mask")[1], mask)


def test_divisor_makes_fractions(tmp_path: Path) -> None:
    pixels = ramp(3, 3, "uint8")
    write_raster(tmp_path / "b2.tif", pixels)
    entry = {"file": "b2.tif", "dtype": "float64", "divisor": 255}
    world, image = open_image(tmp_path, bands={"water": entry})
    assert image.bands[0].precision == "double"
    values, _ = read_all(world, image, "water")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, pixels / 255.0)


def test_record_has_what_the_service_says_of_an_image(tmp_path: Path) -> None:
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    _, image = open_image(
        tmp_path, time_end="2021-06-19T16:02:48.5+00:00", properties={"CLOUDY_PIXEL_PERCENTAGE": 3}
    )
    start = datetime(2021, 6, 19, 16, 2, 47, tzinfo=UTC)
    assert image.time_start_ms == 1000 * int(start.timestamp())
    assert image.properties["system:time_end"] == image.time_start_ms + 1500
    assert image.properties["system:index"] == image.index == "20210619T154811_T18SVG"
    assert image.properties["system:asset_size"] == (tmp_path / "b2.tif").stat().st_size
    assert image.properties["CLOUDY_PIXEL_PERCENTAGE"] == 3
    ring = image.properties["system:footprint"]
    assert ring["type"] == "LinearRing"
    assert [tuple(point) for point in ring["coordinates"]] == list(image.footprint)


def test_footprint_is_the_ground_that_all_bands_cover(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", ramp(200, 300))
    write_raster(tmp_path / "b.tif", ramp(200, 300), west=400_500, north=4_179_500)
    bands = {"a": {"file": "a.tif"}, "b": {"file": "b.tif"}}
    _, image = open_image(tmp_path, bands=bands)
    ring = list(image.footprint)
    assert ring[0] == ring[-1]
    assert shapely.LinearRing(ring).is_ccw
    longitudes, latitudes = zip(*ring, strict=True)
    xs, ys = transform("EPSG:4326", "EPSG:32618", longitudes, latitudes)
    box = (min(xs), min(ys), max(xs), max(ys))
    np.testing.assert_allclose(box, (400_500, 4_178_000, 403_000, 4_179_500), atol=1e-3)


def test_search_by_place_and_time(tmp_path: Path) -> None:
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    for day in (3, 1, 2):
        write_catalogue(
            tmp_path, f"image{day}", index=f"i{day}", time_start=f"2021-06-0{day}T00:00Z"
        )
    world = RasterFolder(tmp_path)

    def days(*question: Any) -> str:
        return "".join(image.index[1:] for image in world.find_images("TEST/IMAGES", *question))

    second = 1000 * int(datetime(2021, 6, 2, tzinfo=UTC).timestamp())
    west, south = np.min(world.find_images("TEST/IMAGES", None, None, None)[0].footprint, axis=0)
    here = Bounds(west - 0.1, south - 0.1, west + 0.0001, south + 0.0001)
    assert days(None, None, None) == "123"
    assert days(here, second, None) == "23"  # the start belongs to it
    assert days(here, None, second) == "1"  # the end does not
    assert days(Bounds(west - 0.2, south, west - 0.1, south + 1), None, None) == ""
    assert days(Bounds(west, south - 0.2, west + 1, south - 0.1), None, None) == ""
    assert days(Bounds(170.0, -90, west + 0.001, 90), None, None) == "123"  # across 180 degrees
    assert days(Bounds(west + 1, -90, -170.0, 90), None, None) == ""
    assert world.find_images("TEST/OTHERS", None, None, None) == []
    assert world.find_image("TEST/IMAGES/i4") is None
    assert list(world.collections()) == ["TEST/IMAGES"]


def test_footprint_across_the_antimeridian_does_not_go_round_the_earth(tmp_path: Path) -> None:
    # The edge of UTM zone 1 lies on 180 degrees, at x 166,021 m on the equator.
    write_raster(tmp_path / "b2.tif", ramp(100, 100), west=165_521, north=100_000, crs="EPSG:32601")
    world, image = open_image(tmp_path)
    longitudes = [longitude for longitude, _ in image.footprint]
    assert max(longitudes) - min(longitudes) < 0.02
    assert min(longitudes) < 180 < max(longitudes)

    def found(*box: float) -> int:
        return len(world.find_images("TEST/IMAGES", Bounds(*box), None, None))

    assert found(179.99, 0, 180, 1) == 1
    assert found(-180, 0, -179.999, 1) == 1
    assert found(179.999, 0, -179.999, 1) == 1
    assert found(-179.9, 0, 179.9, 1) == 0


def test_many_threads_read_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster_files, "_MAX_IDLE", 3)
    bands = {}
    for i in range(5):
        write_raster(tmp_path / f"b{i}.tif", 1000 * i + ramp(30, 30), compress="deflate")
        bands[f"B{i}"] = {"file": f"b{i}.tif"}
    world, image = open_image(tmp_path, bands=bands)

    def right(k: int) -> bool:
        row, column, names = k % 20, k % 7, [f"B{k % 5}", f"B{(k + 1) % 5}"]
        found = world.read(image, names, row=row, column=column, height=10, width=9)
        wanted = ramp(30, 30)[row : row + 10, column : column + 9]
        return all(np.array_equal(found[name][0], 1000 * int(name[1]) + wanted) for name in names)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(400)))
    assert world._files._num_idle == sum(map(len, world._files._idle.values())) <= 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"collection": None}, "collection: is missing"),
        ({"colour": 1}, "colour: is not a key that is known here"),
        ({"collection": "A//B"}, "collection: 'A//B' cannot be used"),
        ({"index": "a/b"}, "index: 'a/b' cannot be used"),
        ({"time_start": "yesterday"}, "time_start: 'yesterday' cannot be used"),
        ({"time_start": "2021-06-19T16:02:47"}, "has no time zone: end it with Z"),
        ({"time_end": "2020-06-19T16:02:47Z"}, "time_end is before time_start"),
        ({"bands": {}}, "bands: {} cannot be used"),
        ({"bands": {"B2": {"file": "b2.tif", "band": 0}}}, "bands.B2.band: 0 cannot be used"),
        ({"bands": {"B2": {"file": "b2.tif", "band": 2}}}, "bands.B2.band: b2.tif has 1 band"),
        ({"bands": {"B2": {"file": "b3.tif"}}}, "bands.B2.file: b3.tif is not in the folder"),
        ({"bands": {"B2": {"file": "../b2.tif"}}}, "bands.B2.file: ../b2.tif leads out"),
        ({"bands": {"B2": {"file": "/etc/hosts"}}}, "bands.B2.file: /etc/hosts leads out"),
        ({"bands": {"B2": {"file": "link.tif"}}}, "bands.B2.file: link.tif leads out"),
        ({"bands": {"B2": {"file": "text.tif"}}}, "text.tif is no GeoTIFF or JP2"),
        ({"bands": {"B2": {"file": "cut.tif"}}}, "cut.tif is no GeoTIFF or JP2"),
        ({"bands": {"B2": {"file": "out.vrt"}}}, "out.vrt is no GeoTIFF or JP2"),
        ({"bands": {"B2": {"file": "nowhere.tif"}}}, "nowhere.tif has no CRS"),
        ({"bands": {"B2": {"file": "turned.tif"}}}, "turned.tif is rotated"),
        ({"bands": {"B2": {"file": "complex.tif"}}}, "complex.tif holds complex64"),
        ({"bands": {"B2": {"file": "b2.tif", "dtype": "uint8"}}}, "uint8 does not hold every"),
        ({"bands": {"B2": {"file": "b2.tif", "dtype": "uint7"}}}, "bands.B2.dtype: 'uint7'"),
        ({"bands": {"B2": {"file": "b2.tif", "divisor": 9}}}, "float64 belongs to it"),
        ({"bands": {"B2": {"file": "b2.tif"}, "a": {"file": "far.tif"}}}, "no ground in common"),
        ({"bands": {"B2": {"file": "b2.tif"}, "a": {"file": "19.tif"}}}, "more than one CRS"),
        ({"properties": {"cloudy": True}}, "properties.cloudy"),
        ({"properties": {"cloud": math.nan}}, "properties.cloud"),
        ({"properties": {"system:index": "x"}}, "system:index does not belong here: give index"),
        ({"footprint": [[0, 0], [1, 1], [1, 0], [0, 1]]}, "the ring crosses itself"),
        ({"footprint": [[0, 0], [1, 91], [1, 0]]}, "[1, 91] is no longitude and latitude"),
    ],
)
def test_mistake_is_one_sentence_that_names_the_file(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    folder = tmp_path / "rasters"
    folder.mkdir()
    write_raster(folder / "b2.tif", ramp(4, 4))
    write_raster(tmp_path / "outside.tif", ramp(4, 4))
    (folder / "link.tif").symlink_to(tmp_path / "outside.tif")
    (folder / "text.tif").write_text("no raster")
    (folder / "cut.tif").write_bytes((folder / "b2.tif").read_bytes()[:20])
    (folder / "out.vrt").write_text("<VRTDataset/>")
    write_raster(folder / "turned.tif", ramp(4, 4), transform=Affine(10, 1, 0, 1, -10, 0))
    write_raster(folder / "nowhere.tif", ramp(4, 4), crs=None)
    write_raster(folder / "complex.tif", ramp(4, 4, "complex64"))
    write_raster(folder / "far.tif", ramp(4, 4), west=500_000)
    write_raster(folder / "19.tif", ramp(4, 4), crs="EPSG:32619")
    write_catalogue(folder, **changes)
    with pytest.raises(CatalogueError) as caught:
        RasterFolder(folder)
    said = str(caught.value)
    assert sentence in said
    assert str(folder) in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("time_start: 2021-02-30T00:00:00Z", "is not YAML"),
        ("- a", "is not a mapping"),
        ("", "is empty"),
        ("\udcff", "not a text file"),
    ],
)
def test_file_that_is_no_catalogue_is_one_sentence(
    text: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "image.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CatalogueError, match=sentence) as caught:
        RasterFolder(tmp_path)
    assert str(path) in str(caught.value)


def test_folder_has_to_exist_hold_a_catalogue_and_each_image_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="is no folder"):
        RasterFolder(tmp_path / "none")
    with pytest.raises(CatalogueError, match="is no folder"):
        RasterFolder(tmp_path, tmp_path / "none")
    with pytest.raises(CatalogueError, match="holds no catalogue"):
        RasterFolder(tmp_path)
    write_raster(tmp_path / "b2.tif", ramp(4, 4))
    write_catalogue(tmp_path, "one")
    write_catalogue(tmp_path, "two")
    with pytest.raises(CatalogueError, match=r"two.yaml describes .* as one.yaml does"):
        RasterFolder(tmp_path)


def test_given_footprint_is_closed_and_turned_counter_clockwise(tmp_path: Path) -> None:
    write_raster(tmp_path / "b2.tif", ramp(4, 4))
    write_raster(tmp_path / "19.tif", ramp(4, 4), crs="EPSG:32619")
    _, image = open_image(
        tmp_path,
        bands={"a": {"file": "b2.tif"}, "b": {"file": "19.tif"}},
        footprint=[[0, 0], [0, 1], [1, 1], [1, 0]],
    )
    assert list(image.footprint) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
