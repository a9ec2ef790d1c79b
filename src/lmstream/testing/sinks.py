"""The conformance suite of sinks: what lmstream.interfaces.Sink promises, and seeded schedules over a real one."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from random import Random
from typing import Any, ClassVar

from msgspec import structs

from lmstream.delivery.packing import requests
from lmstream.interfaces import Limits, Sink
from lmstream.model import NOT_TRIED, Failure, Pack
from lmstream.testing import samples
from lmstream.testing.bridge import Bridge, answer
from lmstream.testing.schedules import Ground, play
from lmstream.testing.suite import Suite, check, closes, seeds, skip_unless
from lmstream.testing.weather import Taker


class SinkConformance(Suite):
    """Subclass it as `TestMySink`, and write `make` and `landed`; pytest does the rest.

    `refuse`, `fail` and `heal` are for checks of what the sink says when its service does not take rows: without them
    those are skipped.
    """

    once: ClassVar[bool] = False
    """Whether rows that are written twice land once."""
    schedules: ClassVar[int] = 50
    """How many schedules are played."""

    def make(self) -> Sink | Awaitable[Sink]:
        """A sink that writes to one place per check, as `self.folder`: the next one finds there what this one wrote."""
        raise NotImplementedError("write make(): a sink of yours, as your module's `make` gives it")

    def landed(self) -> Iterable[bytes] | Awaitable[Iterable[bytes]]:
        """Every row that is durable at this moment, read from the place itself, not from the sink; with or without its
        newline."""
        raise NotImplementedError("write landed(): the rows that are in your place now, one bytes object each")

    def refuse(self, row_ids: Collection[str]) -> Any:
        """From now on the service refuses these rows, and what travels in a pack with them."""

    def fail(self) -> Any:
        """From now on the service takes nothing."""

    def heal(self) -> Any:
        """The service takes rows again."""

    @check
    async def test_limits_allow_a_pack(self) -> None:
        """Limits are positive, and a request has room for a pack."""
        limits = (await self._made()).limits
        assert isinstance(limits, Limits), f"limits is a {type(limits).__name__}, not an interfaces.Limits"
        smallest = min(limits.pack_bytes, limits.pack_rows, limits.request_packs)
        assert smallest > 0, f"a limit is {smallest}: nothing could be sent"
        needed = limits.pack_bytes * (4 / 3 if limits.base64 else 1)
        assert limits.request_bytes >= needed, (
            f"request_bytes {limits.request_bytes:,} is less than one pack, {needed:,.0f}"
        )

    @check
    async def test_an_empty_request_has_no_verdicts(self) -> None:
        """Nothing in, nothing out."""
        sink = await self._made()
        said = await sink.write([])
        assert list(said) == [], f"write([]) answered {said!r}"
        await sink.close()

    @check
    async def test_what_is_delivered_is_durable_byte_for_byte(self) -> None:
        """With the verdict None rows are in their place, whatever becomes of the process then."""
        sink = await self._made()
        packs = samples.packs(sink.limits)
        for some in _requests(packs, sink.limits):
            verdicts = _whole(await sink.write(some), some)
            # No close, no wait: a process that dies right here has committed these offsets.
            await self._has(
                [each for each, said in zip(some, verdicts, strict=True) if said is None], "right after write()"
            )
            assert verdicts == [None] * len(some), f"a service in order refused a request: {verdicts}"
        await self._only(packs)
        await sink.close()
        await self._has(packs, "after close()")

    @check
    async def test_a_request_as_large_as_the_limits_allow_is_answered(self) -> None:
        """What `limits` promise is taken."""
        sink = await self._made()
        packs = samples.full_request(sink.limits)
        assert packs, f"no pack fits the limits: {sink.limits}"
        verdicts = _whole(await sink.write(packs), packs)
        refused = [each for each in verdicts if each is not None]
        assert not refused, f"{len(packs)} packs within the limits, {len(refused)} of them refused: {refused[:1]}"
        await self._has(packs, "after a large request")
        await sink.close()

    @check
    async def test_rows_written_again_do_no_harm(self) -> None:
        """A lost answer makes lmstream write the same rows again."""
        packs = samples.packs((await self._made()).limits, 4)
        for _ in range(2):
            sink = await self._made()
            for some in _requests(packs, sink.limits):
                assert all(each is None for each in _whole(await sink.write(some), some)), (
                    "rows were refused when repeated"
                )
            await sink.close()
        await self._has(packs, "after they were written again")
        if self.once:
            most, count = Counter(await self._lines()).most_common(1)[0]
            assert count == 1, f"once = True, but this row is there {count} times: {most[:200]!r}"

    @check
    async def test_requests_at_the_same_time_get_their_own_verdicts(self) -> None:
        """Requests overlap: as many as delivery.concurrency allows."""
        sink = await self._made()
        packs = samples.packs(sink.limits, 24)
        requests = _requests(packs, sink.limits, 6)
        for some, said in zip(requests, await asyncio.gather(*map(sink.write, requests)), strict=True):
            assert _whole(said, some) == [None] * len(some), f"refused: {said}"
        await self._has(packs, "after requests at the same time")
        await sink.close()

    @check
    async def test_a_request_that_was_cut_leaves_the_sink_usable(self) -> None:
        """A timeout cancels a request in the middle; the same rows come again to the same sink."""
        sink = await self._made()
        packs = samples.packs(sink.limits, 8)
        for steps, some in enumerate(_requests(packs, sink.limits, 2)):
            if not sink.limits.uncut:
                task = asyncio.ensure_future(sink.write(some))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
            assert all(each is None for each in _whole(await sink.write(some), some)), "refused after a request was cut"
        await self._has(packs, "after requests that were cut")
        await sink.close()

    @check
    async def test_verdicts_are_in_the_order_of_the_packs(self) -> None:
        """Rows of a refused pack are sent again or dead-lettered: those of its neighbour would be lost."""
        skip_unless(type(self).refuse is not SinkConformance.refuse, "refuse", "the order of verdicts")
        sink = await self._made()
        if sink.limits.request_packs == 1:
            return
        draw = Random(1)
        packs = samples.packs(sink.limits, 12)
        bad = draw.sample(packs, 4)
        await answer(self.refuse({name for pack in bad for name in _ids(pack)}))
        for some in _requests(packs, sink.limits):
            verdicts = await self._verdicts(sink, some)
            await self._has(
                [each for each, said in zip(some, verdicts, strict=True) if said is None], "with a verdict of None"
            )
            wrong = [
                at for at, (each, said) in enumerate(zip(some, verdicts, strict=True)) if each in bad and said is None
            ]
            assert not wrong, f"pack {wrong[0]} of {len(some)} was refused by the service, and its verdict is None"
        await sink.close()

    @check
    async def test_a_service_that_is_down_is_no_success(self) -> None:
        """What is not durable has a Failure, or the write raises; and it can be delivered later."""
        skip_unless(type(self).fail is not SinkConformance.fail, "fail", "what a sink says of a service that is down")
        sink = await self._made()
        packs = samples.packs(sink.limits, min(3, sink.limits.request_packs))
        await answer(self.fail())
        verdicts = await self._verdicts(sink, packs)
        await answer(self.heal())
        await self._has(
            [each for each, said in zip(packs, verdicts, strict=True) if said is None], "while the service was down"
        )
        for failure in filter(None, verdicts):
            assert failure.kind != "permanent", f"rows that may land later would be dead-lettered: {failure}"
        assert all(each is None for each in _whole(await sink.write(packs), packs)), (
            "refused after the service was healed"
        )
        await self._has(packs, "after the service was healed")
        await sink.close()

    @check
    async def test_it_can_be_closed_twice_and_without_a_write(self) -> None:
        """Hosts close what they made, whatever happened."""
        await closes(await self._made(), "sink")

    def test_schedules_lose_nothing(self) -> None:
        """Kills, zombies, refusals and late requests, in virtual time: no commit before its rows, no row lost."""
        for seed in seeds(self.schedules):
            with type(self).anew() as one, Bridge() as bridge:
                bridge.call(one.up())
                ground = _RealSink(one, bridge)
                try:
                    play(seed, ground)
                finally:
                    ground.clear()
                    bridge.call(one.down())

    # What the checks use

    async def _made(self) -> Sink:
        return await answer(self.make())

    async def _lines(self) -> list[bytes]:
        return [line.rstrip(b"\n") for line in await answer(self.landed())]

    async def _has(self, packs: Iterable[Pack], when: str) -> None:
        there = set(await self._lines())
        for pack in packs:
            for line in pack.data.splitlines():
                assert line in there, f"{when}, a row that was delivered is not there: {line[:300]!r}"

    async def _only(self, packs: Iterable[Pack]) -> None:
        known = {line for pack in packs for line in pack.data.splitlines()}
        odd = set(await self._lines()) - known
        assert not odd, f"a row is there that nobody wrote: {min(odd)[:300]!r}"

    async def _verdicts(self, sink: Sink, packs: Sequence[Pack]) -> list[Failure | None]:
        """As the sender takes them: after an exception nothing is known, so nothing is delivered."""
        try:
            said = await sink.write(packs)
        except Exception:  # noqa: BLE001 - any is allowed
            return [NOT_TRIED] * len(packs)
        return _whole(said, packs)


class _RealSink(Ground):
    """Somebody's sink in the middle of a schedule; a new one for each member."""

    def __init__(self, suite: SinkConformance, bridge: Bridge) -> None:
        super().__init__()
        self._suite, self._bridge = suite, bridge
        self._takers: list[_Taker] = []

    def begin(self, draw: Random) -> None:
        """Its limits are its own."""

    def taker(self) -> Taker:
        sink = self._bridge.call(answer(self._suite.make()))
        self._takers.append(_Taker(sink, self._bridge.call, self._bridge.cut))
        return self._takers[-1]

    def clear(self) -> None:
        """Close what was never closed, for its process was killed."""
        for each in self._takers:
            if not each.closed:
                each.close()

    def landed(self) -> set[bytes]:
        lines = self._bridge.call(answer(self._suite.landed()))
        return {line if line.endswith(b"\n") else line + b"\n" for line in lines}


class _Taker:
    def __init__(self, sink: Sink, call: Callable[[Any], Any], cut: Callable[[Any, int], None]) -> None:
        self.limits: Limits = sink.limits
        self.closed = False
        self._sink, self._call, self._cut = sink, call, cut

    def take(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        said: Sequence[Failure | None] = self._call(self._sink.write(packs))
        return said

    def cut(self, packs: Sequence[Pack], steps: int, /) -> None:
        self._cut(self._sink.write(packs), steps)

    def close(self) -> None:
        self.closed = True
        self._call(self._sink.close())


def _requests(packs: Sequence[Pack], limits: Limits, most: int = 5) -> list[Sequence[Pack]]:
    """Packs in requests within the limits, of so many at most."""
    return requests(packs, structs.replace(limits, request_packs=min(most, limits.request_packs)))


def _whole(said: Any, packs: Sequence[Pack]) -> list[Failure | None]:
    """The verdicts, once they are as many as packs, and verdicts."""
    assert isinstance(said, Sequence), f"write() answered a {type(said).__name__}, not a sequence of verdicts"
    assert len(said) == len(packs), f"{len(said)} verdicts for {len(packs)} packs"
    for each in said:
        assert each is None or isinstance(each, Failure), f"a verdict is None or a model.Failure, not {each!r}"
    return list(said)


def _ids(pack: Pack) -> list[str]:
    return [json.loads(line)["rowId"] for line in pack.data.splitlines()]
