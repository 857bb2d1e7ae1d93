"""A cube's data card in Markdown: what it holds, where it comes from, under which terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundwork.errors import InputError
from groundwork.file_writes import write_atomically
from pages.formats import flatten, percent, utc
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.report.acquisitions import acquisition_rows
from pipeline.report.labels import class_statistics
from pipeline.report.locations import split_counts
from pipeline.report.small_arrays import SmallArrays, read_description, read_small_arrays
from pipeline.report.statuses import label_status_counts, status_counts
from storage_schema.layout import CubeDescription
from storage_schema.products import PATCH_SIZE_M, PRODUCTS


def write_data_card(storage: ObjectStorage, out: Path) -> None:
    """Write the card of a sealed cube; it appears whole or not at all.

    Args:
        storage: of the cube.
        out: the Markdown file; an older one is replaced.

    Raises:
        InputError: the cube is not sealed, so that its content may change, or is none.
        CubeDamagedError: an array cannot be read.
    """
    store = PatchStore.open(storage)
    attributes: dict[str, Any] = dict(store.group.attrs.asdict())
    if attributes.get("sealed") is not True:
        raise InputError(
            f"{storage.address} is not sealed, so its content may change: run softcon seal"
        )
    record = storage.read("provenance/seal.json")
    software: dict[str, str] = json.loads(record) if record else {}
    name = Path(storage.address.rstrip("/")).name
    arrays = read_small_arrays(store.group)
    write_atomically(
        out, describe_cube(name, read_description(store.group), attributes, arrays, software)
    )


def describe_cube(
    name: str,
    description: CubeDescription,
    attributes: Mapping[str, Any],
    arrays: SmallArrays,
    software: Mapping[str, str],
) -> str:
    """Return the card.

    Args:
        name: of the cube.
        description: of the cube.
        attributes: of its root.
        arrays: all but its pixels.
        software: versions that sealed it, and when.
    """
    splits = ", ".join(f"{num:,} {split}" for split, num in split_counts(arrays).items())
    return f"""# {name}

A cube of Sentinel patches and Dynamic World land cover, made by softcon-cube.
{_warning(description)}
| | |
| --- | --- |
| locations | {description.num_locations:,} ({splits}) |
| patches (location x season) | {int(arrays.has_patch.sum()):,} |
| a patch | {PATCH_SIZE_M} m x {PATCH_SIZE_M} m, in the UTM zone of its tile |
| a season slot is | {description.season_meaning} |
| schema version | {attributes["schema_version"]} |
| digest | `{attributes["digest"]}` |

## Products

{_products(description, attributes, arrays)}

What became of every product of every slot:

{_statuses(description, arrays)}

## Labels

{_classes(attributes, arrays)}

Class fractions are over the valid pixels of the label map; a class is present where any pixel has
it, or where the label file says so. A patch without a label is *unlabelled*, which is not "no class
present". Label maps are a model's output: they have errors, in particular between similar classes.

{_label_statuses(arrays)}

## Origin

{_table(("setting", "value"), [*flatten(description.source), *flatten(description.settings)])}

Sealed {software.get("sealed", "")[:10]} with {_versions(software)}.
The digest covers arrays and their metadata: the same inputs give the same digest, whatever the
number of workers or interruptions.

## Licences and attribution

{_terms(description, attributes)}

Whoever passes on this cube, or weights trained on it, passes these on with it.
"""


def _warning(description: CubeDescription) -> str:
    """Say it where pixels may be made up: an emulator has served them."""
    if "emulator" not in str(description.source.get("service", "")):
        return ""
    return (
        "\n**Served by an emulator of Earth Engine, not by the service.** Pixels of its simulated\n"
        "world are made up, and the terms below are those of the products they imitate; those\n"
        "of a folder of rasters are what the folder holds.\n"
    )


def _products(
    description: CubeDescription, attributes: Mapping[str, Any], arrays: SmallArrays
) -> str:
    rows = []
    found = {row.product: row for row in acquisition_rows(arrays, description.products)}
    for name in description.products:
        product = PRODUCTS[name]
        row = found.get(name)
        dates = "" if row is None or row.first_ms is None or row.last_ms is None else (
            f"{utc(row.first_ms)[:10]} to {utc(row.last_ms)[:10]}"
        )  # fmt: skip
        sizes = ", ".join(
            f"{len(group.bands)} x {group.resolution_m} m" for group in product.groups
        )
        terms = attributes["products"][name]
        rows.append(
            (
                f"`{name}`",
                str(terms["earth_engine_id"]),
                sizes,
                product.shown_unit,
                str(terms["radiometric_convention"]),
                dates,
            )
        )
    return _table(("product", "collection", "bands", "unit", "convention", "acquired"), rows)


def _statuses(description: CubeDescription, arrays: SmallArrays) -> str:
    rows = [
        (
            f"`{count.product}`",
            count.status.replace("_", " "),
            "" if count.reason == "none" else count.reason.replace("_", " "),
            f"{count.count:,}",
        )
        for count in status_counts(arrays, description.products)
    ]
    return _table(("product", "status", "reason", "slots"), rows)


def _classes(attributes: Mapping[str, Any], arrays: SmallArrays) -> str:
    found = class_statistics(arrays, attributes.get("class_statistics"))
    if not found.num_labelled:
        return "No patch has a multi-label."
    rows = [
        (
            row.name.replace("_", " "),
            f"{row.num_present:,}",
            percent(row.num_present / found.num_labelled),
            "" if row.mean_fraction is None else percent(row.mean_fraction),
        )
        for row in found.rows
    ]
    head = ("class", "patches with it", "of the labelled", "mean share of a patch")
    return f"{found.num_labelled:,} labelled patches.\n\n{_table(head, rows)}"


def _label_statuses(arrays: SmallArrays) -> str:
    rows = [
        (status.name.lower().replace("_", " "), f"{num:,}")
        for status, num in label_status_counts(arrays).items()
    ]
    return _table(("label status", "patches"), rows)


def _versions(software: Mapping[str, str]) -> str:
    named = (f"{name} {number}" for name, number in software.items() if name != "sealed")
    return ", ".join(named) or "versions that are not known"


def _terms(description: CubeDescription, attributes: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            str(attributes["products"][name]["licence"]),
            str(attributes["products"][name]["attribution"]),
        )
        for name in description.products
    ]
    return _table(("product", "licence", "attribution"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Keep a value in its cell, whatever it holds."""
    return " ".join(str(text).replace("|", "\\|").split())
