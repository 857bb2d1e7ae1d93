"""Runs the emulator: in the foreground, in a thread, or in a process of its own.

It listens on loopback alone: it checks no credentials, so nobody else may reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from earth_engine_emulator.errors import AddressError, StartError
from earth_engine_emulator.faults import CONNECTION

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn._types import ASGI3Application

    from earth_engine_emulator.settings import EmulatorSettings

GRACE_S: Final = 1.0
"""Time that replies under way have when the emulator stops. Half-sent ones are cut after it."""
START_TIMEOUT_S: Final = 60.0
"""A process imports GDAL and the world's tables first: seconds on a busy machine."""
_STOP_TIMEOUT_S: Final = 10.0
_KEEP_ALIVE_S: Final = 75
"""Longer than a client is idle between batches: uvicorn's 5 s cut connections just being reused."""
_BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator.

    Args:
        url: ``http://127.0.0.1:PORT``, what ``ee.Initialize(url=...)`` takes.
        process_id: where it runs in a process of its own.
    """

    url: str
    process_id: int | None = None


def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    exposed: bool = False,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; to be called in the main thread.

    Args:
        app: of `earth_engine_emulator.settings.make_app`.
        host: loopback address, unless `exposed`.
        port: 0 takes a free one.
        exposed: any address will do: for a closed network, such as that of containers.
        announce: called with the url as soon as requests are answered.

    Raises:
        AddressError: the address is not loopback, or its port is taken.
    """
    with _listening(host, port, exposed=exposed) as listener:
        url = _url_of(listener)
        _Server(app, lambda: announce(url) if announce else None).run(sockets=[listener])


@contextlib.contextmanager
def emulator_in_thread(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Emulator]:
    """Serve an app from a thread of this process while the context lasts.

    Raises:
        AddressError: the address is not loopback, or its port is taken.
        StartError: the app did not start.
    """
    ready = threading.Event()
    with _listening(host, port) as listener:
        server = _Server(app, ready.set)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="emulator", daemon=True
        )
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise StartError("the emulator's thread ended before it listened: see above")
            yield Emulator(_url_of(listener))
        finally:
            server.should_exit = True
            thread.join(_STOP_TIMEOUT_S)


@contextlib.contextmanager
def emulator_in_process(
    settings: EmulatorSettings, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Emulator]:
    """Run an emulator in a process of its own while the context lasts.

    The process ends with this one, whichever way this one ends.

    Raises:
        StartError: it did not start; the sentence says why.
    """
    command = [sys.executable, "-m", "earth_engine_emulator.process"]
    # In a session of its own: Ctrl-C in the terminal is for the client, which may want to finish.
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        order = {"host": host, "port": port, "settings": settings.model_dump(mode="json")}
        url = _order(process, json.dumps(order))
        yield Emulator(url, process.pid)
    finally:
        _stop(process)


def serve_order(order_in: TextIO, reply_out: TextIO) -> int:
    """Serve what `emulator_in_process` orders, until its end of the pipe closes.

    Returns:
        Exit code.
    """
    from earth_engine_emulator.errors import EmulatorError
    from earth_engine_emulator.settings import EmulatorSettings, make_app

    def reply(**values: str) -> None:
        reply_out.write(json.dumps(values) + "\n")
        reply_out.flush()

    order = json.loads(order_in.readline())
    try:
        app = make_app(EmulatorSettings.model_validate(order["settings"]))
        with _listening(order["host"], order["port"]) as listener:
            server = _Server(app, lambda: reply(url=_url_of(listener)))
            threading.Thread(target=_watch, args=(order_in, server), daemon=True).start()
            server.run(sockets=[listener])
    except EmulatorError as error:
        reply(error=str(error))
        return 2
    return 0


def _watch(order_in: TextIO, server: uvicorn.Server) -> None:
    # Not order_in.read(): a thread that holds the lock of stdin at exit is a fatal error.
    while os.read(order_in.fileno(), 4096):
        pass
    server.should_exit = True


def _order(process: subprocess.Popen[str], order: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(START_TIMEOUT_S, process.kill)
    timer.start()
    try:
        process.stdin.write(order + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    finally:
        timer.cancel()
    answer = (
        json.loads(line)
        if line
        else {"error": "the emulator's process ended, or did not listen in time: see above"}
    )
    if "error" in answer:
        raise StartError(answer["error"])
    return str(answer["url"])


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


@contextlib.contextmanager
def _listening(host: str, port: int, *, exposed: bool = False) -> Iterator[socket.socket]:
    """Bind a port before anything else starts: a taken one is then a sentence, not a log."""
    address = host if exposed else _loopback(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With its protocol named: asyncio sets TCP_NODELAY on such sockets alone, and without that the
    # second packet of a small reply waits 40 ms for an acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise AddressError(
                f"port {port} of {address} cannot be listened on ({reason}): choose another port, "
                "or 0 for any free one"
            ) from error
        yield listener


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise AddressError(
            f"host {host!r}: the emulator checks no credentials and so listens on this machine "
            "alone; use 127.0.0.1, ::1 or localhost, or add --exposed in a closed network"
        )
    return address


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, stops on a signal without an exception, and in time."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                cast("Any", app),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(_STOP_TIMEOUT_S) // 2,
                backlog=_BACKLOG,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cut = asyncio.get_running_loop().call_later(GRACE_S, self._cut)
        await super().shutdown(sockets)
        cut.cancel()

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            cast("H11Protocol", connection).transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Unlike uvicorn's own, it does not raise the signal again: being stopped is the normal end.
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._exit) for number in signals}
        try:
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def _exit(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


class _Protocol(H11Protocol):
    """HTTP/1.1 whose requests carry their connection, as the extension `CONNECTION`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {CONNECTION: self.transport}
            await cast("ASGIApp", inner)(scope, receive, send)

        self.app = cast("ASGI3Application", app)
