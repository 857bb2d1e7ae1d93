"""Settings as a user writes them: YAML text, single changes, and what to say when they are wrong.

Every room that reads settings reads them so; which settings there are is the room's matter.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

_MAX_COMPLAINTS: Final = 3


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
        """Add what the docstring says."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        properties = schema.get("properties", {})
        for one in reversed(cls.__mro__):
            if issubclass(one, SettingsModel):
                schema["description"], descriptions = _parse_docstring(one.__doc__ or "")
                for name in descriptions.keys() & properties.keys():
                    properties[name]["description"] = descriptions[name]
        return schema


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
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not a text file in UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2021-02-30
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds no settings: it has to consist of lines 'name: value'")
    for change in changes:
        _apply(values, change)
    return values


def _apply(values: dict[Any, Any], change: str) -> None:
    import yaml

    place, equals, text = change.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"--set {change}: write it as a.b=value, say execution.workers=4")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"--set {change}: {text!r} is not a YAML value") from error
    inner = values
    for key in keys[:-1]:
        found = inner.setdefault(key, {})
        if not isinstance(found, dict):
            raise SettingsError(
                f"--set {change}: {key} has no settings inside, its value is {found!r}"
            )
        inner = found
    inner[keys[-1]] = value


def sentence_of(error: ValidationError, *, tags: Collection[str] = (), skip: int = 0) -> str:
    """Say what is wrong with settings, in one sentence.

    Args:
        error: of pydantic.
        tags: kinds of a union: part of pydantic's place, but no setting that somebody wrote.
        skip: parts at the front of every place that the user did not write.
    """
    found = error.errors()
    parts = [_complaint(each, tags, skip) for each in found[:_MAX_COMPLAINTS]]
    if len(found) > _MAX_COMPLAINTS:
        parts.append(f"and {len(found) - _MAX_COMPLAINTS} more")
    return "; ".join(parts)


def _complaint(found: Any, tags: Collection[str], skip: int) -> str:
    place = ".".join(str(part) for part in found["loc"][skip:] if part not in tags)
    message = str(found["msg"]).removeprefix("Value error, ")
    before = f"{place}: " if place else ""
    if found["type"] == "union_tag_not_found":
        return f"{before}kind is missing; it is one of {', '.join(tags)}"
    if found["type"] == "union_tag_invalid":
        kind = found["input"].get("kind")
        return f"{before}kind {kind!r} is unknown; it is one of {', '.join(tags)}"
    if found["type"] == "extra_forbidden":
        return f"{place} is no setting of this kind"
    if found["type"] == "missing":
        return f"{place} is missing"
    value = found["input"]
    shown = f" {value!r}" if isinstance(value, str | int | float) else ""
    return f"{place}{shown}: {message}" if place else message
