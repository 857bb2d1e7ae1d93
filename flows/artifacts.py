"""What a flow leaves in Prefect's pages: progress, statuses, the budget ledger, a link.

They are for people. A server that is away for a moment loses a picture, never a batch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from groundwork.store_address import BucketAddress, parse_address
from pipeline.build.builder import Build
from pipeline.build.forecast import Forecast
from pipeline.cube.inspection import CubeFacts, inspect_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import BatchMarker
from pipeline.ledger import Ledger

_BETWEEN_UPDATES_S: Final = 5.0


class BuildArtifacts:
    """Follows a build; the `progress` of it.

    Args:
        cube: its address.
    """

    def __init__(self, cube: str) -> None:
        self._cube = cube
        self._progress_id: UUID | None = None
        self._shown_s = 0.0

    def __call__(self, done: int, of: int, marker: BatchMarker | None = None) -> None:
        """Log a batch and move the bar, every few seconds."""
        _log_batch(done, of, marker)
        now = time.monotonic()
        if done < of and now - self._shown_s < _BETWEEN_UPDATES_S:
            return
        self._shown_s = now
        share = 100.0 * done / of if of else 100.0
        if self._progress_id is None:
            self._progress_id = _quietly(
                create_progress_artifact,
                share,
                key=artifact_key("progress", self._cube),
                description=f"Batches of {self._cube} written by this run",
            )
        else:
            _quietly(update_progress_artifact, self._progress_id, share)

    def finish(self, build: Build) -> None:
        """Leave the table of statuses and the ledger."""
        facts = inspect_cube(ObjectStorage(self._cube))
        _quietly(
            create_table_artifact,
            status_rows(facts),
            key=artifact_key("statuses", self._cube),
            description=f"{facts.num_locations:,} locations, {facts.pending_batches:,} of "
            f"{facts.num_batches:,} batches pending",
        )
        _quietly(
            create_markdown_artifact,
            ledger_page(build.summary.ledger, build.summary.spent),
            key=artifact_key("budget", self._cube),
            description=f"What {self._cube} has cost",
        )


def _log_batch(done: int, of: int, marker: BatchMarker | None) -> None:
    """Say what became of a batch: its number, its locations, warnings with location and season."""
    if marker is None:
        return
    logger = get_run_logger()
    counts = ", ".join(f"{num} {name.replace('_', ' ')}" for name, num in marker.counts.items())
    logger.info(
        "batch %d (locations %d to %d) is written, %d of %d: %s",
        marker.batch,
        marker.start,
        marker.stop - 1,
        done,
        of,
        counts or "nothing noted",
    )
    for warning in marker.warnings:
        logger.warning("batch %d: %s", marker.batch, warning)


def show_forecast(cube: str, found: Forecast) -> None:
    """Log a forecast and leave it."""
    lines = found.sentences()
    for line in lines:
        get_run_logger().info(line)
    _quietly(
        create_markdown_artifact,
        "\n".join(f"- {line.strip()}" for line in lines),
        key=artifact_key("forecast", cube),
        description=f"What is left of {cube} will cost",
    )


def show_table(kind: str, what: str, rows: list[dict[str, Any]], description: str) -> None:
    """Leave a table."""
    _quietly(create_table_artifact, rows, key=artifact_key(kind, what), description=description)


def show_link(kind: str, what: str, address: str) -> None:
    """Leave a link to a file or an object."""
    is_object = isinstance(parse_address(address), BucketAddress)
    _quietly(
        create_link_artifact,
        address if is_object else f"file://{quote(address)}",
        link_text=address,
        key=artifact_key(kind, what),
        # A browser opens neither an object nor a file from a page of a server.
        description=f"The {kind} of {what}: "
        + ("fetch the object with an S3 client" if is_object else "open the file on its machine"),
    )


def artifact_key(kind: str, what: str) -> str:
    """Return a key that Prefect takes: it keeps an artifact's versions together."""
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}"[:200]


def status_rows(facts: CubeFacts) -> list[dict[str, Any]]:
    """Return a row per product and status, and one per reason behind them."""
    rows = []
    for product, found in facts.products.items():
        for kind, numbers in (("status", found.statuses), ("reason", found.reasons)):
            rows += [
                {"product": product, "kind": kind, "value": name.replace("_", " "), "patches": num}
                for name, num in numbers.items()
            ]
    return rows


def ledger_page(this_run: Ledger, all_runs: Ledger) -> str:
    """Return the ledgers of this run and of all runs as a table in Markdown."""
    latency = all_runs.latency_quantiles()
    rows = [
        ("locations paid for", f"{this_run.num_locations:,}", f"{all_runs.num_locations:,}"),
        ("requests", f"{this_run.num_requests:,}", f"{all_runs.num_requests:,}"),
        ("bytes received", f"{this_run.bytes_received:,}", f"{all_runs.bytes_received:,}"),
        ("compute, EECU-s", f"{this_run.compute_s:,.1f}", f"{all_runs.compute_s:,.1f}"),
        *(
            (f"answers: {name}", f"{this_run.outcomes[name]:,}", f"{num:,}")
            for name, num in sorted(all_runs.outcomes.items())
        ),
        *((f"latency {name}, s", "", f"{value:g}") for name, value in latency.items()),
    ]
    head = "| | this run | all runs |\n| --- | ---: | ---: |\n"
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _quietly(make: Callable[..., Any], *values: Any, **named: Any) -> Any:
    try:
        return make(*values, **named)
    except Exception as error:  # noqa: BLE001 - whatever a server that is away leads to
        get_run_logger().warning("an artifact is lost: %s", " ".join(str(error).split()))
        return None
