"""The checks of `lmstream validate`: arithmetic on a configuration, and questions to what it names."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct, field

from lmstream.abilities import Buffering, Checkable, Describable, Pooled, Timed
from lmstream.aws.asking import PASSING
from lmstream.config.build import build_letters, build_sink, check_letters
from lmstream.config.config import Config
from lmstream.errors import REASONS, LmstreamError
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.partitioning import firehose_prefix, jq_query
from lmstream.settings import MIB

Verdict = Literal["ok", "warning", "failed"]
DAYS: Final = 30
"""Days before its end from which a client certificate is a warning."""
_MEMORY: Final = 2  # times the budget, with the gaps between what comes and goes
_OWN: Final = 80 * MIB  # of a process that has read nothing yet
_KILL: Final = 30.0  # seconds after which Fargate and Kubernetes kill
_AFTER: Final = 4.0  # seconds that a stop takes beyond the grace
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


class Check(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    said: str
    fix: str = field(default="", name="mend")  # the key of `validate --json` stays
    code: str = ""
    """What `lmstream explain` takes, of what failed."""


# Without a connection


def arithmetic(config: Config) -> Iterator[Check]:
    """Numbers that contradict each other, or the machine. Nothing connects."""
    yield organization(config)
    yield from _parts(config)
    yield _memory(config)
    yield from _bombs(config)
    yield from _times(config)
    yield _requests(config)


def organization(config: Config) -> Check:
    """See whether rows can have an organization at all."""
    engine = config.engine
    if engine.org_id or engine.org_by_topic or engine.org_attributes:
        how = engine.org_id or ("by topic" if engine.org_by_topic else f"from {', '.join(engine.org_attributes)}")
        return Check("organization", "ok", how)
    what = "none is set, and LMDP sends none: every point is rejected as org.unresolved"
    return Check("organization", "failed", what, "set engine.org_id, engine.org_by_topic or engine.org_attributes")


def _parts(config: Config) -> Iterator[Check]:
    for name in ("source", "sink"):
        part = getattr(config, name)
        if part is None:
            yield Check(name, "failed", f"{name}.type is not set", f"set {name}.type")
        else:
            yield Check(name, "ok", part.name)
    if config.source is not None:
        try:
            build_letters(config)
        except LmstreamError as e:
            yield Check("dead letters", "failed", e.detail, e.fix)
        else:
            part = config.dead_letters
            yield Check("dead letters", "ok", part.name if part is not None else "letters in ./dead-letters")


def _memory(config: Config) -> Check:
    budget = config.run.budget_bytes
    source = None if config.source is None else config.source.settings
    fetched = source.fetch_bytes if isinstance(source, Buffering) else 0
    needed = _OWN + _MEMORY * budget + config.engine.limits.cache_bytes + fetched
    said = f"about {needed / MIB:,.0f} MiB for each of {config.run.workers} processes at full load"
    limit = _limit()
    if limit is not None and needed * config.run.workers > limit:
        what = f"{said}, and this container may take {limit / MIB:,.0f} MiB"
        return Check("memory", "failed", what, "raise the container's memory, or lower run.budget_bytes or run.workers")
    return Check("memory", "ok", said + ("" if limit is None else f" of {limit / MIB:,.0f} MiB"))


def _bombs(config: Config) -> Iterator[Check]:
    """How much memory batches may take that inflate a thousandfold, where that has no bound."""
    peak = 0 if config.source is None else config.source.traits.unbounded_bytes
    if not peak:
        return
    limit = _limit()
    said = (
        f"its client opens what it fetches whole: {peak / MIB:,.0f} MiB with one partition whose batches inflate "
        "20,000-fold (measured), as much again for each further one; after a death the guarded reader reads them"
    )
    if limit is not None and limit < peak * config.run.workers:
        what = f"{said}; this container may take {limit / MIB:,.0f} MiB"
        yield Check("batches", "warning", what, 'take source.type = "kafka" for producers that you do not trust')
    else:
        yield Check("batches", "ok", said)


def _limit() -> int | None:
    try:
        text = _CGROUP.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _times(config: Config) -> Iterator[Check]:
    source = None if config.source is None else config.source.settings
    sink = None if config.sink is None else config.sink.settings
    runtime, delivery = config.runtime, config.delivery
    rules: list[tuple[bool, str, str]] = [
        (
            runtime.grace + _AFTER <= _KILL,
            f"runtime.grace {runtime.grace:g} s and {_AFTER:g} s to close are under the {_KILL:g} s of a kill",
            "lower runtime.grace, or raise the orchestrator's grace period above it",
        ),
    ]
    if isinstance(sink, Timed):
        call = sink.call_timeout
        rules.append(
            (
                call <= delivery.timeout,
                f"sink.call_timeout {call:g} s is within delivery.timeout {delivery.timeout:g} s",
                "raise delivery.timeout: a request that is given up while it runs has an unknown outcome",
            )
        )
    if isinstance(source, KafkaSettings):
        session, beat = source.session_timeout_ms / 1000, source.heartbeat_interval_ms / 1000
        rebalance, drain = source.rebalance_timeout_ms / 1000, source.drain_timeout_ms / 1000
        rules += [
            (
                3 * beat <= session,
                f"source.heartbeat_interval_ms {beat:g} s is a third of the session of {session:g} s, or less",
                "lower source.heartbeat_interval_ms: one lost heartbeat must not lose the partitions",
            ),
            (
                runtime.drain_timeout < drain < rebalance,
                f"drains: runtime {runtime.drain_timeout:g} s < source {drain:g} s < the group's {rebalance:g} s",
                "keep runtime.drain_timeout < source.drain_timeout_ms < source.rebalance_timeout_ms",
            ),
            (
                delivery.timeout < runtime.drain_timeout,
                f"delivery.timeout {delivery.timeout:g} s fits into runtime.drain_timeout {runtime.drain_timeout:g} s",
                "lower delivery.timeout: what is sent must be answered before partitions are given up",
            ),
        ]
    for good, said, fix in rules:
        yield Check("times", "ok", said) if good else Check("times", "failed", f"not true: {said}", fix)


def _requests(config: Config) -> Check:
    sink = None if config.sink is None else config.sink.settings
    if isinstance(sink, Pooled) and config.delivery.concurrency > sink.concurrency:
        what = f"delivery.concurrency {config.delivery.concurrency} is above sink.concurrency {sink.concurrency}"
        return Check(
            "requests", "failed", what, "requests that wait in the client's pool age their signature: raise it"
        )
    return Check("requests", "ok", f"{config.delivery.concurrency} at once")


# With connections


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
    from lmstream.kafka.connection_probe import knock
    from lmstream.kafka.greeting import greet
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
            await knock(host, port, context, client_cert=bool(settings.cert), lookup=seconds)
            if tls.sasl.used:
                await greet(host, port, tls)
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
                "it is waited for: check its name and the right to see it",
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
        return "the brokers do not say"
    seconds = kept[topic]
    return "no limit of time" if seconds is None else f"{seconds / 3600:,.1f} h: what an outage may last"


def _answers(tls: Any) -> str:
    known = f", and knows us by {tls.sasl.name}" if tls.sasl.used else ""
    return "answers" + (" over TLS" if tls.context else "") + known


def _certificate(expiry: float | None) -> Check:
    if expiry is None:
        return Check("certificate", "ok", "no client certificate")
    left = (expiry - time.time()) / 86_400
    said = f"ends in {left:,.0f} days, on {time.strftime('%Y-%m-%d', time.gmtime(expiry))}"
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
    return [Check("dead letters", "ok", "can be written (a probe was written and removed where that is allowed)")]


def _failed(name: str, error: LmstreamError) -> Check:
    return Check(name, "failed", f"{error.code} {error.detail}", error.fix, error.code)
