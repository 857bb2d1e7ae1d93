"""Values through the unmodified client: collections, filters, dates, lists, geometries."""

from __future__ import annotations

import datetime as dt
import inspect
import json
from pathlib import Path
from typing import Any

import ee
import pytest
from small_world import DW, L1C, L2A, S1, SmallWorld

from earth_engine_emulator.expressions.algorithms import IMPLEMENTED, signatures

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("client")]
POINT = (-75.5, 37.5)
"""Inside the first tile alone, away from the swath edge of partial images."""


def first_tile(collection: str = L1C) -> Any:
    return ee.ImageCollection(collection).filterBounds(ee.Geometry.Point(POINT))


def records(world: SmallWorld, collection: str, tile: str = "18SVG") -> list[Any]:
    return [r for r in world.records(collection) if r.properties.get("MGRS_TILE") == tile]


def test_every_implemented_algorithm_takes_the_arguments_of_its_signature() -> None:
    listed = signatures()
    for name, implementation in IMPLEMENTED.items():
        number = len(listed[name].arguments) + implementation.with_session
        inspect.signature(implementation.function).bind(*range(number))
    assert len(IMPLEMENTED) > 400


def test_constants_of_every_kind_come_back() -> None:
    value = [1, -2.5, "text", None, True, {"a": [1, {"b": 2**60}]}]
    assert ee.List(value).getInfo() == value


def test_whole_numbers_are_sent_without_a_point() -> None:
    result = ee.Number(5).divide(2).multiply(2).getInfo()
    assert result == 5
    assert isinstance(result, int)


def test_collection_has_all_images_and_dates_and_bounds_narrow_it(small_world: SmallWorld) -> None:
    assert ee.ImageCollection(L1C).size().getInfo() == len(small_world.records(L1C))
    found = first_tile().filterDate("2020-06-05", "2020-06-13")
    expected = [
        r.index for r in records(small_world, L1C) if "20200605" <= r.index[:8] < "20200613"
    ]
    assert found.aggregate_array("system:index").getInfo() == expected
    assert len(expected) == 2


def test_end_of_a_date_filter_is_exclusive(small_world: SmallWorld) -> None:
    ms = records(small_world, L1C)[2].time_start_ms
    assert first_tile().filterDate(ms - 1, ms).size().getInfo() == 0
    assert first_tile().filterDate(ms, ms + 1).size().getInfo() == 1


def test_footprints_decide_not_their_boxes(small_world: SmallWorld) -> None:
    # West of the swath edge of partial images, inside the tile.
    edge = ee.Geometry.Point([-76.1, 37.5])
    partial = first_tile().filter(ee.Filter.eq("partial", 1)).size().getInfo()
    assert partial == 1
    at_edge = ee.ImageCollection(L1C).filterBounds(edge).filter(ee.Filter.eq("partial", 1))
    assert at_edge.filter(ee.Filter.eq("MGRS_TILE", "18SVG")).size().getInfo() == 0


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (lambda: ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 20), lambda r: r["c"] < 20),
        (lambda: ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", 28), lambda r: r["c"] <= 28),
        (lambda: ee.Filter.gt("CLOUDY_PIXEL_PERCENTAGE", 28), lambda r: r["c"] > 28),
        (lambda: ee.Filter.gte("CLOUDY_PIXEL_PERCENTAGE", 28), lambda r: r["c"] >= 28),
        (lambda: ee.Filter.eq("CLOUDY_PIXEL_PERCENTAGE", 28), lambda r: r["c"] == 28),
        (lambda: ee.Filter.neq("CLOUDY_PIXEL_PERCENTAGE", 28), lambda r: r["c"] != 28),
        (lambda: ee.Filter.rangeContains("CLOUDY_PIXEL_PERCENTAGE", 13, 28),
         lambda r: 13 <= r["c"] <= 28),
        (lambda: ee.Filter.inList("CLOUDY_PIXEL_PERCENTAGE", [13, 28]),
         lambda r: r["c"] in (13, 28)),
        (lambda: ee.Filter.stringContains("system:index", "20200607"),
         lambda r: "20200607" in r["index"]),
        (lambda: ee.Filter.stringStartsWith("system:index", "202007"),
         lambda r: r["index"].startswith("202007")),
        (lambda: ee.Filter.stringEndsWith("MGRS_TILE", "SVG"), lambda r: True),
        (lambda: ee.Filter.Not(ee.Filter.eq("partial", 1)), lambda r: not r["partial"]),
        (lambda: ee.Filter.Or(ee.Filter.eq("partial", 1),
                              ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 14)),
         lambda r: r["partial"] or r["c"] < 14),
        (lambda: ee.Filter.And(ee.Filter.eq("partial", 0),
                               ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 14)),
         lambda r: not r["partial"] and r["c"] < 14),
        (lambda: ee.Filter.notNull(["nothing"]), lambda r: False),
        (lambda: ee.Filter.eq("nothing", 1), lambda r: False),
        (lambda: ee.Filter.calendarRange(7, 7, "month"), lambda r: r["index"][4:6] == "07"),
        (lambda: ee.Filter.date("2020-07-01", "2020-08-01"), lambda r: r["index"][4:6] == "07"),
        (lambda: ee.Filter.lt("system:time_start", 1593561600000),
         lambda r: r["index"][4:6] == "06"),
    ],
)  # fmt: skip
def test_property_filters(small_world: SmallWorld, wanted: Any, passes: Any) -> None:
    rows = [
        {
            "c": r.properties["CLOUDY_PIXEL_PERCENTAGE"],
            "index": r.index,
            "partial": r.properties["partial"],
        }
        for r in records(small_world, L1C)
    ]
    expected = [row["index"] for row in rows if passes(row)]
    assert first_tile().filter(wanted()).aggregate_array("system:index").getInfo() == expected


def test_list_contains_finds_polarisations() -> None:
    both = ee.Filter.listContains("transmitterReceiverPolarisation", "VH")
    assert first_tile(S1).filterDate("2020-06-01", "2020-09-01").filter(both).size().getInfo() == 3


def test_sort_first_and_limit(small_world: SmallWorld) -> None:
    clouds = sorted(r.properties["CLOUDY_PIXEL_PERCENTAGE"] for r in records(small_world, L1C))
    by_cloud = first_tile().sort("CLOUDY_PIXEL_PERCENTAGE")
    assert by_cloud.aggregate_array("CLOUDY_PIXEL_PERCENTAGE").getInfo() == clouds
    falling = first_tile().sort("CLOUDY_PIXEL_PERCENTAGE", False).first()
    assert falling.get("CLOUDY_PIXEL_PERCENTAGE").getInfo() == clouds[-1]
    assert by_cloud.limit(2).aggregate_array("CLOUDY_PIXEL_PERCENTAGE").getInfo() == clouds[:2]


def test_aggregates(small_world: SmallWorld) -> None:
    clouds = [r.properties["CLOUDY_PIXEL_PERCENTAGE"] for r in records(small_world, L1C)]
    name = "CLOUDY_PIXEL_PERCENTAGE"
    collection = first_tile()
    assert collection.aggregate_min(name).getInfo() == min(clouds)
    assert collection.aggregate_max(name).getInfo() == max(clouds)
    assert collection.aggregate_sum(name).getInfo() == sum(clouds)
    assert collection.aggregate_mean(name).getInfo() == pytest.approx(sum(clouds) / len(clouds))
    assert collection.aggregate_count(name).getInfo() == len(clouds)
    assert collection.aggregate_histogram("partial").getInfo() == {"0": 5, "1": 1}


def test_rows_with_a_null_are_dropped_by_tuples_and_columns_drop_their_own(
    small_world: SmallWorld,
) -> None:
    # Dynamic World has no cloud percentage: every row is lost, as in the service.
    number = len([r for r in small_world.records(DW) if "T18" in r.index])
    columns = ["system:index", "CLOUDY_PIXEL_PERCENTAGE"]
    together = first_tile(DW).reduceColumns(ee.Reducer.toList(2), columns)
    assert together.getInfo() == {"list": []}
    apart = first_tile(DW).reduceColumns(ee.Reducer.toList().repeat(2), columns)
    lists = apart.get("list").getInfo()
    assert [len(part) for part in lists] == [number, 0]
    optional = first_tile(DW).reduceColumns(ee.Reducer.toList(2, 1), columns).get("list").getInfo()
    assert len(optional) == number
    assert all(row[1] is None for row in optional)


def test_listing_of_many_searches_in_one_request(small_world: SmallWorld) -> None:
    patch = ee.Geometry.Rectangle(
        [420000, 4150000, 422640, 4152640], ee.Projection("EPSG:32618"), False
    )

    def marked(image: Any) -> Any:
        projection = ee.Image(image).select("B2").projection()
        return image.set(
            {
                "contains": image.geometry().contains(patch),
                "crs": projection.crs(),
                "transform": projection.transform(),
            }
        )

    columns = ["system:index", "contains", "crs", "transform"]
    request = {
        name: ee.ImageCollection(L1C)
        .filterDate(*dates)
        .filterBounds(patch)
        .map(marked)
        .reduceColumns(ee.Reducer.toList(4), columns)
        .get("list")
        for name, dates in {
            "june": ("2020-06-01", "2020-07-01"),
            "july": ("2020-07-01", "2020-08-01"),
            "none": ("2010-01-01", "2010-02-01"),
        }.items()
    }
    answer = ee.Dictionary(request).getInfo()
    assert answer["none"] == []
    assert len(answer["june"]) == 3
    index, contains, crs, transform = answer["july"][0]
    assert index.startswith("202007")
    assert contains is True
    assert crs == "EPSG:32618"
    assert 'PARAMETER["elt_0_2", 399960' in transform
    assert 'PARAMETER["elt_1_1", -10' in transform


def test_patch_across_the_swath_edge_is_not_contained() -> None:
    def contained(x: float) -> list[bool]:
        patch = ee.Geometry.Rectangle(
            [x, 4150000, x + 2640, 4152640], ee.Projection("EPSG:32618"), False
        )
        partial = first_tile().filter(ee.Filter.eq("partial", 1))
        marked = partial.map(lambda i: i.set("inside", i.geometry().contains(patch, 1)))
        return list(marked.aggregate_array("inside").getInfo())

    # The edge is the geodesic between (405960, 4200000) and (405960, 4090200).
    assert contained(405960 - 1320) == [False]
    assert contained(405960 + 300) == [True]


def test_filters_on_footprints_contain() -> None:
    inside = ee.Geometry.Point(POINT).buffer(1000)
    contains = ee.Filter.contains(".geo", inside)
    assert ee.ImageCollection(L1C).filter(contains).size().getInfo() == 6
    across = ee.Geometry.Rectangle([-74.95, 37.5, -74.5, 37.6])
    assert ee.ImageCollection(L1C).filter(ee.Filter.contains(".geo", across)).size().getInfo() == 0
    assert ee.ImageCollection(L1C).filterBounds(across).size().getInfo() == 6


def test_map_keeps_the_index_and_merge_prefixes_it(small_world: SmallWorld) -> None:
    first = records(small_world, L1C)[0].index
    mapped = first_tile().map(lambda image: image.select("B2").multiply(2))
    assert mapped.aggregate_array("system:index").getInfo()[0] == first
    merged = first_tile().merge(first_tile(L2A))
    indices = merged.aggregate_array("system:index").getInfo()
    assert indices[0] == f"1_{first}"
    assert indices[-1].startswith("2_")


def test_collections_of_given_images_count_from_zero() -> None:
    collection = ee.ImageCollection([ee.Image(1), ee.Image(2)])
    assert collection.aggregate_array("system:index").getInfo() == ["0", "1"]
    assert collection.toBands().bandNames().getInfo() == ["0_constant", "1_constant"]


def test_iterate_and_to_list(small_world: SmallWorld) -> None:
    total = first_tile().iterate(
        lambda image, sum_: ee.Number(sum_).add(image.getNumber("SENSING_ORBIT_NUMBER")), 0
    )
    assert total.getInfo() == 6 * 97
    second = ee.Image(first_tile().toList(2, 1).get(0)).get("system:index").getInfo()
    assert second == records(small_world, L1C)[1].index


def test_join_saves_the_image_of_equal_index(small_world: SmallWorld) -> None:
    same = ee.Filter.equals(leftField="system:index", rightField="system:index")
    joined = ee.Join.saveFirst("label").apply(first_tile(), first_tile(DW), same)
    indices = joined.aggregate_array("system:index").getInfo()
    expected = [r.index for r in small_world.records(DW) if r.index.endswith("T18SVG")]
    assert indices == expected
    everything = ee.Join.saveAll("radar").apply(
        first_tile(),
        first_tile(S1).filterDate("2020-06-01", "2020-09-01"),
        ee.Filter.maxDifference(
            4 * 86400 * 1000, leftField="system:time_start", rightField="system:time_start"
        ),
    )
    sizes = everything.map(lambda i: i.set("n", ee.List(i.get("radar")).size()))
    assert sizes.aggregate_array("n").getInfo() == [1, 2, 1, 1, 1, 1]


def test_dates() -> None:
    date = ee.Date("2020-01-31T12:00:00")
    assert date.millis().getInfo() == 1580472000000
    assert date.advance(1, "month").format("YYYY-MM-dd HH:mm").getInfo() == "2020-02-29 12:00"
    assert date.advance(-15, "day").format().getInfo() == "2020-01-16T12:00:00"
    assert date.get("month").getInfo() == 1
    assert date.getRelative("day", "year").getInfo() == 30
    assert ee.Date("2020-02-01").difference(date, "hour").getInfo() == 12
    assert ee.Date.fromYMD(2021, 9, 22).getInfo() == {"type": "Date", "value": 1632268800000}
    moment = dt.datetime(2020, 1, 31, 12, tzinfo=dt.UTC)
    assert ee.Date(moment.replace(tzinfo=None)).millis().getInfo() == 1580472000000
    assert ee.DateRange("2020-01-01", "2020-02-01").contains(date).getInfo() is True
    assert date.format("yyyyMMdd'T'HHmmss").getInfo() == "20200131T120000"


def test_lists_and_dictionaries() -> None:
    assert ee.List.sequence(1, 5).map(lambda n: ee.Number(n).pow(2)).getInfo() == [1, 4, 9, 16, 25]
    assert ee.List.sequence(0, 6, 3).getInfo() == [0, 3, 6]
    assert ee.List([3, 1, 2]).sort().reverse().slice(0, 2).getInfo() == [3, 2]
    assert ee.List([[1, [2]], 3]).flatten().getInfo() == [1, 2, 3]
    assert ee.List([1, 2]).zip([3, 4]).getInfo() == [[1, 3], [2, 4]]
    assert ee.List([1, 2, 3]).reduce(ee.Reducer.sum()).getInfo() == 6
    assert ee.List([1, 2, 3]).filter(ee.Filter.gt("item", 1)).getInfo() == [2, 3]
    assert ee.List([1, 2, 3]).iterate(lambda n, a: ee.Number(n).add(a), 10).getInfo() == 16
    numbers = ee.Dictionary.fromLists(["b", "a"], [2, 1])
    assert numbers.keys().getInfo() == ["a", "b"]
    assert numbers.values().getInfo() == [1, 2]
    assert numbers.combine({"c": 3}).set("d", 4).getInfo() == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert numbers.map(lambda key, value: ee.Number(value).add(1)).getInfo() == {"a": 2, "b": 3}
    assert numbers.get("z", 7).getInfo() == 7
    with pytest.raises(ee.EEException, match=r"Dictionary does not contain key: 'z'"):
        numbers.get("z").getInfo()


def test_texts_numbers_and_branches() -> None:
    assert ee.String("a").cat("b").toUpperCase().getInfo() == "AB"
    assert ee.String("20200101_T18").split("_").get(1).getInfo() == "T18"
    assert ee.String("x1y22").replace("(\\d+)", "<$1>", "g").getInfo() == "x<1>y<22>"
    assert ee.Number(3.14159).format("%.2f").getInfo() == "3.14"
    assert ee.Number(7).mod(4).getInfo() == 3
    assert ee.Number(5).gt(3).getInfo() == 1
    assert ee.Algorithms.If(ee.Number(0), "yes", "no").getInfo() == "no"
    # The branch not taken is not evaluated.
    missing = ee.Image("NO/SUCH/image").id()
    assert ee.Algorithms.If(1, "yes", missing).getInfo() == "yes"


def test_geometries() -> None:
    rectangle = ee.Geometry.Rectangle([0, 0, 1, 1], None, False)
    assert rectangle.contains(ee.Geometry.Point([0.5, 0.5]), 1).getInfo() is True
    assert rectangle.intersects(ee.Geometry.Point([1.5, 0.5]), 1).getInfo() is False
    # A square degree at the equator: 111.32 km x 110.57 km on WGS84.
    assert rectangle.area(1).getInfo() == pytest.approx(111.32e3 * 110.57e3, rel=1e-3)
    assert ee.Geometry.Point([3, 4]).coordinates().getInfo() == [3, 4]
    assert ee.Geometry.Point([3, 4]).getInfo() == {"type": "Point", "coordinates": [3, 4]}
    bounds = ee.Geometry.Point([10, 60]).buffer(1000).bounds().getInfo()
    (west, south), (east, north) = bounds["coordinates"][0][0], bounds["coordinates"][0][2]
    assert (north - south) * 111.4e3 == pytest.approx(2000, rel=0.01)
    assert (east - west) * 55.8e3 == pytest.approx(2000, rel=0.01)
    assert bounds["type"] == "Polygon"
    box = ee.Geometry.BBox(179.5, -1, -179.5, 1)
    assert box.contains(ee.Geometry.Point([-179.8, 0]), 1).getInfo() is True
    assert box.contains(ee.Geometry.Point([178, 0]), 1).getInfo() is False
    overlap = rectangle.intersection(ee.Geometry.Rectangle([0.5, 0.5, 2, 2], None, False), 1)
    assert overlap.bounds().coordinates().getInfo()[0][0] == [0.5, 0.5]
    assert rectangle.centroid(1).coordinates().getInfo() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_geodesic_edges_bow_polewards() -> None:
    # The great circle between (0, 60) and (40, 60) reaches atan(tan 60 / cos 20) = 61.52 north.
    points = [[0, 50], [40, 50], [40, 60], [0, 60]]
    geodesic = ee.Geometry.Polygon([points])
    straight = ee.Geometry.Polygon([points], None, False)
    above = ee.Geometry.Point([20, 61.4])
    assert geodesic.contains(above, 1).getInfo() is True
    assert geodesic.contains(ee.Geometry.Point([20, 61.6]), 1).getInfo() is False
    assert straight.contains(above, 1).getInfo() is False


def test_features_and_feature_collections() -> None:
    features = ee.FeatureCollection(
        [ee.Feature(ee.Geometry.Point([i, i]), {"n": i, "odd": i % 2}) for i in range(4)]
    )
    assert features.filter(ee.Filter.eq("odd", 1)).aggregate_array("n").getInfo() == [1, 3]
    info = features.first().getInfo()
    assert info["geometry"] == {"type": "Point", "coordinates": [0, 0]}
    assert info["properties"] == {"n": 0, "odd": 0}
    assert info["id"] == "0"
    doubled = features.map(lambda f: f.set("n", f.getNumber("n").multiply(2)))
    sums = doubled.reduceColumns(ee.Reducer.sum().combine(ee.Reducer.mean(), "", True), ["n"])
    assert sums.getInfo() == {"sum": 12, "mean": 3}
    assert features.geometry().bounds().coordinates().getInfo()[0][2] == [3, 3]


def test_projection_describes_itself() -> None:
    projection = first_tile().first().select("B5").projection()
    assert projection.getInfo() == {
        "type": "Projection",
        "crs": "EPSG:32618",
        "transform": [20, 0, 399960, 0, -20, 4200000],
    }
    assert projection.nominalScale().getInfo() == 20
    assert projection.atScale(60).nominalScale().getInfo() == 60
    assert ee.Projection("EPSG:4326").nominalScale().getInfo() == pytest.approx(111319.49, abs=0.01)
    with pytest.raises(ee.EEException, match="different projections"):
        first_tile().first().projection().getInfo()


def test_image_info_has_the_shape_of_real_metadata(real_data: Path) -> None:
    files = sorted((real_data / "ssl4eo_s12_sample" / "s2c").rglob("metadata.json"))
    real = json.loads(files[0].read_text())
    image = first_tile().first()
    info = image.getInfo()
    assert list(info) == ["type", "bands", "version", "id", "properties"]
    # The downloader of the sample asked for every property name, one by one.
    names = image.propertyNames().getInfo()
    assert {"system:bands", "system:band_names", "system:id", "system:version"} <= set(names)
    ours = ee.Dictionary({name: image.get(name) for name in names}).getInfo()
    system = {name for name in real if name.startswith("system:")}
    assert system <= set(ours)
    for name in system:
        assert type(ours[name]) is type(real[name]), name
    assert set(info["properties"]) & system == system - {
        "system:bands", "system:band_names", "system:id", "system:version",
    }  # fmt: skip
    band, real_band = ours["system:bands"]["B11"], real["system:bands"]["B11"]
    assert list(band) == list(real_band)
    assert band["data_type"] == real_band["data_type"]
    assert [type(v) for v in band["crs_transform"]] == [type(v) for v in real_band["crs_transform"]]
    assert ours["system:footprint"]["type"] == real["system:footprint"]["type"] == "LinearRing"
    assert ours["system:id"].endswith(ours["system:index"])


def test_element_properties_copy_and_dictionary() -> None:
    image = first_tile().first()
    plain = image.toDictionary().getInfo()
    assert plain["MGRS_TILE"] == "18SVG"
    assert not any(name.startswith("system:") for name in plain)
    computed = image.select("B2").multiply(2)
    # Arithmetic drops metadata; it has to be copied.
    assert computed.get("MGRS_TILE").getInfo() is None
    copied = computed.copyProperties(image, ["MGRS_TILE", "system:time_start"])
    assert copied.get("MGRS_TILE").getInfo() == "18SVG"
    assert ee.Image(copied).date().get("year").getInfo() == 2020


def test_assets_are_got_and_listed_in_pages(small_world: SmallWorld) -> None:
    record = records(small_world, L1C)[0]
    asset = ee.data.getAsset(record.asset_id)
    assert asset["type"] == "IMAGE"
    assert asset["bands"][0]["grid"]["dimensions"] == {"width": 1830, "height": 1830}
    assert ee.data.getAsset(L1C)["type"] == "IMAGE_COLLECTION"
    everything = ee.data.listAssets(L1C)["assets"]
    assert [a["id"] for a in everything] == [r.asset_id for r in small_world.records(L1C)]
    page = ee.data.listAssets({"parent": L1C, "pageSize": 5})
    assert len(page["assets"]) == 5
    rest = ee.data.listAssets({"parent": L1C, "pageSize": 50, "pageToken": page["nextPageToken"]})
    assert page["assets"] + rest["assets"] == everything
    wanted = ee.data.listImages(
        {
            "parent": L1C,
            "startTime": "2020-06-05T00:00:00Z",
            "endTime": "2020-07-10T00:00:00Z",
            "region": {"type": "Point", "coordinates": list(POINT)},
            "properties": ["CLOUDY_PIXEL_PERCENTAGE<30"],
        }
    )["images"]
    expected = [
        r.asset_id
        for r in records(small_world, L1C)
        if "20200605" <= r.index[:8] < "20200710" and r.properties["CLOUDY_PIXEL_PERCENTAGE"] < 30
    ]
    assert [image["id"] for image in wanted] == expected
    assert expected
    with pytest.raises(ee.EEException, match="not found"):
        ee.data.getAsset("NO/SUCH/asset")
