"""Check what a configuration names by asking it: brokers, topics, group, stream, dead letters. Reads no record."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lmstream.abilities import Askable, Check, Checkable, Describable, Outliving, Retained
from lmstream.aws.asking import PASSING
from lmstream.aws.described_stream import stream_facts
from lmstream.behind import longest
from lmstream.config.build import build_sink, build_source, check_letters
from lmstream.config.config import Config
from lmstream.errors import REASONS, LmstreamError
from lmstream.partitioning import firehose_prefix, jq_query

_log: Final = logging.getLogger("lmstream.run")
_PATIENCE: Final = 30.0
"""Seconds for brokers to say how long topics keep records."""


async def live(config: Config) -> list[Check]:
    """Ask everything that the configuration names; all questions at once, each with its own bound."""
    found = await asyncio.gather(_source(config), _sink(config), _letters(config), _collector(config))
    return [check for checks in found for check in checks]


async def _source(config: Config) -> Sequence[Check]:
    try:
        source = build_source(config)
    except LmstreamError as e:
        return [Check.refused("source", e)]
    try:
        return await source.questions(config.run.workers) if isinstance(source, Askable) else []
    finally:
        await source.close()


async def _sink(config: Config) -> list[Check]:
    try:
        sink = build_sink(config)
    except LmstreamError as e:
        return [Check.refused("sink", e)]
    name = config.need("sink").name
    try:
        if isinstance(sink, Askable):
            await tell_retention(config, sink)
            return list(await sink.questions(config.run.workers))
        if isinstance(sink, Describable):
            described = await sink.describe()
            return [
                Check(f"stream {described.get('DeliveryStreamName', name)}", "ok", "is ACTIVE"),
                *_agrees(config, described),
            ]
        if isinstance(sink, Checkable):
            await sink.check()
            return [Check(f"sink {name}", "ok", "can be written")]
    except LmstreamError as e:
        return [_refused(e)]
    finally:
        await sink.close()
    return [Check(f"sink {name}", "ok", "nothing to ask")]


async def tell_retention(config: Config, sink: object) -> None:
    """Tell a sink that has to know how long the topics keep records, where brokers say. Raises nothing of theirs."""
    if not isinstance(sink, Outliving) or config.source is None:
        return
    source = build_source(config)
    try:
        if isinstance(source, Retained):
            async with asyncio.timeout(_PATIENCE):
                sink.retention = longest((await source.retentions()).values())
    except Exception as e:  # noqa: BLE001 - whatever a client raises: the source's own checks say what is wrong with it
        _log.debug("retention is not known: %s: %s", type(e).__name__, e)
    finally:
        await source.close()


def _refused(error: LmstreamError) -> Check:
    if error.reason == "sink.denied":
        fix = (
            "allow firehose:DescribeDeliveryStream, so that the stream can be checked; a run needs only PutRecordBatch"
        )
        return Check("stream", "warning", error.detail, fix)
    if error.reason in PASSING:
        return Check("sink", "warning", f"{error.code} {error.detail}", error.fix)
    return Check.refused("sink", error)


def _agrees(config: Config, described: Mapping[str, Any]) -> list[Check]:
    """Whether the stream partitions as the engine expects: where the two differ, no query finds the rows."""
    stream = stream_facts(described)
    if stream is None:
        return []
    wanted = {
        "prefix": (stream.prefix, firehose_prefix(config.engine)),
        "jq query": (stream.query, jq_query(config.engine)),
        "deaggregation": (stream.records, "JSON"),
        "delimiter": (stream.delimiter, "\\n"),
    }
    checks = []
    for name, (has, needs) in wanted.items():
        if has == needs:
            checks.append(Check(f"stream's {name}", "ok", "is the engine's"))
        else:
            fix = "change the stream (or engine.path): rows would land where no query looks, or in the error prefix"
            checks.append(Check(f"stream's {name}", "failed", f"is {has!r}, the engine needs {needs!r}", fix))
    return checks


async def _letters(config: Config) -> list[Check]:
    try:
        await check_letters(config)
    except LmstreamError as e:
        if e.reason in PASSING:
            return [Check("dead letters", "warning", f"{e.code} {e.detail}", e.fix)]
        return [Check.refused("dead letters", e)]
    return [
        Check("dead letters", "ok", "can be written (a test object was written, and deleted where that is allowed)")
    ]


async def _collector(config: Config) -> list[Check]:
    """Whether the collector takes what a run would tell it. A run continues without: so it is a warning."""
    settings = config.telemetry
    if not settings.endpoint:
        return []
    try:
        from lmstream.observability.collector import Collector
        from lmstream.observability.telemetry import secret_headers

        collector = Collector(settings.endpoint, secret_headers(settings), settings.timeout)
    except LmstreamError as e:
        return [Check.refused("telemetry", e)]
    signals = ["metrics", *(["traces"] if settings.traces else [])]
    checks = []
    for signal in signals:
        why = await asyncio.to_thread(collector.ask, signal)
        name = f"collector {settings.endpoint}"
        if why:
            fix = "correct telemetry.endpoint or telemetry.headers; a run continues without its collector"
            reason = REASONS["telemetry.unsent"].code
            checks.append(Check(name, "warning", f"{reason} does not take {signal}: {why}", fix, reason))
        else:
            checks.append(Check(name, "ok", f"takes {signal}"))
    return checks
