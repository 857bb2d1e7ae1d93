"""One builder per cube: a lease with a heartbeat.

The lease is one small object in the cube. Its holder renews it; one that has not been renewed in
time, or whose process is known to be dead, is taken over. Every change is a compare-and-swap, so of
two builders that start together one wins.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import psutil

from groundwork.errors import SoftconError
from pipeline.cube.object_storage import ObjectStorage
from pipeline.errors import CubeInUseError, LeaseLostError

LEASE_KEY: Final = "lease.json"
LEASE_S: Final = 120.0
"""A builder silent for this long has lost the cube. Clocks of builders may differ by far less."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What stands in the lease object."""

    token: str
    host: str
    pid: int
    process_started_s: float
    command: str
    since: str
    expires_s: float
    released: bool = False

    @classmethod
    def new(cls, lease_s: float) -> LeaseRecord:
        """Describe this process."""
        return cls(
            token=uuid.uuid4().hex,
            host=platform.node(),
            pid=os.getpid(),
            process_started_s=psutil.Process().create_time(),
            command=os.path.basename(sys.argv[0]) or "python",  # noqa: PTH119 - not always a path
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_s=time.time() + lease_s,
        )

    def encode(self) -> bytes:
        """Return the JSON text."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, value: bytes) -> LeaseRecord | None:
        """Read the JSON text; None where it is none of ours."""
        try:
            return cls(**json.loads(value))
        except (ValueError, TypeError):
            return None

    @property
    def is_over(self) -> bool:
        """Whether another builder may take the cube."""
        return self.released or time.time() > self.expires_s or self._is_dead()

    def _is_dead(self) -> bool:
        """Whether the holder was on this machine and is gone: nobody has to wait for it then."""
        if self.host != platform.node():
            return False
        try:
            started_s = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        return abs(started_s - self.process_started_s) > 1.0


class Lease:
    """Hold a cube while building: ``with Lease(storage) as lease: ...``.

    Raises:
        CubeInUseError: on entry, another builder holds the cube.
    """

    def __init__(self, storage: ObjectStorage, *, lease_s: float = LEASE_S) -> None:
        self._storage = storage
        self._lease_s = lease_s
        self._record = LeaseRecord.new(lease_s)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def token(self) -> str:
        """What `check_lease` compares."""
        return self._record.token

    @property
    def since(self) -> str:
        """When this builder began, ISO 8601, UTC."""
        return self._record.since

    def __enter__(self) -> Self:
        held = self._storage.read(LEASE_KEY)
        other = LeaseRecord.decode(held) if held else None
        if other is not None and not other.is_over:
            raise self._refusal(other)
        if not self._storage.swap(LEASE_KEY, held, self._record.encode()):
            winner = LeaseRecord.decode(self._storage.read(LEASE_KEY) or b"")
            raise self._refusal(winner)
        self._thread = threading.Thread(target=self._beat, name="cube-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._renew(released=True)
        except SoftconError:
            # The lease then simply expires; the error of the build, if any, matters more.
            return

    def _beat(self) -> None:
        while not self._stop.wait(self._lease_s / 4):
            try:
                if not self._renew():
                    return
            except SoftconError:
                continue  # Tried again until the lease expires; check_lease then stops the build.

    def _renew(self, *, released: bool = False) -> bool:
        with self._lock:
            renewed = replace(
                self._record, expires_s=time.time() + self._lease_s, released=released
            )
            if not self._storage.swap(LEASE_KEY, self._record.encode(), renewed.encode()):
                return False
            self._record = renewed
            return True

    def _refusal(self, other: LeaseRecord | None) -> CubeInUseError:
        who = (
            f"process {other.pid} ({other.command}) on {other.host}, since {other.since}"
            if other is not None
            else "another process"
        )
        return CubeInUseError(
            f"{self._storage} is being built by {who}: wait for it, or stop it and run the same "
            "command again"
        )


def check_lease(storage: ObjectStorage, token: str) -> None:
    """Raise `LeaseLostError` unless the lease with this token still holds."""
    record = LeaseRecord.decode(storage.read(LEASE_KEY) or b"")
    if record is None or record.token != token or record.released or time.time() > record.expires_s:
        raise LeaseLostError(
            f"this builder no longer holds {storage}: its lease ran out or was taken over; "
            "run the same command again once the other builder is done"
        )


def wait_while_silent(storage: ObjectStorage, *, lease_s: float = LEASE_S) -> None:
    """Wait for the lease of a builder that gives no sign of life to run out.

    What a builder leaves that lost its machine. One that renews its lease is alive: then, or where
    nobody holds the cube, this returns at once or after one heartbeat.

    Args:
        storage: the cube.
        lease_s: how long a lease lasts.
    """
    first = LeaseRecord.decode(storage.read(LEASE_KEY) or b"")
    while first is not None and not first.is_over:
        time.sleep(lease_s / 120)
        now = LeaseRecord.decode(storage.read(LEASE_KEY) or b"")
        if now is None or now.token != first.token or now.expires_s != first.expires_s:
            return
