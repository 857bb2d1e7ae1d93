"""Earth Engine's REST surface over a world, as an ASGI application.

The public client ``ee`` speaks it unmodified: discovery, algorithms, ``value:compute``,
``image:computePixels``, ``assets:getPixels``, ``assets:listAssets`` and ``assets`` get. Requests
are answered in worker threads, so that `/emulator/statistics` answers meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earth_engine_emulator.expressions.algorithms import (
    ALGORITHMS_FILE,
    DISCOVERY_FILE,
    client_file,
)
from earth_engine_emulator.expressions.assets import get_asset, list_assets
from earth_engine_emulator.expressions.errors import ServiceError
from earth_engine_emulator.expressions.evaluation import asset_pixels, compute_image, compute_value
from earth_engine_emulator.expressions.session import plain_asset_id
from earth_engine_emulator.limits import Limits
from earth_engine_emulator.traffic import Traffic, TrafficMiddleware
from earth_engine_emulator.worlds import World

COMPUTE_SECONDS_HEADER = "x-emulator-compute-seconds"
"""CPU seconds of the thread that computed the reply."""
VERSION = "v1"
# The package's document describes v1alpha; the client asks for v1, with these parameters more.
_PACKAGED_VERSION = "v1alpha"
_LIST_PARAMETERS = ("filter", "view")
_PROJECT_ID = re.compile(r"^(?:[\w.\-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$|^\d+$")
_NO_LIMITS_GIVEN = Limits()
_RECURSION_LIMIT = 10_000
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_JSON = "application/json; charset=UTF-8"
_log = logging.getLogger(__name__)

Answer = Callable[[], Response]


def create_app(
    world: World,
    *,
    limits: Limits = _NO_LIMITS_GIVEN,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Build the application.

    Args:
        world: images to serve.
        limits: of the service.
        middleware: ASGI middleware between the counting of requests and the answers.

    Returns:
        The application; `/emulator/statistics` and `/emulator/statistics/reset` beside the
        service's own paths.
    """
    # The client can nest a few hundred calls; decoding and evaluating one takes several frames.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    service = _Service(world, limits)
    counting = Middleware(TrafficMiddleware, traffic=Traffic(limits))
    assets = "/v1/projects/{project}/assets/{asset_id:path}"
    return Starlette(
        routes=[
            Route("/$discovery/rest", service.discovery),
            Route("/v1/projects/{project}/algorithms", service.algorithms),
            Route("/v1/projects/{project}/config", service.config),
            Route("/v1/projects/{project}/value:compute", service.value, methods=["POST"]),
            Route("/v1/projects/{project}/image:computePixels", service.pixels, methods=["POST"]),
            Route(f"{assets}:getPixels", service.asset_pixels, methods=["POST"]),
            Route(f"{assets}:listAssets", service.list_assets),
            Route("/v1/projects/{project}/assets:listAssets", service.list_assets),
            Route("/v1/projects/{project}:listAssets", service.list_assets),
            Route(assets, service.asset),
        ],
        middleware=[counting, *middleware],
        exception_handlers={404: _no_such_path, 405: _no_such_path},
    )


class _Service:
    """The endpoints of one application."""

    def __init__(self, world: World, limits: Limits) -> None:
        self._world = world
        self._limits = limits
        # Computing holds the interpreter most of the time: more threads would only wait for it.
        self._threads = anyio.CapacityLimiter(max(4, 2 * (os.cpu_count() or 1)))

    async def _answer(self, answer: Answer) -> Response:
        return await anyio.to_thread.run_sync(lambda: _guarded(answer), limiter=self._threads)

    async def discovery(self, request: Request) -> Response:
        content = _discovery_document(str(request.base_url))
        return Response(content, media_type=_JSON)

    async def algorithms(self, request: Request) -> Response:
        return await self._answer(lambda: _algorithms(_project(request)))

    async def config(self, request: Request) -> Response:
        return await self._answer(
            lambda: _json_response(
                {"name": f"{_project(request)}/config", "maxConcurrentExports": 0}
            )
        )

    async def value(self, request: Request) -> Response:
        raw = await self._body(request)

        def answer() -> Response:
            _project(request)
            return _json_response(
                compute_value(
                    self._world, self._limits, _decode(raw, request, self._limits.max_body_bytes)
                )
            )

        return await self._answer(answer)

    async def pixels(self, request: Request) -> Response:
        raw = await self._body(request)

        def answer() -> Response:
            _project(request)
            reply = compute_image(
                self._world, self._limits, _decode(raw, request, self._limits.max_body_bytes)
            )
            return Response(reply.content, media_type=reply.content_type)

        return await self._answer(answer)

    async def asset_pixels(self, request: Request) -> Response:
        raw = await self._body(request)

        def answer() -> Response:
            body = _decode(raw, request, self._limits.max_body_bytes)
            reply = asset_pixels(self._world, self._limits, _asset_id(request), body)
            return Response(reply.content, media_type=reply.content_type)

        return await self._answer(answer)

    async def asset(self, request: Request) -> Response:
        return await self._answer(
            lambda: _json_response(get_asset(self._world, _asset_id(request)))
        )

    async def list_assets(self, request: Request) -> Response:
        return await self._answer(
            lambda: _json_response(
                list_assets(self._world, _asset_id(request), dict(request.query_params))
            )
        )

    async def _body(self, request: Request) -> bytes | None:
        """Read the body; None where it is larger than the service takes."""
        received = bytearray()
        async for chunk in request.stream():
            # What is too much is read all the same, so that the client hears the refusal.
            if len(received) <= self._limits.max_body_bytes:
                received += chunk
        return None if len(received) > self._limits.max_body_bytes else bytes(received)


def _guarded(answer: Answer) -> Response:
    """Answer, with refusals as the service writes them and the CPU time it took."""
    started = time.thread_time()
    try:
        response = answer()
    except ServiceError as error:
        response = _json_response(error.as_json(), error.code)
    except Exception:  # noqa: BLE001  (whatever it is, the client gets a reply)
        _log.exception("the emulator failed to answer")
        error_500 = ServiceError("An internal error has occurred", 500, "INTERNAL")
        response = _json_response(error_500.as_json(), 500)
    response.headers[COMPUTE_SECONDS_HEADER] = f"{time.thread_time() - started:.6f}"
    return response


def _json_response(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status_code=status, media_type=_JSON)


def _decode(raw: bytes | None, request: Request, max_bytes: int) -> Mapping[str, Any]:
    if raw is not None and request.headers.get("content-encoding", "").lower() == "gzip":
        raw = _unpack(raw, max_bytes)
    if raw is None:
        raise ServiceError(f"Request payload size exceeds the limit: {max_bytes} bytes.")
    try:
        body = json.loads(raw)
    except ValueError:
        raise ServiceError("Invalid JSON payload received.") from None
    except RecursionError:
        raise ServiceError("Invalid JSON payload received. It is too deeply nested.") from None
    if not isinstance(body, dict):
        raise ServiceError("Invalid JSON payload received. A message is needed.")
    return body


def _unpack(packed: bytes, max_bytes: int) -> bytes | None:
    """Decompress gzip; None where more than `max_bytes` come out."""
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
    try:
        plain = unpacker.decompress(packed, max_bytes + 1)
    except zlib.error:
        raise ServiceError("The gzip body cannot be decompressed.") from None
    if len(plain) > max_bytes:
        return None
    if not unpacker.eof:
        raise ServiceError("The gzip body cannot be decompressed: it is cut short.")
    return plain


def _project(request: Request) -> str:
    """Check the project of a path.

    Raises:
        ServiceError: it is no project's id (404).
    """
    project = str(request.path_params["project"])
    if not _PROJECT_ID.match(project):
        raise ServiceError(f"Project 'projects/{project}' not found or deleted.", 404, "NOT_FOUND")
    return f"projects/{project}"


def _asset_id(request: Request) -> str:
    asset_id = str(request.path_params.get("asset_id", ""))
    project = str(request.path_params["project"])
    if project not in {"earthengine-public", "earthengine-legacy"}:
        asset_id = f"projects/{project}/assets/{asset_id}"
    return plain_asset_id(asset_id)


@lru_cache(maxsize=16)
def _discovery_document(base_url: str) -> bytes:
    """Return the package's discovery document, with this server's address and version."""
    text = client_file(DISCOVERY_FILE).decode().replace(f"{_PACKAGED_VERSION}/", f"{VERSION}/")
    document = json.loads(text)
    root = base_url.rstrip("/") + "/"
    document |= {
        "rootUrl": root,
        "baseUrl": root,
        "servicePath": "",
        "version": VERSION,
        "id": f"earthengine:{VERSION}",
    }
    document.pop("mtlsRootUrl", None)
    methods = document["resources"]["projects"]["resources"]["assets"]["methods"]
    for name in _LIST_PARAMETERS:
        methods["listAssets"]["parameters"][name] = {"location": "query", "type": "string"}
    document["resources"]["projects"]["methods"]["getConfig"] = _config_method()
    return json.dumps(document).encode()


def _config_method() -> dict[str, Any]:
    name = {
        "location": "path",
        "pattern": "^projects/[^/]+/config$",
        "required": True,
        "type": "string",
    }
    return {
        "httpMethod": "GET",
        "id": "earthengine.projects.getConfig",
        "path": f"{VERSION}/{{+name}}",
        "parameterOrder": ["name"],
        "parameters": {"name": name},
    }


@lru_cache(maxsize=1)
def _algorithm_list() -> bytes:
    return client_file(ALGORITHMS_FILE)


def _algorithms(_project_path: str) -> Response:
    return Response(_algorithm_list(), media_type=_JSON)


async def _no_such_path(request: Request, _error: Exception) -> Response:
    error = ServiceError(
        f"Method not found: the emulator has no {request.method} {request.url.path}",
        404,
        "NOT_FOUND",
    )
    return _json_response(error.as_json(), 404)
