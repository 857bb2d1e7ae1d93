"""``python -m flows``: the same as ``softcon``."""

from flows.command_line import main

main()
