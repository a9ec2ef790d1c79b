"""Schedules of one member after the other over somebody's source: killed, stopped, restarted, its sink failing."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

from lmstream.delivery import Pipeline, RollPolicy
from lmstream.engine import Engine
from lmstream.interfaces import Batch, Source
from lmstream.model import Record, TopicPartition
from lmstream.runtime import Runtime
from lmstream.testing import samples
from lmstream.testing.bridge import Bridge, answer
from lmstream.testing.schedules import DELIVERY, POLICY, BrokenError
from lmstream.testing.scripted import ScriptedLetters, ScriptedSink, Step
from lmstream.testing.virtual_time import SeededLoop, now, quiet, run

_LIVES: Final = 4
_LONGEST: Final = 600.0  # virtual seconds of the last life


class Reading(Protocol):
    """The suite, as far as it is needed here."""

    @property
    def finite(self) -> bool: ...

    @property
    def grouped(self) -> bool: ...

    def make(self) -> Any: ...

    def put(self, values: Sequence[bytes], /) -> Any: ...


def play(seed: int, suite: Reading, bridge: Bridge) -> None:
    """Play the schedule of a seed; whatever is wrong is raised, with the seed."""
    story = _Story(seed, suite, bridge)
    try:
        with quiet():
            run(story.told(), lambda: SeededLoop(seed))
    except BaseException as e:
        e.add_note(f"LMSTREAM_SEED={seed} replays this schedule; its events: " + "; ".join(story.events[-40:]))
        raise


class _Story:
    def __init__(self, seed: int, suite: Reading, bridge: Bridge) -> None:
        self.draw = Random(seed)
        self.suite, self.bridge = suite, bridge
        self.engine = Engine(samples.SETTINGS)
        self.events: list[str] = []
        self.values = [samples.bundle(1 + n % 3, name=f"m{n}") for n in range(self.draw.randint(1, 15))]
        self.values += [samples.JUNK] * self.draw.randint(0, 1)
        self.draw.shuffle(self.values)
        self.records: dict[tuple[TopicPartition, int], Record] = {}
        self.landed: set[bytes] = set()
        self.letters = ScriptedLetters()

    def note(self, what: str) -> None:
        self.events.append(f"{now():.3f} {what}")

    async def told(self) -> None:
        self.bridge.call(answer(self.suite.put(self.values)))
        sources: list[Source] = []
        for life in range(self.draw.randint(1, _LIVES)):
            await self.life(life, sources, last=False)
        await self.life(_LIVES, sources, last=True)
        self.judge()
        for source in sources:
            self.bridge.call(source.close())

    async def life(self, number: int, sources: list[Source], *, last: bool) -> None:
        """One process, killed or stopped at some moment; the last one reads to the end."""
        inner: Source = self.bridge.call(answer(self.suite.make()))
        source = _Watched(inner, self)
        draw, how = self.draw, ""
        script: list[Step] = []
        if not last:
            script = [
                draw.choice(["lost", "short", ConnectionResetError("gone"), [True, False], None]) for _ in range(9)
            ]
        sink = ScriptedSink(script, latency=lambda: draw.choice([0.001, 0.3]))
        self.letters.closed = False
        pipeline = Pipeline(
            self.engine, sink, self.letters, clock=now, sleep=asyncio.sleep, random=draw.random, policy=DELIVERY,
            roll=RollPolicy(age=0.5), budget=draw.choice([20_000, 4 * 10**6]),
        )  # fmt: skip
        runtime = Runtime(source, pipeline, clock=now, policy=POLICY)
        task = asyncio.ensure_future(runtime.run())
        if last:
            await self.to_the_end(task, runtime, sink)
        else:
            await asyncio.wait({task}, timeout=draw.random() * 2)
            how = draw.choice(["error", "stop"] if self.suite.grouped else ["kill", "error", "stop"])
            self.note(f"{how} {number}")
            source.dead = how != "stop"
            runtime.stop() if how == "stop" else task.cancel()
            await asyncio.wait({task})
        self.landed.update(sink.lines)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        if how == "error":
            self.bridge.call(inner.close())  # as a process does that ends by an error, with records in flight
        elif source.dead:
            sources.append(inner)  # its process is gone; here its sockets have to be closed some time

    async def to_the_end(self, task: "asyncio.Task[Any]", runtime: Runtime, sink: ScriptedSink) -> None:
        """Until the source ends; one that does not, until all that was put is delivered."""
        until = now() + _LONGEST
        while not task.done() and now() < until:
            await asyncio.wait({task}, timeout=1.0)
            self.landed.update(sink.lines)
            if not self.suite.finite and not self.missing():
                break
        if not task.done() and self.suite.finite:
            task.cancel()
            raise BrokenError(f"the source did not end within {_LONGEST:g} s; {len(self.records)} records came")
        runtime.stop()
        await asyncio.wait({task})

    def missing(self) -> str:
        """What was put and is not delivered, in words; empty when all is."""
        came = [each.value for each in self.records.values()]
        lost = [value for value in self.values if came.count(value) < self.values.count(value)]
        if lost:
            return f"{len(lost)} of {len(self.values)} values never came, as {lost[0][:200]!r}"
        buried = self.letters.by_record
        for each in self.records.values():
            lines = samples.lines_of(self.engine, each)
            if not self.landed.issuperset(lines) or (each.value == samples.JUNK and each.coordinates not in buried):
                return f"lost: {each.coordinates} came, but not all of its rows were delivered"
        return ""

    def judge(self) -> None:
        """Raise BrokenError for what was lost, and for what nobody put."""
        if missing := self.missing():
            raise BrokenError(missing)
        came = [each.value for each in self.records.values()]
        odd = [value for value in came if value not in self.values]
        if odd:
            raise BrokenError(f"{len(odd)} values came that were not put, as {(odd[0] or b'')[:200]!r}")
        if len(came) > len(self.values):
            raise BrokenError(f"{len(came)} offsets for {len(self.values)} values: a record changed its coordinates")


class _Watched:
    """Somebody's source, called through the bridge, and what came of it."""

    def __init__(self, inner: Source, story: _Story) -> None:
        self.on_revoke: Any = None  # sources whose partitions move are tested with a broker, not here
        self.dead = False
        self._inner, self._story = inner, story

    async def poll(self, room: int, /) -> Batch:
        """As the source, and a virtual moment later."""
        story = self._story
        await asyncio.sleep(story.draw.choice([0.01, 0.2]))
        batch = story.bridge.call(self._inner.poll(room))
        for each in batch.records:
            before = story.records.setdefault((each.tp, each.offset), each)
            if before.value != each.value:
                raise BrokenError(f"{each.coordinates} had another value when it was read before")
        return batch

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """As the source."""
        await asyncio.sleep(0.01)
        if self.dead:
            raise OSError("this process is dead")
        self._story.note(f"commit {dict(offsets)}")
        self._story.bridge.call(self._inner.commit(offsets))

    async def close(self) -> None:
        """As the source, unless its process is dead."""
        if not self.dead:
            self._story.bridge.call(self._inner.close())
