"""YAML from somebody we do not know: plain values, or one sentence and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from earth_engine_emulator.catalogue import read_acquisition
from earth_engine_emulator.errors import EmulatorError
from earth_engine_emulator.faults import read_fault_settings
from earth_engine_emulator.yaml_files import MAX_FILE_BYTES, read_mapping

HUGE = "0x" + "f" * 5000
"""A whole number of 6,000 decimal digits, which Python refuses to print."""
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth > 1 else []


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("a: 1\nb: [x, 2.5, yes, null]\n", {"a": 1, "b": ["x", 2.5, True, None]}),
        ("\ufeffa: {b: c}\n", {"a": {"b": "c"}}),
        ("a: &name 1\n", {"a": 1}),
        ("<<: {a: 1}\nb: 2\n", {"a": 1, "b": 2}),
        ("{}", {}),
        (f"a: '{'[' * 9000}'", {"a": "[" * 9000}),
        (f"a: {'[' * 30}{']' * 30}", {"a": nested(30)}),
    ],
)
def test_plain_values_are_read(content: str, values: dict[str, Any], tmp_path: Path) -> None:
    assert read_mapping(written(tmp_path, content)) == values


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("- a\n", "is not a mapping"),
        ("a: [1, 2\n", "is not YAML: line 2, column 1"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: 'a' is given twice: leave one out"),
        ("x: {a: 1, b: {c: 1, c: 2}}\n", "'c' is given twice"),
        (LAUGHS, "line 2, column 8: aliases are refused: write the value out"),
        ("a: &a [1, *a]\n", "aliases are refused"),
        ("a: *nobody\n", "aliases are refused"),
        ("<<: 5\n", "expected a mapping or list of mappings for merging"),
        ("? [1, 2]\n: 3\n", "found unhashable key"),
        ("a: 2021-02-30\n", "line 1, column 4: '2021-02-30' is not a valid timestamp"),
        ("a: !!int x\n", "'x' is not a valid int"),
        ("a: !!bool perhaps\n", "'perhaps' is not a valid bool"),
        (f"a: {'9' * 5000}\n", "is not a valid int"),
        ("!!python/object/apply:os.system ['touch exploited']\n", "python/object/apply"),
        ("a: !secret x\n", "could not determine a constructor"),
        ("a: =\n", "could not determine a constructor"),
        ("a: " + "[" * 9000 + "]" * 9000, "nested more than 32 levels deep"),
        ("".join(" " * depth + "a:\n" for depth in range(350)), "nested more than 32 levels deep"),
        ("a: \x07\n", "special characters are not allowed"),
        (b"\xff\xfea\x00", "is not a text file in UTF-8"),
        (b"a: " + b"x" * MAX_FILE_BYTES, "is larger than 64 KiB"),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_one_sentence(
    content: str | bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, content)
    began = time.monotonic()
    with pytest.raises(EmulatorError) as caught:
        read_mapping(path)
    assert time.monotonic() - began < 5.0
    said = str(caught.value)
    assert said.startswith(str(path))
    assert sentence in said
    assert "\n" not in said
    assert len(said) < 500
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [read_acquisition, read_fault_settings])
@pytest.mark.parametrize(
    "content",
    [
        f"version: {HUGE}\n",
        f"seed: {HUGE}\n",
        f"properties: {{a: [{HUGE}]}}\n",
        f"probabilities: {HUGE}\n",
        f"? {HUGE}\n: 1\n",
        "version: " + ":".join(["59"] * 3000) + "\n",
        "latency: {distribution: constant, seconds: .inf}\n",
        'bands: {B2: {file: "\\ud800"}}\n',
        "".join(f"k{number}: 1\n" for number in range(4000)),
        f"{'k' * 9000}: {'v' * 9000}\n",
    ],
    ids=range(10),
)
def test_what_cannot_be_used_is_one_sentence(read: Any, content: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(EmulatorError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
