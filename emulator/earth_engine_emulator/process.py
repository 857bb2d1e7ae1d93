"""The process behind `earth_engine_emulator.running.emulator_in_process`: an order on stdin."""

from __future__ import annotations

import sys

from earth_engine_emulator.running import serve_order

if __name__ == "__main__":
    sys.exit(serve_order(sys.stdin, sys.stdout))
