"""Who may import whom: ``pipeline -> storage_schema <- training``; ``flows -> all``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"storage_schema", "pipeline", "training", "emulator", "flows"}
ALLOWED = {
    "storage_schema": set(),
    "pipeline": {"storage_schema"},
    "training": {"storage_schema"},
    "emulator": {"storage_schema"},
    "flows": ROOMS,
}
SOLE_IMPORTERS = {
    "ee": {"pipeline/sources/earth_engine.py"},
}
FORBIDDEN = {
    "storage_schema": {"torch", "prefect", "dask", "rasterio"},
    "pipeline": {"torch", "prefect"},
    "training": {"prefect"},
    "emulator": {"torch", "prefect"},
}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield str(node.module).split(".")[0]


def modules() -> list[Path]:
    return sorted(
        p for room in ROOMS if (ROOT / room).is_dir() for p in (ROOT / room).rglob("*.py")
    )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_rooms_it_may(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    room = path.relative_to(ROOT).parts[0]
    imported = set(imported_packages(path))
    assert imported & ROOMS <= ALLOWED[room] | {room}
    assert not imported & FORBIDDEN.get(room, set())
    for package, importers in SOLE_IMPORTERS.items():
        assert package not in imported or name in importers


def test_every_room_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in modules()} >= {
        "storage_schema",
        "pipeline",
        "emulator",
        "flows",
    }
