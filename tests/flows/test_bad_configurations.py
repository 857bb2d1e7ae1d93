"""200 generated mistakes in configurations: each is one sentence, before anything is touched.

Each takes a configuration that is accepted and puts one mistake into it, drawn by seed. Nothing may
be written, and nobody asked over the network, for a mistake that can be seen in the text.
"""

from __future__ import annotations

import itertools
import math
import random
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.exceptions import ParameterTypeError

from earth_engine_emulator.catalogue import Acquisition
from earth_engine_emulator.faults import FaultSettings
from earth_engine_emulator.settings import EmulatorSettings, make_app
from earth_engine_emulator.testing import ramp, write_catalogue, write_raster
from flows.import_dataset import ImportSettings, import_dataset
from flows.pretrain_backbone import pretrain_backbone
from flows.rebuild_dataset import rebuild_dataset
from pipeline.places.settings import parse_location_settings
from pipeline.sources.registry import parse_build_settings
from training.config import parse_run_settings

SEED = 20261125
NUM_CASES = 200
MOST_S = 10.0
CONFIGS = Path(__file__).parents[2] / "configs"
PLACE = "PLACE_OF_THE_MISTAKE"
Complaint = Callable[[list[str]], tuple[int, str]]
Values = dict[str, Any]

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


# --- what is mutated ------------------------------------------------------------------------------


def load(pattern: str) -> list[Values]:
    return [yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob(pattern))]


REBUILDS = load("rebuild_*.yaml")
TRAININGS = load("pretrain_*.yaml")
PLACES = load("locations_*.yaml")
FAULTS = load("emulator/faults_*.yaml")
ACQUISITION: Values = {
    "collection": "TEST/IMAGES",
    "index": "20210619T154811_T18SVG",
    "time_start": "2021-06-19T16:02:47Z",
    "bands": {"B2": {"file": "b2.tif", "band": 1, "divisor": 1.0}},
}


def all_settings(family: str, values: Values) -> Values:
    """The configuration with every default written out; raises if it is not accepted."""
    if family == "rebuild":
        return parse_build_settings(values, family).model_dump(mode="json")
    if family == "training":
        return parse_run_settings(values, family).model_dump(mode="json")
    if family == "places":
        return parse_location_settings(values, family).model_dump(mode="json")
    if family == "faults":
        return FaultSettings.model_validate(values).model_dump(mode="json")
    return Acquisition.model_validate(values).model_dump(mode="json", exclude_unset=True)


BASES = {
    "rebuild": REBUILDS,
    "training": TRAININGS,
    "places": PLACES,
    "faults": FAULTS,
    "acquisition": [ACQUISITION],
}
REQUIRED = {
    "rebuild": ["cube", "seasons", "seasons.reference_dates", "earth_engine"],
    "training": ["out", "data", "data.cubes"],
    "places": ["kind"],
    "faults": ["latency.distribution"],
    "acquisition": ["collection", "index", "time_start", "bands", "bands.B2.file"],
}


def leaves(values: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*place, name))
        else:
            yield (*place, name), value


def changed(values: Values, place: tuple[str, ...], value: Any) -> Values:
    """A copy with one setting replaced or added."""
    first, *rest = place
    inner = values.get(first)
    if rest:
        value = changed(inner if isinstance(inner, dict) else {}, tuple(rest), value)
    return {**values, first: value}


def without(values: Values, place: tuple[str, ...]) -> Values:
    first, *rest = place
    if rest:
        return {**values, first: without(values[first], tuple(rest))}
    return {name: value for name, value in values.items() if name != first}


# --- mistakes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """One wrong configuration file.

    Args:
        kind: of the mistake, in words.
        content: of the file; None where there is none, or it is a folder.
        options: of the command beside it.
        values: the same settings as parameters of a flow; None where there are none.
        file: how the file is called.
    """

    kind: str
    content: bytes | None
    options: tuple[str, ...] = ()
    values: Values | None = None
    file: str = "wrong.yaml"


def text_of(values: Values, raw: str = "") -> bytes:
    return yaml.safe_dump(values, sort_keys=False).replace(PLACE, raw).encode()


def wrong_types(value: Any) -> list[Any]:
    """What a setting that holds this cannot hold, whatever its bounds."""
    always = [{"a": 1}, [[{}]], {"nested": {"further": []}}]
    if isinstance(value, bool):
        return [*always, "perhaps", 7, "2021-02-28", 0.5]
    if isinstance(value, int):
        return [*always, "many", 1.5, "1,000", "0x", ""]
    if isinstance(value, float):
        return [*always, "many", "1,5", "50 %", ""]
    if isinstance(value, str):
        return [*always, 5.5, True, -7]
    if isinstance(value, list):
        return [*always, "x", 5, True, {}]
    return always


BOMB = "{a: &a [x,x,x,x,x,x,x,x,x], " + (
    ", ".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]"
        for old, new in itertools.pairwise("abcdefghi")
    )
    + "}"
)
TAGS = [
    "!!python/object/apply:os.system ['touch exploited']",
    "!!python/object/new:subprocess.Popen [['touch', 'exploited']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!secret x",
    "!!bool perhaps",
    "!!int ''",
    "!!timestamp soon",
    "!!binary '?'",
]


def huge_values(value: Any) -> list[tuple[str, Any]]:
    """YAML texts and the same as values; each is beyond every bound."""
    many = "[" + ",".join("1" * 100_000) + "]"
    nested = "[" * 3000 + "]" * 3000
    found: list[tuple[str, Any]] = [(many, [1] * 100_000), (nested, None)]
    if isinstance(value, bool | int | float):
        found += [
            (str(10**30), 10**30),
            (str(-(10**30)), -(10**30)),
            ("0x" + "f" * 5000, None),  # JSON, and so a form, has no such number.
            ("1" * 5000, None),
        ]
        if not isinstance(value, bool):
            found += [("1.0e+308", 1e308), ("-1e308", -1e308)]
    if isinstance(value, str):
        found += [("x" * 10_000_000, "x" * 10_000_000), ("y/" * 20_000, "y/" * 20_000)]
    return found


def in_one_setting(rng: random.Random, family: str) -> Mistake:
    """A wrong type, a huge value, NaN, a tag or a bomb at one setting."""
    values = rng.choice(BASES[family])
    full = all_settings(family, values)
    kind = rng.choice(["wrong type", "wrong type", "huge", "huge", "nan", "tag", "bomb", "NUL"])
    places = dict(leaves(full))
    if kind == "nan":
        places = {place: value for place, value in places.items() if isinstance(value, float)}
    if kind == "NUL":
        places = {place: value for place, value in places.items() if place[-1] in PATHS[family]}
    # Names that the emulator serves as they are given are no mistake, however long.
    free = {("quota_status",), ("version",), ("time_start",), ("latency",)}
    places = {place: value for place, value in places.items() if place not in free}
    if not places:
        return in_one_setting(rng, family)
    place, value = rng.choice(list(places.items()))
    if kind == "wrong type":
        bad = rng.choice(wrong_types(value))
        raw = yaml.safe_dump(bad, default_flow_style=True).removesuffix("...\n").strip()
    elif kind == "huge":
        raw, bad = rng.choice(huge_values(value))
    elif kind == "nan":
        raw, bad = rng.choice([(".nan", math.nan), (".inf", math.inf), ("-.inf", -math.inf)])
    elif kind == "NUL":
        raw, bad = '"a\\0b"', "a\0b"
        if isinstance(value, list):
            raw, bad = f"[{raw}]", [bad]
    elif kind == "tag":
        raw, bad = rng.choice(TAGS), None
    else:
        raw, bad = BOMB, None
    params = None if bad is None else changed(full, place, bad)
    named = f"{kind} at {'.'.join(place)}: {raw[:40]}"
    return Mistake(named, text_of(changed(values, place, PLACE), raw), values=params)


PATHS = {
    "rebuild": ["cube", "locations_file", "credentials_file"],
    "training": ["out", "cubes", "initialise"],
    "places": ["path"],
    "faults": [],
    "acquisition": ["file"],
}


def unknown_key(rng: random.Random, family: str) -> Mistake:
    values = rng.choice(BASES[family])
    full = all_settings(family, values)
    folders = sorted({place[:-1] for place, _ in leaves(full) if place[:1] != ("bands",)})
    folder = rng.choice(folders)
    name = rng.choice(["limit", "Cube", "_", "__class__", "a b", "ä", "1", "cube.name", "x" * 9000])
    return Mistake(
        f"unknown key {name[:20]} in {'.'.join(folder)}",
        text_of(changed(values, (*folder, name), 1)),
        values=changed(full, (*folder, name), 1),
    )


def missing_key(rng: random.Random, family: str) -> Mistake:
    needed = rng.choice(REQUIRED[family])
    place = tuple(needed.split("."))
    having = [v for v in BASES[family] if place in dict(leaves(v)) or needed in v]
    values = rng.choice(having)
    params = None if family == "faults" else without(all_settings(family, values), place)
    return Mistake(f"missing {needed}", text_of(without(values, place)), values=params)


CONTRADICTIONS: dict[str, list[Values]] = {
    "rebuild": [
        {"earth_engine.credentials": "service_account"},
        {"earth_engine.credentials_file": "key.json"},
        {"earth_engine.credentials": "application_default", "earth_engine.endpoint": "http://h"},
        {"acquisitions.min_seasons": 4, "seasons.reference_dates": ["2021-01-01"]},
        {"locations_file": "a.parquet"},
        {"locations": None},
        {"seasons.reference_dates": ["2021-01-01", "2021-01-02"]},
        {"seasons.reference_dates": ["2021-02-30"]},
        {"seasons.reference_dates": ["0001-01-01"]},
        {"seasons.reference_dates": []},
        {"products": []},
        {"grid": "EPSG:4326"},
        {"execution.dask": "ftp://127.0.0.1:1"},
        {"execution.dask": "javascript:alert(1)"},
        {"cube": "gs://bucket/cube"},
        {"cube": "file:///tmp/cube"},
        {"cube": "ftp://host/cube"},
        {"cube": "javascript://x"},
        {"cube": "s3://"},
        {"cube": ""},
        *({"earth_engine.endpoint": url} for url in (
            "ftp://127.0.0.1", "gs://bucket", "file:///etc/passwd", "javascript:alert(1)", "http://",
            "https://host:port", "https://user:secret@127.0.0.1", "https://[::1", "https://a b",
        )),
        {"locations": None, "locations_file": "../../../nowhere/../locations.parquet"},
        {"locations": {"kind": "file", "path": "../../../../nowhere.csv"}},
        {"locations": {"kind": "utm_tiling", "region": {"geojson": "../nowhere.json"}}},
        {"earth_engine.credentials": "service_account",
         "earth_engine.credentials_file": "../../../nowhere.json"},
    ],
    "training": [
        {"data.modality": ["s2_l1c", "s2_l1c"]},
        {"data.modality": ["dynamic_world"]},
        {"loss.contrastive_weight": 0, "loss.soft_weight": 0},
        {"views.crop_scale": [1.0, 0.5]},
        {"views.crop_scale": [0.5, 2.0]},
        {"views.blur_sigma": [0, 1]},
        {"preset": "huge"},
        {"preset": ["tiny"]},
        {"preset": {"a": 1}},
        {"device": "tpu"},
        {"optimiser.betas": [0.9, 2.0]},
        {"optimiser.betas": [0.9]},
        {"data.cubes": []},
        {"data": None},
    ],
    "places": [
        {"kind": "grid"},
        {"kind": ["file"]},
        {"split.train": 0.9},
        {"split": {"buffer_m": 60_000}},
        {"region": {}},
        {"region": {"bbox": [10, 0, 10, 1]}},
        {"region": {"bbox": [0, 5, 1, -5]}},
        {"region": {"bbox": [0, 0, 1, 1], "geojson": "a.json"}},
        {"region.bbox": ["nan", 0, 1, 1]},
    ],
    "faults": [
        {"probabilities.dropped_connection": 2},
        {"probabilities": {"dropped_connection": 0.9, "stalled_body": 0.9}},
        {"latency": {"distribution": "uniform", "least_s": 2, "most_s": 1}},
        {"latency": {"distribution": "normal"}},
        {"seed": -1},
    ],
    "acquisition": [
        {"time_start": "2021-06-19T16:02:47"},
        {"time_end": "2020-01-01T00:00:00Z"},
        {"bands": {}},
        {"bands.B2.file": "../../../../etc/passwd"},
        {"bands.B2.file": "/etc/passwd"},
        {"bands.B2.file": "nowhere.tif"},
        {"bands.B2.band": 7},
        {"bands.B2.divisor": 255, "bands.B2.dtype": "uint8"},
        {"footprint": [[0, 0], [200, 0], [0, 1]]},
        {"properties": {"system:index": "x"}},
        {"collection": "../TEST"},
    ],
}  # fmt: skip


def contradiction(rng: random.Random, family: str) -> Mistake:
    values = rng.choice(BASES[family])
    changes = rng.choice(CONTRADICTIONS[family])
    return contradict(family, values, changes)


def contradict(family: str, values: Values, changes: Values) -> Mistake:
    params: Values | None = all_settings(family, values)
    for name, value in changes.items():
        place = tuple(name.split("."))
        values = changed(values, place, value)
        params = None if params is None else changed(params, place, value)
    # A form takes what a setting points to; the run then fails at once, with the same sentence.
    points_elsewhere = "nowhere" in str(changes) or "preset" in changes
    if points_elsewhere or (changes.get("cube")):
        params = None
    return Mistake(f"contradiction {str(changes)[:60]}", text_of(values), values=params)


# Made once: each of the cases that draws a whole file lists all of them.
NESTED_KEYS = b"".join(b" " * depth + b"a:\n" for depth in range(300))
MANY_KEYS = b"".join(b"a%d: 1\n" % number for number in range(700_000))
LONG_TEXT = b"cube: " + b"x" * 10_000_000
LONG_LIST = b"- 1\n" * 100_000


def whole_file(rng: random.Random, family: str) -> Mistake:
    """Something else than settings where the file should be."""
    good = text_of(rng.choice(BASES[family]))
    name, _, rest = good.partition(b":")
    return rng.choice(
        [
            Mistake("empty file", b""),
            Mistake("comments alone", b"# nothing\n\n"),
            Mistake("binary file", bytes(range(256)) * 20),
            Mistake("an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 100),
            Mistake("not a mapping", b"- a\n- b\n"),
            Mistake("a number", b"42\n"),
            Mistake("latin-1", "cube: Stra\u00dfe".encode("latin-1")),
            Mistake("utf-16", good.decode().encode("utf-16")),
            Mistake("tabs", b"\tcube: x\n" + good),
            Mistake("an open bracket", good + b"x: [1, 2\n"),
            Mistake("two documents", good + b"---\n" + good),
            Mistake("a key twice", good + name + b":" + rest.splitlines()[0] + b"\n"),
            Mistake("a key twice inside", good + b"x: {a: 1, b: {c: 1, c: 2}}\n"),
            Mistake("a tag for all", b"!!python/object/apply:os.system ['touch exploited']\n"),
            Mistake("billion laughs", good + f"x: {BOMB}\n".encode()),
            Mistake("an alias of itself", good + b"x: &x [1, *x]\n"),
            Mistake("an unknown alias", good + b"x: *nobody\n"),
            Mistake("a wrong merge", good + b"<<: 5\n"),
            Mistake("a list as key", good + b"? [1, 2]\n: 3\n"),
            Mistake("keys that are numbers", good + b"1: 2\n3.5: 4\n"),
            Mistake("no date", good + b"x: 2021-02-30\n"),
            Mistake("deeply nested", b"a: " + b"[" * 9000 + b"]" * 9000),
            Mistake("deeply nested keys", NESTED_KEYS),
            Mistake("10 MB", LONG_TEXT),
            Mistake("10 MB of keys", MANY_KEYS),
            Mistake("a list of 10^5", LONG_LIST),
            Mistake("no file", None),
            Mistake("a folder", None, file="folder.yaml/"),
            Mistake("a NUL byte in its name", None, file="a\0b.yaml"),
            Mistake("a long name", None, file="x" * 5000),
            Mistake("no folder", None, file="../nowhere/../nowhere/x.yaml"),
            Mistake("an address", None, file="https://127.0.0.1/x.yaml"),
        ]
    )


def wrong_change(rng: random.Random, family: str) -> Mistake:
    """A good file, and a --set that is none."""
    good = rng.choice(BASES[family])
    inside = {"rebuild": "seasons", "training": "data"}[family]
    scalar = {"rebuild": "cube", "training": "out"}[family]
    change = rng.choice(
        [
            inside,
            "",
            "=",
            "=1",
            ".=1",
            f"{inside}.=1",
            f"{inside}..a=1",
            f"{scalar}.a.b=1",
            f"{scalar}.a=1",
            f"{scalar}=",
            f"{scalar}=[",
            f"{scalar}=!!python/object/apply:os.system ['touch exploited']",
            f"{scalar}={BOMB}",
            f"{scalar}={'x' * 10_000_000}",
            f"{scalar}={'[' * 5000}",
            f"{scalar}=a\0b",
            f"{scalar}=2021-02-30",
            f"{scalar}={{a: 1, a: 2}}",
            f"{inside}=5",
            f"{inside}=",
            f"{inside}=.nan",
            "x" * 10_000_000,
            f"{'a.' * 50_000}b=1",
            f"{inside}.{'y' * 10_000}=1",
            "\udcff=1",
            f"{inside}.reference_dates.0=1",
        ]
    )
    return Mistake(f"--set {change[:40]!r}", text_of(good), ("--set", change))


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A command with a mistake."""

    name: str
    prepare: Callable[[Path], list[str]]
    mistake: Mistake
    family: str


def place(folder: Path, mistake: Mistake, name: str | None = None) -> str:
    """Put the file of a mistake into a folder; returns its path as a user gives it."""
    name = name or mistake.file
    if name.endswith("/"):
        (folder / name).mkdir()
    elif mistake.content is not None:
        (folder / name).write_bytes(mistake.content)
    return name


def case_of(number: int) -> Case:
    rng = random.Random(f"{SEED}:{number}")
    command = rng.choices(*zip(*SHARES.items(), strict=True))[0]
    return COMMANDS[command](rng, number)


def settings_case(*words: str, family: str, after: tuple[str, ...] = (), can_set: bool = False):
    def make(rng: random.Random, number: int) -> Case:
        kinds = [in_one_setting] * 5 + [unknown_key, missing_key] + [contradiction] * 3
        kinds += [whole_file] * 3 + [wrong_change] * 2 * can_set
        mistake = rng.choice(kinds)(rng, family)

        def prepare(folder: Path) -> list[str]:
            return [*words, place(folder, mistake), *after, *mistake.options]

        return Case(f"{number}: {' '.join(words)}, {mistake.kind}", prepare, mistake, family)

    return make


def emulator_case(rng: random.Random, number: int) -> Case:
    family = rng.choice(["faults", "acquisition"])
    kinds = [in_one_setting, contradiction, unknown_key, missing_key, whole_file]
    mistake = rng.choice(kinds)(rng, family)
    if family == "acquisition" and mistake.content is None:
        mistake = Mistake("not a mapping", b"- a\n")
    flags = rng.choice(
        [
            ["--fault", "dropped_connection=nan"],
            ["--fault", "dropped_connection"],
            ["--fault", "fire=0.5"],
            ["--fault", "latency=0.5"],
            ["--latency", "inf"],
            ["--latency", "1e308"],
            ["--seed", str(10**30)],
            ["--port", "70000"],
            ["--pool", "many"],
            ["--host", "0.0.0.0"],
            ["--host", "javascript:alert(1)"],
            ["--world", "ftp://host/world"],
            ["--world", "../nowhere"],
            ["--world", "x" * 5000],
            ["--rasters", "rasters"],
        ]
    )
    if rng.random() < 0.3:
        mistake = Mistake(f"flags {' '.join(flags)[:60]}", None, tuple(flags), file="")

    def prepare(folder: Path) -> list[str]:
        write_raster(folder / "b2.tif", ramp(20, 20))
        if mistake.options:
            return ["emulator", "--port", "0", *mistake.options]
        if family == "faults":
            return ["emulator", "--port", "0", "--faults", place(folder, mistake)]
        (folder / "catalogue").mkdir()
        place(folder, mistake, "catalogue/wrong.yaml")
        return ["emulator", "--port", "0", "--world", "catalogue", "--rasters", "."]

    return Case(f"{number}: emulator {family}, {mistake.kind}", prepare, mistake, family)


def import_case(rng: random.Random, number: int) -> Case:
    changes: dict[str, str] = rng.choice(
        [
            {"root": "nowhere"},
            {"root": "../nowhere/.."},
            {"root": "a\0b"},
            {"root": "x" * 5000},
            {"root": "labels.json"},
            {"root": "empty"},
            {"root": "ftp://host/ssl4eo"},
            {"out": "gs://bucket/cube"},
            {"out": "file:///tmp/cube"},
            {"out": ""},
            {"out": "labels.json"},
            {"out": "y" * 300},
            {"labels": "nowhere.json"},
            {"labels": "root"},
            {"labels": "deep.json"},
            {"labels": "binary.json"},
            {"products": "s3"},
            {"products": ""},
            {"products": "dynamic_world"},
            {"locations-per-batch": "0"},
            {"locations-per-batch": str(10**30)},
            {"workers": "-1"},
            {"workers": "1000000"},
            {"workers": "nan"},
            {"dask": "ftp://127.0.0.1:9"},
            {"dask": "javascript:alert(1)"},
            {"dask": "tcp://127.0.0.1:9", "workers": "2"},
        ]
    )
    options = {"root": "root", "out": "cube.zarr", "labels": "labels.json", **changes}
    mistake = Mistake(f"options {str(changes)[:60]}", None)

    def prepare(folder: Path) -> list[str]:
        (folder / "root" / "s2c" / "0000200").mkdir(parents=True)
        (folder / "empty").mkdir()
        (folder / "labels.json").write_text('{"0000200": {"a": ["0"]}}')
        (folder / "deep.json").write_text("[" * 100_000)
        (folder / "binary.json").write_bytes(bytes(range(256)))
        return ["import", "ssl4eo-s12", *(w for k, v in options.items() for w in (f"--{k}", v))]

    return Case(f"{number}: import, {mistake.kind}", prepare, mistake, "import")


COMMANDS: dict[str, Callable[[random.Random, int], Case]] = {
    "rebuild": settings_case("rebuild", family="rebuild", can_set=True),
    "forecast": settings_case("forecast", family="rebuild", can_set=True),
    "pretrain": settings_case("pretrain", family="training", can_set=True),
    "sample": settings_case("locations", "sample", family="places", after=("--out", "o.parquet")),
    "emulator": emulator_case,
    "deploy rebuild": settings_case("deploy", "--rebuild", family="rebuild"),
    "deploy pretrain": settings_case("deploy", "--pretrain", family="training"),
    "import": import_case,
}
SHARES = {
    "rebuild": 55,
    "forecast": 15,
    "pretrain": 45,
    "sample": 30,
    "emulator": 25,
    "deploy rebuild": 8,
    "deploy pretrain": 7,
    "import": 15,
}
CASES = [case_of(number) for number in range(NUM_CASES)]


# --- what is watched ------------------------------------------------------------------------------

_watching: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in {
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
        "os.system",
    }:
        _watching[-1].append(
            f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}"
        )


sys.addaudithook(_audit)


@pytest.fixture
def reached() -> Iterator[list[str]]:
    """What this process asked of the network, or of other programs."""
    found: list[str] = []
    _watching.append(found)
    yield found
    _watching.pop()


@pytest.fixture(scope="module")
def service() -> Iterator[socket.socket]:
    """A port that notes who comes; it stands for Earth Engine, a bucket and a Prefect server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, service: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{service.getsockname()[1]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_mistakes_are_of_all_kinds_and_of_all_commands() -> None:
    assert len(CASES) == NUM_CASES
    assert len({case.mistake.kind for case in CASES}) > 120
    words = " ".join(case.name for case in CASES)
    for kind in ("wrong type", "huge", "nan", "tag", "bomb", "NUL", "unknown key", "missing"):
        assert kind in words
    for kind in ("contradiction", "--set", "rebuild", "forecast", "pretrain", "sample"):
        assert kind in words
    for kind in ("emulator faults", "emulator acquisition", "flags", "deploy", "import"):
        assert kind in words


@pytest.mark.parametrize("family", BASES)
def test_what_is_mutated_is_accepted_without_the_mistake(family: str, tmp_path: Path) -> None:
    for values in BASES[family]:
        full = all_settings(family, values)
        assert all_settings(family, full) == full
    if family == "rebuild":
        rebuild_dataset.validate_parameters({"settings": full})
    if family == "training":
        pretrain_backbone.validate_parameters({"settings": full})
    if family == "acquisition":
        write_raster(tmp_path / "b2.tif", ramp(20, 20))
        write_catalogue(tmp_path)
        make_app(EmulatorSettings(world=str(tmp_path)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"[^ -~]|/", "?", case.name)[:70])
def test_a_mistake_is_one_sentence_and_nothing_is_touched(
    case: Case,
    tmp_path: Path,
    complaint: Complaint,
    reached: list[str],
    service: socket.socket,
) -> None:
    arguments = case.prepare(tmp_path)
    before = listing(tmp_path)
    reached.clear()
    began = time.monotonic()
    code, said = complaint(arguments)
    took_s = time.monotonic() - began
    assert code == 2, said
    assert re.fullmatch(r"softcon: [^\n]{15,1600}\n", said), said
    assert said[:-1].isprintable()
    assert "Traceback" not in said
    assert listing(tmp_path) == before
    assert not reached
    assert not select.select([service], [], [], 0)[0], "somebody was asked"
    assert took_s < MOST_S


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.mistake.values is not None and c.family in {"rebuild", "training"}],
    ids=lambda case: re.sub(r"[^ -~]|/", "?", case.name)[:70],
)
def test_the_form_of_a_flow_refuses_the_same(case: Case) -> None:
    flow = {"rebuild": rebuild_dataset, "training": pretrain_backbone}[case.family]
    with pytest.raises(ParameterTypeError):
        flow.validate_parameters({"settings": case.mistake.values})


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path, complaint: Complaint) -> None:
    values = changed(REBUILDS[0], ("earth_engine", "endpoint"), "https://me:TOP-SECRET@127.0.0.1")
    (tmp_path / "wrong.yaml").write_bytes(text_of(values))
    code, said = complaint(["rebuild", "wrong.yaml"])
    assert code == 2
    assert "an address has no user, password or query" in said
    assert "TOP-SECRET" not in said


@pytest.mark.parametrize(
    "changes",
    [{"root": ""}, {"root": "a\0b"}, {"cube": ["x"]}, {"products": ["s3"]}, {"workers": 10**30},
     {"locations_per_batch": float("nan")}, {"dask": "ftp://host:1"}, {"labels": "x" * 10**6},
     {"password": "x"}],
)  # fmt: skip
def test_the_form_of_an_import_refuses_mistakes_too(changes: Values) -> None:
    good: Values = ImportSettings(root="root", cube="cube.zarr").model_dump()
    import_dataset.validate_parameters({"settings": good})
    with pytest.raises(ParameterTypeError):
        import_dataset.validate_parameters({"settings": {**good, **changes}})
