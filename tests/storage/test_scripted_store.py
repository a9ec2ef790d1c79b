"""The store that the schedules are played on is held to the protocol first: a double that lies would prove nothing."""

import asyncio
from random import Random

import pytest

from lmstream.bounded import BoundError
from lmstream.interfaces import ObjectStore, ReplacingStore, StoreError
from lmstream.model import Kind
from lmstream.testing import run
from support.scripted_store import CALM, FAILURES, Moods, ScriptedStore


def store(seed=0, moods=CALM):
    return ScriptedStore(Random(seed), moods=moods)


def test_objects_are_made_once_and_never_changed():
    async def main():
        kept: ObjectStore = store()
        assert await kept.create("a/b", b"one", {"rows": "1"})
        assert not await kept.create("a/b", b"two", {"rows": "2"})
        assert await kept.get("a/b", 3) == b"one"
        assert await kept.stat("a/b") == {"rows": "1"}
        assert await kept.get("a", 3) is None
        assert await kept.stat("a") is None
        with pytest.raises(BoundError):
            await kept.get("a/b", 2)
        return kept

    kept = run(main())
    assert (kept.created, kept.refused) == (["a/b"], ["a/b"])


def test_what_is_replaced_is_the_version_that_was_seen():
    async def main():
        kept: ReplacingStore = store()
        await kept.create("k", b"one", {"rows": "1"})
        seen = await kept.tagged("k")
        assert seen.meta == {"rows": "1"}
        assert await kept.replace("k", b"", {"rows": "0"}, seen.tag)
        assert await kept.stat("k") == {"rows": "0"}
        assert not await kept.replace("k", b"two", {}, seen.tag)
        assert not await kept.replace("none", b"two", {}, seen.tag)
        assert await kept.tagged("none") is None
        assert await kept.get("k", 9) == b""
        return kept

    kept = run(main())
    assert (kept.replaced, kept.refused) == (["k"], ["k", "none"])


def test_names_are_in_the_order_of_their_bytes_and_no_more_than_asked_for():
    async def main():
        kept = store()
        for key in ("p/é", "p/z", "p/a/b", "p/a-b", "q"):
            await kept.create(key, b"", {})
        assert await kept.names("p/", 9) == ["p/a-b", "p/a/b", "p/z", "p/é"]
        assert await kept.names("p/", 2) == ["p/a-b", "p/a/b"]

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_of_two_who_make_the_same_at_once_one_is_told_true(seed):
    async def main():
        kept = store(seed)
        answers = await asyncio.gather(*(kept.create("k", b"%d" % n, {}) for n in range(5)))
        assert sorted(answers) == [False] * 4 + [True]
        assert (await kept.get("k", 9)) == b"%d" % answers.index(True)

    run(main())


@pytest.mark.parametrize(
    ("fate", "there", "later"),
    [
        ("slowdown", False, False),
        ("conflict", False, False),
        ("broken", False, False),
        ("denied", False, False),
        ("lost", True, True),
        ("late", False, True),
    ],
)
def test_a_failed_call_has_the_effect_of_its_fate(fate, there, later):
    async def main():
        kept = store()
        kept.script = lambda verb, _key: fate if verb == "create" else None
        with pytest.raises(StoreError) as caught:
            await kept.create("k", b"x", {})
        assert caught.value.failure is FAILURES[fate]
        assert caught.value.failure.kind in {Kind.RETRYABLE, Kind.FATAL_CONFIG}
        if fate != "late":  # its effect may come at any moment after the call
            assert ("k" in kept.objects) is there
        await asyncio.sleep(60)
        assert ("k" in kept.objects) is later

    run(main())


def test_a_late_effect_finds_what_was_made_meanwhile():
    async def main():
        for seed in range(30):
            kept = store(seed)
            fates = iter(["late", "done"])
            kept.script = lambda verb, _key, fates=fates: next(fates) if verb == "create" else None
            with pytest.raises(StoreError):
                await kept.create("k", b"first", {})
            mine = await kept.create("k", b"second", {})
            await asyncio.sleep(60)
            assert kept.created == ["k"]
            assert kept.objects["k"][0] == (b"second" if mine else b"first")

    run(main())


def test_a_caller_that_is_cancelled_does_not_take_its_request_back():
    async def main():
        kept = store()
        task = asyncio.create_task(kept.create("k", b"x", {}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not kept.objects
        await asyncio.sleep(60)
        assert kept.created == ["k"]

    run(main())


def test_the_same_seed_plays_the_same_schedule_and_storms_hold_every_fate():
    async def main(seed):
        kept, seen = store(seed, Moods(denied=0.03)), []
        for n in range(300):
            try:
                seen.append(await kept.create(f"k{n}", b"", {}))
            except StoreError as error:
                seen.append((error.failure.code, error.failure.message))
        return seen, sorted(kept.created)

    assert run(main(7)) == run(main(7))
    assert {(each.code, each.message) for each in FAILURES.values()} <= {s for s in run(main(7))[0] if s is not True}


def test_an_object_that_was_removed_can_be_made_again_and_shows():
    async def main():
        kept = store()
        seen = []
        kept.told = lambda verb, key: seen.append((verb, key))
        await kept.create("k", b"", {})
        kept.remove("k")
        assert await kept.create("k", b"", {})
        assert kept.created == ["k", "k"]
        assert seen == [("create", "k")] * 2

    run(main())
