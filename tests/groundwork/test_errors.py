"""Every error of ours has one root, a docstring and an exit code that scripts can rely on."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import flows
import pipeline
import training
from flows.command_line import run
from groundwork.errors import InputError, LimitReachedError, SoftconError, TransientError
from pipeline.errors import CubeDamagedError, CubeInUseError, LeaseLostError, UnreachableError
from training.errors import NonFiniteLossError

EXIT_CODES = {
    SoftconError: 1,
    CubeDamagedError: 1,
    NonFiniteLossError: 1,
    InputError: 2,
    CubeInUseError: 2,
    UnreachableError: 2,  # both wrong input and transient: at a keyboard it is the former
    TransientError: 3,
    LimitReachedError: 3,
    LeaseLostError: 3,
}


def subclasses(root: type) -> Iterator[type]:
    for each in root.__subclasses__():
        yield each
        yield from subclasses(each)


@pytest.mark.parametrize(("error", "code"), EXIT_CODES.items())
def test_exit_code_is_that_of_the_documents(error: type[SoftconError], code: int) -> None:
    assert error("a sentence").exit_code == code


def test_every_exception_of_ours_has_the_root_and_says_what_it_means() -> None:
    for package in (pipeline, training, flows):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(("errors", "states")):
                importlib.import_module(module.name)
    for error in subclasses(SoftconError):
        assert error.__doc__, error
        assert error.exit_code in {1, 2, 3}, error


@pytest.mark.parametrize("error", [InputError, TransientError, CubeDamagedError])
def test_command_line_ends_with_the_code_of_the_error(
    error: type[SoftconError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: object) -> None:
        raise error("what, where and how to mend it")

    monkeypatch.setattr("flows.command_line._check_arguments", fail)
    assert run(["inspect", "nowhere"]) == error.exit_code
    assert capsys.readouterr().err == "softcon: what, where and how to mend it\n"
