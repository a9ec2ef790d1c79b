"""Tell a collector of a run: all metrics now and then, and spans of batches, from a thread that no run waits for.

The thread asks the event loop for the values, as /metrics is answered there: a loop that does not run gives none.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from lmstream import __version__
from lmstream.errors import ConfigError, LmstreamError, coded
from lmstream.kafka.certificates import text_of
from lmstream.observability import otlp_metrics
from lmstream.observability.batch_spans import BatchSpans
from lmstream.observability.collector import Collector
from lmstream.observability.readings import Readings, Sample
from lmstream.observability.settings import TelemetrySettings

try:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan
except ImportError as _error:
    raise ConfigError.missing("telemetry.endpoint", "otel") from _error

log: Final = logging.getLogger("lmstream.telemetry")

FLUSH: Final = 2.0
"""Seconds that the end of a run waits for the last export; then the thread is left behind."""
SPANS: Final = 5.0
"""Seconds between two exports of spans: what the SDK's own processor takes."""
WAITING: Final = 4_096
"""Spans that wait for their export, at most; the oldest go."""
REQUEST: Final = 512
"""Spans of one request: also the SDK's."""
_ASKED: Final = 1.0  # seconds for the event loop to say its values

_Taken = tuple[list[Sample], tuple[list[int], float], tuple[int, int]]


def secret_headers(settings: TelemetrySettings) -> dict[str, str]:
    """The HTTP headers with their values. Raises ConfigError, which repeats none of them."""
    found = {name: text_of(where, f"telemetry.headers.{name}") for name, where in settings.headers.items()}
    for name, value in found.items():
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise ConfigError("config.invalid", f"telemetry.headers: {name!r} is no name of an HTTP header")
        if not value.isprintable() or not value.isascii():
            what = f"telemetry.headers.{name}: its value has characters that HTTP does not take"
            raise ConfigError("config.invalid", what)
    return found


class Telemetry:
    """`async with Telemetry(settings, readings): ...` in the loop of the run."""

    def __init__(self, settings: TelemetrySettings, readings: Readings) -> None:
        """Raises ConfigError."""
        self._collector = Collector(settings.endpoint, secret_headers(settings), settings.timeout)
        self._settings, self._readings = settings, readings
        self._resource = {
            "service.name": "lmstream",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            **settings.attributes,
        }
        self._waiting: deque[ReadableSpan] = deque(maxlen=WAITING)
        self._spans: BatchSpans | None = None
        if settings.traces:
            self._spans = BatchSpans(settings.traces, self._resource, self._waiting.append, self._fault)
        self._stop, self._ended = threading.Event(), asyncio.Event()
        self._last: _Taken | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="lmstream-telemetry")

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._readings.runtime.assignments.batches = self._spans
        try:
            self._thread.start()
        except RuntimeError as e:  # at a limit of processes or memory: the run does without
            log.warning("no metrics are sent: %s", e, extra=coded("telemetry.unsent"))
            self._ended.set()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        self._readings.runtime.assignments.batches = None
        if self._spans is not None:
            self._spans.close(_code(error))
        self._last = self._take()
        self._stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._ended.wait()

    # In the event loop

    def _take(self) -> _Taken | None:
        """The values of now. What goes wrong here ends no run."""
        try:
            durations = self._readings.request_durations()
            now = time.time_ns()
            began = now - int(self._readings.runtime.snapshot().duration * 1e9)
            return [*self._readings.samples()], ([*durations.counts], durations.total), (began, now)
        except Exception as e:  # noqa: BLE001 - a fault of this is said and costs an export
            self._fault(e)
            return None

    async def _ask(self) -> _Taken | None:
        return self._take()

    # In the thread

    def _work(self) -> None:
        interval = self._settings.interval
        tick = interval if self._spans is None else min(SPANS, interval)
        due = time.monotonic() + interval
        while not self._stop.wait(max(0.0, min(tick, due - time.monotonic()))):
            self._send_spans()
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                self._send_metrics(self._asked())
        self._send_metrics(self._last)
        self._send_spans()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._ended.set)

    def _asked(self) -> _Taken | None:
        question = self._ask()
        try:
            answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:  # the loop is closed
            question.close()
            return None
        try:
            return answer.result(_ASKED)
        except Exception:  # noqa: BLE001 - late, or cancelled with the loop
            answer.cancel()
            return None

    def _send_metrics(self, taken: _Taken | None) -> None:
        if taken is None:
            return
        try:
            self._collector.send("metrics", otlp_metrics.encoded(self._resource, *taken))
        except Exception as e:  # noqa: BLE001 - as above
            self._fault(e)

    def _send_spans(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(REQUEST, len(self._waiting)))]
            try:
                body: bytes = encode_spans(some).SerializeToString()
                if not self._collector.send("traces", body, len(some)):
                    return
            except Exception as e:  # noqa: BLE001 - as above
                self._fault(e)

    def _fault(self, error: Exception) -> None:
        """Say an error of lmstream's own, once."""
        if not self._failed:
            self._failed = True
            what = "metrics or spans could not be made, by an error of lmstream itself; the run continues"
            log.error(what, exc_info=error, extra=coded("bug.unexpected"))


def _code(error: BaseException | None) -> str:
    if error is None or isinstance(error, asyncio.CancelledError):
        return ""
    return error.code if isinstance(error, LmstreamError) else coded("bug.unexpected")["code"]
