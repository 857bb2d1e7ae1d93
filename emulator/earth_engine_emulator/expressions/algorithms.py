"""The service's algorithm list, and which of them this package has.

Every call is checked against the list: an argument that is unknown, missing or of the wrong type
is refused in the service's words before the algorithm runs.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

ALGORITHMS_FILE = "tests/algorithms.json"
DISCOVERY_FILE = "tests/cloud_api_discovery_document.json"
_PREFIX = "algorithms/"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an algorithm.

    Args:
        name: of the argument.
        type: as the list writes it, ``Image<unknown bands>``.
        optional: whether it may be missing or null.
        default: value of a missing one.
    """

    name: str
    type: str
    optional: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Signature:
    """One algorithm of the list."""

    name: str
    arguments: tuple[Argument, ...]
    returns: str


@dataclass(frozen=True, slots=True)
class Implementation:
    """What this package does for an algorithm.

    Args:
        function: takes the arguments in the order of the signature.
        with_session: whether it takes the request's session before them.
        lazy: whether it takes its arguments as functions without arguments.
    """

    function: Callable[..., Any]
    with_session: bool
    lazy: bool


IMPLEMENTED: dict[str, Implementation] = {}


def algorithm(*names: str, with_session: bool = False, lazy: bool = False) -> Callable[[F], F]:
    """Register a function as one or several of the service's algorithms."""

    def register(function: F) -> F:
        for name in names:
            assert name not in IMPLEMENTED, name
            IMPLEMENTED[name] = Implementation(function, with_session, lazy)
        return function

    return register


def client_file(name: str) -> bytes:
    """Read a data file of the installed ``earthengine-api`` package; its code is not imported.

    Raises:
        FileNotFoundError: the package is not installed, or lacks the file.
    """
    found = importlib.util.find_spec("ee")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "the emulator takes Earth Engine's algorithm list from the package earthengine-api, "
            "which is not installed: pip install earth-engine-emulator"
        )
    return (Path(found.origin).parent / name).read_bytes()


@lru_cache(maxsize=1)
def signatures() -> Mapping[str, Signature]:
    """Return every algorithm of the service by its name."""
    listed = json.loads(client_file(ALGORITHMS_FILE))["algorithms"]
    return {entry.name: entry for entry in map(_signature, listed)}


def _signature(entry: Mapping[str, Any]) -> Signature:
    arguments = tuple(
        Argument(
            argument["argumentName"],
            argument["type"],
            bool(argument.get("optional")),
            argument.get("defaultValue"),
        )
        for argument in entry.get("arguments", [])
    )
    return Signature(entry["name"].removeprefix(_PREFIX), arguments, entry["returnType"])
