"""Settings as users write them: YAML files, ``--set`` changes, and messages for what is wrong.

All packages parse settings with this module; each package defines its own models. The text comes
from outside, so size, depth, aliases and repeated keys are checked before pydantic sees a value.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from groundwork.errors import InputError

MAX_FILE_BYTES: Final = 64 * 1024
"""Maximum size of a settings file. Fifty times our largest; parses within seconds."""
_MAX_VALUES: Final = 10_000
"""Maximum number of values after aliases are expanded: a few nested aliases can mean billions."""
_MAX_DEPTH: Final = 32
_MAX_BRACKETS: Final = 200
_MAX_COMPLAINTS: Final = 3
_MAX_COMPLAINT_CHARS: Final = 300
_MAX_SHOWN: Final = 60
_MAX_NAME_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 4095


class SettingsModel(BaseModel):
    """Base of all settings models: frozen, and unknown names are refused.

    The ``Args:`` section of a subclass becomes the field descriptions of its JSON schema, and so
    the help text of every form that is generated from the schema.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add descriptions from the docstring, and bounds in words: forms show no others."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        properties = schema.get("properties", {})
        for one in reversed(cls.__mro__):
            if issubclass(one, SettingsModel):
                schema["description"], descriptions = _parse_docstring(one.__doc__ or "")
                for name in descriptions.keys() & properties.keys():
                    properties[name]["description"] = descriptions[name]
        for about in properties.values():
            if bounds := bounds_of(about):
                about["description"] = f"{about.get('description', '')} [{bounds}]".lstrip()
        return schema


def bounds_of(schema: Mapping[str, Any]) -> str:
    """Return the bounds of a number in a JSON schema, in words; empty where there are none."""
    kinds: Sequence[Mapping[str, Any]] = schema.get("anyOf", [schema])
    numbers = next((kind for kind in kinds if _BOUND_WORDS.keys() & kind.keys()), kinds[0])
    words = [f"{word} {numbers[key]:g}" for key, word in _BOUND_WORDS.items() if key in numbers]
    return ", ".join(words)


_BOUND_WORDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _check_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path has no NUL byte: leave it out")
    encoded = path.encode()
    if len(encoded) > _MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > _MAX_NAME_BYTES:
        raise ValueError(f"it is too long for a path: {len(encoded):,} bytes")
    return path


PathText = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]
"""A path or an address as text. It is well-formed; whether it exists is checked elsewhere."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Annotation of a string that must match a pattern.

    Args:
        pattern: regular expression that the whole string must match.
        otherwise: error message that says what to write instead.
    """

    pattern: str
    otherwise: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check the pattern after the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the pattern to the JSON schema, so that forms check it too."""
        return {**handler(schema), "pattern": f"^({self.pattern})$"}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.otherwise)
        return text


def _parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the first paragraph, and the descriptions under ``Args:`` by name."""
    lines = inspect.cleandoc(text).splitlines()
    summary = " ".join(itertools.takewhile(bool, lines))
    descriptions: dict[str, str] = {}
    name = ""
    for line in itertools.islice(itertools.dropwhile(lambda line: line != "Args:", lines), 1, None):
        started = re.match(r" {4}(\w+): (.*)", line)
        if started:
            name = started[1]
            descriptions[name] = started[2]
        elif line.startswith(" " * 8) and name:
            descriptions[name] += f" {line.strip()}"
        else:
            break
    return summary, descriptions


def read_settings(path: Path, changes: Sequence[str] = ()) -> dict[Any, Any]:
    """Read a YAML file of settings and apply ``--set`` changes to it.

    Args:
        path: the file.
        changes: each ``a.b=value``, with the value in YAML.

    Raises:
        InputError: the file cannot be read, is not YAML, or is not a mapping; or a change is
            malformed.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(
            f"{path} is larger than {MAX_FILE_BYTES // 1024} KiB: give a settings file with "
            "lines 'name: value'"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8: save it as one") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise InputError(
            f"{path} {'is empty' if values is None else 'is not a mapping'}: expected lines "
            "'name: value', see configs/"
        )
    for change in changes:
        _apply(values, change)
    return values


def parse_yaml(text: str, where: str, what: str = "YAML") -> Any:
    """Parse untrusted YAML: plain values only, each key once, few aliases.

    Args:
        text: the YAML.
        where: its origin; error messages begin with it.
        what: name of the expected format in error messages.

    Raises:
        InputError: the text is not such YAML.
    """
    import yaml

    if _depth_of_brackets(text) > _MAX_BRACKETS:
        raise InputError(_too_deep(where))

    loader = _loader_class()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {}, 0, where)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{where} is not {what}: {place}{reason}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not {what}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(_too_deep(where)) from error
    finally:
        loader.dispose()


def _depth_of_brackets(text: str) -> int:
    """Return the nesting depth of brackets, quoted or not.

    PyYAML itself takes seconds to fail on deeply nested brackets.
    """
    steps = ((c in "[{") - (c in "]}") for c in text if c in "[]{}")
    return max(itertools.accumulate(steps), default=0)


@functools.cache
def _loader_class() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reports the position of values that their type cannot hold, such as 2021-02-30."""

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except yaml.constructor.ConstructorError as error:
                tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
                if str(error.problem).startswith("could not determine a constructor"):
                    problem = f"settings are plain values: remove the tag {cut(tag)}"
                    raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error
                raise
            except (ValueError, LookupError, AttributeError, OverflowError) as error:
                # What PyYAML's own constructors raise: !!bool, !!int and !!timestamp among them.
                kind = node.tag.rpartition(":")[2]
                problem = f"{shown(node.value)} is not a valid {kind}"
                raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error

    return Loader


def _count_values(node: Any, counts: dict[int, int], depth: int, where: str) -> int:
    """Return the number of values in a node with aliases expanded, and refuse repeated keys.

    Args:
        node: a YAML node; an alias is the same node again.
        counts: id of a node to its count; 0 while the node is being counted.
        depth: nesting depth of the node.
        where: origin of the text, for error messages.

    Raises:
        InputError: too many values, too deep, an alias inside itself, or a repeated key.
    """
    import yaml

    line = f"{where}, line {node.start_mark.line + 1}"
    if id(node) in counts:
        if counts[id(node)] == 0:
            raise InputError(f"{line}: the alias contains itself: write the value out")
        return counts[id(node)]
    if depth > _MAX_DEPTH:
        raise InputError(_too_deep(where))
    counts[id(node)] = 0
    inner = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise InputError(
                        f"{where}, line {key.start_mark.line + 1}: {shown(key.value)} is given "
                        "twice: leave one out"
                    )
                keys.add(key.value)
        inner = [part for pair in node.value for part in pair]
    total = 1 + sum(_count_values(each, counts, depth + 1, where) for each in inner)
    if total > _MAX_VALUES:
        raise InputError(
            f"{line}: more than {_MAX_VALUES:,} values, aliases included: write them out, or fewer"
        )
    counts[id(node)] = total
    return total


def _too_deep(where: str) -> str:
    return f"{where} is nested more than {_MAX_DEPTH} levels deep: settings need three or four"


def _apply(values: dict[Any, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    keys = place.strip().split(".")
    where = f"--set {cut(change)}"
    if not equals or not all(keys):
        raise InputError(f"{where}: write it as a.b=value, say execution.workers=4")
    if len(change) > MAX_FILE_BYTES:
        raise InputError(f"{where} is longer than {MAX_FILE_BYTES // 1024} KiB: use the file")
    if any("\ud800" <= letter <= "\udfff" for letter in change):
        raise InputError(f"{where} is not UTF-8: write it anew")
    value = parse_yaml(text, where, "a YAML value")
    inner = values
    for key in keys[:-1]:
        found = inner.setdefault(key, {})
        if not isinstance(found, dict):
            raise InputError(
                f"{where}: {cut(key)} has no settings inside, its value is {shown(found)}"
            )
        inner = found
    inner[keys[-1]] = value


def shown(value: object) -> str:
    """Return a value as error messages show it: shortened, without passwords in addresses."""
    if isinstance(value, str):
        return repr(cut(re.sub(r"://[^/\s]*@", "://...@", value)))
    if isinstance(value, int) and value.bit_length() > 4 * _MAX_SHOWN:
        return f"(a number of {value.bit_length():,} bits)"
    return cut(repr(value))


def cut(text: str, most: int = _MAX_SHOWN) -> str:
    """Return the text, or its beginning and its length where it is long."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def sentence_of(error: ValidationError, *, tags: Collection[str] = (), skip: int = 0) -> str:
    """Return one sentence that says what is wrong with settings.

    Args:
        error: pydantic's.
        tags: discriminator values of a union; pydantic puts them into a location, users do not
            write them.
        skip: number of leading location parts that users do not write.
    """
    found = _without_echoes(error.errors())
    parts = [
        cut(_complaint(each, tags, skip), _MAX_COMPLAINT_CHARS) for each in found[:_MAX_COMPLAINTS]
    ]
    if len(found) > _MAX_COMPLAINTS:
        parts.append(f"and {len(found) - _MAX_COMPLAINTS} more")
    return "; ".join(parts)


def _without_echoes(found: Sequence[Any]) -> list[Any]:
    """Drop "too short" errors that only follow from an error in one of the items."""
    places = [each["loc"] for each in found]
    return [
        each
        for each in found
        if each["type"] != "too_short"
        or not any(
            len(p) > len(each["loc"]) and p[: len(each["loc"])] == each["loc"] for p in places
        )
    ]


def _complaint(found: Any, tags: Collection[str], skip: int) -> str:
    kind, value = found["type"], found["input"]
    place = ".".join(cut(str(part)) for part in found["loc"][skip:] if part not in tags)
    before = f"{place}: " if place else ""
    if kind == "union_tag_not_found":
        return f"{before}kind is missing; it is one of {', '.join(tags)}"
    if kind == "union_tag_invalid":
        return f"{before}kind {shown(value.get('kind'))} is unknown; it is one of {', '.join(tags)}"
    if kind == "extra_forbidden":
        return f"{place} is not a setting here: check its spelling, or remove it"
    if kind == "missing":
        return f"{place} is missing: add it"
    if kind == "invalid_key":
        return f"{shown(value)} is not a setting here: names are words"
    given = f" {shown(value)}" if isinstance(value, str | int | float) else ""
    return f"{place}{given}: {reason_of(found)}" if place else reason_of(found)


def reason_of(found: Any) -> str:
    """Return the reason why pydantic refuses a value, in our words."""
    if found["type"] in {"model_type", "model_attributes_type"}:
        return "it is a group of settings: give lines 'name: value'"
    if found["type"] == "too_short":
        return f"give at least {found['ctx']['min_length']}"
    message = str(found["msg"]).removeprefix("Value error, ")
    return message.partition(", unable to parse")[0].partition(", got a number with")[0]
