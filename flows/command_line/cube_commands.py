"""Commands on one cube: seal, inspect, audit, report, card, export-labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import check_output, print_json, progress_bar, stdout

Cube = Annotated[str, typer.Argument(help="The cube: a folder, or s3://bucket/prefix.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def seal(cube: Cube, json_output: Json = False) -> int:
    """Seal a complete cube: statistics, class frequencies, patches.parquet, digest."""
    from pipeline.cube.object_storage import ObjectStorage
    from pipeline.cube.seal import seal_cube

    with progress_bar("sealing", "batches") as report:
        found = seal_cube(ObjectStorage(cube), report)
    if json_output:
        print_json(
            {"digest": found.digest, "was_sealed": found.was_sealed, "patches": found.num_patches}
        )
    else:
        state = "was sealed already, and still has" if found.was_sealed else "is sealed with"
        stdout.print(f"{cube} {state} digest {found.digest}", markup=False, soft_wrap=True)
    return 0


def inspect(cube: Cube, json_output: Json = False) -> int:
    """Show what a cube holds, in a table that fits a terminal."""
    from flows.command_line.inspect_table import inspection_table
    from pipeline.cube.inspection import inspect_cube
    from pipeline.cube.object_storage import ObjectStorage

    found = inspect_cube(ObjectStorage(cube))
    if json_output:
        print_json(found.model_dump(mode="json"))
    else:
        stdout.print(inspection_table(found))
    return 0


def audit(
    cube: Cube,
    every: Annotated[
        bool, typer.Option("--all", help="Read the pixels of every batch, not of a spread.")
    ] = False,
    unmark: Annotated[
        bool,
        typer.Option(
            "--unmark", help="Remove the markers of damaged batches: the build writes them again."
        ),
    ] = False,
    json_output: Json = False,
) -> int:
    """Look for everything that is wrong with a cube; exit 1 and the list where something is.

    Structure, markers, small arrays and the seal are checked wholly; checksums, ranges, and status
    against content for a spread of batches, or for all of them.
    """
    from pipeline.cube.audit import audit_cube, unmark_damaged
    from pipeline.cube.object_storage import ObjectStorage

    with progress_bar("auditing", "batches") as report:
        result = audit_cube(ObjectStorage(cube), all_batches=every, progress=report)
    unmarked = unmark_damaged(ObjectStorage(cube), result) if unmark else []
    if json_output:
        print_json(
            {
                "passed": result.passed,
                "sealed": result.sealed,
                "num_batches": result.num_batches,
                "batches_read": result.batches_read,
                "damaged_batches": sorted(result.damaged_batches),
                "unmarked": unmarked,
                "violations": [
                    {"where": v.where, "expected": v.expected, "found": v.found}
                    for v in result.violations
                ],
            }
        )
    else:
        for violation in result.violations:
            stdout.print(str(violation), markup=False, soft_wrap=True)
        stdout.print(
            f"{cube}: {len(result.violations) or 'no'} violation"
            f"{'' if len(result.violations) == 1 else 's'}; pixels of {len(result.batches_read)} "
            f"of {result.num_batches} batches read{'' if result.sealed else '; not sealed'}",
            markup=False,
            soft_wrap=True,
        )
        if result.damaged_batches:
            numbers = ", ".join(str(batch) for batch in sorted(result.damaged_batches))
            remedy = "are unmarked: run the build command again" if unmarked else "can be mended: "
            how = "" if unmarked else "add --unmark, then run the build command again"
            stdout.print(f"damaged batches {numbers} {remedy}{how}", markup=False, soft_wrap=True)
    return 0 if result.passed else 1


def report(
    cube: Cube,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    gallery: Annotated[int, typer.Option(min=0, help="Patches to show pictures of.")] = 12,
) -> int:
    """Write a self-contained HTML report of a cube, or of a run (curves also as .svg)."""
    if (Path(cube) / "run.json").is_file():
        from training.loop.run_report import write_run_report

        write_run_report(Path(cube), out)
        stdout.print(str(out), markup=False, soft_wrap=True)
        return 0
    from groundwork.errors import InputError
    from pipeline.cube.object_storage import ObjectStorage
    from pipeline.report.page import report_cube

    check_output(out, cube)
    if out.suffix != ".html":
        raise InputError(f"{out}: the report of a cube is a page; its name has to end with .html")
    report_cube(ObjectStorage(cube), out, num_gallery=gallery)
    stdout.print(str(out), markup=False, soft_wrap=True)
    return 0


def card(
    cube: Cube,
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")],
) -> int:
    """Write the data card of a sealed cube: content, labels, origin, licences, as Markdown."""
    from pipeline.cube.object_storage import ObjectStorage
    from pipeline.report.data_card import write_data_card

    check_output(out, cube)
    write_data_card(ObjectStorage(cube), out)
    stdout.print(str(out), markup=False, soft_wrap=True)
    return 0


def export_labels(
    cube: Cube,
    json_file: Annotated[Path, typer.Option("--json", help="The label file to write.")],
) -> int:
    """Write the multi-labels of a cube as an SSL4EO-S12-ML label file."""
    from pipeline.cube.label_export import export_labels as collect
    from pipeline.cube.object_storage import ObjectStorage
    from pipeline.cube.patch_store import PatchStore
    from pipeline.sources.ssl4eo_s12.labels import write_labels

    check_output(json_file, cube)
    labels, statuses = collect(PatchStore.open(ObjectStorage(cube)))
    write_labels(json_file, labels)
    listed = ", ".join(f"{num} {name.replace('_', ' ')}" for name, num in sorted(statuses.items()))
    stdout.print(f"{json_file}: {listed or 'no labels'}", markup=False, soft_wrap=True)
    return 0


COMMANDS = (seal, inspect, audit, report, card, export_labels)
