"""``seal-and-audit``: a complete cube becomes immutable, checked and reported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.artifacts import show_link, show_table
from flows.states import resumable_flow
from pipeline.cube.audit import AuditResult, audit_cube
from pipeline.cube.lease import wait_while_silent
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.seal import seal_cube
from pipeline.report.page import report_cube

REPORT_KEY: Final = "provenance/report.html"
"""Where the report lies in a cube: beside the other records that the digest does not cover."""
_MOST_SHOWN: Final = 100


@resumable_flow("seal-and-audit")
def seal_and_audit(cube: str, every_batch: bool = False) -> State[Any] | None:
    """Seal a cube, look for everything that is wrong with it, and write its HTML report.

    Args:
        cube: folder or s3://bucket/prefix.
        every_batch: read the pixels of every batch in the audit, not of a spread of them.
    """
    wait_while_silent(ObjectStorage(cube))
    digest = seal(cube)
    result = audit(cube, every_batch)
    address = write_html(cube)
    show_link("report", cube, address)
    if not result.passed:
        rows = [
            {"where": found.where, "expected": found.expected, "found": found.found}
            for found in result.violations[:_MOST_SHOWN]
        ]
        show_table("violations", cube, rows, f"{len(result.violations)} violations")
        return Failed(
            message=f"{cube}: {len(result.violations)} violations, the first: "
            f"{result.violations[0]}; run softcon audit {cube} --all --unmark, then the rebuild "
            "again"
        )
    get_run_logger().info("%s is sealed with digest %s; report: %s", cube, digest, address)
    return None


@task(cache_policy=NO_CACHE)
def seal(cube: str) -> str:
    """Seal; returns the digest."""
    return seal_cube(ObjectStorage(cube)).digest


@task(cache_policy=NO_CACHE, persist_result=False)
def audit(cube: str, every_batch: bool) -> AuditResult:
    """Audit."""
    return audit_cube(ObjectStorage(cube), all_batches=every_batch)


@task(cache_policy=NO_CACHE)
def write_html(cube: str) -> str:
    """Write the report into the cube; returns its address."""
    storage = ObjectStorage(cube)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        report_cube(storage, file)
        storage.write(REPORT_KEY, file.read_bytes())
    root = cube.rstrip("/") if storage.path is None else str(storage.path)
    return f"{root}/{REPORT_KEY}"
