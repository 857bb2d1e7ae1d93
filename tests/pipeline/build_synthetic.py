"""A builder to be killed: ``python -m tests.pipeline.build_synthetic CUBE``."""

from __future__ import annotations

import sys

from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from tests.synthetic import SyntheticSource, describe_cube, location_names

NUM_LOCATIONS = 6
"""Three batches of two locations."""


def build(address: str, pause_s: float = 0.0) -> None:
    build_cube(
        ObjectStorage(address),
        describe_cube(NUM_LOCATIONS),
        location_names(NUM_LOCATIONS),
        lambda _: SyntheticSource(pause_s=pause_s),
    )


if __name__ == "__main__":
    build(sys.argv[1])
