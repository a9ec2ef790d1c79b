"""Build what a configuration names: source, sink, place of dead letters, pipeline, and the whole runtime of them."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from lmstream.abilities import InFolder, Journaled, Laned, OnCluster, Stored
from lmstream.aws import asking
from lmstream.config.config import LETTERS, Config
from lmstream.config.plugins import Part
from lmstream.dead_letters import form, letters
from lmstream.delivery import Pipeline, RollPolicy, Settled
from lmstream.engine import Engine
from lmstream.errors import ConfigError, coded
from lmstream.interfaces import DeadLetterSink, Sink, Source
from lmstream.runtime import Progress, Runtime
from lmstream.storage.crash_journal import CrashJournal

log: Final = logging.getLogger("lmstream.run")


def build_source(config: Config) -> Source:
    """Make the source. Nothing connects yet."""
    source: Source = config.need("source").make(limits=config.engine.limits)
    if isinstance(source, Laned):
        source.lanes = lanes_in(config)
    return source


def lanes_in(config: Config) -> int | None:
    """The lanes that a topic is divided into; None when each partition is one, or nothing has lanes."""
    if config.sink is None or not config.sink.traits.claims:
        return None
    lanes: int | None = config.sink.settings.lanes
    return lanes


def build_sink(config: Config) -> Sink | Stored:
    """Make the sink. Nothing connects yet. ConfigError when it keeps nothing of what the source commits."""
    part = config.need("sink")
    if error := unkept(config) or unplaced(config) or unkeyed(config):
        raise error
    sink: Sink | Stored = part.make()
    return sink


def unplaced(config: Config) -> ConfigError | None:
    """Why the sink does not fit the source: rows land exactly once only if records can be read again. A folder takes
    them at least once."""
    part = config.need("sink")
    if not part.traits.claims or config.source is None:
        return None
    if config.source.traits.placed or isinstance(part.settings, InFolder):
        return _laneless(config.source, lanes_in(config))
    what = f"sink.type {part.name} lands rows exactly once, for which its source must be able to read again"
    fix = "use source.type kafka, confluent or files, or another sink (firehose)"
    return ConfigError("config.invalid", f"{what}; source.type {config.source.name} cannot", fix)


def unkeyed(config: Config) -> ConfigError | None:
    """Why the sink does not fit the engine: rows with keys whose dimension rows land nowhere could never be read."""
    part = config.need("sink")
    if not config.engine.dimensions:
        return None
    if part.traits.claims and getattr(part.settings, "format", "") == "parquet":
        what = (
            "engine.dimensions: a file of Parquet has each distinct map once as it is, so that keys would save nothing"
        )
        return ConfigError("config.invalid", what, "leave engine.dimensions out, or set sink.format to gzip or zstd")
    if part.traits.dimensions:
        if not part.traits.partitions or "{metricKey}" in config.engine.path:
            return None
        path = config.engine.path
        what = f"engine.dimensions: engine.path {path!r} has no {{metricKey}}: dimension rows would lie among rows"
        fix = "use a path with {metricKey}, by which the stream tells them apart, or leave engine.dimensions out"
        return ConfigError("config.invalid", what, fix)
    what = f"engine.dimensions: sink.type {part.name} does not land the dimension rows that say what keys stand for"
    return ConfigError("config.invalid", what, "leave engine.dimensions out, so that each row says all of itself")


def _laneless(source: Part, lanes: int | None) -> ConfigError | None:
    if lanes is None or source.traits.lanes:
        return None
    what = f"sink.lanes = {lanes} needs a group that assigns whole lanes, which source.type {source.name} cannot"
    return ConfigError("config.invalid", what, "use source.type kafka, or leave sink.lanes out")


def unkept(config: Config, *, letters: bool = False) -> ConfigError | None:
    """Why the sink does not fit what it reads: it keeps no rows, and their offsets would be committed, or the `letters`
    that they are made of deleted. None when it fits, or when that is what is wanted (run.discard)."""
    part = config.need("sink")
    commits = letters or config.source is None or config.source.traits.commits
    if config.run.discard or not commits or not (part.traits.discards or part.traits.prints):
        return None
    how = f"sink.type {part.name} {'discards' if part.traits.discards else 'only prints'} rows, so nothing keeps them"
    lost = "their letters would be deleted" if letters else "their offsets would be committed"
    fix = "choose a sink that keeps rows (firehose, local), or set run.discard = true to lose them on purpose"
    return ConfigError("config.invalid", f"{how}, and {lost} all the same", fix)


def build_letters(config: Config) -> DeadLetterSink:
    """Make the dead-letter sink. ConfigError when none is chosen and the source is not `files`, or when it takes less
    than the largest letter there can be."""
    part = letters_part(config)
    if part is None:
        fix = (
            "set it (or --dead-letters) to a folder that survives a restart, or set dead_letters.type to letters_s3 or "
            "letters_kafka"
        )
        raise ConfigError("config.invalid", "dead_letters.root is not set", fix)
    sink: DeadLetterSink = part.make(source=None if config.source is None else config.source.settings)
    form.refuse_small(f"dead_letters.type {part.name}", sink.largest, config.engine.limits)
    if config.source is not None and (completed := config.source.traits.letters) is not None:
        return completed(sink, config.source.settings)
    return sink


def letters_part(config: Config) -> Part | None:
    """Answer where dead letters go: for files a folder here, unless the configuration says more."""
    if config.dead_letters is None and config.finite:
        return Part("letters", letters, letters.Settings(root=LETTERS))
    return config.dead_letters


async def check_letters(config: Config) -> None:
    """See, before anything is read, whether dead letters can be written, also the largest. Raises what says why not."""
    sink = build_letters(config)
    try:
        await sink.check()
    finally:
        await sink.close()
    form.refuse_small("the place of dead letters", sink.largest, config.engine.limits)


def _guard(config: Config) -> CrashJournal | None:
    folder = config.run.state_dir
    part = letters_part(config)
    if not folder and part is not None and isinstance(part.settings, InFolder):
        folder = f"{part.settings.folder}/.state"
    return crashes_in(folder, cluster_of(config))


def crashes_in(folder: str, cluster: str) -> CrashJournal | None:
    """The memory of deaths in a folder; None without one, or while its disk is full: a run needs it no more than that.
    Raises ConfigError for any other fault."""
    if not folder:
        return None
    try:
        return CrashJournal(folder, cluster)
    except ConfigError as error:
        if not asking.is_full(error.__cause__):
            raise
        what = "deaths of this process cannot be remembered until the next start: %s"
        log.warning(what, error.detail, extra=coded(asking.FULL))
        return None


def cluster_of(config: Config) -> str:
    """What tells the cluster of this configuration from others: source_id, and the brokers in any order."""
    settings = None if config.source is None else config.source.settings
    brokers = settings.bootstrap if isinstance(settings, OnCluster) else ""
    return " ".join([config.engine.source_id, *sorted(each.strip() for each in brokers.split(","))])


def _outlet(config: Config, sink: Stored) -> Any:
    from lmstream.config.lake import lake_outlet

    return lake_outlet(config, sink)


def build_pipeline(
    config: Config,
    sink: Sink | Stored,
    letters: DeadLetterSink,
    guard: CrashJournal | None,
    *,
    engine: Engine | None = None,
    **more: Any,
) -> Pipeline:
    """Put engine, sink and dead letters together. `engine` stands in for that of the configuration; `more` are what
    only some hosts set: see Pipeline."""
    return Pipeline(
        engine or Engine(config.engine),
        _outlet(config, sink) if isinstance(sink, Stored) else sink,
        letters,
        clock=time.monotonic,
        sleep=asyncio.sleep,
        random=random.random,
        policy=config.delivery,
        budget=config.run.budget_bytes,
        guard=guard,
        **more,
    )


def build_runtime(
    config: Config,
    on_progress: Callable[[Progress], None] | None = None,
    source: Source | None = None,
    on_settled: Settled | None = None,
    dead_letters: DeadLetterSink | None = None,
    engine: Engine | None = None,
) -> Runtime:
    """Put the whole run together; call it in the event loop that runs it. `source`, `dead_letters` and `engine` stand
    in for the configured ones."""
    source = source or build_source(config)
    guard = _guard(config)
    if guard is not None and isinstance(source, Journaled):
        source.journal = guard
    # The pipeline knows better than the default of `rolling` when the budget is small.
    roll = None if config.rolling == RollPolicy() else config.rolling
    letters = dead_letters or build_letters(config)
    how: dict[str, Any] = {"roll": roll, "breaker": config.breaker, "engine": engine}
    pipeline = build_pipeline(config, build_sink(config), letters, guard, **how)
    return Runtime(
        source,
        pipeline,
        clock=time.monotonic,
        policy=config.runtime,
        on_progress=on_progress,
        on_settled=on_settled,
        repeats=isinstance(config.need("sink").settings, InFolder),
    )
