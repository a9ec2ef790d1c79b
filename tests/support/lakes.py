"""Lakes for those who read them: landed by the real runtime, pipeline and outlet with the real engine, as files."""

import asyncio
import gzip
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from lmstream import Engine
from lmstream.config.lake import formats_of
from lmstream.delivery import Pipeline
from lmstream.interfaces import Assigned, Batch
from lmstream.lab.generator import Generator
from lmstream.lake import Claims, LakeOutlet, Layout, WindowPolicy
from lmstream.lake.division import Division
from lmstream.lake.requests import Requests
from lmstream.model import Record, TopicPartition
from lmstream.runtime import Runtime
from lmstream.settings import Settings
from lmstream.testing import now, run
from support.lake_world import DELIVERY, POLICY
from support.scripted_store import CALM, ScriptedStore


def records(count: int, *, partition: int = 0, start: int = 0, bad: Sequence[int] = ()) -> list[Record]:
    """Records of generated bundles; those at the offsets `bad` are junk."""
    some = islice(Generator(instances=2, seed=partition + 1).bundles(), count)
    return [
        Record(
            topic="lm",
            partition=partition,
            offset=start + n,
            timestamp=1_715_263_558_000 + n,
            value=b"junk" if start + n in bad else each.payload,
        )
        for n, each in enumerate(some)
    ]


class _Source:
    """Gives what it has, a few records at a time with a pause after each, so that windows end between."""

    def __init__(self, log: Sequence[Record], committed: dict[TopicPartition, int], pause: float) -> None:
        self.on_revoke: Any = None
        self.on_assign: Any = None
        self.committed = committed
        self._log, self._pause = log, pause
        self._left: list[Record] | None = None

    async def poll(self, room: int, /) -> Batch:  # noqa: ARG002 - as of the face
        if self._left is None:
            tps = {each.tp for each in self._log} | set(self.committed)
            ends = {tp: max((each.offset + 1 for each in self._log if each.tp == tp), default=0) for tp in tps}
            firsts = {tp: min((each.offset for each in self._log if each.tp == tp), default=0) for tp in tps}
            places = {
                tp: Assigned(self.committed.get(tp, firsts[tp]), tp in self.committed, firsts[tp], ends[tp])
                for tp in tps
            }
            begins = {tp: at.next for tp, at in places.items()} | dict(await self.on_assign(places))
            self._left = [each for each in self._log if each.offset >= begins[each.tp]]
        await asyncio.sleep(self._pause)
        some, self._left = self._left[:2], self._left[2:]
        return Batch(some, {each.tp: 1 for each in some}, end=not self._left)

    async def seek(self, places: Any, /) -> None:
        raise AssertionError(places)

    async def commit(self, offsets: Any, /) -> None:
        self.committed |= offsets

    async def close(self) -> None:
        pass


class _Letters:
    largest = 1 << 40

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def write(self, letters: Iterable[Any], /) -> None:
        self.written += letters

    async def close(self) -> None:
        pass


class Landed:
    """A lake: its objects by key, what was committed, and the letters."""

    def __init__(self, *, prefix: str = "", claims: str = "_lmstream/") -> None:
        self.prefix, self.claims = prefix, claims
        self.store = ScriptedStore(Random(1), moods=CALM)
        self.committed: dict[TopicPartition, int] = {}
        self.letters = _Letters()

    def land(
        self,
        log: Sequence[Record],
        settings: Settings | None = None,
        *,
        form: str = "gzip",
        object_bytes: int = 1 << 26,
        fate: Callable[[str, str], Any] | None = None,
        seconds: float = 60.0,
        division: Division | None = None,
    ) -> "Landed":
        """Run one member over these records. `fate` is the store's script; after `seconds` the process is killed."""
        settings = settings or Settings(org_id="acme")
        layout = Layout.of(settings, form)  # type: ignore[arg-type] - of a test
        self.store.script = fate
        formats = formats_of()
        formats["parquet"].slow = False  # no thread in virtual time

        async def running() -> None:
            source = _Source(log, self.committed, 0.4)

            def outlet(parts: Any) -> LakeOutlet:
                requests = Requests(self.store, parts.attempts, parts.flight.counts)
                claims = Claims(requests, self.claims, settings.source_id, self.prefix)
                policy = WindowPolicy(seconds=0.7, object_bytes=object_bytes)
                return LakeOutlet(
                    parts,
                    requests,
                    claims,
                    formats,
                    layout,
                    policy,
                    writer=f"member {now()}",
                    wall=lambda: int(now() * 1000),
                    division=division or Division(),
                )

            pipeline = Pipeline(
                Engine(settings),
                outlet,
                self.letters,
                clock=now,
                sleep=asyncio.sleep,
                random=Random(1).random,
                policy=DELIVERY,
            )
            task = asyncio.ensure_future(Runtime(source, pipeline, clock=now, policy=POLICY).run())
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            else:
                task.result()

        run(running())
        self.store.script = None
        return self

    @property
    def objects(self) -> dict[str, bytes]:
        """Every object, by key."""
        return {key: data for key, (data, _) in self.store.objects.items()}

    def rows(self) -> int:
        """How many lie in its objects."""
        data = [each for key, each in self.objects.items() if not key.startswith(self.claims)]
        return sum(gzip.decompress(each).count(b"\n") for each in data)

    def write(self, folder: Path) -> Path:
        """The lake as files."""
        for key, data in self.objects.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder
