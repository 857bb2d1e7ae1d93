"""Writes folders in the published layout of SSL4EO-S12, defects included, with known truth.

`write_layout` makes N locations of smooth random imagery, quickly and deterministically by seed::

    layout = write_layout(tmp_path, num_locations=3, num_seasons=(4, 2, 1))
    layout.root, layout.labels, layout.locations["0000200"].place.x_origin

The steps of the original downloader (sample a lon/lat rectangle from each band's lattice, crop at
the centre, write one nominal corner into every file) are repeated here on their own, not imported
from the package, so that the recovery of the grid is tested against the cut and not against itself.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from pipeline.grids import from_lon_lat
from storage_schema.land_cover import MASKED
from storage_schema.products import PRODUCTS, published_statistics

PRODUCT_OF_FOLDER = {"s2c": "s2_l1c", "s2a": "s2_l2a", "s1": "s1_grd"}
LAT_LON = CRS.from_epsg(4326)
# Wavelength, nm: bands close to each other look alike.
WAVELENGTHS = {
    "B1": 443, "B2": 492, "B3": 560, "B4": 665, "B5": 704, "B6": 741, "B7": 783, "B8": 833,
    "B8A": 865, "B9": 945, "B10": 1374, "B11": 1614, "B12": 2202,
}  # fmt: skip

World = Callable[[str, int, float, float, int, int], np.ndarray]
"""(band, resolution_m, left, top, columns, rows) -> pixels; left and top in the CRS, m."""


@dataclass(frozen=True)
class Block:
    """A block of whole pixels: upper-left corner in the CRS (m) and size."""

    left: float
    top: float
    columns: int
    rows: int
    resolution_m: int

    def centre_crop(self) -> Block:
        """Return the 2.64 km crop, rounded as the original does."""
        size = 2640 // self.resolution_m
        column = int((self.columns - size + 1) * 0.5)
        row = int((self.rows - size + 1) * 0.5)
        return Block(
            self.left + column * self.resolution_m,
            self.top - row * self.resolution_m,
            size,
            size,
            self.resolution_m,
        )


@dataclass(frozen=True)
class Rectangle:
    """What Earth Engine was asked for: a rectangle of longitude and latitude, deg."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(
        cls, longitude: float, latitude: float, width_m: float = 2629.6, height_m: float = 2633.0
    ) -> Rectangle:
        """Return the rectangle around a point; sides as in the public sample."""
        flattening = 1 / 298.257223563
        eccentricity2 = flattening * (2 - flattening)
        sine2 = math.sin(math.radians(latitude)) ** 2
        normal_m = 6378137.0 / math.sqrt(1 - eccentricity2 * sine2)
        meridian_m = normal_m * (1 - eccentricity2) / (1 - eccentricity2 * sine2)
        half_width = math.degrees(width_m / 2 / (normal_m * math.cos(math.radians(latitude))))
        half_height = math.degrees(height_m / 2 / meridian_m)
        return cls(
            longitude - half_width, latitude - half_height,
            longitude + half_width, latitude + half_height,
        )  # fmt: skip

    def sample(self, epsg: int, x_lattice: float, y_lattice: float, resolution_m: int) -> Block:
        """Return the smallest block of whole pixels of a lattice that covers the rectangle."""
        x, y = from_lon_lat(epsg).transform(
            [self.left, self.right, self.left, self.right],
            [self.top, self.top, self.bottom, self.bottom],
        )
        first_column = math.floor((min(x) - x_lattice) / resolution_m)
        last_column = math.ceil((max(x) - x_lattice) / resolution_m)
        first_row = math.floor((y_lattice - max(y)) / resolution_m)
        last_row = math.ceil((y_lattice - min(y)) / resolution_m)
        return Block(
            x_lattice + first_column * resolution_m,
            y_lattice - first_row * resolution_m,
            last_column - first_column,
            last_row - first_row,
            resolution_m,
        )

    def published_transform(self, first_block: Block, size_px: int) -> Affine:
        """Return the transform of a file of `size_px`; `first_block` is the first band's."""
        crop = first_block.centre_crop()
        x_deg = (self.right - self.left) / first_block.columns
        y_deg = (self.top - self.bottom) / first_block.rows
        left = self.left + round((crop.left - first_block.left) / crop.resolution_m) * x_deg
        top = self.top - round((first_block.top - crop.top) / crop.resolution_m) * y_deg
        x_deg, y_deg = x_deg * crop.columns / size_px, y_deg * crop.rows / size_px
        return Affine(x_deg, 0, left - x_deg / 2, 0, -y_deg, top + y_deg / 2)


@dataclass(frozen=True)
class Place:
    """The truth about a location: where its arrays were cut."""

    epsg: int
    mgrs_tile: str
    x_tile: float
    y_tile: float
    rectangle: Rectangle
    x_s1: float
    y_s1: float

    def cut(self, resolution_m: int, folder: str = "s2c") -> Block:
        """Return the block a product's array of one resolution was cut from."""
        return self.sampled(resolution_m, folder).centre_crop()

    def sampled(self, resolution_m: int, folder: str = "s2c") -> Block:
        """Return the same block before the centre crop."""
        x, y = (self.x_s1, self.y_s1) if folder == "s1" else (self.x_tile, self.y_tile)
        return self.rectangle.sample(self.epsg, x, y, resolution_m)

    @property
    def x_origin(self) -> float:
        return self.cut(10).left

    @property
    def y_origin(self) -> float:
        return self.cut(10).top


@dataclass
class WrittenLocation:
    """What was written for one location; ids per folder in time order."""

    place: Place
    seasons: dict[str, list[str]] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class WrittenLayout:
    """A written folder and the truth about it."""

    root: Path
    labels: Path | None
    locations: dict[str, WrittenLocation]

    def file(self, folder: str, location_id: str, season: int, name: str) -> Path:
        """Return a file of one acquisition: season by time order, name such as ``B2.tif``."""
        written = self.locations[location_id]
        return self.root / folder / location_id / written.seasons[folder][season] / name


def write_layout(
    root: Path,
    num_locations: int = 2,
    *,
    seed: int = 0,
    folders: Sequence[str] = ("s1", "s2a", "s2c", "dw"),
    num_seasons: int | Sequence[int] | Mapping[str, int] = 4,
    differing_l2a: Sequence[int] = (),
    masked_share: float = 0.1,
    labels: bool = True,
    empty_label_every: int = 0,
    num_distinct: int | None = None,
    first_id: int = 200,
) -> WrittenLayout:
    """Write locations in the published layout.

    Args:
        root: folder to write to; made if missing.
        num_locations: how many.
        seed: same seed, same bytes (whatever the number of locations).
        folders: any of s1, s2a, s2c, dw.
        num_seasons: for all locations; or for each in turn (cycled); or per folder.
        differing_l2a: seasons in which L2A is another acquisition (ten days earlier) than L1C.
        masked_share: share of label-map pixels under a cloud, from the second season on.
        labels: also write ``labels.json`` (SSL4EO-S12-ML), from the label maps' classes.
        empty_label_every: every so many-th season of the label file has an empty list; 0: none.
        num_distinct: only so many locations have pixels of their own; the others are hard links to
            them (thousands of locations in seconds).
        first_id: number of the first location.
    """
    root.mkdir(parents=True, exist_ok=True)
    locations: dict[str, WrittenLocation] = {}
    distinct = num_locations if num_distinct is None else min(num_distinct, num_locations)
    for index in range(num_locations):
        location_id = f"{first_id + index:07d}"
        if index >= distinct:
            twin = f"{first_id + index % distinct:07d}"
            for folder in folders:
                _link_folder(root / folder / twin, root / folder / location_id)
            locations[location_id] = locations[twin]
            continue
        rng = np.random.default_rng([seed, index])
        counts = _season_counts(num_seasons, folders, index)
        locations[location_id] = _write_location(
            root, location_id, rng, counts, differing_l2a, masked_share
        )
    labels_file = None
    if labels:
        content, number = {}, 0
        for location_id, written in locations.items():
            content[location_id] = {}
            for season_id, classes in written.classes.items():
                number += 1
                empty = empty_label_every and number % empty_label_every == 0
                content[location_id][season_id] = [] if empty else classes
        labels_file = root / "labels.json"
        labels_file.write_text(json.dumps(content, indent=1, sort_keys=True))
    return WrittenLayout(root, labels_file, locations)


def random_place(rng: np.random.Generator) -> Place:
    """Draw a place on land or sea between 55 S and 70 N, anywhere in its UTM zone."""
    zone = int(rng.integers(1, 61))
    latitude = float(rng.uniform(-55, 70))
    longitude = -183.0 + 6 * zone + float(rng.uniform(-2.9, 2.9))
    return make_place(longitude, latitude, zone, rng)


def make_place(
    longitude: float,
    latitude: float,
    zone: int,
    rng: np.random.Generator,
    tile_origin: tuple[float, float] | None = None,
    rectangle: Rectangle | None = None,
) -> Place:
    """Describe a place in a zone; the tile's origin is made up unless given."""
    epsg = (32600 if latitude >= 0 else 32700) + zone
    band = "CDEFGHJKLMNPQRSTUVWX"[int((latitude + 80) // 8)]
    square = "".join(rng.choice(list("ABCDEFGHJKLMNPQRSTUV"), 2))
    if tile_origin is None:
        x, y = from_lon_lat(epsg).transform(longitude, latitude)
        south = 0.0 if latitude >= 0 else 40.0
        tile_origin = (
            60.0 * math.floor((x - rng.uniform(5e3, 1e5)) / 60),
            60.0 * math.floor((y + rng.uniform(5e3, 1e5)) / 60) + south,
        )
    return Place(
        epsg,
        f"{zone:02d}{band}{square}",
        *tile_origin,
        rectangle or Rectangle.around(longitude, latitude),
        tile_origin[0] - 1e5 + float(rng.uniform(0, 10)),
        tile_origin[1] + 1e5 + float(rng.uniform(0, 10)),
    )


def write_acquisition(
    folder_path: Path,
    folder: str,
    place: Place,
    world: World,
    time: datetime,
    cloud_percentage: float = 1.0,
    move_m: Mapping[int, tuple[int, int]] | None = None,
) -> None:
    """Write one acquisition: a GeoTIFF per band and ``metadata.json``.

    Args:
        folder_path: the acquisition's own folder; its name is the image's id.
        folder: s1, s2a or s2c.
        place: where it is cut.
        world: delivers the pixels.
        time: start of sensing, UTC.
        cloud_percentage: as in the metadata.
        move_m: resolution -> (east, south) by which its arrays are cut elsewhere than the headers
            imply: for data that were not cut as the published ones were.
    """
    folder_path.mkdir(parents=True)
    product = PRODUCTS[PRODUCT_OF_FOLDER[folder]]
    first = place.sampled(10 if folder == "s1" else 60, folder)
    described = {}
    for group in product.groups:
        block = place.cut(group.resolution_m, folder)
        east, south = (move_m or {}).get(group.resolution_m, (0, 0))
        transform = place.rectangle.published_transform(first, group.size_px)
        for band in group.bands:
            pixels = world(
                band, group.resolution_m, block.left + east, block.top - south,
                block.columns, block.rows,
            )  # fmt: skip
            write_tiff(folder_path / f"{band}.tif", pixels, transform)
            x, y = (place.x_s1, place.y_s1) if folder == "s1" else (place.x_tile, place.y_tile)
            described[band] = {
                "crs": f"EPSG:{place.epsg}",
                "crs_transform": [group.resolution_m, 0, x, 0, -group.resolution_m, y],
            }
    time_ms = int(time.timestamp() * 1000)
    metadata = {
        "system:index": folder_path.name,
        "system:time_start": time_ms,
        "system:bands": described,
    }
    if folder == "s1":
        metadata |= {"orbitProperties_pass": "ASCENDING", "relativeOrbitNumber_start": 107}
    else:
        metadata |= {
            "CLOUDY_PIXEL_PERCENTAGE": cloud_percentage,
            "MEAN_SOLAR_ZENITH_ANGLE": 30.0,
            "SENSING_ORBIT_DIRECTION": "DESCENDING",
            "SENSING_ORBIT_NUMBER": 48,
            "PROCESSING_BASELINE": "02.09",
            "MGRS_TILE": place.mgrs_tile,
        }
    (folder_path / "metadata.json").write_text(json.dumps(metadata))


def write_tiff(
    path: Path, pixels: np.ndarray, transform: Affine | None = None, **profile: object
) -> None:
    """Write a single-band GeoTIFF as the published ones are: uncompressed, "lat/lon"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    profile = {"crs": LAT_LON, "transform": transform} | profile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=1, dtype=pixels.dtype,
            **profile,
        ) as dataset:  # fmt: skip
            dataset.write(pixels, 1)


def truncate(path: Path, keep: float = 0.5) -> None:
    """Cut the end off a file, as an interrupted download does (hard links are cut loose first)."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * keep)])


class SmoothWorld:
    """Random imagery with the spatial and spectral correlation that real scenes have.

    Three fields of landscape are mixed by wavelength, so that neighbouring bands look alike; 20 m
    and 60 m pixels are means of 10 m ones. Fields cover the sampled block of one place.
    """

    def __init__(self, place: Place, rng: np.random.Generator) -> None:
        coarse = place.sampled(60)
        # Four 60 m pixels around the block: room for arrays that are cut elsewhere on purpose.
        self.left, self.top = coarse.left - 240, coarse.top + 240
        size = 60 + 6 * math.ceil((6 * max(coarse.columns, coarse.rows)) / 6)
        self.fields = np.stack([_smooth_field(size, rng) for _ in range(3)])
        self.class_field = self.fields[0] + 0.7 * self.fields[2]

    def season(self, rng: np.random.Generator) -> SmoothWorld:
        """Return the same landscape at another time: one field fades, another appears."""
        other = object.__new__(SmoothWorld)
        other.left, other.top, other.class_field = self.left, self.top, self.class_field
        other.fields = self.fields.copy()
        other.fields[1] = 0.8 * other.fields[1] + 0.6 * _smooth_field(self.fields.shape[1], rng)
        return other

    def cut(self, values: np.ndarray, resolution_m: int, block: Block) -> np.ndarray:
        """Return (..., rows, columns) means over the pixels of a block on the 10 m lattice."""
        factor = resolution_m // 10
        column = round((block.left - self.left) / 10)
        row = round((self.top - block.top) / 10)
        part = values[
            ..., row : row + block.rows * factor, column : column + block.columns * factor
        ]
        shape = (*values.shape[:-2], block.rows, factor, block.columns, factor)
        return part.reshape(shape).mean((-3, -1))

    def imagery(self, folder: str, rng: np.random.Generator) -> World:
        """Return the pixels of one acquisition as a `World`."""
        statistics = published_statistics(PRODUCT_OF_FOLDER[folder])
        cache: dict[tuple[int, float, float], np.ndarray] = {}

        def world(
            band: str, resolution_m: int, left: float, top: float, columns: int, rows: int
        ) -> np.ndarray:
            key = (resolution_m, left, top)
            if key not in cache:
                block = Block(left, top, columns, rows, resolution_m)
                cache[key] = self.cut(self.fields, resolution_m, block)
            mean, std = statistics[band]
            wavelength = WAVELENGTHS.get(band, 500 if band == "VV" else 700)
            weights = np.exp(-(((np.log(wavelength) - np.log([450, 850, 1700])) / 0.5) ** 2))
            mixed = np.tensordot((weights / np.linalg.norm(weights)), cache[key], 1)
            mixed += rng.normal(0, 0.6 if folder == "s1" else 0.02, mixed.shape)
            values = mean + 0.8 * std * mixed
            if folder == "s1":
                return values.astype(np.float32)
            return np.clip(np.rint(values), 1, 20000).astype(np.uint16)

        return world


def _smooth_field(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random field with a power-law spectrum, zero mean and unit variance."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((size, size)))
    values = np.fft.irfft2(noise * frequency**-1.4, (size, size))
    return ((values - values.mean()) / values.std()).astype(np.float32)


def _season_counts(
    num_seasons: int | Sequence[int] | Mapping[str, int], folders: Sequence[str], index: int
) -> dict[str, int]:
    if isinstance(num_seasons, Mapping):
        return {folder: num_seasons.get(folder, 0) for folder in folders}
    count = num_seasons if isinstance(num_seasons, int) else num_seasons[index % len(num_seasons)]
    return dict.fromkeys(folders, count)


def _write_location(
    root: Path,
    location_id: str,
    rng: np.random.Generator,
    counts: Mapping[str, int],
    differing_l2a: Sequence[int],
    masked_share: float,
) -> WrittenLocation:
    place = random_place(rng)
    written = WrittenLocation(place, {folder: [] for folder in counts})
    landscape = SmoothWorld(place, rng)
    start = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 300)))
    for season in range(max(counts.values(), default=0)):
        world = landscape.season(rng)
        time = start + timedelta(days=90 * season, minutes=int(rng.integers(0, 1440)))
        for folder in ("s2c", "s2a", "s1"):
            if season >= counts.get(folder, 0):
                continue
            taken = time
            if folder == "s2a" and season in differing_l2a:
                taken = time - timedelta(days=10)
            if folder == "s1":
                taken = time + timedelta(days=3)
            image_id = _image_id(folder, place, taken)
            written.seasons[folder].append(image_id)
            write_acquisition(
                root / folder / location_id / image_id,
                folder,
                place,
                world.imagery(folder, rng),
                taken,
                cloud_percentage=float(rng.uniform(0, 20)),
            )
        optical = [f for f in ("s2c", "s2a") if season < counts.get(f, 0)]
        if optical and season < counts.get("dw", 0):
            image_id = written.seasons[optical[0]][season]
            labels = _label_map(world, place, rng, masked_share if season else 0.0)
            written.seasons["dw"].append(image_id)
            written.classes[image_id] = [str(c) for c in np.unique(labels) if c != MASKED]
            transform = place.rectangle.published_transform(place.sampled(60), 264)
            write_tiff(
                root / "dw" / location_id / image_id / "label.tif", labels, transform,
                compress="deflate", nodata=MASKED,
            )  # fmt: skip
    return written


def _image_id(folder: str, place: Place, time: datetime) -> str:
    if folder == "s1":
        end = time + timedelta(seconds=25)
        return f"S1A_IW_GRDH_1SDV_{time:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}_032904_03CFBA_D457"
    return f"{time:%Y%m%dT%H%M%S}_{time + timedelta(seconds=9):%Y%m%dT%H%M%S}_T{place.mgrs_tile}"


def _label_map(
    world: SmoothWorld, place: Place, rng: np.random.Generator, masked_share: float
) -> np.ndarray:
    values = world.cut(world.class_field, 10, place.cut(10))
    present = np.sort(rng.choice(9, int(rng.integers(2, 7)), replace=False))
    edges = np.quantile(values, np.linspace(0, 1, present.size + 1)[1:-1])
    labels = present[np.digitize(values, edges)].astype(np.uint8)
    if masked_share:
        cloud = _smooth_field(264, rng)
        labels[cloud > np.quantile(cloud, 1 - masked_share)] = MASKED
    return labels


def _link_folder(source: Path, target: Path) -> None:
    """Make the same files appear under another name, without a copy where links work."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copyfile(path, copy)
