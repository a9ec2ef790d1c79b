"""The parts of a schedule that fail: what stands between a member and its sink, source and place of dead letters."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from lmstream.interfaces import Batch, Drain, Limits
from lmstream.model import DeadLetter, Failure, Kind, Pack, TopicPartition
from lmstream.testing.scripted import DOWN
from lmstream.testing.virtual_time import now

if TYPE_CHECKING:
    from lmstream.testing.schedules import Member, World

THROTTLED: Final = Failure(Kind.RETRYABLE, "ServiceUnavailableException", "slow down")
REFUSED: Final = Failure(Kind.PERMANENT, "InvalidArgumentException", "never")
MISSING: Final = Failure(Kind.FATAL_CONFIG, "ResourceNotFoundException", "no such stream")
_FOREVER: Final = 10**6  # seconds


class Taker(Protocol):
    """The sink behind the weather: called where SimSink has decided that a request arrives."""

    @property
    def limits(self) -> Limits:
        """Of the sink."""
        ...

    def take(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Write them; the verdicts. Blocks."""
        ...

    def cut(self, packs: Sequence[Pack], steps: int, /) -> None:
        """Begin to write them, and be killed."""
        ...

    def close(self) -> None:
        """As the sink's."""
        ...


class Burier(Protocol):
    """The place of dead letters behind the weather."""

    def bury(self, letters: Sequence[DeadLetter], /) -> None:
        """Write them. Blocks."""
        ...

    def close(self) -> None:
        """As the place's."""
        ...


class SimSource:
    """A member's view of the topic; its commits are fenced by the generation, as brokers fence them."""

    def __init__(self, world: "World", member: "Member") -> None:
        self.on_revoke: Drain | None = None
        self.owned: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self._world, self._member = world, member
        self._generation = -1
        self._giving = False

    async def give_up(self) -> None:
        """Lose what is owned, as in a rebalance."""
        self._giving = True
        mine = list(self.owned)
        generation = self._generation
        if mine and self.on_revoke is not None:
            await self.on_revoke(mine)
        if generation == self._generation:
            self.owned = {}

    def assigned(self, tps: Sequence[TopicPartition], generation: int) -> None:
        """Get these, and read on from what is committed."""
        self._generation = generation
        self.owned = dict.fromkeys(tps, generation)
        self.positions = {tp: self._world.committed.get(tp, 0) for tp in tps}
        self.committed = dict(self.positions)
        self._giving = False

    async def poll(self, room: int, /) -> Batch:
        """Some records of each owned partition."""
        world, draw = self._world, self._world.draw
        await asyncio.sleep(draw.choice([0.01, 0.1, 0.3]))
        if room <= 0 or self._giving or not self._member.alive:
            return Batch([])
        taken = []
        # A member that missed a rebalance reads on in what it believes to own: its commits are refused then.
        for tp in self.owned:
            some = [each for each in world.log[tp] if each.offset >= self.positions[tp]][: draw.randint(1, 4)]
            if some:
                self.positions[tp] = some[-1].offset + 1
                taken += some
        return Batch(taken, {each.tp: self.owned[each.tp] for each in taken})

    async def commit(self, offsets: Mapping[TopicPartition, int], /) -> None:
        """Commit, or fail before or after, or hang."""
        draw = self._world.draw
        mood = draw.random() if self._world.stormy else 1.0
        before = self._generation
        await asyncio.sleep(draw.choice([0.001, 0.05]))
        if mood < 0.1:
            raise OSError("coordinator is loading")
        if mood < 0.15:
            await asyncio.sleep(_FOREVER)
        alive = self._member.alive and before == self._generation == self._world.generation
        if not alive or not offsets.keys() <= self.owned.keys():
            raise OSError("IllegalGeneration")
        # As the Kafka sources do: what is committed further is not committed again.
        further = {tp: n for tp, n in offsets.items() if n > self.committed.get(tp, -1)}
        self.committed |= further
        self._world.commit(further)
        if mood < 0.2:
            raise OSError("taken, but the answer was lost")

    async def close(self) -> None:
        """Leave."""
        await asyncio.sleep(0.01)


class SimSink:
    """Hands packs to a taker, or not, or late, or says so or not."""

    def __init__(self, world: "World", member: "Member", taker: Taker) -> None:
        self.limits: Limits = taker.limits
        self._world, self._member, self._taker = world, member, taker

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """One request, in the weather of the moment."""
        world, draw = self._world, self._world.draw
        await asyncio.sleep(draw.choice([0.001, 0.02, 0.2, 1.0]))
        if not self._member.alive:
            raise ConnectionResetError
        if now() < world.outage_until:
            return [draw.choice([DOWN, THROTTLED, MISSING])] * len(packs)
        mood = draw.random() if world.stormy else 1.0
        if mood < 0.1:
            raise ConnectionResetError("before anything was taken")
        if mood < 0.15:
            await self._lost(packs)
        refuse = [draw.random() < 0.3 for _ in packs] if mood < 0.4 else [False] * len(packs)
        some = [each for each, no in zip(packs, refuse, strict=True) if not no]
        said = self._taker.take(some) if some else ()
        if len(said) != len(some):
            return said  # a sink of somebody's that cannot count: the sender says so
        if mood > 0.97 and world.stormy:
            raise ConnectionResetError("after everything was taken")
        if 0.94 < mood <= 0.97:
            return said[: len(packs) - 1]
        failure = REFUSED if mood < 0.02 else draw.choice([DOWN, THROTTLED])
        verdicts = iter(said)
        return [failure if no else next(verdicts) for no in refuse]

    async def _lost(self, packs: Sequence[Pack]) -> None:
        """No answer: the request was cut in the middle, or hangs, or arrives after its member is dead."""
        draw = self._world.draw
        if self.limits.uncut:
            raise ConnectionResetError("before anything was taken")
        how = draw.choice(["cut", "hang", "late"])
        if how == "cut":
            self._taker.cut(packs, draw.randint(0, 4))
            raise ConnectionResetError("in the middle")
        if how == "late":
            asyncio.get_running_loop().call_later(draw.random() * 5, self._world.late, self._taker, packs)
        await asyncio.sleep(_FOREVER)

    async def close(self) -> None:
        """Close the sink behind, unless its process is dead."""
        await asyncio.sleep(0.01)
        if self._member.alive:
            self._taker.close()


class SimLetters:
    """Hands dead letters to their place, when it can, and not always says so."""

    largest: int = sys.maxsize

    def __init__(self, world: "World", member: "Member", burier: Burier) -> None:
        self._world, self._member, self._burier = world, member, burier

    async def check(self) -> None:
        """There is always a place."""

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """One write, in the weather of the moment."""
        await asyncio.sleep(0.01)
        mood = self._world.draw.random() if self._world.stormy else 1.0
        if not self._member.alive or mood < 0.25:
            raise OSError(28, "No space left on device")
        self._burier.bury(letters)
        if mood < 0.3:
            raise ConnectionResetError("written, but the answer was lost")

    async def close(self) -> None:
        """Close the place behind, unless its process is dead."""
        await asyncio.sleep(0.01)
        if self._member.alive:
            self._burier.close()
