from __future__ import annotations

from xml.etree import ElementTree as ET

from pages.charts import Series, chart_grid, line_chart
from pages.svg import number_text, svg, svg_file, tag, text_at

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_attributes_and_text_are_escaped_and_elements_are_not() -> None:
    inner = text_at(1, 2, "a < b & c")
    outer = tag("g", inner, class_='x" onload="alert(1)', stroke_width=2.50)
    element = ET.fromstring(str(outer))
    assert element.attrib == {"class": 'x" onload="alert(1)', "stroke-width": "2.5"}
    assert element[0].text == "a < b & c"
    assert element[0].attrib == {"x": "1", "y": "2", "text-anchor": "start"}


def test_coordinates_have_two_decimals_at_most() -> None:
    assert [number_text(v) for v in (1.0, 0.126, -3.5, 100.0)] == ["1", "0.13", "-3.5", "100"]


def test_a_figure_has_a_title_for_those_who_cannot_see_it() -> None:
    element = ET.fromstring(str(svg(10, 20, "Loss & rank", [tag("rect")], "figure")))
    assert element.attrib["role"] == "img"
    assert element.attrib["aria-label"] == "Loss & rank"
    assert element.attrib["viewBox"] == "0 0 10 20"
    assert element[0].text == "Loss & rank"


def test_a_file_is_svg_with_its_style_and_asks_for_nothing() -> None:
    chart = line_chart([Series("loss", "#123456", [(0, 1), (1, 2)])], "Loss")
    assert chart is not None
    text = svg_file(chart_grid([("Loss", chart)], 1, "Curves"))
    root = ET.fromstring(text)
    assert root.tag == f"{NAMESPACE}svg"
    styles = [e.text or "" for e in root.iter(f"{NAMESPACE}style")]
    assert len(styles) == 1
    # Not every viewer of SVG knows the variables of a page's style.
    assert "var(" not in styles[0]
    assert "#123456" in text
    assert "url(" not in text
    assert "@import" not in text
    assert "href" not in text
    assert svg_file(chart_grid([("Loss", chart)], 1, "Curves")) == text
