"""The table that ``softcon inspect`` prints; 80 columns are enough."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.cube.inspection import CubeFacts
from storage_schema.status import StatusReason

_STATUSES = ("complete", "no_acquisition", "rejected", "failed", "pending")


def inspection_table(facts: CubeFacts) -> Group:
    """Lay the facts out: the cube, its products, its labels, what reasons mean, its licences."""
    return Group(
        _cube(facts),
        _products(facts),
        _labels(facts),
        *(
            Padding(Text(f"{name}: {_enumerate(product.reasons)}"), (0, 1))
            for name, product in facts.products.items()
            if product.reasons
        ),
        *(
            Padding(Text(f"{reason.name.lower().replace('_', ' ')}: {reason.meaning}"), (0, 1))
            for reason in StatusReason
            if any(reason.name.lower() in product.reasons for product in facts.products.values())
        ),
        *(
            Padding(Text(f"{name}: {product.licence}; {product.attribution}"), (0, 1))
            for name, product in facts.products.items()
        ),
    )


def _cube(facts: CubeFacts) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    state = f"sealed, {facts.digest}" if facts.sealed else "not sealed"
    if facts.pending_batches:
        state += f"; {facts.pending_batches} of {facts.num_batches} batches pending"
    for name, value in (
        ("cube", facts.address),
        ("state", state),
        ("schema version", str(facts.schema_version)),
        ("source", str(facts.source.get("name", facts.source))),
        ("season slots", facts.season_meaning),
        ("locations", f"{facts.num_locations:,} in {facts.num_batches:,} batches"),
        ("patches", f"{facts.num_patches:,}"),
        ("splits", ", ".join(f"{name} {num:,}" for name, num in facts.splits.items())),
        ("stored", f"{facts.stored_bytes / 1e6:,.1f} MB in {facts.num_objects:,} objects"),
    ):
        table.add_row(name, Text(value))
    return table


def _products(facts: CubeFacts) -> Table:
    table = Table(box=box.SIMPLE, title="Patches by product and status", title_justify="left")
    table.add_column("product", no_wrap=True)
    shown = [s for s in _STATUSES if any(s in p.statuses for p in facts.products.values())]
    for status in shown:
        table.add_column(status.replace("_", " "), justify="right")
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for name, product in facts.products.items():
        numbers = [f"{product.statuses.get(status, 0):,}" for status in shown]
        table.add_row(name, *numbers, product.first_day or "-", product.last_day or "-")
    return table


def _labels(facts: CubeFacts) -> Table:
    statuses = _enumerate(facts.label_statuses)
    table = Table(box=box.SIMPLE, title=f"Labels: {statuses or 'none'}", title_justify="left")
    table.add_column("class", no_wrap=True)
    table.add_column("patches", justify="right")
    table.add_column("share", justify="right")
    labelled = facts.label_statuses.get("labelled", 0)
    for name, number in facts.class_patches.items():
        table.add_row(name, f"{number:,}", f"{number / labelled:.1%}" if labelled else "-")
    return table


def _enumerate(numbers: dict[str, int]) -> str:
    return ", ".join(f"{num:,} {name.replace('_', ' ')}" for name, num in numbers.items())
