"""Faults by seed: which attempt meets one, and what a client sees of it."""

from __future__ import annotations

import io
import itertools
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import requests
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from earth_engine_emulator import faults
from earth_engine_emulator.errors import CatalogueError, FaultError
from earth_engine_emulator.faults import (
    KINDS,
    FaultMiddleware,
    FaultPlan,
    FaultSettings,
    Probabilities,
    parse_fault_settings,
    read_fault_settings,
)
from earth_engine_emulator.request_work import Work, digest_of
from earth_engine_emulator.running import emulator_in_thread
from earth_engine_emulator.settings import EmulatorSettings, make_app
from earth_engine_emulator.testing import Client, ramp, write_catalogue, write_raster

PIXELS = "/v1/projects/emulator/image:computePixels"
VALUE = "/v1/projects/emulator/value:compute"
IMAGE = np.zeros((4, 5), [("B2", "u2"), ("VV", "f4")])


def loads(*asset_ids: str, shared: bool = False) -> dict[str, Any]:
    """A body whose expression loads images, their ids in place or among the shared values."""
    values: dict[str, Any] = {}
    images = []
    for i, asset_id in enumerate(asset_ids):
        constant: dict[str, Any] = {"constantValue": asset_id}
        if shared:
            values[f"id{i}"], constant = constant, {"valueReference": f"id{i}"}
        arguments = {"id": constant}
        images.append(
            {"functionInvocationValue": {"functionName": "Image.load", "arguments": arguments}}
        )
    values["0"] = {"arrayValue": {"values": images}}
    return {"expression": {"result": "0", "values": values}, "fileFormat": "NPY"}


def work(name: str, path: str = PIXELS) -> Work:
    return Work(path, b"", loads(name), digest_of(path.encode(), name.encode()))


def settings(seed: int = 0, **probabilities: float) -> FaultSettings:
    return FaultSettings(seed=seed, probabilities=Probabilities(**probabilities), stall_s=0.2)


MIXED = settings(**{kind: 0.05 for kind in KINDS if kind != "latency"})


def test_fault_depends_on_seed_request_and_attempt_not_on_the_order() -> None:
    names = [f"COLLECTION/{i}" for i in range(200)]
    forwards, shuffled = FaultPlan(MIXED), FaultPlan(MIXED)
    there = {name: [forwards.next_attempt(work(name)) for _ in range(3)] for name in names}
    questions = names * 3
    random.Random(1).shuffle(questions)
    again: dict[str, list[Any]] = {name: [] for name in names}
    for name in questions:
        again[name].append(shuffled.next_attempt(work(name)))
    assert again == there
    kinds = [[plan.kind for plan in plans] for plans in there.values()]
    assert any(len(set(tries)) > 1 for tries in kinds)  # a further try may fare otherwise
    other = FaultPlan(MIXED.model_copy(update={"seed": 1}))
    assert [[other.attempt(work(name), i).kind for i in range(3)] for name in names] != kinds


def test_probabilities_are_honoured() -> None:
    wanted = {"too_many_requests": 0.3, "dropped_connection": 0.1, "not_npy": 0.02}
    plan = FaultPlan(settings(**wanted))
    number = 20_000
    found = Counter(plan.next_attempt(work(f"C/{i}")).kind for i in range(number))
    assert set(found) == {None, *wanted}
    for kind, probability in wanted.items():
        # Five standard deviations of a binomial count.
        margin = 5 * (number * probability * (1 - probability)) ** 0.5
        assert abs(found[kind] - number * probability) < margin


def test_attempts_at_one_request_are_independent() -> None:
    plan = FaultPlan(settings(internal_error=0.5))
    tries = [plan.next_attempt(work("C/1")).kind is not None for _ in range(2000)]
    assert abs(sum(tries) - 1000) < 5 * 500**0.5
    changes = sum(a != b for a, b in itertools.pairwise(tries))
    assert abs(changes - 1000) < 5 * 500**0.5


def test_image_disappears_for_ever_and_whoever_asks_for_it() -> None:
    names = [f"COLLECTION/{i}" for i in range(2000)]
    plan = FaultPlan(settings(image_disappears=0.2))
    gone = {name for name in names if plan.has_disappeared(name)}
    assert abs(len(gone) - 400) < 5 * (2000 * 0.2 * 0.8) ** 0.5
    for name in names[:200]:
        kinds = {plan.next_attempt(work(name)).kind for _ in range(4)}
        assert kinds == ({"image_disappears"} if name in gone else {None})
    # Listings still show it.
    assert {plan.next_attempt(work(name, VALUE)).kind for name in sorted(gone)} == {None}


@pytest.mark.parametrize("shared", [False, True])
def test_any_image_of_an_expression_may_be_the_missing_one(shared: bool) -> None:
    plan = FaultPlan(settings(image_disappears=0.3))
    names = [f"C/{i}" for i in range(50)]
    gone = next(name for name in names if plan.has_disappeared(name))
    there = [name for name in names if not plan.has_disappeared(name)][:2]
    body = loads(there[0], gone, there[1], shared=shared)
    assert Work(PIXELS, b"", body, 1).asset_ids == {*there, gone}
    assert plan.missing(Work(PIXELS, b"", body, 1)) == gone
    assert plan.missing(Work(PIXELS, b"", loads(*there, shared=shared), 1)) is None


def test_faults_of_pixels_meet_no_listing() -> None:
    plan = FaultPlan(settings(not_npy=0.5, wrong_shape=0.5))
    assert {plan.next_attempt(work(f"C/{i}", VALUE)).kind for i in range(50)} == {None}
    assert {plan.next_attempt(work(f"C/{i}")).kind for i in range(50)} == {"not_npy", "wrong_shape"}


def test_initialisation_is_spared_unless_wanted() -> None:
    spared = settings(internal_error=1.0)
    for path in ("/$discovery/rest", "/v1/projects/emulator/algorithms"):
        request = Work(path, b"", {}, 1)
        assert FaultPlan(spared).next_attempt(request).kind is None
        wanted = FaultPlan(spared.model_copy(update={"initialisation": True}))
        assert wanted.next_attempt(request).kind == "internal_error"


@pytest.mark.parametrize(
    ("latency", "quantiles"),
    [
        ({"distribution": "constant", "seconds": 0.5}, (0.5, 0.5, 0.5)),
        ({"distribution": "uniform", "least_s": 1, "most_s": 3}, (1.5, 2.0, 2.5)),
        # exp(0.6745) = 1.963: the quartiles of a standard normal distribution are +-0.6745.
        ({"distribution": "lognormal", "median_s": 1, "sigma": 1}, (1 / 1.963, 1.0, 1.963)),
        ({"distribution": "lognormal", "median_s": 1, "sigma": 1, "most_s": 1}, (1 / 1.963, 1, 1)),
    ],
)
def test_latency_has_its_distribution(
    latency: dict[str, Any], quantiles: tuple[float, ...]
) -> None:
    plan = FaultPlan(parse_fault_settings({"latency": latency}, "test"))
    waits = [plan.next_attempt(work(f"C/{i}")).wait_s for i in range(4000)]
    np.testing.assert_allclose(statistics.quantiles(waits, n=4), quantiles, rtol=0.08)


def test_latency_may_meet_some_replies_alone() -> None:
    latency = {"distribution": "constant", "seconds": 0.5, "probability": 0.25}
    plan = FaultPlan(parse_fault_settings({"latency": latency}, "test"))
    waits = [plan.next_attempt(work(f"C/{i}")).wait_s for i in range(4000)]
    assert set(waits) == {0.0, 0.5}
    assert abs(sum(wait > 0 for wait in waits) - 1000) < 5 * 750**0.5


def test_memory_of_attempts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_MAX_REMEMBERED", 10)
    plan = FaultPlan(MIXED)
    for i in range(100):
        plan.next_attempt(work(f"C/{i}"))
    assert len(plan._attempts) == 10


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sede": 1}, "sede: is not a key that is known here"),
        ({"seed": -1}, "seed: -1 cannot be used"),
        ({"probabilities": {"broken": 0.1}}, "probabilities.broken: is not a key"),
        ({"probabilities": {"not_npy": 1.5}}, "probabilities.not_npy: 1.5 cannot be used"),
        ({"probabilities": {"not_npy": 0.6, "wrong_shape": 0.6}}, "they add up to 1.2"),
        ({"latency": 3}, "latency: 3 cannot be used"),
        ({"latency": {"distribution": "normal"}}, "cannot be used"),
        ({"latency": {"distribution": "uniform", "least_s": 2, "most_s": 1}}, "most_s 1 is less"),
        ({"quota_status": "a\nb"}, "quota_status"),
    ],
)
def test_wrong_settings_are_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault_settings(values, "here")
    assert str(caught.value).startswith("here: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_of_settings_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_fault_settings(tmp_path / "none.yaml")


# ---- over HTTP -----------------------------------------------------------------------------------


def service(given: FaultSettings) -> Starlette:
    async def pixels(request: Request) -> Response:
        assert await request.json()
        out = io.BytesIO()
        np.save(out, IMAGE)
        return Response(out.getvalue(), media_type="application/octet-stream")

    async def value(request: Request) -> Response:
        return JSONResponse({"result": (await request.json())["expression"]})

    async def statistics_(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route(PIXELS, pixels, methods=["POST"]),
            Route(VALUE, value, methods=["POST"]),
            Route("/emulator/statistics", statistics_),
        ],
        middleware=[Middleware(FaultMiddleware, settings=given)],
    )


Post = Callable[..., requests.Response]


@contextmanager
def posting(given: FaultSettings) -> Iterator[Post]:
    with emulator_in_thread(service(given)) as running, requests.Session() as session:

        def post(path: str = PIXELS, body: Any = None, **options: Any) -> requests.Response:
            body = loads("COLLECTION/1") if body is None else body
            return session.post(running.url + path, json=body, timeout=10, **options)

        def get(path: str) -> requests.Response:
            return session.get(running.url + path, timeout=10)

        post.get = get  # type: ignore[attr-defined]
        yield post


def counts(post: Post) -> dict[str, int]:
    found: dict[str, int] = post.get("/emulator/faults").json()["counts"]  # type: ignore[attr-defined]
    return {kind: number for kind, number in found.items() if number}


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "code", "status", "words"),
    [
        ("too_many_requests", 429, "RESOURCE_EXHAUSTED", "rate or concurrency limit"),
        ("quota_exceeded", 429, "RESOURCE_EXHAUSTED", "Quota exceeded"),
        ("internal_error", 500, "INTERNAL", "internal error"),
        ("memory_limit", 400, "INVALID_ARGUMENT", "User memory limit exceeded."),
        (
            "image_disappears",
            400,
            "INVALID_ARGUMENT",
            "Image.load: Image asset 'COLLECTION/1' not found (does not exist or caller does not "
            "have access).",
        ),
    ],
)
def test_refusal_has_the_shape_of_the_service(
    kind: str, code: int, status: str, words: str
) -> None:
    with posting(settings(**{kind: 1.0})) as post:
        reply = post()
        assert reply.status_code == code
        error = reply.json()["error"]
        assert (error["code"], error["status"]) == (code, status)
        assert words in error["message"]
        assert "quota" not in error["message"].lower() or kind == "quota_exceeded"
        assert counts(post) == {kind: 1}


@pytest.mark.server
def test_quota_status_is_sent_where_wanted() -> None:
    given = settings(quota_exceeded=1.0).model_copy(update={"quota_status": "restricted=true"})
    with posting(given) as post:
        assert post().headers["x-earth-engine-quota-status"] == "restricted=true"
    with posting(settings(quota_exceeded=1.0)) as post:
        assert "x-earth-engine-quota-status" not in post().headers


@pytest.mark.server
def test_unavailable_is_a_page_of_html() -> None:
    with posting(settings(unavailable_html=1.0)) as post:
        reply = post()
        assert reply.status_code == 503
        assert reply.headers["content-type"].startswith("text/html")
        assert "<html" in reply.text


@pytest.mark.server
def test_dropped_connection_has_no_reply_and_leaves_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with posting(settings(dropped_connection=1.0)) as post:
        for _ in range(3):
            with pytest.raises(requests.ConnectionError) as caught:
                post()
            assert caught.value.response is None
        assert counts(post) == {"dropped_connection": 3}
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.server
@pytest.mark.parametrize("kind", ["stalled_body", "truncated_body"])
@pytest.mark.parametrize("path", [PIXELS, VALUE])
def test_body_that_ends_half_way_is_an_error_not_data(
    kind: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with posting(settings(**{kind: 1.0})) as post:
        start = time.monotonic()
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
            post(path)
        assert (time.monotonic() - start >= 0.2) == (kind == "stalled_body")
        assert counts(post) == {kind: 1}
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.server
def test_stalled_body_has_begun_before_it_stops() -> None:
    given = settings(stalled_body=1.0).model_copy(update={"stall_s": 30.0})
    with posting(given) as post:
        reply = post(stream=True)
        assert reply.status_code == 200
        length = int(reply.headers["content-length"])
        assert len(reply.raw.read(length // 2)) == length // 2
        reply.close()  # the server notices, and the test ends long before the 30 s


@pytest.mark.server
def test_bytes_that_are_no_pixels() -> None:
    with posting(settings(not_npy=1.0)) as post:
        reply = post()
        assert reply.status_code == 200
        assert reply.content
        with pytest.raises(ValueError, match="pickle"):  # what NumPy says of anything else
            np.load(io.BytesIO(reply.content))
        assert post(VALUE).json()["result"]  # a listing is left alone
        assert counts(post) == {"not_npy": 1}


@pytest.mark.server
def test_pixels_of_the_wrong_shape_are_pixels_all_the_same() -> None:
    with posting(settings(wrong_shape=1.0)) as post:
        found = [np.load(io.BytesIO(post(body=loads(f"C/{i}")).content)) for i in range(20)]
    shapes = {(pixels.shape, pixels.dtype) for pixels in found}
    doubles = np.dtype([("B2", "f8"), ("VV", "f8")])
    assert shapes == {((3, 5), IMAGE.dtype), ((4, 5), doubles)}


@pytest.mark.server
def test_everything_but_the_work_is_ignored() -> None:
    with posting(settings(internal_error=0.5)) as post:
        here = [post(body=loads(f"C/{i}")).status_code for i in range(30)]
    with posting(settings(internal_error=0.5)) as post:
        bodies = [
            dict(reversed({**loads(f"C/{i}"), "workloadTag": f"t{i}", "requestId": "r"}.items()))
            for i in range(30)
        ]
        there = [post(body=body).status_code for body in bodies]
    assert here == there
    assert set(here) == {200, 500}


@pytest.mark.server
def test_same_faults_whatever_runs_at_once() -> None:
    names = [f"C/{i}" for i in range(60)]

    def outcome(post: Post, name: str) -> str:
        tries = []
        while not tries or tries[-1] not in {"200", "missing"}:
            try:
                reply = post(body=loads(name))
                kind = "missing" if b"not found" in reply.content else str(reply.status_code)
            except requests.RequestException as error:
                kind = type(error).__name__
            tries.append(kind)
        return f"{name}: {' '.join(tries)}"

    given = MIXED.model_copy(update={"stall_s": 0.01})
    with posting(given) as post:
        alone = [outcome(post, name) for name in names]
        first = counts(post)
    with posting(given) as post, ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: outcome(post, name), reversed(names)))
        assert counts(post) == first
    assert sorted(together) == sorted(alone)
    assert len({line.split(": ")[1] for line in alone}) > 6


@pytest.mark.server
def test_latency_waits_for_every_path_but_the_emulator_s_own() -> None:
    given = FaultSettings(latency=faults.ConstantLatency(seconds=0.3))
    with posting(given) as post:
        start = time.monotonic()
        assert post().status_code == 200
        waited = time.monotonic() - start
        assert waited >= 0.3
        for _ in range(20):
            post.get("/emulator/statistics").raise_for_status()  # type: ignore[attr-defined]
        assert time.monotonic() - start - waited < 20 * 0.3
        assert counts(post) == {"latency": 1}


@pytest.mark.server
def test_status_tells_settings_and_counts_of_every_kind() -> None:
    with posting(FaultSettings()) as post:
        assert post().status_code == 200
        status = post.get("/emulator/faults").json()  # type: ignore[attr-defined]
    assert list(status["counts"]) == list(KINDS)
    assert FaultSettings.model_validate_json(json.dumps(status["settings"])) == FaultSettings()


# ---- through the unmodified client ---------------------------------------------------------------


@pytest.fixture
def ee_with(tmp_path: Path, earth_engine: Client) -> Iterator[Callable[..., ModuleType]]:
    """Call it with probabilities: the package `ee`, pointed to a world of one image under them."""
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    write_catalogue(tmp_path)
    with ExitStack() as stack:

        def start(**probabilities: float) -> ModuleType:
            wanted = EmulatorSettings(world=str(tmp_path), faults=settings(**probabilities))
            running = stack.enter_context(emulator_in_thread(make_app(wanted)))
            ee = earth_engine(running.url)
            ee.data.setMaxRetries(0)
            return ee

        yield start


def pixels_of(ee: ModuleType) -> Any:
    asset_id = ee.ImageCollection("TEST/IMAGES").first().get("system:id").getInfo()
    return ee.data.computePixels(
        {
            "expression": ee.Image(asset_id),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "dimensions": {"width": 20, "height": 20},
                "affineTransform": {
                    "scaleX": 10,
                    "scaleY": -10,
                    "translateX": 400_000,
                    "translateY": 4_180_000,
                },
                "crsCode": "EPSG:32618",
            },
        }
    )


def listed(ee: ModuleType) -> Any:
    return ee.ImageCollection("TEST/IMAGES").aggregate_array("system:index").getInfo()


@pytest.mark.server
def test_without_faults_the_client_gets_its_pixels(ee_with: Callable[..., ModuleType]) -> None:
    ee = ee_with()
    np.testing.assert_array_equal(pixels_of(ee)["B2"], ramp(20, 20))
    assert listed(ee) == ["20210619T154811_T18SVG"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("too_many_requests", 429, "Too Many Requests"),
        ("quota_exceeded", 429, "Quota exceeded"),
        ("internal_error", 500, "internal error"),
        ("unavailable_html", 503, "Ok"),
        ("memory_limit", 400, "User memory limit exceeded."),
    ],
)
def test_client_turns_a_refusal_into_its_exception(
    ee_with: Callable[..., ModuleType], kind: str, status: int, words: str
) -> None:
    ee = ee_with(**{kind: 1.0})
    with pytest.raises(ee.EEException, match=words) as caught:
        listed(ee)
    assert caught.value.__context__ is not None
    assert caught.value.__context__.resp.status == status  # type: ignore[attr-defined]


@pytest.mark.server
@pytest.mark.parametrize("kind", ["dropped_connection", "stalled_body", "truncated_body"])
def test_client_lets_a_broken_connection_through(
    ee_with: Callable[..., ModuleType], kind: str
) -> None:
    ee = ee_with(**{kind: 1.0})
    with pytest.raises(ConnectionError):  # Python's own, not an EEException
        listed(ee)


@pytest.mark.server
def test_client_stumbles_over_bytes_that_are_no_pixels(
    ee_with: Callable[..., ModuleType],
) -> None:
    with pytest.raises(ValueError, match="pickle"):
        pixels_of(ee_with(not_npy=1.0))


@pytest.mark.server
def test_client_does_not_notice_a_wrong_shape(ee_with: Callable[..., ModuleType]) -> None:
    found = pixels_of(ee_with(wrong_shape=1.0))
    assert (found.shape, found.dtype["B2"]) in [((19, 20), "u2"), ((20, 20), "f8")]


@pytest.mark.server
def test_client_lists_an_image_that_it_cannot_load(ee_with: Callable[..., ModuleType]) -> None:
    ee = ee_with(image_disappears=1.0)
    assert listed(ee) == ["20210619T154811_T18SVG"]
    name = "TEST/IMAGES/20210619T154811_T18SVG"
    for _ in range(3):
        with pytest.raises(ee.EEException, match=f"Image asset '{name}' not found"):
            pixels_of(ee)


@pytest.mark.server
def test_client_s_own_retries_get_through(ee_with: Callable[..., ModuleType]) -> None:
    ee = ee_with(internal_error=0.5)
    ee.data.setMaxRetries(5)
    with patch("time.sleep"):  # googleapiclient waits seconds between its tries
        for i in range(10):
            assert ee.Number(i).add(1).getInfo() == i + 1
