"""What a request asks for, apart from how it is written: faults and the pixel pool go by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Message, Receive, Scope

_VOLATILE: Final = ("requestId", "workloadTag")
"""Fields of a body that change from try to try or from run to run, and not what is computed."""
COMPUTE_PIXELS: Final = "/image:computePixels"
_INITIALISATION: Final = ("/$discovery/rest", "/algorithms", "/config")


@dataclass(frozen=True, slots=True)
class Work:
    """One request.

    Args:
        path: of the address.
        body: as it was sent.
        values: the body's JSON object; empty where it has none.
        digest: 64 bits that name the work: method, path, query and the JSON values, whatever their
            order, without request ids and workload tags.
    """

    path: str
    body: bytes
    values: dict[str, Any]
    digest: int

    @property
    def wants_pixels(self) -> bool:
        """Whether it is an ``image:computePixels``."""
        return self.path.endswith(COMPUTE_PIXELS)

    @property
    def initialises(self) -> bool:
        """Whether it is what ``ee.Initialize`` sends."""
        return self.path.endswith(_INITIALISATION)

    @property
    def asset_ids(self) -> set[str]:
        """Ids of the images that the expression loads."""
        return {str(constant["constantValue"]) for constant in image_ids(self.values)}


async def read_work(scope: Scope, receive: Receive) -> Work | None:
    """Read a request to its end; None where the client hung up before."""
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    values = _values(body)
    return Work(scope["path"], body, values, _digest(scope, body, values))


def replayed(work: Work, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once more, and then what the connection says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": work.body, "more_body": False}

    return again


def image_ids(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Find the constants that are ids of ``Image.load``, in a request's body.

    Yields:
        The nodes ``{"constantValue": id}`` themselves.
    """
    expression = values.get("expression", {})
    shared = expression.get("values") if isinstance(expression, dict) else None
    shared = shared if isinstance(shared, dict) else {}
    waiting: list[Any] = [expression]
    while waiting:  # no recursion: expressions nest hundreds of levels deep
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            constant = _loaded_id(node, shared)
            if constant is not None:
                yield constant


def _loaded_id(node: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any] | None:
    call = node.get("functionInvocationValue")
    if not isinstance(call, dict) or call.get("functionName") != "Image.load":
        return None
    arguments = call.get("arguments")
    constant = arguments.get("id") if isinstance(arguments, dict) else None
    if isinstance(constant, dict):
        constant = shared.get(str(constant.get("valueReference")), constant)
    if isinstance(constant, dict) and isinstance(constant.get("constantValue"), str):
        return constant
    return None


def canonical(values: Any) -> bytes:
    """Write JSON values so that equal ones are equal bytes."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def digest_of(*parts: bytes) -> int:
    """Return 64 bits that depend on the parts and where they end, and on nothing else."""
    hashed = hashlib.blake2b(digest_size=8)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return int.from_bytes(hashed.digest(), "big")


def _values(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _digest(scope: Scope, body: bytes, values: dict[str, Any]) -> int:
    try:
        lasting = {name: value for name, value in values.items() if name not in _VOLATILE}
        content = canonical(lasting) if values else body
    except RecursionError:
        content = body
    query = scope.get("query_string", b"")
    return digest_of(scope["method"].encode(), scope["path"].encode(), query, content)
