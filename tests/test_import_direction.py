"""Who may import whom: packages among each other, and the floors inside them.

`docs/architecture.md` draws the same picture. A module may import from its own room and from lower
floors; two rooms of one floor do not know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "groundwork": set(),
    "pages": set(),
    "storage_schema": set(),
    "pipeline": {"groundwork", "pages", "storage_schema"},
    "training": {"groundwork", "pages", "storage_schema"},
    "earth_engine_emulator": set(),
    "flows": {
        "groundwork",
        "pages",
        "storage_schema",
        "pipeline",
        "training",
        "earth_engine_emulator",
    },
}
FLOORS = {
    "pipeline": (
        {"errors", "grids", "heap", "ledger"},
        {"land_cover", "patches", "places"},
        {"cube", "sources"},
        {"build", "report"},
        {"testing"},
    ),
    "training": (
        {"choices", "errors", "presets", "schedules"},
        {"checkpoints", "config", "distributed"},
        {"network", "objective", "reading"},
        {"backbones", "loop"},
        {"evaluation"},
        {"pretrain"},
    ),
}
"""From the ground up: the modules and folders of a package by floor."""
SOLE_IMPORTERS = {
    "ee": {
        "pipeline/sources/earth_engine/client.py",
        "pipeline/sources/earth_engine/expressions.py",
        "emulator/earth_engine_emulator/testing.py",
    },
}
FORBIDDEN = {
    "groundwork": {"torch", "prefect", "dask", "rasterio"},
    "pages": {"torch", "prefect", "dask", "rasterio", "zarr"},
    "storage_schema": {"torch", "prefect", "dask", "rasterio"},
    "pipeline": {"torch", "prefect"},
    "training": {"prefect"},
    "earth_engine_emulator": {"torch", "prefect"},
}


def imported_modules(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, a name of a package as if it were a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    # The emulator is a distribution of its own: its package lies one folder deeper.
    folder = ROOT / "emulator" if package == "earth_engine_emulator" else ROOT
    return sorted((folder / package).rglob("*.py"))


def test_the_emulator_s_tests_and_examples_import_nothing_of_ours() -> None:
    """They belong to its distribution, which is tested without the rest of the repository."""
    paths = sorted((ROOT / "emulator").rglob("*.py"))
    assert {path.relative_to(ROOT / "emulator").parts[0] for path in paths} == {
        "earth_engine_emulator",
        "examples",
        "tests",
    }
    for path in paths:
        imported = {name.split(".")[0] for name in imported_modules(path)}
        assert not imported & (set(ALLOWED) | {"benchmarks", "docs", "tests"}) - {
            "earth_engine_emulator"
        }, path


def floor_of(package: str, room: str) -> int:
    floors = [number for number, rooms in enumerate(FLOORS[package]) if room in rooms]
    assert len(floors) == 1, f"{package}/{room} stands on no floor, or on two: {floors}"
    return floors[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_packages_it_may(package: str) -> None:
    paths = modules(package)
    assert paths, f"{package} has no modules"
    for path in paths:
        imported = {name.split(".")[0] for name in imported_modules(path)}
        assert imported & set(ALLOWED) <= ALLOWED[package] | {package}, path
        assert not imported & FORBIDDEN.get(package, set()), path
        for sole, importers in SOLE_IMPORTERS.items():
            assert sole not in imported or str(path.relative_to(ROOT)) in importers, path


@pytest.mark.parametrize("package", FLOORS)
def test_imports_inside_a_package_run_downward(package: str) -> None:
    for path in modules(package):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        if parts == ("__init__",):
            continue  # the package's public face
        for name in imported_modules(path):
            top, *inner = name.split(".")
            if top == package and inner and inner[0] != parts[0]:
                here, there = floor_of(package, parts[0]), floor_of(package, inner[0])
                assert there < here, f"{path.relative_to(ROOT)} imports {name}, which is not below"


def test_a_source_is_imported_by_itself_alone() -> None:
    """The registry imports sources by name, when they are asked for; nothing else knows one."""
    folder = ROOT / "pipeline" / "sources"
    rooms = {path.parent.name for path in folder.glob("*/registration.py")}
    assert {"earth_engine", "ssl4eo_s12"} <= rooms
    for path in modules("pipeline"):
        own = {path.relative_to(folder).parts[0]} if path.is_relative_to(folder) else set()
        imported = {
            name.split(".")[2]
            for name in imported_modules(path)
            if name.startswith("pipeline.sources.")
        }
        assert not imported & rooms - own, path


def test_an_import_that_runs_up_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from pipeline import build\nimport pipeline.cube.seal\n")
    assert list(imported_modules(path)) == ["pipeline.build", "pipeline.cube.seal"]
    assert floor_of("pipeline", "build") > floor_of("pipeline", "cube")
