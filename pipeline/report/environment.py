"""What renders pages about cubes."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment

from pages.environment import page_environment
from storage_schema.products import PRODUCTS


@cache
def cube_environment(*packages: str) -> Environment:
    """Return what renders pages about cubes: templates of packages, then those here."""
    return page_environment(*packages, "pipeline.report", product=_short_title)


def _short_title(name: str) -> str:
    return PRODUCTS[name].short_title if name in PRODUCTS else name
