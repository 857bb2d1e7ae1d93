"""How the command line's tests meet a mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.command_line import run


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    """Run a command; return its exit code and what it said on stderr."""

    def complain(arguments: list[str]) -> tuple[int, str]:
        capsys.readouterr()
        code = run(arguments)
        return code, capsys.readouterr().err

    return complain
