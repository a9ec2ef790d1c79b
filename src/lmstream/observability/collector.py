"""A collector that takes OTLP over HTTP: one request at a time, each with an end, and one warning while it does not.

By the standard library, not by the exporter of OpenTelemetry: that one bounds no answer that trickles, sleeps and asks
again by itself, logs each failure, and brings eight packages. https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from lmstream import __version__, bounded
from lmstream.errors import coded
from lmstream.settings import KIB
from lmstream.visible import visible

log: Final = logging.getLogger("lmstream.telemetry")

QUIET: Final = 600.0
"""Seconds between two warnings of one signal, at least: a collector that comes and goes is no news each time."""
_ANSWER: Final = 64 * KIB  # bytes; an answer of OTLP is empty, or one sentence
_SAID: Final = 200  # characters of it that are told
_NAMES: Final = {"metrics": "exports", "traces": "spans"}


class _Signal:
    """How it goes with metrics, or with traces."""

    def __init__(self) -> None:
        self.away = self.told = False
        self.said_at = -QUIET
        self.lost = 0


class Collector:
    """Takes requests from one thread."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout` in seconds is for a request with its answer, and once more for the connection before it."""
        url = urlsplit(endpoint)
        self._endpoint = endpoint
        self._tls, self._host, self._port = url.scheme == "https", url.hostname or "", url.port
        self._path = url.path.rstrip("/")
        own = {"Content-Type": "application/x-protobuf", "User-Agent": f"lmstream/{__version__}", "Connection": "close"}
        self._headers = own | dict(headers)
        self._timeout, self._clock = timeout, clock
        self._signals: dict[str, _Signal] = {}

    def send(self, signal: str, body: bytes, many: int = 1) -> bool:
        """Post a request of `many` things for the signal `metrics` or `traces`; whether it was taken. Raises nothing.

        Never repeated: counters come again with the next, and a collector that has too much to do is not asked more.
        """
        why = self._post(f"{self._path}/v1/{signal}", body)
        self._tell(signal, why, many)
        return not why

    def ask(self, signal: str) -> str:
        """Why it would not take this signal; empty when it does. A request with nothing in it is answered like one
        with something: https://opentelemetry.io/docs/specs/otlp/#full-success-1."""
        return self._post(f"{self._path}/v1/{signal}", b"")

    def _post(self, path: str, body: bytes) -> str:
        """Why it was not taken; empty when it was."""
        make = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout)
        # A timeout of a socket is for one call, and an answer that comes byte by byte would take many.
        late = threading.Event()
        end = threading.Timer(self._timeout, _cut, [connection, late])
        end.daemon = True
        try:
            connection.connect()
            end.start()
            connection.request("POST", path, body, self._headers)
            answer = connection.getresponse()
            said = bounded.read(answer, _ANSWER, "its answer", seconds=self._timeout)
        except Exception as e:  # noqa: BLE001 - whatever a socket, a proxy or a wrong answer raises: it costs an export alone
            if not late.is_set() and not isinstance(e, TimeoutError):
                return f"{type(e).__name__}: {visible(str(e)[:_SAID])}"
            late.set()
        finally:
            end.cancel()
            connection.close()
        if late.is_set():  # also where the cut looked like the end of an answer
            return f"no answer within {self._timeout:g} s"
        if 200 <= answer.status < 300:  # noqa: PLR2004 - success, as HTTP has it
            return ""
        words = visible(said.decode(errors="replace").strip()[:_SAID])
        return f"HTTP {answer.status} {visible(answer.reason)}" + (f": {words}" if words else "")

    def _tell(self, signal: str, why: str, many: int) -> None:
        state, now = self._signals.setdefault(signal, _Signal()), self._clock()
        what = "metrics" if signal == "metrics" else "spans"
        if why:
            state.lost += many
            if not state.away and now - state.said_at >= QUIET:
                state.told, state.said_at = True, now
                text = "%s does not take the %s of lmstream itself: %s; the run continues, and the next are tried"
                log.warning(text, self._endpoint, what, why, extra=coded("telemetry.unsent"))
            state.away = True
        elif state.away:
            if state.told:
                text = "%s takes %s again; %d %s were lost"
                log.warning(text, self._endpoint, what, state.lost, _NAMES[signal], extra=coded("telemetry.unsent"))
            state.away, state.told, state.lost = False, False, 0


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End a connection under the thread that waits for it."""
    late.set()
    at = connection.sock
    if at is not None:
        with contextlib.suppress(OSError, ValueError):
            at.shutdown(socket.SHUT_RDWR)
