"""Check what a configuration names by asking it: brokers, topics, group, stream, dead letters. Reads no record."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from lmstream.abilities import Checkable, Describable
from lmstream.aws.asking import PASSING
from lmstream.config.build import build_sink, check_letters
from lmstream.config.config import Config
from lmstream.config.validation import Check
from lmstream.errors import REASONS, LmstreamError
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.partitioning import firehose_prefix, jq_query

DAYS: Final = 30
"""Days before its end from which a client certificate is a warning."""


async def live(config: Config) -> list[Check]:
    """Ask everything that the configuration names; all questions at once, each with its own bound."""
    questions: list[Callable[[Config], Awaitable[list[Check]]]] = [_sink, _letters]
    if config.source is not None and isinstance(config.source.settings, KafkaSettings):
        questions.insert(0, _kafka)
    found = await asyncio.gather(*(ask(config) for ask in questions))
    return [check for checks in found for check in checks]


async def _kafka(config: Config) -> list[Check]:
    from lmstream.kafka import connection as client
    from lmstream.kafka.admin import admin, committed, retentions
    from lmstream.kafka.connection_probe import probe
    from lmstream.kafka.sasl_probe import probe_sasl
    from lmstream.kafka.settings import addresses
    from lmstream.kafka.tls import Tls
    from lmstream.kafka.topics import Wanted

    settings = config.need("source").settings
    checks: list[Check] = []
    try:
        tls = Tls(settings)
        context = await tls.load()
    except LmstreamError as e:
        return [_failed("credentials" if e.reason == "source.sasl" else "certificate", e)]
    checks.append(_certificate(tls.expiry) if context else Check("certificate", "ok", f"none: {settings.security}"))

    async def one(host: str, port: int) -> Check:
        try:
            seconds = settings.startup_timeout_ms / 1000
            await probe(host, port, context, client_cert=bool(settings.cert), lookup=seconds)
            if tls.sasl.used:
                await probe_sasl(host, port, tls)
        except LmstreamError as e:
            return _failed(f"broker {host}:{port}", e)
        return Check(f"broker {host}:{port}", "ok", _answers(tls))

    checks += await asyncio.gather(*(one(*each) for each in addresses(settings.bootstrap)))
    try:
        consumer = await client.connect(settings, group=False, tls=tls)
    except LmstreamError as e:
        return [*checks, _failed("topics", e)]
    try:
        topics = client.topics_of(consumer, settings)
        counts = {topic: len(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        checks += [Check(f"topic {topic}", "ok", f"{count} partitions") for topic, count in counts.items()]
        checks += [
            Check(
                f"topic {topic}",
                "warning",
                "there is none",
                "the run waits for it: check its name and the permission to see it",
            )
            for topic in Wanted(settings.topics).missing(topics)
        ]
        few = sum(counts.values())
        if few < config.run.workers:
            what = f"{config.run.workers} workers share {few} partitions"
            checks.append(Check("workers", "warning", what, "the others are idle: lower run.workers"))
        async with asyncio.timeout(20), admin(settings, tls) as asking:
            await committed(asking, settings.group, [])
            kept = await retentions(asking, topics)
        checks.append(Check(f"group {settings.group}", "ok", "its commits can be read"))
        checks += [Check(f"retention of {topic}", "ok", _kept(kept, topic)) for topic in topics]
    except Exception as e:  # noqa: BLE001 - whatever the client raises is the answer
        fix = "grant READ and DESCRIBE on group and topics, and DESCRIBE_CONFIGS on topics"
        code = REASONS["source.topic"].code
        checks.append(Check(f"group {settings.group}", "failed", f"{code} {type(e).__name__}: {e}", fix, code))
    finally:
        await client.stop(consumer)
    return checks


def _kept(kept: Mapping[str, float | None], topic: str) -> str:
    if topic not in kept:
        return "the brokers do not report it"
    seconds = kept[topic]
    return "no limit of time" if seconds is None else f"{seconds / 3600:,.1f} h: how long an outage may last"


def _answers(tls: Any) -> str:
    known = f", and identifies this client by {tls.sasl.name}" if tls.sasl.used else ""
    return "answers" + (" over TLS" if tls.context else "") + known


def _certificate(expiry: float | None) -> Check:
    if expiry is None:
        return Check("certificate", "ok", "no client certificate")
    left = (expiry - time.time()) / 86_400
    said = f"expires in {left:,.0f} days, on {time.strftime('%Y-%m-%d', time.gmtime(expiry))}"
    if left < DAYS:
        return Check(
            "certificate", "warning", said, "issue a new one and put it in place: it is read without a restart"
        )
    return Check("certificate", "ok", said)


async def _sink(config: Config) -> list[Check]:
    try:
        sink = build_sink(config)
    except LmstreamError as e:
        return [_failed("sink", e)]
    name = config.need("sink").name
    try:
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


def _refused(error: LmstreamError) -> Check:
    if error.reason == "sink.denied":
        fix = (
            "allow firehose:DescribeDeliveryStream, so that the stream can be checked; a run needs only PutRecordBatch"
        )
        return Check("stream", "warning", error.detail, fix)
    if error.reason in PASSING:
        return Check("sink", "warning", f"{error.code} {error.detail}", error.fix)
    return _failed("sink", error)


def _agrees(config: Config, described: Mapping[str, Any]) -> list[Check]:
    """Whether the stream partitions as the engine expects: where the two differ, no query finds the rows."""
    (to, *_) = [each.get("ExtendedS3DestinationDescription", {}) for each in described.get("Destinations", ())] or [{}]
    if not to:
        return []
    parameters = {
        each["ParameterName"]: each["ParameterValue"]
        for one in to.get("ProcessingConfiguration", {}).get("Processors", ())
        for each in one.get("Parameters", ())
    }
    wanted = {
        "prefix": (to.get("Prefix", ""), firehose_prefix(config.engine)),
        "jq query": (parameters.get("MetadataExtractionQuery", ""), jq_query(config.engine)),
        "deaggregation": (parameters.get("SubRecordType", "none"), "JSON"),
        "delimiter": (parameters.get("Delimiter", "none"), "\\n"),
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
        return [_failed("dead letters", e)]
    return [
        Check("dead letters", "ok", "can be written (a test object was written, and deleted where that is allowed)")
    ]


def _failed(name: str, error: LmstreamError) -> Check:
    return Check(name, "failed", f"{error.code} {error.detail}", error.fix, error.code)
