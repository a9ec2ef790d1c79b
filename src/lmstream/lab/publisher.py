"""Publish generated bundles to a topic, with a log of what the broker acknowledged."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final

import msgspec

from lmstream.engine import Engine, bundle_id
from lmstream.kafka.settings import Settings
from lmstream.lab.broker import CLUSTER
from lmstream.lab.generator import Bundle
from lmstream.model import Record, TopicPartition
from lmstream.settings import Settings as EngineSettings
from lmstream.verification.expected import DIGEST, Expected, expectation

MARK: Final = ("lmstream-publish", b"1")
"""Header of what is published here: generated, and of no device."""
_LAST: Final = 10  # records of a partition that are looked at, before its end
IN_FLIGHT: Final = 1000
"""Bundles sent and not yet acknowledged, at most: some 25 MB."""
_APPEND_TIME: Final = 1  # Kafka's timestamp type when the broker sets the time
_PATIENCE: Final = 30.0  # seconds to wait for the last acknowledgements


class Publisher:
    """Sends bundles to one topic with acks=all, and logs those that the broker acknowledged."""

    def __init__(
        self,
        settings: Settings,
        log: BinaryIO | None = None,
        engine: EngineSettings | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """`settings` are those of a client of one topic; `engine` those of the run that will read it, by which
        the log has digests of its rows. `done` is called for each acknowledged bundle."""
        self.acknowledged = self.rows = self.bytes = 0
        self.failed: dict[str, int] = {}
        """Bundles that were not acknowledged, by error. Each may be in the topic all the same."""
        self.log_error = ""
        """Why the log could not be written to its end: bundles that were acknowledged are missing in it."""
        self._settings, self._log, self._done = settings, log, done
        self._source_id = engine.source_id if engine is not None else ""
        self._engine = Engine(engine) if engine is not None else None
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._waiting: set[asyncio.Task[None]] = set()

    async def send(self, bundles: Iterable[Bundle], *, rate: float = 0.0, seconds: float | None = None) -> None:
        """Send until the bundles or the `seconds` end; `rate` bundles a second, 0 is as fast as possible."""
        from lmstream.kafka.producer import producing

        loop = asyncio.get_running_loop()
        async with producing(self._settings) as producer:
            began = loop.time()
            try:
                for number, bundle in enumerate(bundles):
                    if rate:
                        await asyncio.sleep(began + number / rate - loop.time())
                    if seconds is not None and loop.time() - began >= seconds:
                        break
                    await self._room.acquire()
                    task = asyncio.create_task(self._one(producer, bundle))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
            finally:
                # Also when interrupted: what the broker acknowledges belongs into the log.
                await self._settle()

    async def _one(self, producer: Any, bundle: Bundle) -> None:
        (topic,) = self._settings.topics
        timestamp = int(time.time() * 1000)
        try:
            placed = await producer.send_and_wait(topic, bundle.payload, timestamp_ms=timestamp, headers=[MARK])
        except Exception as e:  # noqa: BLE001 - whatever the client raises: this bundle was not acknowledged
            self._fail(f"{type(e).__name__}: {e}")
            return
        finally:
            self._room.release()
        self.acknowledged += 1
        self.rows += bundle.rows
        self.bytes += len(bundle.payload)
        if self._log is not None:
            # RecordMetadata.timestamp is the batch's: the record has ours, unless the broker sets the time.
            stamp = placed.timestamp if placed.timestamp_type == _APPEND_TIME else timestamp
            self._write(self._entry(bundle, TopicPartition(topic, placed.partition), placed.offset, stamp))
        if self._done is not None:
            self._done()

    async def _settle(self) -> None:
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=_PATIENCE)
        for task in set(self._waiting):
            task.cancel()
            self._fail("no answer from the broker")
        self._write()

    def _write(self, entry: bytes = b"") -> None:
        """Write an entry into the log, or flush it. After an error nothing more: its last line may be cut, no other."""
        if self._log is None or self.log_error:
            return
        try:
            self._log.write(entry) if entry else self._log.flush()
        except OSError as e:
            self.log_error = e.strerror or str(e)

    def _entry(self, bundle: Bundle, tp: TopicPartition, offset: int, timestamp: int) -> bytes:
        entry = Expected(
            topic=tp.topic,
            partition=tp.partition,
            offset=offset,
            timestamp=timestamp,
            bundle_id=bundle_id(self._source_id, *tp, offset, timestamp),
            points=bundle.points,
            absent=bundle.absent,
            rejected=bundle.rejected,
            poison=bundle.poison,
        )
        if self._engine is not None:
            record = Record(
                topic=tp.topic, partition=tp.partition, offset=offset, timestamp=timestamp, value=bundle.payload
            )
            digests = expectation(self._engine, record, self._source_id).digests
            # What must land is what the generator says. Where the engine makes other rows, their ids will tell.
            if len(digests) == DIGEST.size * bundle.rows:
                entry = msgspec.structs.replace(entry, digests=digests)
        return msgspec.json.encode(entry) + b"\n"

    def _fail(self, why: str) -> None:
        self.failed[why] = self.failed.get(why, 0) + 1


async def why_not(settings: Settings) -> str:
    """Answer why generated bundles may be out of place in the one topic of `settings`; empty for the lab's brokers, and
    for a topic that holds such bundles and no others. Raises ConfigError and SourceError."""
    from lmstream.kafka.admin import cluster

    if await cluster(settings) == CLUSTER:
        return ""
    (topic,) = settings.topics
    held, partition = await _held(settings, topic)
    if partition is not None:
        return f"topic {topic} holds records that `publish` did not write (partition {partition})"
    return "" if held else f"topic {topic} at {settings.bootstrap} is empty, and the brokers are not the lab's"


async def _held(settings: Settings, topic: str) -> tuple[bool, int | None]:
    """Whether the topic holds records, and a partition whose last ones were not all published here."""
    from lmstream.kafka.lag import look
    from lmstream.kafka.log_bounds import log_bounds
    from lmstream.kafka.range_reader import read_range

    begins = {TopicPartition(topic, p): each.begin for p, each in (await log_bounds(settings, topic)).items()}
    looks = await look(settings, begins)
    last = {tp: max(each.begin, each.end - _LAST) for tp, each in looks.items() if each.end and each.end > each.begin}
    async for record in read_range(settings, topic, {tp.partition: (first, None) for tp, first in last.items()}):
        if MARK not in record.headers:
            return True, record.partition
    return bool(last), None
