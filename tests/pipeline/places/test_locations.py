"""Where patches are taken: spacing, drawing, tiling, splits, files; against brute force."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from groundwork.errors import InputError
from pipeline.grids import from_lon_lat, patch_grid, to_lon_lat
from pipeline.places.files import Locations, read_locations, read_places, write_locations
from pipeline.places.land_mask import is_land
from pipeline.places.locations import make_locations, most_populous_cities, uniform_numbers
from pipeline.places.regions import Region, read_region
from pipeline.places.settings import (
    DEFAULT_MIN_DISTANCE_M,
    LocationSettings,
    RegionSettings,
    SplitSettings,
    parse_location_settings,
)
from pipeline.places.spherical import (
    CAUTIOUS_RADIUS_M,
    MEAN_RADIUS_M,
    Spacing,
    destination,
    find_overlaps,
    normalise_longitude,
)
from pipeline.places.splits import assign_splits
from pipeline.places.utm_tiling import tile_region, utm_zone
from storage_schema.status import Split

Floats = npt.NDArray[np.float64]

CITIES: dict[str, Any] = {"kind": "gaussian_around_cities", "num_locations": 3000}
LAND: dict[str, Any] = {"kind": "uniform_on_land", "num_locations": 1000}


def parse(**values: Any) -> LocationSettings:
    return parse_location_settings(values, "test.yaml")


def haversine_m(lon: Floats, lat: Floats, lon2: Any, lat2: Any) -> Floats:
    """Another formula than the code's chords, on the same sphere."""
    lon, lat, lon2, lat2 = map(np.radians, (lon, lat, lon2, lat2))
    h = np.sin((lat - lat2) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon - lon2) / 2) ** 2
    return np.asarray(2 * CAUTIOUS_RADIUS_M * np.arcsin(np.sqrt(np.minimum(h, 1))))


def crowded_points(seed: int, num: int) -> tuple[Floats, Floats]:
    """Clusters at the antimeridian, at both poles, at the equator and at mid-latitude."""
    rng = np.random.default_rng(seed)
    centres = np.array([(180, 0), (-180, 66), (0, 90), (77, -90), (10, 50), (-60, 0), (33, 89.9)])
    centre = centres[rng.integers(0, len(centres), num)].astype(float)
    return destination(
        centre[:, 0],
        centre[:, 1],
        rng.uniform(0, 2 * np.pi, num),
        60_000 * np.sqrt(rng.uniform(0, 1, num)),
    )


# --- spacing -----------------------------------------------------------------------------------


def test_spacing_and_overlaps_agree_with_all_pairs_at_poles_and_antimeridian() -> None:
    lon, lat = crowded_points(1, 2500)
    distance = np.stack([haversine_m(lon, lat, *place) for place in zip(lon, lat, strict=True)])
    near = distance < 3840
    first, second = np.nonzero(np.triu(near, k=1))
    assert len(first) > 500
    np.testing.assert_array_equal(find_overlaps(lon, lat, 3840), np.stack([first, second], axis=1))

    taken: list[int] = []
    for index in range(len(lon)):
        if not near[index, taken].any():
            taken.append(index)
    assert len(taken) < len(lon) - 300
    np.testing.assert_array_equal(np.flatnonzero(Spacing(3840).admit(lon, lat)), taken)
    kept = distance[np.ix_(taken, taken)] + np.diag(np.full(len(taken), np.inf))
    assert kept.min() >= 3840


@settings(max_examples=20)
@given(st.lists(st.integers(1, 700), max_size=8), st.integers(0, 5))
def test_spacing_does_not_depend_on_how_points_are_cut_into_calls(
    sizes: list[int], seed: int
) -> None:
    lon, lat = crowded_points(seed, 1500)
    whole = Spacing(9000).admit(lon, lat)
    spacing = Spacing(9000)
    bounds = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(lon)).tolist(), len(lon)]
    parts = [spacing.admit(lon[start:stop], lat[start:stop]) for start, stop in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert spacing.num_admitted == whole.sum()


def test_what_is_far_enough_on_the_sphere_is_so_on_the_ellipsoid() -> None:
    rng = np.random.default_rng(3)
    lat = np.concatenate([rng.uniform(-90, 90, 4000), [0, 0, 90, -90]])
    lon = rng.uniform(-180, 180, len(lat))
    bearing = np.concatenate([rng.uniform(0, 2 * np.pi, 4000), [0, np.pi / 2, 0, 0]])
    lon2, lat2 = destination(lon, lat, bearing, np.full(len(lat), 4000.0))
    true_m = np.asarray(Geod(ellps="WGS84").inv(lon, lat, lon2, lat2)[2])
    here_m = haversine_m(lon, lat, lon2, lat2)
    assert (true_m >= here_m * (1 - 1e-8)).all()
    assert (true_m <= here_m * 1.011).all()


def test_default_distance_covers_the_turned_and_snapped_square() -> None:
    # Scale of UTM at the border of a zone at the equator: 0.9996 (1 + x^2 / 2 R^2), x = 334 km.
    # A patch of 2640 grid metres is largest on the ground where the scale is 0.9996.
    diagonal_m = 2640 / 0.9996 * math.sqrt(2)
    # Each centre moves by at most half a step of the 60 m lattice, along both axes.
    moves_m = 2 * 30 * math.sqrt(2) / 0.9996
    assert diagonal_m + moves_m <= DEFAULT_MIN_DISTANCE_M < diagonal_m + moves_m + 30


def test_destination_agrees_with_distance_everywhere() -> None:
    lon = np.array([0.0, 179.99, -180.0, 12.0, 5.0, 0.0])
    lat = np.array([0.0, 0.0, 80.0, 90.0, -90.0, 89.99])
    for bearing in np.linspace(0, 2 * np.pi, 9):
        end = destination(lon, lat, np.full(6, bearing), np.full(6, 50_000.0))
        found = haversine_m(lon, lat, *end) * MEAN_RADIUS_M / CAUTIOUS_RADIUS_M
        np.testing.assert_allclose(found, 50_000, rtol=1e-7)
        assert ((end[0] >= -180) & (end[0] < 180)).all()


def test_longitudes_are_normalised() -> None:
    given_deg = np.array([180, -180, 540, 181, -181, -180 - 1e-15, 179.5])
    expected = [-180, -180, -180, -179, 179, -180, 179.5]
    np.testing.assert_allclose(normalise_longitude(given_deg), expected)


# --- drawing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [CITIES, LAND | {"region": {"bbox": [170, -50, -170, -10]}}])
def test_shorter_list_is_the_beginning_of_a_longer_one(values: dict[str, Any]) -> None:
    longer = make_locations(parse(**values))
    shorter = make_locations(parse(**values | {"num_locations": 100}))
    assert list(shorter.location_id) == list(longer.location_id[:100])
    assert shorter.location_id[99] == "0000099"
    for name in ("longitude", "latitude", "split"):
        np.testing.assert_array_equal(getattr(shorter, name), getattr(longer, name)[:100])


@pytest.mark.parametrize("step", [1, 777, 5_000])
def test_result_does_not_depend_on_candidates_per_step(step: int) -> None:
    wanted = parse(**CITIES | {"num_locations": 300 if step == 1 else 3000, "num_cities": 5})
    one, other = (make_locations(wanted, candidates_per_step=size) for size in (step, 65_536))
    np.testing.assert_array_equal(one.longitude, other.longitude)
    np.testing.assert_array_equal(one.latitude, other.latitude)


def test_another_seed_draws_other_locations() -> None:
    one, other = (make_locations(parse(**CITIES | {"seed": seed})) for seed in (0, 1))
    assert not np.isin(one.longitude, other.longitude).any()


def test_random_numbers_are_philox_counted_by_candidate() -> None:
    # Golden: the raw output of Philox4x64 with key (5, stream) at counters 1, 2, ... as NumPy
    # starts it, which its documentation fixes; here through NumPy's own float conversion.
    generator = np.random.Generator(np.random.Philox(key=[5, 0x10CA7105]))
    expected = generator.random((40, 4))
    np.testing.assert_array_equal(uniform_numbers(5, 0, 40), expected)
    np.testing.assert_array_equal(uniform_numbers(5, 17, 20), expected[17:37])


def test_gaussian_is_as_wide_east_as_north_at_60_degrees(monkeypatch: pytest.MonkeyPatch) -> None:
    # One city on the antimeridian, so that wrapping is tested too.
    city = np.array([179.9]), np.array([60.0])
    monkeypatch.setattr("pipeline.places.locations.most_populous_cities", lambda _num: city)
    wanted = parse(**CITIES | {"num_cities": 1, "num_locations": 200, "sigma_m": 80_000})
    from pipeline.places import locations

    lon, lat, _ = locations._around_cities(wanted)(uniform_numbers(0, 0, 40_000))  # type: ignore[arg-type]
    azimuth, _, distance_m = Geod(ellps="WGS84").inv(
        np.full(len(lon), 179.9), np.full(len(lon), 60.0), lon, lat
    )
    east_m = distance_m * np.sin(np.radians(azimuth))
    north_m = distance_m * np.cos(np.radians(azimuth))
    # The standard error of a standard deviation from 40,000 values is 0.35 %; the ellipsoid 0.4 %.
    assert east_m.std() == pytest.approx(80_000, rel=0.02)
    assert north_m.std() == pytest.approx(80_000, rel=0.02)
    assert east_m.std() / north_m.std() == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(east_m, north_m)[0, 1]) < 0.02
    assert abs(east_m.mean()) < 2_000
    assert lon.min() < -179
    assert lon.max() > 179


def test_locations_lie_around_the_most_populous_cities() -> None:
    lon, lat = most_populous_cities(20)
    assert (round(lon[0], 1), round(lat[0], 1)) == (121.5, 31.2)  # Shanghai
    wanted = parse(**CITIES | {"num_cities": 20, "num_locations": 2000})
    drawn = make_locations(wanted)
    distance = np.stack([haversine_m(drawn.longitude, drawn.latitude, *c) for c in zip(lon, lat)])  # noqa: B905
    assert (distance.min(axis=0) < 300_000).all()
    # Each city about equally often: 100 of 2000, standard deviation 10 (spacing costs some).
    assert np.abs(np.bincount(distance.argmin(axis=0), minlength=20) - 100).max() < 50
    assert not find_overlaps(drawn.longitude, drawn.latitude, 3840).size


def test_on_land_leaves_out_open_water() -> None:
    drawn = make_locations(parse(**CITIES | {"on_land": True}))
    assert is_land(drawn.longitude, drawn.latitude).all()
    anywhere = make_locations(parse(**CITIES))
    assert not is_land(anywhere.longitude, anywhere.latitude).all()


def test_land_mask_knows_land_and_water() -> None:
    places = {  # longitude, latitude -> land
        (11.6, 48.1): True,  # Munich
        (-30.0, 0.0): False,  # Atlantic
        (133.0, -25.0): True,  # Australia
        (-180.0, 0.0): False,  # Pacific
        (179.99, 66.5): True,  # Chukotka, on the antimeridian
        (0.0, 90.0): False,
        (0.0, -90.0): True,
    }
    lon, lat = np.array(list(places), dtype=float).T
    np.testing.assert_array_equal(is_land(lon, lat), list(places.values()))


def test_uniform_on_land_is_uniform_by_area() -> None:
    drawn = make_locations(parse(**LAND | {"num_locations": 20_000}))
    assert is_land(drawn.longitude, drawn.latitude).all()
    # Land area by latitude, independently: the mask on a regular grid, weighted by cos(latitude).
    grid_lat = np.arange(-55.95, 84, 0.1)
    grid_lon = np.arange(-179.95, 180, 0.1)
    lon, lat = (grid.ravel() for grid in np.meshgrid(grid_lon, grid_lat))
    weight = is_land(lon, lat) * np.cos(np.radians(lat))
    edges = [-56, -30, -10, 0, 10, 20, 30, 40, 50, 60, 70, 84]
    area = np.histogram(lat, edges, weights=weight)[0]
    expected = area / area.sum() * len(drawn)
    found = np.histogram(drawn.latitude, edges)[0]
    # Poisson deviations; spacing lowers the variance further.
    assert (np.abs(found - expected) < 4 * np.sqrt(expected)).all(), (found, expected)


def test_region_across_the_antimeridian_is_kept_to() -> None:
    region = {"bbox": [170, -50, -170, -10]}
    drawn = make_locations(parse(**LAND | {"num_locations": 500, "region": region}))
    assert (np.abs(drawn.longitude) >= 170).all()
    assert {-1.0, 1.0} == set(np.sign(drawn.longitude))


def test_polygon_region_is_kept_to(tmp_path: Path) -> None:
    triangle = shapely.Polygon([(10, 48), (12, 48), (11, 50)])
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(triangle)}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "region.geojson").write_text(json.dumps(collection))
    region = {"geojson": "region.geojson"}
    drawn = make_locations(parse(**LAND | {"num_locations": 200, "region": region}), tmp_path)
    assert shapely.contains_xy(triangle, drawn.longitude, drawn.latitude).all()
    tiles = make_locations(parse(kind="utm_tiling", region=region), tmp_path)
    assert shapely.contains_xy(triangle, tiles.longitude, tiles.latitude).all()
    # 15,990 km2 / 6.9696 km2 per tile; no border of a zone but the one at 12 E, at a corner.
    area_km2 = abs(Geod(ellps="WGS84").geometry_area_perimeter(triangle)[0]) / 1e6
    assert len(tiles) == pytest.approx(area_km2 / 2.64**2, rel=0.02)


def test_too_many_for_a_region_says_how_many_found_room() -> None:
    region = {"bbox": [11, 48, 11.2, 48.2]}
    with pytest.raises(InputError, match=r"only (\d+) of num_locations 1,000 found room") as caught:
        make_locations(parse(**LAND | {"region": region}))
    number = int(str(caught.value).split()[1])
    # 331 km2: at most 2 / sqrt(3) per square of the distance plus the rim; a random packing is
    # sparser, and half of what a lattice takes is the least that leaves no room.
    assert 12 <= number <= 30
    assert len(make_locations(parse(**LAND | {"region": region, "num_locations": 12}))) == 12


def test_region_without_land_says_so() -> None:
    with pytest.raises(InputError, match="there is no land in the region"):
        make_locations(parse(**LAND | {"region": {"bbox": [-40, 0, -39, 1]}}))


# --- tiling ------------------------------------------------------------------------------------


def squares(ids: list[str], to: Transformer) -> npt.NDArray[Any]:
    """The tiles as polygons in one metric projection, from their ids alone."""
    polygons = []
    for text in ids:
        epsg, column, row = (int(part) for part in text.split("_"))
        x, y = column * 2640.0, row * 2640.0 + (40 if epsg > 32700 else 0)
        lon, lat = to_lon_lat(epsg).transform(
            x + np.array([0, 2640, 2640, 0]), y + np.array([0, 0, 2640, 2640])
        )
        polygons.append(shapely.Polygon(np.stack(to.transform(lon, lat), axis=1)))
    return np.asarray(polygons)


@pytest.mark.parametrize(
    ("west", "south", "zones"),
    [
        (11.85, 47.9, {"32632", "32633"}),
        (-0.15, -0.12, {"32630", "32631", "32730", "32731"}),
        (179.85, -16.6, {"32701", "32760"}),
        (2.8, 59.9, {"32631", "32632"}),  # zone 32 is wider there
        (20.7, 77.9, {"32633", "32635"}),  # and zone 34 missing here
    ],
)
def test_tiles_touch_but_never_overlap(west: float, south: float, zones: set[str]) -> None:
    width, height = (0.3, 0.25) if south < 70 else (0.9, 0.25)
    region = Region(west, south, width, south + height)
    tiles = tile_region(region)
    assert {text.split("_")[0] for text in tiles.location_id} == zones
    assert len(set(tiles.location_id)) == len(tiles.location_id)
    centre = f"+lon_0={west + width / 2} +lat_0={south + height / 2}"
    local = Transformer.from_crs("EPSG:4326", f"+proj=laea {centre} +datum=WGS84", always_xy=True)
    polygons = squares(tiles.location_id, local)
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pair = first < second
    shared_m2 = shapely.area(shapely.intersection(polygons[first[pair]], polygons[second[pair]]))
    # Edges that touch in UTM differ by millimetres in another projection.
    assert shared_m2.max() < 20
    assert (shapely.area(polygons) > 2640**2 * 0.99).all()
    # Where zones and hemispheres meet, strips of up to a tile stay empty.
    covered = shapely.area(shapely.union_all(polygons))
    lon_m = width * 111_195 * math.cos(math.radians(south + height / 2))
    assert covered / (lon_m * height * 110_900) > 0.7
    x, y = local.transform(tiles.longitude, tiles.latitude)
    assert shapely.contains_xy(polygons, x, y).all()
    assert region.contains(tiles.longitude, tiles.latitude).all()


def test_all_tiles_of_a_region_inside_one_zone_are_found() -> None:
    # Brute force: every lattice point near the region, one zone.
    tiles = tile_region(Region(8.3, 46.2, 1.1, 46.9))
    column, row = (grid.ravel() for grid in np.meshgrid(np.arange(400), np.arange(1900, 2000)))
    lon, lat = to_lon_lat(32632).transform(column * 2640.0 + 1320, row * 2640.0 + 1320)
    inside = (lon >= 8.3) & (lon <= 9.4) & (lat >= 46.2) & (lat <= 46.9)
    expected = {f"32632_{c:04d}_{r:04d}" for c, r in zip(column[inside], row[inside], strict=True)}
    assert set(tiles.location_id) == expected


def test_a_patch_around_a_tiles_centre_is_the_tile() -> None:
    tiles = tile_region(Region(150.9, -33.9, 0.2, -33.7))
    for text, lon, lat in zip(tiles.location_id, tiles.longitude, tiles.latitude, strict=True):
        epsg, column, row = (int(part) for part in text.split("_"))
        x, y = from_lon_lat(epsg).transform(lon, lat)
        corner = (column * 2640, (row + 1) * 2640 + 40)
        assert (x - 1320, y + 1320) == pytest.approx(corner, abs=1e-3)
        assert patch_grid(epsg, *corner).centre_lon_lat == pytest.approx((lon, lat), abs=1e-9)


@pytest.mark.parametrize(
    ("lon", "lat", "zone"),
    [
        *[(-180, 0, 1), (180, 0, 1), (179.9, 0, 60), (0, 0, 31), (2.9, 60, 31), (4, 65, 31)],
        *[(4, 60, 32), (8.9, 75, 31), (9, 75, 33), (21, 75, 35), (41.9, 75, 37), (42, 75, 38)],
    ],
)
def test_zones_are_those_of_mgrs(lon: float, lat: float, zone: int) -> None:
    assert utm_zone(np.array([lon]), np.array([float(lat)]))[0] == zone


def test_too_large_a_tiling_is_refused() -> None:
    with pytest.raises(InputError, match="choose a smaller region"):
        make_locations(parse(kind="utm_tiling", region={"bbox": [-180, -56, 180, 84]}))
    with pytest.raises(InputError, match="no tile of 2640 m fits"):
        make_locations(parse(kind="utm_tiling", region={"bbox": [10, 85, 11, 86]}))


# --- splits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block_size_m", "buffer_m"), [(20_000, 5_000), (9_000, 9_000), (50_000, 4_000)]
)
@pytest.mark.parametrize("place", [(179.99, 10.0), (180.0, 75.0), (0.0, 90.0), (40.0, -90.0)])
def test_different_splits_are_farther_apart_than_the_buffer(
    block_size_m: float, buffer_m: float, place: tuple[float, float]
) -> None:
    rng = np.random.default_rng(5)
    lon, lat = destination(
        np.full(3000, place[0]),
        np.full(3000, place[1]),
        rng.uniform(0, 2 * np.pi, 3000),
        120_000 * np.sqrt(rng.uniform(0, 1, 3000)),
    )
    shares = SplitSettings(
        block_size_m=block_size_m, buffer_m=buffer_m, train=0.5, validation=0.25, test=0.25
    )
    split = assign_splits(lon, lat, shares, seed=2)
    used = [np.flatnonzero(split == code) for code in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    assert all(len(indices) for indices in used)
    least_m = math.inf
    for one, others in ((used[0], np.concatenate(used[1:])), (used[1], used[2])):
        for index in one:
            distance_m = haversine_m(lon[others], lat[others], lon[index], lat[index])
            least_m = min(least_m, float(distance_m.min()))
    # Farther than the buffer, yet not by much: it takes what it has to, and little more.
    assert buffer_m < least_m < 1.5 * buffer_m + 1_000


def test_buffer_takes_only_what_lies_near_another_split() -> None:
    rng = np.random.default_rng(0)
    lon = rng.uniform(-180, 180, 20_000)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    split = assign_splits(lon, lat, SplitSettings(), seed=0)
    # A block of 50 km has (50^2 - 45^2) / 50^2 = 19 % of its area within 2.5 km of its edge, where
    # the neighbour differs with probability 1 - (0.8^2 + 2 * 0.1^2) = 34 %; corners a bit more.
    assert np.mean(split == Split.BUFFER) == pytest.approx(0.19 * 0.34, abs=0.01)
    without = assign_splits(lon, lat, SplitSettings(buffer_m=0), seed=0)
    assert (without[split != Split.BUFFER] == split[split != Split.BUFFER]).all()
    for code, share in ((Split.TRAIN, 0.8), (Split.VALIDATION, 0.1), (Split.TEST, 0.1)):
        # 20,000 points in as many blocks: standard error 0.3 %.
        assert np.mean(without == code) == pytest.approx(share, abs=0.012)
    other_seed = assign_splits(lon, lat, SplitSettings(buffer_m=0), seed=1)
    assert np.mean(other_seed == without) == pytest.approx(0.8**2 + 2 * 0.1**2, abs=0.02)


def test_split_of_a_location_depends_on_its_place_only() -> None:
    lon, lat = crowded_points(9, 1000)
    whole = assign_splits(lon, lat, SplitSettings(), seed=3)
    order = np.random.default_rng(0).permutation(1000)[:300]
    np.testing.assert_array_equal(
        assign_splits(lon[order], lat[order], SplitSettings(), seed=3), whole[order]
    )


def test_one_share_needs_no_buffer() -> None:
    lon, lat = crowded_points(9, 500)
    everything = SplitSettings(train=1, validation=0, test=0)
    assert (assign_splits(lon, lat, everything, seed=0) == Split.TRAIN).all()


# --- files -------------------------------------------------------------------------------------


def test_locations_survive_a_file_and_the_bytes_repeat(tmp_path: Path) -> None:
    drawn = make_locations(parse(**CITIES | {"num_locations": 500, "seed": 7}))
    for name in ("one.parquet", "two.parquet"):
        write_locations(tmp_path / name, drawn)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.parquet", "two.parquet"}
    found = read_locations(tmp_path / "one.parquet")
    assert list(found.location_id) == list(drawn.location_id)
    for name in ("longitude", "latitude", "split"):
        np.testing.assert_array_equal(getattr(found, name), getattr(drawn, name))
    assert found.provenance["settings"]["seed"] == 7
    assert "CC-BY-4.0" in found.provenance["cities"]


def test_file_is_geoparquet(tmp_path: Path) -> None:
    tiles = make_locations(parse(kind="utm_tiling", region={"bbox": [11, 48, 11.1, 48.1]}))
    write_locations(tmp_path / "tiles.parquet", tiles)
    table = pq.read_table(tmp_path / "tiles.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"
    points = shapely.from_wkb(table["geometry"].to_pylist())
    np.testing.assert_array_equal(shapely.get_x(points), table["longitude"])
    np.testing.assert_array_equal(shapely.get_y(points), table["latitude"])
    assert table["split"].to_pylist() == tiles.split_names


def csv_file(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "list.csv").write_text(text)
    return {"kind": "file", "path": "list.csv"}


def test_ids_of_a_csv_are_kept_as_they_are(tmp_path: Path) -> None:
    values = csv_file(
        tmp_path,
        "latitude,name,location_id,longitude\n30.5,x,0000200,79.3\n-16.6,y,0000007,180\n"
        "1,z,a b,-3\n",
    )
    found = make_locations(parse(**values), tmp_path)
    assert list(found.location_id) == ["0000200", "0000007", "a b"]
    assert found.longitude.tolist() == [79.3, -180.0, -3.0]
    assert found.latitude.tolist() == [30.5, -16.6, 1.0]


def test_list_of_ssl4eo_s12_is_read_with_its_folder_names(tmp_path: Path) -> None:
    values = csv_file(tmp_path, "200,79.3,30.5\n1234567,10.0,50.0\n") | {"has_header": False}
    found = make_locations(parse(**values, id_width=7), tmp_path)
    assert list(found.location_id) == ["0000200", "1234567"]
    assert make_locations(parse(**values), tmp_path).location_id[0] == "200"


def test_geoparquet_of_points_is_enough(tmp_path: Path) -> None:
    points = shapely.to_wkb(shapely.points([[1.0, 2.0], [3.0, 4.0]]))
    pq.write_table(pa.table({"id": [5, 6], "geometry": points}), tmp_path / "list.parquet")
    wanted = parse(kind="file", path="list.parquet", id_column="id")
    found = make_locations(wanted, tmp_path)
    assert list(found.location_id) == ["5", "6"]
    assert found.latitude.tolist() == [2.0, 4.0]


def test_own_file_can_be_read_as_a_list(tmp_path: Path) -> None:
    drawn = make_locations(parse(**CITIES | {"num_locations": 50}))
    write_locations(tmp_path / "drawn.parquet", drawn)
    wanted = parse(kind="file", path="drawn.parquet")
    np.testing.assert_array_equal(make_locations(wanted, tmp_path).longitude, drawn.longitude)


def test_overlaps_of_a_file_are_refused_dropped_or_kept(tmp_path: Path) -> None:
    near = "location_id,longitude,latitude\na,179.99,0\nb,-179.99,0\nc,10,0\n"  # a, b: 2.2 km
    values = csv_file(tmp_path, near)
    with pytest.raises(InputError, match=r"1 pairs of locations are nearer .* the first a and b"):
        make_locations(parse(**values), tmp_path)
    dropped = make_locations(parse(**values, on_overlap="drop"), tmp_path)
    assert list(dropped.location_id) == ["a", "c"]
    assert dropped.provenance["num_dropped"] == 1
    assert len(make_locations(parse(**values, on_overlap="keep"), tmp_path)) == 3


HEADER = "location_id,longitude,latitude\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("location_id,longitude,latitude\n", "holds no location"),
        (HEADER + "a,1,2\nb,3,4\na,5,6\n", "id a occurs twice"),
        (HEADER + "a,1,91\n", "location a has latitude 91, which is not between -90 and 90"),
        (HEADER + "a,1,2\nb,nan,4\nc,nan,4\n", r"b has longitude nan.*\(and 1 more like it\)"),
        (HEADER + "a,,2\n", "location a has longitude nan"),
        (HEADER + "a,190,2\n", "location a has longitude 190"),
        (HEADER + "a,1,inf\n", "location a has latitude inf"),
        (HEADER + "a,east,2\n", "column longitude holds something that is no number"),
        (HEADER + ",1,2\n", "has no id"),
        ("id,lon,lat\na,1,2\n", "has no column location_id; it has id, lon, lat"),
        (HEADER + "a,1\n", "is not a CSV file"),
    ],
)
def test_bad_list_is_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        make_locations(parse(**csv_file(tmp_path, text)), tmp_path)


def good_table() -> dict[str, Any]:
    return {
        "location_id": ["a", "b"],
        "longitude": [1.0, 2.0],
        "latitude": [3.0, 4.0],
        "split": ["train", "test"],
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"location_id": ["a", "a"]}, "id a occurs twice"),
        ({"location_id": ["a", None]}, "has no id"),
        ({"latitude": [3.0, 91.0]}, "location b has latitude 91"),
        ({"longitude": [math.nan, 1.0]}, "location a has longitude nan"),
        ({"longitude": ["x", "y"]}, "holds something that is no number"),
        ({"split": ["train", "dev"]}, "has split 'dev'"),
        ({"split": None}, "has no column split"),
    ],
)
def test_bad_locations_file_is_a_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    columns = {name: values for name, values in (good_table() | change).items() if values}
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=sentence):
        read_locations(tmp_path / "bad.parquet")


def test_file_that_is_no_parquet_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("nonsense")
    for path in (tmp_path / "bad.parquet", tmp_path / "none.parquet", tmp_path):
        with pytest.raises(InputError):
            read_locations(path)
    with pytest.raises(InputError, match=r"neither \.csv nor \.parquet"):
        read_places(parse(kind="file", path="list.txt"), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read"):
        read_places(parse(kind="file", path="none.csv"), tmp_path)  # type: ignore[arg-type]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    empty = np.zeros(1)
    locations = Locations(["a"], empty, empty, np.zeros(1, dtype=np.uint8))
    (tmp_path / "folder.parquet").mkdir()
    for out in (tmp_path / "folder.parquet", tmp_path / "none" / "x.parquet"):
        with pytest.raises(InputError, match="cannot be written"):
            write_locations(out, locations)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.parquet"]


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "kind is missing; it is one of"),
        ({"kind": "everywhere"}, "kind 'everywhere' is unknown"),
        (CITIES | {"sigma": 3}, "sigma is not a setting here"),
        (CITIES | {"sigma_m": -1}, "sigma_m -1: Input should be greater than or equal to 0"),
        (CITIES | {"sigma_m": math.nan}, "sigma_m nan"),
        (CITIES | {"num_locations": 0}, "num_locations 0"),
        (
            CITIES | {"min_distance_m": 2000},
            "min_distance_m 2000: .* greater than or equal to 2640",
        ),
        (CITIES | {"seed": -1}, "seed -1"),
        ({"kind": "uniform_on_land"}, "num_locations is missing"),
        (CITIES | {"split": {"train": 0.5}}, "add up to 0.7, not to 1"),
        (CITIES | {"split": {"buffer_m": 60_000}}, "buffer_m 60000 is larger than block_size_m"),
        (LAND | {"region": {}}, "give either bbox or geojson"),
        (LAND | {"region": {"bbox": [0, 10, 5, -10]}}, "south 10 and north -10"),
        (LAND | {"region": {"bbox": [0, 10, 0, 20]}}, "two different longitudes"),
        (LAND | {"region": {"bbox": [0, 10]}}, "region.bbox"),
        (CITIES | {"a": 1, "b": 2, "c": 3, "d": 4}, "and 1 more"),
    ],
)
def test_bad_setting_is_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        parse(**values)
    assert str(caught.value).startswith("test.yaml: ")
    assert "\n" not in str(caught.value)


def test_too_many_cities_says_how_many_there_are() -> None:
    with pytest.raises(InputError, match=r"num_cities 1,000,000 .*at most \d\d,\d\d\d"):
        make_locations(parse(**CITIES | {"num_cities": 1_000_000}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("nonsense", "is not GeoJSON"),
        ("[1]", "no valid GeoJSON geometry"),
        ('{"type": "Point", "coordinates": [1, 2]}', "holds Point, not polygons"),
        (
            '{"type": "FeatureCollection", "features": [{"geometry": null}]}',
            "no valid|not polygons",
        ),
        ('{"type": "Polygon", "coordinates": [[[170,0],[190,0],[190,5],[170,0]]]}', "from 170, 0"),
    ],
)
def test_bad_region_file_is_a_sentence(content: str | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.geojson").write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_region(RegionSettings(geojson="r.geojson"), tmp_path)
