"""What figures are drawn with: SVG elements, round numbers for axes, pictures as addresses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape


def number_text(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def tag(name: str, content: str | Markup | None = None, **attributes: object) -> Markup:
    """Return one SVG element; everything but `Markup` content is escaped."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="'
        f'{escape(number_text(value) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
    ]
    opening = Markup(f"<{name}{''.join(parts)}")  # noqa: S704 - attribute values are escaped above
    if content is None:
        return opening + Markup("/>")
    return opening + Markup(">") + escape(content) + Markup(f"</{name}>")  # noqa: S704 - our tags


def svg(width: float, height: float, label: str, content: Sequence[Markup], css: str) -> Markup:
    """Return a figure with its title, `label`, for those who cannot see it."""
    return tag(
        "svg",
        tag("title", label) + Markup("").join(content),
        viewBox=f"0 0 {number_text(width)} {number_text(height)}",
        role="img",
        class_=css,
        aria_label=label,
    )


def text_at(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> Markup:
    """Return text at a place."""
    attributes = {"class": css} if css else {}
    return tag("text", text, x=float(x), y=float(y), text_anchor=anchor, **attributes)


def compact(number: float) -> str:
    """Return a count as people read it on an axis: 950, 12.4k, 1.3M."""
    for limit, divisor, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(number) >= limit:
            return f"{number / divisor:.3g}{suffix}"
    return f"{number:,.0f}"


def minus(number: str) -> str:
    """Return a formatted number with a minus sign, which is as wide as a plus, for a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def tick_at(x: float, y: float, text: str) -> list[Markup]:
    """Return a tick below a horizontal axis, with its name."""
    return [
        tag("path", d=f"M{x:.1f} {y:.1f}v4", class_="axis"),
        text_at(x, y + 16, text, "tick", "middle"),
    ]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most about `most` round numbers between two limits."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** np.floor(np.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    # + 0.0 turns -0.0, which would be printed, into 0.
    return [float(round(k * step, 10)) + 0.0 for k in np.arange(first, last + 1)]


def data_uri(content: bytes, media_type: str) -> str:
    """Return the bytes as a ``data:`` address, which needs no request."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"
