"""Repair, case by case: what is there, what of the topic is gone, and what is refused with nothing written."""

import asyncio
import logging
from random import Random

import pytest
from msgspec import structs

from lmstream.delivery import DeliveryPolicy
from lmstream.delivery.counts import Counts
from lmstream.delivery.retry import Attempts
from lmstream.engine.row_digest import of_lines, text
from lmstream.errors import SinkError
from lmstream.lake import Claim, Claims, Layout
from lmstream.lake.again import Maker
from lmstream.lake.claims import Buried, Put, Span, mark, name
from lmstream.lake.contents import LineContents
from lmstream.lake.formats import Lines
from lmstream.lake.layout import Module
from lmstream.lake.objects import SHORT, about
from lmstream.lake.repair import Repair
from lmstream.lake.requests import Requests
from lmstream.settings import Settings
from lmstream.testing import now, run
from support.doubles import ToyEngine, bundle, lines_of, record
from support.scripted_store import CALM, ScriptedStore

EXTENSION = "ndjson.gz"
LAYOUT = Layout.of(Settings(org_id="acme"), "gzip")
RECORDS = [record(0, bundle(2)), record(1, b"junk"), record(2, bundle(3)), record(3, bundle(1, bad=1))]
LINES = [line for each in RECORDS if each.value != b"junk" for line in lines_of(each)]
CLAIM = Claim(
    topic="t",
    lane="0",
    sequence=4,
    kind="window",
    spans={0: Span(start=0, end=4, first=mark(RECORDS[0]), last=mark(RECORDS[3]), records=4)},
    done=0,
    layout=LAYOUT.hash,
    rows=6,
    held=100,
    objects=(Put(path="p0/", piece=0, rows=6, digest=text(of_lines(LINES))),),
    letters=(
        Buried(partition=0, offset=1, reason="decode.json"),
        Buried(partition=0, offset=3, reason="value.two", ordinals=(1,)),
    ),
    writer="w",
)
KEY = name(CLAIM, CLAIM.objects[0], EXTENSION)
SUPPLEMENT = name(CLAIM, CLAIM.objects[0], EXTENSION, 1)


def repaired(store, records=RECORDS, *, claim=CLAIM, layout=LAYOUT, budget=10**6, dry=False):
    """What a repair says."""

    async def read(_topic, ranges):
        for each in records:
            await asyncio.sleep(0)
            if ranges[0][0] <= each.offset < ranges[0][1]:
                yield each

    async def main():
        attempts = Attempts(DeliveryPolicy(), now, asyncio.sleep, Random(1).random)
        claims = Claims(Requests(store, attempts, Counts()), "_lmstream/", "")
        named = structs.replace(claim, layout=await claims.keep(layout))
        await claims.create(named)
        maker = Maker({"gzip": Lines(EXTENSION, bytes)}, lambda _layout: ToyEngine())
        work = Repair(claims, maker, {EXTENSION: LineContents(bytes, bytes)}, read, budget=budget)
        return await work.claim(named, dry=dry)

    return run(main())


@pytest.fixture
def store():
    return ScriptedStore(Random(1), moods=CALM)


def landed(store):
    return {key: data for key, (data, _) in store.objects.items() if not key.startswith("_lmstream/")}


def lie(store, lines, **more):
    entry = Put(path="p0/", piece=0, rows=len(lines), digest=text(of_lines(lines)))
    store.objects[KEY] = b"".join(lines), about(entry, more)


def test_a_missing_object_is_made_as_its_manifest_says(store):
    assert repaired(store, dry=True).missing == 1
    assert not landed(store)
    done = repaired(store)
    assert (done.missing, done.made, done.rows, done.lost) == (1, 1, 6, 0)
    assert landed(store) == {KEY: b"".join(LINES)}
    assert store.objects[KEY][1] == about(CLAIM.objects[0])
    again = repaired(store)
    assert (again.missing, again.short, again.made) == (0, 0, 0)


def test_what_is_left_is_written_and_what_is_lost_is_named(store, caplog):
    with caplog.at_level(logging.ERROR):
        done = repaired(store, RECORDS[2:])
    assert (done.made, done.rows, done.lost) == (1, 4, 2)
    assert landed(store) == {KEY: b"".join(LINES[2:])}
    assert store.objects[KEY][1][SHORT] == "2"
    assert [each.code for each in caplog.records] == ["LMS-4025"]
    # It stays so, and is said again; and when the records are there after all, their rows are added beside it.
    assert (repaired(store, RECORDS[2:]).made, repaired(store, RECORDS[2:]).lost) == (0, 2)
    done = repaired(store)
    assert (done.short, done.made, done.rows, done.lost) == (1, 1, 2, 0)
    assert landed(store) == {KEY: b"".join(LINES[2:]), SUPPLEMENT: b"".join(LINES[:2])}
    assert repaired(store).made == 0


def test_a_short_object_gets_a_supplement_and_no_second_copy_of_a_row(store):
    lie(store, [LINES[1], LINES[4]])
    done = repaired(store)
    assert (done.short, done.made, done.rows, done.lost) == (1, 1, 4, 0)
    assert sorted(b"".join(landed(store).values()).splitlines(keepends=True)) == sorted(LINES)


def test_an_object_of_someone_else_is_named_and_nothing_is_written(store):
    lie(store, [LINES[0], b'{"rowId":"other:0"}\n'])
    before = landed(store)
    with pytest.raises(SinkError) as caught:
        repaired(store)
    assert caught.value.reason == "lake.object"
    assert KEY in str(caught.value)
    assert landed(store) == before


@pytest.mark.parametrize(
    ("reason", "more"),
    [
        ("lake.incarnation", {"records": [record(0, bundle(2), timestamp=7), *RECORDS[1:]]}),
        ("lake.code", {"records": [*RECORDS[:2], record(2, bundle(4)), RECORDS[3]]}),
        ("lake.code", {"records": [*RECORDS[:2], record(2, bundle(3, bad=1)), RECORDS[3]]}),
        ("lake.code", {"records": [*RECORDS[:2], record(2, b"junk"), RECORDS[3]]}),
        ("lake.code", {"layout": structs.replace(LAYOUT, modules=(Module(name="acme.codec", source="ab"),))}),
        ("lake.memory", {"budget": 99}),
    ],
)
def test_what_cannot_be_made_as_it_was_is_refused_and_nothing_is_written(store, reason, more):
    with pytest.raises(SinkError) as caught:
        repaired(store, **more)
    assert caught.value.reason == reason
    assert not landed(store)
