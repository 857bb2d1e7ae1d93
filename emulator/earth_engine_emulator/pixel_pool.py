"""Repeats pixel replies instead of rendering them, so that a benchmark measures its client.

**The pixels are then wrong for their place.** What is right is what a client's speed depends on:
format, shape, bands, data types, size, and that the pixels are those of some real request.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earth_engine_emulator.request_work import (
    Work,
    canonical,
    digest_of,
    image_ids,
    read_work,
    replayed,
)

POOLED: Final = b"x-emulator-pooled"
_COMPUTE_SECONDS: Final = b"x-emulator-compute-seconds"
_MAX_KINDS: Final = 16
"""Kinds of request that are remembered: an all-season reply has 26 MB, and memory ends."""


@dataclass(slots=True)
class _Slot:
    """One remembered reply, and a lock so that one request renders it and others wait."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    messages: list[Message] | None = None


class PixelPool:
    """ASGI middleware that renders `size` replies per kind of request and then repeats them.

    Requests are of one kind when they differ only in which images of a collection they load and
    in where their grid lies: the size of the grid, the bands, the format and the expression's shape
    are the same. The request's content chooses the reply. Which requests fill the pool is a
    matter of who comes first.

    Args:
        app: the service.
        size: replies per kind.
    """

    def __init__(self, app: ASGIApp, size: int) -> None:
        self._app = app
        self._size = size
        self._kinds: OrderedDict[int, list[_Slot]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].endswith("/image:computePixels"):
            await self._app(scope, receive, send)
            return
        work = await read_work(scope, receive)
        if work is not None:
            await self._reply(work, scope, receive, send)

    async def _reply(self, work: Work, scope: Scope, receive: Receive, send: Send) -> None:
        slot = self._slots(kind_of(work))[work.digest % self._size]
        if slot.messages is None:
            async with slot.lock:
                if slot.messages is None:
                    await self._render(slot, work, scope, receive, send)
                    return
        for message in slot.messages:
            await send(message)

    async def _render(
        self, slot: _Slot, work: Work, scope: Scope, receive: Receive, send: Send
    ) -> None:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)
            await send(message)

        await self._app(scope, replayed(work, receive), keep)
        if messages and messages[0]["status"] == 200 and not messages[-1].get("more_body", False):
            slot.messages = [_pooled(messages[0]), *messages[1:]]

    def _slots(self, kind: int) -> list[_Slot]:
        slots = self._kinds.pop(kind, None) or [_Slot() for _ in range(self._size)]
        self._kinds[kind] = slots
        if len(self._kinds) > _MAX_KINDS:
            self._kinds.popitem(last=False)
        return slots


def kind_of(work: Work) -> int:
    """Return 64 bits that are equal where replies have the same format, shape, bands and types."""
    values: dict[str, Any] = json.loads(canonical(work.values))  # a copy, and quicker than deepcopy
    ids = {id(constant): constant for constant in image_ids(values)}  # one may be used twice
    for constant in ids.values():
        constant["constantValue"] = str(constant["constantValue"]).rpartition("/")[0]
    grid = values.get("grid")
    kind = {
        "expression": values.get("expression"),
        "dimensions": grid.get("dimensions") if isinstance(grid, dict) else None,
        "bands": values.get("bandIds"),
        "format": values.get("fileFormat"),
        "path": work.path,
    }
    return digest_of(canonical(kind))


def _pooled(start: Message) -> Message:
    headers = [(name, value) for name, value in start["headers"] if name != _COMPUTE_SECONDS]
    return {**start, "headers": [*headers, (POOLED, b"1")]}
