"""The chains of a lake, walk by walk: each claim is looked at once, and nothing is forgotten that was not right."""

import pytest

from lmstream.storage.by_key import keyed
from lmstream.storage.objects import Folder
from lmstream.verification.chains import Chains, Walked
from support.lakes import Landed, records

LOG = records(60)


class World:
    """A lake in a folder that grows, and a proof of it at a clock that is set by hand."""

    def __init__(self, folder):
        self.folder, self.landed, self.now = folder, Landed(), 1e10
        self.opened = []

    def grow(self, upto):
        self.landed.land(LOG[:upto])
        self.landed.write(self.folder)

    def chains(self, state=None):
        rows = keyed(Folder(self.folder))
        read = rows.open

        def opened(key):
            self.opened.append(key)
            return read(key)

        rows.open = opened
        claims = keyed(Folder(self.folder / "_lmstream"))
        return Chains(rows, claims, state or Walked(), since=lambda: 0.0, clock=lambda: self.now)

    def walk(self, chains, seconds=60):
        """Walk on after so many seconds; the objects that were read."""
        self.opened.clear()
        self.now += seconds
        chains.walk()
        return set(self.opened)

    @property
    def objects(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*.gz")}


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "lake")
    made.grow(40)
    return made


def test_a_walk_looks_at_what_is_new_and_at_no_more(world):
    chains = world.chains()
    first = world.walk(chains)
    assert (chains.faults, chains.until) == (0, world.now)
    assert first <= world.objects
    old = world.objects
    again = world.walk(chains)
    assert len(again) < len(first), "of what was judged one window a lane is looked at again"
    world.grow(60)
    grown = world.walk(chains)
    assert len(grown & (world.objects - old)) > 0
    assert len(grown & old) < len(old), "what was judged long ago is not read again"
    assert chains.until == world.now


def test_a_fault_is_told_until_it_is_gone_and_holds_the_proof_back(world):
    chains = world.chains()
    world.walk(chains)
    good = chains.until
    begin = dict(chains.state.begin)
    world.grow(60)
    (folder,) = begin
    files = sorted((world.folder / "_lmstream" / folder).iterdir(), reverse=True)
    gone = files[-3]
    data = gone.read_bytes()
    gone.unlink()
    world.walk(chains)
    assert chains.faults
    assert "missing in the middle of the chain" in chains.named[0]
    assert (chains.until, dict(chains.state.begin)) == (good, begin)
    world.walk(chains)
    assert chains.faults
    gone.write_bytes(data)
    world.walk(chains)
    assert (chains.faults, chains.named, chains.until) == (0, [], world.now)


def test_what_no_claim_names_is_looked_for_once_an_hour(world):
    chains = world.chains()
    world.walk(chains)
    some = next(path for path in world.folder.rglob("*.gz"))
    stranger = some.with_name(some.name.replace("lm-", "xx-", 1))
    stranger.write_bytes(some.read_bytes())
    world.walk(chains)
    assert chains.faults == 0
    world.walk(chains, 3600)
    assert chains.faults > 1, "an object, and its rows, which are there twice"
    world.walk(chains)
    assert chains.faults > 1, "while there are faults all is looked at"
    stranger.unlink()
    world.walk(chains)
    assert chains.faults == 0


def test_a_restart_begins_where_the_last_walk_ended(world):
    chains = world.chains()
    first = world.walk(chains)
    again = world.chains(chains.state)
    assert len(world.walk(again)) < len(first)
    assert again.until == world.now


def test_a_walk_that_is_stopped_says_nothing(world):
    stopped = []
    chains = world.chains()
    chains._stopped = lambda: bool(stopped)
    world.walk(chains)
    before = chains.state
    world.grow(60)
    stopped.append(1)
    world.walk(chains)
    assert (chains.state, chains.faults) == (before, 0)
