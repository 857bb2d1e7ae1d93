"""Public faces: what a user may import, lazily."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("storage_schema", "pipeline", "training")
HEAVY = {"dask", "distributed", "ee", "matplotlib", "rasterio", "scipy", "tensorstore", "timm"} | {
    "torch",
    "xarray",
    "zarr",
}


def stub_names(package: str) -> list[str]:
    tree = ast.parse((ROOT / package / "__init__.pyi").read_text())
    return [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_listed(package: str) -> None:
    module = importlib.import_module(package)
    names = stub_names(package)
    assert sorted(names) == sorted(set(names))
    assert set(module.__all__) == set(names)
    assert set(names) <= set(dir(module))
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="absent"):
        module.absent  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & {name.split(".")[0] for name in done.stdout.split()}


def test_a_public_name_is_the_object_of_its_module() -> None:
    from pipeline import seal_cube
    from pipeline.cube.seal import seal_cube as its_own

    assert seal_cube is its_own
