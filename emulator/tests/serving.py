"""A real server on loopback for the tests, and the unmodified client talking to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ee
import requests
import uvicorn
from google.auth.credentials import AnonymousCredentials
from starlette.middleware import Middleware

from earth_engine_emulator.limits import Limits
from earth_engine_emulator.server import create_app
from earth_engine_emulator.worlds import World

PROJECT = "small-world"


@contextmanager
def running(
    world: World, limits: Limits | None = None, middleware: Sequence[Middleware] = ()
) -> Iterator[str]:
    """Serve a world on an ephemeral port; yield the address."""
    app = create_app(world, limits=limits or Limits(), middleware=middleware)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def connect(address: str) -> None:
    """Point the client at a server; loopback is never behind a proxy."""
    ee.Reset()
    session = requests.Session()
    session.trust_env = False
    ee.data._get_state().requests_session = session
    ee.Initialize(AnonymousCredentials(), project=PROJECT, url=address)
    ee.data.setMaxRetries(0)
