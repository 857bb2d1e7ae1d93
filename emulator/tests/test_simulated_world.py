"""The simulated world: one answer to one question, and what holds between its images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from earth_engine_emulator.simulated_world.ground import make_ground
from earth_engine_emulator.simulated_world.lattices import PixelBox
from earth_engine_emulator.simulated_world.mgrs_tiles import Tile, tile_named, tiles_touching
from earth_engine_emulator.simulated_world.world import SimulatedWorld
from earth_engine_emulator.worlds import Bounds, ImageRecord, TooManyImagesError

L1C, L2A = "COPERNICUS/S2_HARMONIZED", "COPERNICUS/S2_SR_HARMONIZED"
S1, LABELS = "COPERNICUS/S1_GRD", "GOOGLE/DYNAMICWORLD/V1"
COLLECTIONS = (L1C, L2A, S1, LABELS)
PLACES = {
    "Nairobi": (36.82, -1.29),
    "Munich": (11.57, 48.14),
    "Fiji, at the antimeridian": (179.9, -16.8),
    "Tromso": (18.95, 69.65),
    "Ushuaia": (-68.3, -54.8),
    "open sea": (-30.0, 20.0),
}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def around(place: tuple[float, float], margin: float = 0.02) -> Bounds:
    return Bounds(place[0] - margin, place[1] - margin, place[0] + margin, place[1] + margin)


def images(
    world: SimulatedWorld,
    collection: str,
    place: tuple[float, float] = PLACES["Munich"],
    start: str = "2021-06-01",
    end: str = "2021-07-01",
) -> list[ImageRecord]:
    return world.find_images(collection, around(place), ms(start), ms(end))


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return SimulatedWorld()


def window(
    world: SimulatedWorld, image: ImageRecord, bands: list[str], *box: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    row, column, height, width = box
    return world.read(image, bands, row=row, column=column, height=height, width=width)


def inland_corner(image: ImageRecord, place: tuple[float, float]) -> tuple[int, int]:
    """Row and column, in pixels of 10 m, of a patch around a place; multiples of 12."""
    lattice = image.bands[1].lattice
    x, y = Transformer.from_crs(4326, lattice.crs, always_xy=True).transform(*place)
    row, column = (lattice.y_origin - y) / 10, (x - lattice.x_origin) / 10
    return int(row) // 12 * 12, int(column) // 12 * 12


# --- images and their metadata --------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACES)
def test_every_place_has_images_and_every_image_is_found_by_its_id(
    world: SimulatedWorld, name: str
) -> None:
    for collection in (L1C, L2A, LABELS):
        found = images(world, collection, PLACES[name], "2021-03-15", "2021-06-15")
        assert found, f"{collection} has nothing at {name}"
        assert all(world.find_image(image.asset_id) == image for image in found)
    if name != "open sea":
        assert images(world, S1, PLACES[name], "2021-03-15", "2021-06-15")


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_spans_of_time_add_up(world: SimulatedWorld, collection: str) -> None:
    whole = images(world, collection, end="2021-09-01")
    parts = [
        image
        for start, end in (("2021-06-01", "2021-07-07"), ("2021-07-07", "2021-09-01"))
        for image in images(world, collection, start=start, end=end)
    ]
    assert [image.asset_id for image in whole] == [image.asset_id for image in parts]
    assert whole == sorted(whole, key=lambda image: (image.time_start_ms, image.index))


@pytest.mark.parametrize("asset", ["", L1C, f"{L1C}/nonsense", f"{S1}/S1A", "OTHER/COLLECTION/x"])
def test_what_does_not_exist_is_not_found(world: SimulatedWorld, asset: str) -> None:
    assert world.find_image(asset) is None


def test_an_image_of_another_date_does_not_exist(world: SimulatedWorld) -> None:
    image = images(world, L1C)[0]
    assert world.find_image(image.asset_id.replace("/2021", "/2031")) is None
    assert world.find_image(image.asset_id[:-5] + "55HBU") is None


def test_products_of_one_acquisition_share_their_index(world: SimulatedWorld) -> None:
    l1c: dict[str, ImageRecord] = {}
    l2a: set[str] = set()
    labels: set[str] = set()
    for place in PLACES.values():
        l1c |= {image.index: image for image in images(world, L1C, place, end="2021-12-01")}
        l2a |= {image.index for image in images(world, L2A, place, end="2021-12-01")}
        labels |= {image.index for image in images(world, LABELS, place, end="2021-12-01")}
    assert l2a < set(l1c)
    cloudy = {
        index
        for index, image in l1c.items()
        if float(image.properties["CLOUDY_PIXEL_PERCENTAGE"]) > 35
    }
    assert cloudy
    assert labels == set(l1c) - cloudy


def test_tiles_overlap_and_orbits_cross(world: SimulatedWorld) -> None:
    found = images(world, L1C, (11.95, 48.2), "2021-01-01", "2021-12-01")
    assert len({image.index[-5:] for image in found}) >= 2
    passes = [
        {image.properties["orbitProperties_pass"] for image in images(world, S1, place)}
        for place in PLACES.values()
    ]
    # Some places are seen from both sides, some from one, as since 2017.
    assert {"ASCENDING", "DESCENDING"} in passes
    assert any(len(directions) == 1 for directions in passes)


def test_some_months_are_missing(world: SimulatedWorld) -> None:
    months: set[tuple[str, str]] = set()
    for place in ((11.57, 48.14), (36.82, -1.29), (77.2, 28.6)):
        for image in images(world, L1C, place, "2017-01-01", "2025-01-01"):
            months.add((image.index[-5:], image.index[:6]))
    tiles = {tile for tile, _ in months}
    assert 0.85 < len(months) / (len(tiles) * 96) < 1.0


def test_searching_the_whole_earth_is_refused(world: SimulatedWorld) -> None:
    with pytest.raises(TooManyImagesError, match="filter by bounds and date first"):
        world.find_images(L1C, None, None, None)
    with pytest.raises(TooManyImagesError, match="filter by bounds and date first"):
        world.find_images(L1C, Bounds(-180, -80, 180, 80), ms("2021-01-01"), ms("2022-01-01"))


# --- lattices -------------------------------------------------------------------------------------


def tiles() -> list[Tile]:
    return [
        tile
        for place in PLACES.values()
        for tile in tiles_touching(around((min(place[0], 179.5), place[1]), 0.4))
    ]


def test_tiles_lie_where_those_of_sentinel_2_lie() -> None:
    found = tiles()
    assert len(found) >= 8
    for tile in found:
        assert tile_named(tile.name) == tile
        assert tile.x_origin % 60 == 0
        # Northings of the south count from 10,000 km, which is no multiple of 60 m.
        assert tile.y_origin % 60 == (40 if tile.crs.startswith("EPSG:327") else 0)


# Upper left corners in the provider's public tiling grid.
@pytest.mark.parametrize(
    ("name", "crs", "x_origin", "y_origin"),
    [
        ("32TPT", "EPSG:32632", 600_000, 5_300_040),
        ("18SVG", "EPSG:32618", 399_960, 4_200_000),
        ("31TFJ", "EPSG:32631", 600_000, 4_900_020),
        ("37MBU", "EPSG:32737", 199_980, 9_900_040),
    ],
)
def test_known_tiles(name: str, crs: str, x_origin: float, y_origin: float) -> None:
    assert tile_named(name) == Tile(name, crs, x_origin, y_origin)


# --- pixels ---------------------------------------------------------------------------------------

BANDS: list[tuple[str, list[str], int]] = [
    (L1C, ["B2", "B8"], 1),
    (L1C, ["B5", "B12"], 2),
    (L1C, ["B1", "B10"], 6),
    (L2A, ["B4"], 1),
    (L2A, ["B9"], 6),
    (LABELS, ["label", "trees"], 1),
]


def cloudy_of(found: list[ImageRecord]) -> ImageRecord:
    """The image with the most cloud; of labels, simply the last."""
    return max(found, key=lambda image: image.properties.get("CLOUDY_PIXEL_PERCENTAGE", 0.0))


@pytest.mark.parametrize(("collection", "bands", "factor"), BANDS)
@pytest.mark.parametrize("name", ["Munich", "Nairobi", "Ushuaia"])
def test_a_pixel_does_not_depend_on_the_window(
    world: SimulatedWorld, name: str, collection: str, bands: list[str], factor: int
) -> None:
    found = images(world, collection, PLACES[name], "2021-03-15", "2021-06-15")
    image = cloudy_of(found)
    row, column = (start // factor for start in inland_corner(image, PLACES[name]))
    whole = window(world, image, bands, row, column, 90, 80)
    for top, left, height, width in ((7, 5, 31, 29), (0, 0, 1, 1), (60, 43, 30, 37)):
        part = window(SimulatedWorld(), image, bands, row + top, column + left, height, width)
        inside = (slice(top, top + height), slice(left, left + width))
        for band in bands:
            for ours, theirs in zip(part[band], whole[band], strict=True):
                np.testing.assert_array_equal(ours, theirs[inside])


def test_a_backscatter_pixel_does_not_depend_on_the_window(world: SimulatedWorld) -> None:
    image = next(i for i in images(world, S1) if len(i.bands) > 2)
    row, column = image.bands[0].height // 2, image.bands[0].width // 2
    bands = ["VV", "VH", "angle"] if image.bands[2].lattice == image.bands[0].lattice else ["VV"]
    whole = window(world, image, bands, row, column, 90, 80)
    part = window(SimulatedWorld(), image, bands, row + 7, column + 5, 31, 29)
    for band in bands:
        np.testing.assert_array_equal(part[band][0], whole[band][0][7:38, 5:34])


def test_threads_and_order_change_nothing() -> None:
    world = SimulatedWorld()
    work = [
        (image, bands) for collection, bands, _ in BANDS for image in images(world, collection)[:3]
    ]

    def read(world: SimulatedWorld, image: ImageRecord, bands: list[str]) -> list[Any]:
        return [
            values
            for pair in window(world, image, bands, 900, 900, 40, 40).values()
            for values in pair
        ]

    alone = [read(SimulatedWorld(), *one) for one in work]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda one: read(world, *one), reversed(work)))[::-1]
    for ours, theirs in zip(alone, shared, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_ground_is_the_same_in_overlapping_tiles() -> None:
    left, right = tile_named("32TPT"), tile_named("32TQT")
    assert left is not None
    assert right is not None
    # The same 240 x 240 pixels of 10 m, counted from either tile's corner.
    shift = int((right.x_origin - left.x_origin) / 10)
    ours = make_ground(PixelBox(left.lattice(10), 4_000, shift + 300, 240, 240))
    theirs = make_ground(PixelBox(right.lattice(10), 4_000, 300, 240, 240))
    assert (ours.cover == theirs.cover).mean() > 0.999
    np.testing.assert_allclose(ours.temperature, theirs.temperature, atol=0.05)


def test_ground_goes_on_across_a_zone() -> None:
    """At 12 deg east, zones 32 and 33 meet: what one shows of a place, the other shows too."""
    to_wgs = {
        crs: Transformer.from_crs(crs, 4326, always_xy=True) for crs in ("EPSG:32632", "EPSG:32633")
    }
    west, east = (
        next(t for t in tiles_touching(around((12.0, 48.2), 0.05)) if t.crs == crs)
        for crs in to_wgs
    )
    x, y = Transformer.from_crs(4326, west.crs, always_xy=True).transform(12.0, 48.2)
    column, row = int((x - west.x_origin) // 10), int((west.y_origin - y) // 10)
    ours = make_ground(PixelBox(west.lattice(10), row, column, 200, 200))
    xs, ys = PixelBox(west.lattice(10), row, column, 200, 200).easting_northing()
    lon, lat = to_wgs[west.crs].transform(*np.meshgrid(xs, ys))
    x, y = Transformer.from_crs(4326, east.crs, always_xy=True).transform(lon, lat)
    columns = ((x - east.x_origin) // 10).astype(int)
    rows = ((east.y_origin - y) // 10).astype(int)
    box = PixelBox(
        east.lattice(10), rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1
    )
    theirs = make_ground(box).cover[rows - rows.min(), columns - columns.min()]
    # Pixels are not the same squares; borders of fields may fall either way.
    assert (ours.cover == theirs).mean() > 0.9


def test_pixels_are_masked_outside_the_footprint(world: SimulatedWorld) -> None:
    seen_both = 0
    for image in images(world, L1C, (11.95, 48.2), "2021-06-01", "2021-07-01"):
        lattice = image.bands[1].lattice
        ring = shapely.Polygon(image.footprint)
        to_wgs = Transformer.from_crs(lattice.crs, 4326, always_xy=True)
        for row in range(300, 10_800, 1_500):
            for column in range(300, 10_800, 1_500):
                values, valid = window(world, image, ["B2"], row, column, 1, 1)["B2"]
                x = lattice.x_origin + 10 * column + 5
                y = lattice.y_origin - 10 * row - 5
                point = shapely.Point(*to_wgs.transform(x, y))
                if ring.boundary.distance(point) > 0.002:
                    assert bool(valid[0, 0]) == ring.contains(point)
                    assert (values[0, 0] > 0) == bool(valid[0, 0])
                    seen_both |= 1 << bool(valid[0, 0])
    assert seen_both == 3


def test_labels_are_masked_under_cloud_only(world: SimulatedWorld) -> None:
    found = images(world, L1C, start="2021-01-01", end="2022-01-01")
    labelled = {
        image.index: image for image in images(world, LABELS, start="2021-01-01", end="2022-01-01")
    }
    clear, covered = [], []
    for image in found:
        if image.index not in labelled:
            continue
        masked = []
        for row in range(1_000, 10_000, 2_500):
            seen = window(world, image, ["B2"], row, row, 100, 100)["B2"][1]
            valid = window(world, labelled[image.index], ["label"], row, row, 100, 100)["label"][1]
            assert not (valid & ~seen).any()
            if seen.all():
                masked.append(1 - valid.mean())
        if masked:
            share = float(image.properties["CLOUDY_PIXEL_PERCENTAGE"]) / 100
            (clear if share < 0.01 else covered).append((share, float(np.mean(masked))))
    assert np.mean([masked for _, masked in clear]) < 0.05
    assert np.mean([masked for share, masked in covered if share > 0.1]) > 0.05


def test_labels_are_right_mostly_and_wrong_realistically(world: SimulatedWorld) -> None:
    """Two clear dates of one summer: confusion is drawn anew, the ground is not."""
    by_tile: dict[str, list[np.ndarray]] = {}
    for image in images(world, LABELS, end="2021-09-01"):
        row, column = inland_corner(image, PLACES["Munich"])
        if not (0 <= row <= 10_600 and 0 <= column <= 10_600):
            continue
        values, valid = window(world, image, ["label"], row, column, 200, 200)["label"]
        if valid.all():
            by_tile.setdefault(image.index[-5:], []).append(values)
    pairs = [(maps[0], maps[1]) for maps in by_tile.values() if len(maps) > 1]
    assert pairs
    for first, second in pairs:
        assert 0.6 < (first == second).mean() < 0.999
