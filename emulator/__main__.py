"""``python -m emulator``: the process behind `emulator.running.emulator_in_process`.

People start an emulator with ``softcon emulator``.
"""

from __future__ import annotations

import sys

from emulator.running import serve_order

if __name__ == "__main__":
    sys.exit(serve_order(sys.stdin, sys.stdout))
