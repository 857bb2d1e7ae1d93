"""The provider's limits, kept by a whole cluster: so many requests at once, so many a second.

The right to have one request under way is a *slot*. There are as many as the provider allows
requests at once. Alone, a process has them all; on a cluster it leases them one by one from a Dask
semaphore, up to its share. A process may begin as many requests per second as its part of the slots
is worth. So both limits hold in sum, without a message between machines per request.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from groundwork.errors import SoftconError
from pipeline.sources.earth_engine.settings import RequestLimits

_SPAN_S: Final = 1.1
"""Starts are counted over a little more than a second: on their way, requests may close up."""
_LEASE_WAIT_S: Final = 0.5


class CancelledError(SoftconError):
    """The run is ending; a request that had not begun never will."""


class SlotLeases(Protocol):
    """Slots of a cluster: what of ``distributed.Semaphore`` is used here."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Lease one slot; False if none is free for `timeout` seconds."""
        ...

    def release(self) -> bool:
        """Give one slot back."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterShare:
    """How a process takes part in the slots of a cluster.

    Args:
        semaphore: name of the cluster's Dask semaphore.
        max_slots: this process takes so many at most.
    """

    semaphore: str
    max_slots: int


class RequestGate:
    """Lets the threads of one process begin requests."""

    def __init__(
        self, limits: RequestLimits, leases: SlotLeases | None = None, max_slots: int | None = None
    ) -> None:
        self._limits = limits
        self._leases = leases
        self._max_slots = max_slots or limits.max_in_flight
        self._held = 0 if leases is not None else limits.max_in_flight
        self._in_use = 0
        self._leasing = False
        self._starts: deque[float] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, cancelled: threading.Event) -> Iterator[float]:
        """Hold a slot for one request; yields the seconds waited for it.

        Raises:
            CancelledError: the run ended while waiting.
        """
        began = time.monotonic()
        self._enter(cancelled)
        try:
            yield time.monotonic() - began
        finally:
            with self._changed:
                self._in_use -= 1
                self._changed.notify()

    def return_idle_slots(self) -> None:
        """Give slots that no request holds back to the cluster."""
        if self._leases is None:
            return
        with self._changed:
            idle = self._held - self._in_use
            self._held -= idle
        for _ in range(idle):
            self._leases.release()

    def _enter(self, cancelled: threading.Event) -> None:
        with self._changed:
            while True:
                if cancelled.is_set():
                    raise CancelledError("the rebuild is stopping")
                if self._in_use < self._held:
                    wait_s = self._wait_for_rate()
                    if wait_s <= 0:
                        self._in_use += 1
                        self._starts.append(time.monotonic())
                        return
                    self._changed.wait(wait_s)
                elif (
                    self._leases is not None and self._held < self._max_slots and not self._leasing
                ):
                    self._lease()
                else:
                    self._changed.wait(_LEASE_WAIT_S)

    def _wait_for_rate(self) -> float:
        """Return how long the rate forbids another start, seconds."""
        now = time.monotonic()
        rate_per_s = self._limits.max_requests_per_s * self._held / self._limits.max_in_flight
        allowed = max(1, int(rate_per_s))
        span_s = _SPAN_S * max(1.0, 1.0 / rate_per_s)
        while len(self._starts) > allowed:
            self._starts.popleft()
        if len(self._starts) < allowed:
            return 0.0
        return span_s - (now - self._starts[0])

    def _lease(self) -> None:
        """Lease one more slot; other threads go on meanwhile."""
        assert self._leases is not None
        self._leasing = True
        self._changed.release()
        try:
            gained = self._leases.acquire(timeout=_LEASE_WAIT_S)
        finally:
            self._changed.acquire()
            self._leasing = False
        self._held += bool(gained)
        self._changed.notify_all()
