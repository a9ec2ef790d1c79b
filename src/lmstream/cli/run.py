"""`lmstream run`: any source to any sink, until the source ends or a signal comes."""

import asyncio
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter

from lmstream.abilities import Checkable, Describable, Remarked
from lmstream.aws.asking import PASSING
from lmstream.cli import terminal
from lmstream.cli.ending import broke_off, conclude, counted
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, given
from lmstream.cli.heap import trimmed
from lmstream.cli.signals import heard
from lmstream.cli.status import Reporter
from lmstream.cli.watching import logged, watched
from lmstream.config import Config, build_letters, build_runtime, build_sink, check_letters
from lmstream.config.convert import Text
from lmstream.delivery import Settled
from lmstream.errors import ConfigError, LmstreamError
from lmstream.interfaces import Source
from lmstream.observability.dead_letter_log import LoggingDeadLetterSink
from lmstream.observability.readings import Readings
from lmstream.runtime.loop import Summary

_LAST: Final = 4.0  # seconds beyond the grace to commit, close and leave the group: 25 + 4 is below the 30 of a kill
_PATIENCE: Final = 5.0  # seconds a person waits for a sink whose configuration is wrong


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SourceFlags:
    """Where records come from."""

    source: str | None = None
    """kafka, files, or a module of yours. --files and --bootstrap say it too."""
    files: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = ()
    """File or folder of bundles or dead letters, - for standard input; may be repeated."""
    topic: tuple[str, ...] = ()
    """Topic to read; may be repeated."""
    group: str | None = None
    """Consumer group."""
    start_from: Annotated[Literal["earliest", "latest"] | None, Parameter(name="--from")] = None
    """Where partitions start for which the group has no commit."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings that were given, by key path."""
        kind = self.source or ("files" if self.files else "kafka" if self.topic or self.group else None)
        return given(
            {
                "source.type": kind,
                "source.paths": self.files or None,
                # Records in files have one topic, those in Kafka come from any number.
                "source.topics": (self.topic or None) if kind != "files" else None,
                "source.topic": (self.topic[-1] if self.topic else None) if kind == "files" else None,
                "source.group": self.group,
                "source.start_from": self.start_from,
            }
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SinkFlags:
    """Where rows go."""

    sink: str | None = None
    """firehose, local, stdout, null (files only: delivers nothing), or a module of yours. Or --stream, --landed."""
    landed: Path | None = None
    """Landing folder of the local sink."""
    stream: str | None = None
    """Delivery stream of the firehose sink."""
    region: str | None = None
    """AWS region of the firehose sink."""
    endpoint_url: str | None = None
    """Another endpoint for the firehose sink: a VPC endpoint, or a local one."""
    dead_letters: Path | None = None
    """Folder of dead letters. Default for --files: ./dead-letters."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings that were given, by key path."""
        kind = self.sink or ("local" if self.landed else "firehose" if self.stream else None)
        return given(
            {
                "sink.type": kind,
                "sink.root": self.landed,
                "sink.stream": self.stream,
                "sink.region": self.region,
                "sink.endpoint_url": self.endpoint_url,
                "dead_letters.type": "letters" if self.dead_letters else None,
                "dead_letters.root": self.dead_letters,
            }
        )


_NO_SOURCE: Final = SourceFlags()
NO_SINK: Final = SinkFlags()


def run(
    *,
    workers: int | None = None,
    strict: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    settings: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    source: SourceFlags = _NO_SOURCE,
    broker: BrokerFlags = NO_BROKER,
    sink: SinkFlags = NO_SINK,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Move records from a source to a sink as rows. Offsets are committed only for what is durable.

    Exit 4 when nothing was delivered of the files that were read.

    SIGTERM or Ctrl-C stops cleanly: what is in flight is settled and committed. A second one exits at once.

    Parameters
    ----------
    workers
        Processes, each its own member of the consumer group, or with its share of the files. Default: 1.
    strict
        Exit 4 when some records were dead-lettered or gave no row, or hold members that OTLP metrics do not know.
    as_json
        Print the counts of the run as one JSON object at its end, with --workers one for each.
    settings
        Any other setting, as KEY=VALUE: --set delivery.concurrency=4. May be repeated.
    """
    overrides = {**source.overrides(), **broker.overrides(), **sink.overrides(), **_settings(settings)}
    overrides |= given({"run.workers": workers, "run.strict": True if strict else None})
    if broker.bootstrap:
        overrides.setdefault("source.type", "kafka")
    config = engine.load(overrides)
    if as_json and config.need("sink").traits.prints:
        raise ConfigError("config.invalid", "--json: rows go to standard output already; give --sink or --landed")
    _say_remark(config)
    if config.run.workers > 1:
        from lmstream.cli.workers import check, shares, supervise

        check(config)
        return supervise(
            engine.config, engine.overrides() | overrides, shares(config, config.run.workers), as_json=as_json
        )
    with logged(config, 0):
        return carried_out(config, as_json=as_json)


def carried_out(
    config: Config, *, as_json: bool, worker: int = 0, told: Callable[[Summary], None] | None = None
) -> int:
    """Run to the end and say how it went; answer the exit code. `told` takes the counts of one worker among several:
    that it delivered nothing of its share says nothing about the whole."""
    broken: list[Summary] = []
    try:
        summary = _run_loop(execute(config, worker=worker, broken=broken.append))
        code = conclude(summary, config, alone=told is None)
    except LmstreamError as e:
        if as_json:
            _print_counts(counted(broken[0] if broken else Summary(), worker, e))
        raise
    if told is not None:
        told(summary)
    if as_json:
        _print_counts(counted(summary, worker))
    return code


def _print_counts(counts: dict[str, Any]) -> None:
    """Print the counts; the exit code says what was settled, whoever reads them."""
    with terminal.read_or_not():
        terminal.print_json(counts, indent=None)


def _run_loop(work: Coroutine[Any, Any, Summary]) -> Summary:
    """Run to the end, in a loop of its own."""
    runner = asyncio.Runner()
    try:
        return runner.run(work)
    finally:
        # Its threads are waited for by one more thread; where none can be started, all is said and done all the same.
        with contextlib.suppress(RuntimeError):
            runner.close()


def _say_remark(config: Config) -> None:
    """Pass on what the source remarks."""
    source = config.need("source").settings
    if isinstance(source, Remarked) and (said := source.remark()):
        terminal.say(said)


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise ConfigError("config.invalid", f"--set {text}: expected KEY=VALUE, as in delivery.concurrency=4")
        found[key] = Text(value)
    return found


async def execute(
    config: Config,
    source: Source | None = None,
    on_settled: Settled | None = None,
    worker: int = 0,
    broken: Callable[[Summary], None] | None = None,
) -> Summary:
    """Run to the end of the source, or to a signal. Call it once per process: it takes the signals.

    `source` stands in for the configured one; `on_settled` is told of each record; `worker` is which of several;
    `broken` gets the counts of a run that ends with an error.
    """
    await _check(config)
    interactive = sys.stderr.isatty() or config.finite
    if config.runtime.fatal_patience is None and interactive:
        patient = msgspec.structs.replace(config.runtime, fatal_patience=_PATIENCE)
        config = msgspec.structs.replace(config, runtime=patient)
    reporter = Reporter(config.run.report_seconds)
    # What is read by hand is told of at the end, and lies in a folder beside it.
    told = source is None and not config.finite
    letters = LoggingDeadLetterSink(build_letters(config), time.monotonic) if told else None
    runtime = build_runtime(config, reporter, source, on_settled, letters)
    reporter.readings = Readings(runtime)
    loop = asyncio.get_running_loop()
    parent = multiprocessing.parent_process()
    if parent is not None:  # of a worker: without its parent nobody would ever stop it
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel, runtime.stop)
    try:
        with heard(runtime.stop, config.runtime.grace + _LAST):
            async with watched(config, reporter.readings, worker), trimmed(runtime.pipeline):
                with reporter:
                    return await runtime.run()
    except LmstreamError as e:
        broke_off(runtime.progress(), config, e)
        if broken is not None:
            broken(runtime.progress())
        raise


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int, stop: Callable[[], None]) -> None:
    loop.remove_reader(sentinel)  # readable for good
    stop()


async def _check(config: Config) -> None:
    """Look at sink and dead letters before anything is read, so that a wrong setting costs seconds and not a night.
    What a run that is under way would wait for stops no start."""
    await _passing("dead letters cannot be written just now", check_letters(config))
    sink = build_sink(config)
    try:
        if isinstance(sink, Checkable):
            await _passing("the sink cannot be written just now", sink.check())
        elif isinstance(sink, Describable):
            # A role that may put and not describe is a good role.
            await _passing("the stream cannot be described", sink.describe(), ["sink.denied"])
    finally:
        await sink.close()


async def _passing(what: str, question: Awaitable[object], also: Sequence[str] = ()) -> None:
    try:
        await question
    except LmstreamError as e:
        if e.reason not in {*PASSING, *also}:
            raise
        terminal.say(f"{what}, going on: {e.code} {terminal.clean(e.detail, limit=1000)}")
