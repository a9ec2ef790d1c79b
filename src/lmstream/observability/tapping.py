"""/tap of a running host, on loopback alone: rows as lines of JSON, until who listens has enough."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from lmstream.delivery.tasks import end
from lmstream.errors import ConfigError, coded
from lmstream.observability.serving import is_loopback_host
from lmstream.observability.tap import LISTENERS, Filter, Listener, Tap

try:
    from aiohttp import web
except ImportError as _error:
    raise ConfigError.missing("the tap", "consumer") from _error

log: Final = logging.getLogger("lmstream.tap")

QUIET: Final = 1.0
"""Seconds after which who listens is told how much was left out, though no row came."""
_AGAIN: Final = 2.0  # seconds to the next attempt to have a port that is taken
_CLOSE: Final = 1.0  # seconds for connections to end


@contextlib.asynccontextmanager
async def tapped(tap: Tap, host: str, port: int) -> AsyncIterator[None]:
    """Serve the tap while the block lasts. A port that is taken is retried: often it is that of a process that is about
    to end. Raises ConfigError for an address that cannot be used."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _answer(tap, request)

    application = web.Application()
    application.router.add_get("/tap", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE, handler_cancellation=True)
    opening: asyncio.Task[None] | None = None
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise ConfigError("config.invalid", f"endpoints.tap {host}:{port}: {e.strerror or e}") from e
            what = (
                "the tap is off, %s:%d is taken by another process; it is retried, or set endpoints.tap to another port"
            )
            log.warning(what, host, port, extra=coded("config.invalid"))
            opening = asyncio.create_task(_keep_opening(runner, host, port))
        yield
    finally:
        if opening is not None:
            await end(opening, _CLOSE)
        tap.listeners.clear()
        await runner.cleanup()


async def _keep_opening(runner: web.AppRunner, host: str, port: int) -> None:
    while True:
        await asyncio.sleep(_AGAIN)
        with contextlib.suppress(OSError):
            await web.TCPSite(runner, host, port).start()
            return


async def _answer(tap: Tap, request: web.Request) -> web.StreamResponse:
    if not is_loopback_host(request.headers.get("Host", "")):
        # A page in a browser can point its own name at 127.0.0.1, and would then read rows.
        return web.Response(status=421, text="the tap answers to localhost, 127.0.0.1 and [::1] only\n")
    try:
        wanted = msgspec.convert(_asked(request), Filter, strict=False)
    except msgspec.ValidationError as e:
        return web.Response(status=400, text=f"{e}\n")
    listener = tap.listen(wanted)
    if listener is None:
        return web.Response(status=503, text=f"{LISTENERS} listen already\n")
    log.info("somebody looks at rows: %s", request.query_string[:500])
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    try:
        await response.prepare(request)
        await _stream(tap, listener, response)
    finally:
        if listener in tap.listeners:
            tap.listeners.remove(listener)
    return response


def _asked(request: web.Request) -> dict[str, Any]:
    asked: dict[str, Any] = dict(request.query)
    if "mask" in asked:
        asked["mask"] = request.query.getall("mask")
    return asked


async def _stream(tap: Tap, listener: Listener, response: web.StreamResponse) -> None:
    """Rows, and lines that begin with # with what is left out, until there is enough, or nobody listens any more."""
    told = 0
    while listener in tap.listeners and not listener.done:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                await listener.changed.wait()
        listener.changed.clear()
        lines = list(listener.take())
        if listener.left_out != told:
            told = listener.left_out
            lines.append(f"# left out {told}\n".encode())
        if lines:
            await response.write(b"".join(lines))
    await response.write(f"# left out {listener.left_out}\n".encode())
