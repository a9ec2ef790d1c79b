"""/healthz, /readyz, /metrics and /statusz of a running host, on loopback unless it is told otherwise."""

import asyncio
import contextlib
import errno
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from lmstream import __version__
from lmstream.behind import Behind, utc
from lmstream.errors import ConfigError, coded
from lmstream.native import engine
from lmstream.observability import prometheus
from lmstream.observability.logs import LastTrouble
from lmstream.observability.metrics_catalogue import values
from lmstream.observability.proof_readings import ProofReadings
from lmstream.observability.readings import Readings
from lmstream.observability.serving import Answer, Server
from lmstream.visible import visible

log: Final = logging.getLogger("lmstream.endpoints")

WATCH: Final = 0.5  # seconds between two looks at how late the loop comes
LATE: Final = 0.1  # seconds later than asked for that are a stall
USUAL: Final = "127.0.0.1:9464"
"""Where endpoints are unless told: the port that OpenTelemetry's exporters use."""
_FIRST, _LONGEST = 1.0, 30.0  # seconds between two attempts to have a port that is taken
_HEARD: Final = 1.0  # seconds for who has it to say so
SHARE: Final = 20
"""Making an answer takes at most one part in so many of the time: asked more often, the last is sent again.
A body that took 3 ms to make is 60 ms old at most."""


def parsed(address: str, said_as: str = "endpoints.address") -> tuple[str, int]:
    """Read `host:port`; `said_as` is the setting or flag that has it. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - the last port
        what = f"{said_as}: {address!r} is not host:port, as in {USUAL}"
        raise ConfigError("config.invalid", what)
    return host.strip("[]"), int(port)


class Endpoints:
    """`async with Endpoints(readings, address): ...`; answers as long as the event loop does."""

    def __init__(self, readings: Readings | ProofReadings, address: str, *, needed: bool = True) -> None:
        """Raises ConfigError for a text that is not an address. Unless `needed`, an address that cannot be used is only
        logged; a port that is taken is retried in any case."""
        self._readings = readings
        self._address = address
        self._host, self._port = parsed(address)
        self._needed = needed
        self._trouble = LastTrouble()
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: dict[str, Callable[[], Answer]] = {
            "/healthz": _sparing(self._healthz),
            "/readyz": _sparing(self._readyz),
            "/metrics": _sparing(self._metrics),
            "/statusz": _sparing(self._statusz),
        }

    @property
    def url(self) -> str:
        """Where they are; empty when they are not."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}" if self._server is not None else ""

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except OSError as e:
            if self._needed and e.errno != errno.EADDRINUSE:
                raise ConfigError("config.invalid", f"endpoints.address {self._address}: {e.strerror or e}") from e
            self._tasks.append(asyncio.create_task(self._keep_opening(e)))
        self._tasks.append(asyncio.create_task(self._watch()))
        logging.getLogger("lmstream").addHandler(self._trouble)
        return self

    async def _open(self) -> None:
        server = Server(self._answer)
        self._port = await server.open(self._host, self._port)
        self._server = server

    async def _keep_opening(self, error: OSError) -> None:
        """Try until the port is free: often it is that of a process that is about to end. Says what changes."""
        told, wait = "", _FIRST
        while self._server is None:
            why = f"it is taken by {await _holder(self._host, self._port)}" if error.errno == errno.EADDRINUSE else ""
            why = why or error.strerror or str(error)
            if why != told:
                told, fix = why, "it is retried; or set endpoints.address to another port"
                log.warning("endpoints are off, %s: %s; %s", self._address, why, fix, extra=coded("config.invalid"))
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST)
            try:
                await self._open()
            except OSError as e:
                error = e
        log.warning("endpoints are at %s now", self.url, extra=coded("config.invalid"))

    async def __aexit__(self, *_: object) -> None:
        logging.getLogger("lmstream").removeHandler(self._trouble)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(WATCH)
            late = loop.time() - asked - WATCH
            if late > LATE:
                self._readings.stalled(late)

    def _answer(self, path: str) -> Answer | None:
        making = self._answers.get(path)
        return making() if making is not None else None

    def _healthz(self) -> Answer:
        return self._verdict(*self._readings.alive())

    def _readyz(self) -> Answer:
        ready = self._readings.ready()
        return self._verdict(ready.ready, str(ready))

    def _verdict(self, yes: bool, why: str) -> Answer:  # noqa: FBT001 - the first of a pair
        lines = [f"{'ok' if yes else 'no'}: {why}", self._readings.behind(), self._readings.who]
        return Answer(200 if yes else 503, "".join(f"{line}\n" for line in lines if line).encode())

    def _metrics(self) -> Answer:
        readings = self._readings
        body = prometheus.render(readings) if isinstance(readings, Readings) else readings.metrics()
        return Answer(200, body, prometheus.CONTENT_TYPE)

    def _statusz(self) -> Answer:
        readings = self._readings
        found = status(readings) if isinstance(readings, Readings) else readings.status()
        told = found | {"last_error": self._trouble.last}
        body = msgspec.json.format(msgspec.json.encode(told), indent=2)
        return Answer(200, body + b"\n", "application/json")


def _sparing(make: Callable[[], Answer]) -> Callable[[], Answer]:
    """Make an answer anew only when that keeps within its share of the time."""
    last: Answer | None = None
    stale = 0.0

    def answer() -> Answer:
        nonlocal last, stale
        began = time.monotonic()
        if last is None or began >= stale:
            last = make()
            done = time.monotonic()
            stale = done + (done - began) * SHARE
        return last

    return answer


def status(readings: Readings) -> dict[str, Any]:
    """Where a run stands, for people."""
    run = readings.runtime.snapshot()
    seen = run.pipeline
    alive, ready = readings.alive(), readings.ready()
    health = readings.health
    expiry = readings.certificate_expiry()
    trouble = seen.fatal or seen.letters_trouble or seen.sink_trouble
    return {
        "version": __version__,
        "engine": engine(),
        "pid": os.getpid(),
        "group": readings.group,
        "state": run.state,
        "alive": alive[0],
        "ready": ready.ready,
        "why": ready.why,
        "not_ready_since": None if ready.since is None else utc(ready.since),
        "up_seconds": round(run.duration, 1),
        "behind": readings.behind(),
        "assignment": [_partition(each) for each in readings.partitions()],
        "in_flight": {
            "records": seen.in_flight,
            "rows": seen.counts.rows_in_flight,
            "bytes": seen.in_flight_bytes,
            "budget_bytes": seen.budget,
        },
        "counts": {metric.status: value for metric, value in values(seen.counts, run) if metric.status}
        | {"unknown_members": list(seen.unknown)},
        "sums": msgspec.to_builtins(seen.counts.sums),
        "sink": {
            "concurrency": seen.concurrency,
            "requests": dict(seen.counts.requests),
            "trouble": None if trouble is None else {"code": trouble.code, "message": trouble.message[:500]},
            "paused": seen.fatal is not None,
        },
        "source": None if health is None else msgspec.to_builtins(health),
        "certificate": None
        if expiry is None
        else {
            "expires": utc(expiry),
            "days_left": math.floor((expiry - time.time()) / 86_400),
        },
    }


def _partition(each: Behind) -> dict[str, Any]:
    told = msgspec.to_builtins(each)
    names = {"records": "lag_records", "seconds": "lag_seconds", "loss": "loss_seconds"}
    return {names.get(name, name): value for name, value in told.items()}


async def _holder(host: str, port: int) -> str:
    """Who listens there, as far as it says so."""
    said: list[str] = []
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_HEARD):
            one = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - it listens on all
            reader, writer = await asyncio.open_connection(one, port)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                said = (await reader.read(2_000)).decode(errors="replace").splitlines()
            finally:
                writer.transport.abort()
    return visible(next((line for line in said if line.startswith("lmstream ")), "another process"))
