"""confluent_kafka in our words: its client from our settings, its errors, its messages, its offsets."""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import methodcaller
from typing import Any, Final, NamedTuple

import confluent_kafka.admin  # noqa: F401 - the client in C imports it at its first answer: too late without descriptors
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from lmstream.errors import ConfigError
from lmstream.kafka.certificates import as_path
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.rereading import UNREAD
from lmstream.kafka.settings import Settings, client_settings
from lmstream.kafka.tls import Tls
from lmstream.model import Record, TopicPartition
from lmstream.settings import KIB, MIB

FETCH: Final = 8 * KIB
"""Bytes of one partition in a fetch, at most, but always one batch. librdkafka inflates a fetch whole, in a thread of
its own, before anybody sees that it holds much: so it gets little at a time. Paired with 1 MiB: CPU of a row 1.03."""
PEAK: Final = 240 * MIB
"""Resident memory, measured on Apache Kafka 4.4 with one partition of batches of 56 MB in 3 KB each (1 MiB in a fetch:
1,445 MiB; 64 KiB: 1,338; 16 KiB: 376; 8 KiB: 232; 4 KiB: 177)."""
DENIED: Final = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
UNKNOWN: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the names of librdkafka's own codes begin like this
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - as above
)
"""A topic is not there, or not there any more."""
# What librdkafka reports and recovers from without help.
PASSING: Final = (
    KafkaError._PARTITION_EOF,  # noqa: SLF001 - the names of librdkafka's own codes begin like this
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - as above; it joins again
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above
    KafkaError._TRANSPORT,  # noqa: SLF001 - as above
    KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    *UNKNOWN,
)


UNREADABLE: Final = (
    KafkaError._BAD_MSG,  # noqa: SLF001 - the names of librdkafka's own codes begin like this
    KafkaError._BAD_COMPRESSION,  # noqa: SLF001 - as above
    KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001 - as above; a codec that it does not know
)
"""What librdkafka says of batches that it cannot open. It skips some of them, so nothing behind them counts."""


UNSETTLED: Final = (
    KafkaError._STATE,  # noqa: SLF001 - the names of librdkafka's own codes begin like this
    KafkaError._PREV_IN_PROGRESS,  # noqa: SLF001 - as above
)
"""How a seek is refused in a partition that was assigned a moment ago, and is not being fetched yet."""


class Passed(NamedTuple):
    """The next offset to read of a partition: all records below it were taken before."""

    tp: TopicPartition
    offset: int
    size: int = 0


class Barred(NamedTuple):
    """A partition that the client cannot read from an offset on (negative: its beginning)."""

    tp: TopicPartition
    offset: int


Taken = tuple[int, Record | Passed | Barred]
"""The epoch of its partition when it was taken, and the record, or how far the client is without one."""


def logger() -> logging.Logger:
    """Logs what one client says, until the client is replaced and this is `disabled`: one that is left behind continues
    connecting for a while, and what it says then is of no use to anybody.
    """
    made = logging.Logger(f"{log.name}.librdkafka")  # noqa: LOG001 - not shared: it is silenced alone
    made.parent = log
    return made


def consumer_of(settings: Settings, tls: Tls, said: logging.Logger, **callbacks: Callable[..., None]) -> Consumer:
    """Make the client, which connects in the background. Raises ConfigError for settings that librdkafka refuses."""
    with contextlib.ExitStack() as files:
        options: dict[str, Any] = {
            "client.id": "lmstream",
            "topic.metadata.refresh.interval.ms": settings.topics_refresh_ms,
            "check.crcs": True,
            "partition.assignment.strategy": "cooperative-sticky",
            **{name.replace("_", "."): value for name, value in client_settings(settings).items()},
            "bootstrap.servers": settings.bootstrap,
            "group.id": settings.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # "error": an offset that is gone is an error and not a jump.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            # The end of a partition stands behind markers of transactions, which nothing else says.
            "enable.partition.eof": True,
            "fetch.max.bytes": settings.fetch_bytes,
            "message.max.bytes": settings.fetch_bytes,  # may not be above what a fetch takes
            "max.partition.fetch.bytes": min(settings.partition_bytes, FETCH),
            # Of each partition: one that has much to say must not be fetched far ahead of the others.
            "queued.max.messages.kbytes": max(1, settings.partition_bytes // 1024),
            # A full queue is looked at again this often, not after a second: it is small, and emptied at once.
            "fetch.queue.backoff.ms": 20,
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.heartbeat_interval_ms,
            # librdkafka's rebalance timeout is this number too; a poll comes every second at most.
            "max.poll.interval.ms": max(settings.session_timeout_ms, settings.rebalance_timeout_ms),
            "socket.timeout.ms": min(settings.request_timeout_ms, 300_000),
            "client.rack": settings.client_rack,
            **callbacks,
        }
        options |= secured(tls, files)
        try:
            return Consumer(options, logger=said)
        except (KafkaException, TypeError, ValueError) as error:
            raise ConfigError("config.invalid", f"client: librdkafka refuses its settings: {error}") from error


def misnamed(settings: Settings) -> list[ConfigError]:
    """The free settings that librdkafka refuses: each is tried by itself, because it names only the first."""
    wrong = []
    for name, value in client_settings(settings).items():
        own = name.replace("_", ".")
        try:
            Consumer({"group.id": "none", own: value}, logger=logger()).close()
        except (KafkaException, TypeError, ValueError) as error:
            said = error.args[0].str() if isinstance(error.args[0], KafkaError) else error
            wrong.append(ConfigError("config.invalid", f"source.client.{own}: librdkafka refuses it: {said}"))
    return wrong


def secured(tls: Tls, files: contextlib.ExitStack) -> dict[str, Any]:
    """Options of a connection by TLS and SASL; none for a plain one. Files of the material live as long as `files`."""
    options: dict[str, Any] = tls.sasl.librdkafka()
    if tls.context is None:
        return options | ({"security.protocol": "sasl_plaintext"} if options else {})
    options["security.protocol"] = "sasl_ssl" if options else "ssl"
    ca, identity = tls.material
    if ca is not None:
        options["ssl.ca.location"] = files.enter_context(as_path(ca))
    if identity is not None:
        options["ssl.certificate.location"] = files.enter_context(as_path(identity.certificate))
        options["ssl.key.location"] = files.enter_context(as_path(identity.key))
        options |= {"ssl.key.password": identity.password} if identity.password else {}
    return options


def listed(consumer: Consumer, named: Iterable[str] | None, timeout: float) -> dict[str, Collection[int]]:
    """Answer the topics that there are, of these or of all, with their partitions. Raises KafkaException.

    Never inside a callback of the client: see `librdkafka_places`.
    """
    if named is None:
        answers = [consumer.list_topics(timeout=timeout)]
    else:
        answers = [consumer.list_topics(name, timeout=timeout) for name in named]
    found = [one for answer in answers for one in answer.topics.items()]
    return {name: topic.partitions.keys() for name, topic in found if topic.error is None}


def placed_at(offsets: Mapping[TopicPartition, int]) -> list[KafkaPartition]:
    """The offsets as librdkafka takes them."""
    return [KafkaPartition(tp.topic, tp.partition, n) for tp, n in offsets.items()]


def committed(consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Commit, and wait for the answer. Raises KafkaException."""
    answers = consumer.commit(offsets=placed_at(offsets), asynchronous=False)
    if failed := next((each.error for each in answers if each.error is not None), None):
        raise KafkaException(failed)


def lost_by(error: KafkaError, place: str) -> LostError | None:
    """The end of a member by an error that came in place of a record; None when the client recovers from it."""
    if is_fatal(error):
        return fatal(error)
    if error.code() in DENIED:
        return LostError("denied", f"{place}{error.str()}")
    if error.code() in PASSING or error.retriable():
        return None
    return LostError("client", f"{place}{error.name()} {error.str()}")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client does nothing any more after it."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001 - librdkafka's own code


def fatal(error: KafkaError) -> LostError:
    """The end of a member by an error after which its client does nothing any more."""
    fenced = error.code() == KafkaError.FENCED_INSTANCE_ID or "enced" in error.str()
    return LostError("fenced" if fenced else "client", f"{error.name()} {error.str()}")


_headers: Final = methodcaller("headers")
"""Its C code answers with an error set. A plain call that has often gone well is made without a look at that, and the
error hits what is called next; through methodcaller it is looked at each time."""


def record_of(message: Message) -> Record:
    """The record of a message that is no error."""
    kind, timestamp = message.timestamp()
    value, key = message.value(), message.key()
    try:
        headers: Any = _headers(message) or ()  # typed as if it could be text
    except (SystemError, ValueError):  # its C code takes every key for UTF-8, and says both when one is none
        headers = ((UNREAD, None),)
    return Record(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        timestamp=timestamp if kind else -1,
        value=value if value is None or isinstance(value, bytes) else value.encode(),
        key=key if key is None or isinstance(key, bytes) else key.encode(),
        headers=tuple((name, _bytes(data)) for name, data in headers),
    )


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data
