"""Keep one member of the consumer group alive: a member that died is taken out, drained, and replaced by a new one.

Clients die of ordinary answers of a broker, each in its own way. Here there is one way: a member polls, or raises
LostError, and what was read and not committed is read again by the next one, under higher epochs. The process is ended
only when new members do not help either.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import structs

from lmstream.abilities import Health
from lmstream.errors import LmstreamError, RestartError, SourceError, coded
from lmstream.interfaces import Assign, Batch, Drain, Load, Standing
from lmstream.kafka.asking import Asked
from lmstream.kafka.group.lost import LostError, log
from lmstream.kafka.group.member import Member
from lmstream.kafka.group.restart_policy import RestartPolicy
from lmstream.kafka.settings import Settings, group_of
from lmstream.kafka.tls import Tls
from lmstream.model import TopicPartition

if TYPE_CHECKING:
    from lmstream.kafka._record_reader import DamagedBatch, Journal

_WAIT: Final = 0.2  # seconds a poll takes at most while a new member is not due yet
_THROTTLED: Final = 1.0  # seconds that an answer is held back from which on it is worth a word
_TELL: Final = 60.0  # seconds between two such words
_LAST_DRAIN: Final = 5.0  # seconds to settle and commit under a member that is lost: its commits mostly fail


class Supervisor(Asked):
    """Source of one consumer group. Commits only what it is told, and only for partitions it still owns."""

    def __init__(self, settings: Settings, enlist: Callable[["Supervisor"], Member]) -> None:
        """`enlist` makes a member; nothing connects before `start` or the first `poll`."""
        self.on_revoke: Drain | None = None
        self.on_assign: Assign | None = None
        """Awaited for the drain timeout at most (`Placement`). SinkError and ConfigError end the run; after any other
        error, or none in time, another member asks again, for as long as that takes."""
        self.health: Health = Health()
        self.settings: Settings = settings
        self.tls: Tls = Tls(settings)
        """Certificate of the client, renewed while it runs."""
        self.load: Callable[[], Load] | None = None
        self.journal: Journal | None = None
        """Remembers over which batch a process died. Set before `start`."""
        self.lanes: int | None = None
        """See abilities.Laned."""
        self._enlist = enlist
        self._member: Member | None = None
        self._starting = asyncio.Lock()
        self._paused: frozenset[TopicPartition] = frozenset()
        self._ended: LmstreamError | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._known: set[TopicPartition] | None = None
        self._were_missing: set[str] = set()
        self._throttled_told = -_TELL
        self._ever = False  # whether any member was ever given an assignment
        self._restarts = RestartPolicy(settings)

    @property
    def certificate_expiry(self) -> float | None:
        """Unix time at which the client certificate ends; None without one."""
        return self.tls.expiry

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        """Partitions owned now, with their assignment epochs."""
        return {} if self._member is None else dict(self._member.owned)

    def standings(self) -> Mapping[TopicPartition, Standing]:
        """Where the group stands in each partition that is ours; nothing while there is no member."""
        return self._member.standings() if self._member is not None else {}

    async def start(self) -> None:
        """Connect and join the group, as `poll` does too. Raises ConfigError or SourceError in the start-up timeout."""
        async with self._starting:
            if self._ended is not None:
                raise self._ended
            if self._member is not None:
                return
            group_of(self.settings)
            await self.tls.start()
            member = self._enlist(self)
            try:
                await member.start()
                self._restarts.started(asyncio.get_running_loop().time())
            except BaseException:
                await self._dismiss(member)
                raise
            member.pause(self._paused)
            self._member = member
            self.health.state = "starting"

    async def poll(self, room: int, /) -> Batch:
        """Wait up to 200 ms for records of at most about `room` bytes; at least one when there is any room."""
        if self._ended is not None:
            raise self._ended
        if self._member is None and not await self._ready():
            return Batch(records=())
        member = self._member
        assert member is not None  # noqa: S101 - for the type checker: it is there now
        try:
            batch = await member.poll(room)
        except LostError as lost:
            await self._lose(member, lost)
            return Batch(records=())
        except LmstreamError as error:
            raise self._end(error) from error.__cause__
        if member.joined and self.health.state == "starting":
            self._runs()
        return batch

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Commit these of partitions we own and have not committed further. Raises SourceError `source.commit`."""
        if not offsets:
            return
        if self._member is None:
            raise SourceError("source.commit", "this process is not in the consumer group at the moment")
        await self._member.commit(offsets)

    async def seek(self, places: Mapping[TopicPartition, int], /) -> None:
        """Read these from there on, under a new epoch; those that are not assigned, or are being revoked or placed, are
        left out. Raises SourceError while there is no member: `on_assign` says where the next one begins.

        It waits for nothing. Each later batch has the new epoch, and no record or passed offset of before. An offset
        that the topic does not have is judged by a later poll (`on_offset_lost`).
        """
        if self._member is None or self._member.failure is not None:
            raise SourceError("source.unreachable", "this process is not in the consumer group at the moment")
        self._member.seek(places)

    def pause(self, partitions: Collection[TopicPartition], /) -> None:
        """Read nothing of these partitions until the next call says otherwise; others continue."""
        self._paused = frozenset(partitions)
        if self._member is not None:
            self._member.pause(self._paused)

    async def close(self) -> None:
        """Leave the group. Never raises; takes some seconds at most, brokers or not."""
        await self.tls.close()
        async with self._starting:
            member, self._member = self._member, None
            self._ended = self._ended or SourceError("source.unreachable", "the source was closed")
            self.health.state = "stopped"
            if member is not None:
                await self._dismiss(member)
            if self._closing:
                await asyncio.wait(self._closing)  # bounded: each member's close is

    # --- what members call ---------------------------------------------------------------------------------------

    async def given_up(self, partitions: Collection[TopicPartition]) -> None:
        """Settle what is in flight of these partitions: the group takes them away when this returns."""
        before, self.health.state = self.health.state, "draining"
        try:
            await self._drain(partitions, self.settings.drain_timeout_ms / 1000, "its rows may come twice")
        finally:
            if self.health.state == "draining":
                self.health.state = before

    async def _drain(self, partitions: Collection[TopicPartition], seconds: float, otherwise: str) -> None:
        if not partitions or self.on_revoke is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.on_revoke(list(partitions))
        except TimeoutError:
            text = "records in flight of %s were not settled in time; %s"
            log.warning(text, _named(partitions), otherwise, extra=coded("source.commit"))

    def known(self, partitions: set[TopicPartition]) -> set[TopicPartition]:
        """Answer the partitions there were at the first assignment of the first member; these are, if it is that."""
        self._known = partitions if self._known is None else self._known
        return self._known

    def topics_gone(self, topics: Collection[str]) -> None:
        """Take note of topics that are not there: one of that name that appears later is a new one."""
        self._were_missing |= set(topics)
        if self._known is not None:
            self._known = {tp for tp in self._known if tp.topic not in topics}

    def throttled(self, seconds: float) -> None:
        """Take note that the brokers throttle our fetches; called from any thread."""
        if seconds < _THROTTLED:
            return
        self.health.throttled += 1
        now = time.monotonic()
        if now - self._throttled_told >= _TELL:
            self._throttled_told = now
            log.warning(
                "the brokers throttle fetches for %.0f s at a time: a quota of this user or client id",
                seconds,
                extra=coded("source.quota"),
            )

    def gone(self, tp: TopicPartition, position: int, begin: int, end: int) -> int:
        """Judge an offset that a broker says is out of range; answer where to continue when the settings allow it.

        Raises SourceError when they do not, and LostError when the offset is there: replicas may be behind for a
        moment, and jumping because of that would lose or repeat everything.
        """
        place = f"{tp.topic}/{tp.partition}/{position}"
        if position < begin:
            lost = begin - position
            self.health.lost_by_retention += lost
            what = f"{place}: {lost:,} offsets up to {begin - 1} were deleted from the topic before they were read"
        elif position > end:
            self.health.topic_resets += 1
            what = f"{place}: the topic ends at {end}, below what the group has read: it was recreated or truncated"
            if tp.topic in self._were_missing:  # we saw it go: what it held then is gone by who deleted it
                log.warning("%s; continuing at %d, its beginning", what, begin, extra=coded("source.offset"))
                return begin
        else:
            raise LostError("offset", f"{place}: refused as out of range, though the topic holds {begin} to {end}")
        self.health.last_error = what
        if self.settings.on_offset_lost == "stop":
            log.error("%s; stopping (on_offset_lost)", what, extra=coded("source.offset"))
            raise SourceError("source.offset", what)
        log.error("%s; continuing at %d (on_offset_lost)", what, begin, extra=coded("source.offset"))
        return begin

    @property
    def wary(self) -> bool:
        """Whether a process died while its client fetched: what waits is then read through the guarded reader first."""
        return self.journal is not None and self.journal.wary

    def well(self) -> None:
        """Note that what waited was read, and nobody died."""
        if self.journal is not None and self.journal.wary:
            with contextlib.suppress(OSError):  # a full disk: it is remembered, and costs the next start some speed
                self.journal.well()

    def held(self, tp: TopicPartition, trouble: "DamagedBatch | None") -> None:
        """Say that a partition is held because of what comes next in it, or with None that it can be read again."""
        if trouble is None:
            self.health.unreadable.pop(tp, None)
            log.warning("%s/%d can be read again", *tp, extra=coded("source.unreadable"))
            return
        place = f"{tp.topic}/{tp.partition}"
        what = (
            f"{place}: offsets {trouble.first} to {trouble.last} are damaged each time they are read. This "
            f"partition is blocked, others continue. To skip them: lmstream skip {place} --to {trouble.last + 1}"
        )
        self.health.unreadable[tp] = self.health.last_error = what
        log.error("%s", what, extra=coded("source.unreadable"))

    # --- keeping a member ----------------------------------------------------------------------------------------

    def _runs(self) -> None:
        recovery = self._restarts.joined(asyncio.get_running_loop().time())
        self.health.state, self._ever = "running", True
        # From now on a topic that is not there was there: the next member waits for it.
        self.settings = structs.replace(self.settings, on_topic_missing="wait")
        if recovery is not None:
            self.health.recovery_seconds = recovery
            log.warning("a new consumer joined after %.1f s", recovery, extra=coded("source.stuck"))

    async def _ready(self) -> bool:
        """Have a member when one is due. The first one raises what keeps it from starting, later ones try on."""
        loop = asyncio.get_running_loop()
        if (wait := self._restarts.wait(loop.time())) > 0:
            await asyncio.sleep(min(wait, _WAIT))
            return False
        try:
            await self.start()
        except LmstreamError as error:
            if not self._ever or self._ended is not None:
                raise
            self.health.failed_starts += 1
            self.health.last_error = str(error)
            # A cluster or a token server that is away is not fixed by a new process: wait for it, however
            # long it takes.
            if error.reason not in {"source.unreachable", "source.sasl"} and not self._restarts.failed(loop.time()):
                raise self._no_help(LostError("start", error.detail)) from error
            self._restarts.back_off(loop.time())
            text = "no new consumer, next attempt in %.1f s: %s"
            log.warning(text, self._restarts.delay, error, extra=coded(error.reason))
            return False
        return True

    async def _lose(self, member: Member, lost: LostError) -> None:
        """Settle and commit what can be, under the member that is lost; then the next one is due after a while."""
        loop = asyncio.get_running_loop()
        self.health.recreations[lost.cause] = self.health.recreations.get(lost.cause, 0) + 1
        self.health.last_error = lost.detail
        self.health.state = "suspect"
        owned = list(member.owned)
        log.warning(
            "the consumer is replaced after %s (%s)",
            _named(owned) or "no partitions",
            lost,
            extra=coded("source.stuck"),
        )
        if lost.cause == "denied" and not self._ever:
            raise self._end(SourceError("source.topic", lost.detail)) from lost
        if lost.cause == "fenced":
            raise self._end(RestartError("source.fenced", lost.detail)) from lost
        # Whoever knows where to begin may be away for long, as brokers may: a new process would not fix that.
        if lost.cause != "place" and not self._restarts.lost(loop.time(), assigned=bool(self.health.rebalances)):
            raise self._no_help(lost) from lost
        try:
            seconds = min(_LAST_DRAIN, self.settings.drain_timeout_ms / 1000)
            await self._drain(owned, seconds, "the next member reads it again")
        finally:
            self._member = None
            self.health.state = "recreating"
            self._restarts.back_off(loop.time())
            closing = self._tracked(member)
        await asyncio.wait({closing})  # the old member has left before the new one joins, or it would be waited for

    def _no_help(self, lost: LostError) -> LmstreamError:
        causes = Counter(self.health.recreations)
        told = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
        detail = f"replacing the consumer does not help ({told or 'none started'}); the last one: {lost.detail}"
        log.error("%s", detail, extra=coded("source.stuck"))
        return self._end(RestartError("source.stuck", detail))

    def _end(self, error: LmstreamError) -> LmstreamError:
        """Be over. The member stays until `close`: what is settled until then is still committed."""
        self._ended = error
        self.health.last_error = str(error)
        return error

    async def _dismiss(self, member: Member) -> None:
        """Close a member in a task of its own: a cancelled caller must not leave half a member behind."""
        await asyncio.shield(self._tracked(member))

    def _tracked(self, member: Member) -> asyncio.Task[None]:
        closing = asyncio.create_task(member.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing


def _named(partitions: Collection[TopicPartition]) -> str:
    some = ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(partitions)[:5])
    return some + (f" and {len(partitions) - 5} more" if len(partitions) > 5 else "")  # noqa: PLR2004 - as above
