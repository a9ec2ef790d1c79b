"""/healthz, /readyz, /metrics and /statusz of a running host, on loopback unless it is told otherwise."""

import asyncio
import logging
import math
import time
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from lmstream import __version__
from lmstream.errors import ConfigError, coded
from lmstream.operations import exposition
from lmstream.operations.logs import LastTrouble
from lmstream.operations.readings import Readings

log: Final = logging.getLogger("lmstream.endpoints")

WATCH: Final = 0.5  # seconds between two looks at how late the loop comes
LATE: Final = 0.1  # seconds later than asked for that are a stall
USUAL: Final = "127.0.0.1:9464"
"""Where endpoints are unless told: the port that OpenTelemetry's exporters use."""


def parsed(address: str) -> tuple[str, int]:
    """Read `host:port`. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - the last port
        raise ConfigError("config.invalid", f"endpoints.address: {address!r} is not host:port")
    return host.strip("[]"), int(port)


class Endpoints:
    """`async with Endpoints(readings, address): ...`; answers as long as the event loop does."""

    def __init__(self, readings: Readings, address: str, *, needed: bool = True) -> None:
        """Raises ConfigError for an address that is none. Unless `needed`, a port that is taken is only said."""
        self._readings = readings
        self._host, self._port = parsed(address)
        self._needed = needed
        self._trouble = LastTrouble()
        self._runner: web.AppRunner | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where they are; empty when they are not."""
        return f"http://{self._host}:{self._port}" if self._runner is not None else ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=0)
        for path, handler in (
            ("/healthz", self._healthz),
            ("/readyz", self._readyz),
            ("/metrics", self._metrics),
            ("/statusz", self._statusz),
        ):
            app.router.add_get(path, handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, keepalive_timeout=5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as e:
            await runner.cleanup()
            what = f"endpoints.address {self._host}:{self._port}: {e.strerror or e}"
            if self._needed:
                raise ConfigError("config.invalid", what) from e
            log.warning("there are no endpoints: %s", what, extra=coded("config.invalid"))
        else:
            self._runner, self._port = runner, runner.addresses[0][1]
        self._watching = asyncio.create_task(self._watch())
        logging.getLogger("lmstream").addHandler(self._trouble)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("lmstream").removeHandler(self._trouble)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(WATCH)
            late = loop.time() - asked - WATCH
            if late > LATE:
                self._readings.stalled(late)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _verdict(*self._readings.alive())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _verdict(*self._readings.ready())

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = exposition.render(self._readings)
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE})

    async def _statusz(self, _request: web.Request) -> web.Response:
        told = status(self._readings) | {"last_error": self._trouble.last}
        body = msgspec.json.format(msgspec.json.encode(told), indent=2)
        return web.Response(body=body + b"\n", content_type="application/json")


def status(readings: Readings) -> dict[str, Any]:
    """Where a run stands, for people."""
    runtime = readings.runtime
    progress = runtime.progress()
    alive, ready = readings.alive(), readings.ready()
    health = getattr(runtime.source, "health", None)
    expiry = readings.certificate_expiry()
    trouble = progress.fatal or progress.trouble
    return {
        "version": __version__,
        "state": runtime.state,
        "alive": alive[0],
        "ready": ready[0],
        "why": ready[1],
        "up_seconds": round(progress.duration, 1),
        "assignment": [each._asdict() for each in readings.partitions()],
        "in_flight": {
            "records": progress.unacked,
            "bytes": progress.in_flight_bytes,
            "budget_bytes": runtime.pipeline.budget,
        },
        "counts": {
            "records": progress.records,
            "understood": progress.understood,
            "empty": progress.empty,
            "undecodable": progress.undecodable,
            "all_skipped": progress.all_skipped,
            "parts_undecodable": progress.parts_undecodable,
            "rows_accepted": progress.rows,
            "dead_letters": progress.dead_letters,
            "tombstones": progress.tombstones,
            "rejected": progress.rejected,
            "skipped": progress.skipped,
            "noted": progress.noted,
            "unknown_members": progress.unknown,
            "retried_packs": progress.retried_packs,
            "unknown_outcomes": progress.unknown_outcomes,
            "commits": progress.commits,
            "commit_failures": progress.commit_failures,
        },
        "sink": {
            "concurrency": runtime.pipeline.delivery.concurrency,
            "requests": dict(runtime.pipeline.delivery.counts.requests),
            "trouble": None if trouble is None else {"code": trouble.code, "message": trouble.message[:500]},
            "paused": progress.fatal is not None,
        },
        "source": None if health is None else msgspec.to_builtins(health),
        "certificate": None
        if expiry is None
        else {
            "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expiry)),
            "days_left": math.floor((expiry - time.time()) / 86_400),
        },
    }


def _verdict(yes: bool, why: str) -> web.Response:  # noqa: FBT001 - the first of a pair
    return web.Response(status=200 if yes else 503, text=f"{'ok' if yes else 'no'}: {why}\n")
