"""Keep dead letters in a Kafka topic: one record a letter, keyed by its coordinates, acknowledged by all replicas."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from aiokafka import AIOKafkaProducer
from msgspec import Meta, structs

from lmstream.abilities import Traits
from lmstream.dead_letters.form import encode
from lmstream.errors import ConfigError, SinkError
from lmstream.kafka.admin import admin, topic_settings
from lmstream.kafka.connection import stop
from lmstream.kafka.producer import started
from lmstream.kafka.sasl_probe import probe_sasl_any
from lmstream.kafka.settings import KafkaConnection, addresses
from lmstream.kafka.tls import Tls
from lmstream.model import DeadLetter
from lmstream.settings import MIB

_OVERHEAD: Final = 512  # bytes of a record batch of one beside key and value: header, varints, and some to spare
_LIMIT: Final = "max.message.bytes"
TRAITS: Final = Traits(takes=("source",))


class Settings(KafkaConnection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of dead letters in a topic. Without `bootstrap` it is in the source's cluster, and reached as the source
    reaches it; with it, by the settings of a connection that stand here.
    """

    topic: str
    """Topic of the letters; it must exist. Delete by age, do not compact: another record at the same coordinates (a
    topic recreated) would replace the first. It holds original bytes: keep it as private as the source's.
    Costs: nothing: letters in the former topic stay there."""
    bootstrap: str = ""
    """Brokers as `host:port`, comma-separated; empty takes those of the source.
    Costs: nothing."""
    max_bytes: Annotated[int, Meta(ge=1024)] = 16 * MIB
    """Bytes of the largest record to send: below the topic's max.message.bytes, which is 1 MiB unless it was raised.
    Costs: restarts: a start refuses a place that takes less than the largest letter there can be.
    Limit: lmstream's own: a letter without its bytes is about as long."""
    compression: Literal["none", "gzip"] = "gzip"
    """How letters are compressed on their way and in the topic.
    Costs: money: the size of the topic."""
    request_timeout_ms: Annotated[int, Meta(ge=1)] = 10_000
    """Milliseconds one try of the client may take; then the write has failed. Keep it below delivery.timeout.
    Costs: delay."""

    def over(self, source: KafkaConnection) -> "Settings":
        """These, with the connection of the source."""
        its = {name: getattr(source, name) for name in KafkaConnection.__struct_fields__}
        return structs.replace(self, **its | {"request_timeout_ms": self.request_timeout_ms})


class Letters:
    """Dead-letter sink of one topic. The key is `topic/partition/offset`; a letter written again is one more record
    with that key, and readers take the last.
    """

    def __init__(self, settings: Settings, *, source: Any = None) -> None:
        """`source` is what the settings of the source are: letters without brokers of their own go over its connection.

        Reads PEM files at once. Raises ConfigError for bad ones, and without any brokers.
        """
        if not settings.bootstrap:
            if not isinstance(source, KafkaConnection):
                raise ConfigError("config.invalid", "dead_letters.bootstrap is not set, and the source is not kafka")
            settings = settings.over(source)
        self._settings = settings
        self._tls = Tls(settings)
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self.largest: int = settings.max_bytes - _OVERHEAD
        """Bytes of the largest letter; `check` lowers it to what the topic takes."""

    async def check(self) -> None:
        """Connect, find the topic and its limit. Raises SinkError `dead_letters.unavailable`, or ConfigError."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._tls.start()
                await probe_sasl_any(addresses(self._settings.bootstrap), self._tls)  # a producer only says "unable"
                producer = await self._started()
                # From metadata of all topics: asking for one by name would make it, where brokers may.
                known = (await producer.client.fetch_all_metadata()).topics()
                limit = await self._limit()
        except ConfigError:
            raise
        except Exception as error:
            raise self._error(f"{type(error).__name__}: {error}") from error
        if self._settings.topic not in known:
            raise self._error("the topic does not exist")
        if limit is not None:
            self.largest = min(self.largest, limit - _OVERHEAD)

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Return when all in-sync replicas have every letter. Raises SinkError `dead_letters.unavailable` otherwise."""
        producer = None
        try:
            producer = await self._started()
            sent = []
            for letter in letters:
                # Stamped with now, not with the record's time: retention would count from there.
                future = await producer.send(self._settings.topic, encode(letter), key=key_of(letter))
                future.add_done_callback(_seen)
                sent.append(future)
            acknowledged = await asyncio.gather(*sent)
        except ConfigError:
            raise
        except Exception as error:
            await self._let_go(producer)  # one that met an error once may refuse for ever
            raise self._error(f"{type(error).__name__}: {error}") from error
        if any(each is None or each.offset < 0 for each in acknowledged):
            raise self._error("an acknowledgement without an offset")

    async def close(self) -> None:
        """Stop the producer. Never raises, and takes some seconds at most."""
        await self._let_go(self._producer)
        await self._tls.close()

    async def _let_go(self, producer: Any) -> None:
        async with self._starting:
            if producer is None or producer is not self._producer:
                return  # another write has let it go, and may have the next one by now
            self._producer = None
        await stop(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await self._tls.start()
                settings = self._settings
                self._producer = await started(
                    settings,
                    self._tls,
                    client_id="lmstream-letters",
                    max_request_size=settings.max_bytes,
                    compression_type=None if settings.compression == "none" else settings.compression,
                    request_timeout_ms=settings.request_timeout_ms,
                )
            return self._producer

    async def _limit(self) -> int | None:
        """max.message.bytes of the topic; None when the broker does not say."""
        with contextlib.suppress(Exception):  # a role that may only write need not be allowed to ask
            async with admin(self._settings, self._tls) as client:
                topic = self._settings.topic
                limit = (await topic_settings(client, [topic], _LIMIT)).get(topic, {}).get(_LIMIT)
                return None if limit is None else int(limit)
        return None

    def _error(self, what: str) -> SinkError:
        place = f"topic {self._settings.topic} at {self._settings.bootstrap}"
        return SinkError("dead_letters.unavailable", f"dead letters in {place}: {what}")


def key_of(letter: DeadLetter) -> bytes:
    """Key of a letter's record: `topic/partition/offset`."""
    return f"{letter.topic}/{letter.partition}/{letter.offset}".encode()


def _seen(future: "asyncio.Future[Any]") -> None:
    """Look at what became of a letter, also when nobody waits for it any more, so that the loop does not report it."""
    if not future.cancelled():
        future.exception()


make = Letters
