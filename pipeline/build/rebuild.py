"""Rebuild a cube from Earth Engine: settings in, batches out."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from groundwork.errors import InputError
from pipeline.build.builder import (
    Build,
    BuildProgress,
    BuildSummary,
    Execution,
    SourceOfBatch,
    open_build,
)
from pipeline.cube.object_storage import ObjectStorage
from pipeline.places.files import Locations, read_locations
from pipeline.places.locations import make_locations
from pipeline.sources.earth_engine.request_gate import ClusterShare
from pipeline.sources.earth_engine.settings import EarthEngineSettings, RebuildSettings
from storage_schema.layout import CubeDescription
from storage_schema.status import Split

if TYPE_CHECKING:
    from distributed import Client

_GOOGLE: Final = "googleapis.com"


def rebuild_cube(
    settings: RebuildSettings,
    folder: Path,
    *,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> BuildSummary:
    """Fill a cube from Earth Engine; the same call continues where the last one stopped.

    Args and errors are those of `open_rebuild`.
    """
    with open_rebuild(settings, folder, retry_failed=retry_failed, progress=progress) as build:
        build.finish(build.pending)
    return build.summary


@contextlib.contextmanager
def open_rebuild(
    settings: RebuildSettings,
    folder: Path,
    *,
    retry_failed: bool = False,
    progress: BuildProgress | None = None,
) -> Iterator[Build]:
    """Hold a cube while its pending batches are fetched from Earth Engine.

    Args:
        settings: what to build, and how.
        folder: where relative paths of the settings start, other than the cube's.
        retry_failed: also fetch batches again that hold failed patches.
        progress: told after every batch.

    Raises:
        InputError: settings, credentials, project or endpoint are wrong; or as `open_build`.
        TransientError: the service does not answer for now.
        LimitReachedError, LeaseLostError, CubeDamagedError: as `open_build`.
    """
    storage = ObjectStorage(settings.cube)  # Refuses an address before anything is asked.
    locations = find_locations(settings, folder)
    shares: list[ClusterShare] = []

    def prepare_cluster(client: Client) -> None:
        shares.append(_share_slots(client, settings.earth_engine))

    # Wrong credentials are found before anything is written or any worker started.
    with (
        service_session(settings, folder) as reachable,
        open_build(
            storage,
            describe_rebuild(settings, locations),
            list(locations.location_id),
            sources_of(reachable, locations, shares),
            execution=_execution(settings),
            retry_failed=retry_failed,
            progress=progress,
            budget=settings.budget,
            prepare_cluster=prepare_cluster,
        ) as build,
    ):
        yield build


@contextlib.contextmanager
def service_session(settings: RebuildSettings, folder: Path) -> Iterator[RebuildSettings]:
    """Connect this process to the service; yields the settings with the credentials' full path.

    Raises:
        InputError: credentials, project or endpoint are wrong.
    """
    from pipeline.sources.earth_engine.client import close_sessions, open_session

    settings = _with_credentials_file(settings, folder)
    open_session(settings.earth_engine)
    try:
        yield settings
    finally:
        close_sessions()


def sources_of(
    settings: RebuildSettings, locations: Locations, shares: Sequence[ClusterShare] = ()
) -> SourceOfBatch:
    """Return what makes the source of a batch's locations.

    Args:
        settings: of the rebuild.
        locations: all of it.
        shares: the worker's share of the provider's limits, once a cluster has it; read late.
    """
    from pipeline.sources.earth_engine.source import EarthEngineSource, Place

    place_of = {
        name: Place(float(lon), float(lat), Split(int(split)))
        for name, lon, lat, split in zip(
            locations.location_id,
            locations.longitude,
            locations.latitude,
            locations.split,
            strict=True,
        )
    }

    def source_of_batch(ids: Sequence[str]) -> EarthEngineSource:
        return EarthEngineSource(
            places={name: place_of[name] for name in ids},
            products=settings.products,
            seasons=settings.seasons,
            acquisitions=settings.acquisitions,
            grid_epsg=settings.grid_epsg,
            service=settings.earth_engine,
            share=shares[0] if shares else None,
        )

    return source_of_batch


def describe_rebuild(settings: RebuildSettings, locations: Locations) -> CubeDescription:
    """Return what the cube is made of; nothing in it depends on how it is executed."""
    host = urlsplit(settings.earth_engine.endpoint).hostname or ""
    google = host == _GOOGLE or host.endswith(f".{_GOOGLE}")
    shaping: dict[str, Any] = settings.model_dump(
        mode="json", include={"seasons", "acquisitions", "grid"}
    )
    return CubeDescription(
        num_locations=len(locations),
        products=settings.products,
        source={
            "name": "earth-engine",
            "service": "Google Earth Engine" if google else "an emulator of Google Earth Engine",
            "locations": dict(locations.provenance),
            # The places themselves: a list with the same ids elsewhere is another cube.
            "locations_sha256": _digest_of(locations),
        },
        settings=shaping
        | {
            "reprojection": {
                "s2": "dask, bilinear" if settings.grid_epsg else "none: the tile's own lattice",
                "dynamic_world": "dask, nearest" if settings.grid_epsg else "none",
                "s1": f"{settings.acquisitions.s1.reprojection}, bilinear in linear power",
            }
        },
        season_meaning=settings.seasons.meaning,
        locations_per_batch=settings.locations_per_batch,
    )


def _digest_of(locations: Locations) -> str:
    digest = hashlib.sha256("\n".join(locations.location_id).encode())
    for values in (locations.longitude, locations.latitude, locations.split):
        digest.update(values.tobytes())
    return digest.hexdigest()


def find_locations(settings: RebuildSettings, folder: Path) -> Locations:
    """Choose or read the places of a rebuild.

    Raises:
        InputError: the list cannot be made or read.
    """
    if settings.locations is not None:
        return make_locations(settings.locations, folder)
    return read_locations(folder / str(settings.locations_file))


def _with_credentials_file(settings: RebuildSettings, folder: Path) -> RebuildSettings:
    service = settings.earth_engine
    if service.credentials_file is None:
        return settings
    path = folder / service.credentials_file
    if not path.is_file():
        raise InputError(
            f"earth_engine.credentials_file {path} does not exist: give the JSON key of a service "
            "account"
        )
    found = service.model_copy(update={"credentials_file": str(path.resolve())})
    return settings.model_copy(update={"earth_engine": found})


def _execution(settings: RebuildSettings) -> Execution:
    wanted = settings.execution
    alone = Execution(batches_at_once=wanted.batches_at_once)
    if wanted.dask == "threads":
        return alone
    if wanted.dask == "processes":
        return replace(alone, num_workers=wanted.workers)
    return replace(alone, scheduler=wanted.dask)


def _share_slots(client: Client, service: EarthEngineSettings) -> ClusterShare:
    """Make the cluster's semaphore; one of the same project and service is used by all rebuilds."""
    from distributed import Semaphore

    named = f"{service.endpoint} {service.project}".encode()
    name = f"earth-engine-{hashlib.sha256(named).hexdigest()[:16]}"
    limit = service.limits.max_in_flight
    try:
        Semaphore(max_leases=limit, name=name).register()
    except ValueError as error:
        raise InputError(
            f"another rebuild on this Dask scheduler uses project {service.project} with another "
            f"earth_engine.limits.max_in_flight than {limit}: give both the same, they share it"
        ) from error
    num_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    return ClusterShare(name, max(1, -(-limit // num_workers)))
