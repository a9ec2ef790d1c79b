"""Serve one run in this process until its source ends or a signal comes: checks, endpoints, memory, and what to ask."""

import asyncio
import contextlib
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from lmstream.abilities import Checkable, Describable, Grouped, InGroup, Telling
from lmstream.aws.asking import PASSING
from lmstream.config import Config, build_letters, build_runtime, build_sink, check_letters
from lmstream.config.plugins import blamed
from lmstream.config.questions import tell_retention
from lmstream.config.validation import REPLAY, START, refuse, remarks
from lmstream.delivery import Settled
from lmstream.errors import LmstreamError
from lmstream.hosts.container.memory import trimmed
from lmstream.hosts.container.observer import Observer
from lmstream.hosts.container.signals import heard
from lmstream.hosts.container.unfailing import Unfailing
from lmstream.hosts.container.watching import watching
from lmstream.interfaces import Source
from lmstream.members import fellows
from lmstream.observability.cloudwatch import telling
from lmstream.observability.dead_letter_log import LoggingDeadLetterSink
from lmstream.observability.readings import Readings
from lmstream.observability.tap import Tap, TappedEngine
from lmstream.runtime import Progress, Runtime

OFF: Final = "off"
LAST: Final = 4.0
"""Seconds beyond the grace to commit, close and leave the group: 25 + 4 is below the 30 of a kill."""
_MEMBERS: Final = 5.0  # seconds to ask for the members of the group
_log: Final = logging.getLogger("lmstream.run")


async def serve(
    config: Config,
    observer: Observer | None = None,
    *,
    source: Source | None = None,
    on_settled: Settled | None = None,
    worker: int = 0,
    broken: Callable[[Progress, LmstreamError], None] | None = None,
    say: Callable[[str], None] = _log.warning,
) -> Progress:
    """Run to the end of the source, or to a signal. Call it once per process: it takes the signals.

    `source` stands in for the configured one; `on_settled` is told of each record; `worker` is which of several, from
    1; `broken` gets the counts of a run that ends with an error, and the error, before it is raised; `say` gets a line
    about what a start skips, and of a stop. Raises ConfigError for all that is wrong, before anything begins.
    """
    if not worker:  # who starts several has looked before
        refuse(config, START if source is None else REPLAY)
        for remark in remarks(config):
            say(remark)
    await _check(config, say)
    # What is read by hand is told of at the end, and lies in a folder beside it.
    told = source is None and not config.finite
    letters = LoggingDeadLetterSink(build_letters(config), time.monotonic) if told else None
    tap = Tap(config.endpoints.tap_mask) if config.endpoints.tap else None
    engine = TappedEngine(config.engine, tap) if tap is not None else None
    view = Unfailing(observer)
    runtime = build_runtime(config, None if observer is None else view, source, on_settled, letters, engine)
    if isinstance(runtime.source, Telling):
        runtime.source.say = say
    if not worker:
        await tell_members(runtime.source, config, say)
    settings = None if config.source is None or source is not None else config.source.settings
    readings = Readings(runtime, group=settings.group if isinstance(settings, InGroup) else None)
    if observer is not None:
        observer.readings = readings
    runtime.on_close = lambda: _say_what_is_left(readings, say)
    loop = asyncio.get_running_loop()
    parent = multiprocessing.parent_process()
    if parent is not None:  # of a worker: without its parent nobody would ever stop it
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel, runtime.stop)
    try:
        with heard(runtime.stop, config.runtime.grace + LAST, say):
            metrics = telling(readings, config.logs.cloudwatch, config.logs.service)
            async with (
                served(config, readings, worker),
                looked_at(config, tap, worker),
                watching(readings),
                trimmed(runtime.pipeline),
                metrics,
                exported(config, readings),
            ):
                with view:
                    return await _run(runtime)
    except LmstreamError as e:
        if broken is not None:
            broken(runtime.progress(), e)
        raise


async def _run(runtime: Runtime) -> Progress:
    try:
        return await runtime.run()
    except Exception as e:
        if (own := blamed(e)) is not None:
            raise own from e
        raise


def _say_what_is_left(readings: Readings, say: Callable[[str], None]) -> None:
    if left := readings.last_words():
        say(left)


async def tell_members(source: object, config: Config, say: Callable[[str], None]) -> None:
    """Say who shares the group of a source that is about to join it. That nobody answers stops no start: the start
    itself says why."""
    if not isinstance(source, Grouped):
        return
    try:
        async with asyncio.timeout(_MEMBERS):
            found = await source.members()
    except Exception as e:  # noqa: BLE001 - whatever a client raises
        _log.debug("the members of the group are not known: %s: %s", type(e).__name__, e)
        return
    if found:
        settings = config.need("source").settings
        group = f"group {settings.group}" if isinstance(settings, InGroup) else "the group"
        others = f"{len(found)} other member{'s' * (len(found) > 1)}"
        say(f"{group} has {others}, and divides the topics among all: {fellows(found)}")


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int, stop: Callable[[], None]) -> None:
    loop.remove_reader(sentinel)  # readable from then on
    stop()


async def _check(config: Config, say: Callable[[str], None]) -> None:
    """Look at sink and dead letters before anything is read, so that a wrong setting costs seconds and not a night.
    What a run that is under way would wait for stops no start."""
    await _passing(say, "dead letters cannot be written at the moment", check_letters(config))
    sink = build_sink(config)
    try:
        if isinstance(sink, Checkable):
            await tell_retention(config, sink)
            await _passing(say, "the sink cannot be written at the moment", sink.check())
        elif isinstance(sink, Describable):
            # A role that may put and not describe is a good role.
            await _passing(say, "the stream cannot be described", sink.describe(), ["sink.denied"])
    finally:
        await sink.close()


async def _passing(
    say: Callable[[str], None], what: str, question: Awaitable[object], also: Sequence[str] = ()
) -> None:
    try:
        await question
    except LmstreamError as e:
        if e.reason not in {*PASSING, *also}:
            raise
        say(f"{what}, continuing: {e.code} {e.detail[:1000]}")


@contextlib.asynccontextmanager
async def served(config: Config, readings: Readings, worker: int) -> AsyncIterator[None]:
    """Serve the endpoints while the run lasts; `worker` counts from 1, 0 is the only process. Raises ConfigError."""
    address = config.endpoints.address
    if address == OFF or (not address and config.finite):
        yield
        return
    from lmstream.observability.endpoints import USUAL, Endpoints, parsed  # noqa: PLC0415 - an extra

    host, port = parsed(address or USUAL)
    async with Endpoints(readings, f"{host}:{port + max(0, worker - 1) if port else 0}", needed=bool(address)) as at:
        if at.url:
            level = logging.INFO if address else logging.DEBUG
            _log.log(level, "endpoints are at %s: /healthz /readyz /metrics /statusz", at.url)
        yield


@contextlib.asynccontextmanager
async def looked_at(config: Config, tap: Tap | None, worker: int) -> AsyncIterator[None]:
    """Serve the tap while the run lasts, where there is one. Raises ConfigError."""
    at = config.endpoints.tap_at
    if tap is None or at is None:
        yield
        return
    from lmstream.observability.tapping import tapped  # noqa: PLC0415 - an extra

    async with tapped(tap, at[0], at[1] + max(0, worker - 1) if at[1] else 0):
        yield


@contextlib.asynccontextmanager
async def exported(config: Config, readings: Readings) -> AsyncIterator[None]:
    """Send metrics and spans to a collector while the run lasts, where there is one. Raises ConfigError."""
    if not config.telemetry.endpoint:
        yield
        return
    from lmstream.observability.telemetry import Telemetry  # noqa: PLC0415 - an extra

    async with Telemetry(config.telemetry, readings):
        yield
