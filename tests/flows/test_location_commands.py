"""``softcon locations``: lists, maps, and one sentence for every mistake."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flows.command_line import run
from pipeline.places.files import read_locations

EXAMPLES = sorted((Path(__file__).parents[2] / "configs").glob("locations_*.yaml"))

CITIES = "kind: gaussian_around_cities\nnum_locations: 40\nnum_cities: 100\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cities.yaml"
    path.write_text(CITIES)
    return path


@pytest.fixture
def locations(config: Path) -> Path:
    out = config.with_name("cities.parquet")
    assert run(["locations", "sample", str(config), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("command", ["locations", "locations sample", "locations show"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert "Usage: softcon" in capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_configurations_work(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same configuration with fewer locations, next to the files it names.
    text = re.sub(r"(?m)^num_locations: \d+", "num_locations: 50", example.read_text())
    (tmp_path / "config.yaml").write_text(text)
    shutil.copy(example.with_name("locations_example.csv"), tmp_path)
    out = tmp_path / "out.parquet"
    assert run(["locations", "sample", str(tmp_path / "config.yaml"), "--out", str(out)]) == 0
    found = read_locations(out)
    assert f"{len(found):,} locations (" in capsys.readouterr().out
    kind = example.stem.removeprefix("locations_")
    assert found.provenance["settings"]["kind"] == kind
    # Nothing of this machine in a file that people hand on.
    assert str(tmp_path).encode() not in out.read_bytes()


def test_examples_cover_every_kind() -> None:
    kinds = ["file", "gaussian_around_cities", "uniform_on_land", "utm_tiling"]
    assert [path.stem.removeprefix("locations_") for path in EXAMPLES] == kinds


def test_summary_for_programs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    assert run(["locations", "sample", str(config), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file"] == str(out)
    assert result["num_locations"] == 40 == sum(result["splits"].values())
    assert list(result["splits"]) == ["train", "validation", "test", "buffer"]


def test_same_configuration_gives_the_same_bytes(config: Path, locations: Path) -> None:
    again = locations.with_name("again.parquet")
    assert run(["locations", "sample", str(config), "--out", str(again)]) == 0
    assert again.read_bytes() == locations.read_bytes()


class _Addresses(HTMLParser):
    """Collects everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.circles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.circles += tag == "circle"
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]
        assert tag not in {"script", "iframe", "object"}


def test_map_is_one_page_that_fetches_nothing(locations: Path) -> None:
    out = locations.with_suffix(".html")
    assert run(["locations", "show", str(locations), "--out", str(out)]) == 0
    text = out.read_text()
    page = _Addresses()
    page.feed(text)
    assert page.circles == 40
    assert all(address.startswith("data:") for address in page.found)
    assert "url(" not in text
    assert "GeoNames (CC-BY-4.0)" in text
    assert "num_locations" in text.replace("<wbr>", "")


def test_map_as_a_picture_stands_alone(locations: Path) -> None:
    out = locations.with_suffix(".svg")
    assert run(["locations", "show", str(locations), "--out", str(out)]) == 0
    root = ET.fromstring(out.read_text())  # our own file
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{*}circle")) == 40
    assert root.find("{*}style") is not None


def test_many_locations_are_a_density(config: Path) -> None:
    config.write_text(CITIES.replace("40", "2500").replace("100", "1000"))
    parquet, html = config.with_name("many.parquet"), config.with_name("many.html")
    assert run(["locations", "sample", str(config), "--out", str(parquet)]) == 0
    assert run(["locations", "show", str(parquet), "--out", str(html)]) == 0
    text = html.read_text()
    assert "coloured by the number of locations" in text
    assert "<circle" not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("- a\n- b\n", "is not a mapping"),
        ("kind: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("\udcff", "not a text file"),
        ("num_locations: 3", "kind is missing"),
        (CITIES + "sigma: 3\n", "sigma is not a setting here"),
        (CITIES + "sigma_m: -1\n", "sigma_m -1"),
        ("kind: file\npath: none.csv\n", "none.csv cannot be read"),
        (
            "kind: uniform_on_land\nnum_locations: 5000\nregion: {bbox: [11, 48, 11.2, 48.2]}\n",
            "of num_locations 5,000 found room",
        ),
    ],
)
def test_mistake_in_sample_is_one_sentence_and_leaves_nothing_behind(
    content: str | None,
    sentence: str,
    tmp_path: Path,
    complaint: Callable[[list[str]], tuple[int, str]],
) -> None:
    config = tmp_path / "config.yaml"
    if content is not None:
        config.write_text(content, encoding="utf-8", errors="surrogateescape")
    code, said = complaint(["locations", "sample", str(config), "--out", str(tmp_path / "x")])
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("softcon: ")]
    assert line == said.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} <= {"config.yaml"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sample", "CONFIG"], "Missing option '--out'"),
        (["sample", "CONFIG", "--out", "no/such/x.parquet"], "cannot be written"),
        (["show", "none.parquet", "--out", "x.html"], "none.parquet cannot be read"),
        (["show", "CONFIG", "--out", "x.html"], "Parquet"),
        (["show", "LIST", "--out", "x.pdf"], "neither .html nor .svg"),
        (["show", "LIST", "--out", "no/such/x.html"], "cannot be written"),
    ],
)
def test_mistake_is_one_sentence_and_exit_2(
    arguments: list[str],
    sentence: str,
    config: Path,
    locations: Path,
    complaint: Callable[[list[str]], tuple[int, str]],
) -> None:
    places = {"CONFIG": str(config), "LIST": str(locations)}
    before = sorted(config.parent.iterdir())
    code, said = complaint(["locations", *(places.get(word, word) for word in arguments)])
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said
    assert sorted(config.parent.iterdir()) == before
