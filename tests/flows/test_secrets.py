"""Secrets are used, and are nowhere afterwards: not in logs, pages, parameters, cubes or reports.

Every secret that a run can have is planted: the key of an S3 store, a service account's private
key, the password of a Prefect server. Then everything that the runs left is searched for them.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.cube.object_storage import ObjectStorage
from tests.pipeline.rebuilding import configuration
from tests.s3_server import SECRET_KEY, free_ports

pytestmark = [pytest.mark.server, pytest.mark.distributed, pytest.mark.slow]

BIN = Path(sys.executable).parent
CUBE = "s3://cubes/secrets.zarr"
WRONG_SECRET_KEY = "WRONG-SECRET-KEY-4f1d"
PASSWORD = "PREFECT-PASSWORD-77ab"
AUTH = f"admin:{PASSWORD}"
KEY_ID = "KEY-ID-OF-THE-SERVICE-ACCOUNT-c3e9"
BROKEN_KEY = "BROKEN-PRIVATE-KEY-90aa"
START_TIMEOUT_S = 120
TIMEOUT_S = 300
FLOW = """
import json, sys
from {module} import {name}
state = {name}(*json.load(open(sys.argv[1])), return_state=True)
print(state.name, state.message)
"""
LEAK = """
import os
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

@flow
def leak(word: str):
    get_run_logger().info("a log with %s", word)
    create_markdown_artifact(word, key="leak")

leak(os.environ["AWS_SECRET_ACCESS_KEY"])
"""


@dataclass
class Place:
    """Where everything runs, and what it has said."""

    folder: Path
    environment: dict[str, str]
    api: str
    said: dict[str, bytes] = field(default_factory=dict)

    def run(self, what: str, *command: str, **changes: str) -> str:
        """Run a command and keep its output."""
        done = subprocess.run(
            command,
            env=self.environment | changes,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        self.said[what] = done.stdout
        return f"{done.returncode}: {done.stdout.decode(errors='replace')}"

    def run_flow(self, what: str, name: str, *parameters: Any, **changes: str) -> str:
        file = self.folder / "parameters.json"
        file.write_text(json.dumps(parameters))
        code = FLOW.format(module=f"flows.{name}", name=name)
        return self.run(what, sys.executable, "-c", code, str(file), **changes)

    def softcon(self, what: str, *arguments: str) -> str:
        return self.run(what, sys.executable, "-m", "flows", *arguments)


@pytest.fixture(scope="module")
def token_server() -> Iterator[str]:
    """Where the service account's token would come from; it refuses."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            reply = b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture(scope="module")
def secrets(private_key: str) -> dict[str, str]:
    """Everything that nobody may read: by name."""
    line = private_key.splitlines()[5]
    assert len(line) == 64
    return {
        "key of the store": SECRET_KEY,
        "wrong key of the store": WRONG_SECRET_KEY,
        "password of Prefect": PASSWORD,
        "password of Prefect, as it is sent": base64.b64encode(AUTH.encode()).decode(),
        "private key": line,
        "id of the private key": KEY_ID,
        "broken private key": BROKEN_KEY,
    }


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    s3_endpoint: str,
    token_server: str,
    private_key: str,
    _loopback_without_proxy: None,
) -> Iterator[Place]:
    """A Prefect server with a password, and a folder with key files."""
    folder = tmp_path_factory.mktemp("secrets")
    account = {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": KEY_ID,
        "private_key": private_key,
        "client_email": "robot@test-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_server,
    }
    (folder / "key.json").write_text(json.dumps(account))
    broken = f"-----BEGIN PRIVATE KEY-----\n{BROKEN_KEY}\n-----END PRIVATE KEY-----\n"
    (folder / "broken.json").write_text(json.dumps(account | {"private_key": broken}))
    (port,) = free_ports(1)
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "DO_NOT_TRACK": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json"),
    }
    assert environment["AWS_SECRET_ACCESS_KEY"] == SECRET_KEY
    found = Place(folder, environment, environment["PREFECT_API_URL"])
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            wait_until_up(f"{found.api}/health", process, log)
            yield found
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text()[-2000:])


@dataclass
class Evidence:
    """What the runs left, before and after something leaked on purpose."""

    ended: dict[str, str]
    clean: dict[str, bytes]
    leaked: dict[str, bytes]


@pytest.fixture(scope="module")
def evidence(place: Place, simulated_emulator: str) -> Evidence:
    """Run everything, successes and failures."""
    settings = configuration(simulated_emulator, CUBE, 4, locations_per_batch=2)
    service = {"endpoint": "https://127.0.0.1:9", "credentials": "service_account"}

    def with_key(file: str) -> dict[str, Any]:
        changes = service | {"credentials_file": file}
        return configuration("", "s3://cubes/none.zarr", 4, earth_engine=changes)

    (place.folder / "good.yaml").write_text(json.dumps(settings))
    (place.folder / "refused.yaml").write_text(json.dumps(with_key("key.json")))
    (place.folder / "broken.yaml").write_text(json.dumps(with_key("broken.json")))
    ended = {
        "rebuild": place.run_flow("rebuild", "rebuild_dataset", settings),
        "seal": place.run_flow("seal", "seal_and_audit", CUBE, True),
        "refused key": place.run_flow("refused key", "rebuild_dataset", with_key("key.json")),
        "broken key": place.run_flow("broken key", "rebuild_dataset", with_key("broken.json")),
        "wrong key of the store": place.run_flow(
            "wrong key of the store",
            "rebuild_dataset",
            settings,
            AWS_SECRET_ACCESS_KEY=WRONG_SECRET_KEY,
        ),
        "softcon rebuild": place.softcon("softcon rebuild", "rebuild", "good.yaml", "--json"),
        "softcon refused": place.softcon("softcon refused", "rebuild", "refused.yaml", "--json"),
        "softcon broken": place.softcon("softcon broken", "rebuild", "broken.yaml"),
        "softcon seal": place.softcon("softcon seal", "seal", CUBE, "--json"),
        "softcon audit": place.softcon("softcon audit", "audit", CUBE, "--json"),
        "softcon report": place.softcon("softcon report", "report", CUBE, "--out", "report.html"),
        "softcon deploy": place.run("softcon deploy", str(BIN / "softcon"), "deploy",
                                    "--rebuild", "good.yaml", "--working-dir", str(place.folder)),
    }  # fmt: skip
    time.sleep(3)  # Events and logs are sent in the background.
    clean = everything(place)
    place.run("leak", sys.executable, "-c", LEAK)
    ObjectStorage(CUBE).write("provenance/leak.json", json.dumps({"key": SECRET_KEY}).encode())
    time.sleep(3)
    return Evidence(ended, clean, everything(place))


def everything(place: Place) -> dict[str, bytes]:
    """All that can be read afterwards: where -> bytes."""
    found = {f"output of {what}": said for what, said in place.said.items()}
    found |= {f"api {path}": text for path, text in ask_api(place).items()}
    for file in (place.folder / "prefect").rglob("*"):
        if file.is_file():  # The database, results, caches.
            found[f"prefect's folder {file.name}"] = file.read_bytes()
    found["prefect's server log"] = (place.folder / "server.log").read_bytes()
    found["report"] = (place.folder / "report.html").read_bytes()
    storage = ObjectStorage(CUBE)
    for key in storage.list_sizes():
        value = storage.read(key) or b""
        if key.endswith(".parquet"):  # It is compressed.
            table = pq.read_table(io.BytesIO(value))
            value = repr((table.to_pydict(), table.schema.metadata)).encode()
        found[f"cube {key}"] = value
    return found


def ask_api(place: Place) -> dict[str, bytes]:
    """Return what Prefect's API says of runs, states, logs, artifacts, events and deployments."""
    found: dict[str, bytes] = {}
    with httpx.Client(auth=tuple(AUTH.split(":")), timeout=60) as client:

        def ask(method: str, path: str, **named: Any) -> Any:
            reply = client.request(method, f"{place.api}/{path}", **named)
            assert reply.is_success, f"{path}: {reply.text}"
            found[f"{path} {named.get('params', named.get('json', ''))}"] = reply.content
            return reply.json()

        for kind in ("flows", "task_runs", "artifacts", "deployments", "variables", "work_pools"):
            ask("POST", f"{kind}/filter", json={})
        ask("POST", "block_documents/filter", json={"include_secrets": True})
        ask("POST", "events/filter", json={"limit": 50})
        for run in ask("POST", "flow_runs/filter", json={}):
            ask("GET", "flow_run_states/", params={"flow_run_id": run["id"]})
            ask("GET", f"flow_runs/{run['id']}")
        for offset in range(0, 10_000, 200):
            if not ask("POST", "logs/filter", json={"limit": 200, "offset": offset}):
                break
    return found


def find(secret: str, places: Mapping[str, bytes]) -> list[str]:
    """Return where a secret is, as it is or written otherwise."""
    forms = {
        secret.encode(),
        base64.b64encode(secret.encode()).rstrip(b"="),
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        secret.encode().hex().encode(),
        secret.encode("utf-16-le"),
    }
    return [where for where, value in places.items() if any(form in value for form in forms)]


def test_the_runs_used_the_secrets(evidence: Evidence, place: Place) -> None:
    ended = evidence.ended
    assert "Completed None" in ended["rebuild"], ended["rebuild"]
    assert "Completed None" in ended["seal"], ended["seal"]
    assert "Failed" in ended["refused key"]
    assert "Earth Engine refuses the credentials" in ended["refused key"]
    assert "no key of a service account" in ended["broken key"]
    assert "no permission at s3://cubes" in ended["wrong key of the store"]
    assert ended["softcon rebuild"].startswith("0: ")
    assert ended["softcon refused"].startswith("2: ")
    assert ended["softcon broken"].startswith("2: ")
    for name in ("seal", "audit", "report", "deploy"):
        assert ended[f"softcon {name}"].startswith("0: "), ended[f"softcon {name}"]
    assert httpx.post(f"{place.api}/flow_runs/filter", json={}).status_code == 401


def test_everything_is_looked_at(evidence: Evidence) -> None:
    words = " ".join(evidence.clean)
    objects = ("zarr.json", "patches.parquet", "provenance/report.html", "batches/", "provenance/")
    for where in (
        *("prefect.db", "logs/filter", "artifacts/filter", "flow_run_states", "events/filter"),
        *(f"cube {key}" for key in objects),
    ):
        assert where in words
    logs = b"".join(v for k, v in evidence.clean.items() if "logs/filter" in k)
    assert b"is written" in logs
    artifacts = b"".join(v for k, v in evidence.clean.items() if "artifacts/filter" in k)
    assert b"budget-" in artifacts


@pytest.mark.parametrize(
    "name",
    ["key of the store", "wrong key of the store", "password of Prefect",
     "password of Prefect, as it is sent", "private key", "id of the private key",
     "broken private key"],
)  # fmt: skip
def test_a_secret_is_nowhere(evidence: Evidence, secrets: dict[str, str], name: str) -> None:
    assert find(secrets[name], evidence.clean) == []


def test_the_search_finds_what_was_put_there_on_purpose(evidence: Evidence) -> None:
    words = " ".join(find(SECRET_KEY, evidence.leaked))
    for where in ("output of leak", "logs/filter", "artifacts/filter", "flow_runs/filter",
                  "prefect.db", "cube provenance/leak.json"):  # fmt: skip
        assert where in words


@pytest.mark.parametrize(
    "written",
    [b"a %s b", b'{"x": "%s"}', b"\0\1%s"],
)
def test_the_search_knows_the_ways_a_secret_is_written(written: bytes) -> None:
    secret = "a/b+c=d"
    for form in (secret, quote(secret, safe=""), secret.encode().hex()):
        assert find(secret, {"here": written % form.encode()}) == ["here"]
    encoded = base64.b64encode(secret.encode())
    assert find(secret, {"here": written % encoded, "there": b"nothing"}) == ["here"]
