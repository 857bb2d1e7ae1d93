"""Counts requests as the service's quota does, and refuses what is over it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earth_engine_emulator.limits import Limits

STATISTICS_PATH = "/emulator/statistics"
RESET_PATH = "/emulator/statistics/reset"
TOO_MANY_REQUESTS = (
    "Too Many Requests: Request was rejected because the request rate or concurrency limit was "
    "exceeded."
)
_OWN_PATHS = "/emulator/"


class Traffic:
    """Counts of requests; safe to use from several threads.

    Args:
        limits: of the service.
        clock: seconds, monotonic.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight = 0
        self._starts: deque[float] = deque()
        self._clear()

    def _clear(self) -> None:
        self._max_in_flight = self._in_flight
        self._max_starts_per_s = len(self._starts)
        self._requests: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._refused = 0
        self._bytes_in = 0
        self._bytes_out = 0

    def start(self, kind: str) -> bool:
        """Count the start of a request; return whether it is within the limits.

        A refused request counts as a request, not as one in flight.
        """
        with self._lock:
            now = self._clock()
            while self._starts and self._starts[0] <= now - 1.0:
                self._starts.popleft()
            self._requests[kind] += 1
            allowed = (
                self._in_flight < self._limits.max_in_flight
                and len(self._starts) < self._limits.max_requests_per_s
            )
            if not allowed:
                self._refused += 1
                return False
            self._starts.append(now)
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            self._max_starts_per_s = max(self._max_starts_per_s, len(self._starts))
            return True

    def finish(self) -> None:
        """Count the end of a request that was within the limits."""
        with self._lock:
            self._in_flight -= 1

    def count_status(self, status: int | None) -> None:
        """Count a reply; None is a connection that ended without one."""
        with self._lock:
            self._statuses["none" if status is None else str(status)] += 1

    def count_bytes(self, received: int = 0, sent: int = 0) -> None:
        """Count bytes of bodies."""
        with self._lock:
            self._bytes_in += received
            self._bytes_out += sent

    def reset(self) -> None:
        """Begin to count anew; requests in flight stay in flight."""
        with self._lock:
            self._clear()

    def statistics(self) -> dict[str, Any]:
        """Return the counts since the start or the last reset."""
        with self._lock:
            return {
                "in_flight": self._in_flight,
                "max_in_flight": self._max_in_flight,
                "max_starts_per_s": self._max_starts_per_s,
                "requests": sum(self._requests.values()),
                "requests_by_kind": dict(sorted(self._requests.items())),
                "statuses": dict(sorted(self._statuses.items())),
                "refused": self._refused,
                "bytes_in": self._bytes_in,
                "bytes_out": self._bytes_out,
            }


def kind_of(path: str) -> str:
    """Return what a request counts as: ``computePixels``, ``value:compute`` or ``other``."""
    if path.endswith("/image:computePixels"):
        return "computePixels"
    return "value:compute" if path.endswith("/value:compute") else "other"


class TrafficMiddleware:
    """The outermost layer: what it counts is what the client asked, whatever happens inside."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request; refuse it if it is over the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(_OWN_PATHS):
            await self._own(scope, receive, send)
            return
        if not self._traffic.start(kind_of(scope["path"])):
            self._traffic.count_status(429)
            await _refuse(send)
            return
        try:
            await self._counted(scope, receive, send)
        finally:
            self._traffic.finish()

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def counting_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._traffic.count_bytes(received=len(message.get("body", b"")))
            return message

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)
            if message["type"] == "http.response.body":
                self._traffic.count_bytes(sent=len(message.get("body", b"")))

        try:
            await self._app(scope, counting_receive, counting_send)
        finally:
            self._traffic.count_status(status)

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == STATISTICS_PATH and scope["method"] == "GET":
            await _reply(send, 200, self._traffic.statistics())
        elif scope["path"] == RESET_PATH and scope["method"] == "POST":
            self._traffic.reset()
            await _reply(send, 200, self._traffic.statistics())
        else:
            await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    error = {"code": 429, "message": TOO_MANY_REQUESTS, "status": "RESOURCE_EXHAUSTED"}
    await _reply(send, 429, {"error": error})


async def _reply(send: Send, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
