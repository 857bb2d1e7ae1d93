"""All the services of a rebuild as processes on loopback: what compose does, for tests.

PostgreSQL (where it is installed; else Prefect keeps its state in SQLite), Prefect server and
worker, Dask scheduler and two workers, an S3 store, the emulator. Every one may be killed with
`kill -9`; the watch starts it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.s3_server import ACCESS_KEY, SECRET_KEY, free_ports, s3_command

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 120
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")


@dataclass
class Service:
    """One process."""

    name: str
    command: list[str]
    port: int | None = None
    path: str | None = None
    """Answers below 500 once the service is up; None waits for the port alone."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass
class Stack:
    """The services, by name."""

    folder: Path
    environment: dict[str, str]
    emulator_url: str
    scheduler: str
    services: dict[str, Service] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self, name: str) -> None:
        """Start a service, and wait until it answers."""
        service = self.services[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            service.process = subprocess.Popen(
                service.command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        service.starts += 1
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not self.stopping.is_set() and not is_up(service):
            if service.process.poll() is not None:
                return  # The watch tries again.
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{name}: {self.log(name)[-2000:]}")
            time.sleep(0.1)

    def watch(self) -> None:
        """Start again what has died."""
        while not self.stopping.wait(0.2):
            for service in self.services.values():
                if service.process is not None and service.process.poll() is not None:
                    self.start(service.name)

    def kill(self, name: str) -> bool:
        """Send SIGKILL to a service, or to the running flow; tell whether there was one."""
        if name == "flow":
            victims = self.flow_processes()
        else:
            process = self.services[name].process
            victims = [process.pid] if process is not None and process.poll() is None else []
            if name.startswith("dask-worker") and victims:
                # The worker itself: its nanny, which waits beside it, starts it again.
                children = psutil.Process(victims[0]).children(recursive=True)
                victims = [c.pid for c in children if "spawn_main" in " ".join(c.cmdline())]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        return bool(victims)

    def flow_processes(self) -> list[int]:
        """Return the processes of running flows, whoever is their parent now."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "environ"]):
            words = " ".join(process.info["cmdline"] or [])
            home = (process.info["environ"] or {}).get("PREFECT_HOME")
            is_flow = "flow-run execute" in words or "prefect.engine" in words
            if is_flow and home == self.environment["PREFECT_HOME"]:
                found.append(process.info["pid"])
        return found

    def log(self, name: str) -> str:
        """Return what a service has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a command of the environment; returns its output."""
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def is_up(service: Service) -> bool:
    """Whether a service answers."""
    if service.port is None:
        return True
    if service.path is None:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", service.port)) == 0
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}{service.path}", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


@contextlib.contextmanager
def running_stack(folder: Path, faults: dict[str, Any] | None = None) -> Iterator[Stack]:
    """Start everything, yield it, and leave nothing behind."""
    names = ("postgres", "server", "emulator", "scheduler", "worker-0", "worker-1")
    port = dict(zip(names, free_ports(len(names)), strict=True))
    (folder / "store").mkdir()
    store, endpoint = s3_command(folder / "store")
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port['server']}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    scheduler = f"tcp://127.0.0.1:{port['scheduler']}"
    fault_file = folder / "faults.yaml"
    fault_file.write_text(yaml.safe_dump(faults or {"seed": 1}))
    softcon, prefect, dask = (str(BIN / name) for name in ("softcon", "prefect", "dask"))
    stack = Stack(folder, environment, f"http://127.0.0.1:{port['emulator']}", scheduler)
    services = [
        Service("store", store, int(endpoint.rsplit(":", 1)[1]), "/healthz"),
        Service(
            "emulator",
            [softcon, "emulator", "--port", str(port["emulator"]), "--faults", str(fault_file)],
            port["emulator"],
        ),
        Service(
            "scheduler",
            [dask, "scheduler", "--host", "127.0.0.1", "--port", str(port["scheduler"]),
             "--dashboard-address", "127.0.0.1:0"],
            port["scheduler"],
        ),
        *(
            Service(
                f"dask-worker-{n}",
                [dask, "worker", scheduler, "--nthreads", "1", "--host", "127.0.0.1",
                 "--dashboard-address", "127.0.0.1:0", "--local-directory", str(folder / f"d{n}")],
            )
            for n in range(2)
        ),
        Service(
            "server",
            [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port["server"])],
            port["server"],
            "/api/health",
        ),
        Service("prefect-worker", [prefect, "worker", "start", "--pool", "softcon"]),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack_of_things:
        if (POSTGRES_BIN / "postgres").exists():
            data = Path(stack_of_things.enter_context(tempfile.TemporaryDirectory()))
            services.insert(0, postgres(data, port["postgres"]))
            environment["PREFECT_API_DATABASE_CONNECTION_URL"] = (
                f"postgresql+asyncpg://prefect@127.0.0.1:{port['postgres']}/prefect"
            )
        try:
            for service in services:
                if service.name == "prefect-worker":
                    stack.run("softcon", "deploy", "--working-dir", str(folder))
                stack.services[service.name] = service
                stack.start(service.name)
                if service.name == "postgres":
                    as_postgres("createdb", "-h", "127.0.0.1", "-p", str(port["postgres"]),
                                "-U", "prefect", "prefect")  # fmt: skip
            watch = threading.Thread(target=stack.watch, daemon=True)
            watch.start()
            yield stack
        finally:
            stack.stopping.set()
            end(stack)


def end(stack: Stack) -> None:
    """Kill every service with all its processes."""
    left = [s.process.pid for s in stack.services.values() if s.process is not None]
    for pid in (*left, *stack.flow_processes()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
    for service in stack.services.values():
        if service.process is not None:
            service.process.wait()


def postgres(data: Path, port: int) -> Service:
    """Make a database cluster; it takes connections of loopback alone."""
    if os.getuid() == 0:
        shutil.chown(data, "postgres", "postgres")
    as_postgres("initdb", "-D", str(data / "db"), "-U", "prefect", "--auth=trust", "-E", "UTF8")
    command = [
        *drop_root(), str(POSTGRES_BIN / "postgres"), "-D", str(data / "db"), "-p", str(port),
        "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}",
    ]  # fmt: skip
    return Service("postgres", command, port)


def as_postgres(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, which refuse root."""
    done = subprocess.run(
        [*drop_root(), str(POSTGRES_BIN / program), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def drop_root() -> list[str]:
    """Return what goes before a command that refuses root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
