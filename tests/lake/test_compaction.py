"""Compaction, step by step: what a reader sees, who sleeps through it, and what the store refuses."""

import asyncio
from collections import Counter
from random import Random

import pytest

from lmstream.delivery import DeliveryPolicy
from lmstream.delivery.counts import Counts
from lmstream.delivery.retry import Attempts
from lmstream.engine.row_digest import of_lines, text
from lmstream.errors import SinkError
from lmstream.lake import Claim, Claims, Layout
from lmstream.lake.chains import Chains
from lmstream.lake.claims import COMPACTED, Put, Span, name
from lmstream.lake.compacting import Compacting
from lmstream.lake.compactions import Compactions
from lmstream.lake.contents import LineContents
from lmstream.lake.formats import Lines
from lmstream.lake.objects import about, put
from lmstream.lake.paths import compactable
from lmstream.lake.requests import Impatient
from lmstream.lake.window import Object
from lmstream.settings import Settings
from lmstream.testing import now, run
from support.scripted_store import CALM, ScriptedStore

EXTENSION = "ndjson.gz"
FORM = Lines(EXTENSION, bytes)
LAYOUT = Layout.of(Settings(org_id="acme"), "gzip")


class Asleep:
    """The store as a process sees it that is stopped before its next request is signed."""

    def __init__(self, store):
        self.name, self._store, self.awake = store.name, store, asyncio.Event()

    def __getattr__(self, verb):
        async def call(*arguments):
            await self.awake.wait()
            return await getattr(self._store, verb)(*arguments)

        return call


class Lake:
    """One lane with windows of one row each, all of which are done but the last."""

    def __init__(self, windows=6, *, store=None):
        self.store = store or ScriptedStore(Random(1), moods=CALM)
        self.claims = self.claims_by(self.store)
        self.windows = [self._claim(n, last=n == windows) for n in range(1, windows + 1)]

    def claims_by(self, store):
        attempts = Attempts(DeliveryPolicy(timeout=60), now, asyncio.sleep, Random(1).random)
        return Claims(Impatient(store, attempts, Counts()), "_lmstream/", "")

    def compacting(self, writer="c", store=None):
        claims = self.claims_by(store or self.store)
        work = Compacting(
            claims.requests,
            Compactions(claims),
            {EXTENSION: LineContents(bytes, bytes)},
            rows="",
            writer=writer,
            size=1000,
        )
        return work, claims

    async def compact(self, writer="c", store=None):
        work, claims = self.compacting(writer, store)
        (((path, extension), landed),) = (await compactable(claims, Chains(claims), "")).items()
        return await work.path(path, extension, landed)

    async def land(self):
        for claim in self.windows:
            await self.claims.keep(LAYOUT)
            await self.claims.create(claim)
            await put(self.claims, claim, self.object(claim), LAYOUT)
        return self

    def object(self, claim):
        gather = FORM.gather()
        gather.add(("p/", line(claim.sequence), 1), None)
        return Object(claim.objects[0], gather, FORM)

    def _claim(self, n, *, last):
        return Claim(
            topic="t",
            lane="0",
            sequence=n,
            kind="window",
            spans={0: Span(start=n, end=n + 1, records=1)},
            done=n if last else 0,
            layout=LAYOUT.hash,
            rows=1,
            objects=(Put(path="p/", piece=0, rows=1, digest=text(of_lines([line(n)]))),),
            writer=f"w {n}",
        )

    @property
    def rows(self):
        found = Counter()
        for key, (data, _) in self.store.objects.items():
            if not key.startswith("_lmstream/"):
                found.update(data.splitlines(keepends=True))
        return found

    @property
    def once(self):
        return self.rows == Counter(line(each.sequence) for each in self.windows)


def line(n):
    return b'{"rowId":"t/0/%d:0"}\n' % n


def test_small_objects_become_one_and_their_names_stay_taken():
    async def main():
        lake = await Lake().land()
        done = await lake.compact()
        assert (done.replaced, done.made, done.rows, done.left) == (5, 1, 5, ())
        assert lake.once
        for claim in lake.windows[:-1]:  # of the last it is not known that it is done
            data, meta = lake.store.objects[name(claim, claim.objects[0], EXTENSION)]
            assert (data, meta["rows"], COMPACTED in meta) == (b"", "0", True)
        assert (await lake.compact()).made == 0

    run(main())


def test_no_row_is_ever_missing_and_a_crash_at_any_request_is_finished_by_the_next():
    async def main(requests):
        lake = await Lake().land()
        wanted = set(lake.rows)
        left = iter(range(requests))
        died = asyncio.Event()

        def script(_verb, _key):
            if next(left, None) is None:
                died.set()
                return "broken"
            return "done"

        def seen(*_):
            assert set(lake.rows) == wanted

        lake.store.script, lake.store.told = script, seen
        task = asyncio.ensure_future(lake.compact("first"))
        await asyncio.wait({task, asyncio.ensure_future(died.wait())}, return_when=asyncio.FIRST_COMPLETED)
        whole = not died.is_set()
        task.cancel()
        await asyncio.wait({task})
        lake.store.script = None
        await lake.compact("second")
        assert lake.once
        return whole

    ends = [run(main(requests)) for requests in range(60)]
    assert ends[-1]  # by then it is not killed any more
    assert not ends[20]


def test_a_member_that_slept_between_check_and_put_finds_its_name_taken():
    async def main():
        lake = await Lake().land()
        asleep = Asleep(lake.store)
        claim = lake.windows[1]
        member = asyncio.ensure_future(put(lake.claims_by(asleep), claim, lake.object(claim), LAYOUT))
        await asyncio.sleep(1)
        await lake.compact()
        asleep.awake.set()
        assert await member is False
        assert lake.once

    run(main())


def test_where_compaction_deletes_a_member_that_slept_writes_its_rows_again(monkeypatch):
    async def delete(self, _compaction, each):
        self._requests._store.objects.pop(each.key, None)

    monkeypatch.setattr(Compacting, "_empty", delete)

    async def main():
        lake = await Lake().land()
        asleep = Asleep(lake.store)
        claim = lake.windows[1]
        member = asyncio.ensure_future(put(lake.claims_by(asleep), claim, lake.object(claim), LAYOUT))
        await asyncio.sleep(1)
        await lake.compact()
        asleep.awake.set()
        assert await member is True
        assert lake.rows[line(claim.sequence)] == 2

    run(main())


@pytest.mark.parametrize("verb", ["create", "replace", "tagged", "get"])
def test_a_compactor_that_slept_changes_nothing_any_more(verb):
    async def main():
        lake = await Lake().land()
        asleep = Asleep(lake.store)

        class Half:
            """Sleeps at the first request of this kind."""

            name = lake.store.name

            def __getattr__(self, what):
                return getattr(asleep if what == verb else lake.store, what)

        first = asyncio.ensure_future(lake.compact("first", Half()))
        await asyncio.sleep(60)
        assert not first.done()
        await lake.compact("second")
        before = dict(lake.store.objects)
        asleep.awake.set()
        await first
        assert lake.once
        assert lake.store.objects == before

    run(main())


def test_what_another_replaced_before_it_was_read_is_not_told_as_broken():
    async def main():
        lake = await Lake().land()
        awake = asyncio.Event()

        class Half:
            """Sleeps before it reads objects, when it knows already that nobody has compacted them."""

            name = lake.store.name

            def __getattr__(self, what):
                return getattr(lake.store, what)

            async def get(self, key, *more):
                if key.startswith("p/"):
                    await awake.wait()
                return await lake.store.get(key, *more)

        first = asyncio.ensure_future(lake.compact("first", Half()))
        await asyncio.sleep(60)
        assert (await lake.compact("second")).replaced == 5
        awake.set()
        done = await first
        assert (done.replaced, done.left, lake.once) == (0, (), True)

    run(main())


def test_an_object_with_other_rows_than_its_claim_is_left_alone_and_named():
    async def main():
        lake = await Lake().land()
        key = name(lake.windows[2], lake.windows[2].objects[0], EXTENSION)
        other = Put(path="p/", piece=0, rows=1, digest=text(of_lines([line(99)])))
        lake.store.objects[key] = line(99), about(other)
        done = await lake.compact()
        assert (done.replaced, done.left) == (4, (key,))
        assert lake.store.objects[key][0] == line(99)

    run(main())


def test_a_larger_object_that_was_deleted_is_an_error_and_not_made_of_nothing():
    async def main():
        lake = await Lake().land()
        await lake.compact()
        (key,) = (key for key in lake.store.objects if "compacted-" in key)
        lake.store.remove(key)
        with pytest.raises(SinkError) as caught:
            await lake.compact()
        assert caught.value.reason == "lake.object"
        assert key in str(caught.value)

    run(main())


def test_a_policy_that_refuses_to_replace_is_told_at_once_and_loses_nothing():
    async def main():
        lake = await Lake().land()
        lake.store.script = lambda verb, _key: "denied" if verb == "replace" else None
        with pytest.raises(SinkError) as caught:
            await lake.compact()
        assert caught.value.reason == "place.denied"
        assert set(lake.rows) == {line(each.sequence) for each in lake.windows}
        lake.store.script = None
        await lake.compact()
        assert lake.once

    run(main())
