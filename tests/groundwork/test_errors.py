"""Every error of ours has one root, a docstring and an exit code that scripts can rely on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

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


ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("groundwork", "storage_schema", "pipeline", "training", "flows")
WITHOUT_THE_ROOT = {
    # The contract of a cube imports nothing of ours; who opens a cube makes a sentence of it.
    "SchemaVersionError": "ValueError",
    # Signals that the module or room that raises them also catches: no user ever sees them.
    "AskFailedError": "Exception",
    "UnusableReplyError": "Exception",
    "_UnusableFileError": "Exception",
    # What tests of a source raise: its author wants the traceback.
    "ContractBrokenError": "AssertionError",
}
"""Exceptions that do not derive from `SoftconError`, and what they derive from."""


def exceptions() -> dict[str, ast.ClassDef]:
    """Return every class of ours that is an exception by its name or by a base, by its name."""
    found: dict[str, ast.ClassDef] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names = (node.name, *bases(node))
                    if any(name.endswith(("Error", "Exception")) for name in names):
                        assert node.name not in found, f"two exceptions have the name {node.name}"
                        found[node.name] = node
    return found


def bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).split(".")[-1] for base in node.bases]


@pytest.mark.parametrize(("error", "code"), EXIT_CODES.items())
def test_exit_code_is_that_of_the_documents(error: type[SoftconError], code: int) -> None:
    assert error("a sentence").exit_code == code


def test_every_exception_of_ours_has_the_one_root_and_says_what_it_means() -> None:
    found = exceptions()
    assert {error.__name__ for error in EXIT_CODES} <= found.keys()
    without = {
        name: base
        for name, node in found.items()
        for base in bases(node)
        if base not in found and name != "SoftconError"
    }
    assert without == WITHOUT_THE_ROOT
    for name, node in found.items():
        assert ast.get_docstring(node), f"{name} has no docstring"


def test_every_error_has_an_exit_code_of_the_documents() -> None:
    def check(error: type[SoftconError]) -> None:
        assert error.exit_code in {1, 2, 3}, error
        if issubclass(error, InputError):
            assert error.exit_code == InputError.exit_code, error
        for each in error.__subclasses__():
            check(each)

    check(SoftconError)


@pytest.mark.parametrize("error", [InputError, TransientError, CubeDamagedError])
def test_command_line_ends_with_the_code_of_the_error(
    error: type[SoftconError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: object) -> None:
        raise error("what, where and how to mend it")

    monkeypatch.setattr("flows.command_line._check_arguments", fail)
    assert run(["inspect", "nowhere"]) == error.exit_code
    assert capsys.readouterr().err == "softcon: what, where and how to mend it\n"
