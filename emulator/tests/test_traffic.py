"""Counting and refusing, on a clock of our own and with real requests in flight."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ee
import pytest
import requests
from serving import PROJECT, connect, running
from small_world import SmallWorld
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from earth_engine_emulator.limits import Limits
from earth_engine_emulator.traffic import TOO_MANY_REQUESTS, Traffic, kind_of

BODY = {"expression": {"result": "0", "values": {"0": {"constantValue": 1}}}}


class Delay:
    """Fault middleware: every request waits."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._seconds)
        await self._app(scope, receive, send)


class Drop:
    """Fault middleware: no request is answered."""

    def __init__(self, app: ASGIApp) -> None:
        pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionResetError("dropped")


@pytest.fixture
def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    return made


def ask(session: requests.Session, address: str) -> requests.Response:
    return session.post(f"{address}/v1/projects/{PROJECT}/value:compute", json=BODY, timeout=30)


def statistics(session: requests.Session, address: str) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"{address}/emulator/statistics", timeout=30).json()
    return found


def test_starts_count_in_a_sliding_second() -> None:
    now = 0.0
    traffic = Traffic(Limits(max_requests_per_s=3, max_in_flight=100), clock=lambda: now)
    allowed = []
    for moment in (0.0, 0.1, 0.9, 0.95, 1.0, 1.05, 1.1, 5.0):
        now = moment
        allowed.append(traffic.start("other"))
    # 0.95: three starts since; 1.0: the first is a second old; 1.05: three again; 1.1: one left.
    assert allowed == [True, True, True, False, True, False, True, True]
    counted = traffic.statistics()
    assert counted["max_starts_per_s"] == 3
    assert counted["refused"] == 2
    assert counted["requests"] == 8
    assert counted["in_flight"] == 6


def test_requests_beyond_those_in_flight_are_refused() -> None:
    traffic = Traffic(Limits(max_in_flight=2))
    assert [traffic.start("other") for _ in range(3)] == [True, True, False]
    traffic.finish()
    assert traffic.start("other")
    assert traffic.statistics()["max_in_flight"] == 2


def test_reset_keeps_what_is_in_flight() -> None:
    traffic = Traffic(Limits())
    traffic.start("computePixels")
    traffic.reset()
    assert traffic.statistics() == {
        "in_flight": 1, "max_in_flight": 1, "max_starts_per_s": 1, "requests": 0,
        "requests_by_kind": {}, "statuses": {}, "refused": 0, "bytes_in": 0, "bytes_out": 0,
    }  # fmt: skip


def test_counts_do_not_tear_between_threads() -> None:
    traffic = Traffic(Limits(max_in_flight=10_000, max_requests_per_s=10_000_000))

    def work() -> None:
        for _ in range(500):
            traffic.start("other")
            traffic.count_bytes(1, 2)
            traffic.finish()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = traffic.statistics()
    assert counted["requests"] == 4000
    assert (counted["bytes_in"], counted["bytes_out"]) == (4000, 8000)
    assert counted["in_flight"] == 0


def test_kinds() -> None:
    assert kind_of("/v1/projects/p/image:computePixels") == "computePixels"
    assert kind_of("/v1/projects/p/value:compute") == "value:compute"
    assert kind_of("/v1/projects/p/algorithms") == "other"


@pytest.mark.server
def test_delayed_requests_are_in_flight_and_the_surplus_is_refused(
    session: requests.Session,
) -> None:
    limits = Limits(max_in_flight=5, max_requests_per_s=1000)
    delay = Middleware(Delay, seconds=0.5)
    with running(SmallWorld(), limits, [delay]) as url, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, requests.Session(), url) for _ in range(8)]
        deadline = time.monotonic() + 10
        # Statistics answer while requests are in flight, and do not count themselves.
        while (meanwhile := statistics(session, url))["requests"] < 8:
            assert time.monotonic() < deadline
        replies = [future.result() for future in asked]
        after = statistics(session, url)
    assert meanwhile["max_in_flight"] == 5
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200] * 5 + [429] * 3
    refused = next(reply for reply in replies if reply.status_code == 429).json()["error"]
    assert refused == {"code": 429, "message": TOO_MANY_REQUESTS, "status": "RESOURCE_EXHAUSTED"}
    assert after["statuses"] == {"200": 5, "429": 3}
    assert after["requests_by_kind"] == {"value:compute": 8}
    assert after["in_flight"] == 0
    assert after["refused"] == 3


@pytest.mark.server
def test_dropped_connections_are_counted_too(session: requests.Session) -> None:
    with running(SmallWorld(), middleware=[Middleware(Drop)]) as url:
        reply = ask(session, url)
        assert reply.status_code == 500
        # The server has closed that connection.
        session.close()
        counted = statistics(session, url)
    assert counted["requests"] == 1
    assert counted["statuses"] == {"none": 1}
    assert counted["in_flight"] == 0


@pytest.mark.server
def test_bytes_kinds_and_reset(session: requests.Session) -> None:
    with running(SmallWorld()) as url:
        reply = ask(session, url)
        listed = session.get(f"{url}/v1/projects/{PROJECT}/algorithms", timeout=30)
        counted = statistics(session, url)
        session.post(f"{url}/emulator/statistics/reset", timeout=30)
        again = statistics(session, url)
    assert counted["requests_by_kind"] == {"other": 1, "value:compute": 1}
    assert counted["bytes_in"] == len(reply.request.body or b"")
    assert counted["bytes_out"] == len(reply.content) + len(listed.content)
    assert again["requests"] == 0


@pytest.mark.server
def test_client_sees_too_many_requests(session: requests.Session) -> None:
    with running(SmallWorld(), Limits(max_requests_per_s=20)) as url:
        connect(url)
        with pytest.raises(ee.EEException) as refused:
            [ee.Number(1).getInfo() for _ in range(21)]
        assert str(refused.value) == TOO_MANY_REQUESTS
        cause = refused.value.__context__
        assert cause is not None
        assert cause.resp.status == 429  # type: ignore[attr-defined]
        ee.Reset()
