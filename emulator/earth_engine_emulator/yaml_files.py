"""YAML files of settings, read as plain values and within limits.

The files may come from anybody: size, depth, aliases and repeated keys are checked before a value
is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import AfterValidator, Field, ValidationError

from earth_engine_emulator.errors import CatalogueError

MAX_FILE_BYTES: Final = 64 * 1024
"""Fifty times the largest example; a file of this size is parsed within seconds."""
_MAX_DEPTH: Final = 32
"""Settings nest three or four levels deep."""
_MAX_COMPLAINTS: Final = 3
_MAX_SHOWN: Final = 60
_MAX_NAME_BYTES: Final = 255


class _Loader(yaml.SafeLoader):
    """Plain values; each key once; no aliases, which a few lines turn into billions of values."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are refused: write the value out", mark)
        if self._depth == _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                None, None, f"it is nested more than {_MAX_DEPTH} levels deep", mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            # PyYAML's own constructors raise these for values such as 2021-02-30.
            kind = node.tag.rpartition(":")[2]
            problem = f"{shown(node.value)} is not a valid {kind}"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        None,
                        None,
                        f"{shown(key.value)} is given twice: leave one out",
                        key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> Mapping[Any, Any]:
    """Read a YAML file of keys and values.

    Raises:
        CatalogueError: the file cannot be read, is too large, is not YAML, or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise CatalogueError(f"{path} is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path} is not a text file in UTF-8: save it as one") from error
    values = _parse(text, path)
    if not isinstance(values, dict):
        raise CatalogueError(
            f"{path} {'is empty' if values is None else 'is not a mapping'}: expected lines "
            "'name: value'"
        )
    return values


def _parse(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise CatalogueError(f"{path} is not YAML: {place}{reason}") from error
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _check_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path has no NUL byte: leave it out")
    if max(map(len, path.encode().split(b"/"))) > _MAX_NAME_BYTES:
        raise ValueError("a name in it is too long for a file")
    return path


PathText = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]
"""A path as text. It is well-formed; whether it exists is checked elsewhere."""


def sentence_of(error: ValidationError) -> str:
    """Return one sentence that says what is wrong, key by key; three keys at most."""
    complaints = [
        f"{_cut('.'.join(map(str, item['loc']))) or 'the whole'}: {_reason(item)}"
        for item in error.errors()
    ]
    listed = "; ".join(dict.fromkeys(complaints[:_MAX_COMPLAINTS]))
    more = len(complaints) - _MAX_COMPLAINTS
    return f"{listed}; and {more} more" if more > 0 else listed


def shown(value: object) -> str:
    """Return a value as error messages show it: shortened."""
    try:
        return _cut(repr(value))
    except ValueError:
        # Python prints no int of more than 4,300 digits; YAML's hexadecimal notation makes them.
        return "(a number too long to show)"


def _reason(item: Any) -> str:
    kind = item["type"]
    said = {
        "missing": "is missing: add it",
        "extra_forbidden": "is not a key that is known here: remove it, or correct its spelling",
        "invalid_key": "is not a key that is known here: keys are words",
        "timezone_aware": f"{shown(item['input'])} has no time zone: end it with Z for UTC",
        "union_tag_not_found": f"{item.get('ctx', {}).get('discriminator')} is missing: add it",
    }.get(kind)
    if said is not None:
        return said
    if kind in {"model_type", "model_attributes_type"}:
        text = "it is a group of settings: give lines 'name: value'"
    elif kind == "too_short":
        text = f"give at least {item['ctx']['min_length']}"
    else:
        text = str(item["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
        text = text.partition(", got a number with")[0].rstrip(".")
    given = shown(item["input"])
    if kind == "value_error" or len(given) > _MAX_SHOWN:
        return text
    return f"{given} cannot be used ({text[0].lower()}{text[1:]})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text):,} characters)"
