"""The documents: their commands and code run, their tables are those of the code."""

from __future__ import annotations

import ast
import html
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer.main
from pydantic import BaseModel, TypeAdapter

from docs.make_reference import PAGES as REFERENCE_PAGES
from docs.make_reference import made_page
from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings
from flows.command_line import app, run
from groundwork.settings_text import SettingsModel
from pipeline.places.settings import LocationSettings
from pipeline.sources import registry
from pipeline.sources.earth_engine.settings import RebuildSettings
from tests.ssl4eo_s12_layout import write_layout
from tests.training.small_cube import write_cube
from training.config import RunSettings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
GROUPS = typer.main.get_command(app).commands
PACKAGES = (
    "groundwork",
    "pages",
    "storage_schema",
    "pipeline",
    "emulator/earth_engine_emulator",
    "training",
    "flows",
)


@dataclass(frozen=True)
class Fence:
    """A block of code: its language (with what follows it), and its text."""

    language: str
    text: str


def fences(page: str) -> list[Fence]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Fence(language.strip(), body) for language, body in found]


def commands(page: str, *languages: str) -> list[str]:
    """Lines of a page's shell blocks, without comments."""
    return [
        re.sub(r"\s+#.*|\s*&$", "", line).strip()
        for fence in fences(page)
        if fence.language in languages
        for line in fence.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]


# --- what a page says is there --------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist_with_their_options(page: str) -> None:
    if page == "command-line.md":
        pytest.skip("made from the command line itself")
    for line in commands(page, "", "sh"):
        for part in re.split(r"\s+\|\s+|\s+&&\s+", line):
            words = shlex.split(part)
            if "softcon" in words[:8] and "compose" in words:
                words = words[words.index("softcon") :]
            if words[0] == "softcon":
                check_softcon(words[1:], line)
            elif "training.pretrain" in words:
                check_softcon(["pretrain", *words[words.index("training.pretrain") + 1 :]], line)
            elif words[0] == "make":
                for target in (word for word in words[1:] if "=" not in word):
                    assert is_target(target), line
            for word in words:
                if word.startswith(("configs/", "docker/", "flows/")) and "*" not in word:
                    assert (ROOT / word).exists(), f"{line}: {word}"


def is_target(name: str) -> bool:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return name in known


def check_softcon(words: Sequence[str], line: str) -> None:
    """Parse a command as the command line does, and look its settings up."""
    command, rest = GROUPS[words[0]], list(words[1:])
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    values = command.make_context(words[0], rest).params
    model = {"rebuild": RebuildSettings, "forecast": RebuildSettings, "pretrain": RunSettings}
    for change in values.get("changes") or ():
        place = change.partition("=")[0]
        assert has_setting(model[words[0]], place.split(".")), f"{line}: {place}"


def has_setting(model: Any, keys: Sequence[str]) -> bool:
    """Tell whether a model, or one of those an annotation names, has this setting."""
    if not keys:
        return True
    if isinstance(model, type) and issubclass(model, BaseModel):
        field = model.model_fields.get(keys[0])
        return field is not None and has_setting(field.annotation, keys[1:])
    return any(has_setting(part, keys) for part in get_args(model))


@pytest.mark.parametrize("page", PAGES)
def test_settings_shown_on_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    sections = {*RebuildSettings.model_fields, *RunSettings.model_fields}
    for place in re.findall(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)+)(?:: [^`]*|=[^`]*)?`", text):
        keys = place.split(".")
        if keys[0] in sections and keys[-1] not in {"py", "md", "yaml", "zarr", "json"}:
            assert any(has_setting(m, keys) for m in (RebuildSettings, RunSettings)), place


def test_tables_of_the_reference_are_those_of_the_code() -> None:
    for name in REFERENCE_PAGES:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert made_page(text) == text, f"{name}: run python -m docs.make_reference"


def test_every_setting_says_what_it_is() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `[a-z_0-9.]+` \|.*\|$", text, flags=re.MULTILINE)
    assert len(rows) > 100
    assert not [row for row in rows if row.endswith("|  |")]


def literals() -> Iterator[str]:
    """Every string of the packages, what is put into it left out as `...`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "..."
                        for part in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_messages_of_the_troubleshooting_page_are_said_by_the_code() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)
    assert len(messages) > 40
    said = {" ".join(literal.split()) for literal in literals()}
    foreign = set(re.findall(r"^\| `([^`]+)` \| \(not ours\)", text, flags=re.MULTILINE))
    for message in messages:
        found = message in foreign or any(message.strip(". ") in literal for literal in said)
        assert found, f"nothing in the code says: {message}"


def test_diagrams_show_what_their_sources_say() -> None:
    for source in sorted((DOCS / "diagrams").glob("*.dot")):
        drawn = html.unescape(source.with_suffix(".svg").read_text(encoding="utf-8"))
        for label in re.findall(r'label="([^"]+)"', source.read_text(encoding="utf-8")):
            for line in label.split("\\n"):
                assert line in drawn, f"{source.name}: draw it again"


class _Addresses(HTMLParser):
    """Collects what a browser would fetch from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in {"canonical", "next", "prev"}:
            return
        for name in ("src", "srcset", "href"):
            if (name != "href" or tag == "link") and "//" in (values.get(name) or ""):
                self.found.append(f"{tag} {values[name]}")
        if "mermaid" in (values.get("class") or ""):
            self.found.append("a diagram that a browser draws with a script from elsewhere")


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Addresses()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not parser.found, f"{page.name}: {parser.found}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8"))


# --- the tutorials, run ---------------------------------------------------------------------------


def follow(page: str, **overrides: Sequence[str]) -> None:
    """Run a page's plain commands, and its Python, in their order."""
    values: dict[str, Any] = {"__name__": page}
    for number, fence in enumerate(fences(page)):
        if fence.language == "":
            for line in fence.text.splitlines():
                run_line(line, overrides)
        elif fence.language == "python":
            exec(compile(fence.text, f"{page}, block {number}", "exec"), values)


def run_line(line: str, overrides: dict[str, Sequence[str]]) -> None:
    words = shlex.split(line)
    if line == "softcon emulator &":
        return  # It runs already, on a port that is free.
    if line == "softcon demo --out demo-run":
        return  # It takes minutes, and has tests of its own; the steps by hand are run here.
    if words[0] == "torchrun":
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words[1:],
             *overrides.get("pretrain", ())],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return
    assert words[0] == "softcon", line
    assert run([*words[1:], *overrides.get(words[1], ())]) == 0, line


SMALL_RUN = ("--set", "epochs=1", "--set", "batch_size=8", "--set", "evaluation.max_patches=16")


@pytest.fixture(scope="module")
def with_cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small sealed cube in it."""
    folder = tmp_path_factory.mktemp("docs")
    write_cube(folder / "rebuild.zarr", 16)
    return folder


def rebuild_overrides(url: str, num_locations: int) -> list[str]:
    return [
        "--set", f"earth_engine.endpoint={url}",
        "--set", f"locations.num_locations={num_locations}",
        "--set", "locations.split.block_size_m=2640",
        "--set", "locations.split.buffer_m=0",
    ]  # fmt: skip


def test_recipes_for_reading_a_cube_run(with_cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(with_cube)
    follow("tutorials/read-a-cube.md")
    assert (with_cube / "patch.png").is_file()


def write_backbones(folder: Path) -> None:
    """Untrained backbones in the three layouts, as `softcon export` writes them."""
    from storage_schema.products import published_statistics
    from training.backbones.backbone_files import (
        NORMALISATION,
        BackboneCard,
        to_layout,
        write_backbone,
    )
    from training.network.encoders import make_encoder
    from training.reading.patch_index import band_order

    bands = band_order("s2_l1c")
    names = [f"s2_l1c {band}" for band in bands]
    statistics = published_statistics("s2_l1c")
    for name, encoder, layout, size in (
        ("tiny.safetensors", "vit_tiny_patch16_224", "timm", 64),
        ("rn50.pth", "resnet50", "torchvision", 64),
        ("vits14.pth", "vit_small_patch14_dinov2", "dinov2", 56),
    ):
        state = make_encoder(encoder, num_bands=13, image_size=size).state_dict()
        card = BackboneCard(
            encoder=encoder, layout=layout, bands=names,
            mean=[statistics[band][0] for band in bands],
            std=[statistics[band][1] for band in bands],
            normalisation=NORMALISATION, image_size=size, modality=["s2_l1c"], cubes=[], step=0,
            probe=None, attribution=[],
        )  # fmt: skip
        write_backbone(folder / name, to_layout(state, encoder, layout), card)


def stand_in_for_dinov2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' package is on no index; a module of the same names takes its place."""
    from tests.training.dinov2_module import DinoVisionTransformer

    module = ModuleType("dinov2.models.vision_transformer")
    module.vit_small = lambda img_size, in_chans, **_: DinoVisionTransformer(  # type: ignore[attr-defined]
        in_chans, img_size, 384, 12, 6
    )
    for name in ("dinov2", "dinov2.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_code_for_using_a_backbone_runs(with_cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.backbones.backbone_files import (
        load_encoder,  # repairs timm beside a PyTorch without CUDA
    )

    monkeypatch.chdir(with_cube)
    write_backbones(with_cube)
    stand_in_for_dinov2(monkeypatch)
    follow("tutorials/use-a-backbone.md")
    assert load_encoder(with_cube / "tiny.safetensors")[1].layout == "timm"


def test_the_import_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = write_layout(tmp_path / "ssl4eo_s12", 2, seed=3)
    assert layout.labels is not None
    layout.labels.rename(tmp_path / "ssl4eo_s12_ml.json")
    monkeypatch.chdir(tmp_path)
    follow("tutorials/import-ssl4eo-s12.md")
    assert (tmp_path / "labels.json").is_file()


def test_the_import_tutorial_runs_on_real_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_data: Path
) -> None:
    sample = real_data / "ssl4eo_s12_sample"
    (tmp_path / "ssl4eo_s12").symlink_to(sample)
    (tmp_path / "ssl4eo_s12_ml.json").symlink_to(sample / "ssl4eo_s12_ml_sample.json")
    monkeypatch.chdir(tmp_path)
    follow("tutorials/import-ssl4eo-s12.md")


def test_the_tutorial_of_a_source_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "tutorials/a-source-of-your-own.md"
    for fence in fences(page):
        if title := re.search(r'title="([^"]+)"', fence.language):
            (tmp_path / title[1]).write_text(fence.text)
    # What pip makes of the package's pyproject.toml.
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    ((group, entries),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_registered", {})
    for module in ("fog", "test_fog"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.import_module("test_fog").test_fog_keeps_the_contract()
    follow(page)
    assert "one grey day" in (tmp_path / "fog.html").read_text()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.distributed
def test_the_tutorials_from_nothing_and_of_a_cluster_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for file in (ROOT / "configs").glob("*.yaml"):
        (tmp_path / "configs" / file.name).write_text(
            file.read_text().replace("num_locations: 250000", "num_locations: 100")
        )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with emulator_in_process(EmulatorSettings()) as emulator:
        small = rebuild_overrides(emulator.url, 20)
        follow(
            "tutorials/from-nothing.md",
            rebuild=small,
            forecast=small,
            pretrain=SMALL_RUN,
        )
        follow("tutorials/cluster.md", pretrain=SMALL_RUN)
    for name in ("locations.html", "rebuild.html", "tiny.html", "tiny.md"):
        assert (tmp_path / name).stat().st_size > 500, name
    assert (tmp_path / "runs" / "two_ranks" / "checkpoints").is_dir()


@pytest.mark.slow
@pytest.mark.server
def test_the_steps_with_credentials_run_at_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    text = (ROOT / "configs" / "rebuild_ssl4eo_s12.yaml").read_text(encoding="utf-8")
    (tmp_path / "my.yaml").write_text(text)
    with emulator_in_process(EmulatorSettings()) as emulator:
        here = rebuild_overrides(emulator.url, 4)
        here += ["--set", "earth_engine.project=emulator", "--set", "execution.dask=threads"]
        here += ["--set", "earth_engine.credentials=none"]
        for line in commands("tutorials/earth-engine.md", "sh"):
            words = shlex.split(line)
            if words[0] != "softcon":
                continue
            if words[1] == "rebuild" and "--retry-failed" in words:
                continue  # The cube is sealed by then.
            more = here if words[1] in {"rebuild", "forecast"} else []
            words = [word if word != "20" else "2" for word in words]
            assert run([*words[1:], *more]) == 0, line
    assert (tmp_path / "trial.html").is_file()


def test_yaml_of_the_documents_holds_settings_that_exist() -> None:
    import yaml

    models: list[Any] = [RebuildSettings, RunSettings]
    for page in PAGES:
        for fence in fences(page):
            if fence.language != "yaml" or page == "configuration.md":
                continue
            for keys in leaves(yaml.safe_load(fence.text)):
                assert any(has_setting(model, keys) for model in models), f"{page}: {keys}"


def leaves(values: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*before, key))
        else:
            yield (*before, key)


def test_the_settings_of_locations_are_found_by_these_tests() -> None:
    assert issubclass(RebuildSettings, SettingsModel)
    assert TypeAdapter(LocationSettings)
    assert has_setting(RebuildSettings, ["locations", "split", "buffer_m"])
    assert not has_setting(RebuildSettings, ["locations", "no_such"])
