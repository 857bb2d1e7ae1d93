"""``softcon rebuild`` and ``softcon forecast``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command_line.output import print_json, progress_bar, stderr, stdout

if TYPE_CHECKING:
    from pipeline.build.builder import BuildSummary


Config = Annotated[Path, typer.Argument(help="YAML file; see configs/rebuild_*.yaml.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: a.b=value; may be given several times."),
]
Pilot = Annotated[
    int,
    typer.Option(min=0, help="Fetch so many locations first, to measure; they are thrown away."),
]


def rebuild(
    config: Config,
    changes: Changes = None,
    dask: Annotated[
        str | None,
        typer.Option(help="threads, processes, or the address of a Dask scheduler."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Fetch batches with failed patches again.")
    ] = False,
    pilot: Pilot = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Fill a cube from Earth Engine; the same command continues where the last one stopped.

    Only complete batches count: after Ctrl-C, a crash or a used-up budget nothing is lost but the
    batches that were under way. Exit code 3 says that batches are left, for one of these reasons.
    """
    from groundwork.errors import LimitReachedError, TransientError
    from pipeline.build.forecast import forecast_build
    from pipeline.build.rebuild import open_rebuild
    from pipeline.sources.registry import read_build_settings

    all_changes = list(changes or [])
    if dask is not None:
        all_changes.append(f"execution.dask={dask}")
    settings = read_build_settings(config, all_changes)
    with (
        progress_bar("rebuilding", "batches") as report,
        open_rebuild(settings, config.parent, retry_failed=retry_failed, progress=report) as build,
    ):
        expected = forecast_build(settings, build, pilot) if build.pending else None
        for line in expected.sentences() if expected is not None else ():
            stderr.print(line, markup=False)
        build.finish(build.pending)
    summary = build.summary
    if json_output:
        print_json(_as_json(settings.cube, summary))
    else:
        _print_summary(settings.cube, summary)
    if summary.stopped is not None:
        raise LimitReachedError(summary.stopped)
    if summary.failures:
        batch, error = next(iter(sorted(summary.failures.items())))
        raise TransientError(
            f"batches left: {len(summary.failures)}, the first {batch} ({error}); the same "
            "command tries them again"
        )
    return 0


def forecast(
    config: Config,
    changes: Changes = None,
    pilot: Pilot = 0,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the forecast as JSON.")
    ] = False,
) -> int:
    """Tell what a rebuild will cost: requests, bytes, hours, share of the monthly compute budget.

    Nothing is written. Without a pilot only what the plan knows: requests and pixels.
    """
    from pipeline.build.forecast import forecast_new
    from pipeline.sources.registry import read_build_settings

    found = forecast_new(read_build_settings(config, changes or []), config.parent, pilot)
    if json_output:
        print_json(found.as_json())
    else:
        for line in found.sentences():
            stdout.print(line, markup=False)
    return 0


def _as_json(cube: str, summary: BuildSummary) -> dict[str, Any]:
    return {
        "cube": cube,
        "num_batches": summary.num_batches,
        "built": summary.built,
        "num_locations": summary.num_locations,
        "failures": summary.failures,
        "stopped": summary.stopped,
        "counts": dict(sorted(summary.counts.items())),
        "num_warnings": len(summary.warnings),
        "budget": summary.ledger.summary(),
        "budget_of_all_runs": summary.spent.summary(),
    }


def _print_summary(cube: str, summary: BuildSummary) -> None:
    if not summary.built and not summary.failures and summary.stopped is None:
        stdout.print(f"{cube} is complete: nothing to do", markup=False, soft_wrap=True)
        return
    stdout.print(
        f"{cube}: batches written now: {len(summary.built)}, in all: {summary.num_batches}",
        markup=False,
        soft_wrap=True,
    )
    for name, number in sorted(summary.counts.items()):
        stdout.print(f"  {name.replace('_', ' ')}: {number:,}", markup=False)
    ledger = summary.ledger
    if ledger.num_requests:
        latency = ledger.latency_quantiles()
        stdout.print(
            f"  requests: {ledger.num_requests:,} "
            f"({ledger.num_requests - ledger.outcomes['answered']:,} without an answer), "
            f"{ledger.bytes_received / 1e6:,.1f} MB received, latency p50 "
            f"{latency.get('p50', 0):.2g} s, p99 {latency.get('p99', 0):.2g} s",
            markup=False,
            soft_wrap=True,
        )
