from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.budget import LEDGER_FOLDER, Budget, read_ledgers
from pipeline.cube.object_storage import ObjectStorage
from pipeline.ledger import Ledger
from pipeline.sources.settings import BudgetSettings


def ledger_of(num_requests: int, seconds: float = 0.1) -> Ledger:
    ledger = Ledger()
    for _ in range(num_requests):
        ledger.requests["pixels"] += 1
        ledger.outcomes["answered"] += 1
        ledger.note_latency(seconds)
    ledger.bytes_received = 1000 * num_requests
    ledger.compute_s = 0.5 * num_requests
    return ledger


def test_ledger_survives_its_file(cube_address: str) -> None:
    storage = ObjectStorage(cube_address)
    for name, number in (("a", 3), ("b", 4)):
        storage.write(f"{LEDGER_FOLDER}/{name}.json", ledger_of(number).encode())
    total = read_ledgers(storage)
    assert total.num_requests == 7
    assert total.bytes_received == 7000
    assert total.latency_bins.total() == 7
    assert read_ledgers(ObjectStorage(f"{cube_address}-other")) == Ledger()


@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=60))
def test_quantiles_are_at_most_an_eighth_too_high(latencies: list[float]) -> None:
    halves = [Ledger(), Ledger()]
    for index, seconds in enumerate(latencies):
        halves[index % 2].note_latency(seconds)
    halves[0].add(halves[1])
    ordered = sorted(latencies)
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = next(s for n, s in enumerate(ordered, 1) if n >= quantile * len(ordered))
        found = halves[0].latency_quantiles()[name]
        assert exact * 0.999 - 1e-4 <= found <= exact * 1.13 + 1e-4


def test_budget_stops_before_it_is_overdrawn() -> None:
    budget = Budget(BudgetSettings(max_requests=100), spent=Ledger())
    assert budget.shortage(64) is None  # Nothing is known of the price yet.
    budget.note(ledger_of(50), num_locations=25)
    assert budget.shortage(25) is None  # 50 spent, 2 per location.
    assert Budget(budget.settings, budget.spent).shortage(26)  # A later run knows it too.
    sentence = budget.shortage(26)
    assert sentence is not None
    assert "budget of 100 requests" in sentence
    assert "the same command continues" in sentence


def test_spent_budget_begins_nothing() -> None:
    for limits in ({"max_bytes": 30_000}, {"max_compute_s": 15.0}, {"max_requests": 30}):
        assert Budget(BudgetSettings(**limits), ledger_of(30)).shortage(1) is not None
        assert Budget(BudgetSettings(**limits), ledger_of(29)).shortage(1) is None
