"""The connection to Earth Engine: credentials, one session per process, retries.

Each process has one session: the client is initialised once, its requests share a pool of
connections and the provider's limits. Retries are ours, so that a broken connection counts like a
503, the time is bounded, and every request is in the ledger.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, get_args

import ee
import ee.oauth
import google.auth
import google.auth.exceptions
import google.oauth2.credentials
import google.oauth2.service_account
from google.auth.credentials import AnonymousCredentials

from groundwork.errors import InputError, TransientError, unknown_choice
from pipeline.errors import UnreachableError
from pipeline.heap import use_one_heap
from pipeline.ledger import Ledger
from pipeline.sources.earth_engine.errors import Failure, classify
from pipeline.sources.earth_engine.http_transport import HttpTransport
from pipeline.sources.earth_engine.pixels import UnusableReplyError
from pipeline.sources.earth_engine.request_gate import ClusterShare, RequestGate
from pipeline.sources.earth_engine.settings import Credentials, EarthEngineSettings

T = TypeVar("T")

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
    match settings.credentials:
        case "none":
            return AnonymousCredentials()
        case "service_account":
            return _service_account(str(settings.credentials_file))
        case "application_default":
            return _application_default()
        case _:
            choices = get_args(Credentials)
            raise unknown_choice("earth_engine.credentials", settings.credentials, choices)


def _service_account(file: str) -> Any:
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


def _application_default() -> Any:
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
