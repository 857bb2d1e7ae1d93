"""Pages: what all templates keep to, whoever's values they show."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from pages.environment import breakable, page_environment

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(
    path
    for package in ("pages", "pipeline", "training", "flows")
    for path in (ROOT / package).rglob("templates/*.html")
)
HOSTILE = "<script>alert('x')</script>\"&"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_lets_text_through_or_links_to_an_address_from_a_value(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|<script|\son\w+=|url\(", text)
    for attribute, value in re.findall(r"\b(href|src|action|srcset)=\"([^\"]*)", text):
        # A value alone could be javascript:...; after "./" it is a file beside the page.
        allowed = ("#", "./", "data:")
        is_picture = attribute == "src" and re.fullmatch(r"\{\{ \w+\.uri \}\}", value)
        assert value.startswith(allowed) or is_picture, (attribute, value)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_page_is_the_one_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    is_base = path == ROOT / "pages/templates/page.html"
    assert ("<html" in text) == is_base
    if not is_base and not path.stem.endswith("parts"):
        assert text.startswith('{% extends "page.html" %}')


def test_the_page_forbids_requests_and_makes_none() -> None:
    text = page_environment().get_template("page.html").render()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "url(" not in text
    assert "@import" not in text
    assert text == page_environment().get_template("page.html").render()


def test_a_missing_value_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(jinja2.UndefinedError):
        page_environment().from_string("{{ forgotten }}").render()


def test_long_names_break_after_dots_and_underscores_only() -> None:
    assert breakable("split.block_size_m") == "split.<wbr>block_<wbr>size_<wbr>m"
    assert breakable("<b>.c") == "&lt;b&gt;.<wbr>c"
