"""Take records out of an aiokafka consumer by bytes: batch by batch, each opened only when there is room for it.

The client counts records, and a batch that it opens it opens whole. It also loses what it has already read of other
partitions when it meets a batch that it cannot open. So its results are read here, one record at a time, and what a
partition's batch does wrong is held to that partition.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.consumer.fetcher import FetchResult
from msgspec import Struct

from lmstream.errors import coded
from lmstream.interfaces import Load
from lmstream.kafka._batch_guard import Raw
from lmstream.kafka._batch_opening import Opened, closed, damaged, record_of
from lmstream.kafka._fetch_guard import Guard, carried
from lmstream.kafka.group.lost import log
from lmstream.kafka.heap import trimmer
from lmstream.model import KILLS, Record, TopicPartition
from lmstream.settings import MIB

_SPARE: Final = 8 * MIB
"""Bytes of opened batches that may be held at a time without a look at what else is in memory."""
_PATIENCE: Final = 1.0  # seconds a large batch waits for room before it asks for some
_CRAMPED: Final = 0.01  # seconds until a look at whether there is room now
_TRIES: Final = 3  # times a batch is fetched that arrives damaged: the wire may have done it
_AGAIN: Final = 0.5  # seconds between those
_LATER: Final = 30.0  # seconds until a partition that is held is looked at again: another replica may lead it then
DEATHS: Final = 3
"""Processes that may die while they open a batch; then it stays closed, and its letter does not hold it."""


class Journal(Protocol):
    """Remembers beyond the life of a process which batch was being opened when it died."""

    def opening(self, tp: TopicPartition, offset: int, timestamp: int, /) -> int:
        """Mark the batch that is being opened from now on; answer how many processes died over it."""
        ...

    def opened(self) -> None: ...

    @property
    def wary(self) -> bool:
        """Whether a process died while a client that opens batches itself was fetching."""
        ...

    def fetching(self) -> None:
        """Note that such a client fetches from now on, until this process ends."""
        ...

    def well(self) -> None:
        """Forget that a process died so."""
        ...


class DamagedBatch(Struct):
    """A batch of one partition that arrives damaged."""

    first: int
    """The offset that is asked for."""
    last: int
    """The last offset of the batch, as far as that can be told."""
    raw: bytes
    tries: int = 0
    until: float = 0.0
    """When it is fetched again, by the loop's clock."""
    told: bool = False


class _Lane:
    """A batch that was carried past the client: it waits to be opened, or gives its records."""

    def __init__(self, tp: TopicPartition, raw: Raw, start: int, now: float) -> None:
        self.tp, self.raw, self.start, self.since = tp, raw, start, now
        self.opened: Opened | None = None
        self.only: Record | None = None
        """Stands for the whole batch, which is not opened."""


class _Results(OrderedDict[KafkaPartition, Any]):
    """Where the fetcher keeps what it fetched: its results are read by bytes from here on."""

    def __init__(self, getall: Callable[[Any], list[Any]]) -> None:
        super().__init__()
        self._getall = getall

    def __setitem__(self, tp: KafkaPartition, result: Any) -> None:
        if type(result) is FetchResult:
            result.getall = lambda max_records=None: self._getall(result)  # noqa: ARG005 - as its own
        super().__setitem__(tp, result)


class RecordReader:
    """Takes the records of one consumer. Everything but `take` answers at once."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        limit: int,
        *,
        skip: bool,
        load: Callable[[], Load] | None = None,
        journal: Journal | None = None,
        on_trouble: Callable[[TopicPartition, DamagedBatch | None], None] | None = None,
    ) -> None:
        """Put it in place before the first fetch.

        `limit` is how many bytes a batch may hold inflated; `load` answers what is in memory of what was taken. With
        `skip` a batch that stays damaged becomes a record that holds it, else its partition is held and `on_trouble`
        told, with None once it can be read again.
        """
        fetcher: Any = consumer._fetcher  # noqa: SLF001 - there is no public place between a fetch and its opening
        self._guard = fetcher._client = Guard(fetcher._client)  # noqa: SLF001 - as above
        fetcher._records = _Results(self._getall)  # noqa: SLF001 - as above
        self._consumer, self._limit, self._skip = consumer, limit, skip
        self._journal, self._on_trouble = journal, on_trouble
        self._load = load or (lambda: Load(0, limit))
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._troubles: dict[TopicPartition, DamagedBatch] = {}
        self._room = 0
        self._trim = trimmer()
        self._loop = asyncio.get_running_loop()

    @property
    def busy(self) -> Collection[TopicPartition]:
        """Partitions of which the client's position is ahead of what was taken."""
        return self._lanes.keys()

    @property
    def cramped(self) -> bool:
        """Whether a batch has waited long for others to make room."""
        now = self._loop.time()
        return any(
            lane.opened is None and lane.only is None and now - lane.since >= _PATIENCE for lane in self._lanes.values()
        )

    @property
    def held(self) -> set[TopicPartition]:
        """Partitions that are to be paused for now, because what comes next in them cannot be read."""
        now = self._loop.time()
        return {tp for tp, trouble in self._troubles.items() if trouble.until > now}

    def forget(self, *partitions: TopicPartition) -> None:
        """Drop what was not taken of these, or of all: they are revoked, or begin anew."""
        for tp in partitions or {*self._lanes, *self._troubles}:
            self._lanes.pop(tp, None)
            self._troubles.pop(tp, None)

    async def take(self, room: int, wait: float, *partitions: KafkaPartition) -> list[Record]:
        """Wait up to `wait` seconds for records of about `room` bytes, of these partitions or all.

        At least one when there is any, unless a large batch waits for what was taken before it to be gone.
        """
        self._room = room
        taken = self._from_lanes()
        wait = 0.0 if taken else min(wait, _CRAMPED) if self._lanes else wait
        # All that is there, up to the room: rows of one poll share requests.
        while self._room > 0:
            found = await self._consumer.getmany(*partitions, timeout_ms=int(wait * 1000))
            for kafka, messages in found.items():
                if messages[-1].headers and carried(messages[-1].headers) is not None:
                    messages.pop()  # its lane has it
                tp = TopicPartition(*kafka)
                taken += [record_of(tp, message, message.headers) for message in messages]
            taken += self._from_lanes()
            if not found:
                break
            wait = 0.0
        return taken

    # --- reading what was fetched --------------------------------------------------------------------------------

    def _getall(self, result: Any) -> list[Any]:
        """Read a result of the fetcher up to the room there is, to its end, or to a batch that was carried."""
        kafka = result._topic_partition  # noqa: SLF001 - in place of the method of its class
        messages: list[Any] = []
        tp = TopicPartition(*kafka)
        if not result.check_assignment(kafka) or not result.has_more() or tp in self._lanes:
            return messages
        records = result._partition_records  # noqa: SLF001 - as above
        while self._room > 0:
            before = records.next_fetch_offset
            try:
                message = next(records, None)
            except Exception as error:  # noqa: BLE001 - whatever it raises is about this batch, and is held to it
                self._refused(result, tp, records.next_fetch_offset, error)
                break
            if message is None:
                result._update_position()  # noqa: SLF001 - as above
                result._partition_records = None  # noqa: SLF001 - as above
                break
            whole = carried(message.headers) if message.headers else None
            if whole is None:
                messages.append(message)
                self._room -= len(message.value or b"") + len(message.key or b"")
                continue
            if not whole and not self._bears(tp, before, message.offset, message.value):
                self._again(result, before)
                break
            self._lanes[tp] = lane = _Lane(tp, Raw(message.value), before, self._loop.time())
            if not whole:
                lane.only = damaged(tp, message.value, before, message.offset)
            result._update_position()  # noqa: SLF001 - as above
            messages.append(message)  # so that the client does not wait for more
            break
        else:
            result._update_position()  # noqa: SLF001 - as above
        if messages and tp in self._troubles and tp not in self._lanes:
            self._well(tp)
        return messages

    def _refused(self, result: Any, tp: TopicPartition, at: int, error: Exception) -> None:
        """What the client cannot open is fetched again and carried past it."""
        if tp not in self._guard.careful:
            log.info("%s/%d/%d: the client cannot read it; it is read without the client: %r", *tp, at, error)
            self._guard.careful.add(tp)
        else:
            self._bears(tp, at, at, b"")
        self._again(result, at)

    def _again(self, result: Any, at: int) -> None:
        result._assignment.state_value(result._topic_partition).consumed_to(at)  # noqa: SLF001 - as in _getall
        result._partition_records = None  # noqa: SLF001 - as above

    # --- what is damaged -----------------------------------------------------------------------------------------

    def _bears(self, tp: TopicPartition, first: int, last: int, raw: bytes) -> bool:
        """Note a batch that arrives damaged; whether it is to be skipped."""
        trouble = self._troubles.get(tp)
        if trouble is None or trouble.first != first:
            trouble = self._troubles[tp] = DamagedBatch(first, last, raw)
        trouble.tries += 1
        if trouble.tries < _TRIES:
            trouble.until = self._loop.time() + _AGAIN
            return False
        if self._skip and raw:
            log.error(
                "%s/%d: offsets %d to %d are damaged each time they are read, and are skipped (on_unreadable)",
                *(*tp, first, last),
                extra=coded("record.unreadable"),
            )
            del self._troubles[tp]
            return True
        trouble.until = self._loop.time() + _LATER
        if not trouble.told and self._on_trouble is not None:
            trouble.told = True
            self._on_trouble(tp, trouble)
        return False

    def _well(self, tp: TopicPartition) -> None:
        if self._troubles.pop(tp).told and self._on_trouble is not None:
            self._on_trouble(tp, None)

    # --- opening -------------------------------------------------------------------------------------------------

    def _from_lanes(self) -> list[Record]:
        taken: list[Record] = []
        for tp, lane in list(self._lanes.items()):
            if self._room <= 0:
                break
            if lane.only is None and lane.opened is None and not self._open(lane):
                continue
            if tp in self._troubles:
                self._well(tp)
            size = 0  # of the last: another one like it must fit
            while self._room > size or (not taken and self._room > 0):
                each = lane.only or next(lane.opened or iter(()), None)
                if each is not None:
                    taken.append(each)
                    size = each.size
                    self._room -= size
                if each is None or each is lane.only:
                    del self._lanes[tp]
                    break
        return taken

    def _open(self, lane: _Lane) -> bool:
        """Open a batch, or keep it closed permanently; False while there is no room for it."""
        raw, tp = lane.raw, lane.tp
        held = sum(each.opened.held for each in self._lanes.values() if each.opened is not None)
        likely = min(raw.likely, self._limit)
        load, waited = self._load(), self._loop.time() - lane.since
        fits = held + likely <= _SPARE or load.held + held + likely <= load.budget
        alone = not held and (not load.held or waited >= _LATER)  # however long that takes: it must continue
        if not fits and not alone:
            return False
        if likely > _SPARE and self._trim is not None:
            self._trim(0)  # freed records of the batch before lie between those that are in flight
        deaths = 0 if self._journal is None else self._journal.opening(tp, raw.begin, raw.timestamp)
        try:
            if deaths >= DEATHS:
                lane.only = closed(tp, raw, KILLS, f"was being opened when {DEATHS} processes died; left out here")
            elif deaths and not alone:
                return False
            else:
                lane.opened = Opened(tp, raw, self._limit, start=lane.start)
        except MemoryError:
            lane.only = closed(tp, raw, KILLS, "needs more memory than there is")
        finally:
            if self._journal is not None:
                self._journal.opened()
        return True
