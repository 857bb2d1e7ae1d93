"""The pool of pixel replies: few are rendered, and the right kind is repeated."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from test_faults import PIXELS, VALUE, loads

from earth_engine_emulator import pixel_pool
from earth_engine_emulator.pixel_pool import PixelPool, kind_of
from earth_engine_emulator.request_work import Work
from earth_engine_emulator.running import emulator_in_thread


def body(index: str, *, x: float = 0.0, width: int = 264, **changes: Any) -> dict[str, Any]:
    grid = {
        "dimensions": {"width": width, "height": 264},
        "affineTransform": {"scaleX": 10, "translateX": x},
        "crsCode": "EPSG:32618",
    }
    return {**loads(f"S2/{index}", f"DW/{index}"), "grid": grid, "bandIds": ["B2"], **changes}


def kind(values: dict[str, Any]) -> int:
    return kind_of(Work(PIXELS, b"", values, 0))


def test_kind_is_what_decides_about_format_and_shape() -> None:
    first = kind(body("a"))
    assert kind(body("b", x=5000.0)) == first
    assert kind({**body("a"), "grid": {**body("a")["grid"], "crsCode": "EPSG:32601"}}) == first
    others = [
        body("a", width=132),
        body("a", bandIds=["B3"]),
        body("a", fileFormat="GEO_TIFF"),
        {**body("a"), **loads("S2/a", "S1/a")},
        {**body("a"), **loads("S2/a")},
    ]
    assert len({first, *map(kind, others)}) == 1 + len(others)


def test_constant_that_two_images_share_counts_once() -> None:
    def twice(asset_id: str) -> dict[str, Any]:
        values = loads(asset_id, asset_id, shared=True)
        shared = values["expression"]["values"]
        images = shared["0"]["arrayValue"]["values"]
        images[1]["functionInvocationValue"]["arguments"]["id"] = {"valueReference": "id0"}
        del shared["id1"]
        return values

    assert kind(twice("A/B/c")) == kind(twice("A/B/d")) != kind(twice("A/C/c"))


class _Service:
    """Renders slowly, and counts."""

    def __init__(self, status: int = 200) -> None:
        self.rendered = 0
        self.status = status

    async def answer(self, request: Request) -> Response:
        self.rendered += 1
        content = hashlib.sha256(await request.body()).digest()
        await asyncio.sleep(0.01)
        return Response(content, self.status, headers={"x-emulator-compute-seconds": "9"})


def answers(service: _Service, size: int, bodies: list[Any], path: str = PIXELS) -> list[Any]:
    """Post bodies, eight at a time."""
    app = Starlette(
        routes=[Route(each, service.answer, methods=["POST"]) for each in (PIXELS, VALUE)],
        middleware=[Middleware(PixelPool, size=size)],
    )
    with (
        emulator_in_thread(app) as running,
        requests.Session() as session,
        ThreadPoolExecutor(8) as pool,
    ):
        return list(pool.map(lambda body: session.post(running.url + path, json=body), bodies))


BODIES = [body(f"image{i}", x=60.0 * i) for i in range(64)]


@pytest.mark.server
def test_few_are_rendered_and_then_repeated() -> None:
    service = _Service()
    replies = answers(service, 4, BODIES)
    assert service.rendered == 4
    assert len({reply.content for reply in replies}) == 4
    pooled = [reply for reply in replies if "x-emulator-pooled" in reply.headers]
    assert len(pooled) == 60
    # Nobody computed these seconds.
    assert not any("x-emulator-compute-seconds" in reply.headers for reply in pooled)


@pytest.mark.server
def test_content_chooses_the_reply() -> None:
    service = _Service()
    replies = answers(service, 8, [*BODIES, *reversed(BODIES)])
    for reply, again in zip(replies[:64], reversed(replies[64:]), strict=True):
        assert reply.content == again.content


@pytest.mark.server
def test_kinds_do_not_mix_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_pool, "_MAX_KINDS", 2)
    service = _Service()
    sizes = [100, 100, 200, 100, 300, 100, 200]
    # One at a time: who is oldest depends on the order.
    with emulator_in_thread(
        Starlette(
            routes=[Route(PIXELS, service.answer, methods=["POST"])],
            middleware=[Middleware(PixelPool, size=1)],
        )
    ) as running:
        rendered = []
        for width in sizes:
            requests.post(running.url + PIXELS, json=body("a", width=width)).raise_for_status()
            rendered.append(service.rendered)
    assert rendered == [1, 1, 2, 2, 3, 3, 4]


@pytest.mark.server
def test_listings_and_errors_are_never_repeated() -> None:
    listing = _Service()
    answers(listing, 4, BODIES, VALUE)
    assert listing.rendered == len(BODIES)
    error = _Service(status=400)
    assert {reply.status_code for reply in answers(error, 4, BODIES)} == {400}
    assert error.rendered == len(BODIES)
