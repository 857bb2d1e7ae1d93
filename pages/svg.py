"""SVG elements, escaped; a figure inside a page or in a file of its own.

Text stays text, and the same numbers give the same bytes. A plotting library would bring its own
fonts and version-dependent output into the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup, escape


def number_text(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def tag(name: str, content: str | Markup | None = None, **attributes: object) -> Markup:
    """Return one SVG element; everything but `Markup` content is escaped.

    Args:
        name: of the element.
        content: text, or elements; None for an empty element.
        **attributes: of the element: ``class_`` is ``class`` and ``stroke_width`` is
            ``stroke-width``. Floats are coordinates; an empty text leaves the attribute out.
    """
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="'
        f'{escape(number_text(value) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value != ""
    ]
    opening = Markup(f"<{name}{''.join(parts)}")  # noqa: S704 - attribute values are escaped above
    if content is None:
        return opening + Markup("/>")
    return opening + Markup(">") + escape(content) + Markup(f"</{name}>")  # noqa: S704 - our tags


def svg(width: float, height: float, label: str, content: Sequence[Markup], css: str) -> Markup:
    """Return a figure for a page.

    Args:
        width: of the figure's coordinates; the page decides how large it is shown.
        height: of the figure's coordinates.
        label: what the figure shows, for those who cannot see it.
        content: elements, the lowest first.
        css: class of the figure.
    """
    return tag(
        "svg",
        tag("title", label) + Markup("").join(content),
        viewBox=f"0 0 {number_text(width)} {number_text(height)}",
        role="img",
        class_=css,
        aria_label=label,
    )


def svg_file(figure: Markup) -> str:
    """Return a figure of `svg` as the text of an SVG file.

    Inside a page, SVG needs neither namespace nor style; in a file of its own, both.
    """
    opening, rest = str(figure).split(">", 1)
    style = files("pages").joinpath("templates/charts.css").read_text(encoding="utf-8")
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{opening}><style>\n{style}</style>{rest}\n"


def text_at(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> Markup:
    """Return text at a place."""
    return tag("text", text, x=float(x), y=float(y), text_anchor=anchor, class_=css)


def line(path: str, css: str = "axis", title: str = "", **attributes: object) -> Markup:
    """Return a path, with a title where the pointer rests."""
    content = tag("title", title) if title else None
    return tag("path", content, d=path, class_=css, **attributes)
