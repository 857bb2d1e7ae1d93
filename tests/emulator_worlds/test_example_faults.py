"""The example files of faults are valid, and the one for recoverable faults has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from earth_engine_emulator.faults import read_fault_settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "emulator").glob("faults_*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_example_settings_work(config: Path) -> None:
    found = read_fault_settings(config)
    assert found.latency is not None or any(found.probabilities.model_dump().values())


def test_example_of_recoverable_faults_has_all_of_them() -> None:
    (config,) = [path for path in CONFIGS if "recoverable" in path.stem]
    found = read_fault_settings(config).probabilities
    assert set(found.of_attempts.values()) == {0.05}
    assert found.image_disappears == 0.0
