"""The root of all errors of this project, and what a user or a scheduler can do about each.

An error that a user can act on carries one sentence: what is wrong, where, and how to mend it. Its
class carries the exit code, so that the command line, ``torchrun`` and the flows agree without
tables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Never


class SoftconError(Exception):
    """Anything this project raises on purpose. Its text is one sentence fit for a user.

    Attributes:
        exit_code: of a command that ends with it: 1 a check or a run failed, 2 wrong input, 3
            stopped at a limit or for want of an answer; the same command continues.
    """

    exit_code: ClassVar[int] = 1


class InputError(SoftconError):
    """Wrong input or configuration. The sentence says what, where and how to mend it."""

    exit_code: ClassVar[int] = 2


class TransientError(SoftconError):
    """Trying again may succeed (network, quota, overloaded service)."""

    exit_code: ClassVar[int] = 3


class LimitReachedError(SoftconError):
    """A budget, a deadline or a full disk ends this run; the same command continues."""

    exit_code: ClassVar[int] = 3


def unknown_choice(what: str, given: Never, choices: Sequence[str]) -> ValueError:
    """Return the error of a closed choice that has another value.

    An open ``else`` would take it in silence. The type of `given` lets a type checker find a choice
    that no case handles, as `typing.assert_never` does; the error is for callers without one.

    Args:
        what: name of the choice.
        given: the value.
        choices: the values there are.
    """
    return ValueError(f"{what} {given!r} is unknown; the choices are {', '.join(choices)}")
