"""Emulators for the tests of the pipeline, and what talks to them."""

from tests.emulator.conftest import (  # noqa: F401 - fixtures
    _loopback_without_proxy,
    simulated_emulator,
    virginia_emulator,
    virginia_rasters,
)
