"""Run every benchmark in short form and write ``docs/performance.md``.

Run: ``python -m benchmarks [NAME ...] [--out FILE]``; names choose some of them, and keep what the
page says of the others.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

import benchmarks

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
NO_SHORTER: Final = {"growth"}
"""Run in full: how cost grows is seen at 10,000 locations only."""
_NO_BENCHMARKS: Final = {"__main__", "training_cube"}
_HEAD: Final = """# Performance

What the benchmarks print, each run by the command above its figures. `make bench` runs all of them
(the short form of each, `growth` in full) and writes this page. Ratios are within one run; absolute
times belong to the machine named beside them, which may have been busy. None of these figures says
anything about the real Earth Engine, nor about a GPU, unless it says so.
"""


def names() -> list[str]:
    """Return the benchmarks of this folder."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return [name for name in found if name not in _NO_BENCHMARKS]


def section(name: str) -> str:
    """Run one benchmark; returns its part of the page."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    shown = f"python -m benchmarks.{name}"
    if name not in NO_SHORTER:
        command.append("--short")
        shown += " --short"
    load = os.getloadavg()[0]
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    took_s = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{shown} ended with exit code {done.returncode}")
    about = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
    return (
        f"## {name}\n\n{about}\n\n`{shown}`: {took_s:.0f} s, {datetime.now(UTC):%Y-%m-%d}, "
        f"{machine()}, load average before {load:.1f}.\n\n```text\n{done.stdout.rstrip()}\n```\n"
    )


def machine() -> str:
    """Return what figures belong to."""
    memory_gb = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.machine()}, {psutil.cpu_count()} CPU cores, {memory_gb:.0f} GiB, Python "
        f"{platform.python_version()}, torch {version('torch')}"
    )


def read_sections(page: Path) -> dict[str, str]:
    """Return what a page says of each benchmark."""
    if not page.is_file():
        return {}
    parts = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part[3:].split("\n", 1)[0].strip(): part.strip() + "\n" for part in parts}


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    if unknown := set(given.names) - set(names()):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    sections = read_sections(given.out)
    for name in given.names or names():
        sys.stderr.write(f"{name} ...\n")
        sections[name] = section(name)
        kept = [sections[known] for known in names() if known in sections]
        given.out.write_text("\n".join([_HEAD, *kept]), encoding="utf-8")


if __name__ == "__main__":
    main()
