"""A real S3 server (SeaweedFS) on ephemeral loopback ports, for the store's contract tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "softcon-test", "softcon-test-secret"
START_TIMEOUT_S = 60


def weed_binary() -> str | None:
    """Return the SeaweedFS program installed beside this Python, if there is one."""
    return shutil.which(
        "weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )


def s3_command(folder: Path) -> tuple[list[str], str]:
    """Return the command of a server that keeps its data in `folder`, and its endpoint URL."""
    program = weed_binary()
    assert program is not None
    config = folder / "s3.json"
    config.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "test",
                        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    }
                ]
            }
        )
    )
    ports = dict(zip(["master", "volume", "filer", "s3"], free_ports(4), strict=True))
    grpc = dict(zip(ports, free_ports(4), strict=True))
    command = [program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    command += ["-s3", f"-s3.config={config}", "-master.volumeSizeLimitMB=256", "-volume.max=64"]
    command += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    return command, f"http://127.0.0.1:{ports['s3']}"


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Run a server that keeps its data in `folder`; yield its endpoint URL."""
    command, endpoint = s3_command(folder)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_up(endpoint, process, folder / "server.log")
            yield endpoint
        finally:
            process.kill()  # Its data is thrown away: no need to let it tidy up for ten seconds.
            process.wait()


def free_ports(num: int) -> list[int]:
    """Return ports of loopback that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_up(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{endpoint}/healthz", timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
