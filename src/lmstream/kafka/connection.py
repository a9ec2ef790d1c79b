"""Connect to Kafka: a start that says exactly what is wrong, and a stop that always comes back."""

import asyncio
import contextlib
import difflib
import inspect
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    kafka_errors,
)

from lmstream.delivery.tasks import end
from lmstream.errors import ConfigError, LmstreamError, SourceError, refuse
from lmstream.kafka._response_bound import ResponseBound
from lmstream.kafka.connection_probe import any_of, probe
from lmstream.kafka.group.lost import LostError
from lmstream.kafka.lane_assignor import lane_assignor
from lmstream.kafka.sasl_probe import probe_sasl_any
from lmstream.kafka.settings import Settings, addresses, client_settings
from lmstream.kafka.tls import Tls
from lmstream.kafka.topics import Wanted, present

_PARAMETERS: Final = inspect.signature(AIOKafkaConsumer.__init__).parameters


class FencedInstanceIdError(BrokerResponseError):  # type: ignore[misc] # aiokafka is untyped
    """Another member has our group.instance.id. aiokafka has no name for it, and calls it unknown like all others."""

    errno = 82


kafka_errors.setdefault(FencedInstanceIdError.errno, FencedInstanceIdError)

_ASK: Final = 10.0  # seconds for an answer about topics
_STOP: Final = 5.0  # seconds for a consumer to leave its group


async def connect(
    settings: Settings,
    *,
    group: bool,
    tls: Tls | None = None,
    uncommitted: bool = False,
    lanes: int | None = None,
) -> AIOKafkaConsumer:
    """Start a consumer that reads nothing yet, in the group or without one. All topics are there then.

    `tls` is that of a source that renews its certificate; without one, it is loaded here and stays as it is.
    `uncommitted` reads records of open and aborted transactions too: to look at them, never to make rows of them.
    `lanes` has the group assign whole lanes (`LaneAssignor`).
    Raises ConfigError or SourceError (unreachable, tls, topic) within about the start-up timeout, or twice that where
    names take as long to look up: the client looks them up again.
    """
    ResponseBound.allow(settings.fetch_bytes, settings.batch_bytes)
    tls = tls or Tls(settings)
    async with reached(settings, tls):
        return await _started(settings, tls, group=group, uncommitted=uncommitted, lanes=lanes)


@contextlib.asynccontextmanager
async def connected(settings: Settings, **how: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group for the time of the block; `how` is as of `connect`.

    Raises ConfigError or SourceError, also for what the client raises in the block.
    """
    consumer = await connect(settings, group=False, **how)
    try:
        yield consumer
    except (KafkaError, TimeoutError) as error:
        raise SourceError(*explained(error)) from error
    finally:
        await stop(consumer)


@contextlib.asynccontextmanager
async def reached(settings: Settings, tls: Tls) -> AsyncIterator[None]:
    """Load what makes us known, and see that a broker lets us in; then start a client within the block.

    Raises ConfigError or SourceError that say exactly what is wrong, also for a block that takes too long.
    """
    found, seconds = addresses(settings.bootstrap), settings.startup_timeout_ms / 1000
    try:
        async with asyncio.timeout(seconds):
            context = await tls.load()
        mtls = bool(settings.cert)
        await any_of(found, lambda host, port: probe(host, port, context, client_cert=mtls, lookup=seconds))
        async with asyncio.timeout(seconds):
            await probe_sasl_any(found, tls)
            yield
    except TimeoutError as error:
        raise SourceError("source.unreachable", f"{settings.bootstrap}: no connection before the timeout") from error


async def _started(
    settings: Settings, tls: Tls, *, group: bool, uncommitted: bool, lanes: int | None
) -> AIOKafkaConsumer:
    options: dict[str, Any] = {
        "client_id": "lmstream",
        "metadata_max_age_ms": settings.topics_refresh_ms,
        **_free(settings),
        "check_crcs": False,  # a batch is looked at once, before the client sees it (`taker`)
        "bootstrap_servers": settings.bootstrap,
        "group_id": settings.group if group else None,
        "enable_auto_commit": False,
        # "none": a partition without a commit is placed by us, an offset that is gone is an error and not a jump.
        "auto_offset_reset": "none",
        "isolation_level": "read_uncommitted" if uncommitted else "read_committed",
        "fetch_max_bytes": settings.fetch_bytes,
        "max_partition_fetch_bytes": settings.partition_bytes,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.heartbeat_interval_ms,
        "rebalance_timeout_ms": settings.rebalance_timeout_ms,
        "request_timeout_ms": settings.request_timeout_ms,
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        **tls.options,
        "client_rack": settings.client_rack or None,
    }
    if lanes is not None:
        options["partition_assignment_strategy"] = (lane_assignor(lanes),)
    if not group:
        options.pop("group_instance_id", None)
    try:
        consumer = AIOKafkaConsumer(**options)
    except (TypeError, ValueError, KafkaError) as error:
        raise ConfigError("config.invalid", f"client: aiokafka refuses its settings: {error}") from error
    try:
        await consumer.start()
        there = await present(consumer.topics, settings)
        # topics() looks without remembering: Apache Kafka tells the partitions only of topics that the client asks for.
        # Never of one that is not there: brokers that make topics when they are asked for would make it.
        wanted = sorted(Wanted(settings.topics).of(there))
        await consumer._client.set_topics(wanted)  # noqa: SLF001 - no public way without a subscription
    except LmstreamError:
        await stop(consumer)
        raise
    except (KafkaError, OSError) as error:
        named = ", ".join(f"{b.host}:{b.port}" for b in consumer._client.cluster.brokers())  # noqa: SLF001 - not public
        await stop(consumer)
        detail = f"{settings.bootstrap} responds, but the brokers it names do not ({named or 'none'}): {error}"
        raise SourceError("source.unreachable", detail) from error
    except BaseException:
        await stop(consumer)
        raise
    return consumer


def topics_of(consumer: AIOKafkaConsumer, settings: Settings) -> tuple[str, ...]:
    """The topics of the settings that the client knows, patterns replaced by what matches them."""
    known: set[str] = consumer._client.cluster.topics()  # noqa: SLF001 - there is no public way
    return tuple(sorted(Wanted(settings.topics).of(known)))


async def topics_there(consumer: AIOKafkaConsumer, known: Iterable[str] | None, *, ask: bool) -> list[str] | None:
    """The topics that there are: of those that the client is subscribed to (`known`), or of all, which takes `ask`.

    Raises SourceError when brokers do not answer.
    """
    client = consumer._client  # noqa: SLF001 - there is no public way to what it knows
    try:
        async with asyncio.timeout(_ASK):
            if ask:
                # The group's leader hands out partitions of what its client knows.
                await client.force_metadata_update()
            if known is None:
                return sorted(await consumer.topics()) if ask else None
    except (KafkaError, OSError, TimeoutError) as error:
        raise SourceError("source.unreachable", f"{type(error).__name__} {error}".rstrip()) from error
    return [name for name in known if consumer.partitions_for_topic(name)]


class Client(Protocol):
    """Any client of aiokafka that is stopped by `stop()`."""

    async def stop(self) -> None: ...


async def stop(client: Client) -> None:
    """Stop a consumer or producer whatever state it is in. Never raises, and takes some seconds at most.

    In a task of its own: aiokafka's stop() may hang when its brokers are gone, and raises CancelledError, which would
    pass for our own cancellation and skip whatever the caller has still to close.
    """
    task = asyncio.ensure_future(client.stop())
    await asyncio.wait({task}, timeout=_STOP)
    await end(task, 1)


def _free(settings: Settings) -> dict[str, Any]:
    """Answer the free settings; a text from the environment takes the type that aiokafka's default has.

    Those that aiokafka does not have are another client's: a run by librdkafka asks for lag, and reads what librdkafka
    cannot open, by aiokafka. With source.type kafka `checked` has refused them.
    """
    found: dict[str, Any] = {name: value for name, value in client_settings(settings).items() if _is_free(name)}
    wrong = []
    for name, value in found.items():
        default = _PARAMETERS[name].default if name in _PARAMETERS else None
        if isinstance(value, str) and isinstance(default, bool | int | float):
            try:
                found[name] = msgspec.convert(json.loads(value), type(default))
            except (ValueError, msgspec.ValidationError):
                expected = type(default).__name__
                what = f"source.client.{name}: expected {expected}, saw {value!r}"
                wrong.append(ConfigError("config.invalid", what))
    refuse(wrong)
    return found


def _is_free(name: str) -> bool:
    """Whether aiokafka has this setting, and a configuration can give it."""
    kept = name in ("loop", "api_version", "metrics_enabled") or name.endswith(("_strategy", "_provider"))
    return name in _PARAMETERS and not kept


def checked(settings: Settings) -> None:
    """See what can be seen without a connection. Raises ConfigError."""
    addresses(settings.bootstrap)
    wrong: list[LmstreamError] = []
    for name in client_settings(settings):
        if name not in _PARAMETERS:
            close = difflib.get_close_matches(name, _PARAMETERS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            wrong.append(ConfigError("config.invalid", f"source.client.{name} is not a setting of aiokafka{hint}"))
        elif not _is_free(name):
            what = f"source.client.{name} cannot be set from a configuration"
            wrong.append(ConfigError("config.invalid", what))
    try:
        _free(settings)
    except ConfigError as e:
        wrong += e.errors
    refuse(wrong)


def lost(error: BaseException) -> LostError:
    """Find why a member is lost by an error of the client."""
    if isinstance(error, LostError):
        return error
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, TopicAuthorizationFailedError | GroupAuthorizationFailedError):
        return LostError("denied", detail)
    if FencedInstanceIdError.__name__ in detail:
        return LostError("fenced", detail)
    return LostError("client", detail)


def explained(error: BaseException) -> tuple[str, str]:
    """Find the reason and the detail of a SourceError for an error of the client."""
    if isinstance(error, OffsetOutOfRangeError):
        gone = ", ".join(f"{tp.topic}/{tp.partition}/{offset}" for tp, offset in error.args[0].items())
        return "source.offset", gone
    if isinstance(error, TopicAuthorizationFailedError | GroupAuthorizationFailedError):
        return "source.topic", f"{type(error).__name__}: {error}"
    return "source.unreachable", f"{type(error).__name__}: {error}"
