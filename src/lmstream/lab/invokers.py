"""What calls a function in AWS, on this machine: an EventBridge Pipe and a Kafka event source mapping.

Both read a topic in a group of their own, build the service's event, invoke synchronously, and keep its rules for what
failed. A Pipe repeats the whole batch until it succeeds or expires. A mapping retries what a partial answer names,
bisects what raised, and hands over what is too old or was tried too often. Neither commits past what is not settled.

Where AWS's page on the mapping (docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html) can be read two
ways, `Policy.reading` says which, and the one that loses more is what you get unasked.
"""

import asyncio
import base64
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Struct

from lmstream.lab import given_up
from lmstream.lab.part import Part
from lmstream.lab.runtime_api import EVENT_BYTES, Answer

Invoke = Callable[[object], Awaitable[Answer]]
ARN: Final = "arn:aws:kafka:us-west-2:000000000000:cluster/lab/00000000-0000-0000-0000-000000000000-1"
_POLL_MS: Final = 100
_LOOK: Final = 0.02  # seconds between two looks at the counts
_RETRIES_WITH_DESTINATION: Final = 10
_ENVELOPE: Final = 512  # bytes of an entry beside its value, with some to spare


class Policy(Struct, frozen=True, kw_only=True):
    """The services' settings that matter here, under their own names in snake_case; times in seconds."""

    batch_size: int = 100
    maximum_batching_window: float = 0.0
    maximum_record_age: float = float("inf")
    """Older records are dropped, by their Kafka timestamp: by a mapping before they are sent at all; a Pipe's expire
    with the topic's retention, which is looked at after a failure."""
    maximum_retry_attempts: int = -1
    """Of a mapping; -1 is without end. A retry counts whether or not something was delivered by it: the page does not
    say, and so fewer are left."""
    on_failure_destination: bool = False
    """Of a mapping: with one, retries without end are ten."""
    bisect_batch_on_function_error: bool = False
    report_batch_item_failures: bool = False
    reading: Literal["items", "lowest"] = "items"
    """What a mapping sends again after a partial answer: the very records that it names, the others being acknowledged;
    or everything from the lowest failed offset of each partition on, as Kinesis does."""
    backoff: float = 0.2
    """Pause after a failure; the services' own is not documented."""


class Counts(Struct):
    """What was invoked and settled."""

    invocations: int = 0
    errors: int = 0
    partial: int = 0
    """Answers that left something."""
    records: int = 0
    """Records settled: they are not sent again."""
    given_up: int = 0


class _Invoker(Part):
    """One poller. A batch may mix partitions; its records are in each partition's order."""

    def __init__(self, invoke: Invoke, topic: str, policy: Policy | None = None, **client: Any) -> None:
        """`client` is passed to aiokafka's consumer: bootstrap_servers, group_id, security."""
        self.policy: Policy = policy or Policy()
        self._invoke, self._topic = invoke, topic
        self._client = client
        self.counts: Counts = Counts()
        self.given_up: deque[ConsumerRecord] = deque(maxlen=10_000)
        """Records that went to the on-failure destination, which a Pipe does not have."""
        self.documents: deque[tuple[str, bytes]] = deque(maxlen=1_000)
        """Key and bytes of what a mapping with an on-failure destination wrote into its bucket."""
        self.last_error: str = ""
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group and begin."""
        options = {"enable_auto_commit": False, "auto_offset_reset": "earliest", **self._client}
        self._consumer = AIOKafkaConsumer(self._topic, **options)
        await self._consumer.start()
        self._task = asyncio.create_task(self._run(self._consumer))

    async def close(self) -> None:
        """Stop, wherever it is: what is not committed comes again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
        if task is not None and not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def settle(self, batch: Sequence[ConsumerRecord]) -> None:
        """Invoke until each record of one batch is settled, as for a batch of the topic; for tests without a broker."""
        await self._settle(list(batch))

    async def until(self, records: int, seconds: float) -> None:
        """Wait until so many records are settled. Raises TimeoutError, or what broke the invoker."""
        end = time.monotonic() + seconds
        while self.counts.records < records:
            if self._task is not None and self._task.done():
                self._task.result()
            if time.monotonic() > end:
                what = f"{self.counts.records} of {records} records are settled after {seconds:g} s"
                raise TimeoutError(f"{what}; last error: {self.last_error or 'none'}")
            await asyncio.sleep(_LOOK)

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self.policy.batch_size)
            if found and self.policy.maximum_batching_window:
                await self._fill(consumer, found)
            for batch in self._batches(found):
                await self._settle(batch)
                ends = {TopicPartition(one.topic, one.partition): one.offset + 1 for one in batch}
                await consumer.commit(ends)

    async def _fill(self, consumer: AIOKafkaConsumer, found: dict[Any, list[ConsumerRecord]]) -> None:
        until = time.monotonic() + self.policy.maximum_batching_window
        while (left := until - time.monotonic()) > 0:
            room = self.policy.batch_size - sum(map(len, found.values()))
            if room <= 0:
                return
            more = await consumer.getmany(timeout_ms=int(1000 * min(left, _POLL_MS / 1000)), max_records=room)
            for tp, records in more.items():
                found.setdefault(tp, []).extend(records)

    def _batches(self, found: dict[Any, list[ConsumerRecord]]) -> list[list[ConsumerRecord]]:
        """The records in batches that fit an event."""
        batches: list[list[ConsumerRecord]] = []
        size = 0
        for record in chain.from_iterable(found.values()):
            bytes_ = (len(record.value or b"") + len(record.key or b"") + 2) // 3 * 4 + _ENVELOPE
            if not batches or size + bytes_ > EVENT_BYTES or len(batches[-1]) == self.policy.batch_size:
                batches.append([])
                size = 0
            batches[-1].append(record)
            size += bytes_
        return batches

    async def _call(self, batch: Sequence[ConsumerRecord]) -> Answer:
        self.counts.invocations += 1
        answer = await self._invoke(self._event(batch))
        if answer.error:
            self.counts.errors += 1
            self.last_error = answer.error
        return answer

    def _young(self, batch: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """Those that are not too old; the others are dropped."""
        limit = time.time() - self.policy.maximum_record_age
        kept = [record for record in batch if record.timestamp / 1000 >= limit]
        self._give_up([record for record in batch if record.timestamp / 1000 < limit])
        return kept

    def _give_up(self, records: Sequence[ConsumerRecord]) -> None:
        self.given_up.extend(records)
        self.counts.given_up += len(records)
        self.counts.records += len(records)

    def _event(self, batch: Sequence[ConsumerRecord]) -> object:
        raise NotImplementedError

    async def _settle(self, batch: list[ConsumerRecord]) -> None:
        raise NotImplementedError


class Pipe(_Invoker):
    """An EventBridge Pipe with a Kafka source and a Lambda target, REQUEST_RESPONSE."""

    def _event(self, batch: Sequence[ConsumerRecord]) -> object:
        return [
            {
                "eventSource": "aws:kafka",
                "eventSourceArn": ARN,
                "eventSourceKey": f"{record.topic}-{record.partition}",
                **_entry(record),
                "partition": str(record.partition),
            }
            for record in batch
        ]

    async def _settle(self, batch: list[ConsumerRecord]) -> None:
        """Repeat the whole batch until it succeeds or expires. What the target answers is not looked at."""
        while batch:
            answer = await self._call(batch)
            if not answer.error:
                self.counts.records += len(batch)
                return
            await asyncio.sleep(self.policy.backoff)
            batch = self._young(batch)


class Mapping(_Invoker):
    """A Kafka event source mapping."""

    def _event(self, batch: Sequence[ConsumerRecord]) -> dict[str, Any]:
        records: dict[str, list[object]] = {}
        for record in batch:
            records.setdefault(f"{record.topic}-{record.partition}", []).append(_entry(record))
        return {"eventSource": "aws:kafka", "eventSourceArn": ARN, "bootstrapServers": "lab:9094", "records": records}

    async def _settle(self, batch: list[ConsumerRecord]) -> None:
        attempt = 0
        batch = self._young(batch)
        while batch:
            answer = await self._call(batch)
            left = batch if answer.error else self._left(answer.payload, batch)
            self.counts.records += len(batch) - len(left)
            if not left:
                return
            self.counts.partial += not answer.error
            await asyncio.sleep(self.policy.backoff)
            left = self._young(left)
            if answer.error and self.policy.bisect_batch_on_function_error and len(left) > 1:
                middle = len(left) // 2
                await self._settle(left[:middle])
                await self._settle(left[middle:])
                return
            attempt += 1
            if 0 <= self._retries < attempt:
                self._give_up(left)
                if self.policy.on_failure_destination:
                    event = self._event(left)
                    self.documents.append((given_up.key(event), given_up.document(event, attempt, answer.error)))
                return
            batch = left

    @property
    def _retries(self) -> int:
        """Docs: docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html, Maximum retry attempts."""
        most = self.policy.maximum_retry_attempts
        return _RETRIES_WITH_DESTINATION if most < 0 and self.policy.on_failure_destination else most

    def _left(self, payload: Any, batch: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """What a partial answer leaves. One that cannot be read, or that names what was not in the event, leaves the
        whole batch, as with the service."""
        if not self.policy.report_batch_item_failures or not payload:
            return []
        try:
            named = {
                (failure["itemIdentifier"]["partition"], failure["itemIdentifier"]["offset"])
                for failure in payload["batchItemFailures"] or ()
            }
        except (KeyError, TypeError):
            return list(batch)
        places = [(f"{one.topic}-{one.partition}", one.offset) for one in batch]
        if any(type(offset) is not int for _, offset in named) or named - set(places):
            return list(batch)
        if self.policy.reading == "items":
            return [one for one, place in zip(batch, places, strict=True) if place in named]
        lowest: dict[str, int] = {}
        for where, offset in named:
            lowest[where] = min(offset, lowest.get(where, offset))
        return [one for one, (where, offset) in zip(batch, places, strict=True) if offset >= lowest.get(where, 1 << 63)]


def _entry(record: ConsumerRecord) -> dict[str, Any]:
    """A record as both services write it; header bytes are signed."""
    entry: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestampType": "CREATE_TIME",
        "headers": [
            {name: [byte - 256 if byte > 127 else byte for byte in data]}  # noqa: PLR2004 - a signed byte
            for name, data in record.headers
        ],
    }
    if record.key is not None:
        entry["key"] = base64.b64encode(record.key).decode()
    entry["value"] = None if record.value is None else base64.b64encode(record.value).decode()
    return entry
