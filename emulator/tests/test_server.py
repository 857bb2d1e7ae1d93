"""The REST surface: discovery, projects, bodies, headers, and clients that are not ours."""

from __future__ import annotations

import gzip
import json
from typing import Any

import ee
import numpy as np
import pytest
import requests
import xarray as xr
from serving import PROJECT, running
from small_world import DW, L1C, S1, SmallWorld, expected_pixels

from earth_engine_emulator.limits import Limits

pytestmark = pytest.mark.server
CRS, X, Y = "EPSG:32618", 399960, 4200000
XEE_WARNINGS = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
"""xee multiplies affine transforms in a way that the package affine will drop."""
ONE = {"expression": {"result": "0", "values": {"0": {"constantValue": 1}}}}


@pytest.fixture
def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    return made


def test_discovery_names_this_server_and_version_one(
    session: requests.Session, address: str
) -> None:
    document = session.get(f"{address}/$discovery/rest?version=v1", timeout=30).json()
    assert document["rootUrl"] == f"{address}/"
    assert document["version"] == "v1"
    assert "v1alpha" not in json.dumps(document["resources"])
    methods = document["resources"]["projects"]["resources"]["assets"]["methods"]
    assert {"filter", "view", "pageSize"} <= set(methods["listAssets"]["parameters"])


def test_algorithms_are_the_packages_list(session: requests.Session, address: str) -> None:
    listed = session.get(f"{address}/v1/projects/{PROJECT}/algorithms", timeout=30).json()
    assert len(listed["algorithms"]) > 900


@pytest.mark.parametrize("project", ["x", "Capitals-Are-Wrong", "ends-with-"])
def test_a_project_that_cannot_be_is_not_found(
    session: requests.Session, address: str, project: str
) -> None:
    reply = session.post(f"{address}/v1/projects/{project}/value:compute", json=ONE, timeout=30)
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "code": 404,
        "message": f"Project 'projects/{project}' not found or deleted.",
        "status": "NOT_FOUND",
    }


def test_paths_that_are_not_there(session: requests.Session, address: str) -> None:
    for reply in (
        session.get(f"{address}/v1/projects/{PROJECT}/operations", timeout=30),
        session.get(f"{address}/v1/projects/{PROJECT}/value:compute", timeout=30),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["status"] == "NOT_FOUND"


def test_bodies_may_be_compressed(session: requests.Session, address: str) -> None:
    url = f"{address}/v1/projects/{PROJECT}/value:compute"
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    packed = gzip.compress(json.dumps(ONE).encode())
    assert session.post(url, data=packed, headers=headers, timeout=30).json() == {"result": 1}
    broken = session.post(url, data=packed[:-5], headers=headers, timeout=30)
    assert broken.status_code == 400


def test_a_compressed_body_counts_unpacked(session: requests.Session) -> None:
    with running(SmallWorld(), Limits(max_body_bytes=10_000)) as url:
        text = json.dumps({**ONE, "workloadTag": "x" * 1_000_000}).encode()
        reply = session.post(
            f"{url}/v1/projects/{PROJECT}/value:compute",
            data=gzip.compress(text),
            headers={"content-encoding": "gzip"},
            timeout=30,
        )
    assert reply.status_code == 400
    assert "payload size exceeds the limit: 10000 bytes" in reply.json()["error"]["message"]


def test_bodies_that_are_not_json_are_refused(session: requests.Session, address: str) -> None:
    url = f"{address}/v1/projects/{PROJECT}/value:compute"
    for body in (b"{", b"[1]", b"\xff\xfe"):
        reply = session.post(url, data=body, timeout=30)
        assert reply.status_code == 400
        assert "Invalid JSON" in reply.json()["error"]["message"]


def test_every_computed_reply_says_its_cpu_seconds(session: requests.Session, address: str) -> None:
    url = f"{address}/v1/projects/{PROJECT}"
    good = session.post(f"{url}/value:compute", json=ONE, timeout=30)
    bad = session.post(f"{url}/image:computePixels", json=ONE, timeout=30)
    assert (good.status_code, bad.status_code) == (200, 400)
    for reply in (good, bad):
        assert 0 <= float(reply.headers["x-emulator-compute-seconds"]) < 5


def test_a_failure_of_the_world_is_an_internal_error(session: requests.Session) -> None:
    class Broken(SmallWorld):
        def find_image(self, asset_id: str) -> Any:
            raise OSError("disk gone")

    asked = {
        "functionInvocationValue": {
            "functionName": "Image.load",
            "arguments": {"id": {"constantValue": "a/b"}},
        }
    }
    with running(Broken()) as url:
        reply = session.post(
            f"{url}/v1/projects/{PROJECT}/value:compute",
            json={"expression": {"result": "0", "values": {"0": asked}}},
            timeout=30,
        )
    assert reply.status_code == 500
    assert reply.json()["error"]["status"] == "INTERNAL"


@pytest.mark.usefixtures("client")
@XEE_WARNINGS
def test_xee_opens_a_collection_and_loads_its_pixels(small_world: SmallWorld) -> None:
    collection = (
        ee.ImageCollection(L1C)
        .filterBounds(ee.Geometry.Point([-75.5, 37.5]))
        .filter(ee.Filter.eq("partial", 0))
        .select(["B2", "B5"])
    )
    opened = xr.open_dataset(
        collection,  # type: ignore[arg-type]
        engine="ee",
        crs=CRS,
        crs_transform=(10.0, 0.0, X + 30000.0, 0.0, -10.0, Y - 12000.0),
        shape_2d=(40, 24),
    )
    with opened:
        records = [
            r
            for r in small_world.records(L1C)
            if r.bands[0].lattice.crs == CRS and not r.properties["partial"]
        ]
        assert dict(opened.sizes) == {"time": len(records), "y": 24, "x": 40}
        times = opened["time"].to_numpy().astype("datetime64[ms]").astype(np.int64)
        assert times.tolist() == [r.time_start_ms for r in records]
        loaded = opened["B2"].isel(time=slice(1, 3)).to_numpy()
        band = next(band for band in records[0].bands if band.name == "B2")
        rows, columns = np.arange(1200, 1224)[:, None], np.arange(3000, 3040)[None, :]
        for number, record in enumerate(records[1:3]):
            np.testing.assert_array_equal(
                loaded[number], expected_pixels(record, band, rows, columns)
            )
        assert opened["B5"].isel(time=0, y=0, x=slice(0, 2)).to_numpy().std() == 0


@pytest.mark.usefixtures("client")
@XEE_WARNINGS
def test_xee_turns_masked_pixels_into_nan(small_world: SmallWorld) -> None:
    index = next(r.index for r in small_world.records(DW) if r.index.endswith("T18SVG"))
    labels = ee.ImageCollection(DW).filter(ee.Filter.eq("system:index", index))
    opened = xr.open_dataset(
        labels,  # type: ignore[arg-type]
        engine="ee",
        crs=CRS,
        crs_transform=(10.0, 0.0, X + 3900.0, 0.0, -10.0, Y - 3900.0),
        shape_2d=(20, 20),
    )
    with opened:
        label = opened["label"].isel(time=0).to_numpy()
    assert np.isnan(label[10:, 10:]).all()
    assert np.isfinite(label[:10]).all()


@pytest.mark.usefixtures("client")
def test_ssl4eo_downloaders_calls_work(small_world: SmallWorld) -> None:
    """The calls of the SSL4EO-S12 downloader: filter, sort, first, sampleRectangle, getInfo."""
    centre = ee.Geometry.Point([-75.5, 37.5])
    region = centre.buffer(1320).bounds()
    image = (
        ee.ImageCollection(L1C)
        .filterBounds(region)
        .filterDate("2020-06-01", "2020-07-01")
        .filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 20))
        .sort("system:time_start", False)
        .first()
    )
    patch = image.select(["B4", "B11"]).sampleRectangle(region, defaultValue=0).getInfo()
    red = np.array(patch["properties"]["B4"])
    assert 260 <= min(red.shape) <= max(red.shape) <= 275
    assert red.any()
    radar = (
        ee.ImageCollection(S1)
        .filterBounds(region)
        .filterDate("2020-06-01", "2020-07-01")
        .filter(ee.Filter.listContains("transmitterReceiverPolarisation", "VV"))
        .filter(ee.Filter.eq("instrumentMode", "IW"))
        .first()
    )
    decibels = np.array(radar.select("VV").sampleRectangle(region).getInfo()["properties"]["VV"])
    assert decibels.min() >= -20
