from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.sources.earth_engine.request_gate import CancelledError, RequestGate
from pipeline.sources.earth_engine.settings import RequestLimits


class Traffic:
    """Counts what several gates let through together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.starts: list[float] = []

    def request(self, gate: RequestGate, pause_s: float) -> None:
        with gate.slot(threading.Event()):
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.starts.append(time.monotonic())
            time.sleep(pause_s)
            with self._lock:
                self.now -= 1

    def most_in_a_second(self) -> int:
        return max(sum(0 <= b - a < 1 for b in self.starts) for a in self.starts)


class Leases:
    """A semaphore that several gates share, as Dask's is by several processes."""

    def __init__(self, number: int) -> None:
        self._semaphore = threading.BoundedSemaphore(number)

    def acquire(self, timeout: float | None = None) -> bool:
        return self._semaphore.acquire(timeout=timeout)

    def release(self) -> bool:
        self._semaphore.release()
        return True


def test_one_process_keeps_both_limits() -> None:
    limits = RequestLimits(max_in_flight=4, max_requests_per_s=30)
    gate, traffic = RequestGate(limits), Traffic()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: traffic.request(gate, 0.01), range(70)))
    assert traffic.most <= 4
    assert traffic.most_in_a_second() <= 30


def test_a_cluster_keeps_both_limits_in_sum() -> None:
    limits = RequestLimits(max_in_flight=6, max_requests_per_s=60)
    leases, traffic = Leases(6), Traffic()
    gates = [RequestGate(limits, leases, max_slots=2) for _ in range(3)]
    with ThreadPoolExecutor(24) as pool:
        list(pool.map(lambda n: traffic.request(gates[n % 3], 0.02), range(120)))
    assert 2 < traffic.most <= 6
    assert traffic.most_in_a_second() <= 60


def test_idle_slots_go_back_to_the_cluster() -> None:
    limits = RequestLimits(max_in_flight=2, max_requests_per_s=100)
    leases = Leases(2)
    first, second = RequestGate(limits, leases), RequestGate(limits, leases)
    with first.slot(threading.Event()), first.slot(threading.Event()):
        pass
    assert not leases.acquire(timeout=0.01)  # The first keeps them for its next requests.
    first.return_idle_slots()
    with second.slot(threading.Event()), second.slot(threading.Event()):
        pass
    second.return_idle_slots()
    assert leases.acquire(timeout=0.01)


def test_rate_below_one_slot_each_is_kept() -> None:
    limits = RequestLimits(max_in_flight=2, max_requests_per_s=4)
    leases, traffic = Leases(2), Traffic()
    gates = [RequestGate(limits, leases, max_slots=1) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: traffic.request(gates[n % 2], 0.0), range(10)))
    assert traffic.most_in_a_second() <= 4


def test_waiting_ends_with_the_run() -> None:
    gate = RequestGate(RequestLimits(max_in_flight=1))
    cancelled = threading.Event()
    with gate.slot(threading.Event()), ThreadPoolExecutor(1) as pool:

        def wait() -> None:
            with gate.slot(cancelled):
                pass

        waiting = pool.submit(wait)
        cancelled.set()
        with pytest.raises(CancelledError):
            waiting.result(timeout=10)
