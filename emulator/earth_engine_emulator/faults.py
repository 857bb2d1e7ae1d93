"""Faults on purpose: what a service over a network does to a client, by seed.

Whether an attempt fails, and how, depends on the seed, on what is asked for, and on how often it
has been asked for, and on nothing else: neither the order of requests nor their number at once
matters. A repeated request draws anew and may succeed. Only a vanished image stays away.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal, Protocol, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earth_engine_emulator.errors import FaultError
from earth_engine_emulator.request_work import Work, digest_of, read_work, replayed
from earth_engine_emulator.yaml_files import read_mapping, sentence_of

CONNECTION: Final = "earth_engine_emulator.connection"
"""ASGI extension of our server: the transport under a request. ASGI has no word for hanging up."""
STATUS_PATH: Final = "/emulator/faults"
_MAX_REMEMBERED: Final = 100_000
"""Requests whose attempts are counted; one forgotten starts again with its first attempt."""

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConstantLatency(_Frozen):
    """Every reply waits as long."""

    distribution: Literal["constant"] = "constant"
    seconds: Seconds
    probability: Probability = 1.0

    def quantile(self, share: float) -> float:
        """Return the wait, s."""
        del share
        return self.seconds


class UniformLatency(_Frozen):
    """Any wait between two is as likely."""

    distribution: Literal["uniform"]
    least_s: Seconds
    most_s: Seconds
    probability: Probability = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.most_s < self.least_s:
            raise ValueError(f"most_s {self.most_s:g} is less than least_s {self.least_s:g}")
        return self

    def quantile(self, share: float) -> float:
        """Return the wait that `share` of all replies stay under, s."""
        return self.least_s + share * (self.most_s - self.least_s)


class LognormalLatency(_Frozen):
    """Mostly quick, now and then slow, as services are.

    Args:
        median_s: half of the replies take longer.
        sigma: standard deviation of the wait's natural logarithm; 0.5 makes one in a hundred take
            3.2 times the median.
        most_s: no wait is longer.
    """

    distribution: Literal["lognormal"]
    median_s: Annotated[float, Field(gt=0, le=3_600)]
    sigma: Annotated[float, Field(ge=0, le=3)] = 0.5
    most_s: Seconds = 600.0
    probability: Probability = 1.0

    def quantile(self, share: float) -> float:
        """Return the wait that `share` of all replies stay under, s."""
        if share <= 0.0:
            return 0.0
        wait_s: float = self.median_s * np.exp(self.sigma * NormalDist().inv_cdf(share))
        return min(float(wait_s), self.most_s)


Latency = Annotated[
    ConstantLatency | UniformLatency | LognormalLatency, Field(discriminator="distribution")
]


class Probabilities(_Frozen):
    """How probable each fault is, per attempt; together at most 1.

    Args:
        too_many_requests: 429 of a rate limit.
        quota_exceeded: 429 of a quota.
        internal_error: 500 with JSON.
        unavailable_html: 503 with a page of HTML, as a load balancer sends it.
        memory_limit: 400, "User memory limit exceeded.".
        dropped_connection: the connection ends before a reply.
        stalled_body: a reply stops half-way, then its connection ends.
        truncated_body: a connection ends half-way through a reply.
        not_npy: pixels that are none (``image:computePixels`` alone).
        wrong_shape: pixels of another shape or data type (``image:computePixels``, NPY alone).
        image_disappears: an image is listed, but not there when its pixels are asked for
            (``image:computePixels`` alone). This is the share of images, not of attempts, and does
            not count towards the 1; the image stays away.
    """

    too_many_requests: Probability = 0.0
    quota_exceeded: Probability = 0.0
    internal_error: Probability = 0.0
    unavailable_html: Probability = 0.0
    memory_limit: Probability = 0.0
    dropped_connection: Probability = 0.0
    stalled_body: Probability = 0.0
    truncated_body: Probability = 0.0
    not_npy: Probability = 0.0
    wrong_shape: Probability = 0.0
    image_disappears: Probability = 0.0

    @property
    def of_attempts(self) -> dict[str, float]:
        """The kinds of which one attempt meets at most one."""
        return {kind: p for kind, p in self if kind != "image_disappears"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = sum(self.of_attempts.values())
        if total > 1.0 + 1e-9:
            raise ValueError(f"they add up to {total:g}, more than 1: lower some")
        return self


KINDS: Final = ("latency", *Probabilities.model_fields)


class FaultSettings(_Frozen):
    """What goes wrong.

    Args:
        seed: another one gives other requests the faults.
        latency: how long a reply waits before anything else happens; None answers at once.
        probabilities: of the faults.
        stall_s: how long a stalled reply stays silent before its connection ends.
        initialisation: whether faults (other than latency) also meet what ``ee.Initialize`` sends.
        quota_status: sent with `quota_exceeded` as ``x-earth-engine-quota-status``; at
            ``parallelism_restricted=true`` the client warns. Empty sends none.
    """

    seed: int = Field(0, ge=0, lt=2**63)
    latency: Latency | None = None
    probabilities: Probabilities = Probabilities()
    stall_s: Seconds = 600.0
    initialisation: bool = False
    quota_status: str = Field("", pattern=r"^[!-~]*$")


def read_fault_settings(path: Path) -> FaultSettings:
    """Read a YAML file.

    Raises:
        CatalogueError: it cannot be read or is not YAML.
        FaultError: it holds something that does not belong.
    """
    return parse_fault_settings(dict(read_mapping(path)), str(path))


def parse_fault_settings(values: Mapping[str, Any], where: str) -> FaultSettings:
    """Check settings.

    Raises:
        FaultError: something does not belong; the sentence begins with `where`.
    """
    try:
        return FaultSettings.model_validate(values)
    except ValidationError as error:
        raise FaultError(f"{where}: {sentence_of(error)}") from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one attempt.

    Args:
        wait_s: before anything else.
        kind: of the fault; None for none.
        choice: 64 bits for what is left to choose about it.
    """

    wait_s: float
    kind: str | None
    choice: int


class FaultPlan:
    """Decides what happens to attempts, and remembers how often each request was made."""

    def __init__(self, settings: FaultSettings) -> None:
        self._settings = settings
        self._attempts: OrderedDict[int, int] = OrderedDict()

    def next_attempt(self, work: Work) -> Plan:
        """Decide about the next attempt at a request."""
        attempt = self._attempts.pop(work.digest, 0)
        self._attempts[work.digest] = attempt + 1
        if len(self._attempts) > _MAX_REMEMBERED:
            self._attempts.popitem(last=False)
        return self.attempt(work, attempt)

    def attempt(self, work: Work, attempt: int) -> Plan:
        """Decide about one attempt, the first of which is 0."""
        drawn = f"{work.digest:016x}:{attempt}"
        kind = None
        if self._settings.initialisation or not work.initialises:
            kind = self._kind(work, _share(self._draw("fault", drawn)))
        wait_s = self._wait_s(_share(self._draw("met", drawn)), self._draw("latency", drawn))
        return Plan(wait_s, kind, self._draw("choice", drawn))

    def has_disappeared(self, asset_id: str) -> bool:
        """Tell whether an image cannot be loaded, now and for ever."""
        share = _share(self._draw("image_disappears", asset_id))
        return share < self._settings.probabilities.image_disappears

    def missing(self, work: Work) -> str | None:
        """Return an image that has disappeared and is asked for; None where all are there."""
        if not self._settings.probabilities.image_disappears or not work.wants_pixels:
            return None
        return next((name for name in sorted(work.asset_ids) if self.has_disappeared(name)), None)

    def _kind(self, work: Work, share: float) -> str | None:
        total = 0.0
        for kind, probability in self._settings.probabilities.of_attempts.items():
            total += probability
            if share < total:
                applies = work.wants_pixels or kind not in {"not_npy", "wrong_shape"}
                return kind if applies else None
        return "image_disappears" if self.missing(work) else None

    def _wait_s(self, met: float, drawn: int) -> float:
        latency = self._settings.latency
        if latency is None or met >= latency.probability:
            return 0.0
        return latency.quantile(_share(drawn))

    def _draw(self, what: str, which: str) -> int:
        return digest_of(str(self._settings.seed).encode(), what.encode(), which.encode())


def _share(drawn: int) -> float:
    return (drawn >> 11) / 2**53


class _Transport(Protocol):
    def close(self) -> None: ...

    def abort(self) -> None: ...


class FaultMiddleware:
    """ASGI middleware that does what a `FaultPlan` decides.

    ``GET /emulator/faults`` answers with the settings and how often each kind happened. Other paths
    under ``/emulator/`` are left alone.

    Args:
        app: the service.
        settings: what goes wrong.
    """

    def __init__(self, app: ASGIApp, settings: FaultSettings) -> None:
        self._app = app
        self._settings = settings
        self._plan = FaultPlan(settings)
        self._counts = Counter(dict.fromkeys(KINDS, 0))
        probabilities = settings.probabilities.model_dump().values()
        self._idle = settings.latency is None and not any(probabilities)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path == STATUS_PATH:
            await JSONResponse(self._status())(scope, receive, send)
        elif scope["type"] != "http" or self._idle or path.startswith("/emulator/"):
            await self._app(scope, receive, send)
        else:
            work = await read_work(scope, receive)
            if work is not None:
                await self._meet(work, scope, receive, send)

    def _status(self) -> dict[str, Any]:
        return {"settings": self._settings.model_dump(mode="json"), "counts": dict(self._counts)}

    async def _meet(self, work: Work, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self._plan.next_attempt(work)
        if plan.wait_s:
            self._counts["latency"] += 1
            if await _hangs_up(receive, plan.wait_s):
                return
        if plan.kind is None:
            await self._app(scope, replayed(work, receive), send)
        elif plan.kind == "dropped_connection":
            self._counts[plan.kind] += 1
            _connection(scope).abort()
            await _lost(receive)
        elif plan.kind in {"stalled_body", "truncated_body", "wrong_shape"}:
            await self._spoil(plan, work, scope, receive, send)
        else:
            self._counts[plan.kind] += 1
            await self._refusal(plan, work)(scope, receive, send)

    def _refusal(self, plan: Plan, work: Work) -> Response:
        if plan.kind == "image_disappears":
            return _error(
                400,
                "INVALID_ARGUMENT",
                f"Image.load: Image asset '{self._plan.missing(work)}' not found (does not exist "
                "or caller does not have access).",
            )
        if plan.kind == "not_npy":
            noise = b"".join(
                digest_of(plan.choice.to_bytes(8, "big"), bytes([i])).to_bytes(8, "big")
                for i in range(64)
            )
            return Response(noise, media_type="application/octet-stream")
        if plan.kind == "unavailable_html":
            return Response(_HTML, 503, media_type="text/html")
        response = _error(*_ERRORS[str(plan.kind)])
        if plan.kind == "quota_exceeded" and self._settings.quota_status:
            response.headers["x-earth-engine-quota-status"] = self._settings.quota_status
        return response

    async def _spoil(
        self, plan: Plan, work: Work, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let the service answer, and then let the answer come to grief."""
        start, body = await _answer(self._app, work, scope, receive)
        if plan.kind == "wrong_shape":
            spoilt = _another_shape(body, plan.choice) if start["status"] == 200 else None
            self._counts["wrong_shape"] += spoilt is not None
            await send(_with_length(start, len(body if spoilt is None else spoilt)))
            await send({"type": "http.response.body", "body": body if spoilt is None else spoilt})
            return
        self._counts[str(plan.kind)] += 1
        await send(_with_length(start, len(body)))
        await send(
            {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        )
        if plan.kind == "stalled_body" and await _hangs_up(receive, self._settings.stall_s):
            return
        _connection(scope).close()
        await _lost(receive)


async def _answer(
    app: ASGIApp, work: Work, scope: Scope, receive: Receive
) -> tuple[Message, bytes]:
    starts: list[Message] = []
    parts: list[bytes] = []

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, replayed(work, receive), keep)
    return starts[0], b"".join(parts)


async def _hangs_up(receive: Receive, seconds: float) -> bool:
    """Wait; True as soon as the client hangs up."""
    try:
        async with asyncio.timeout(seconds):
            await _lost(receive)
    except TimeoutError:
        return False
    return True


async def _lost(receive: Receive) -> None:
    """Wait until the connection has ended."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _connection(scope: Scope) -> _Transport:
    connection = scope.get("extensions", {}).get(CONNECTION)
    if connection is None:
        raise RuntimeError(
            "this server cannot hang up: start the app with earth_engine_emulator.running"
        )
    return cast("_Transport", connection)


def _with_length(start: Message, length: int) -> Message:
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    return {**start, "headers": [*headers, (b"content-length", str(length).encode())]}


def _another_shape(body: bytes, choice: int) -> bytes | None:
    """Drop a row of an NPY, or turn its values into another type; None where it is no NPY."""
    try:
        pixels = np.load(io.BytesIO(body), allow_pickle=False)
    except ValueError:
        return None
    if choice % 2 or pixels.ndim == 0:
        names = pixels.dtype.names
        plain = [(name, _other(pixels.dtype[name])) for name in names or ()]
        pixels = pixels.astype(plain if names else _other(pixels.dtype))
    else:
        pixels = pixels[:-1]
    out = io.BytesIO()
    np.save(out, pixels)
    return out.getvalue()


def _other(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype == np.float64 else np.float64)


def _error(code: int, status: str, message: str) -> Response:
    # As the service writes it: indented, UTF-8.
    content = json.dumps({"error": {"code": code, "message": message, "status": status}}, indent=2)
    return Response(content, code, media_type="application/json")


_ERRORS: Final = {
    "too_many_requests": (
        429,
        "RESOURCE_EXHAUSTED",
        "Too Many Requests: Request was rejected because the request rate or concurrency limit was "
        "exceeded.",
    ),
    "quota_exceeded": (
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Compute requests' and limit 'Compute requests per "
        "minute' of service 'earthengine.googleapis.com'.",
    ),
    "internal_error": (500, "INTERNAL", "An internal error has occurred."),
    "memory_limit": (400, "INVALID_ARGUMENT", "User memory limit exceeded."),
}
_HTML: Final = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 503 (Service Unavailable)!!1</title>\n"
    "<p><b>503.</b> <ins>That's an error.</ins>\n<p>The service you requested is not available at "
    "this time.\n<p>Service error -27.\n"
)
