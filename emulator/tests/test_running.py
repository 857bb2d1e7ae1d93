"""Starting and stopping: loopback alone, a real port, an end in good time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from earth_engine_emulator.errors import AddressError, StartError
from earth_engine_emulator.faults import CONNECTION
from earth_engine_emulator.running import emulator_in_process, emulator_in_thread, serve
from earth_engine_emulator.settings import EmulatorSettings
from earth_engine_emulator.testing import ramp, write_catalogue, write_raster


async def answer(request: Request) -> Response:
    connection = request.scope["extensions"][CONNECTION].get_extra_info("socket")
    no_delay = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return JSONResponse({"no_delay": bool(no_delay), "peer": connection.getpeername()[0]})


APP = Starlette(routes=[Route("/", answer)])


@pytest.fixture
def small(tmp_path: Path) -> EmulatorSettings:
    write_raster(tmp_path / "b2.tif", ramp(20, 20))
    write_catalogue(tmp_path)
    return EmulatorSettings(world=str(tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.org", "", "::"])
def test_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(AddressError, match=r"use 127\.0\.0\.1, ::1 or localhost") as caught:
        serve(APP, host=host)
    assert repr(host) in str(caught.value)
    with pytest.raises(AddressError), emulator_in_thread(APP, host=host):
        pass


@pytest.mark.server
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_thread_serves_on_a_free_port(host: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    before = _emulator_threads()  # those of the whole session's fixtures
    with emulator_in_thread(APP, host=host) as running:
        assert running.process_id is None
        found = requests.get(running.url, timeout=10).json()
        assert found["peer"] in {"127.0.0.1", "::1"}
        assert found["no_delay"]  # without it every small reply takes 40 ms
    with pytest.raises(requests.ConnectionError):
        requests.get(running.url, timeout=10)
    assert _emulator_threads() == before


def _emulator_threads() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name == "emulator"}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.server
def test_taken_port_is_a_sentence() -> None:
    with emulator_in_thread(APP) as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(AddressError, match=f"port {port} of 127.0.0.1 .* another port"):
            serve(APP, port=port)
    with emulator_in_thread(APP, port=port) as running:  # free again at once
        assert running.url.endswith(f":{port}")
    with pytest.raises(AddressError, match="port 70000"):
        serve(APP, port=70_000)


@pytest.mark.server
def test_stops_in_time_although_a_reply_is_stuck(caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Event()

    async def stuck(scope: object, receive: object, send: object) -> None:
        begun.set()
        while (await receive())["type"] != "http.disconnect":  # type: ignore[operator]
            pass

    with emulator_in_thread(stuck) as running:
        client = threading.Thread(target=_expect_no_reply, args=(running.url,))
        client.start()
        assert begun.wait(10)
        start = time.monotonic()
    assert time.monotonic() - start < 8
    client.join(10)
    assert not caplog.records


def _expect_no_reply(url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)


@pytest.mark.server
@pytest.mark.distributed
def test_process_serves_and_ends_with_the_context(small: EmulatorSettings) -> None:
    with emulator_in_process(small) as running:
        assert requests.get(running.url + "/emulator/statistics", timeout=10).ok
        assert running.process_id not in {None, os.getpid()}
        os.kill(running.process_id or 0, 0)
    assert _gone(running.process_id or 0)


@pytest.mark.server
@pytest.mark.distributed
def test_process_does_not_outlive_who_started_it(small: EmulatorSettings) -> None:
    code = (
        "import sys, time\n"
        "from earth_engine_emulator.running import emulator_in_process\n"
        "from earth_engine_emulator.settings import EmulatorSettings\n"
        "with emulator_in_process(EmulatorSettings(world=sys.argv[1])) as running:\n"
        "    print(running.process_id, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, small.world]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        process_id = int(starter.stdout.readline())
        os.kill(process_id, 0)
        starter.kill()
    deadline = time.monotonic() + 20
    while not _gone(process_id):
        assert time.monotonic() < deadline, "the emulator lives on"
        time.sleep(0.1)


@pytest.mark.server
@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_stops_on_a_signal(small: EmulatorSettings, number: signal.Signals) -> None:
    with emulator_in_process(small) as running:
        os.kill(running.process_id or 0, number)
        deadline = time.monotonic() + 20
        while _answers(running.url):
            assert time.monotonic() < deadline, "it goes on answering"
            time.sleep(0.1)


@pytest.mark.server
@pytest.mark.distributed
def test_process_says_why_it_does_not_start(small: EmulatorSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = EmulatorSettings(world=str(tmp_path / "empty"))
    with pytest.raises(StartError, match="holds no catalogue"), emulator_in_process(settings):
        pass
    with (
        pytest.raises(StartError, match="listens on this machine alone"),
        emulator_in_process(small, host="0.0.0.0"),
    ):
        pass


def _gone(process_id: int) -> bool:
    """Whether a process has ended; one that nobody has waited for counts as ended."""
    stat = Path(f"/proc/{process_id}/stat")
    if stat.parent.parent.joinpath("self").exists():
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def _answers(url: str) -> bool:
    try:
        requests.get(url + "/emulator/statistics", timeout=10)
    except requests.ConnectionError:
        return False
    return True
