"""What a user writes in a configuration of a rebuild, checked."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from groundwork.errors import InputError
from groundwork.settings_text import (
    Matching,
    PathText,
    SettingsModel,
    read_settings,
    sentence_of,
)
from pipeline.places.settings import KINDS, LocationSettings, Seed
from storage_schema.layout import LOCATIONS_PER_BATCH, NUM_SEASONS
from storage_schema.products import PRODUCT_NAMES, ProductName

HIGH_VOLUME_ENDPOINT: Final = "https://earthengine-highvolume.googleapis.com"
"""The endpoint for many small requests. Source: Earth Engine, "Processing environments"."""
MS_PER_DAY: Final = 86_400_000
SCHEDULER: Final = r"(tcp|tls|ws|wss|ucx)://[!-~]{1,500}"
"""Pattern of a Dask scheduler's address."""
WHICH_SCHEDULER: Final = "give the address of a Dask scheduler, such as tcp://host:8786"
_MAX_ADDRESS: Final = 500
_MOST: Final = 10**15
"""Of what a budget counts: more is a slip of the finger."""
_MOST_S: Final = 86_400 * 366.0
_UTM_CODES: Final = (range(32601, 32661), range(32701, 32761))


ReferenceDate = Annotated[date, Field(ge=date(2014, 1, 1), lt=date(2100, 1, 1))]
"""No Sentinel flew before 2014."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SeasonSettings(SettingsModel):
    """The date windows of a location, one per season slot.

    Args:
        reference_dates: middle of each window; slot 0 is the first one named.
        half_window_days: a window reaches so many days to either side.
        max_shift_days: SSL4EO-S12 moved the dates of every location back by one random number of
            days, 0 to 364; 0 moves none.
        seed: of the shifts, together with the location's id.
    """

    reference_dates: tuple[ReferenceDate, ...] = Field(min_length=1, max_length=NUM_SEASONS)
    half_window_days: int = Field(15, ge=0, le=182)
    max_shift_days: int = Field(0, ge=0, le=3650)
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        days = sorted(self.reference_dates)
        for first, second in itertools.pairwise(days):
            if (second - first).days <= 2 * self.half_window_days:
                raise ValueError(
                    f"the windows around {first} and {second} overlap: one image could fill two "
                    "seasons; lower half_window_days or move a date"
                )
        return self

    def windows_of(self, location_id: str) -> tuple[Window, ...]:
        """Return the windows of one location, in the order of the slots."""
        named = f"{self.seed}:{location_id}".encode()
        drawn = int.from_bytes(hashlib.sha256(named).digest()[:8], "big")
        shift_days = drawn % (self.max_shift_days + 1)
        return tuple(
            Window.around(day - timedelta(days=shift_days), self.half_window_days)
            for day in self.reference_dates
        )

    @property
    def meaning(self) -> str:
        """What a season slot is, for the cube's attributes."""
        dates = ", ".join(day.isoformat() for day in self.reference_dates)
        shifted = (
            f", moved back by 0 to {self.max_shift_days} days per location"
            if self.max_shift_days
            else ""
        )
        return f"date windows of +-{self.half_window_days} days around {dates}{shifted}"


class Window(SettingsModel):
    """A span of time.

    Args:
        start_ms: first millisecond since 1970-01-01 UTC.
        end_ms: first one after it.
        centre_ms: noon of the reference date.
    """

    start_ms: int
    end_ms: int
    centre_ms: int

    @classmethod
    def around(cls, day: date, half_days: int) -> Window:
        """Return the window of whole days around a date."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        start_ms = int(midnight.timestamp() * 1000) - half_days * MS_PER_DAY
        return cls(
            start_ms=start_ms,
            end_ms=start_ms + (2 * half_days + 1) * MS_PER_DAY,
            centre_ms=start_ms + half_days * MS_PER_DAY + MS_PER_DAY // 2,
        )

    def contains(self, time_ms: int) -> bool:
        """Tell whether a moment lies in the window."""
        return self.start_ms <= time_ms < self.end_ms


class Sentinel1Settings(SettingsModel):
    """Which Sentinel-1 acquisition accompanies a Sentinel-2 one.

    Args:
        max_days_apart: farther in time than this is no match, days.
        orbit_pass: `any` takes the nearest in time, `ascending` and `descending` only that pass;
            `prefer_ascending` and `prefer_descending` take the other one only where there is none.
        reprojection: `service` resamples to the patch's grid in Earth Engine, `dask` fetches the
            image's own pixels and resamples them here (one more request per season).
    """

    max_days_apart: float = Field(15.0, gt=0, le=366)
    orbit_pass: Literal[
        "any", "ascending", "descending", "prefer_ascending", "prefer_descending"
    ] = "any"  # noqa: S105 - the pass of an orbit
    reprojection: Literal["service", "dask"] = "service"


class AcquisitionSettings(SettingsModel):
    """Which images are taken.

    Args:
        max_cloud_percentage: an image cloudier than this as a whole is not taken, percent.
        order: which of the others: `least_cloudy`, `nearest` to the reference date, or `newest`.
        require_l2a: take only images that also exist as L2A (where L2A is wanted).
        require_dynamic_world: take only images with a label map (where labels are wanted).
        min_seasons: a location with fewer seasons than this is not downloaded.
        s1: the Sentinel-1 acquisition.
    """

    max_cloud_percentage: float = Field(20.0, ge=0, le=100)
    order: Literal["least_cloudy", "nearest", "newest"] = "least_cloudy"
    require_l2a: bool = True
    require_dynamic_world: bool = True
    min_seasons: int = Field(1, ge=1, le=NUM_SEASONS)
    s1: Sentinel1Settings = Sentinel1Settings()


class RequestLimits(SettingsModel):
    """What the provider allows a project, and how patient we are; the whole cluster keeps to it.

    Args:
        max_in_flight: requests under way at once.
        max_requests_per_s: requests begun within any second.
        connect_timeout_s: for a connection.
        read_timeout_s: for the next byte of a reply.
        request_timeout_s: for a whole reply; a trickling one ends here.
        deadline_s: a request is repeated at most so long.
        first_pause_s: before a request is repeated, at most; doubles with every try.
        longest_pause_s: where the doubling ends.
        max_response_bytes: what one reply may count, a mask byte per pixel and band included.

    Source: Earth Engine quotas (40 concurrent requests, 100 requests/s, 48 MB).
    """

    max_in_flight: int = Field(40, ge=1, le=1000)
    max_requests_per_s: float = Field(100.0, gt=0, le=10_000)
    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 60.0
    request_timeout_s: Seconds = 300.0
    deadline_s: Seconds = 900.0
    first_pause_s: Seconds = 0.5
    longest_pause_s: Seconds = 30.0
    max_response_bytes: int = Field(48 * 2**20, ge=2**20, le=2**30)


class EarthEngineSettings(SettingsModel):
    """How the service is reached. Credentials never appear here, only where they are.

    Args:
        project: Google Cloud project that is billed.
        endpoint: address of the service.
        credentials: `application_default` (the file of GOOGLE_APPLICATION_CREDENTIALS, else what
            `earthengine authenticate` stored, else gcloud's),
            `service_account` with `credentials_file`, or `none` for an emulator on loopback.
        credentials_file: JSON key of a service account; starts from the configuration's folder.
        workload_tag: names this rebuild in the provider's billing.
        locations_per_listing: locations whose images are listed by one request.
        limits: of the provider.
    """

    project: Annotated[
        str,
        Matching(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}", "give the id of a Google Cloud project"),
    ]
    endpoint: str = HIGH_VOLUME_ENDPOINT
    credentials: Literal["application_default", "service_account", "none"] = "application_default"
    credentials_file: PathText | None = None
    workload_tag: (
        Annotated[
            str,
            Matching(
                r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?",
                "give up to 63 letters a to z, digits, - and _, neither - nor _ at an end",
            ),
        ]
        | None
    ) = "softcon-rebuild"
    locations_per_listing: int = Field(16, ge=1, le=64)
    limits: RequestLimits = RequestLimits()

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        if not endpoint.startswith(("https://", "http://")):
            raise ValueError("an address starts with https:// (or http:// on this machine)")
        try:
            parts = urlsplit(endpoint)
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is none, a bracket too few
            usable = False
        if not usable or not re.fullmatch(r"[!-~]+", endpoint) or len(endpoint) > _MAX_ADDRESS:
            raise ValueError("an address is https://host or https://host:port")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("an address has no user, password or query: give https://host alone")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.credentials == "service_account") != (self.credentials_file is not None):
            raise ValueError(
                "credentials: service_account and credentials_file belong together: give both or "
                "neither"
            )
        if self.credentials != "none" and self.endpoint.startswith("http://"):
            raise ValueError(
                f"endpoint {self.endpoint} is not encrypted: credentials are not sent there; use "
                "https://, or credentials: none for an emulator"
            )
        return self


class ExecutionSettings(SettingsModel):
    """How the work is spread; it shapes no byte of the cube.

    Args:
        dask: `threads` (this process), `processes` (workers on this machine), or the address of a
            scheduler (tcp://host:8786).
        workers: processes, with `processes`.
        batches_at_once: batches a worker has under way: one is written while the next is fetched.
    """

    dask: Annotated[
        str,
        Matching(
            f"threads|processes|{SCHEDULER}",
            "give threads, processes, or the address of a scheduler such as tcp://host:8786",
        ),
    ] = "threads"
    workers: int = Field(2, ge=1, le=1024)
    batches_at_once: int = Field(2, ge=1, le=8)


class BudgetSettings(SettingsModel):
    """Where to stop, over all runs of one cube; None is without limit.

    Args:
        max_requests: requests to the service.
        max_bytes: of replies.
        max_compute_s: compute seconds, where the service reports them.
        max_run_s: time that one run may take, s: the deadline of a night, say.
    """

    max_requests: int | None = Field(None, ge=1, le=_MOST)
    max_bytes: int | None = Field(None, ge=1, le=_MOST)
    max_compute_s: float | None = Field(None, gt=0, le=_MOST)
    max_run_s: float | None = Field(None, gt=0, le=_MOST_S)


class RebuildSettings(SettingsModel):
    """A rebuild: which cube, where, when, which images, how.

    Args:
        cube: folder or s3://bucket/prefix to write; a relative path starts from the current folder.
        locations: what ``softcon locations sample`` would read.
        locations_file: instead, the GeoParquet file it wrote (starts from the configuration's
            folder).
        products: products to store.
        seasons: date windows.
        acquisitions: choice of images.
        grid: `tile` puts a patch on the lattice of its Sentinel-2 tile, without resampling;
            EPSG:326xx or EPSG:327xx puts all patches into one zone and resamples.
        locations_per_batch: locations per shard.
        earth_engine: the service.
        execution: workers.
        budget: where to stop.
    """

    cube: PathText
    locations: LocationSettings | None = None
    locations_file: PathText | None = None
    products: tuple[ProductName, ...] = Field(
        PRODUCT_NAMES, min_length=1, max_length=len(PRODUCT_NAMES)
    )
    seasons: SeasonSettings
    acquisitions: AcquisitionSettings = AcquisitionSettings()
    grid: str = "tile"
    locations_per_batch: int = Field(LOCATIONS_PER_BATCH, ge=1, le=1024)
    earth_engine: EarthEngineSettings
    execution: ExecutionSettings = ExecutionSettings()
    budget: BudgetSettings = BudgetSettings()

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, grid: str) -> str:
        code = grid.removeprefix("EPSG:")
        known = code.isdecimal() and any(int(code) in codes for codes in _UTM_CODES)
        if grid != "tile" and not (grid.startswith("EPSG:") and known):
            raise ValueError("give tile, or the EPSG code of a UTM zone such as EPSG:32617")
        return grid

    @field_validator("products")
    @classmethod
    def _sort_products(cls, products: tuple[ProductName, ...]) -> tuple[ProductName, ...]:
        return tuple(name for name in PRODUCT_NAMES if name in products)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.locations is None) == (self.locations_file is None):
            raise ValueError("give either locations or locations_file")
        num_dates = len(self.seasons.reference_dates)
        if self.acquisitions.min_seasons > num_dates:
            raise ValueError(
                f"acquisitions.min_seasons {self.acquisitions.min_seasons} is more than the "
                f"{num_dates} reference_dates of seasons"
            )
        return self

    @property
    def grid_epsg(self) -> int | None:
        """EPSG code of the one zone of all patches; None where each has its tile's."""
        return None if self.grid == "tile" else int(self.grid.removeprefix("EPSG:"))


def read_rebuild_settings(path: Path, changes: Sequence[str] = ()) -> RebuildSettings:
    """Read a YAML file and change single settings.

    Args:
        path: the file.
        changes: ``a.b=value`` each, the value in YAML.

    Raises:
        InputError: the file cannot be read, is not YAML, or holds something that does not belong.
    """
    return parse_rebuild_settings(read_settings(path, changes), str(path))


def parse_rebuild_settings(values: Mapping[Any, Any], where: str) -> RebuildSettings:
    """Check settings.

    Raises:
        InputError: something is missing, unknown or out of range.
    """
    try:
        return RebuildSettings.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(f"{where}: {sentence_of(error, tags=KINDS)}") from error


def days_apart(first_ms: int, second_ms: int) -> float:
    """Return the time between two moments, days."""
    return math.fabs(first_ms - second_ms) / MS_PER_DAY
