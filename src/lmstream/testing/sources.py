"""The conformance suite of sources: what lmstream.interfaces.Source promises, and seeded schedules over a real one."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar, Final

from lmstream.errors import LmstreamError
from lmstream.interfaces import Batch, Source
from lmstream.model import Record, TopicPartition
from lmstream.testing import samples
from lmstream.testing.bridge import Bridge, answer
from lmstream.testing.source_schedules import play
from lmstream.testing.suite import Suite, check, closes, seeds

ROOM: Final = 1 << 20  # bytes
_POLL: Final = 15.0  # seconds a poll may take when there is nothing: hosts tick beside it, but stop behind it
_VALUES: Final = [samples.bundle(1 + n % 3, name=f"m{n}") for n in range(12)]


class SourceConformance(Suite):
    """Subclass it as `TestMySource`, and write `make` and `put`; pytest does the rest."""

    finite: ClassVar[bool] = True
    """Whether it ends by itself, as TRAITS of its module says: after the last record a batch has `end`."""
    commits: ClassVar[bool] = True
    """Whether it remembers what is committed beyond its own life; a source of plain files does not."""
    grouped: ClassVar[bool] = False
    """Whether it is a member of a group, which gives its partitions away only when it has left: then none is dropped
    without close()."""
    patience: ClassVar[float] = 10.0
    """Seconds until all that was put has to come."""
    schedules: ClassVar[int] = 50
    """How many schedules are played."""

    def make(self) -> Source | Awaitable[Source]:
        """A source that reads what was put; the next one reads on from what the last one committed."""
        raise NotImplementedError("write make(): a source of yours, as your module's `make` gives it")

    def put(self, values: Sequence[bytes]) -> Any:
        """Put records with these values where the source reads, in this order, before one is made."""
        raise NotImplementedError("write put(values): make records of these values where your source reads")

    @check
    async def test_every_record_comes_once_and_in_order(self) -> None:
        """Offsets rise in each partition; no value is missing, none comes twice."""
        source = await self._begun()
        records = await self._read(source)
        places = [(each.tp, each.offset) for each in records]
        assert len(set(places)) == len(places), f"the same offset came twice: {Counter(places).most_common(1)}"
        _same([each.value for each in records], _VALUES)
        last: dict[TopicPartition, int] = {}
        order = {value: at for at, value in enumerate(_VALUES)}
        seen: dict[TopicPartition, int] = {}
        for each in records:
            assert each.offset > last.get(each.tp, -1), f"offset {each.offset} of {each.tp} came after {last[each.tp]}"
            at = order[each.value or b""]
            assert at > seen.get(each.tp, -1), (
                f"record {each.coordinates} has the value that was put earlier than the one before"
            )
            last[each.tp], seen[each.tp] = each.offset, at
        await source.close()

    @check
    async def test_the_same_record_has_the_same_coordinates_each_time(self) -> None:
        """Row ids are made of them: read again, a record must be the same."""
        await answer(self.put(_VALUES))
        found = []
        for _ in range(2):
            source = await answer(self.make())
            found.append({each.value: _place(each) for each in await self._read(source)})
            await source.close()
        assert found[0] == found[1], (
            "topic, partition, offset, timestamp or identity of a record changed from one reading to the next"
        )

    @check
    async def test_room_is_kept(self) -> None:
        """Memory is bounded by it: with none no record comes, with little about as much as asked for."""
        source = await self._begun()
        records: list[Record] = []
        size = max(map(len, _VALUES))
        async with asyncio.timeout(self.patience):
            while len(records) < len(_VALUES):
                for nothing in (0, -1):
                    assert not (await source.poll(nothing)).records, f"poll({nothing}) answered records"
                batch = await source.poll(size + 10)
                taken = sum(each.size for each in batch.records)
                assert taken <= 2 * size + 10 or len(batch.records) == 1, f"poll({size + 10}) answered {taken:,} bytes"
                records += batch.records
                if batch.end:
                    break
        _same([each.value for each in records], _VALUES)
        await source.close()

    @check
    async def test_every_partition_of_a_batch_has_its_epoch(self) -> None:
        """Settlements of an older assignment are recognized by it; a source whose partitions never move has none."""
        source = await self._begun()
        epochs: set[bool] = set()

        def look(batch: Batch) -> None:
            absent = [each.tp for each in batch.records if each.tp not in batch.epochs]
            assert not (batch.epochs and absent), f"the batch has epochs, but none of {absent[0]}"
            unnamed = [tp for tp in batch.passed if tp not in batch.epochs]
            assert not unnamed, f"`passed` names {unnamed[0]}, which has no epoch"
            if batch.records:
                epochs.add(bool(batch.epochs))

        await self._read(source, look)
        assert len(epochs) == 1, "some batches have epochs and some have none"
        await source.close()

    @check
    async def test_a_poll_comes_back_when_there_is_nothing(self) -> None:
        """It waits a little: a host that is asked to stop waits for the poll."""
        source = await self._begun()
        await self._read(source)
        try:
            async with asyncio.timeout(_POLL):
                for _ in range(3):
                    batch = await source.poll(ROOM)
                    assert not batch.records, f"{batch.records[0].coordinates} came after the last record"
        except TimeoutError:
            raise AssertionError(f"a poll with nothing to read took longer than {_POLL:g} s") from None
        await source.close()

    @check
    async def test_the_end_is_told_and_not_before_it_is_there(self) -> None:
        """A finite source ends with `end`, one that waits for more never does."""
        source = await self._begun()
        ended, count = False, 0
        try:
            async with asyncio.timeout(self.patience):
                while count < len(_VALUES) or (self.finite and not ended):
                    batch = await source.poll(ROOM)
                    count += len(batch.records)
                    ended = ended or batch.end
                    assert not ended or count == len(_VALUES), f"`end` after {count} of {len(_VALUES)} records"
        except TimeoutError:
            raise AssertionError(f"finite = True, and `end` did not come within {self.patience:g} s") from None
        assert ended == self.finite, "finite = False, and `end` came"
        await source.close()

    @check
    async def test_what_is_not_committed_comes_again(self) -> None:
        """Only commit() moves the beginning of the next reading: not poll(), and not close()."""
        await answer(self.put(_VALUES))
        for how in ("closed",) if self.grouped else ("dropped", "closed"):
            source = await answer(self.make())
            await self._read(source)
            if how == "closed":
                await source.close()
            again = await answer(self.make())
            _same(
                [each.value for each in await self._read(again)],
                _VALUES,
                f"after a source that committed nothing was {how}: ",
            )
            await again.close()
            await source.close()

    @check
    async def test_reading_goes_on_at_what_is_committed(self) -> None:
        """What is below comes no more, what is not comes, whole."""
        source = await self._begun()
        records = await self._read(source)
        middle = {tp: some[len(some) // 2].offset for tp, some in _by_partition(records).items()}
        await source.commit(middle)
        await source.commit({})
        await source.close()
        again = await answer(self.make())
        left = [each.value for each in records if not self.commits or each.offset >= middle[each.tp]]
        _same([each.value for each in await self._read(again, count=len(left))], left, f"after commit({middle}): ")
        await again.close()

    @check
    async def test_a_commit_of_what_is_not_its_own_does_no_harm(self) -> None:
        """It may raise; nothing is lost by that."""
        source = await self._begun()
        records = await self._read(source)
        try:
            await source.commit({TopicPartition("no such topic", 7): 3})
        except Exception as error:  # noqa: BLE001 - any is allowed
            del error
        ends = {tp: some[-1].offset + 1 for tp, some in _by_partition(records).items()}
        await source.commit(ends)
        await source.commit(ends)
        await source.close()

    @check
    async def test_it_can_be_closed_twice_and_polled_no_more(self) -> None:
        """After close() a poll raises, or answers nothing."""
        source = await self._begun()
        assert source.on_revoke is None, "on_revoke is None until a runtime sets it"
        source.on_revoke = _nobody
        await source.poll(ROOM)
        await closes(source, "source")
        try:
            async with asyncio.timeout(_POLL):
                batch = await source.poll(ROOM)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - any is allowed
            return
        assert not batch.records, "a source that is closed handed out records"

    def test_schedules_lose_nothing(self) -> None:
        """Kills, restarts and a sink that fails, in virtual time: what was put is delivered, and nothing else."""
        for seed in seeds(self.schedules):
            with type(self).anew() as one, Bridge() as bridge:
                bridge.call(one.up())
                try:
                    play(seed, one, bridge)
                finally:
                    bridge.call(one.down())

    # What the checks use

    async def _begun(self) -> Source:
        await answer(self.put(_VALUES))
        source: Source = await answer(self.make())
        return source

    async def _read(self, source: Source, look: Any = None, *, count: int = len(_VALUES)) -> list[Record]:
        """All that comes, until as much came as was put, or the end."""
        records: list[Record] = []
        try:
            async with asyncio.timeout(self.patience):
                while len(records) < count:
                    batch = await source.poll(ROOM)
                    records += batch.records
                    if look is not None:
                        look(batch)
                    if batch.end:
                        break
        except TimeoutError:
            raise AssertionError(f"{len(records)} of {count} records came within {self.patience:g} s") from None
        except LmstreamError as error:
            raise AssertionError(f"a poll raised: {error}") from error
        return records


async def _nobody(_: Any) -> None:
    """Has nothing in flight."""


def _place(each: Record) -> tuple[Any, ...]:
    return (*each.identified, each.tp, each.offset, each.timestamp)


def _by_partition(records: Sequence[Record]) -> Mapping[TopicPartition, list[Record]]:
    found: dict[TopicPartition, list[Record]] = {}
    for each in records:
        found.setdefault(each.tp, []).append(each)
    return found


def _same(came: Sequence[bytes | None], put: Sequence[bytes | None], when: str = "") -> None:
    lost, odd = Counter(put) - Counter(came), Counter(came) - Counter(put)
    first = (next(iter(lost), None) or b"")[:200]
    assert not lost, f"{when}{sum(lost.values())} of {len(put)} values never came, as {first!r}"
    assert not odd, (
        f"{when}{sum(odd.values())} values came that were not put, or twice, as {(next(iter(odd)) or b'')[:200]!r}"
    )
