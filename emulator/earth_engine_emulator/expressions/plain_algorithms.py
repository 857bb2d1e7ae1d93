"""Algorithms on lists, dictionaries, texts and numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from earth_engine_emulator.expressions.algorithms import algorithm
from earth_engine_emulator.expressions.dates import Date, format_date
from earth_engine_emulator.expressions.elements import Element, Properties
from earth_engine_emulator.expressions.errors import AlgorithmError
from earth_engine_emulator.expressions.image_math import BINARY, UNARY, cast_values
from earth_engine_emulator.expressions.images import constant_image, select_bands
from earth_engine_emulator.expressions.pixel_types import NAMED
from earth_engine_emulator.expressions.promotion import Callee, type_name
from earth_engine_emulator.expressions.reducers import Reducer, text_of

_OLD_NAMES = {
    "firstNonZero": "first_nonzero",
    "bitwiseAnd": "bitwise_and",
    "bitwiseOr": "bitwise_or",
    "bitwiseXor": "bitwise_xor",
    "leftShift": "left_shift",
    "rightShift": "right_shift",
    "bitwiseNot": "bitwise_not",
}
Lazy = Callable[[], Any]


@algorithm("If", lazy=True)
def _if(condition: Lazy, true_case: Lazy, false_case: Lazy) -> Any:
    return true_case() if _is_true(condition()) else false_case()


def _is_true(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return False
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return bool(value)
    return True


@algorithm("IsEqual")
def _is_equal(left: Any, right: Any) -> bool:
    return bool(left == right)


@algorithm("ObjectType")
def _object_type(value: Any) -> str:
    return type_name(value).partition("<")[0]


# Lists -------------------------------------------------------------------------------------------


def _at(items: list[Any], index: int) -> int:
    if not -len(items) <= index < len(items):
        raise AlgorithmError(
            f"List index out of range: {index}. The list has {len(items)} elements."
        )
    return index


@algorithm("List.get")
def _list_get(items: list[Any], index: int) -> Any:
    return items[_at(items, index)]


def _register_typed_gets() -> None:
    for kind in ("Number", "String", "Geometry"):

        def get(items: list[Any], index: int) -> Any:
            return items[_at(items, index)]

        algorithm(f"List.get{kind}")(get)


_register_typed_gets()


@algorithm("List.size", "List.length")
def _list_size(items: list[Any]) -> int:
    return len(items)


@algorithm("List.add")
def _list_add(items: list[Any], element: Any) -> list[Any]:
    return [*items, element]


@algorithm("List.cat")
def _list_cat(items: list[Any], other: list[Any]) -> list[Any]:
    return [*items, *other]


@algorithm("List.contains")
def _list_contains(items: list[Any], element: Any) -> bool:
    return element in items


@algorithm("List.containsAll")
def _list_contains_all(items: list[Any], other: list[Any]) -> bool:
    return all(element in items for element in other)


@algorithm("List.distinct")
def _list_distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if item not in out:
            out.append(item)
    return out


@algorithm("List.equals")
def _list_equals(items: list[Any], other: list[Any]) -> bool:
    return items == other


@algorithm("List.flatten")
def _list_flatten(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        out.extend(_list_flatten(item) if isinstance(item, list) else [item])
    return out


@algorithm("List.frequency")
def _list_frequency(items: list[Any], element: Any) -> int:
    return items.count(element)


@algorithm("List.indexOf")
def _list_index_of(items: list[Any], element: Any) -> int:
    return items.index(element) if element in items else -1


@algorithm("List.insert")
def _list_insert(items: list[Any], index: int, element: Any) -> list[Any]:
    return [*items[:index], element, *items[index:]]


@algorithm("List.iterate")
def _list_iterate(items: list[Any], function: Callee, first: Any) -> Any:
    result = first
    for item in items:
        result = function(item, result)
    return result


@algorithm("List.join")
def _list_join(items: list[Any], separator: str) -> str:
    return separator.join(text_of(item) for item in items)


@algorithm("List.map")
def _list_map(items: list[Any], function: Callee, drop_nulls: bool) -> list[Any]:
    made = [function(item) for item in items]
    return [item for item in made if item is not None] if drop_nulls else made


@algorithm("List.filter")
def _list_filter(items: list[Any], wanted: Any) -> list[Any]:
    # Plain items are tested as the property `item`.
    return [i for i in items if wanted.test(i if isinstance(i, Element) else _Item(i))]


class _Item(Element):
    __slots__ = ()

    def __init__(self, value: Any) -> None:
        super().__init__({"item": value})

    def with_properties(self, properties: Properties) -> _Item:
        return _Item(properties.get("item"))


@algorithm("List.reduce")
def _list_reduce(items: list[Any], reducer: Reducer) -> Any:
    columns = [items] if reducer.num_inputs == 1 else [list(c) for c in zip(*items, strict=True)]
    results = reducer.run(columns)
    return next(iter(results.values())) if len(results) == 1 else results


@algorithm("List.remove")
def _list_remove(items: list[Any], element: Any) -> list[Any]:
    index = _list_index_of(items, element)
    return items if index < 0 else [*items[:index], *items[index + 1 :]]


@algorithm("List.removeAll")
def _list_remove_all(items: list[Any], other: list[Any]) -> list[Any]:
    return [item for item in items if item not in other]


@algorithm("List.repeat")
def _list_repeat(value: Any, count: int) -> list[Any]:
    return [value] * count


@algorithm("List.replaceAll")
def _list_replace_all(items: list[Any], old: Any, new: Any) -> list[Any]:
    return [new if item == old else item for item in items]


@algorithm("List.reverse")
def _list_reverse(items: list[Any]) -> list[Any]:
    return items[::-1]


@algorithm("List.rotate")
def _list_rotate(items: list[Any], distance: int) -> list[Any]:
    if not items:
        return items
    shift = distance % len(items)
    return items[-shift:] + items[:-shift]


@algorithm("List.sequence")
def _list_sequence(start: float, end: float | None, step: float, count: int | None) -> list[Any]:
    if count is not None:
        if end is None:
            return [start + i * step for i in range(count)]
        if count < 2:
            return [start][:count]
        return [_whole(v) for v in np.linspace(start, end, count).tolist()]
    if end is None:
        raise AlgorithmError("'end' or 'count' must be specified.")
    if step == 0:
        raise AlgorithmError("'step' must not be 0.")
    number = math.floor((end - start) / step + 1e-9) + 1
    return [start + i * step for i in range(max(number, 0))]


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


@algorithm("List.set")
def _list_set(items: list[Any], index: int, element: Any) -> list[Any]:
    out = list(items)
    out[_at(items, index)] = element
    return out


@algorithm("List.slice")
def _list_slice(items: list[Any], start: int, end: int | None, step: int | None) -> list[Any]:
    return items[start : end : step or 1]


@algorithm("List.sort")
def _list_sort(items: list[Any], keys: list[Any] | None) -> list[Any]:
    by = items if keys is None else keys
    if len(by) != len(items):
        raise AlgorithmError("'keys' must be as long as the list.")
    try:
        order = sorted(range(len(items)), key=by.__getitem__)
    except TypeError:
        order = sorted(range(len(items)), key=lambda i: text_of(by[i]))
    return [items[i] for i in order]


@algorithm("List.splice")
def _list_splice(items: list[Any], start: int, count: int, other: list[Any] | None) -> list[Any]:
    return [*items[:start], *(other or []), *items[start + count :]]


@algorithm("List.swap")
def _list_swap(items: list[Any], one: int, two: int) -> list[Any]:
    out = list(items)
    out[_at(items, one)], out[_at(items, two)] = items[two], items[one]
    return out


@algorithm("List.zip")
def _list_zip(items: list[Any], other: list[Any]) -> list[Any]:
    return [[one, two] for one, two in zip(items, other, strict=False)]


@algorithm("List.unzip")
def _list_unzip(items: list[Any]) -> list[Any]:
    return [list(column) for column in zip(*items, strict=False)]


# Dictionaries ------------------------------------------------------------------------------------


@algorithm("Dictionary")
def _dictionary(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) % 2 == 0:
        return dict(zip(value[::2], value[1::2], strict=True))
    raise AlgorithmError(f"Cannot convert a {type_name(value)} to a dictionary.")


@algorithm("Dictionary.get")
def _dictionary_get(values: dict[str, Any], key: str, default: Any) -> Any:
    found = values.get(key, default)
    if found is None and key not in values:
        raise AlgorithmError(
            f"Dictionary does not contain key: '{key}'. Keys: {_shown(list(values))}."
        )
    return found


def _register_dictionary_gets() -> None:
    for kind in ("Number", "String", "Geometry"):

        def get(values: dict[str, Any], key: str) -> Any:
            return _dictionary_get(values, key, None)

        algorithm(f"Dictionary.get{kind}")(get)


_register_dictionary_gets()


def _shown(names: list[str]) -> str:
    return "[" + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") + "]"


@algorithm("Dictionary.set")
def _dictionary_set(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**values, key: value}


@algorithm("Dictionary.contains")
def _dictionary_contains(values: dict[str, Any], key: str) -> bool:
    return key in values


@algorithm("Dictionary.keys")
def _dictionary_keys(values: dict[str, Any]) -> list[str]:
    return sorted(values)


@algorithm("Dictionary.values")
def _dictionary_values(values: dict[str, Any], keys: list[str] | None) -> list[Any]:
    wanted = sorted(values) if keys is None else keys
    return [_dictionary_get(values, key, None) for key in wanted]


@algorithm("Dictionary.size")
def _dictionary_size(values: dict[str, Any]) -> int:
    return len(values)


@algorithm("Dictionary.combine")
def _dictionary_combine(
    first: dict[str, Any], second: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    merged = {**first, **second} if overwrite else {**second, **first}
    return {key: value for key, value in merged.items() if value is not None}


@algorithm("Dictionary.fromLists")
def _dictionary_from_lists(keys: list[str], values: list[Any]) -> dict[str, Any]:
    if len(keys) != len(values):
        raise AlgorithmError(
            f"Keys and values must have the same size, not {len(keys)} and {len(values)}."
        )
    return dict(zip(keys, values, strict=True))


@algorithm("Dictionary.map")
def _dictionary_map(values: dict[str, Any], function: Callee) -> dict[str, Any]:
    return {key: function(key, value) for key, value in values.items()}


def _selected(values: dict[str, Any], selectors: list[str], ignore_missing: bool) -> list[str]:
    names: list[str] = []
    for selector in selectors:
        found = [key for key in values if key == selector] or [
            key for key in values if re.fullmatch(selector, key)
        ]
        if not found and not ignore_missing:
            raise AlgorithmError(f"Dictionary does not contain key: '{selector}'.")
        names += found
    return names


@algorithm("Dictionary.remove")
def _dictionary_remove(
    values: dict[str, Any], selectors: list[str], ignore_missing: bool
) -> dict[str, Any]:
    gone = _selected(values, selectors, ignore_missing)
    return {key: value for key, value in values.items() if key not in gone}


@algorithm("Dictionary.select")
def _dictionary_select(
    values: dict[str, Any], selectors: list[str], ignore_missing: bool
) -> dict[str, Any]:
    return {key: values[key] for key in _selected(values, selectors, ignore_missing)}


@algorithm("Dictionary.rename")
def _dictionary_rename(
    values: dict[str, Any], source: list[str], target: list[str], overwrite: bool
) -> dict[str, Any]:
    names = dict(zip(source, target, strict=True))
    kept = {key: value for key, value in values.items() if key not in names}
    for old, new in names.items():
        if new in kept and not overwrite:
            raise AlgorithmError(f"Dictionary already contains key: '{new}'.")
        kept[new] = _dictionary_get(values, old, None)
    return kept


@algorithm("Dictionary.toImage")
def _dictionary_to_image(values: dict[str, Any], names: list[str] | None) -> Any:
    keys = sorted(values) if names is None else names
    return select_bands(constant_image([values[key] for key in keys]), [".*"], keys)


# Texts -------------------------------------------------------------------------------------------


@algorithm("String")
def _string(value: Any) -> str:
    if isinstance(value, Date):
        return format_date(value)
    if value is None or isinstance(value, (str, int, float)):
        return "null" if value is None else text_of(value)
    return json.dumps(value, default=str)


@algorithm("String.cat")
def _string_cat(one: str, two: str) -> str:
    return one + two


@algorithm("String.compareTo")
def _string_compare(one: str, two: str) -> int:
    return (one > two) - (one < two)


@algorithm("String.equals")
def _string_equals(one: str, two: Any) -> bool:
    return bool(one == two)


@algorithm("String.index")
def _string_index(text: str, pattern: str) -> int:
    return text.find(pattern)


@algorithm("String.rindex")
def _string_rindex(text: str, pattern: str) -> int:
    return text.rfind(pattern)


@algorithm("String.length")
def _string_length(text: str) -> int:
    return len(text)


def _pattern(regex: str, flags: str) -> re.Pattern[str]:
    try:
        return re.compile(regex, re.IGNORECASE if "i" in flags else 0)
    except re.error:
        raise AlgorithmError(f"Invalid regular expression '{regex}'.") from None


@algorithm("String.match")
def _string_match(text: str, regex: str, flags: str) -> list[str]:
    pattern = _pattern(regex, flags)
    if "g" in flags:
        return [found.group() for found in pattern.finditer(text)]
    found_one = pattern.search(text)
    return [] if found_one is None else [found_one.group(), *(g or "" for g in found_one.groups())]


@algorithm("String.replace")
def _string_replace(text: str, regex: str, replacement: str, flags: str) -> str:
    # Java writes groups as $1, Python as \g<1>.
    translated = re.sub(r"\$(\d+)", r"\\g<\1>", replacement)
    return _pattern(regex, flags).sub(translated, text, count=0 if "g" in flags else 1)


@algorithm("String.slice")
def _string_slice(text: str, start: int, end: int | None) -> str:
    return text[start:end]


@algorithm("String.split")
def _string_split(text: str, regex: str, flags: str) -> list[str]:
    return list(text) if not regex else _pattern(regex, flags).split(text)


@algorithm("String.toLowerCase")
def _string_lower(text: str) -> str:
    return text.lower()


@algorithm("String.toUpperCase")
def _string_upper(text: str) -> str:
    return text.upper()


@algorithm("String.trim")
def _string_trim(text: str) -> str:
    return text.strip()


@algorithm("String.decodeJSON")
def _string_decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise AlgorithmError("Invalid JSON.") from None


# Numbers -----------------------------------------------------------------------------------------


def _as_number(result: Any) -> Any:
    value = np.asarray(result).item()
    return int(value) if isinstance(value, bool) else value


def _register_numbers() -> None:
    for name, (function, _) in BINARY.items():
        names = [f"Number.{name}", *([f"Number.{_OLD_NAMES[name]}"] if name in _OLD_NAMES else [])]

        def two(a: Any, b: Any, f: Callable[..., Any] = function) -> Any:
            return _as_number(f(np.asarray(a), np.asarray(b)))

        algorithm(*names)(two)
    for name, (function, _) in UNARY.items():
        names = [f"Number.{name}", *([f"Number.{_OLD_NAMES[name]}"] if name in _OLD_NAMES else [])]

        def one(a: Any, f: Callable[..., Any] = function) -> Any:
            return _as_number(f(np.asarray(a)))

        algorithm(*names)(one)
    for name, pixel_type in NAMED.items():
        capital = f"to{name[0].upper()}{name[1:]}"

        def cast(a: Any, t: Any = pixel_type) -> Any:
            return _as_number(cast_values(np.asarray(a), t))

        algorithm(f"Number.{name}", f"Number.{capital}")(cast)


_register_numbers()


@algorithm("Number.clamp")
def _number_clamp(number: float, low: float, high: float) -> float:
    return min(max(number, low), high)


@algorithm("Number.unitScale")
def _number_unit_scale(number: float, low: float, high: float) -> float:
    return (number - low) / (high - low)


@algorithm("Number.format")
def _number_format(number: float, pattern: str) -> str:
    try:
        if "d" in pattern:
            return pattern % int(number)
        return pattern % (text_of(number) if "s" in pattern else number)
    except (TypeError, ValueError):
        raise AlgorithmError(f"Invalid format '{pattern}'.") from None


@algorithm("Number.parse")
def _number_parse(text: str, radix: int) -> Any:
    try:
        return int(text, radix) if radix != 10 or re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        raise AlgorithmError(f"Cannot parse the number '{text}'.") from None
