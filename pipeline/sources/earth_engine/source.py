"""Patches from Earth Engine: the work of each location, from its listing to its pixels."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from groundwork.errors import InputError
from pipeline.grids import Grid
from pipeline.ledger import Ledger
from pipeline.patches import Acquisition, LocationPatches, Place, ProductPatch, SeasonPatches
from pipeline.sources.date_windows import MS_PER_DAY, SeasonSettings, Window
from pipeline.sources.earth_engine.acquisitions import (
    Candidate,
    Listing,
    Plan,
    choose_acquisitions,
)
from pipeline.sources.earth_engine.client import AskFailedError, Session, open_session
from pipeline.sources.earth_engine.collections import ANCHOR, COLLECTIONS
from pipeline.sources.earth_engine.errors import Failure, missing_asset
from pipeline.sources.earth_engine.expressions import (
    ListingRequest,
    listing_question,
    pixel_question,
)
from pipeline.sources.earth_engine.listing import parse_listing
from pipeline.sources.earth_engine.pixels import (
    PixelRequest,
    UnusableReplyError,
    patch_pixels,
    place_grid,
    plan_requests,
)
from pipeline.sources.earth_engine.request_gate import CancelledError, ClusterShare
from pipeline.sources.earth_engine.settings import AcquisitionSettings, EarthEngineSettings
from storage_schema.products import PRODUCTS, Pairing, ProductName
from storage_schema.status import PatchStatus, StatusReason

Gone = frozenset[tuple[ProductName, str]]

_TURN_WAIT_S: Final = 0.2
_LOCATIONS_AHEAD: Final = 12
"""Locations whose pixels are under way or wait for their turn: 48 requests, more than may be in
flight, and at most 12 x 7.6 MB of decoded patches."""


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
        send = listing_question({name: self._listing_request(name) for name in location_ids})

        def question() -> dict[str, Listing]:
            reply = send()
            try:
                return {name: parse_listing(reply[name]) for name in location_ids}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UnusableReplyError(f"the listing is damaged: {error}") from error

        with self._booked() as ledger:
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

    def _listing_request(self, location_id: str) -> ListingRequest:
        place = self.places[location_id]
        windows = self.seasons.windows_of(location_id)
        spans = {
            product: self._spans(product, windows)
            for product in COLLECTIONS
            if product == ANCHOR or product in self.products
        }
        return ListingRequest(place.longitude, place.latitude, spans)

    def _spans(self, product: ProductName, windows: Sequence[Window]) -> list[tuple[int, int]]:
        more_ms = 0
        if PRODUCTS[product].pairing is Pairing.NEAREST_IN_TIME:
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
                    question = pixel_question(request)
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


def _gone_of(request: PixelRequest, message: str) -> set[tuple[ProductName, str]]:
    """Return which image of a request the service no longer has; all, if it does not say."""
    missing = missing_asset(message)
    named: set[tuple[ProductName, str]] = {
        (product, image.id)
        for product, image in request.images.items()
        if missing == f"{PRODUCTS[product].earth_engine_id}/{image.id}"
    }
    return named or {(product, image.id) for product, image in request.images.items()}


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
        by_service = source.acquisitions.s1.by_service
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
