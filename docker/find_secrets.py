"""Look for the stack's secrets where none may be: on stdin, in the store, in Prefect's records.

Runs in a container of the stack, which has the secrets; names what it found, never the value.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from pipeline.cube.object_storage import ObjectStorage

STORE = "s3://cubes"
RECORDS = ("artifacts", "logs", "flow_runs", "task_runs", "deployments", "work_pools")
PAGE = 200


def planted() -> dict[str, bytes]:
    """Return what to look for, by name."""
    folder = Path("/secrets")
    found = {
        name: (folder / name).read_bytes().strip()
        for name in ("postgres_password", "prefect_auth", "s3_secret_key")
    }
    found["password of prefect_auth"] = found["prefect_auth"].split(b":", 1)[1]
    found["prefect_auth as a header"] = base64.b64encode(found["prefect_auth"])
    return found


def records(kind: str) -> list[Any]:
    """Return everything of one kind that Prefect's server has."""
    token = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    everything: list[Any] = []
    while True:
        request = urllib.request.Request(  # noqa: S310 - the stack's own server
            f"{os.environ['PREFECT_API_URL']}/{kind}/filter",
            json.dumps({"limit": PAGE, "offset": len(everything)}).encode(),
            {"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            page = json.load(reply)
        everything += page
        if len(page) < PAGE:
            return everything


def main() -> int:
    """Return 1 where a secret was found, or where there was nothing to look at."""
    secrets = planted()
    storage = ObjectStorage(STORE)
    keys = list(storage.list_sizes())
    places: dict[str, bytes] = {"stdin": sys.stdin.buffer.read()}
    places |= {f"records: {kind}": json.dumps(records(kind)).encode() for kind in RECORDS}
    wrong = [f"nothing to look at in {place}" for place, data in places.items() if len(data) < 3]
    num_bytes = 0
    objects = ((f"object {key}", storage.read(key) or b"") for key in keys)
    for place, data in itertools.chain(places.items(), objects):
        num_bytes += len(data)
        wrong += [f"{name} in {place}" for name, value in secrets.items() if value in data]
    for sentence in wrong:
        sys.stdout.write(f"WRONG: {sentence}\n")
    sys.stdout.write(
        f"looked for {len(secrets)} forms of secrets in {len(places)} kinds of records and "
        f"{len(keys):,} objects, {num_bytes:,} bytes\n"
    )
    return int(bool(wrong) or not keys)


if __name__ == "__main__":
    sys.exit(main())
