"""Algorithms on images that the other tests do not meet, through the unmodified client."""

from __future__ import annotations

from typing import Any

import ee
import numpy as np
import pyproj
import pytest
from small_world import DW, L1C, L2A, SmallWorld
from test_honesty_pixels import CRS, X, Y, at, image_of, pixels, record_of, stored

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("client")]


def test_longitude_and_latitude_of_pixels() -> None:
    got = pixels(ee.Image.pixelLonLat(), at(10, 20, 4))
    to_lonlat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(X + 205, Y - 105)
    assert got["longitude"][0, 0] == pytest.approx(lon, abs=1e-9)
    assert got["latitude"][0, 0] == pytest.approx(lat, abs=1e-9)


def test_types_metadata_and_casts(small_world: SmallWorld) -> None:
    image = image_of(small_world, L1C)
    assert image.select("B2").bandTypes().getInfo() == {
        "B2": {"type": "PixelType", "precision": "int", "min": 0, "max": 65535}
    }
    cast = image.select(["B2", "B3"]).cast({"B2": "float"})
    assert pixels(cast, at(0, 0, 2)).dtype.descr == [("B2", "<f4"), ("B3", "<u2")]
    cloud = image.metadata("CLOUDY_PIXEL_PERCENTAGE", "cloud")
    expected = record_of(small_world, L1C).properties["CLOUDY_PIXEL_PERCENTAGE"]
    assert (pixels(cloud, at(0, 0, 2))["cloud"] == expected).all()
    scaled = image.select("B2").unitScale(0, 10000)
    native = stored(record_of(small_world, L1C), "B2", 0, 0, 4)
    np.testing.assert_allclose(pixels(scaled, at(0, 0, 4))["B2"], native / 10000, rtol=1e-6)


def test_samples_are_the_pixels_of_a_region(small_world: SmallWorld) -> None:
    region = ee.Geometry.Rectangle([X, Y - 30, X + 40, Y], ee.Projection(CRS), False)
    samples = image_of(small_world, L1C).select(["B2", "B3"]).sample(region, 10)
    native = stored(record_of(small_world, L1C), "B2", 0, 0, 4)[:3].ravel()
    assert samples.aggregate_array("B2").getInfo() == native.tolist()
    assert set(samples.first().toDictionary().getInfo()) == {"B2", "B3"}


def test_reduce_regions_adds_results_to_features(small_world: SmallWorld) -> None:
    def square(column: int) -> Any:
        x = X + column * 10
        area = ee.Geometry.Rectangle([x, Y - 20, x + 20, Y], ee.Projection(CRS), False)
        return ee.Feature(area, {"column": column})

    image = image_of(small_world, L1C).select("B2")
    reduced = image.reduceRegions(
        ee.FeatureCollection([square(0), square(50)]), ee.Reducer.mean(), 10
    )
    native = stored(record_of(small_world, L1C), "B2", 0, 0, 60)
    expected = [native[:2, c : c + 2].mean() for c in (0, 50)]
    assert reduced.aggregate_array("mean").getInfo() == pytest.approx(expected)
    assert reduced.aggregate_array("column").getInfo() == [0, 50]


def test_linked_collections_join_by_index(small_world: SmallWorld) -> None:
    linked = (
        ee.ImageCollection(L1C)
        .filter(ee.Filter.eq("MGRS_TILE", "18SVG"))
        .select("B2")
        .linkCollection(ee.ImageCollection(DW), ["label"])
    )
    assert linked.first().bandNames().getInfo() == ["B2", "label"]
    labels = small_world.records(DW)
    record = next(r for r in labels if r.index.endswith("T18SVG"))
    one = linked.filter(ee.Filter.eq("system:index", record.index)).first()
    np.testing.assert_array_equal(
        pixels(one, at(0, 0, 8))["label"], stored(record, "label", 0, 0, 8)
    )
    # An image without label gets a masked one.
    without = linked.filter(ee.Filter.gt("system:time_start", labels[-1].time_start_ms)).first()
    if without.getInfo() is not None:
        assert not pixels(without, at(0, 0, 8))["label"].any()


def test_statistics_across_bands_and_images(small_world: SmallWorld) -> None:
    image = image_of(small_world, L1C).select(["B2", "B3", "B4"])
    record = record_of(small_world, L1C)
    stack = np.stack([stored(record, name, 0, 0, 8).astype(float) for name in ("B2", "B3", "B4")])
    for name, function in {
        "min": np.min, "max": np.max, "sum": np.sum, "stdDev": np.std, "median": np.median,
    }.items():  # fmt: skip
        got = pixels(image.reduce(getattr(ee.Reducer, name)()), at(0, 0, 8))[name]
        np.testing.assert_allclose(got, function(stack, axis=0))
    both = image.reduce(ee.Reducer.min().combine(ee.Reducer.max(), "", True))
    assert both.bandNames().getInfo() == ["min", "max"]


def test_bands_by_index_slice_and_expression(small_world: SmallWorld) -> None:
    image = image_of(small_world, L2A)
    assert image.select([0, -1]).bandNames().getInfo() == ["B1", "B12"]
    assert image.select("B[234]").bandNames().getInfo() == ["B2", "B3", "B4"]
    assert image.select(["B2"], ["blue"]).bandNames().getInfo() == ["blue"]
    assert image.slice(1, 3).bandNames().getInfo() == ["B2", "B3"]
    named = image.expression("x = b('B4') - b('B3') ** 2")
    assert named.bandNames().getInfo() == ["x"]
    assert ee.Image.cat([ee.Image(1), ee.Image(2)]).bandNames().getInfo() == [
        "constant",
        "constant_1",
    ]


def test_self_mask_and_masks_as_images(small_world: SmallWorld) -> None:
    record = record_of(small_world, DW)
    label = stored(record, "label", 0, 0, 32)
    image = ee.Image(record.asset_id)
    masked = image.selfMask().unmask(77)
    np.testing.assert_array_equal(
        pixels(masked, at(0, 0, 32))["label"], np.where(label == 0, 77, label)
    )
    mask = pixels(image.selfMask().mask(), at(0, 0, 32))["label"]
    np.testing.assert_array_equal(mask, label != 0)


def test_reprojection_by_scale_and_default_projection(small_world: SmallWorld) -> None:
    image = image_of(small_world, L1C).select("B2")
    coarse = image.reproject(image.projection().atScale(20))
    assert coarse.projection().nominalScale().getInfo() == 20
    info = coarse.getInfo()["bands"][0]
    assert info["crs_transform"] == [20, 0, X, 0, -20, Y]
    other = image.setDefaultProjection("EPSG:3857", None, 30)
    assert other.projection().crs().getInfo() == "EPSG:3857"
    assert other.projection().nominalScale().getInfo() == pytest.approx(30)
