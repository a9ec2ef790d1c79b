"""Connect to Kafka: a start that says exactly what is wrong, and a stop that always comes back."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from typing import Any, Final

from lmstream.errors import ConfigError, LmstreamError, SourceError
from lmstream.model import Record
from lmstream.sources._kafka_settings import Settings, addresses, ssl_context

try:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import (
        GroupAuthorizationFailedError,
        KafkaError,
        OffsetOutOfRangeError,
        TopicAuthorizationFailedError,
    )
except ImportError as _error:
    raise ConfigError("config.extra", "the kafka source needs the extra [consumer]") from _error

_KNOCK: Final = 3.0  # seconds for one broker to answer at a start
_TOPIC_WAIT: Final = 3.0  # seconds for a topic made a moment ago to appear in the metadata
_STOP: Final = 5.0  # seconds for a consumer to leave its group
_TLS_ALERT: Final = b"\x15\x03"
# ApiVersions 0 with no client id: the one request that every broker answers to anybody.
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 0, -1)


async def knock(host: str, port: int, context: ssl.SSLContext | None, *, client_cert: bool) -> None:
    """Connect, shake hands and ask one question, so that a refusal is named. Raises SourceError."""
    place = f"{host}:{port}"
    try:
        async with asyncio.timeout(_KNOCK):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        raise SourceError("source.tls", f"{place}: its certificate was refused: {error.verify_message}") from error
    except ssl.SSLError as error:
        hint = "; does it speak plaintext?" if "VERSION" in str(error.reason) or "RECORD" in str(error.reason) else ""
        raise SourceError("source.tls", f"{place}: {error.reason or error}{hint}") from error
    except TimeoutError as error:
        raise SourceError("source.unreachable", f"{place}: no answer in {_KNOCK:.0f} s") from error
    except socket.gaierror as error:
        raise SourceError("source.unreachable", f"{place}: the name does not resolve") from error
    except (ConnectionResetError, ConnectionAbortedError) as error:
        if context is None:
            raise SourceError("source.unreachable", f"{place}: the connection was reset") from error
        detail = f"{place}: the connection was closed during the handshake; does it speak plaintext?"
        raise SourceError("source.tls", detail) from error
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text says the address again
        raise SourceError("source.unreachable", f"{place}: {what}") from error
    try:
        await _ask(place, reader, writer, tls=context is not None, client_cert=client_cert)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


async def _ask(
    place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: bool, client_cert: bool
) -> None:
    # In TLS 1.3 the handshake is over for us before the broker has judged our certificate: its refusal is read here.
    refused = "it refused the client certificate" if client_cert else "it wants a client certificate; set cert and key"
    try:
        async with asyncio.timeout(_KNOCK):
            writer.write(_API_VERSIONS)
            await writer.drain()
            answer = await reader.readexactly(4)
    except ssl.SSLError as error:
        raise SourceError("source.tls", f"{place}: {refused} ({error.reason or error})") from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        if tls:
            raise SourceError("source.tls", f"{place}: closed after the handshake: most likely {refused}") from error
        detail = f"{place}: closed the connection; does it speak TLS? then set security to ssl"
        raise SourceError("source.unreachable", detail) from error
    except TimeoutError as error:
        hint = "" if tls else "; does it speak TLS?"
        raise SourceError("source.unreachable", f"{place}: does not answer as Kafka does{hint}") from error
    if answer.startswith(_TLS_ALERT):
        raise SourceError("source.tls", f"{place}: speaks TLS; set security to ssl")


async def connect(settings: Settings, *, group: bool) -> AIOKafkaConsumer:
    """Start a consumer that reads nothing yet, in the group or without one. All topics are there then.

    Raises ConfigError or SourceError (unreachable, tls, topic) within about the start-up timeout.
    """
    context = ssl_context(settings)
    found = addresses(settings.bootstrap)
    try:
        async with asyncio.timeout(settings.startup_timeout_ms / 1000):
            await _any(found, context, settings)
            return await _started(settings, context, group=group)
    except TimeoutError as error:
        raise SourceError("source.unreachable", f"{settings.bootstrap}: no start in time") from error


async def _any(found: list[tuple[str, int]], context: ssl.SSLContext | None, settings: Settings) -> None:
    """Knock at the brokers until one answers. Raises what most of all says why none does."""
    refusals: list[SourceError] = []
    for host, port in found:
        try:
            return await knock(host, port, context, client_cert=bool(settings.cert))
        except SourceError as error:
            refusals.append(error)
    told = [error for error in refusals if error.reason == "source.tls"] or refusals
    raise SourceError(told[0].reason, "; ".join(error.detail for error in told)) from told[0]


async def _started(settings: Settings, context: ssl.SSLContext | None, *, group: bool) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        client_id="lmstream",
        group_id=settings.group if group else None,
        enable_auto_commit=False,
        # "none": a partition without a commit is placed by us, an offset that is gone is an error and not a jump.
        auto_offset_reset="none",
        isolation_level="read_committed",
        check_crcs=True,
        fetch_max_bytes=settings.fetch_bytes,
        max_partition_fetch_bytes=settings.partition_bytes,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.heartbeat_interval_ms,
        rebalance_timeout_ms=settings.rebalance_timeout_ms,
        request_timeout_ms=settings.request_timeout_ms,
        max_poll_interval_ms=settings.max_poll_interval_ms,
        security_protocol="SSL" if context else "PLAINTEXT",
        ssl_context=context,
        client_rack=settings.client_rack or None,
    )
    try:
        await consumer.start()
        await _topics(consumer, settings)
    except LmstreamError:
        await stop(consumer)
        raise
    except (KafkaError, OSError) as error:
        named = ", ".join(f"{b.host}:{b.port}" for b in consumer._client.cluster.brokers())  # noqa: SLF001 - not public
        await stop(consumer)
        detail = f"{settings.bootstrap} answers, the brokers it names do not ({named or 'none'}): {error}"
        raise SourceError("source.unreachable", detail) from error
    except BaseException:
        await stop(consumer)
        raise
    return consumer


async def _topics(consumer: AIOKafkaConsumer, settings: Settings) -> None:
    if not settings.topics:
        raise ConfigError("config.invalid", "topics: no topic is named")
    loop = asyncio.get_running_loop()
    until = loop.time() + _TOPIC_WAIT
    while missing := sorted(set(settings.topics) - await consumer.topics()):
        if loop.time() > until:
            raise SourceError("source.topic", f"{', '.join(missing)} at {settings.bootstrap}")
        await asyncio.sleep(0.2)


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer whatever state it is in. Never raises, and takes some seconds at most.

    In a task of its own: aiokafka's stop() raises CancelledError when its brokers are gone, which would pass for a
    cancellation of ours and skip whatever the caller has still to close.
    """
    task = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({task}, timeout=_STOP)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # seen, so that the loop does not report it


def record(message: Any) -> Record:
    """Take a message of the client as a record."""
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp=-1 if message.timestamp is None else message.timestamp,
        value=message.value,
        key=message.key,
        headers=tuple(message.headers),
    )


def explained(error: BaseException) -> tuple[str, str]:
    """Find the reason and the detail of a SourceError for an error of the client."""
    if isinstance(error, OffsetOutOfRangeError):
        gone = ", ".join(f"{tp.topic}/{tp.partition}/{offset}" for tp, offset in error.args[0].items())
        return "source.offset", gone
    if isinstance(error, TopicAuthorizationFailedError | GroupAuthorizationFailedError):
        return "source.topic", f"{type(error).__name__}: {error}"
    return "source.unreachable", f"{type(error).__name__}: {error}"
