"""Write the tables of the reference pages from the code they describe.

    python -m docs.make_reference

A page is text by hand, with blocks between ``<!-- made: NAME -->`` and ``<!-- end -->``. This
program writes the blocks; a test (tests/test_docs.py) compares them with what it would write.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import typer.main
import yaml
from pydantic import BaseModel

from flows.command_line import app
from groundwork.settings_text import bounds_of
from pipeline.places.settings import LocationSettings
from pipeline.sources.earth_engine.settings import RebuildSettings
from storage_schema import layout, status
from storage_schema.land_cover import CLASSES, LabelStatus
from storage_schema.products import PRODUCT_NAMES, PRODUCTS, published_statistics
from training.config import RunSettings
from training.presets import PRESETS

DOCS: Final = Path(__file__).parent
_BLOCK: Final = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_UNITS: Final = {
    "_s": "s",
    "_m": "m",
    "_days": "days",
    "days_apart": "days",
    "_percentage": "%",
    "_bytes": "bytes",
    "_minutes": "min",
    "_db": "dB",
    "image_size": "px",
    "blur_sigma": "px",
    "bbox": "deg",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def code(value: object) -> str:
    """Return something as code; nothing where there is nothing."""
    return f"`{value}`" if str(value) else ""


# --- the cube -----------------------------------------------------------------------------------


def _layout() -> layout.Layout:
    return layout.describe(
        layout.CubeDescription(
            num_locations=2, products=PRODUCT_NAMES, source={}, season_meaning=""
        )
    )


def _codings() -> dict[str, type[enum.IntEnum]]:
    return {
        "patch_status": status.PatchStatus,
        "status_reason": status.StatusReason,
        "label_status": LabelStatus,
        "orbit_pass": status.OrbitPass,
        "split": status.Split,
    }


def arrays_of(*roles: layout.ArrayRole) -> str:
    """Return the arrays with these roles: what a reader has to know of each."""
    found = _layout()
    rows = []
    for name in found.names(*roles):
        spec = found.arrays[name]
        attributes: Mapping[str, Any] = spec.attributes
        meaning = [str(attributes.get("long_name", ""))]
        if "comment" in attributes:
            meaning.append(str(attributes["comment"]))
        if name in _codings():
            meaning.append("coded, see below")
        if "scale_factor" in attributes:
            meaning.append(f"stored value x {attributes['scale_factor']}")
        if name == "acquisition_time":
            meaning.append(str(attributes["units"]))
        sizes = zip(spec.dimension_names or (), spec.shape, strict=True)
        dims = ", ".join(d if d == "location" else f"{d} {n}" for d, n in sizes)
        unit = "" if name == "acquisition_time" else str(attributes.get("units", ""))
        rows.append([code(name), dims, code(spec.data_type), unit, _fill(spec), "; ".join(meaning)])
    return table(["array", "dimensions", "dtype", "unit", "no data", "meaning"], rows)


def _fill(spec: Any) -> str:
    attributes: Mapping[str, Any] = spec.attributes
    if "no_data" in attributes:
        value = attributes.get("_FillValue")
        said = str(attributes["no_data"]).removeprefix("no data ")
        return said if value is None else f"{code(value)}: {said}"
    if "_FillValue" in attributes:
        return code(attributes["_FillValue"])
    return code(spec.fill_value) if spec.fill_value == "NaN" else ""


def pixel_arrays() -> str:
    """Return the arrays of imagery and label maps."""
    return arrays_of("pixels")


def bands() -> str:
    """Return product, array and bands."""
    rows = [
        [code(product.name), code(group.array), ", ".join(group.bands), f"{group.resolution_m} m"]
        for product in PRODUCTS.values()
        for group in product.groups
    ]
    return table(["product", "array", "bands, in this order", "resolution"], rows)


def products() -> str:
    """Return what is known of each product beside its arrays."""
    rows = [
        [
            code(product.name),
            product.title,
            code(product.earth_engine_id),
            product.radiometric_convention,
            product.licence,
            product.attribution,
        ]
        for product in PRODUCTS.values()
    ]
    head = ["product", "title", "Earth Engine", "what a number means", "licence", "attribution"]
    return table(head, rows)


def patch_arrays() -> str:
    """Return the arrays with a value per patch, or per patch and product."""
    return arrays_of("patch")


def location_arrays() -> str:
    """Return the arrays with a value per location."""
    return arrays_of("plan", "location")


def coordinates() -> str:
    """Return the coordinate variables."""
    rows = []
    for name, (values, dtype, attributes) in layout.coordinate_values(PRODUCT_NAMES).items():
        shown = ", ".join(str(v) for v in values)
        if len(values) > 12:
            shown = f"{values[0]}, {values[1]}, ... {values[-1]}"
        rows.append(
            [code(name), code(dtype), str(attributes.get("units", "")), shown,
             str(attributes["long_name"])]
        )  # fmt: skip
    return table(["coordinate", "dtype", "unit", "values", "meaning"], rows)


def codes() -> str:
    """Return every coded array, its numbers and what they mean."""
    parts = []
    for array, codes_ in _codings().items():
        rows = [[str(int(each)), code(each.name.lower()), each.meaning] for each in codes_]
        head = ["value", "name", "meaning"]
        parts.append(f"### {array}\n\n{codes_.__doc__}\n\n{table(head, rows)}")
    return "\n".join(parts)


def reasons() -> str:
    """Return what each reason of a patch without pixels means."""
    rows = [
        [reason.name.lower().replace("_", " "), reason.meaning]
        for reason in status.StatusReason
        if reason is not status.StatusReason.NONE
    ]
    return table(["reason", "meaning"], rows)


def classes() -> str:
    """Return Dynamic World's classes."""
    rows = [[str(c.id), code(c.name), code(c.colour)] for c in CLASSES]
    return table(["id", "class", "colour"], rows)


def root_attributes() -> str:
    """Return the attributes of the root group."""
    known = {*_layout().attributes, *layout.SEAL_ATTRIBUTES}
    known |= {"class_statistics", "patch_counts"}
    assert known == set(_ROOT), f"attributes to describe: {known ^ set(_ROOT)}"
    return table(["attribute", "meaning"], ([code(name), _ROOT[name]] for name in _ROOT))


_ROOT: Final = {
    "Conventions": "the CF convention that names and units follow",
    "title": "what the group is",
    "schema_name": f"`{layout.SCHEMA_NAME}`",
    "schema_version": f"`{layout.SCHEMA_VERSION}`",
    "source": "where the pixels come from: name, service or folder, the choice of locations",
    "settings": "every setting that shapes pixels",
    "season_meaning": "what a season slot is: a date window, or time order in an import",
    "locations_per_batch": "locations of a shard",
    "products": "per product: title, Earth Engine id, radiometric convention, licence, attribution",
    "masked_label": "label of a pixel without land cover",
    "coordinates": "variables that xarray makes coordinates",
    "sealed": "whether the cube is sealed",
    "class_statistics": "after sealing: patches, labelled patches; per class the patches where it "
    "is present, its mean fraction and its pixels; which classes occur together",
    "patch_counts": "after sealing: patches by product and status",
    "digest": "after sealing: sha256 of content and metadata",
    "patch_table_sha256": "after sealing: of `patches.parquet`",
}


def statistics() -> str:
    """Return the band statistics published with SSL4EO-S12."""
    rows = [
        [code(name), band, f"{mean:g}", f"{std:g}"]
        for name in PRODUCT_NAMES
        for band, (mean, std) in published_statistics(name).items()
    ]
    return table(["product", "band", "mean", "std"], rows)


# --- settings -----------------------------------------------------------------------------------


def settings_tables(model: type[BaseModel], level: str = "###") -> str:
    """Return a table per section of a model of settings."""
    schema = model.model_json_schema()
    parts = [f"{level} {heading}\n\n{text}\n" for heading, text in _sections(schema, schema, "")]
    return "\n".join(parts)


def _sections(
    schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    rows, inner = [], []
    for name, spec in schema["properties"].items():
        target = _follow(spec, root)
        if name == "kind":
            continue
        if "properties" in target or "oneOf" in target:
            said = "see below" if "properties" in target else "[kinds of locations](#locations)"
            what = _plain(spec.get("description") or target.get("description", ""))
            rows.append([code(prefix + name), "", "", "", f"{what}: {said}"])
            if "properties" in target:
                inner.append((name, target))
            continue
        rows.append(
            [
                code(prefix + name),
                _default(name, spec, schema.get("required", ())),
                _unit(name),
                _values(spec, root),
                _plain(spec.get("description", "").removesuffix(f" [{bounds_of(spec)}]")),
            ]
        )
    text = f"{schema.get('description', '')}\n\n" if schema.get("description") else ""
    head = ["setting", "default", "unit", "values", "meaning"]
    yield prefix.rstrip(".") or "top level", text + table(head, rows)
    for name, target in inner:
        yield from _sections(target, root, f"{prefix}{name}.")


def _plain(text: str) -> str:
    return text.strip().removesuffix(".").removesuffix("; or instead").replace("``", "`")


def _follow(spec: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in spec:
        found: Mapping[str, Any] = root["$defs"][spec["$ref"].rsplit("/", 1)[1]]
        return found
    choices = [c for c in spec.get("anyOf", ()) if c.get("type") != "null"]
    if len(choices) == 1:
        return _follow(choices[0], root)
    return spec


def _default(name: str, spec: Mapping[str, Any], required: Iterable[str]) -> str:
    if name in required:
        return "required"
    value = spec.get("default")
    if value is None:
        return "none"
    if isinstance(value, float) and name == "base_lr":
        return code(f"{value:g}")
    if isinstance(value, list):
        return code(f"[{', '.join(f'{v:.4g}' if isinstance(v, float) else str(v) for v in value)}]")
    return code(str(value).lower() if isinstance(value, bool) else value)


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")


def _values(spec: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    target = _follow(spec, root)
    if "enum" in target:
        return ", ".join(code(value) for value in target["enum"])
    if "const" in target:
        return code(target["const"])
    if target.get("type") == "array":
        items = target.get("items") or next(iter(target.get("prefixItems", [{}])))
        least, most = target.get("minItems"), target.get("maxItems")
        many = f"{least}" if least == most else f"{least or 0} to {most}" if most else f"{least}+"
        return f"list of {many}: {_values(items, root)}"
    kind = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true`, `false`",
        "string": "date" if target.get("format") == "date" else "text",
    }.get(str(target.get("type")), "")
    return " ".join(filter(None, [kind, ", ".join(_bounds(target))]))


def _bounds(target: Mapping[str, Any]) -> list[str]:
    signs = {
        "minimum": ">= ",
        "exclusiveMinimum": "> ",
        "maximum": "<= ",
        "exclusiveMaximum": "< ",
    }
    found = [f"{sign}{_number(target[key])}" for key, sign in signs.items() if key in target]
    if "pattern" in target:
        found.append(code(target["pattern"]))
    return found


def _number(value: float) -> str:
    if value == 2**63 - 1:
        return "2^63 - 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def rebuild_settings() -> str:
    """Return the settings of a rebuild."""
    return settings_tables(RebuildSettings)


def location_settings() -> str:
    """Return the settings of each kind of locations."""
    kinds = get_args(get_args(LocationSettings)[0])
    parts = []
    shared = {"split", "region"}
    for kind in kinds:
        schema = kind.model_json_schema()
        sections = list(_sections(schema, schema, ""))
        parts.append(f"### kind: {_kind_name(kind)}\n\n{sections[0][1]}")
        parts += [f"#### {name}\n\n{text}" for name, text in sections[1:] if name in shared]
        shared -= {name for name, _ in sections[1:]}
    return "\n".join(parts)


def _kind_name(kind: type[BaseModel]) -> str:
    return str(get_args(kind.model_fields["kind"].annotation)[0])


def run_settings() -> str:
    """Return the settings of a pretraining run."""
    return settings_tables(RunSettings)


def presets() -> str:
    """Return what each preset sets."""
    parts = []
    for name, values in PRESETS.items():
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None).strip()
        parts.append(f"`{name}`:\n\n```yaml\n{text}\n```\n")
    return "\n".join(parts)


# --- the command line ---------------------------------------------------------------------------


def commands() -> str:
    """Return every command with its arguments and options."""
    root = typer.main.get_command(app)
    return "\n".join(_command(f"softcon {name}", each) for name, each in _walk(root))


def _walk(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
    usage = " ".join(
        [name, *(p.name.upper() for p in arguments), *(["[OPTIONS]"] if options else [])]
    )
    paragraphs = inspect.cleandoc(command.help or "")
    rows = [[code(p.name.upper()), "path or text", "required", p.help or ""] for p in arguments]
    rows += [_option(p) for p in options]
    head = ["argument or option", "value", "default", "meaning"]
    return f"## {name}\n\n```sh\n{usage}\n```\n\n{paragraphs}\n\n{table(head, rows)}"


def _option(option: Any) -> list[str]:
    kind = option.type_descriptor.annotation
    default = option.default
    if isinstance(default, enum.Enum):
        default = default.value
    shown = "required" if option.required else "" if default in (None, False) else code(default)
    if default == Path():
        shown = "`.`"
    return [code(" ".join(option.opts)), _value(kind, option), shown, option.help or ""]


def _value(kind: Any, option: Any) -> str:
    if option.metavar:
        return code(option.metavar)
    if option.is_flag:
        return "none"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(code(member.value) for member in kind)
    name = {Path: "path", int: "whole number", float: "number"}.get(kind, "text")
    signs = ((">= ", option.min), ("<= ", option.max))
    return " ".join([name, *(f"{sign}{limit:,}" for sign, limit in signs if limit is not None)])


# --- pages --------------------------------------------------------------------------------------

MAKERS: Final[dict[str, Callable[[], str]]] = {
    maker.__name__: maker
    for maker in (
        pixel_arrays, bands, products, patch_arrays, location_arrays, coordinates, codes, reasons,
        classes,
        root_attributes, statistics, rebuild_settings, location_settings, run_settings, presets,
        commands,
    )
}  # fmt: skip
PAGES: Final = ("data-model.md", "configuration.md", "command-line.md", "troubleshooting.md")


def made_page(text: str) -> str:
    """Return a page with its blocks as the code has it now."""
    return _BLOCK.sub(lambda found: found[1] + MAKERS[found[2]]() + found[4], text)


def main() -> None:
    """Write the pages that differ."""
    for name in PAGES:
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        if (made := made_page(text)) != text:
            path.write_text(made, encoding="utf-8")
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
