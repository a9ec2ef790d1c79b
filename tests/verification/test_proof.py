"""The prover, round by round, on topics and objects in memory: nothing is proved that is not there, and nothing twice."""

import gzip
import io
from itertools import islice

import pytest

from lmstream import Engine, Record, Settings
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter
from lmstream.verification import proof
from lmstream.verification.proof import Bound, Prover, State, _spans

ENGINE = Engine(Settings(org_id="acme"))
T = "lm"


class World:
    """A topic of one partition, what landed of it, and a clock."""

    def __init__(self, count=10, bad=()):
        bundles = islice(Generator(instances=2, seed=5).bundles(), count)
        self.records = [
            Record(topic=T, partition=0, offset=n, timestamp=1000 * (n + 1), value=b"x" if n in bad else each.payload)
            for n, each in enumerate(bundles)
        ]
        self.begin, self.committed, self.now = 0, 0, 1000.0
        self.objects, self.letters, self.reads = {}, [], []
        self.name = "memory/"

    # proof.Log
    def bounds(self):
        return {(T, 0): Bound(self.begin, self.committed)}

    def read(self, topic, ranges):
        assert topic == T
        (start, stop) = ranges[0]
        self.reads.append((start, stop))
        return (each for each in self.records if start <= each.offset < stop)

    def first(self, offsets):
        waiting = [each.timestamp for each in self.records if each.offset >= offsets[T, 0]]
        return {(T, 0): waiting[0]} if waiting else {}

    # Keyed
    def keys(self, prefix=""):
        return [(key, at) for key, (_, at) in sorted(self.objects.items()) if key.startswith(prefix)]

    def open(self, key):
        return io.BufferedReader(io.BytesIO(self.objects[key][0])) if key in self.objects else None

    def land(self, *offsets, at=None):
        """Land the rows of these records, an object each record and path; commit them if they follow."""
        for n in offsets:
            for group in ENGINE.fan_out(self.records[n]).groups:
                self.objects[f"{group.path}{n}.gz"] = gzip.compress(group.data), self.now if at is None else at

    def prover(self, state=None, **more):
        letters = (lambda *_: self.letters) if more.pop("judge_letters", False) else None
        return Prover(
            self, ENGINE, self, letters, state or State(group="g"), clock=lambda: self.now, **{"settle": 0.0} | more
        )


def part(prover):
    return prover.state.partitions[f"{T}/0"]


def test_what_is_committed_and_landed_is_proved_and_read_once():
    world = World()
    prover = world.prover()
    world.land(0, 1, 2)
    world.committed = 3
    prover.round()
    assert (part(prover).offset, part(prover).until, part(prover).rows) == (3, 4.0, 0)
    assert world.reads == [(0, 3)]
    world.land(3, 4)
    world.committed = 5
    prover.round()
    assert part(prover).offset == 5
    assert world.reads == [(0, 3), (3, 5)]
    world.land(*range(5, 10))
    world.committed = 10
    world.now = 2000.0
    prover.round()
    assert (part(prover).offset, part(prover).until) == (10, 2000.0), "nothing waits: all up to now is proved"
    prover.round()
    assert world.reads[-1] == (5, 10), "nothing is read when nothing is due"


@pytest.mark.parametrize("how", ["lost", "changed"])
def test_a_row_that_is_not_as_it_must_be_holds_the_proof_until_it_is_made_good(how):
    world = World()
    world.land(*range(5))
    world.committed = 5
    key, (data, at) = next((key, each) for key, each in world.objects.items() if key.endswith("/2.gz"))
    if how == "lost":
        del world.objects[key]
    else:
        world.objects[key] = gzip.compress(gzip.decompress(data).replace(b'"value":', b'"value":1')), at
    prover = world.prover()
    prover.round()
    rows = gzip.decompress(data).count(b"\n")
    assert (part(prover).offset, part(prover).until, part(prover).rows) == (2, 3.0, rows)
    assert part(prover).position == 5, "what follows is judged all the same"
    world.land(5)
    world.committed = 6
    prover.round()
    assert (part(prover).offset, list(part(prover).unproved)) == (2, [2])
    world.objects[key] = data, at
    prover.round()
    assert (part(prover).offset, part(prover).rows, part(prover).until) == (6, 0, 7.0)


def test_a_row_is_judged_when_it_must_have_landed_not_before():
    world = World()
    world.committed = 4
    prover = world.prover(settle=300.0)
    prover.round()
    assert (part(prover).offset, part(prover).rows) == (0, 0)
    world.now += 299
    world.committed = 6
    prover.round()
    assert part(prover).offset == 0
    world.land(0, 1, 2, 3)
    world.now += 2
    prover.round()
    assert (part(prover).offset, part(prover).rows) == (4, 0)
    assert len(part(prover).commits) == 3
    world.now += 300
    prover.round()
    assert (part(prover).offset, part(prover).rows > 0) == (4, True), "4 and 5 have not landed"
    assert len(part(prover).commits) <= 2


def test_an_old_object_may_have_the_rows_before_they_are_called_lost():
    world = World()
    for record in list(world.records):
        world.records[record.offset] = Record(
            topic=T, partition=0, offset=record.offset, timestamp=9_000_000, value=record.value
        )
    world.land(0, at=10.0)
    world.committed = 1
    prover = world.prover()
    prover.round()
    assert part(prover).offset == 1


def test_a_refused_record_is_proved_by_its_letter():
    world = World(bad=(1,))
    world.land(0, 2)
    world.committed = 3
    prover = world.prover(judge_letters=True)
    prover.round()
    assert (part(prover).offset, part(prover).rows) == (1, 1)
    world.letters = [DeadLetter(topic=T, partition=0, offset=1, timestamp=2000, value=b"x", reason="decode.json")]
    prover.round()
    assert part(prover).offset == 3


def test_what_retention_takes_before_it_is_proved_is_counted():
    world = World()
    world.committed = 8
    prover = world.prover()
    world.land(0, 1)
    prover.round()
    assert part(prover).unproved
    lost = len(part(prover).unproved)
    world.begin, world.committed = 9, 10
    world.land(9)
    prover.round()
    assert part(prover).gone == lost + 1
    assert (part(prover).offset, part(prover).rows) == (10, 0)


def test_a_round_ends_at_its_bound_and_the_next_one_continues(monkeypatch):
    monkeypatch.setattr(proof, "ROWS", 8)
    world = World()
    world.land(*range(10))
    world.committed = 10
    prover = world.prover()
    rounds = 0
    while rounds < 12:
        prover.round()
        rounds += 1
        if not prover.behind:
            break
    assert (part(prover).offset, 1 < rounds < 12) == (10, True)


def test_the_state_is_all_that_a_restart_needs():
    import msgspec

    world = World()
    world.land(0, 1)
    world.committed = 3
    prover = world.prover()
    prover.round()
    kept = msgspec.json.decode(msgspec.json.encode(prover.state), type=State)
    again = world.prover(kept)
    world.land(2)
    again.round()
    assert part(again).offset == 3
    assert world.reads[-1] == (2, 3)
    late = world.prover(start={(T, 0): 2})
    late.round()
    assert (part(late).offset, world.reads[-1]) == (3, (2, 3))


def test_offsets_near_to_each_other_are_read_in_one_go():
    assert _spans([]) == []
    assert _spans([7]) == [(7, 8)]
    assert _spans([500, 3, 90, 501]) == [(3, 91), (500, 502)]
