"""Doubles for the delivery core: a loop of virtual time, an engine of toy bundles, and scripted sinks and sources."""

import asyncio
import contextlib
import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextvars import ContextVar
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.delivery.sender import Sender
from lmstream.engine.output import LostPart, Spread
from lmstream.errors import DecodeError
from lmstream.interfaces import Batch, Limits
from lmstream.model import Failure, Kind, Record, TopicPartition
from lmstream.settings import Settings

THROTTLED = Failure(Kind.RETRYABLE, "ServiceUnavailableException", "slow down")
DOWN = Failure(Kind.RETRYABLE, "InternalFailure", "no luck")
REFUSED = Failure(Kind.PERMANENT, "InvalidArgumentException", "never")
MISSING = Failure(Kind.FATAL_CONFIG, "ResourceNotFoundException", "no such stream")


class DeadlockError(Exception):
    """Nothing is ready and nothing is due: everybody waits for somebody."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to whatever is due next; tests of hours take milliseconds, and a deadlock is seen at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            events = select(0)
            if not events and timeout is None:
                raise DeadlockError
            if not events and timeout:
                self.now += timeout
            return events

        self._selector.select = jump  # type: ignore[method-assign]

    def time(self) -> float:
        return self.now


class SeededLoop(VirtualLoop):
    """Virtual time, and callbacks that are ready together run in an order drawn from a seed: what a schedule finds,
    the same seed finds again.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = Random(seed)

    def _run_once(self) -> None:
        ready: deque = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            some = list(ready)
            self._draw.shuffle(some)
            ready.clear()
            ready.extend(some)
        super()._run_once()  # type: ignore[misc]


def run(coroutine: Any, loop_factory: Any = VirtualLoop) -> Any:
    """Run in virtual time; raises also what doubles found to be wrong."""
    wrong: list[AssertionError] = []
    before = _WRONG.set(wrong)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(coroutine)
    finally:
        _WRONG.reset(before)
    for error in wrong:
        raise error
    return result


_WRONG: ContextVar[list[AssertionError] | None] = ContextVar("wrong", default=None)
"""What doubles found to be wrong in this `run`."""


@contextlib.contextmanager
def told_to_run() -> Iterator[None]:
    """For what a double asserts: who calls it takes an exception for one more fault, and goes on."""
    try:
        yield
    except AssertionError as error:
        if (wrong := _WRONG.get()) is not None:
            wrong.append(error)
        raise


def now() -> float:
    return asyncio.get_running_loop().time()


# --- an engine of toy bundles ------------------------------------------------------------------------------------

LIMITS = Limits(pack_bytes=200, pack_rows=5, request_packs=4, request_bytes=600)
BODIES = msgspec.structs.replace(LIMITS, request_bytes=900, base64=True)
OBJECTS = Limits(pack_bytes=400, pack_rows=10, request_packs=1, request_bytes=400, by_path=True)


def bundle(
    rows: int = 1, *, bad: int = 0, skipped: int = 0, paths: int = 1, fault: str = "", parts: int = 0, unknown: int = 0
) -> bytes:
    made = {"rows": rows, "bad": bad, "skipped": skipped, "paths": paths, "fault": fault}
    return json.dumps(made | {"parts": parts, "unknown": unknown}).encode()


def record(offset: int, value: bytes | None, *, partition: int = 0, **more: Any) -> Record:
    return Record(topic="t", partition=partition, offset=offset, value=value, **more)


def lines_of(each: Record) -> list[bytes]:
    """The rows a record becomes, by the rule of the toy engine."""
    what = json.loads(each.value or b'{"rows":0}')
    return [b'{"rowId":"%b:%d"}\n' % (each.coordinates.encode(), n) for n in range(what.get("rows", 0))]


class ToyEngine:
    """`bundle` values in, lines that name their record out."""

    settings = Settings()

    def fan_out(self, each: Record) -> Any:
        if each.value is None:
            return ToyOut([], [], {"record.tombstone": 1}, ())
        if each.value.rstrip() == b"junk":
            raise DecodeError("decode.json", "line 1")
        what = json.loads(each.value)
        if what["fault"] == "memory":
            raise MemoryError
        if what["fault"] == "bug":
            raise ZeroDivisionError("a bug")
        lines = lines_of(each)
        rejected = tuple((what["rows"] + n, "value.two") for n in range(what["bad"]))
        skipped = {"value.nan": what["skipped"]} if what["skipped"] else {}
        short = 1 if what["fault"] == "short" else 0
        out = ToyOut(lines[short:], [f"p{n % what['paths']}/" for n in range(len(lines))], skipped, rejected, short)
        out.points = what["rows"] + what["bad"] + what["skipped"]
        out.parts = tuple(LostPart(f"$.parts[{n}]", "decode.type", f"{n} is no part") for n in range(what["parts"]))
        out.unknown = tuple(f"$.items[{n}].odd{n}" for n in range(what["unknown"]))
        return out


class ToyOut:
    def __init__(self, lines: list[bytes], paths: list[str], skipped: dict, rejected: tuple, short: int = 0) -> None:
        self.rows = len(lines) + short
        self.lines, self.paths = lines, paths
        self.skipped, self.rejected, self.noted = skipped, rejected, {}
        self.points, self.parts, self.unknown = 0, (), ()

    def why(self, ordinal: int) -> str:
        assert ordinal in dict(self.rejected)
        return f"metric m, $.points[{ordinal}]: two values"

    hour = None

    def spread(self) -> list[Spread]:
        return [Spread("", path.encode(), [SimpleNamespace(key=path)]) for path in sorted(set(self.paths))]

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        out: list[list[bytes]] = []
        for line in self.lines:
            if not out or len(out[-1]) == max_rows or sum(map(len, out[-1])) + len(line) > max_bytes:
                out.append([])
            out[-1].append(line)
        return [(b"".join(part), len(part)) for part in out]

    @property
    def groups(self) -> list[Any]:
        by: dict[str, list[bytes]] = {}
        for line, path in zip(self.lines, self.paths, strict=False):
            by.setdefault(path, []).append(line)
        return [SimpleNamespace(path=path, data=b"".join(part), rows=len(part)) for path, part in by.items()]


# --- scripted sinks ----------------------------------------------------------------------------------------------


class ScriptedSink:
    """Answers each write by the next step of the script, then with success. A step is one of:

    None (success) · a Failure (for every pack) · a list of bools (which packs fail retryably) · an exception to raise ·
    "hang" · "short" (a verdict too few, packs taken) · "lost" (packs taken, then an exception) · a callable(packs).
    """

    def __init__(self, script: Any = (), *, limits: Limits = LIMITS, latency: Any = lambda: 0.01) -> None:
        self.limits = limits
        self.script = deque(script)
        self.latency = latency
        self.calls: list[tuple[float, list[Any]]] = []
        self.accepted: list[Any] = []
        self.busy = self.most_busy = 0
        self.closed = False
        self.down: Failure | None = None
        self.on_write: Any = None

    @property
    def lines(self) -> Counter:
        return Counter(line for each in self.accepted for line in each.data.splitlines(keepends=True))

    async def write(self, packs: Any, /) -> Any:
        with told_to_run():
            assert not self.closed
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

    async def _answer(self, packs: Any, step: Any) -> Any:
        if callable(step):
            step = step(packs)
        if step == "hang":
            await asyncio.sleep(10**6)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, Failure):
            return [step] * len(packs)
        mask = step if isinstance(step, list) else []
        verdicts = [DOWN if at < len(mask) and mask[at] is True else None for at in range(len(packs))]
        if isinstance(step, list):
            verdicts = [
                mask[at] if at < len(mask) and isinstance(mask[at], Failure) else v for at, v in enumerate(verdicts)
            ]
        self.accepted += [each for each, v in zip(packs, verdicts, strict=True) if v is None]
        if step == "lost":
            raise ConnectionResetError("after the service took it")
        return verdicts[1:] if step == "short" else verdicts

    async def close(self) -> None:
        self.closed = True


class ScriptedLetters:
    """Takes dead letters; each truthy step of the script makes one write fail."""

    largest = sys.maxsize

    def __init__(self, script: Any = ()) -> None:
        self.script = deque(script)
        self.letters: list[Any] = []
        self.closed = False
        self.on_write: Any = None

    async def write(self, letters: Any, /) -> None:
        with told_to_run():
            assert not self.closed
        await asyncio.sleep(0.001)
        if self.on_write:
            with told_to_run():
                self.on_write(letters)
        if self.script and self.script.popleft():
            raise OSError(28, "No space left on device")
        self.letters += letters

    async def close(self) -> None:
        self.closed = True

    @property
    def by_record(self) -> dict[str, Any]:
        return {each.record().coordinates: each for each in self.letters}


def nobody(*_: Any) -> None:
    """Is told of each settled record, and does not mind."""


async def verdicts_of(sender: Sender, packs: Any, deadline: float | None = None) -> list[Failure | None]:
    """Deliver, and answer the verdict on each pack in their order; each has to come once."""
    told: dict[bytes, Failure | None] = {}

    def verdict(pack: Any, failure: Failure | None) -> None:
        with told_to_run():
            assert pack.data not in told
        told[pack.data] = failure

    await sender.deliver(packs, verdict, deadline)
    return [told[each.data] for each in packs]


def make(sink: Any, letters: Any = None, *, seed: int = 1, engine: Any = None, **more: Any) -> Pipeline:
    """A pipeline of doubles in the running (virtual) loop."""
    more.setdefault("policy", DeliveryPolicy(timeout=5.0))
    return Pipeline(
        engine or ToyEngine(),
        sink,
        letters or ScriptedLetters(),
        clock=now,
        sleep=asyncio.sleep,
        random=Random(seed).random,
        **more,
    )


# --- a scripted source -------------------------------------------------------------------------------------------


class ScriptedSource:
    """Hands out a log of records from the committed offsets on, `step` records a poll, like a broker with one member.

    `revoke()` gives all partitions up (through on_revoke) and takes them again in a new epoch, from what is committed.
    """

    def __init__(self, log: Any, *, step: int = 3, end: bool = True, committed: dict | None = None) -> None:
        self.on_revoke: Any = None
        self.log = list(log)
        self.step, self.end = step, end
        self.committed: dict[TopicPartition, int] = committed if committed is not None else {}
        self.commits: list[dict] = []
        self.commit_faults: deque = deque()
        self.poll_faults: deque = deque()
        self.close_fault: BaseException | None = None
        self.epoch = 1
        self.revoking = False
        self.rooms: list[int] = []
        self.closed = False
        self.todo: deque = deque()
        self._seek()

    @property
    def partitions(self) -> set[TopicPartition]:
        return {each.tp for each in self.log}

    def _seek(self) -> None:
        self.todo = deque(each for each in self.log if each.offset >= self.committed.get(each.tp, 0))

    async def poll(self, room: int, /) -> Batch:
        assert not self.closed
        self.rooms.append(room)
        await asyncio.sleep(0.02)
        if self.poll_faults:
            fault = self.poll_faults.popleft()
            if fault == "hang":
                await asyncio.sleep(10**6)
            if fault is not None:
                raise fault
        if room <= 0 or self.revoking:
            return Batch([])
        some = [self.todo.popleft() for _ in range(min(self.step, len(self.todo)))]
        return Batch(some, dict.fromkeys(self.partitions, self.epoch), end=self.end and not self.todo)

    async def commit(self, offsets: Any, /) -> None:
        with told_to_run():
            assert not self.closed
        fault = self.commit_faults.popleft() if self.commit_faults else None
        await asyncio.sleep(0.005)
        if fault == "hang":
            await asyncio.sleep(10**6)
        if fault is not None:
            raise fault
        self.commits.append(dict(offsets))
        self.committed.update(offsets)

    async def revoke(self) -> None:
        self.revoking = True
        try:
            await self.on_revoke(self.partitions)
        finally:
            self.revoking = False
        self.epoch += 1
        self._seek()

    async def close(self) -> None:
        self.closed = True
        if self.close_fault is not None:
            raise self.close_fault
