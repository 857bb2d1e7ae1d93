"""What renders pages: Jinja that escapes every value, with filters for numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pages.formats import compact, minus, percent, significant, utc


def page_environment(*packages: str, **filters: Callable[..., Any]) -> Environment:
    """Return what renders pages from templates of packages, and from those here.

    A page extends ``page.html``; ``parts.html`` has what pages share.

    Args:
        *packages: each with a folder ``templates``; the first one's templates win.
        **filters: of these pages, beside those that all pages have.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "pages")]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        breakable=breakable,
        compact=compact,
        count=lambda number: f"{number:,}",
        day=lambda time_ms: utc(time_ms)[:10],
        days=lambda value: minus(f"{value:+.1f} days"),
        figure=significant,
        percent=percent,
        signed=lambda value: minus(f"{value:+.2f}"),
        words=lambda text: str(text).replace("_", " "),
        **filters,
    )
    return environment


def breakable(name: str) -> Markup:
    """Return a dotted name that may be broken after its dots and underscores."""
    text = escape(name)
    for character in "._":
        text = text.replace(character, character + Markup("<wbr>"))
    return text
