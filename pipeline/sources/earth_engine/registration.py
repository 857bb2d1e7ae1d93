"""Earth Engine as a registered source: what a build asks of it."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from groundwork.errors import InputError
from pipeline.places.files import Locations
from pipeline.places.locations import find_locations
from pipeline.sources.earth_engine.collections import collection_of
from pipeline.sources.earth_engine.request_gate import ClusterShare
from pipeline.sources.earth_engine.settings import EarthEngineSettings, RebuildSettings
from pipeline.sources.places import describe_places, places_of
from pipeline.sources.registry import BuildPlan, RequestPlan
from storage_schema.layout import CubeDescription
from storage_schema.products import PRODUCTS, Pairing, patch_size_px

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.sources.earth_engine.source import EarthEngineSource

MONTHLY_EECU_HOURS: Final = {"community": 150, "contributor": 1_000, "partner": 100_000}
"""Compute budget of non-commercial projects by tier, EECU-hours a month, since 2026-04-27.
Source: Earth Engine, "Noncommercial tiers"."""
_GOOGLE: Final = "googleapis.com"


class EarthEngineKind:
    """A `SourceKind`: places on Earth, images from Earth Engine."""

    name = "earth_engine"
    settings_model = RebuildSettings

    @contextlib.contextmanager
    def open(self, settings: RebuildSettings, folder: Path) -> Iterator[BuildPlan]:
        """Choose the places and connect this process to the service; see `SourceKind.open`."""
        # The client of the service is imported here: the registry is asked for help texts too.
        from pipeline.sources.earth_engine.client import close_sessions, open_session
        from pipeline.sources.earth_engine.source import EarthEngineSource

        locations = _locations(settings, folder)
        reachable = _with_credentials_file(settings, folder)
        shares: list[ClusterShare] = []
        places = places_of(locations)

        def source_of_batch(ids: Sequence[str]) -> EarthEngineSource:
            return EarthEngineSource(
                places={name: places[name] for name in ids},
                products=reachable.products,
                seasons=reachable.seasons,
                acquisitions=reachable.acquisitions,
                grid_epsg=reachable.grid_epsg,
                service=reachable.earth_engine,
                # Known once the cluster is up, which is after this function was made.
                share=shares[0] if shares else None,
            )

        def prepare_cluster(client: Client) -> None:
            shares.append(_share_slots(client, settings.earth_engine))

        open_session(reachable.earth_engine)
        try:
            yield BuildPlan(
                describe_rebuild(settings, locations),
                list(locations.location_id),
                source_of_batch,
                prepare_cluster,
            )
        finally:
            close_sessions()

    def num_locations(self, settings: RebuildSettings, folder: Path) -> int:
        """Count the places; see `SourceKind.num_locations`."""
        return len(_locations(settings, folder))

    def plan_requests(self, settings: RebuildSettings, num_locations: int) -> RequestPlan:
        """Count listings and pixel requests; see `SourceKind.plan_requests`."""
        num_seasons = len(settings.seasons.reference_dates)
        num_alone = sum(
            PRODUCTS[name].pairing is Pairing.NEAREST_IN_TIME
            for name in settings.products
            if not settings.acquisitions.s1.by_service
        )
        listings = math.ceil(num_locations / settings.earth_engine.locations_per_listing)
        per_pixel = sum(
            len(PRODUCTS[name].bands) * np.dtype(collection_of(name).reply_dtype).itemsize
            for name in settings.products
        )
        seasons = num_locations * num_seasons
        limits = settings.earth_engine.limits
        return RequestPlan(
            num_requests=listings + seasons * (1 + num_alone),
            num_bytes=seasons * per_pixel * patch_size_px() ** 2,
            max_in_flight=limits.max_in_flight,
            max_requests_per_s=limits.max_requests_per_s,
            compute_unit="EECU-hours",
            monthly_compute=MONTHLY_EECU_HOURS,
        )


KIND: Final = EarthEngineKind()


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
            **describe_places(locations),
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


def _locations(settings: RebuildSettings, folder: Path) -> Locations:
    return find_locations(settings.locations, settings.locations_file, folder)


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


def _share_slots(client: Client, service: EarthEngineSettings) -> ClusterShare:
    """Make the cluster's semaphore; all rebuilds of one project and service use the same one."""
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
