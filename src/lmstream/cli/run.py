"""`lmstream run`: any source to any sink, until the source ends or a signal comes."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter

from lmstream.abilities import Remarked
from lmstream.cli import terminal
from lmstream.cli.ending import broke_off, conclude, counted
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json, given, of_kafka
from lmstream.cli.log_lines import logged
from lmstream.cli.status import Reporter
from lmstream.config import Config
from lmstream.config.plugins import known
from lmstream.config.validation import START
from lmstream.delivery import Settled
from lmstream.errors import ConfigError, LmstreamError
from lmstream.hosts.container.observer import Observer
from lmstream.hosts.container.service import serve
from lmstream.interfaces import Source
from lmstream.runtime import Progress

Counted = Callable[[Progress], None]
PATIENCE: Final = 5.0  # seconds a person waits for a sink whose configuration is wrong


def _no_flag(_: object, files: tuple[str, ...]) -> None:
    """Refuse a flag in the place of a file: `-` is one, and so the parser takes any."""
    if flag := next((each for each in files if each.startswith("--")), None):
        raise ValueError(f"a file or folder is missing before {flag}; one of that name is ./{flag}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SourceFlags:
    """Where records come from."""

    source: str | None = None
    """kafka, files, or your own module. --files and --bootstrap imply it."""
    files: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True, validator=_no_flag)] = ()
    """File or folder of bundles or dead letters, - for standard input; may be repeated."""
    topic: tuple[str, ...] = ()
    """Topic to read; may be repeated."""
    group: str | None = None
    """Consumer group."""
    start_from: Literal["earliest", "latest"] | None = None
    """Where partitions without a committed offset start."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings that were given, by key path."""
        kind = self.source or ("files" if self.files else of_kafka if self.topic or self.group else None)
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


def one_sink(named: str | None, flags: Mapping[str, tuple[object, str]]) -> str | None:
    """The sink that `--sink` or one of `flags` stands for; those have what was given, and the sink. None for neither.
    Raises ConfigError when they stand for two."""
    kinds = {f"--sink {named}": named} if named else {}
    kinds |= {flag: kind for flag, (value, kind) in flags.items() if value}
    # A module of somebody else's may have a setting of the same name.
    if len(set(kinds.values())) > 1 and named in {None, *known("sink")}:
        raise ConfigError("config.invalid", f"{' and '.join(kinds)}: rows go to one sink", "leave out all but one")
    return next(iter(kinds.values()), None)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SinkFlags:
    """Where rows go."""

    sink: str | None = None
    """firehose, local, stdout, null (files only: delivers nothing), or your own module. Or --stream, --landed."""
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
        """Answer the settings that were given, by key path. Raises ConfigError for flags of two sinks."""
        kind = one_sink(self.sink, {"--landed": (self.landed, "local"), "--stream": (self.stream, "firehose")})
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


PRINTS: Final = "--json: rows go to standard output already; give --sink or --landed"
"""Why --json cannot be."""
NO_SOURCE: Final = SourceFlags()
NO_SINK: Final = SinkFlags()


def overrides_of(
    source: SourceFlags, broker: BrokerFlags, sink: SinkFlags, workers: int | None = None
) -> dict[str, Any]:
    """The settings that the flags of a run stand for, by key path."""
    found = {**source.overrides(), **broker.overrides(), **sink.overrides(), **given({"run.workers": workers})}
    if broker.bootstrap:
        found.setdefault("source.type", of_kafka)
    return found


def run(
    *,
    workers: int | None = None,
    strict: bool = False,
    offsets: tuple[str, ...] = (),
    as_json: Json = False,
    source: SourceFlags = NO_SOURCE,
    broker: BrokerFlags = NO_BROKER,
    sink: SinkFlags = NO_SINK,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Consume records and deliver them as rows. Offsets are committed only for rows that are durable.

    Exit 4 if files or --offsets were read but nothing was delivered, or if some of --offsets are not in the topic.

    SIGTERM or Ctrl-C stops cleanly: records in flight are settled and committed. A second one exits at once.

    Parameters
    ----------
    workers
        Number of processes: each is a consumer of the group, or has its share of the files. Default: 1.
    strict
        Exit 4 if some records were dead-lettered or produced no row, or have fields that OTLP metrics do not define.
    offsets
        Read only these offsets again, then end: TOPIC/PARTITION=FROM..TO, without TO itself; may be repeated. Joins no
        group, commits nothing. Into a lake it repairs the claims that have these offsets, and refuses all others.
    as_json
        Print the counts of the run as one JSON object at its end; with --workers one line for each and one of all.
    """
    overrides = overrides_of(source, broker, sink, workers) | given({"run.strict": True if strict else None})
    if offsets:
        from lmstream.cli.offsets import overrides_of as more
        from lmstream.cli.offsets import read_again

        if source.files or source.start_from or (workers or 1) > 1:
            raise ConfigError("config.invalid", "--offsets goes without --files, --start-from and --workers")
        config = engine.load(overrides | more(offsets, source.topic, source.source))
        _refuse_printing(config, as_json=as_json)
        return read_again(config, offsets, as_json=as_json)
    config = engine.load(overrides, START)
    _refuse_printing(config, as_json=as_json)
    _say_remark(config)
    if config.run.workers > 1:
        from lmstream.cli.run_workers import together

        return together(config, engine.config, engine.over(overrides), as_json=as_json)
    with logged(config, 0):
        return carried_out(config, as_json=as_json)


def _refuse_printing(config: Config, *, as_json: bool) -> None:
    if as_json and config.need("sink").traits.prints:
        raise ConfigError("config.invalid", PRINTS)


def carried_out(
    config: Config, *, as_json: bool, worker: int = 0, observer: Observer | None = None, told: Counted | None = None
) -> int:
    """Run to the end and say how it went; answer the exit code. `told` takes the counts of one worker among several:
    that it delivered nothing of its share says nothing about the whole."""
    broken: list[Progress] = []
    try:
        summary = _run_loop(execute(config, worker=worker, broken=broken.append, observer=observer))
        code = conclude(summary, config, alone=told is None)
    except LmstreamError as e:
        if as_json:
            print_counts(counted(broken[0] if broken else Progress(), worker, e))
        raise
    if told is not None:
        told(summary)
    if as_json:
        print_counts(counted(summary, worker))
    return code


def print_counts(counts: dict[str, Any]) -> None:
    """Print the counts; the exit code says what was settled, whoever reads them."""
    with terminal.read_or_not():
        terminal.print_json(counts, indent=None)


def _run_loop(work: Coroutine[Any, Any, Progress]) -> Progress:
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


async def execute(
    config: Config,
    source: Source | None = None,
    on_settled: Settled | None = None,
    worker: int = 0,
    broken: Counted | None = None,
    observer: Observer | None = None,
) -> Progress:
    """Serve a run that a person may look at: see hosts.container.service. `broken` gets the counts of one that ends
    with an error; `observer` stands in for the view of a terminal."""
    if config.runtime.fatal_patience is None and (sys.stderr.isatty() or config.finite):
        patient = msgspec.structs.replace(config.runtime, fatal_patience=PATIENCE)
        config = msgspec.structs.replace(config, runtime=patient)

    def ended(progress: Progress, error: LmstreamError) -> None:
        broke_off(progress, config, error)
        if broken is not None:
            broken(progress)

    return await serve(
        config,
        observer or Reporter(config.run.report_seconds),
        source=source,
        on_settled=on_settled,
        worker=worker,
        broken=ended,
        say=terminal.say,
    )
