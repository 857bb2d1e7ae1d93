"""HTTP for the Earth Engine client: a pool of the right size, time-outs, and what it cost.

The client accepts an object like ``httplib2.Http``. Its own has no deadline: a stuck request hangs
for ever, and one that trickles outlives any read time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import httplib2
import requests
from requests.adapters import HTTPAdapter

from pipeline.sources.earth_engine.settings import RequestLimits

COMPUTE_HEADERS: Final = ("x-emulator-compute-seconds",)
"""Where a service says how much it computed. Earth Engine itself does so for no single request."""
_CHUNK_BYTES: Final = 1 << 16
_LARGEST_BYTES: Final = 1 << 26
"""More than any reply may have; what a header says is not simply believed."""


@dataclass(slots=True)
class Exchange:
    """What one request of this thread moved."""

    bytes_sent: int = 0
    bytes_received: int = 0
    compute_s: float | None = None


class HttpTransport:
    """An ``httplib2.Http`` for the Earth Engine client, safe to use from many threads."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=limits.max_in_flight, max_retries=0)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)
        self._of_thread = threading.local()

    @property
    def exchange(self) -> Exchange:
        """This thread's newest exchange."""
        found = getattr(self._of_thread, "exchange", None)
        return found if isinstance(found, Exchange) else Exchange()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,
        connection_type: Any = None,
        **_: Any,
    ) -> tuple[httplib2.Response, bytes]:
        """Send a request and read its whole reply.

        Raises:
            ConnectionError: no connection, or it broke, or the reply is shorter than announced.
            TimeoutError: no byte for `read_timeout_s`, or no end after `request_timeout_s`.
        """
        del redirections, connection_type  # Of httplib2; nobody sets them.
        exchange = self._of_thread.exchange = Exchange(bytes_sent=len(body or ""))
        limits = self._limits
        give_up_at = time.monotonic() + limits.request_timeout_s
        try:
            with self._session.request(
                method,
                uri,
                data=body,
                headers=dict(headers or {}),
                timeout=(limits.connect_timeout_s, limits.read_timeout_s),
                stream=True,
            ) as response:
                # Made in its full size: a reply that grows leaves a hole behind at every step.
                content = bytearray(_announced_bytes(response))
                for chunk in response.iter_content(_CHUNK_BYTES):
                    received = exchange.bytes_received
                    content[received : received + len(chunk)] = chunk
                    exchange.bytes_received += len(chunk)
                    if time.monotonic() > give_up_at:
                        raise TimeoutError(
                            f"the reply had not ended after {limits.request_timeout_s:g} s"
                        )
        except requests.exceptions.Timeout as error:
            raise TimeoutError(str(error)) from error
        except requests.exceptions.RequestException as error:
            # urllib3 hides a read time-out in the middle of a body in a ConnectionError.
            if "Read timed out" in str(error):
                raise TimeoutError(str(error)) from error
            raise ConnectionError(str(error)) from error
        for name in COMPUTE_HEADERS:
            if name in response.headers:
                exchange.compute_s = float(response.headers[name])
        answer = httplib2.Response(
            {
                **{name.lower(): value for name, value in response.headers.items()},
                "status": str(response.status_code),
            }
        )
        del content[exchange.bytes_received :]
        # The client wants the text of an error as bytes; pixels are not copied once more.
        return answer, bytes(content) if response.status_code >= 300 else cast("bytes", content)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _announced_bytes(response: requests.Response) -> int:
    """Return how long the body will be, 0 where nobody knows."""
    if "Content-Encoding" in response.headers:
        return 0
    length = response.headers.get("Content-Length", "")
    return min(int(length), _LARGEST_BYTES) if length.isdecimal() else 0
