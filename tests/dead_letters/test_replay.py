"""Dead letters from Python: listed, rehearsed, replayed and removed, and nothing is printed."""

import msgspec
import pytest

from lmstream import Engine, Settings
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.letters import Letters
from lmstream.dead_letters.letters import Settings as Folder
from lmstream.dead_letters.replay import rehearse, remove_all, replay
from lmstream.dead_letters.store import FolderStore, reading
from lmstream.errors import ConfigError
from lmstream.lab.generator import Generator
from lmstream.model import CLOSED, DeadLetter, Status

GOOD = next(Generator(instances=2).bundles())


@pytest.fixture
async def store(tmp_path):
    """A folder with a bundle, one that is none, a stub and a file of somebody else's; and what is said of it."""
    said = []
    kept = DeadLetter(topic="t", partition=0, offset=1, timestamp=5, value=GOOD.payload, reason="org.unresolved")
    bad = msgspec.structs.replace(kept, offset=2, value=b"no bundle", reason="decode.json")
    stub = msgspec.structs.replace(kept, offset=3, value=None, reason=CLOSED)
    await Letters(Folder(root=str(tmp_path / "dead"))).write([kept, bad, stub])
    (tmp_path / "dead/t/0/strange.json").write_bytes(b"[" * 200_000)
    made = FolderStore(tmp_path / "dead", said.append)
    made.said = said
    return made


async def names(store, filters=None):
    fits = (filters or Filters()).compiled()
    async with reading(store) as found:
        return sorted([each.letter.offset async for each in found if fits(each)])


async def test_letters_are_read_one_by_one_and_what_is_none_is_told(store, capsys):
    assert await names(store) == [1, 2, 3]
    assert [line.endswith("strange.json: not a dead letter, skipped") for line in store.said] == [True]
    assert await names(store, Filters(reason=("decode.*",))) == [2]
    assert await names(store, Filters(offset=("2-9",), topic=("t",), partition=(0,))) == [2, 3]
    assert await names(store, Filters(since="1970-01-01T00:00:01Z")) == []
    assert await names(store, Filters(until="20000d")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [Filters(offset=("x",)), Filters(since="soon"), Filters(until="9" * 30 + "d")])
def test_a_filter_that_is_none_is_an_error_of_ours(wrong):
    with pytest.raises(ConfigError, match="expected"):
        wrong.compiled()


async def test_a_rehearsal_counts_rows_and_what_would_be_refused_again(store):
    done = await rehearse(store, Filters(), Engine(Settings(org_id="acme")))
    assert (done.letters, done.rows) == (3, GOOD.rows)
    assert set(done.refused) == {"decode.json", CLOSED}


async def test_a_replay_removes_what_was_delivered_and_nothing_else(store):
    seen = []

    async def run(source, settled):
        batch = await source.poll(1 << 20)
        assert batch.end
        for record in batch.records:
            seen.append(record.offset)
            settled(record.tp, 0, record.offset, Status.DELIVERED if record.offset == 1 else Status.DEAD_LETTERED)

    assert await replay(store, Filters(), run, purge=True, say=store.said.append) == 1
    assert sorted(seen) == [1, 2]  # not the stub: it has no bytes
    assert any("1 letters have no bytes" in line for line in store.said)
    assert await names(store) == [2, 3]


async def test_a_run_that_breaks_removes_nothing(store):
    async def broken(source, settled):
        batch = await source.poll(1 << 20)
        for record in batch.records:
            settled(record.tp, 0, record.offset, Status.DELIVERED)
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await replay(store, Filters(), broken, purge=True)
    assert await names(store) == [1, 2, 3]


async def test_removal_names_first_and_removes_only_when_it_is_told_to(store):
    done = await remove_all(store, Filters(reason=("decode.json",)), yes=False)
    assert (done.letters, [name.rpartition("/")[2] for name in done.named]) == (1, ["2.json"])
    assert await names(store) == [1, 2, 3]
    assert (await remove_all(store, Filters(reason=("decode.json",)), yes=True)).letters == 1
    assert await names(store) == [1, 3]
