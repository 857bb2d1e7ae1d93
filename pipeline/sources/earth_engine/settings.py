"""What a user writes in a configuration of a rebuild from Earth Engine, checked."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from groundwork.errors import unknown_choice
from groundwork.settings_text import Matching, PathText, SettingsModel
from pipeline.sources.date_windows import SeasonSettings
from pipeline.sources.earth_engine.collections import COLLECTIONS
from pipeline.sources.settings import BuildSettings
from storage_schema.layout import NUM_SEASONS
from storage_schema.products import ProductName
from storage_schema.status import OrbitPass

HIGH_VOLUME_ENDPOINT: Final = "https://earthengine-highvolume.googleapis.com"
"""The endpoint for many small requests. Source: Earth Engine, "Processing environments"."""
_MAX_ADDRESS: Final = 500
_UTM_CODES: Final = (range(32601, 32661), range(32701, 32761))

Seconds = Annotated[float, Field(gt=0, le=86_400)]


PassChoice = Literal["any", "ascending", "descending", "prefer_ascending", "prefer_descending"]
Reprojection = Literal["service", "dask"]
ImageOrder = Literal["least_cloudy", "nearest", "newest"]
Credentials = Literal["application_default", "service_account", "none"]


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
    orbit_pass: PassChoice = "any"  # noqa: S105 - the pass of an orbit
    reprojection: Reprojection = "service"

    @property
    def wanted_pass(self) -> OrbitPass | None:
        """The pass that is asked for or preferred; None where any will do.

        Raises:
            ValueError: `orbit_pass` is no choice that there is.
        """
        match self.orbit_pass:
            case "any":
                return None
            case "ascending" | "prefer_ascending":
                return OrbitPass.ASCENDING
            case "descending" | "prefer_descending":
                return OrbitPass.DESCENDING
            case _:
                raise unknown_choice("s1.orbit_pass", self.orbit_pass, get_args(PassChoice))

    @property
    def refuses_other_pass(self) -> bool:
        """Whether an image of the other pass is not taken even where there is no other."""
        return self.wanted_pass is not None and not self.orbit_pass.startswith("prefer_")

    @property
    def by_service(self) -> bool:
        """Whether the service resamples to the patch's grid.

        Raises:
            ValueError: `reprojection` is no choice that there is.
        """
        match self.reprojection:
            case "service":
                return True
            case "dask":
                return False
            case _:
                raise unknown_choice("s1.reprojection", self.reprojection, get_args(Reprojection))


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
    order: ImageOrder = "least_cloudy"
    require_l2a: bool = True
    require_dynamic_world: bool = True
    min_seasons: int = Field(1, ge=1, le=NUM_SEASONS)
    s1: Sentinel1Settings = Sentinel1Settings()

    def requires(self, product: ProductName) -> bool:
        """Tell whether an image is taken only where this product exists beside it."""
        return {"s2_l2a": self.require_l2a, "dynamic_world": self.require_dynamic_world}.get(
            product, False
        )


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
    credentials: Credentials = "application_default"
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


class RebuildSettings(BuildSettings):
    """A rebuild: which cube, where, when, which images, how.

    Args:
        seasons: date windows.
        acquisitions: choice of images.
        grid: `tile` puts a patch on the lattice of its Sentinel-2 tile, without resampling;
            EPSG:326xx or EPSG:327xx puts all patches into one zone and resamples.
        earth_engine: the service.
    """

    seasons: SeasonSettings
    acquisitions: AcquisitionSettings = AcquisitionSettings()
    grid: str = "tile"
    earth_engine: EarthEngineSettings

    @field_validator("products")
    @classmethod
    def _check_products(cls, products: tuple[ProductName, ...]) -> tuple[ProductName, ...]:
        unknown = [name for name in products if name not in COLLECTIONS]
        if unknown:
            raise ValueError(
                f"Earth Engine has no collection for {', '.join(unknown)}: ask for "
                f"{', '.join(COLLECTIONS)}"
            )
        return products

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, grid: str) -> str:
        code = grid.removeprefix("EPSG:")
        known = code.isdecimal() and any(int(code) in codes for codes in _UTM_CODES)
        if grid != "tile" and not (grid.startswith("EPSG:") and known):
            raise ValueError("give tile, or the EPSG code of a UTM zone such as EPSG:32617")
        return grid

    @model_validator(mode="after")
    def _check_seasons(self) -> Self:
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
