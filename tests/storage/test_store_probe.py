"""The questions before a start: stores that lie, in each way that would double or lose rows, are found."""

import asyncio
from random import Random

import pytest

from lmstream.errors import REASONS, ConfigError
from lmstream.storage import store_probe
from lmstream.storage.store_probe import CONDITIONS, LISTING, WRITERS, failed, probe, refuse_failed
from lmstream.testing import run
from support.scripted_store import CALM, Moods, ScriptedStore

PREFIX = "_lmstream/"


def asked(store):
    return run(probe(store, PREFIX))


def honest(seed=0, moods=CALM):
    return ScriptedStore(Random(seed), moods=moods)


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_store_passes_calm_and_stormy(seed):
    for moods in (CALM, Moods(late=0)):
        checks = asked(honest(seed, moods))
        assert [(each.name, each.verdict) for each in checks] == [(LISTING, "ok"), (CONDITIONS, "ok")], checks


def test_what_it_leaves_is_below_the_probe_and_the_day():
    store = honest()
    asked(store)
    (key,) = store.created
    assert key.startswith(f"{PREFIX}probe/20")
    assert len(key.split("/")) == 4


class Accepts(ScriptedStore):
    """Knows no condition: the last one wins, and all are told that it is theirs."""

    async def create(self, key, data, meta, /):
        await super().create(key, data, meta)
        self.objects[key] = data, dict(meta)
        return True


class LooksFirst(ScriptedStore):
    """Looks whether there is one, and writes a moment later: right for one writer, wrong for two at once."""

    async def create(self, key, data, meta, /):
        there = key in self.objects
        await asyncio.sleep(0.01)
        self.objects.setdefault(key, (data, dict(meta)))
        return not there


class Overwrites(ScriptedStore):
    """Says that there is one, and writes all the same."""

    async def create(self, key, data, meta, /):
        made = await super().create(key, data, meta)
        self.objects[key] = data, dict(meta)
        return made


class ForgetsWhoWon(ScriptedStore):
    """Keeps the first, and tells another one that it won."""

    async def create(self, key, data, meta, /):
        made = await super().create(key, data, meta)
        if made:
            self.objects[key] = b"writer 99", dict(meta)
        return made


class Stale(ScriptedStore):
    """Lists what was there a while ago."""

    async def names(self, prefix, most, /):
        await super().names(prefix, most)
        return []


class Reads(ScriptedStore):
    """Has an object at every name, as a proxy has a page."""

    async def get(self, key, most, /):
        return await super().get(key, most) or b"<html>"


class Lists(ScriptedStore):
    async def names(self, prefix, most, /):
        return [f"{prefix}x"][:most]


class OtherMeta(ScriptedStore):
    async def stat(self, key, /):
        return {**(await super().stat(key) or {}), "probe": "writer 98"}


@pytest.mark.parametrize(
    ("store", "name", "said"),
    [
        (Accepts, CONDITIONS, f"{WRITERS} of {WRITERS}"),
        (LooksFirst, CONDITIONS, f"of {WRITERS} writers of one object succeeded"),
        (Overwrites, CONDITIONS, "does not hold"),
        (ForgetsWhoWon, CONDITIONS, "does not hold"),
        (Stale, CONDITIONS, "not listed at once"),
        (Reads, CONDITIONS, "never made can be read"),
        (Lists, LISTING, "never made is listed"),
        (OtherMeta, CONDITIONS, "metadata"),
    ],
)
def test_a_store_that_lies_is_found(store, name, said):
    checks = asked(store(Random(1), moods=CALM))
    (wrong,) = [each for each in checks if each.verdict == "failed"]
    assert (wrong.name, wrong.code) == (name, REASONS["lake.conditions"].code)
    assert said in wrong.said
    with pytest.raises(ConfigError, match="Fix: use a bucket"):
        refuse_failed(checks, "s3://lake")


def test_a_store_that_accepts_only_every_second_create_is_found():
    class Twice(ScriptedStore):
        """Honours the condition, unless the same is asked a second time: as a retry of its client would be."""

        async def create(self, key, data, meta, /):
            if data == b"again":
                self.objects.pop(key)
            return await super().create(key, data, meta)

    (_, wrong) = asked(Twice(Random(1), moods=CALM))
    assert (wrong.verdict, wrong.said) == ("failed", "an object was made twice under one name")


@pytest.mark.parametrize("fate", ["slowdown", "conflict", "broken", "lost"])
def test_a_store_that_never_answers_is_not_proven_and_stops_a_start(fate):
    store = honest()
    store.script = lambda verb, _key: fate if verb == "create" else None
    listed, wrong = asked(store)
    assert listed.verdict == "ok"
    assert (wrong.verdict, wrong.code) == ("failed", REASONS["lake.conditions"].code)
    assert "not answered" in wrong.said
    assert store.calls["create"] >= 4 * WRITERS  # it was asked again


def test_one_whose_race_had_no_winner_is_asked_alone():
    store = honest()
    tries = iter(["conflict"] * WRITERS)
    store.script = lambda verb, _key: next(tries, "done") if verb == "create" else "done"
    _, good = asked(store)
    assert good.verdict == "ok"


def test_without_an_answer_to_a_listing_nothing_more_is_asked():
    store = honest()
    store.script = lambda verb, _key: "broken" if verb == "names" else None
    (wrong,) = asked(store)
    assert (wrong.name, wrong.code) == (LISTING, REASONS["place.unreachable"].code)
    assert not store.calls["create"]


def test_a_right_that_is_missing_is_named():
    store = honest()
    store.script = lambda verb, _key: "denied" if verb == "names" else None
    listed, conditional = asked(store)
    assert (listed.verdict, listed.code) == ("failed", REASONS["place.denied"].code)
    assert "s3:ListBucket" in listed.fix
    assert conditional.verdict == "ok"  # what can be asked without it is
    store.script = lambda verb, _key: "denied" if verb == "create" else None
    _, wrong = asked(store)
    assert (wrong.verdict, wrong.code) == ("failed", REASONS["place.denied"].code)


def test_all_that_is_wrong_is_told_at_once_and_nothing_passes_for_being_busy():
    checks = [
        failed("a", "sink.clock", "is late"),
        failed("b", "lake.lifecycle", "is short"),
        failed("c", "sink.busy", "is"),
    ]
    with pytest.raises(ConfigError) as caught:
        refuse_failed(checks, "s3://lake")
    assert [each.reason for each in caught.value.errors] == ["lake.conditions", "lake.lifecycle", "lake.conditions"]
    assert all("s3://lake: " in each.detail for each in caught.value.errors)
    refuse_failed([], "s3://lake")
    assert set(store_probe.PASSING) >= {"sink.clock", "sink.busy"}
