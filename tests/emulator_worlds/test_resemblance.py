"""The simulated world, measured against what is published of the Earth."""

from __future__ import annotations

import pytest

from benchmarks.simulated_world import measure


@pytest.mark.slow
def test_world_resembles_the_earth() -> None:
    """In short form; ``python -m benchmarks.simulated_world`` looks at 500 places."""
    found = measure(150)
    assert found["usable_share"] > 0.8
    assert 0.6 < found["linear_accuracy"] < 0.9
    for name, band in found["bands"].items():
        assert 0.6 < band["mean_ratio"] < 1.6, name
        assert 0.5 < band["std_ratio"] < 1.7, name
