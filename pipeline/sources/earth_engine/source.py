"""Earth Engine: listings and pixels over its REST interface, by Google's own client.

The only module that imports ``ee``. Each process has one session: the client is initialised once,
its requests share a pool of connections and the provider's limits. Retries are ours, so that a
broken connection counts like a 503, the time is bounded, and every request is in the ledger.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import ee
import ee.oauth
import google.auth
import google.auth.exceptions
import google.oauth2.credentials
import google.oauth2.service_account
from google.auth.credentials import AnonymousCredentials

from pipeline.errors import InputError, TransientError, UnreachableError
from pipeline.grids import Grid
from pipeline.heap import use_one_heap
from pipeline.ledger import Ledger
from pipeline.patches import Acquisition, LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.earth_engine.acquisitions import Candidate, Listing, Plan, choose_acquisitions
from pipeline.sources.earth_engine.errors import Failure, classify, missing_asset
from pipeline.sources.earth_engine.http_transport import HttpTransport
from pipeline.sources.earth_engine.listing import (
    COLUMNS,
    LATTICE_BAND,
    parse_listing,
    search_box,
)
from pipeline.sources.earth_engine.pixels import (
    REPLY_DTYPES,
    S1_FILL_DB,
    PixelRequest,
    UnusableReplyError,
    band_name,
    decode_npy,
    patch_pixels,
    place_grid,
    plan_requests,
)
from pipeline.sources.earth_engine.request_gate import CancelledError, ClusterShare, RequestGate
from pipeline.sources.earth_engine.settings import (
    MS_PER_DAY,
    AcquisitionSettings,
    EarthEngineSettings,
    SeasonSettings,
    Window,
)
from storage_schema.products import PRODUCTS, ProductName
from storage_schema.status import PatchStatus, Split, StatusReason

T = TypeVar("T")
Gone = frozenset[tuple[ProductName, str]]

_SCOPES: Final = ("https://www.googleapis.com/auth/earthengine",)
_TRIES_OF_TOO_LARGE: Final = 6
_INITIALISATION_TRIES: Final = 5
_FAILURES: Final = (
    ee.EEException,
    OSError,  # broken connections and time-outs are of this kind
    ValueError,  # a reply of JSON that is none
    UnusableReplyError,
    google.auth.exceptions.GoogleAuthError,
)
"""What a request can end with. Anything else is a bug of ours and is not tried again."""
_TURN_WAIT_S: Final = 0.2
_LOCATIONS_AHEAD: Final = 12
"""Locations whose pixels are under way or wait for their turn: 48 requests, more than may be in
flight, and at most 12 x 7.6 MB of decoded patches."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a location is wanted, deg, and its split."""

    longitude: float
    latitude: float
    split: Split


class AskFailedError(Exception):
    """A request that will not succeed as it is."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


class Session:
    """One process's connection to the service."""

    def __init__(self, settings: EarthEngineSettings, share: ClusterShare | None) -> None:
        """Initialise the client.

        Raises:
            InputError: credentials, project or endpoint are wrong.
        """
        use_one_heap()  # Before the first of its threads.
        self.settings = settings
        self._transport = HttpTransport(settings.limits)
        self.gate = _make_gate(settings, share)
        self.turn = threading.Lock()
        """Held while a batch asks for pixels: whole batches are large, so one fills at a time."""
        # Every thread decodes what it received after it has given up its slot.
        self.pool = ThreadPoolExecutor(settings.limits.max_in_flight + 4, "earth-engine")
        _initialise(settings, self._transport)

    def ask(
        self,
        kind: str,
        question: Callable[[], T],
        ledger: Ledger,
        cancelled: threading.Event,
        *,
        divisible: bool,
    ) -> T:
        """Ask until there is an answer, with pauses of full jitter, until the deadline.

        Args:
            kind: for the ledger.
            question: sends one request and reads its reply.
            ledger: of this call; it is changed.
            cancelled: ends it.
            divisible: whether the caller can ask for less at once. If not, a request that is said
                to be too large is tried some times: the service's memory is shared with others.

        Raises:
            AskFailedError: the service refuses this request.
            InputError: the service refuses every request.
            TransientError: no answer before the deadline.
            CancelledError: the run is ending.
        """
        give_up_at = time.monotonic() + self.settings.limits.deadline_s
        pause_s = self.settings.limits.first_pause_s
        tries_left = 0 if divisible else _TRIES_OF_TOO_LARGE
        while True:
            try:
                return self._ask_once(kind, question, ledger, cancelled)
            except AskFailedError as error:
                tries_left -= error.failure is Failure.TOO_LARGE
                too_large_again = error.failure is Failure.TOO_LARGE and tries_left > 0
                if error.failure is not Failure.TRANSIENT and not too_large_again:
                    raise
                left_s = give_up_at - time.monotonic()
                if left_s <= 0:
                    raise TransientError(
                        f"{self.settings.endpoint} gave no answer within "
                        f"{self.settings.limits.deadline_s:g} s, the last time: {error.message}"
                    ) from error
            # Which moment is drawn shapes no byte of the cube.
            nap_s = min(random.uniform(0.0, pause_s), left_s)  # noqa: S311
            pause_s = min(2 * pause_s, self.settings.limits.longest_pause_s)
            ledger.retry_waiting_s += nap_s
            cancelled.wait(nap_s)

    def _ask_once(
        self, kind: str, question: Callable[[], T], ledger: Ledger, cancelled: threading.Event
    ) -> T:
        with self.gate.slot(cancelled) as waited_s:
            ledger.slot_waiting_s += waited_s
            began = time.monotonic()
            try:
                answer = question()
            except _FAILURES as error:
                status, message = _read_failure(error)
                failure = classify(status, message)
                outcome = f"http_{status}" if status is not None else type(error).__name__
                ledger.outcomes[outcome] += 1
                if failure is Failure.REFUSED:
                    raise _refusal(self.settings, status, message) from error
                raise AskFailedError(failure, message) from error
            else:
                ledger.outcomes["answered"] += 1
                ledger.note_latency(time.monotonic() - began)
                return answer
            finally:
                exchange = self._transport.exchange
                ledger.requests[kind] += 1
                ledger.bytes_sent += exchange.bytes_sent
                ledger.bytes_received += exchange.bytes_received
                ledger.compute_s += exchange.compute_s or 0.0

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()


_session_lock = threading.Lock()
_sessions: dict[tuple[EarthEngineSettings, ClusterShare | None], Session] = {}


def open_session(settings: EarthEngineSettings, share: ClusterShare | None = None) -> Session:
    """Return this process's session; the client is initialised once.

    Raises:
        InputError: credentials, project or endpoint are wrong.
    """
    with _session_lock:
        key = settings, share
        if key not in _sessions:
            # The client keeps its state in its module: there is one at a time.
            while _sessions:
                _sessions.popitem()[1].close()
            _sessions[key] = Session(settings, share)
        return _sessions[key]


def close_sessions() -> None:
    """Forget this process's session."""
    with _session_lock:
        while _sessions:
            _sessions.popitem()[1].close()


def _make_gate(settings: EarthEngineSettings, share: ClusterShare | None) -> RequestGate:
    if share is None:
        return RequestGate(settings.limits)
    from distributed import Semaphore

    leases = Semaphore(max_leases=settings.limits.max_in_flight, name=share.semaphore)
    return RequestGate(settings.limits, leases, share.max_slots)


def _initialise(settings: EarthEngineSettings, transport: HttpTransport) -> None:
    credentials = _find_credentials(settings)
    for tries_left in reversed(range(_INITIALISATION_TRIES)):
        try:
            ee.Reset()
            # Ours are the retries; the client's own are neither bounded nor counted.
            ee.data.setMaxRetries(0)
            ee.Initialize(
                credentials,
                project=settings.project,
                url=settings.endpoint,
                http_transport=transport,
            )
            break
        except _FAILURES as error:
            status, message = _read_failure(error)
            if not tries_left or classify(status, message) is not Failure.TRANSIENT:
                raise _refusal(settings, status, message) from error
            time.sleep(settings.limits.first_pause_s)
    ee.data.setMaxRetries(0)
    if settings.workload_tag:
        ee.data.setDefaultWorkloadTag(settings.workload_tag)


def _find_credentials(settings: EarthEngineSettings) -> Any:
    """Return the credentials; what they are is never shown."""
    if settings.credentials == "none":
        return AnonymousCredentials()
    if settings.credentials == "service_account":
        file = str(settings.credentials_file)
        try:
            return google.oauth2.service_account.Credentials.from_service_account_file(
                file, scopes=_SCOPES
            )
        except OSError as error:
            raise InputError(
                f"earth_engine.credentials_file {file} cannot be read: {error.strerror}"
            ) from error
        except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
            raise InputError(
                f"earth_engine.credentials_file {file} is no key of a service account: download "
                "a JSON key from the Google Cloud console"
            ) from error
    if "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ and (own := _client_credentials()):
        return own
    try:
        return google.auth.default(scopes=_SCOPES)[0]
    except google.auth.exceptions.GoogleAuthError as error:
        raise InputError(
            "there are no application default credentials for Earth Engine: run `earthengine "
            "authenticate`, set GOOGLE_APPLICATION_CREDENTIALS, or give "
            "earth_engine.credentials_file"
        ) from error


def _client_credentials() -> Any:
    """Return what `earthengine authenticate` has stored for its own client; None without it."""
    try:
        stored = ee.oauth.get_credentials_arguments()
    except (OSError, ValueError):
        return None
    if not stored.get("refresh_token"):
        return None
    return google.oauth2.credentials.Credentials(None, **stored)


def _read_failure(error: BaseException) -> tuple[int | None, str]:
    """Return the HTTP status, None where there was no answer, and what was said."""
    response = getattr(error.__context__, "resp", None) or getattr(error, "resp", None)
    status = int(response.status) if response is not None else None
    if isinstance(error, google.auth.exceptions.RefreshError):
        status = 401
    message = " ".join(str(error).split()) or type(error).__name__
    return status, message[:500]


def _refusal(settings: EarthEngineSettings, status: int | None, message: str) -> InputError:
    if status is None or classify(status, message) is Failure.TRANSIENT:
        said = message if status is None else f"{status}: {message}"
        return UnreachableError(
            f"earth_engine.endpoint {settings.endpoint} cannot be reached ({said}): check the "
            "address and the network, or start the emulator"
        )
    if status == 401:
        return InputError(
            f"Earth Engine refuses the credentials ({message}): renew them, or use another key"
        )
    return InputError(
        f"Earth Engine refuses project {settings.project} at {settings.endpoint} ({status}: "
        f"{message}): check earth_engine.project, and that its credentials may use the API"
    )


# --- what is asked ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EarthEngineSource:
    """Places on Earth, images from Earth Engine; a `PatchSource`.

    Args:
        places: location id -> where; the ones that will be read suffice.
        products: products to deliver.
        seasons: date windows.
        acquisitions: which images.
        grid_epsg: one zone for all patches; None keeps each tile's own.
        service: how Earth Engine is reached.
        share: of a cluster's request slots; None has them all.
    """

    places: Mapping[str, Place]
    products: tuple[ProductName, ...]
    seasons: SeasonSettings
    acquisitions: AcquisitionSettings
    grid_epsg: int | None
    service: EarthEngineSettings
    share: ClusterShare | None = None
    ledger: Ledger = field(default_factory=Ledger, compare=False)
    reads_under_way: set[threading.Event] = field(default_factory=set, compare=False, repr=False)

    def read_location(self, location_id: str) -> LocationPatches:
        """Read one location.

        Raises:
            TransientError: the service does not answer for now, or not in time.
            InputError: it refuses credentials or project.
        """
        return next(iter(self.read_locations([location_id])))

    def read_locations(self, location_ids: Sequence[str]) -> Generator[LocationPatches, None, None]:
        """Read locations, in order; requests of several are under way at once.

        Raises:
            TransientError: the service does not answer for now, or not in time.
            InputError: it refuses credentials or project.
        """
        session = open_session(self.service, self.share)
        cancelled = threading.Event()
        step = self.service.locations_per_listing
        self.reads_under_way.add(cancelled)
        try:
            listings = [
                session.pool.submit(
                    self._list, session, location_ids[start : start + step], cancelled
                )
                for start in range(0, len(location_ids), step)
            ]
            under_way: deque[_LocationWork] = deque()
            with _turn(session, cancelled):
                for index, location_id in enumerate(location_ids):
                    if len(under_way) >= _LOCATIONS_AHEAD:
                        yield under_way.popleft().finish()
                    listing = listings[index // step].result()[location_id]
                    under_way.append(_LocationWork(self, session, location_id, listing, cancelled))
            # The next batch fills the slots that the last requests of this one leave free.
            while under_way:
                yield under_way.popleft().finish()
        finally:
            cancelled.set()
            self.reads_under_way.discard(cancelled)
            session.gate.return_idle_slots()

    def cancel(self) -> None:
        """Let this source's reads end soon, with `CancelledError`."""
        for cancelled in list(self.reads_under_way):
            cancelled.set()

    def book(self, ledger: Ledger) -> None:
        """Add what a request has cost; called from several threads."""
        with _booking:
            self.ledger.add(ledger)

    def _list(
        self, session: Session, location_ids: Sequence[str], cancelled: threading.Event
    ) -> dict[str, Listing]:
        """List the images around some locations, by one request."""
        with self._booked() as ledger:
            expression = ee.Dictionary(
                {name: self._listing_expression(name) for name in location_ids}
            )

            def question() -> dict[str, Listing]:
                reply = expression.getInfo()
                try:
                    return {name: parse_listing(reply[name]) for name in location_ids}
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UnusableReplyError(f"the listing is damaged: {error}") from error

            try:
                divisible = len(location_ids) > 1
                return session.ask("listing", question, ledger, cancelled, divisible=divisible)
            except AskFailedError as error:
                if error.failure is Failure.TOO_LARGE and len(location_ids) > 1:
                    half = len(location_ids) // 2
                    first = self._list(session, location_ids[:half], cancelled)
                    return first | self._list(session, location_ids[half:], cancelled)
                raise InputError(
                    f"Earth Engine refuses to list the images around location {location_ids[0]}: "
                    f"{error.message}"
                ) from error

    def _listing_expression(self, location_id: str) -> Any:
        place = self.places[location_id]
        windows = self.seasons.windows_of(location_id)
        point = ee.Geometry.Point([place.longitude, place.latitude])
        box = ee.Geometry.Polygon([search_box(place.longitude, place.latitude)], None, False)
        return {
            product: _list_collection(product, point, box, self._spans(product, windows))
            for product in COLUMNS
            if product == "s2_l1c" or product in self.products
        }

    def _spans(self, product: ProductName, windows: Sequence[Window]) -> list[tuple[int, int]]:
        more_ms = 0
        if product == "s1_grd":
            more_ms = math.ceil(self.acquisitions.s1.max_days_apart * MS_PER_DAY)
        return [(window.start_ms - more_ms, window.end_ms + more_ms) for window in windows]

    def fetch(
        self,
        session: Session,
        requests: Sequence[PixelRequest],
        grid: Grid,
        cancelled: threading.Event,
    ) -> _Fetched:
        """Fetch one season; runs in a thread of the session's pool."""
        fetched = _Fetched()
        with self._booked() as ledger:
            waiting = deque(requests)
            while waiting:
                request = waiting.popleft()
                if (
                    request.counted_bytes > self.service.limits.max_response_bytes
                    and len(request.images) > 1
                ):
                    waiting.extendleft(reversed(request.split()))
                    continue
                try:
                    question = _pixel_question(request)
                    divisible = len(request.images) > 1
                    reply = session.ask("pixels", question, ledger, cancelled, divisible=divisible)
                except AskFailedError as error:
                    if error.failure is Failure.TOO_LARGE and len(request.images) > 1:
                        waiting.extendleft(reversed(request.split()))
                    elif error.failure is Failure.DISAPPEARED:
                        fetched.gone.update(_gone_of(request, error.message))
                    else:
                        fetched.failed.update(dict.fromkeys(request.images, error.message))
                    continue
                for product in request.images:
                    fetched.pixels[product] = patch_pixels(product, reply, request.window, grid)
        return fetched

    @contextlib.contextmanager
    def _booked(self) -> Iterator[Ledger]:
        ledger = Ledger()
        try:
            yield ledger
        finally:
            self.book(ledger)


_booking = threading.Lock()


@contextlib.contextmanager
def _turn(session: Session, cancelled: threading.Event) -> Iterator[None]:
    """Wait until no other batch of this process asks for pixels."""
    while not session.turn.acquire(timeout=_TURN_WAIT_S):
        if cancelled.is_set():
            raise CancelledError("the rebuild is stopping")
    try:
        yield
    finally:
        session.turn.release()


def _list_collection(
    product: ProductName, point: Any, box: Any, spans: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Return the expression for one collection around one place: its images, counted and listed."""
    dates = [
        ee.Filter.date(
            datetime.fromtimestamp(start / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            datetime.fromtimestamp(end / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        )
        for start, end in spans
    ]
    images = ee.ImageCollection(PRODUCTS[product].earth_engine_id).filterBounds(point)
    images = images.filter(ee.Filter.Or(*dates) if len(dates) > 1 else dates[0])
    if product == "s1_grd":
        images = images.filter(ee.Filter.eq("instrumentMode", "IW")).filter(
            ee.Filter.eq("resolution_meters", 10)
        )
    columns = COLUMNS[product]

    def describe(image: Any) -> Any:
        image = ee.Image(image)
        if "contains_patch" in columns:
            image = image.set("contains_patch", image.geometry().contains(box, 1))
        if "band_names" in columns:
            image = image.set("band_names", image.bandNames().join(" "))
        if "crs" in columns:
            projection = image.select(LATTICE_BAND[product]).projection()
            image = image.set("crs", projection.crs(), "transform", projection.transform())
        return image

    rows = images.map(describe).reduceColumns(ee.Reducer.toList(len(columns)), list(columns))
    return {"size": images.size(), "rows": rows.get("list")}


def _pixel_question(request: PixelRequest) -> Callable[[], Any]:
    parameters = {
        "expression": _image_expression(request),
        "fileFormat": "NPY",
        "grid": request.window.request_grid,
    }

    def question() -> Any:
        return decode_npy(ee.data.computePixels(parameters), request)

    return question


def _image_expression(request: PixelRequest) -> Any:
    """Return all bands of a request as one image, cast, with masked pixels filled."""
    parts = []
    for name, candidate in request.images.items():
        product = PRODUCTS[name]
        bands = list(product.bands)
        image = ee.Image.load(f"{product.earth_engine_id}/{candidate.id}").select(bands)
        if request.resample_s1 and name == "s1_grd":
            image = _resample_backscatter(image)
        # Beyond the footprint too: a masked pixel's value in a reply is nowhere promised.
        fill = S1_FILL_DB if name == "s1_grd" else product.fill_value
        image = image.unmask(fill, False)
        image = _CASTS[REPLY_DTYPES[name]](image)
        parts.append(image.rename([band_name(name, band) for band in bands]))
    return parts[0] if len(parts) == 1 else ee.Image.cat(*parts)


_CASTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "uint8": lambda image: image.toUint8(),
    "uint16": lambda image: image.toUint16(),
    "float32": lambda image: image.toFloat(),
}


def _resample_backscatter(image: Any) -> Any:
    """Let the service interpolate linear power: decibels do not average.

    The image is the first operand throughout, so that the result keeps its projection and the
    interpolation happens on its own pixels.
    """
    power = image.divide(10).multiply(math.log(10)).exp().resample("bilinear")
    return power.log10().multiply(10)


def _gone_of(request: PixelRequest, message: str) -> set[tuple[ProductName, str]]:
    """Return which image of a request the service no longer has; all, if it does not say."""
    missing = missing_asset(message)
    named: set[tuple[ProductName, str]] = {
        (product, image.id)
        for product, image in request.images.items()
        if missing == f"{PRODUCTS[product].earth_engine_id}/{image.id}"
    }
    return named or {(product, image.id) for product, image in request.images.items()}


# --- one location -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Fetched:
    """What came of one season: pixels, images that are gone, products the service refuses."""

    pixels: dict[ProductName, dict[str, Any]] = field(default_factory=dict)
    gone: set[tuple[ProductName, str]] = field(default_factory=set)
    failed: dict[ProductName, str] = field(default_factory=dict)


_SeasonKey = tuple[Grid, frozenset[tuple[ProductName, str]]]


class _LocationWork:
    """One location under way: its plan, and the requests that carry it out."""

    def __init__(
        self,
        source: EarthEngineSource,
        session: Session,
        location_id: str,
        listing: Listing,
        cancelled: threading.Event,
    ) -> None:
        self._source, self._session, self._cancelled = source, session, cancelled
        self._location_id, self._listing = location_id, listing
        self._gone: Gone = frozenset()
        self._fetches: dict[_SeasonKey, Future[_Fetched]] = {}
        self._begin()

    def _begin(self) -> None:
        """Choose images, and ask for those of every season that has changed."""
        source, place = self._source, self._source.places[self._location_id]
        self._plan: Plan = choose_acquisitions(
            self._listing,
            source.seasons.windows_of(self._location_id),
            source.products,
            source.acquisitions,
            self._gone,
        )
        self._grid: Grid | None = None
        self._keys: list[_SeasonKey | None] = [None] * len(self._plan.seasons)
        anchor = self._plan.anchor
        if anchor is None:
            return
        self._grid = place_grid(place.longitude, place.latitude, anchor, source.grid_epsg)
        by_service = source.acquisitions.s1.reprojection == "service"
        for index, season in enumerate(self._plan.seasons):
            images = season.acquisitions
            if not images:
                continue
            key = self._grid, frozenset((name, image.id) for name, image in images.items())
            self._keys[index] = key
            if key not in self._fetches:
                requests = plan_requests(images, self._grid, anchor, by_service)
                self._fetches[key] = self._session.pool.submit(
                    source.fetch, self._session, requests, self._grid, self._cancelled
                )

    def finish(self) -> LocationPatches:
        """Wait for all seasons; choose again as long as images turn out to be gone."""
        while True:
            fetched = [None if key is None else self._fetches[key].result() for key in self._keys]
            gone = {image for season in fetched if season is not None for image in season.gone}
            if not gone:
                return self._assemble(fetched)
            self._gone |= gone
            self._begin()

    def _assemble(self, fetched: Sequence[_Fetched | None]) -> LocationPatches:
        place, grid = self._source.places[self._location_id], self._grid
        seasons = [
            self._season(index, _Fetched() if found is None else found)
            for index, found in enumerate(fetched)
        ]
        notes = Counter(
            {f"images_{reason.name.lower()}": n for reason, n in self._plan.rejected.items()}
        )
        nan = math.nan
        offset = (0.0, 0.0) if grid is not None else (nan, nan)
        centre = (place.longitude, place.latitude) if grid is None else grid.centre_lon_lat
        return LocationPatches(
            location_id=self._location_id,
            longitude=centre[0],
            latitude=centre[1],
            epsg=0 if grid is None else grid.epsg,
            x_origin=nan if grid is None else grid.x_origin,
            y_origin=nan if grid is None else grid.y_origin,
            georeference_error_m=nan if grid is None else 0.0,
            seasons=tuple(seasons),
            split=place.split,
            offset_20m=offset,
            offset_60m=offset,
            notes=notes,
        )

    def _season(self, index: int, fetched: _Fetched) -> SeasonPatches:
        plan = self._plan.seasons[index]
        patches: dict[ProductName, ProductPatch] = {}
        for product in self._source.products:
            image = plan.acquisitions.get(product)
            if image is None:
                reason = plan.reasons[product]
                patches[product] = ProductPatch(PatchStatus.NO_ACQUISITION, reason)
            elif product in fetched.pixels:
                patches[product] = ProductPatch(
                    PatchStatus.COMPLETE,
                    acquisition=_acquisition(image),
                    pixels=fetched.pixels[product],
                )
            else:
                patches[product] = ProductPatch(
                    PatchStatus.FAILED,
                    StatusReason.SERVICE_ERROR,
                    acquisition=_acquisition(image),
                    detail=f"Earth Engine refuses {image.id}: {fetched.failed[product]}",
                )
        return SeasonPatches(patches)


def _acquisition(image: Candidate) -> Acquisition:
    return Acquisition(
        id=image.id,
        time_ms=image.time_ms,
        cloud_percentage=image.cloud_percentage,
        orbit_pass=image.orbit_pass,
        relative_orbit=image.relative_orbit,
        sun_elevation_deg=image.sun_elevation_deg,
    )
