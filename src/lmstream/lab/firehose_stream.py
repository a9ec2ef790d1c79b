"""One delivery stream of the lab: rows gathered by partition, written by size and age, errors beside them."""

import asyncio
import base64
import gzip
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from lmstream.errors import SinkError
from lmstream.lab.firehose_config import StreamConfig
from lmstream.lab.firehose_prefix import parse_prefix
from lmstream.lab.firehose_rows import OVERFLOW, Keys, Refusal, RowReader
from lmstream.lab.stores import ObjectStore

WRITES = 8
"""Objects written side by side."""


class Counters(msgspec.Struct):
    """What happened since the start, for tests."""

    calls: int = 0
    """PutRecordBatch and PutRecord calls, refused ones included."""
    refused_calls: int = 0
    """Calls answered with an error or cut off before anything was taken."""
    records: int = 0
    """Records accepted: each has its RecordId, even if the answer was cut off."""
    failed_records: int = 0
    """Records refused inside a 200."""
    rows: int = 0
    """Rows written to the prefix."""
    objects: int = 0
    error_rows: int = 0
    """Lines written to the error prefix: one for each row, or for each record that could not be cut into rows."""
    error_objects: int = 0
    store_failures: int = 0
    """Objects that the store did not take; their rows stay and are retried."""


Place = tuple[str, Keys]
"""Error type and partition keys of what is written together; one of them is empty."""


class _Buffer:
    """Rows of one partition, or lines of one error type, that wait."""

    __slots__ = ("data", "failure", "moment", "opened", "place", "rows")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.data = bytearray()
        self.rows = 0
        self.failure: Exception | None = None
        """Why the store did not take it last time."""
        self.opened = time.monotonic()
        self.moment = datetime.now(UTC)

    @property
    def error_type(self) -> str:
        return self.place[0]


class DeliveryStream:
    """Takes records, writes objects. `held` bytes are in memory; the caller bounds them."""

    def __init__(self, config: StreamConfig, store: ObjectStore, counters: Counters) -> None:
        self.config = config
        self.created: float = time.time()
        self.held = 0
        self._store = store
        self._counters = counters
        self._reader = RowReader(config)
        self._prefix = parse_prefix("prefix", config.dated_prefix)
        self._error_prefix = parse_prefix("error_prefix", config.error_prefix)
        self._extension = config.extension or (".gz" if config.gzip else "")
        self._waiting: dict[Place, _Buffer] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(WRITES)

    @property
    def active_partitions(self) -> int:
        """Partitions with rows that wait."""
        return sum(not buffer.error_type for buffer in self._waiting.values())

    def take(self, data: bytes) -> None:
        """Accept one record. As in the service, what is wrong with it shows in the error prefix, not in the answer."""
        self._counters.records += 1
        rows = self._reader.read(data)
        if isinstance(rows, Refusal):
            self._refuse(rows, data)
            return
        for row, keys in rows:
            if isinstance(keys, Refusal):
                self._refuse(keys, row)
                continue
            limit = self.config.active_partitions
            if ("", keys) not in self._waiting and self.active_partitions >= limit:
                what = f"The number of active partitions has exceeded the configured limit of {limit}"
                self._refuse(Refusal(OVERFLOW, "DynamicPartitioning.ActivePartitionsLimitExceeded", what), row)
                continue
            self._add(("", keys), row, newline=self.config.delimiter)

    def _refuse(self, why: Refusal, data: bytes) -> None:
        now = time.time_ns() // 1_000_000
        line = {
            "attemptsMade": 1,
            "arrivalTimestamp": now,
            "errorCode": why.code,
            "errorMessage": why.message,
            "attemptEndingTimestamp": now,
            "rawData": base64.b64encode(data).decode(),
        }
        self._add((why.type, ()), msgspec.json.encode(line), newline=True)

    def _add(self, place: Place, row: bytes, *, newline: bool) -> None:
        buffer = self._waiting.get(place)
        if buffer is None:
            buffer = self._waiting[place] = _Buffer(place)
        buffer.data += row
        if newline:
            buffer.data += b"\n"
        buffer.rows += 1
        self.held += len(row) + newline
        # What the store did not take is retried by the clock, not by every row that comes.
        if len(buffer.data) >= self.config.flush_bytes and buffer.failure is None:
            self._start((buffer,))

    def _start(self, buffers: Iterable[_Buffer]) -> None:
        """Write these in the background, and make room for new rows of the same partitions."""
        for buffer in list(buffers):
            del self._waiting[buffer.place]
            task = asyncio.create_task(self._write(buffer))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    def start_due(self) -> None:
        """Begin to write every partition that is old enough."""
        limit = time.monotonic() - self.config.flush_seconds
        self._start(b for b in self._waiting.values() if b.opened <= limit or len(b.data) >= self.config.flush_bytes)

    async def flush(self) -> None:
        """Write everything that waits. SinkError when the store did not take all of it; the rest waits on."""
        self._start(self._waiting.values())
        while self._writes:
            await asyncio.gather(*self._writes)
        failure = next((b.failure for b in self._waiting.values() if b.failure is not None), None)
        if failure is not None:
            reason = "sink.disk" if isinstance(failure, OSError) else "sink.unreachable"
            what = f"delivery stream {self.config.name!r} holds {self.held} bytes that its store did not take"
            raise SinkError(reason, f"{what}: {failure}") from failure

    async def _write(self, buffer: _Buffer) -> None:
        size = len(buffer.data)
        # Error objects stay plain, so that they can be read where they lie.
        zipped = self.config.gzip and not buffer.error_type
        stamp = f"{self.config.name}-1-{buffer.moment:%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}"
        try:
            if buffer.error_type:
                key = self._error_prefix.render(buffer.moment, error_type=buffer.error_type) + stamp
            else:
                keys = dict(zip(self._reader.names, buffer.place[1], strict=True))
                key = self._prefix.render(buffer.moment, keys=keys) + stamp + self._extension
            async with self._slots:
                body = bytes(buffer.data)
                if zipped:
                    body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
                await self._store.put(key, body, gzip=zipped)
        except Exception as e:  # noqa: BLE001 - whatever a store raises, accepted rows must not be lost by it
            self._counters.store_failures += 1
            buffer.failure = e
            self._put_back(buffer)
            return
        self.held -= size
        if buffer.error_type:
            self._counters.error_rows += buffer.rows
            self._counters.error_objects += 1
        else:
            self._counters.rows += buffer.rows
            self._counters.objects += 1

    def _put_back(self, buffer: _Buffer) -> None:
        newer = self._waiting.get(buffer.place)
        if newer is not None:
            buffer.data += newer.data
            buffer.rows += newer.rows
        self._waiting[buffer.place] = buffer
