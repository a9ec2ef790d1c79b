"""Keep dead letters in a Kafka topic: one record a letter, keyed by its coordinates, acknowledged by all replicas."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol

from msgspec import Meta, Struct

from lmstream.dead_letters.form import encode
from lmstream.errors import ConfigError, SinkError
from lmstream.model import DeadLetter
from lmstream.settings import MIB

_OVERHEAD: Final = 512  # bytes of a record batch of one beside key and value: header, varints, and some to spare
_STOP: Final = 5.0  # seconds for a producer to stop
_LIMIT: Final = "max.message.bytes"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of dead letters in a topic. Without `bootstrap` it is in the source's cluster, with the source's TLS."""

    topic: str
    """Topic of the letters; it must exist. Delete by age, do not compact: another record at the same coordinates (a
    topic made anew) would replace the first. It holds original bytes: keep it as private as the source's."""
    bootstrap: str = ""
    """Brokers as `host:port`, comma-separated; empty takes those of the source."""
    security: Literal["plaintext", "ssl"] = "plaintext"
    """With `bootstrap` only, as the next four are."""
    ca: str = ""
    cert: str = ""
    key: str = ""
    key_password: str = ""
    """Where the key's password is: `env:NAME` or `file:PATH`. Never the password itself."""
    max_bytes: Annotated[int, Meta(ge=1024)] = 16 * MIB
    """Bytes of the largest record to send: below the topic's max.message.bytes, which is 1 MiB unless it was raised."""
    compression: Literal["none", "gzip"] = "gzip"
    request_timeout_ms: Annotated[int, Meta(ge=1)] = 10_000
    """Milliseconds one try of the client may take; then the write has failed. Keep it below delivery.timeout."""


class Tls(Protocol):
    """The TLS side of the connection, as the Kafka source has it: it follows renewals of the certificate."""

    @property
    def options(self) -> dict[str, Any]:
        """How aiokafka's clients connect: TLS, and SASL where the source has it."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Letters:
    """Dead-letter sink of one topic. The key is `topic/partition/offset`; a letter written again is one more record
    with that key, and readers take the last.
    """

    def __init__(self, settings: Settings, *, tls: Tls | None = None) -> None:
        """`settings.bootstrap` must be set here; `tls` None is plaintext."""
        self._settings = settings
        self._tls = tls
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self.largest = settings.max_bytes - _OVERHEAD
        """Bytes of the largest letter; `check` lowers it to what the topic takes."""

    async def check(self) -> None:
        """Connect, find the topic and its limit. Raises SinkError `dead_letters.unavailable`, or ConfigError."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
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
        if self._tls is not None:
            await self._tls.close()

    async def _let_go(self, producer: Any) -> None:
        async with self._starting:
            if producer is None or producer is not self._producer:
                return  # another write has let it go, and may have the next one by now
            self._producer = None
        await _stopped(producer)

    async def _started(self) -> Any:
        async with self._starting:
            if self._producer is None:
                if self._tls is not None:
                    await self._tls.start()
                producer = self._made()
                try:
                    await producer.start()
                except BaseException:
                    await _stopped(producer)
                    raise
                self._producer = producer
            return self._producer

    def _made(self) -> Any:
        try:
            from aiokafka import AIOKafkaProducer  # noqa: PLC0415 - the folder of letters needs none of it
        except ImportError as error:
            raise ConfigError("config.extra", "dead letters in Kafka need the extra [consumer]") from error
        settings = self._settings
        return AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap,
            client_id="lmstream-letters",
            # Not idempotent: that takes a permission on the cluster, and a letter that is there twice is harmless.
            acks="all",
            max_request_size=settings.max_bytes,
            compression_type=None if settings.compression == "none" else settings.compression,
            request_timeout_ms=settings.request_timeout_ms,
            **self._secured(),
        )

    def _secured(self) -> dict[str, Any]:
        return {} if self._tls is None else self._tls.options

    async def _limit(self) -> int | None:
        """max.message.bytes of the topic; None when the broker does not say."""
        from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - as above
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415 - as above

        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._settings.bootstrap,
            request_timeout_ms=self._settings.request_timeout_ms,
            **self._secured(),
        )
        try:
            await admin.start()
            asked = ConfigResource(ConfigResourceType.TOPIC, self._settings.topic, configs={_LIMIT: None})
            answers = await admin.describe_configs([asked])
            entries = [entry for answer in answers for resource in answer.resources for entry in resource[4]]
            return next((int(entry[1]) for entry in entries if entry[0] == _LIMIT), None)
        except Exception:  # noqa: BLE001 - a role that may only write need not be allowed to ask
            return None
        finally:
            await admin.close()

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


async def _stopped(producer: Any) -> None:
    """Stop a producer whatever state it is in: aiokafka's stop() may hang, or raise, when its brokers are gone."""
    task = asyncio.ensure_future(producer.stop())
    await asyncio.wait({task}, timeout=_STOP)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # seen, so that the loop does not report it


make = Letters
