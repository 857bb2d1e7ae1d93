"""Settings as a user writes them: YAML text, single changes, and what to say when they are wrong.

Every room that reads settings reads them so; which settings there are is the room's matter.
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

MAX_FILE_BYTES: Final = 64 * 1024
"""Of a file of settings: fifty times what ours have, and read within seconds."""
_MAX_VALUES: Final = 10_000
"""That the aliases of a file may stand for: a few lines of them can mean billions."""
_MAX_DEPTH: Final = 32
_MAX_BRACKETS: Final = 200
_MAX_COMPLAINTS: Final = 3
_MAX_COMPLAINT_CHARS: Final = 300
_MAX_SHOWN: Final = 60
_MAX_NAME_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 4095


class SettingsError(Exception):
    """Settings cannot be read or are wrong; the text is one sentence."""


class SettingsModel(BaseModel):
    """Settings are values: frozen, and closed to names they do not know.

    What docstrings of subclasses say under ``Args:`` describes the fields in the JSON schema too,
    and so in every form made from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add what the docstring says, and bounds in words: forms show no others."""
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
"""A path or an address as text: one that the system can look up, whether anything is there."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Annotation of a text that has to match a pattern.

    Args:
        pattern: the whole text has to.
        otherwise: what to give, for the sentence of an error.
    """

    pattern: str
    otherwise: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tell forms too."""
        return {**handler(schema), "pattern": f"^({self.pattern})$"}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.otherwise)
        return text


def _parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the first paragraph, and what stands under ``Args:``, by name."""
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
    """Read a YAML file of settings, and change single ones.

    Args:
        path: the file.
        changes: ``a.b=value`` each, the value in YAML.

    Raises:
        SettingsError: the file cannot be read, is not YAML, or holds no settings; or a change is
            not written so.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(
            f"{path} is larger than {MAX_FILE_BYTES // 1024} KiB: give a file of settings, with "
            "lines 'name: value'"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not a text file in UTF-8: save it as one") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} holds no settings, for it holds no keys: write lines 'name: value'"
        )
    for change in changes:
        _apply(values, change)
    return values


def parse_yaml(text: str, where: str, what: str = "YAML") -> Any:
    """Read YAML from somebody we do not know: plain values, each key once, few aliases.

    Args:
        text: the YAML.
        where: it stands; a sentence begins with it.
        what: it has to be.

    Raises:
        SettingsError: it is something else.
    """
    import yaml

    if _depth_of_brackets(text) > _MAX_BRACKETS:
        raise SettingsError(_too_deep(where))

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
        raise SettingsError(f"{where} is not {what}: {place}{reason}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is not {what}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise SettingsError(_too_deep(where)) from error
    finally:
        loader.dispose()


def _depth_of_brackets(text: str) -> int:
    """Return about how deep the brackets go, in quotes or not: PyYAML takes seconds to find out."""
    steps = ((c in "[{") - (c in "]}") for c in text if c in "[]{}")
    return max(itertools.accumulate(steps), default=0)


@functools.cache
def _loader_class() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Says where a value is that its type cannot take, such as 2021-02-30."""

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except yaml.constructor.ConstructorError as error:
                tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
                if str(error.problem).startswith("could not determine a constructor"):
                    problem = f"settings are plain values: leave the tag {cut(tag)} out"
                    raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error
                raise
            except (ValueError, LookupError, AttributeError, OverflowError) as error:
                # What PyYAML's own constructors raise: !!bool, !!int and !!timestamp among them.
                kind = node.tag.rpartition(":")[2]
                problem = f"{shown(node.value)} is no value of the kind {kind}"
                raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error

    return Loader


def _count_values(node: Any, counts: dict[int, int], depth: int, where: str) -> int:
    """Return how many values a node stands for, and refuse keys that are given twice.

    Args:
        node: of a YAML document; an alias is the node itself once more.
        counts: of the nodes that are done; 0 for those that the node lies in.
        depth: of the node.
        where: for the sentence of an error.

    Raises:
        SettingsError: too many, too deep, or a key twice.
    """
    import yaml

    line = f"{where}, line {node.start_mark.line + 1}"
    if id(node) in counts:
        if counts[id(node)] == 0:
            raise SettingsError(f"{line}: an alias stands for what it lies in: write it out")
        return counts[id(node)]
    if depth > _MAX_DEPTH:
        raise SettingsError(_too_deep(where))
    counts[id(node)] = 0
    inner = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise SettingsError(
                        f"{where}, line {key.start_mark.line + 1}: {shown(key.value)} is given "
                        "twice: leave one out"
                    )
                keys.add(key.value)
        inner = [part for pair in node.value for part in pair]
    total = 1 + sum(_count_values(each, counts, depth + 1, where) for each in inner)
    if total > _MAX_VALUES:
        raise SettingsError(
            f"{line}: more than {_MAX_VALUES:,} values, aliases included: write them out, or fewer"
        )
    counts[id(node)] = total
    return total


def _too_deep(where: str) -> str:
    return f"{where} is nested more than {_MAX_DEPTH} deep: settings lie in three or four levels"


def _apply(values: dict[Any, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    keys = place.strip().split(".")
    where = f"--set {cut(change)}"
    if not equals or not all(keys):
        raise SettingsError(f"{where}: write it as a.b=value, say execution.workers=4")
    if len(change) > MAX_FILE_BYTES:
        raise SettingsError(f"{where} is longer than {MAX_FILE_BYTES // 1024} KiB: use the file")
    if any("\ud800" <= letter <= "\udfff" for letter in change):
        raise SettingsError(f"{where} is not UTF-8: write it anew")
    value = parse_yaml(text, where, "a YAML value")
    inner = values
    for key in keys[:-1]:
        found = inner.setdefault(key, {})
        if not isinstance(found, dict):
            raise SettingsError(
                f"{where}: {cut(key)} has no settings inside, its value is {shown(found)}"
            )
        inner = found
    inner[keys[-1]] = value


def shown(value: object) -> str:
    """Return a value as a sentence shows it: cut where it is long."""
    if isinstance(value, str):  # Without a password that an address may hold.
        return repr(cut(re.sub(r"://[^/\s]*@", "://...@", value)))
    if isinstance(value, int) and value.bit_length() > 4 * _MAX_SHOWN:
        return f"(a number of {value.bit_length():,} bits)"
    return cut(repr(value))


def cut(text: str, most: int = _MAX_SHOWN) -> str:
    """Return the beginning of a long text, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def sentence_of(error: ValidationError, *, tags: Collection[str] = (), skip: int = 0) -> str:
    """Say what is wrong with settings, in one sentence.

    Args:
        error: of pydantic.
        tags: kinds of a union: part of pydantic's place, but no setting that somebody wrote.
        skip: parts at the front of every place that the user did not write.
    """
    found = _without_echoes(error.errors())
    parts = [
        cut(_complaint(each, tags, skip), _MAX_COMPLAINT_CHARS) for each in found[:_MAX_COMPLAINTS]
    ]
    if len(found) > _MAX_COMPLAINTS:
        parts.append(f"and {len(found) - _MAX_COMPLAINTS} more")
    return "; ".join(parts)


def _without_echoes(found: Sequence[Any]) -> list[Any]:
    """Leave out "too few" where they are too few for what is wrong inside."""
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
        return f"{place} is no setting of this kind: check its spelling, or leave it out"
    if kind == "missing":
        return f"{place} is missing: add it"
    if kind == "invalid_key":
        return f"{shown(value)} is no setting of this kind: their names are words"
    given = f" {shown(value)}" if isinstance(value, str | int | float) else ""
    return f"{place}{given}: {reason_of(found)}" if place else reason_of(found)


def reason_of(found: Any) -> str:
    """Say in our words why pydantic refuses a value."""
    if found["type"] in {"model_type", "model_attributes_type"}:
        return "it has settings inside: give them as lines 'name: value'"
    if found["type"] == "too_short":
        return f"give at least {found['ctx']['min_length']}"
    message = str(found["msg"]).removeprefix("Value error, ")
    return message.partition(", unable to parse")[0].partition(", got a number with")[0]
