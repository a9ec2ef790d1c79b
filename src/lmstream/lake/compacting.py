"""Small objects of one path become a larger one, and their names stay taken by objects without rows.

The order of steps: read and compare; the manifest, made once under the path's next number; the larger object, made
once; then each small object is replaced by one without rows, if it is still the version that was read. So no row is
ever missing, whoever dies: between the last two steps a reader sees rows twice. Whoever compacts the path next
finishes that first. No clock and no lock are in this: a compactor that slept finds its number taken, its object made
and the versions replaced. A member that slept finds the names of its objects taken.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from lmstream.errors import SinkError, coded
from lmstream.lake.claims import COMPACTED
from lmstream.lake.compactions import Compaction, Compactions, Replaced
from lmstream.lake.contents import Contents
from lmstream.lake.digests import hexadecimal, join, of_text
from lmstream.lake.requests import ReplacingRequests
from lmstream.lake.seen import OBJECT, by_rows, seen

log: Final = logging.getLogger("lmstream.lake")

_AT_ONCE: Final = 16
_INPUTS: Final = 5_000
"""Objects that one compaction replaces, about: its manifest has some 200 bytes for each."""


class Done(NamedTuple):
    """What came of the compaction of a path."""

    replaced: int = 0
    """Objects that have no rows now."""
    made: int = 0
    """Larger objects."""
    rows: int = 0
    left: tuple[str, ...] = ()
    """Keys of objects that were left alone, because their rows are not those of their claim."""


class Compacting:
    """Compacts the paths of one lake."""

    def __init__(
        self,
        requests: ReplacingRequests,
        compactions: Compactions,
        contents: Mapping[str, Contents],
        *,
        rows: str,
        writer: str,
        size: int,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        """Rows lie below `rows`; `contents` are by extension. Objects grow up to about `size` bytes. `now` is in Unix
        milliseconds, for people."""
        self._requests, self._compactions, self._contents = requests, compactions, contents
        self._rows, self._writer, self._size, self._now = rows, writer, size, now
        self._number = 0

    async def finish(self, path: str) -> None:
        """Finish what was begun in a path, by whomever."""
        if chain := await self._compactions.chain(path):
            await self._finish(chain[-1])

    async def path(self, path: str, extension: str, landed: Sequence[Replaced]) -> Done:
        """Compact one path: `landed` are its objects by claims whose windows are done, all of one extension."""
        done, left = Done(), set[str]()
        large = set[str]()
        while True:
            chain = await self._compactions.chain(path)
            if chain:
                await self._finish(chain[-1])
            gone = {each.key for compaction in chain for each in compaction.replaces} | left | large
            mine = [each for each in chain if each.extension == extension and each.size * 2 <= self._size]
            made = [Replaced(key=each.key, rows=each.rows, digest=each.digest) for each in mine]
            some = [each for each in (*made, *landed) if each.key not in gone]
            batch = await self._read(some, extension, left, large) if len(some) > 1 else {}
            if len(batch) < 2:  # noqa: PLR2004 - one object is as large as it gets
                # What was found empty may have been replaced meanwhile, by another who compacts the path.
                replaced = {each.key for one in await self._compactions.chain(path) for each in one.replaces}
                return done._replace(left=tuple(sorted(left - replaced)))
            sequence = chain[-1].sequence + 1 if chain else 0
            mine_now, data = self._planned(path, extension, sequence, batch)
            there = await self._compactions.create(mine_now)
            if there is mine_now:
                await self._finish(there, data)
                done = Done(done.replaced + len(there.replaces), done.made + 1, done.rows + there.rows)

    async def _read(
        self, some: Sequence[Replaced], extension: str, left: set[str], large: set[str]
    ) -> dict[Replaced, bytes]:
        """Objects that become one, with their bytes. Those that are not what their claim says are put into `left`."""
        found: dict[Replaced, bytes] = {}
        size = 0
        for at in range(0, len(some), _AT_ONCE):
            part = some[at : at + _AT_ONCE]
            keys = [self._rows + each.key for each in part]
            for each, data in zip(
                part, await asyncio.gather(*(self._requests.get(k, OBJECT) for k in keys)), strict=True
            ):
                if data is None or not self._holds(each, data, extension):
                    left.add(each.key)
                elif len(data) * 2 > self._size:
                    large.add(each.key)
                elif size + len(data) <= self._size:
                    found[each] = data
                    size += len(data)
            if size * 2 > self._size or len(found) >= _INPUTS:
                break
        return found

    def _planned(
        self, path: str, extension: str, sequence: int, batch: Mapping[Replaced, bytes]
    ) -> tuple[Compaction, bytes]:
        contents = self._contents[extension]
        data = contents.merge([*batch.values()])
        rows, digest = sum(each.rows for each in batch), join(of_text(each.digest) for each in batch)
        counted = contents.count(data)
        # Of dimension rows, which windows share, each is left once: fewer, and none of them is missing.
        if counted != (rows, digest) and contents.of_dimensions(data):
            every = set().union(*map(contents.ids, batch.values()))
            rows, digest = counted if contents.ids(data) == every else (rows, digest)
        if counted != (rows, digest):
            raise RuntimeError(f"{path}: {len(batch)} objects of {rows} rows became another number of rows")
        self._number += 1
        keys = "\n".join([str(sequence), *(each.key for each in batch)]).encode()
        planned = Compaction(
            path=path,
            sequence=sequence,
            key=f"{path}compacted-{sequence:06d}-{blake2b(keys, digest_size=8).hexdigest()}.{extension}",
            extension=extension,
            rows=rows,
            digest=hexadecimal(digest),
            size=len(data),
            replaces=tuple(batch),
            writer=f"{self._writer} {self._number}",
            at=self._now(),
        )
        return planned, data

    async def _finish(self, compaction: Compaction, data: bytes | None = None) -> None:
        key, contents = self._rows + compaction.key, self._contents[compaction.extension]
        there = await seen(self._requests, key, contents)
        if there is None:
            data = data if data is not None else await self._again(compaction)
            if data is not None:
                meta = {"digest": compaction.digest, "rows": str(compaction.rows)}
                await self._requests.create(key, data, meta)
            there = await seen(self._requests, key, contents)
        if there is None:
            raise SinkError(
                "lake.object", f"{self._requests.place(key)}: it has all rows of other objects, and is gone"
            )
        if COMPACTED not in there and there.get("digest") != compaction.digest:
            detail = f"{self._requests.place(key)}: its rows are not those that compaction {compaction.sequence} says"
            raise SinkError("lake.object", detail)
        await _some_at_once(self._empty(compaction, each) for each in compaction.replaces)

    async def _again(self, compaction: Compaction) -> bytes | None:
        """The larger object of a compaction that another began; None when it was made meanwhile."""
        found = []
        for at in range(0, len(compaction.replaces), _AT_ONCE):
            part = compaction.replaces[at : at + _AT_ONCE]
            gets = (self._requests.get(self._rows + each.key, OBJECT) for each in part)
            for each, data in zip(part, await asyncio.gather(*gets), strict=True):
                if data is None or not self._holds(each, data, compaction.extension):
                    return None  # emptied: then the larger object is there by now
                found.append(data)
        return self._contents[compaction.extension].merge(found)

    async def _empty(self, compaction: Compaction, each: Replaced) -> None:
        """Put an object without rows in the place of one whose rows lie in a larger one."""
        key, contents = self._rows + each.key, self._contents[compaction.extension]
        meta = {"digest": hexadecimal(0), "rows": "0", COMPACTED: self._compactions.mark(compaction)}
        while True:
            there = await self._requests.tagged(key)
            if there is None:  # somebody removed it: its name stays taken all the same
                if await self._requests.create(key, contents.empty, meta):
                    return
                continue
            beside = there.meta
            if "digest" not in beside:
                data = await self._requests.get(key, OBJECT)
                beside = {} if data is None else by_rows(data, contents)
            if COMPACTED in beside:
                return
            if beside.get("digest", each.digest) != each.digest:
                detail = f"{self._requests.place(key)}: its rows are not those that lie in {compaction.key}"
                raise SinkError("lake.object", detail)
            await self._requests.replace(key, contents.empty, meta, there.tag)

    def _holds(self, each: Replaced, data: bytes, extension: str) -> bool:
        try:
            return self._contents[extension].count(data) == (each.rows, of_text(each.digest))
        except ValueError as error:
            place = self._requests.place(self._rows + each.key)
            log.warning("%s cannot be read: %s", place, error, extra=coded("lake.object"))
            return False


async def _some_at_once(work: Iterable[Awaitable[None]]) -> None:
    todo = iter(work)

    async def worker() -> None:
        for each in todo:
            await each

    tasks = [asyncio.ensure_future(worker()) for _ in range(_AT_ONCE)]
    try:
        await asyncio.gather(*tasks)  # the first error as it is, not a group of them
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
