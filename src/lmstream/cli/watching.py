"""What surrounds a run that goes on: log lines, endpoints, and what the topics' retention is."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

from lmstream.abilities import Positions
from lmstream.cli import terminal
from lmstream.config import Config
from lmstream.errors import LmstreamError
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.observability.readings import Readings

OFF: Final = "off"
_AGAIN: Final = 3600.0  # seconds between two looks at the retention of the topics
_STILL: Final = 10.0  # seconds between two looks whether partitions are read
_SOON: Final = 60.0  # seconds to the next look when one failed
_log: Final = logging.getLogger("lmstream.run")


@contextlib.contextmanager
def logged(config: Config, worker: int) -> Iterator[None]:
    """Log lines as the settings say. Files are read by hand: their few lines stay plain unless told otherwise."""
    form = config.logs.format
    if form == "auto" and config.finite:
        yield
        return
    from lmstream.observability.logs import handler, logging_to

    json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    made = handler(json=json, worker=worker)
    before = terminal.teller
    if form == "json":
        terminal.teller = partial(_tell, made)
    with logging_to(made, debug=terminal.debugging()):
        yield
    # Not in a `finally`: what broke the run is said after this, and is a line like the others.
    terminal.teller = before


def _tell(made: logging.Handler, text: str) -> None:
    """Make a line of what a run says of itself; what begins as an error's message does is one."""
    level = logging.ERROR if text.startswith("lmstream: ") else logging.INFO
    made.handle(_log.makeRecord(_log.name, level, "", 0, text.removeprefix("lmstream: "), (), None))


@contextlib.asynccontextmanager
async def watched(config: Config, readings: Readings, worker: int) -> AsyncIterator[None]:
    """Serve the endpoints while the run goes on; `worker` counts from 1, 0 is the only process. Raises ConfigError."""
    address = config.endpoints.address
    if address == OFF or (not address and config.finite):
        yield
        return
    from lmstream.observability.endpoints import USUAL, Endpoints, parsed

    host, port = parsed(address or USUAL)
    asking = [asyncio.create_task(ask(config, readings)) for ask in (_ask_retention, _ask_ends)]
    try:
        async with Endpoints(
            readings, f"{host}:{port + max(0, worker - 1) if port else 0}", needed=bool(address)
        ) as at:
            if at.url:
                level = logging.INFO if address else logging.DEBUG
                _log.log(level, "endpoints are at %s: /healthz /readyz /metrics /statusz", at.url)
            yield
    finally:
        for each in asking:
            each.cancel()
        await asyncio.wait(asking)


async def _ask_ends(config: Config, readings: Readings) -> None:
    """Keep where partitions end while they are not read: a client learns it with what it fetches."""
    settings = config.need("source").settings
    if not isinstance(settings, KafkaSettings):
        return
    still = False
    while True:
        await asyncio.sleep(_STILL)
        before, still = still, readings.standing_still
        if before and still:
            try:
                async with asyncio.timeout(30):
                    await look_at_ends(settings, readings)
            except Exception as e:  # noqa: BLE001 - as below
                _log.debug("the ends of the partitions cannot be had: %s: %s", type(e).__name__, e)


async def look_at_ends(settings: Any, readings: Readings) -> None:
    """Ask once. Raises what the client raises."""
    from lmstream.kafka.lag import ends

    source = readings.runtime.source
    standings = source.standings() if isinstance(source, Positions) else {}
    known = {tp: max(each.end or 0, each.next or 0, readings.ends.get(tp, 0)) for tp, each in standings.items()}
    if known:
        readings.ends = await ends(settings, known)


async def _ask_retention(config: Config, readings: Readings) -> None:
    """Keep what the topics' retention is; without it there is no time to data loss, and nothing else is missing."""
    try:
        from lmstream.kafka.admin import admin, retentions
        from lmstream.kafka.tls import Tls
        from lmstream.kafka.topics import Wanted
    except (LmstreamError, ImportError):
        return
    settings = config.need("source").settings
    if not isinstance(settings, KafkaSettings):
        return
    while True:
        wait = _SOON
        try:
            async with asyncio.timeout(30), admin(settings, Tls(settings)) as client:
                assigned = {tp.topic for tp in getattr(readings.runtime.source, "assignment", ())}
                found = await retentions(client, tuple(assigned | Wanted(settings.topics).named))
            readings.retention_ms = {topic: int(1000 * seconds) for topic, seconds in found.items() if seconds}
            wait = _AGAIN
        except Exception as e:  # noqa: BLE001 - whatever a client raises: the run itself says what is wrong with Kafka
            _log.debug("the retention of the topics cannot be had: %s: %s", type(e).__name__, e)
        await asyncio.sleep(wait)
