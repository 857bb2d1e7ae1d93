"""Pixels where an emulator would be tempted to be kinder than the service."""

from __future__ import annotations

import io
import math
from typing import Any

import ee
import numpy as np
import pyproj
import pytest
import rasterio
from serving import connect, running
from small_world import (
    DW,
    L1C,
    L1C_BANDS,
    L2A,
    L2A_BANDS,
    MASKED_BLOCK,
    S1,
    SWATH_EDGE_PX,
    SmallWorld,
    expected_pixels,
)

from earth_engine_emulator.limits import Limits
from earth_engine_emulator.worlds import ImageRecord

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("client")]
CRS, X, Y = "EPSG:32618", 399960, 4200000


def grid(
    x: float, y: float, size: int = 264, pixel_m: float = 10, crs: str = CRS
) -> dict[str, Any]:
    affine = {"scaleX": pixel_m, "translateX": x, "scaleY": -pixel_m, "translateY": y}
    return {
        "dimensions": {"width": size, "height": size},
        "affineTransform": {"shearX": 0, "shearY": 0, **affine},
        "crsCode": crs,
    }


def at(row_10m: int, column_10m: int, size: int = 264, pixel_m: float = 10) -> dict[str, Any]:
    """Return the grid that begins at a pixel (10 m) of the first tile."""
    return grid(X + column_10m * 10, Y - row_10m * 10, size, pixel_m)


def pixels(image: Any, where: dict[str, Any], **more: Any) -> Any:
    params = {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": where, **more}
    return ee.data.computePixels(params)


def record_of(world: SmallWorld, collection: str, partial: bool = False) -> ImageRecord:
    """Return the first whole, or the first partial, image of the first tile."""
    return next(
        r
        for r in world.records(collection)
        if r.bands[0].lattice.crs == CRS and bool(r.properties["partial"]) == partial
    )


def image_of(world: SmallWorld, collection: str, partial: bool = False) -> Any:
    return ee.Image(record_of(world, collection, partial).asset_id)


def stored(record: ImageRecord, name: str, row: int, column: int, size: int) -> Any:
    """Return stored pixels of a window of a band's own lattice."""
    band = next(band for band in record.bands if band.name == name)
    rows = np.arange(row, row + size)[:, None]
    return expected_pixels(record, band, rows, np.arange(column, column + size)[None, :])


def test_aligned_grid_gets_the_stored_pixels(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    got = pixels(image_of(small_world, L1C).select(["B2", "B8"]), at(1200, 3000))
    assert got.dtype == np.dtype([("B2", "<u2"), ("B8", "<u2")])
    np.testing.assert_array_equal(got["B2"], stored(record, "B2", 1200, 3000, 264))
    np.testing.assert_array_equal(got["B8"], stored(record, "B8", 1200, 3000, 264))


@pytest.mark.parametrize(("name", "factor"), [("B5", 2), ("B1", 6)])
def test_coarse_bands_repeat_on_a_10_m_grid_and_decimate_to_themselves(
    small_world: SmallWorld, name: str, factor: int
) -> None:
    record = record_of(small_world, L1C)
    got = pixels(image_of(small_world, L1C).select(name), at(1200, 3000))[name]
    native = stored(record, name, 1200 // factor, 3000 // factor, 264 // factor)
    np.testing.assert_array_equal(got, np.kron(native, np.ones((factor, factor), np.uint16)))
    np.testing.assert_array_equal(got[::factor, ::factor], native)


def test_pixel_centres_decide_on_a_shifted_grid(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    image = image_of(small_world, L1C).select("B2")
    for shift_m, column in ((4, 3000), (6, 3001)):
        shifted = grid(X + 30000 + shift_m, Y - 12000, 16)
        np.testing.assert_array_equal(
            pixels(image, shifted)["B2"], stored(record, "B2", 1200, column, 16)
        )


def test_another_crs_takes_the_pixel_that_each_centre_lies_in(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    got = pixels(image_of(small_world, L1C).select("B2"), grid(960000, 4170000, crs="EPSG:32617"))
    to_tile = pyproj.Transformer.from_crs("EPSG:32617", CRS, always_xy=True)
    x, y = np.meshgrid(960005 + 10 * np.arange(264), 4169995 - 10 * np.arange(264))
    east, north = to_tile.transform(x, y)
    columns, rows = (east - X) / 10, (Y - north) / 10
    band = next(band for band in record.bands if band.name == "B2")
    expected = expected_pixels(record, band, np.floor(rows), np.floor(columns))
    # Interpolated positions are exact to 0.005 px: only centres that near an edge may differ.
    near_edge = (np.abs(rows - np.rint(rows)) < 0.005) | (
        np.abs(columns - np.rint(columns)) < 0.005
    )
    assert near_edge.mean() < 0.03
    np.testing.assert_array_equal(got["B2"][~near_edge], expected[~near_edge])


def test_masked_pixels_come_out_as_zero(small_world: SmallWorld) -> None:
    got = pixels(image_of(small_world, L1C, partial=True).select("B2"), at(1200, 400))["B2"]
    assert not got[:, : SWATH_EDGE_PX - 400].any()
    assert got[:, SWATH_EDGE_PX - 400 :].all()


def test_outside_the_raster_everything_is_masked(small_world: SmallWorld) -> None:
    image = image_of(small_world, L1C).select("B2").unmask(7, False)
    got = pixels(image, grid(X - 100, Y + 100, 20))["B2"]
    assert (got[:10] == 7).all()
    assert (got[:, :10] == 7).all()
    record = record_of(small_world, L1C)
    np.testing.assert_array_equal(got[10:, 10:], stored(record, "B2", 0, 0, 10))


def test_masks_propagate_through_arithmetic(small_world: SmallWorld) -> None:
    label = image_of(small_world, DW).select("label")
    band = image_of(small_world, L1C).select("B2")
    summed = band.add(label).unmask(-1, False)
    where = at(MASKED_BLOCK.start - 10, MASKED_BLOCK.start - 10, 20)
    got = pixels(summed, where)["B2"]
    assert (got[10:, 10:] == -1).all()
    assert (got[:10] > 0).all()
    # Added as a band, each keeps its own mask.
    both = pixels(band.addBands(label).unmask(99, False), where)
    assert (both["label"][10:, 10:] == 99).all()
    assert (both["B2"] != 99).any()
    np.testing.assert_array_equal(both["B2"], pixels(band, where)["B2"])


def test_bands_of_a_taken_name_get_a_suffix(small_world: SmallWorld) -> None:
    one, two = image_of(small_world, L1C).select("B2"), image_of(small_world, L2A).select("B2")
    three = one.addBands(two).addBands(two)
    assert three.bandNames().getInfo() == ["B2", "B2_1", "B2_2"]
    got = pixels(three, at(0, 0, 8))
    assert got.dtype.names == ("B2", "B2_1", "B2_2")
    np.testing.assert_array_equal(got["B2_1"], stored(record_of(small_world, L2A), "B2", 0, 0, 8))
    replaced = one.addBands(two, None, True)
    np.testing.assert_array_equal(pixels(replaced, at(0, 0, 8))["B2"], got["B2_1"])


def test_unmask_fills_inside_the_footprint_unless_told_otherwise(small_world: SmallWorld) -> None:
    # The footprint of a partial image begins at the swath edge; the tile goes on westwards.
    partial = image_of(small_world, L1C, partial=True).select("B2")
    where = at(5400, 300, 600)
    same = pixels(partial.unmask(9).unmask(3, False), where)["B2"]
    everywhere = pixels(partial.unmask(9, False), where)["B2"]
    # The geodesic edge bows at most a pixel or two from the column.
    assert (same[:, : SWATH_EDGE_PX - 300 - 30] == 3).all()
    assert (everywhere[:, : SWATH_EDGE_PX - 300] == 9).all()
    # Inside the footprint, masked pixels are filled: Dynamic World's block.
    block = at(MASKED_BLOCK.start, MASKED_BLOCK.start, 50)
    assert (pixels(image_of(small_world, DW).unmask(200), block)["label"] == 200).all()


def test_label_keeps_its_byte_when_unmasked_with_255(small_world: SmallWorld) -> None:
    label = image_of(small_world, DW).select("label").unmask(255, False)
    got = pixels(label, at(MASKED_BLOCK.start - 5, MASKED_BLOCK.start - 5, 10))["label"]
    assert got.dtype == np.uint8
    assert (got[5:, 5:] == 255).all()
    record = record_of(small_world, DW)
    np.testing.assert_array_equal(got[:5], stored(record, "label", 395, 395, 10)[:5])


def test_mixed_types_make_a_structured_array_of_their_own_types(small_world: SmallWorld) -> None:
    image = (
        image_of(small_world, L1C)
        .select(["B2"])
        .addBands(image_of(small_world, S1).select("VV").toFloat())
        .addBands(image_of(small_world, S1).select("VH"))
        .addBands(image_of(small_world, DW).select("label"))
        .addBands(ee.Image(-5).rename("minus"))
    )
    got = pixels(image, at(0, 0, 4))
    assert got.dtype == np.dtype(
        [("B2", "<u2"), ("VV", "<f4"), ("VH", "<f8"), ("label", "u1"), ("minus", "i1")]
    )
    assert (got["minus"] == -5).all()


def test_integer_arithmetic_widens_and_division_is_float(small_world: SmallWorld) -> None:
    band = image_of(small_world, L1C).select("B2")
    types = {
        "sum": band.add(band),
        "product": band.multiply(band),
        "difference": band.subtract(band),
        "quotient": band.divide(10000),
        "test": band.gt(5),
    }
    bands = ee.Image.cat([image.rename(name) for name, image in types.items()])
    got = pixels(bands, at(0, 0, 4))
    assert {name: got.dtype[name].str for name in types} == {
        "sum": "<i4",
        "product": "<u4",
        "difference": "<i4",
        "quotient": "<f4",
        "test": "|u1",
    }
    native = stored(record_of(small_world, L1C), "B2", 0, 0, 4).astype(np.int64)
    np.testing.assert_array_equal(got["product"], native**2)
    np.testing.assert_allclose(got["quotient"], native / 10000, rtol=1e-6)


def test_casts_clamp_and_truncate() -> None:
    image = ee.Image([300, -3, 2.9, -2.9]).rename(["a", "b", "c", "d"])
    got = pixels(image.toUint8(), at(0, 0, 1))[0, 0]
    assert got.tolist() == (255, 0, 2, 0)
    assert pixels(image.toInt16(), at(0, 0, 1))[0, 0].tolist() == (300, -3, 2, -2)


def test_division_by_zero_gives_zero_and_bits_shift() -> None:
    assert pixels(ee.Image(5).divide(ee.Image(0)), at(0, 0, 1))[0, 0][0] == 0
    assert pixels(ee.Image(12).bitwiseAnd(1 << 2), at(0, 0, 1))[0, 0][0] == 4
    assert pixels(ee.Image(12).rightShift(2), at(0, 0, 1))[0, 0][0] == 3
    assert pixels(ee.Image(12).leftShift(2), at(0, 0, 1))[0, 0][0] == 48


def test_bilinear_interpolates_what_nearest_takes_whole(small_world: SmallWorld) -> None:
    record = record_of(small_world, S1)
    image = ee.Image(record.asset_id).select("VV")
    half = grid(X + 10000 + 5, Y - 10000, 32)
    native = stored(record, "VV", 1000, 1000, 33)
    np.testing.assert_allclose(
        pixels(image.resample("bilinear"), half)["VV"], (native[:32, :32] + native[:32, 1:]) / 2
    )
    np.testing.assert_array_equal(pixels(image, half)["VV"], native[:32, 1:])
    # On its own lattice nothing is interpolated.
    aligned = at(1000, 1000, 32)
    np.testing.assert_array_equal(
        pixels(image.resample("bilinear"), aligned)["VV"], native[:32, :32]
    )


def test_bilinear_is_masked_next_to_a_masked_pixel(small_world: SmallWorld) -> None:
    image = image_of(small_world, S1).select("VV").resample("bilinear").unmask(99, False)
    start = MASKED_BLOCK.start
    half = grid(X + (start - 10) * 10 + 5, Y - (start + 10) * 10, 20)
    row = pixels(image, half)["VV"][0]
    # Centre k lies between pixels k - 10 and k - 9 of the block's edge: 9 touches the block.
    assert (row[:9] != 99).all()
    assert (row[9:] == 99).all()


def test_resampling_a_computed_image_resamples_the_result(small_world: SmallWorld) -> None:
    record = record_of(small_world, S1)
    decibels = ee.Image(record.asset_id).select("VV")
    power = decibels.divide(10).multiply(math.log(10)).exp()
    back = power.resample("bilinear").log10().multiply(10)
    half = grid(X + 10000 + 5, Y - 10000, 16)
    native = 10 ** (stored(record, "VV", 1000, 1000, 17) / 10)
    mean_power = (native[:16, :16] + native[:16, 1:]) / 2
    np.testing.assert_allclose(pixels(back, half)["VV"], 10 * np.log10(mean_power), rtol=1e-5)
    # Interpolating decibels is something else.
    other = pixels(decibels.resample("bilinear"), half)["VV"]
    assert np.abs(other - 10 * np.log10(mean_power)).max() > 0.5


def test_bicubic_reproduces_a_plane() -> None:
    plane = ee.Image.pixelCoordinates(ee.Projection(CRS, [10, 0, X, 0, -10, Y])).select("x")
    fixed = plane.reproject(ee.Projection(CRS, [10, 0, X, 0, -10, Y])).resample("bicubic")
    got = pixels(fixed, grid(X + 10000 + 3, Y - 10000, 8))["x"]
    np.testing.assert_allclose(got[0], 1000.5 + 0.3 + np.arange(8), atol=1e-9)


def test_computation_happens_on_the_output_grid_unless_reprojected(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    image = ee.Image(record.asset_id).select("B2")
    at_60 = image.reproject(ee.Projection(CRS, [60, 0, X, 0, -60, Y]))
    got = pixels(at_60, at(1200, 3000, 12))["B2"]
    # The pixel whose centre is nearest the centre of the 60 m pixel, six times over.
    native = stored(record, "B2", 1203, 3003, 7)[::6, ::6]
    np.testing.assert_array_equal(got, np.kron(native, np.ones((6, 6), np.uint16)))
    coordinate = ee.Image.pixelCoordinates(ee.Projection(CRS, [10, 0, X, 0, -10, Y])).select("x")
    assert pixels(coordinate, at(0, 0, 4))["x"][0].tolist() == [0.5, 1.5, 2.5, 3.5]
    fixed = coordinate.reproject(ee.Projection(CRS, [20, 0, X, 0, -20, Y]))
    assert pixels(fixed, at(0, 0, 4))["x"][0].tolist() == [1, 1, 3, 3]


def test_default_projection_of_a_computed_image_is_its_first_operands(
    small_world: SmallWorld,
) -> None:
    image = image_of(small_world, L1C)
    ratio = image.select("B11").divide(image.select("B2"))
    assert ratio.projection().nominalScale().getInfo() == 20
    assert ee.Image(1).projection().crs().getInfo() == "EPSG:4326"


def test_image_algebra_matches_numpy(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    image = ee.Image(record.asset_id)
    where = at(2000, 2000, 32)
    red, near = (stored(record, n, 2000, 2000, 32).astype(np.float64) for n in ("B4", "B8"))
    index = image.normalizedDifference(["B8", "B4"])
    np.testing.assert_allclose(pixels(index, where)["nd"], (near - red) / (near + red), rtol=1e-5)
    by_text = image.expression(
        "(NIR - RED) / (NIR + RED + L) * (1 + L)",
        {"NIR": image.select("B8"), "RED": image.select("B4"), "L": 0.5},
    )
    expected = (near - red) / (near + red + 0.5) * 1.5
    np.testing.assert_allclose(pixels(by_text, where)["B8"], expected, rtol=1e-5)
    chosen = image.expression("b('B4') > 5000 && b('B8') > 3000 ? 1 : 2")
    np.testing.assert_array_equal(
        pixels(chosen, where)[chosen.bandNames().getInfo()[0]],
        np.where((red > 5000) & (near > 3000), 1, 2),
    )
    replaced = image.select("B4").where(image.select("B8").gt(5000), 0)
    np.testing.assert_array_equal(pixels(replaced, where)["B4"], np.where(near > 5000, 0, red))
    clamped = image.select("B4").clamp(1000, 2000)
    np.testing.assert_array_equal(pixels(clamped, where)["B4"], red.clip(1000, 2000))
    mean = image.select(["B4", "B8"]).reduce(ee.Reducer.mean())
    np.testing.assert_allclose(pixels(mean, where)["mean"], (red + near) / 2)
    masked = image.select("B4").updateMask(image.select("B8").gt(5000)).unmask(0)
    np.testing.assert_array_equal(pixels(masked, where)["B4"], np.where(near > 5000, red, 0))


def test_remap_masks_what_it_does_not_know(small_world: SmallWorld) -> None:
    record = record_of(small_world, DW)
    label = stored(record, "label", 0, 0, 64)
    image = ee.Image(record.asset_id)
    got = pixels(image.remap([0, 6], [10, 60]).unmask(255), at(0, 0, 64))["remapped"]
    np.testing.assert_array_equal(got, np.where(label == 0, 10, np.where(label == 6, 60, 255)))
    with_default = pixels(image.remap([0], [10], 3), at(0, 0, 64))["remapped"]
    np.testing.assert_array_equal(with_default, np.where(label == 0, 10, 3))


def test_mosaic_lays_the_last_on_top_and_reducers_skip_masked(small_world: SmallWorld) -> None:
    whole, partial = record_of(small_world, L1C), record_of(small_world, L1C, partial=True)
    collection = ee.ImageCollection([whole.asset_id, partial.asset_id]).select("B2")
    where = at(1200, SWATH_EDGE_PX - 8, 16)
    one = stored(whole, "B2", 1200, SWATH_EDGE_PX - 8, 16)
    two = stored(partial, "B2", 1200, SWATH_EDGE_PX - 8, 16)
    mosaic = pixels(collection.mosaic(), where)["B2"]
    np.testing.assert_array_equal(mosaic[:, :8], one[:, :8])
    np.testing.assert_array_equal(mosaic[:, 8:], two[:, 8:])
    count = pixels(collection.reduce(ee.Reducer.count()), where)["B2_count"]
    assert (count[:, :8] == 1).all()
    assert (count[:, 8:] == 2).all()
    mean = pixels(collection.mean(), where)["B2"]
    np.testing.assert_allclose(mean[:, 8:], (one[:, 8:].astype(float) + two[:, 8:]) / 2)
    np.testing.assert_array_equal(mean[:, :8], one[:, :8])


def test_clip_masks_outside_a_polygon(small_world: SmallWorld) -> None:
    triangle = ee.Geometry.Polygon(
        [[[X, Y], [X + 160, Y], [X, Y - 160]]], ee.Projection(CRS), False
    )
    image = image_of(small_world, L1C).select("B2").clip(triangle)
    got = pixels(image, at(0, 0, 16))["B2"] != 0
    rows, columns = np.mgrid[:16, :16] + 0.5
    np.testing.assert_array_equal(got, rows + columns <= 16)


def test_sample_rectangle_gives_the_band_pixels_and_needs_a_default_where_masked(
    small_world: SmallWorld,
) -> None:
    image, record = image_of(small_world, L1C), record_of(small_world, L1C)
    region = ee.Geometry.Rectangle(
        [X + 12000, Y - 12000 - 264 * 10, X + 12000 + 264 * 10, Y - 12000],
        ee.Projection(CRS),
        False,
    )
    info = image.select(["B2", "B5", "B1"]).sampleRectangle(region).getInfo()
    for name, factor in (("B2", 1), ("B5", 2), ("B1", 6)):
        np.testing.assert_array_equal(
            info["properties"][name],
            stored(record, name, 1200 // factor, 1200 // factor, 264 // factor),
        )
    assert info["properties"]["MGRS_TILE"] == "18SVG"
    partial = image_of(small_world, L1C, partial=True).select("B2")
    outside = ee.Geometry.Rectangle([X, Y - 100, X + 100, Y], ee.Projection(CRS), False)
    with pytest.raises(ee.EEException) as refusal:
        partial.sampleRectangle(outside).getInfo()
    assert str(refusal.value).startswith(
        "Image.sampleRectangle: Fully masked pixels / pixels outside of the image footprint when "
        "sampling band 'B2' with no default value set."
    )
    filled = partial.sampleRectangle(outside, None, 7).getInfo()["properties"]["B2"]
    assert np.unique(filled).tolist() == [7]
    with pytest.raises(ee.EEException, match=r"Too many pixels in sample; must be <= 262144"):
        image.select("B2").sampleRectangle(region.buffer(3000)).getInfo()


def test_reduce_region_counts_weights_and_limits(small_world: SmallWorld) -> None:
    record = record_of(small_world, DW)
    label = stored(record, "label", 2000, 2000, 264)
    region = ee.Geometry.Rectangle(
        [X + 20000, Y - 20000 - 2640, X + 20000 + 2640, Y - 20000], ee.Projection(CRS), False
    )
    image = ee.Image(record.asset_id).select("label")
    counts = image.reduceRegion(ee.Reducer.frequencyHistogram(), region, 10).getInfo()
    found, number = np.unique(label, return_counts=True)
    assert counts == {"label": {str(k): int(n) for k, n in zip(found, number, strict=True)}}
    mean = image.reduceRegion(ee.Reducer.mean(), region, 10).getInfo()
    assert mean["label"] == pytest.approx(label.mean())
    both = ee.Reducer.minMax().combine(ee.Reducer.count(), "", True)
    assert image.reduceRegion(both, region, 10).getInfo() == {
        "label_min": 0,
        "label_max": 8,
        "label_count": 264 * 264,
    }
    with pytest.raises(ee.EEException) as refusal:
        image.reduceRegion(ee.Reducer.mean(), region, 10, maxPixels=1000).getInfo()
    assert str(refusal.value).startswith(
        "Image.reduceRegion: Too many pixels in the region. Found 69696, but maxPixels allows only "
        "1000."
    )
    rough = image.reduceRegion(
        ee.Reducer.count(), region, 10, maxPixels=1000, bestEffort=True
    ).getInfo()
    assert 0 < rough["label"] <= 1200


def test_reduce_region_weighs_pixels_by_their_covered_part(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    image = ee.Image(record.asset_id).select("B2")
    # One and a half pixels wide.
    region = ee.Geometry.Rectangle(
        [X + 20000, Y - 20010, X + 20015, Y - 20000], ee.Projection(CRS), False
    )
    one, half = stored(record, "B2", 2000, 2000, 2)[0].astype(float)
    mean = image.reduceRegion(ee.Reducer.mean(), region, 10).get("B2").getInfo()
    assert mean == pytest.approx((one + half / 2) / 1.5)
    total = image.reduceRegion(ee.Reducer.sum().unweighted(), region, 10).get("B2").getInfo()
    assert total == one + half
    masked = at(MASKED_BLOCK.start, MASKED_BLOCK.start, 1)["affineTransform"]
    x, y = masked["translateX"], masked["translateY"]
    inside = ee.Geometry.Rectangle([x, y - 100, x + 100, y], ee.Projection(CRS), False)
    empty = image_of(small_world, DW).reduceRegion(ee.Reducer.mean(), inside, 10).getInfo()
    assert empty == {"label": None}


def test_reads_of_one_lattice_are_one_read() -> None:
    world = SmallWorld()
    indices = [r.index for r in world.records(DW) if r.index.endswith("T18SVG")]
    index = indices[0]
    image = (
        ee.Image(f"{L1C}/{index}").select(list(L1C_BANDS)).unmask(0)
        .addBands(ee.Image(f"{L2A}/{index}").select(list(L2A_BANDS)).unmask(0))
        .addBands(image_of(world, S1).select(["VV", "VH"]).resample("bilinear").unmask(-99))
        .addBands(ee.Image(f"{DW}/{index}").select("label").unmask(255, False))
    )  # fmt: skip
    with running(world) as url:
        connect(url)
        got = pixels(image, at(600, 600))
    assert len(got.dtype.names) == 28
    # Three lattices of L1C, three of L2A, one of S1, one of the labels.
    assert len(world.reads) == 8
    by_bands = {(asset.rsplit("/", 1)[0], len(names)) for asset, names, _ in world.reads}
    assert by_bands == {
        (L1C, 4),
        (L1C, 6),
        (L1C, 3),
        (L2A, 4),
        (L2A, 6),
        (L2A, 2),
        (S1, 2),
        (DW, 1),
    }
    windows = {
        (names[0], height, width)
        for asset, names, (_, _, height, width) in world.reads
        if asset.startswith(L1C)
    }
    assert {w[1:] for w in windows} == {(264, 264), (132, 132), (44, 44)}


@pytest.fixture
def strict(client: str) -> Any:
    """A server with limits small enough to reach; the client talks to it."""
    limits = Limits(
        max_response_bytes=10_000, max_dimension_px=100, max_bands=3, max_body_bytes=5_000,
        max_elements=3, max_requests_per_s=10_000,
    )  # fmt: skip
    with running(SmallWorld(), limits) as url:
        connect(url)
        yield url
    connect(client)


def test_size_counts_a_byte_of_mask_for_each_pixel_and_band(
    strict: str, small_world: SmallWorld
) -> None:
    band = image_of(small_world, L1C).select("B2")
    # 57 x 57 x (2 + 1) = 9,747 bytes pass, 58 x 58 x 3 = 10,092 do not.
    assert pixels(band, at(0, 0, 57)).shape == (57, 57)
    with pytest.raises(ee.EEException) as refusal:
        pixels(band, at(0, 0, 58))
    assert str(refusal.value) == (
        "Total request size (10092 bytes) must be less than or equal to 10000 bytes."
    )


def test_dimensions_bands_and_body_are_limited(strict: str, small_world: SmallWorld) -> None:
    band = image_of(small_world, L1C).select("B2")
    with pytest.raises(ee.EEException) as refusal:
        pixels(band, {**at(0, 0), "dimensions": {"width": 101, "height": 1}})
    assert str(refusal.value) == (
        "Pixel grid dimensions (101x1) must be less than or equal to 100."
    )
    with pytest.raises(ee.EEException, match=r"bands \(4\) must be less than or equal to 3"):
        pixels(image_of(small_world, L1C).select(["B1", "B2", "B3", "B4"]), at(0, 0, 4))
    with pytest.raises(ee.EEException, match="Request payload size exceeds the limit"):
        ee.List(list(range(5000))).getInfo()


def test_more_elements_than_the_service_gathers_are_refused(strict: str) -> None:
    message = "Collection query aborted after accumulating over 3 elements."
    with pytest.raises(ee.EEException) as refusal:
        ee.ImageCollection(L1C).getInfo()
    assert str(refusal.value) == message
    with pytest.raises(ee.EEException, match="accumulating over 3 elements"):
        ee.ImageCollection(L1C).toList(10).size().getInfo()
    assert len(ee.ImageCollection(L1C).limit(3).getInfo()["features"]) == 3
    assert ee.ImageCollection(L1C).size().getInfo() == 12


def test_published_limits_are_the_defaults(small_world: SmallWorld) -> None:
    band = image_of(small_world, L1C).select("B2")
    with pytest.raises(ee.EEException, match=r"\(32769x1\) must be less than or equal to 32768"):
        pixels(band, {**at(0, 0), "dimensions": {"width": 32769, "height": 1}})
    with pytest.raises(ee.EEException, match="less than or equal to 50331648 bytes"):
        pixels(band, at(0, 0, 4097))
    many = ee.Image.constant(ee.List.repeat(1, 1025))
    with pytest.raises(ee.EEException, match=r"\(1025\) must be less than or equal to 1024"):
        pixels(many, at(0, 0, 1))


def test_geotiff_has_the_pixels_the_names_and_the_place(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    content = ee.data.computePixels(
        {
            "expression": ee.Image(record.asset_id).select(["B2", "B5"]),
            "fileFormat": "GEO_TIFF",
            "grid": at(1200, 3000),
        }
    )
    with rasterio.open(io.BytesIO(content)) as raster:
        assert raster.descriptions == ("B2", "B5")
        assert raster.crs.to_epsg() == 32618
        assert raster.transform[:6] == (10, 0, X + 30000, 0, -10, Y - 12000)
        assert raster.nodata is None
        np.testing.assert_array_equal(raster.read(1), stored(record, "B2", 1200, 3000, 264))


def test_pixels_of_an_asset_and_chosen_bands(small_world: SmallWorld) -> None:
    record = record_of(small_world, L1C)
    got = ee.data.getPixels(
        {
            "assetId": record.asset_id,
            "fileFormat": "NUMPY_NDARRAY",
            "bandIds": ["B3"],
            "grid": at(10, 20, 8),
        }
    )
    np.testing.assert_array_equal(got["B3"], stored(record, "B3", 10, 20, 8))


def test_without_a_grid_the_footprint_in_the_default_projection(small_world: SmallWorld) -> None:
    region = ee.Geometry.Rectangle([X, Y - 60, X + 80, Y], ee.Projection(CRS), False)
    record = record_of(small_world, L1C)
    got = ee.data.computePixels(
        {
            "expression": ee.Image(record.asset_id).select("B2").clip(region),
            "fileFormat": "NUMPY_NDARRAY",
        }
    )
    assert got.shape == (6, 8)
    np.testing.assert_array_equal(got["B2"], stored(record, "B2", 0, 0, 8)[:6])
