"""A member of a consumer group: what members do alike, whichever client library they have.

A client is asked for records by one call at a time, which a poll waits for only so long: a call that takes longer lives
on until a later poll, because one that is cancelled may lose what it took. What arrived is held until a poll has room.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lmstream.delivery.tasks import end
from lmstream.errors import LmstreamError, SourceError
from lmstream.interfaces import Assigned, Batch, Standing
from lmstream.kafka.connection import lost
from lmstream.kafka.group.lost import LostError, next_epoch
from lmstream.kafka.group.placement import Placement
from lmstream.kafka.topics import TopicWatch
from lmstream.model import Record, TopicPartition

if TYPE_CHECKING:
    from lmstream.kafka.group.supervisor import Supervisor

WAIT: Final = 0.2
"""Seconds a poll waits for records."""
BUSY_WAIT: Final = 0.02
"""Seconds a poll waits when there is no room: room may come at any moment."""


class OffsetsGoneError(Exception):
    """The client is to read offsets that brokers do not have."""

    def __init__(self, places: Mapping[TopicPartition, int]) -> None:
        super().__init__()
        self.places = places


class Member(ABC):
    """One client, one membership, from its start to its end. Every call ends by itself in a bounded time.

    All of this runs on the event loop. `owned`, `failure` and `closed` are seen by the thread of a client too, without
    a lock: a value is replaced and never changed in place, so that the other side has the old one or the new.
    """

    keeps_topics: ClassVar[bool]
    """Whether a topic that is away stays subscribed, because the client comes back to it by itself."""
    client_errors: ClassVar[tuple[type[Exception], ...]]
    """What is raised when a request of the client fails, or takes too long."""

    def __init__(self, source: "Supervisor") -> None:
        self._source, self._settings = source, source.settings
        self._loop = asyncio.get_running_loop()
        self.owned: Mapping[TopicPartition, int] = {}
        """Partitions that are ours, with their epochs."""
        self.joined: bool = False
        """Whether the group has given it an assignment yet, empty or not."""
        self.closed: bool = False
        """Whether partitions are no longer taken and revoked in order."""
        self.failure: Exception | None = None
        """The end of the member, raised by its next poll."""
        self._topics = TopicWatch(source, self._look, self._subscribe, keep=self.keeps_topics)
        self._call: asyncio.Task[Any] | None = None
        self._asked = 0.0  # when the call under way began
        self._idle = False  # whether it takes nothing
        self._held: deque[Any] = deque()
        self._paused: frozenset[TopicPartition] = frozenset()
        self._revoking: frozenset[TopicPartition] = frozenset()
        self._committed: dict[TopicPartition, int] = {}
        self._since: Mapping[TopicPartition, int] = {}  # the epoch in which each partition was last assigned
        self._placement = Placement(source)

    # --- what each client does in its own way --------------------------------------------------------------------

    @abstractmethod
    async def _connect(self) -> Collection[str]:
        """Connect, and answer the topics that there are. Raises ConfigError or SourceError."""

    @abstractmethod
    async def _look(self, ask: bool) -> Collection[str] | None:  # noqa: FBT001 - as TopicWatch calls it
        """Answer the wanted topics that there are; None when only a request could tell, and none was asked for."""

    @abstractmethod
    async def _subscribe(self, topics: frozenset[str]) -> None: ...

    @abstractmethod
    async def _records(self, room: int, wait: float) -> Any:
        """Let the client answer for up to `wait` seconds, longer while the group rebalances: with records of about
        `room` bytes, or with none when that is 0. Raises OffsetsGoneError, LostError and what the client raises.
        """

    @abstractmethod
    def _hold(self, answer: Any) -> None:
        """Keep what `_records` answered as far as it belongs to partitions that are still ours."""

    @abstractmethod
    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    async def _commit_alone(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The same from within `_records`, when no other call is made to the client."""
        await self._commit(offsets)

    @abstractmethod
    async def _bounds(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """The first offset of each, and the one behind the last: as the brokers have them now."""

    @abstractmethod
    def _end_of(self, tp: TopicPartition) -> int | None:
        """The offset behind the last of a partition as far as the client knows without asking."""

    @abstractmethod
    def _seek(self, places: Mapping[TopicPartition, int]) -> None:
        """Let the client read these from there on: what it takes of them before that has another epoch, or is gone."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Leave the group. Never raises."""

    # --- what the supervisor calls -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. Raises ConfigError or SourceError."""
        await self._topics.start(await self._connect())

    async def poll(self, room: int, /) -> Batch:
        """As of a source. Raises LostError, or SourceError when no other member would do better."""
        self._check()
        if not self._topics.used and not self.joined:
            await asyncio.sleep(WAIT)  # no topic is there yet
            return Batch(records=())
        if room <= 0:
            await self._stay()
            return Batch(records=())
        if not self._held:
            await self._fill(room)
        records, passed = self._take(room)
        last = {record.tp: record for record in records}
        passed |= self._passed(last)
        owned = self.owned
        epochs = {tp: owned[tp] for tp in last.keys() | passed.keys()}
        return Batch(records, epochs, passed=passed, cramped=self._cramped)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Commit these of partitions that are ours and not committed further. Raises SourceError `source.commit`."""
        since = self._since
        mine = {tp: n for tp, n in offsets.items() if tp in self.owned and n > self._committed.get(tp, -1)}
        if self.closed or not mine:
            return
        async with self._committing(mine):
            await self._commit(mine)
        # Of those that were ours all the time: a seek meanwhile changes nothing about what the group has.
        still = {tp for tp in mine if tp in self.owned and self._since[tp] == since[tp]}
        self._committed.update({tp: max(mine[tp], self._committed.get(tp, -1)) for tp in still})

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        """Read these from there on, under a new epoch; those that are assigned, and not being revoked or placed."""
        if wrong := {tp: n for tp, n in places.items() if n < 0}:
            raise ValueError(f"no offsets to read from: {wrong}")
        busy = self._revoking | self._placement.partitions
        mine = {tp: n for tp, n in places.items() if tp in self.owned and tp not in busy}
        if not mine:
            return
        self.owned = {**self.owned, **{tp: next_epoch() for tp in mine}}
        self._held = deque(each for each in self._held if each.tp not in mine)
        for tp in mine:
            self._source.health.unreadable.pop(tp, None)
        self._seek(mine)

    def standings(self) -> Mapping[TopicPartition, Standing]:
        """Where the group stands in each partition that is ours, as far as the client knows without asking."""
        return {tp: Standing(self._committed.get(tp), self._end_of(tp)) for tp in self.owned}

    def pause(self, partitions: Collection[TopicPartition], /) -> None:
        """Read nothing of these, and of no others less than usual, until the next call."""
        self._paused = frozenset(partitions)  # taken up before the next call of the client

    async def close(self) -> None:
        """Never raises."""
        self._topics.stop()
        self._placement.close()
        self.closed, self.owned = True, {}
        self._held.clear()
        if self._call is not None:
            await end(self._call, 1)
        await self._disconnect()

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def _cramped(self) -> bool:
        """Whether a batch waits for others to make room."""
        return False

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _stay(self) -> None:
        """Stay in the group while there is no room."""
        await self._fetch(0, BUSY_WAIT)

    async def _fill(self, room: int) -> None:
        await self._fetch(room, WAIT)

    async def _fetch(self, room: int, wait: float) -> None:
        """Hold what the client answers within `wait` seconds; `room` 0 takes nothing."""
        until = self._loop.time() + wait
        while True:
            call, idle = self._call or self._begin(room, wait), self._idle
            await asyncio.wait({call}, timeout=max(0.0, until - self._loop.time()) + BUSY_WAIT)
            if not call.done():
                self._check_patience()
                return
            if self._call is call:
                self._collect()
            self._check()
            if not idle or not room or self._loop.time() >= until:
                return

    def _begin(self, room: int, wait: float) -> asyncio.Task[Any]:
        self._asked, self._idle = self._loop.time(), not room
        self._call = asyncio.create_task(self._called(room, wait))
        return self._call

    async def _called(self, room: int, wait: float) -> Any:
        try:
            return await self._records(room, wait)
        except OffsetsGoneError as gone:
            raise await self._lost_offsets(gone.places) from gone

    def _collect(self) -> None:
        """Take what the call that has ended brought; what it raised is this member's end."""
        call, self._call = self._call, None
        assert call is not None  # noqa: S101 - for the type checker
        with self._failing():
            if call.cancelled():
                raise LostError("client", "the client library cancelled the call")
            self._hold(call.result())

    def _check_patience(self) -> None:
        patience = (self._settings.rebalance_timeout_ms + self._settings.stuck_timeout_ms) / 1000
        if self._revoking or self._placement.partitions:
            patience += self._settings.drain_timeout_ms / 1000  # ours, and bounded by itself
        if self._loop.time() - self._asked > patience:
            raise self._fail(LostError("silent", f"no response from the client or its group for {patience:.0f} s"))

    def _take(self, room: int) -> tuple[list[Any], dict[TopicPartition, int]]:
        """Hand out what is held: at least one record, more while there is room. And how far the client is without."""
        taken: list[Any] = []
        held = self._held
        while held:
            size = held[0].size
            if taken and size > room:
                break
            room -= size
            taken.append(held.popleft())
        return taken, {}

    def _passed(self, last: Mapping[TopicPartition, Record]) -> Mapping[TopicPartition, int]:  # noqa: ARG002 - of others
        """Where the client stands behind what was handed out, `last` just now: only offsets without a record lie
        between."""
        return {}

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What is raised in the block is the end of this member."""
        try:
            yield
        except (LmstreamError, LostError) as error:
            raise self._fail(error) from error.__cause__
        except Exception as error:
            raise self._fail(lost(error)) from error

    def _fail(self, error: Exception) -> Exception:
        """Be over: what was taken and not handed out is gone from this client, the next reads it again."""
        self.failure = error
        return error

    @contextlib.asynccontextmanager
    async def _committing(self, offsets: Mapping[TopicPartition, int]) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                yield
        except self.client_errors as error:
            what = ", ".join(f"{tp.topic}/{tp.partition}={n}" for tp, n in list(offsets.items())[:3])
            raise SourceError("source.commit", f"{what}: {type(error).__name__} {error}".rstrip()) from error

    async def _tell(self, places: Mapping[TopicPartition, int], stands: Mapping[TopicPartition, Assigned]) -> None:
        """Commit places beyond those of the group: what lies before them is settled, and where nothing follows, no
        later commit would say so. Nothing is lost when it fails: the next commit, or the next assignment, covers it."""
        if ahead := {tp: n for tp, n in places.items() if n > stands[tp].next}:
            with contextlib.suppress(SourceError):
                await self.commit(ahead)

    async def _lost_offsets(self, places: Mapping[TopicPartition, int]) -> LostError:
        """Find where to continue when offsets are gone, make that the group's, and let a new member begin there.

        Raises SourceError when the settings do not allow it, and LostError when it cannot be done now.
        """
        health = self._source.health
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                bounds = await self._bounds(places.keys())
        except self.client_errors as error:
            raise LostError("client", f"the end offsets of the topic are not available: {error!r}") from error
        before = health.lost_by_retention
        targets = {tp: self._source.gone(tp, at, *bounds[tp]) for tp, at in places.items()}
        # No longer ours: what was settled before the jump is history, and must not be committed over it.
        self._release(targets)
        try:
            async with self._committing(targets):
                await self._commit_alone(targets)
        except SourceError as error:
            health.lost_by_retention = before  # found again, and counted then
            raise LostError("offset", f"cannot continue at the earliest offset: {error.detail}") from error
        return LostError("offset", f"continuing at the earliest offset of {len(targets)} partitions")

    # --- the group -----------------------------------------------------------------------------------------------

    def _own(self, partitions: Collection[TopicPartition]) -> None:
        """Take partitions as ours from now on, under a new epoch."""
        epochs = dict.fromkeys(partitions, next_epoch())
        self.owned, self._since = {**self.owned, **epochs}, {**self._since, **epochs}
        stay = self.owned.keys() - set(partitions)
        self._committed = {tp: n for tp, n in self._committed.items() if tp in stay}
        self.joined = True
        self._source.health.rebalances += 1

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Settle what is in flight of partitions, and release them."""
        gone = frozenset(partitions)
        self._revoking |= gone
        # Never handed out, so never committed: the next owner reads them.
        self._held = deque(each for each in self._held if each.tp not in gone)
        try:
            await self._source.given_up(gone)
        finally:
            self._release(gone)
            self._revoking -= gone
            self._asked = self._loop.time()  # the drain was our time, and not the client's

    def _release(self, partitions: Collection[TopicPartition]) -> None:
        self.owned = {tp: epoch for tp, epoch in self.owned.items() if tp not in partitions}
