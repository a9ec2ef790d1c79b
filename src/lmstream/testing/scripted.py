"""A sink, a source and a place of dead letters that do what a script says: the world around a part that is tested."""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from lmstream.interfaces import Batch, Drain, Limits
from lmstream.model import DeadLetter, Failure, Kind, Pack, Record, TopicPartition
from lmstream.testing.virtual_time import now, told_to_run

DOWN: Final = Failure(Kind.RETRYABLE, "InternalFailure", "no luck")
"""What a step of bools makes of a pack."""
LIMITS: Final = Limits(pack_bytes=200, pack_rows=5, request_packs=4, request_bytes=600)
"""Small: a few rows make several packs, and a few packs several requests."""
_FOREVER: Final = 10**6  # seconds

Step = (
    None
    | Failure
    | Sequence[bool | Failure]
    | BaseException
    | Literal["hang", "short", "lost"]
    | Callable[[Sequence[Pack]], "Step"]
)


class ScriptedSink:
    """Answers each write by the next step of the script, then with success.

    A step is one of: None (success) · a Failure (for every pack) · a list of bools (which packs fail retryably) or
    Failures · an exception to raise · "hang" · "short" (a verdict too few, packs taken) · "lost" (packs taken, then an
    exception) · a callable of the packs that answers a step.
    """

    def __init__(
        self, script: Iterable[Step] = (), *, limits: Limits = LIMITS, latency: Callable[[], float] = lambda: 0.01
    ) -> None:
        """`latency` is in seconds."""
        self.limits: Limits = limits
        self.script: deque[Step] = deque(script)
        self.latency: Callable[[], float] = latency
        self.calls: list[tuple[float, list[Pack]]] = []
        """When, and what; refused ones too."""
        self.accepted: list[Pack] = []
        self.busy: int = 0
        """Requests that are under way."""
        self.most_busy: int = 0
        self.closed: bool = False
        self.down: Failure | None = None
        """Answered for every pack, instead of the script, as long as it is set."""
        self.on_write: Callable[[Sequence[Pack]], None] | None = None
        """Called with each request; what it asserts fails the test."""

    @property
    def lines(self) -> Counter[bytes]:
        """The lines it took, each with its newline, and how often."""
        return Counter(line for each in self.accepted for line in each.data.splitlines(keepends=True))

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Answer by the script."""
        with told_to_run():
            assert not self.closed, "a sink was written to after it was closed"
        self.calls.append((now(), list(packs)))
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            if self.on_write:
                with told_to_run():
                    self.on_write(packs)
            await asyncio.sleep(self.latency())
            return await self._answer(packs, self.down or (self.script.popleft() if self.script else None))
        finally:
            self.busy -= 1

    async def _answer(self, packs: Sequence[Pack], step: Step) -> Sequence[Failure | None]:
        if callable(step):
            step = step(packs)
        if step == "hang":
            await asyncio.sleep(_FOREVER)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, Failure):
            return [step] * len(packs)
        mask = step if isinstance(step, list) else []
        verdicts: list[Failure | None] = [None] * len(packs)
        for at, said in enumerate(mask[: len(packs)]):
            verdicts[at] = said if isinstance(said, Failure) else DOWN if said is True else None
        self.accepted += [each for each, v in zip(packs, verdicts, strict=True) if v is None]
        if step == "lost":
            raise ConnectionResetError("after the service took it")
        return verdicts[1:] if step == "short" else verdicts

    async def close(self) -> None:
        """Take nothing from now on."""
        self.closed = True


class ScriptedLetters:
    """Keeps dead letters in `letters`; each truthy step of the script makes one write fail."""

    largest: int = sys.maxsize

    def __init__(self, script: Iterable[object] = ()) -> None:
        self.script: deque[object] = deque(script)
        self.letters: list[DeadLetter] = []
        self.closed: bool = False
        self.on_write: Callable[[Sequence[DeadLetter]], None] | None = None
        """Called with each write; what it asserts fails the test."""

    async def check(self) -> None:
        """There is always room."""

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """Keep them, or raise what a full disk does."""
        with told_to_run():
            assert not self.closed, "a place of dead letters was written to after it was closed"
        await asyncio.sleep(0.001)
        if self.on_write:
            with told_to_run():
                self.on_write(letters)
        if self.script and self.script.popleft():
            raise OSError(28, "No space left on device")
        self.letters += letters

    async def close(self) -> None:
        """Take nothing from now on."""
        self.closed = True

    @property
    def by_record(self) -> dict[str, DeadLetter]:
        """By the coordinates of the record."""
        return {each.record().coordinates: each for each in self.letters}


Fault = BaseException | Literal["hang"] | None


class ScriptedSource:
    """Hands out a log of records from the committed offsets on, `step` records a poll, like a broker with one member.

    `revoke()` gives all partitions up (through on_revoke) and takes them again in a new epoch, from what is committed.
    Of `poll_faults` and `commit_faults` each call takes one: an exception to raise, "hang", or None.
    """

    def __init__(
        self,
        log: Iterable[Record],
        *,
        step: int = 3,
        end: bool = True,
        committed: dict[TopicPartition, int] | None = None,
    ) -> None:
        """With `end` it ends after the last record. `committed` outlives it, where it is handed to the next one."""
        self.on_revoke: Drain | None = None
        self.log: list[Record] = list(log)
        self.step: int = step
        self.end: bool = end
        self.committed: dict[TopicPartition, int] = committed if committed is not None else {}
        self.commits: list[dict[TopicPartition, int]] = []
        self.commit_faults: deque[Fault] = deque()
        self.poll_faults: deque[Fault] = deque()
        self.close_fault: BaseException | None = None
        self.epoch: int = 1
        self.revoking: bool = False
        self.rooms: list[int] = []
        """The room of each poll, in bytes."""
        self.closed: bool = False
        self.todo: deque[Record] = deque()
        self._seek()

    @property
    def partitions(self) -> set[TopicPartition]:
        """All that the log has."""
        return {each.tp for each in self.log}

    def _seek(self) -> None:
        self.todo = deque(each for each in self.log if each.offset >= self.committed.get(each.tp, 0))

    async def poll(self, room: int, /) -> Batch:
        """The next records, or the next fault."""
        assert not self.closed, "a source was polled after it was closed"
        self.rooms.append(room)
        await asyncio.sleep(0.02)
        if self.poll_faults:
            await _suffer(self.poll_faults.popleft())
        if room <= 0 or self.revoking:
            return Batch([])
        some = [self.todo.popleft() for _ in range(min(self.step, len(self.todo)))]
        return Batch(some, dict.fromkeys(self.partitions, self.epoch), end=self.end and not self.todo)

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Remember them, or suffer the next fault."""
        with told_to_run():
            assert not self.closed, "a source was committed to after it was closed"
        fault = self.commit_faults.popleft() if self.commit_faults else None
        await asyncio.sleep(0.005)
        await _suffer(fault)
        self.commits.append(dict(offsets))
        self.committed.update(offsets)

    async def revoke(self) -> None:
        """Lose all partitions, and get them again."""
        self.revoking = True
        try:
            assert self.on_revoke is not None, "no runtime has this source"
            await self.on_revoke(self.partitions)
        finally:
            self.revoking = False
        self.epoch += 1
        self._seek()

    async def close(self) -> None:
        """End, or raise `close_fault`."""
        self.closed = True
        if self.close_fault is not None:
            raise self.close_fault


async def _suffer(fault: Fault) -> None:
    if fault == "hang":
        await asyncio.sleep(_FOREVER)
    elif fault is not None:
        raise fault
