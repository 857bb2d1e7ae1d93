"""Pretraining beside a flow: how its end becomes the flow's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.training_process import run_processes
from groundwork.errors import LimitReachedError
from tests.full_disk import largest_file
from tests.training.small_cube import write_cube
from tests.training.test_pretrain import values
from training.errors import TrainingError


@pytest.mark.slow
def test_a_limit_of_the_process_is_a_limit_of_the_flow_and_wrong_settings_are_a_failure(
    tmp_path: Path,
) -> None:
    cube, out, config = tmp_path / "cube.zarr", tmp_path / "run", tmp_path / "run.yaml"
    write_cube(cube, 16)
    config.write_text(yaml.safe_dump(values(str(cube), out, epochs=1)))
    with largest_file(500_000), pytest.raises(LimitReachedError, match=r"^/.* the disk is full"):
        run_processes(config, out, 1, print)
    assert run_processes(config, out, 1, print)
    config.write_text(yaml.safe_dump(values("absent.zarr", out)))
    with pytest.raises(TrainingError, match=r"^absent\.zarr does not exist"):
        run_processes(config, out, 1, print)
