"""What the source makes of replies: pure functions, no service."""

from __future__ import annotations

import io
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grids import from_lon_lat, to_lon_lat
from pipeline.sources.date_windows import SeasonSettings
from pipeline.sources.earth_engine.acquisitions import Candidate
from pipeline.sources.earth_engine.collections import COLLECTIONS
from pipeline.sources.earth_engine.errors import Failure, classify, missing_asset
from pipeline.sources.earth_engine.listing import (
    parse_listing,
    parse_transform,
    search_box,
)
from pipeline.sources.earth_engine.pixels import (
    PixelRequest,
    UnusableReplyError,
    band_name,
    decode_npy,
    patch_pixels,
    place_grid,
    plan_requests,
    to_centi_db,
)
from storage_schema.products import PRODUCT_NAMES, PRODUCTS
from storage_schema.status import OrbitPass

TILE = Candidate(
    id="20210621T101559_20210621T101753_T32TPT",
    time_ms=0,
    crs="EPSG:32632",
    transform=(60.0, 0.0, 600_000.0, 0.0, -60.0, 4_800_000.0),
    tile="32TPT",
)
SOUTHERN = Candidate(
    id="x", time_ms=0, crs="EPSG:32760", transform=(60.0, 0.0, 300_000.0, 0.0, -60.0, 5_900_020.0)
)
PLACE = to_lon_lat(32632).transform(650_000.0, 4_750_000.0)


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "meaning"),
    [
        (None, "Connection aborted", Failure.TRANSIENT),
        (429, "Too Many Requests", Failure.TRANSIENT),
        (500, "An internal error has occurred", Failure.TRANSIENT),
        (503, "Ok", Failure.TRANSIENT),
        (403, "Quota exceeded for quota metric: rateLimitExceeded", Failure.TRANSIENT),
        (403, "Caller does not have required permission to use project p", Failure.REFUSED),
        (401, "Request had invalid authentication credentials.", Failure.REFUSED),
        (404, "Project not found", Failure.REFUSED),
        (400, "User memory limit exceeded.", Failure.TOO_LARGE),
        (
            400,
            "Total request size (61343744 bytes) must be less than or equal to 50331648 bytes.",
            Failure.TOO_LARGE,
        ),
        (
            400,
            "Image.load: Image asset 'COPERNICUS/S2_HARMONIZED/x' not found (does not exist or "
            "caller does not have access).",
            Failure.DISAPPEARED,
        ),
        (400, "Computation timed out.", Failure.TRANSIENT),
        (400, "Image.select: Band pattern 'B99' did not match any bands.", Failure.PERMANENT),
    ],
)
def test_meaning_of_failures(status: int | None, message: str, meaning: Failure) -> None:
    assert classify(status, message) is meaning


def test_the_missing_asset_is_named() -> None:
    message = "Image.load: Image asset 'COPERNICUS/S1_GRD/S1A' not found (does not exist or ...)."
    assert missing_asset(message) == "COPERNICUS/S1_GRD/S1A"
    assert missing_asset("Computation timed out.") is None


# --- listings -----------------------------------------------------------------------------------

ROW = {
    "system:index": TILE.id,
    "system:time_start": 1624271273000,
    "contains_patch": True,
    "CLOUDY_PIXEL_PERCENTAGE": 3.5,
    "MEAN_SOLAR_ZENITH_ANGLE": 25.0,
    "MGRS_TILE": "32TPT",
    "SENSING_ORBIT_DIRECTION": "DESCENDING",
    "SENSING_ORBIT_NUMBER": 65,
    "crs": "EPSG:32632",
    "transform": 'PARAM_MT["Affine", \n  PARAMETER["num_row", 3], \n  PARAMETER["num_col", 3], \n  '
    'PARAMETER["elt_0_0", 60.0], \n  PARAMETER["elt_0_2", 600000.0], \n  '
    'PARAMETER["elt_1_1", -60.0], \n  PARAMETER["elt_1_2", 4800000.0]]',
}


def test_a_row_becomes_a_candidate() -> None:
    row = [ROW[name] for name in COLLECTIONS["s2_l1c"].columns]
    listing = parse_listing({"s2_l1c": {"size": 1, "rows": [row]}})
    (image,) = listing.images["s2_l1c"]
    assert image == Candidate(
        id=TILE.id,
        time_ms=1624271273000,
        cloud_percentage=3.5,
        sun_elevation_deg=65.0,
        tile="32TPT",
        crs="EPSG:32632",
        transform=TILE.transform,
        orbit_pass=OrbitPass.DESCENDING,
        relative_orbit=65,
    )
    assert not listing.num_incomplete


def test_rows_that_the_service_dropped_are_noticed() -> None:
    listing = parse_listing({"dynamic_world": {"size": 3, "rows": [["a", 1], ["b", 2]]}})
    assert listing.num_incomplete == {"dynamic_world": 1}
    with pytest.raises(ValueError, match="more rows than images"):
        parse_listing({"dynamic_world": {"size": 0, "rows": [["a", 1]]}})


@pytest.mark.parametrize("reply", [{"s2_l1c": None}, {"s2_l1c": {"size": 1, "rows": [["a"]]}}])
def test_a_damaged_listing_is_refused(reply: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_listing(reply)


@pytest.mark.parametrize("value", [[60, 0, 6e5, 0, -60, 4.8e6], "[60, 0, 6e5, 0, -60, 4.8e6]"])
def test_transforms_come_as_lists_too(value: object) -> None:
    assert parse_transform(value) == TILE.transform  # type: ignore[arg-type]


@given(st.floats(-179, 179), st.floats(-70, 80), st.floats(0, 60))
def test_the_search_box_holds_the_patch_wherever_it_is_snapped(
    longitude: float, latitude: float, shift: float
) -> None:
    zone = int((longitude + 180) // 6) + 1
    epsg = (32600 if latitude >= 0 else 32700) + zone
    anchor = Candidate(
        "x", 0, crs=f"EPSG:{epsg}", transform=(60.0, 0.0, 6e5 + shift, 0.0, -60.0, 5e6 - shift)
    )
    grid = place_grid(longitude, latitude, anchor, None)
    left, bottom, right, top = grid.bounds
    lon, lat = to_lon_lat(epsg).transform([left, left, right, right], [bottom, top, bottom, top])
    ring = np.asarray(search_box(longitude, latitude))
    lon = longitude + (np.asarray(lon) - longitude + 180) % 360 - 180
    assert ring[:, 0].min() < lon.min()
    assert lon.max() < ring[:, 0].max()
    assert ring[:, 1].min() < min(lat)
    assert max(lat) < ring[:, 1].max()


# --- grids and requests -------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [TILE, SOUTHERN])
def test_patches_sit_on_the_lattice_of_their_tile(anchor: Candidate) -> None:
    assert anchor.transform is not None
    epsg = int(anchor.crs.removeprefix("EPSG:"))
    x, y = anchor.transform[2] + 40_000.0, anchor.transform[5] - 30_000.0
    lon, lat = to_lon_lat(epsg).transform(x, y)
    grid = place_grid(lon, lat, anchor, None)
    assert (grid.x_origin - anchor.transform[2]) % 60 == 0
    assert (grid.y_origin - anchor.transform[5]) % 60 == 0
    assert abs(grid.x_origin + 1320 - x) <= 30 + 1e-6
    assert abs(grid.y_origin - 1320 - y) <= 30 + 1e-6


def images() -> dict[str, Candidate]:
    radar = Candidate(
        "r", 0, crs="EPSG:32633", transform=(10.0, 0.0, 100_003.0, 0.0, -10.0, 4_900_007.0)
    )
    return {name: radar if name == "s1_grd" else TILE for name in PRODUCT_NAMES}


def test_one_request_carries_all_28_bands() -> None:
    grid = place_grid(*PLACE, TILE, None)
    (request,) = plan_requests(images(), grid, TILE, s1_by_service=True)
    assert sum(len(PRODUCTS[name].bands) for name in request.images) == 28
    # 25 uint16 and 2 float32 bands, one uint8; a mask byte each.
    assert request.counted_bytes == 264 * 264 * (25 * 3 + 2 * 5 + 2)
    assert [len(part.images) for part in request.split()] == [1, 1, 1, 1]


def test_own_resampling_of_s1_takes_one_request_more() -> None:
    grid = place_grid(*PLACE, TILE, None)
    optical, radar = plan_requests(images(), grid, TILE, s1_by_service=False)
    assert set(radar.images) == {"s1_grd"}
    assert not radar.resample_s1
    assert radar.window.crs == "EPSG:32633"
    # On the pixels of the image itself, and around the whole patch.
    assert (radar.window.transform[2] - 100_003.0) % 10 == 0
    assert (radar.window.transform[5] - 4_900_007.0) % 10 == 0
    assert 264 < radar.window.width < 330
    assert "s1_grd" not in optical.images


def test_another_zone_asks_for_the_tile_around_the_patch() -> None:
    grid = place_grid(*PLACE, TILE, 32633)
    assert grid.epsg == 32633
    assert grid.x_origin % 60 == 0
    optical, radar = plan_requests(images(), grid, TILE, s1_by_service=True)
    assert optical.window.crs == TILE.crs
    assert optical.window.width % 6 == optical.window.height % 6 == 0
    left, top = optical.window.transform[2], optical.window.transform[5]
    right, bottom = left + 10 * optical.window.width, top - 10 * optical.window.height
    assert (left - 600_000) % 60 == (top - 4_800_000) % 60 == 0
    west, south, east, north = grid.bounds
    lon, lat = to_lon_lat(32633).transform([west, west, east, east], [south, north, south, north])
    x, y = from_lon_lat(32632).transform(lon, lat)
    assert left + 60 < min(x)
    assert max(x) < right - 60
    assert bottom + 60 < min(y)
    assert max(y) < top - 60
    assert radar.window.crs == "EPSG:32633"
    assert radar.resample_s1


# --- replies ------------------------------------------------------------------------------------


def reply_of(request: PixelRequest, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (request.window.height, request.window.width)
    fields = [
        (band_name(name, band), COLLECTIONS[name].reply_dtype)
        for name in request.images
        for band in PRODUCTS[name].bands
    ]
    reply = np.zeros(shape, fields)
    for name in request.images:
        for group in PRODUCTS[name].groups:
            step = group.resolution_m // 10
            for band in group.bands:
                rough = rng.integers(0, 9, (-(-shape[0] // step), -(-shape[1] // step)))
                upsampled = rough.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]
                reply[band_name(name, band)] = upsampled
    return reply


def npy(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def request_for_all() -> tuple[PixelRequest, object]:
    grid = place_grid(*PLACE, TILE, None)
    return plan_requests(images(), grid, TILE, s1_by_service=True)[0], grid


def test_coarse_bands_are_decimated_without_resampling() -> None:
    request, grid = request_for_all()
    reply = decode_npy(npy(reply_of(request)), request)
    found = patch_pixels("s2_l1c", reply, request.window, grid)  # type: ignore[arg-type]
    for group in PRODUCTS["s2_l1c"].groups:
        step = group.resolution_m // 10
        array = found[group.array]
        assert array.shape == (len(group.bands), group.size_px, group.size_px)
        for plane, band in zip(array, group.bands, strict=True):
            expected = reply[band_name("s2_l1c", band)]
            np.testing.assert_array_equal(plane.repeat(step, 0).repeat(step, 1), expected)


def test_unusable_replies_are_told_from_good_ones() -> None:
    request, _ = request_for_all()
    good = reply_of(request)
    body = npy(good)
    np.testing.assert_array_equal(decode_npy(body, request), good)
    names = list(good.dtype.names or ())
    for bad, match in (
        (b"<html>Ok</html>", "not NPY"),
        (body[:-1], "bytes of pixels"),
        (body[:40], "header is damaged"),
        (body + b"x", "bytes of pixels"),
        (npy(good[:-1]), "263, 264"),
        (npy(good[names[:-1]].copy()), "bands"),
        (npy(good.astype([(name, "float64") for name in names])), "bands"),
        (b"\x93NUMPY\x01\x00\x10\x00__import__('os')", "header is damaged"),
    ):
        with pytest.raises(UnusableReplyError, match=match):
            decode_npy(bad, request)


def test_backscatter_is_stored_in_hundredths_of_db() -> None:
    given_db = np.asarray([-12.346, np.nan, np.inf, 0.005, 400.0], np.float32)
    assert to_centi_db(given_db).tolist() == [-1235, -32768, -32768, 0, 32767]


# --- seasons ------------------------------------------------------------------------------------


def test_shifted_windows_are_a_function_of_seed_and_location() -> None:
    settings = SeasonSettings(
        reference_dates=(date(2021, 9, 22), date(2021, 6, 21)), max_shift_days=364
    )
    windows = settings.windows_of("0000001")
    assert windows == settings.windows_of("0000001")
    shifts = {settings.windows_of(f"{n:07d}")[0].start_ms for n in range(300)}
    assert len(shifts) > 150
    day = 86_400_000
    # All windows of a location move together.
    assert windows[0].centre_ms - windows[1].centre_ms == 93 * day
    assert windows[0].end_ms - windows[0].start_ms == 31 * day
