"""``softcon import ...``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flows.command_line.output import print_json, progress_bar, stdout

if TYPE_CHECKING:
    from pipeline.build.builder import BuildSummary
    from pipeline.places.settings import SplitSettings
    from pipeline.sources.ssl4eo_s12.settings import ImportSettings
    from storage_schema.products import ProductName

_SPLITS: Final = ("train", "validation", "test")

app = typer.Typer(
    help="Import a published data set into a cube.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.callback()
def _imports() -> None:
    """Import a published data set into a cube."""


@app.command("ssl4eo-s12")
def ssl4eo_s12(
    root: Annotated[Path, typer.Option(help="Folder that holds s1, s2a, s2c, dw (any of them).")],
    out: Annotated[str, typer.Option(help="Cube to write: a folder, or s3://bucket/prefix.")],
    labels: Annotated[Path | None, typer.Option(help="SSL4EO-S12-ML label file (JSON).")] = None,
    products: Annotated[
        str | None,
        typer.Option(help="Products to import, comma-separated; default: all that are there."),
    ] = None,
    locations_per_batch: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Locations per shard of a new cube (default 64)."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN,VALIDATION,TEST",
            help="Shares of the splits, by blocks of the Earth's surface (default 0.8,0.1,0.1).",
        ),
    ] = None,
    block_size_m: Annotated[
        float | None, typer.Option(help="Side of a block of the splits, m (default 50000).")
    ] = None,
    buffer_m: Annotated[
        float | None, typer.Option(help="Between two splits, m (default 5000).")
    ] = None,
    split_seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Decides which block is what.")
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Worker processes on this machine (default 1)."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, instead of --workers.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read batches with failed patches again.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Import SSL4EO-S12 in its original folders; the same command continues an interrupted import.

    S2 pixels arrive bit-identical; the UTM grid that the published GeoTIFFs lost is estimated and
    its error stored. One bad location or file never stops the rest: it gets a status and a warning.
    """
    from groundwork.errors import InputError
    from pipeline.build.rebuild import rebuild_cube
    from pipeline.cube.object_storage import ObjectStorage
    from pipeline.sources.settings import SCHEDULER, WHICH_SCHEDULER

    if workers is not None and dask is not None:
        raise InputError("--workers and --dask exclude each other: leave one out")
    if dask is not None and not re.fullmatch(SCHEDULER, dask):
        raise InputError(f"--dask {dask}: {WHICH_SCHEDULER}")
    storage = ObjectStorage(out)
    given = {
        "root": str(root),
        "cube": out,
        "labels": None if labels is None else str(labels),
        "products": None if products is None else _parse_products(products),
        "locations_per_batch": locations_per_batch,
        "split": _parse_split(split, block_size_m, buffer_m),
        "split_seed": split_seed,
        "workers": workers,
        "dask": dask,
    }
    settings = _settings({name: value for name, value in given.items() if value is not None})
    with progress_bar("importing", "batches") as report:
        summary = rebuild_cube(settings, retry_failed=retry_failed, progress=report)
    if json_output:
        print_json(
            {
                "cube": str(storage),
                "num_batches": summary.num_batches,
                "built": summary.built,
                "failures": summary.failures,
                "counts": dict(summary.counts),
                "num_warnings": len(summary.warnings),
            }
        )
    else:
        _print_summary(str(storage), summary)
    return 1 if summary.failures else 0


def _settings(given: dict[str, Any]) -> ImportSettings:
    from pydantic import ValidationError

    from groundwork.errors import InputError
    from groundwork.settings_text import sentence_of
    from pipeline.sources.ssl4eo_s12.settings import ImportSettings

    try:
        return ImportSettings.model_validate(given)
    except ValidationError as error:
        raise InputError(sentence_of(error)) from error


def _parse_split(
    shares: str | None, block_size_m: float | None, buffer_m: float | None
) -> SplitSettings:
    from pydantic import ValidationError

    from groundwork.errors import InputError
    from groundwork.settings_text import sentence_of
    from pipeline.places.settings import SplitSettings

    values: dict[str, Any] = {"block_size_m": block_size_m, "buffer_m": buffer_m}
    if shares is not None:
        parts = shares.split(",")
        if len(parts) != len(_SPLITS):
            raise InputError(f"--split {shares}: give three shares, such as 0.8,0.1,0.1")
        values |= dict(zip(_SPLITS, parts, strict=True))
    try:
        return SplitSettings.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise InputError(f"--split, --block-size-m, --buffer-m: {sentence_of(error)}") from error


def _parse_products(text: str) -> tuple[ProductName, ...]:
    from groundwork.errors import InputError
    from storage_schema.products import parse_product_names

    try:
        return parse_product_names(text)
    except ValueError as error:
        raise InputError(str(error)) from error


def _print_summary(cube: str, summary: BuildSummary) -> None:
    if not summary.built and not summary.failures:
        stdout.print(f"{cube} is complete: nothing to do", markup=False, soft_wrap=True)
    else:
        stdout.print(
            f"{cube}: batches written now: {len(summary.built)}, in all: {summary.num_batches}",
            markup=False,
        )
    for name, number in sorted(summary.counts.items()):
        stdout.print(f"  {name.replace('_', ' ')}: {number}", markup=False)
    for batch, error in sorted(summary.failures.items()):
        stdout.print(f"  batch {batch} failed: {error}", markup=False)
    if summary.failures:
        stdout.print("  run the same command again to try these once more", markup=False)
