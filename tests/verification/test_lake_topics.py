"""A lake against the topic: rows are made again by the settings that each claim names, and compared by digest."""

import logging
from types import SimpleNamespace

import msgspec
import pytest

from lmstream import Engine
from lmstream.lake.claims import LAST, Claim
from lmstream.lake.division import Division
from lmstream.settings import Settings
from lmstream.storage.by_key import keyed
from lmstream.storage.objects import Folder
from lmstream.verification import verify_lake
from lmstream.verification.lake.remade import Bounds, Remade
from support.lake_world import LaidOutEngine, play
from support.lakes import Landed, records

ONE, TWO = Settings(org_id="one"), Settings(org_id="two", path="{orgKey}/{yyyy}/{MM}/{dd}/")


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


LOG = records(20, bad=[3]) + records(8, partition=1, start=5)


@pytest.fixture(scope="module")
def landed():
    """A lake whose settings changed in the middle of the log."""
    lake = Landed().land([each for each in LOG if each.offset < 9], ONE)
    return lake.land(LOG, TWO, object_bytes=4_000)


@pytest.fixture
def lake(landed, tmp_path):
    return landed.write(tmp_path / "lake")


def topic(log=LOG, *, begin=0, stop=None, committed=True, today=TWO, engine=Engine):
    ends = {p: max(each.offset + 1 for each in log if each.partition == p) for p in {each.partition for each in log}}
    bounds = {("lm", p): Bounds(begin, stop, end if committed else None) for p, end in ends.items()}

    async def read(_, partition, start, end):
        for each in log:
            if each.partition == partition and start <= each.offset < end:
                yield each

    return Remade(bounds, read, today, engine=engine)


def check(folder, against, **more):
    return verify_lake(keyed(Folder(folder)), keyed(Folder(folder / "_lmstream")), against, **more)


def test_each_window_is_judged_by_the_settings_of_its_claim(lake):
    report = check(lake, topic())
    assert report.ok, report.verdict
    assert "alone" not in report.verdict
    assert report.lake.compared == report.lake.windows > 3
    assert report.lake.not_compared == {}
    assert report.total.landed == report.total.expected > 100
    assert report.sums.right
    assert report.sums.undecodable == 1


def divided():
    """A lake whose topic was divided anew twice, in the middle of the log."""
    lake = Landed()
    for number, (stop, lanes) in enumerate([(7, 2), (12, 1), (30, None)]):
        lake.land([each for each in LOG if each.offset < stop], ONE, division=Division(lanes=lanes, number=number))
    return lake


def test_windows_on_both_sides_of_a_barrier_are_judged_and_barriers_are_told(tmp_path):
    lake = divided()
    report = check(lake.write(tmp_path), topic(today=ONE))
    assert report.ok, (report.verdict, report.lake.chain)
    assert report.lake.compared == report.lake.windows > 5
    assert report.lake.not_compared == {}
    assert report.total.landed == report.total.expected > 100
    assert report.lake.lanes == 2 + 1 + 2
    assert report.lake.jumped["its offsets continue in division 1: 1 lanes"] == 2
    assert report.lake.jumped["its offsets continue in division 2: a lane for each partition"] == 1
    assert any("lm/0of2 claim" in each and "partition 0 at 7" in each for each in report.lake.jumps)


def test_offsets_between_two_divisions_and_claims_behind_a_barrier_are_faults(tmp_path):
    lake = divided()
    folder = lake.write(tmp_path) / "_lmstream/claims/_/lm"
    first, *more = sorted((folder / "0of1_1").iterdir(), reverse=True)
    claim = msgspec.json.decode(first.read_bytes(), type=Claim)
    later = {p: msgspec.structs.replace(span, start=9, end=9) for p, span in claim.spans.items()}
    first.write_bytes(msgspec.json.encode(msgspec.structs.replace(claim, spans=later)))
    more[0].unlink()
    report = check(tmp_path, None)
    assert not report.ok
    assert any(
        "offsets 7 to 8 of lm/0 are in no chain: that of lm/0of2 ends before" in each for each in report.lake.chain
    )
    *_, last = sorted((folder / "1of2").iterdir(), reverse=True)
    barrier = msgspec.json.decode(last.read_bytes(), type=Claim)
    behind = msgspec.structs.replace(barrier, sequence=barrier.sequence + 1, kind="renewed", done=barrier.sequence + 1)
    (folder / "1of2" / f"{LAST - behind.sequence:020d}.json").write_bytes(msgspec.json.encode(behind))
    assert any("comes after the barrier that ends this lane" in each for each in check(tmp_path, None).lake.chain)


def test_windows_of_several_formats_are_judged_together(tmp_path):
    lake = Landed().land([each for each in LOG if each.offset < 9], ONE).land(LOG, TWO, form="parquet")
    report = check(lake.write(tmp_path), topic())
    assert report.ok, report.verdict
    assert report.lake.compared == report.lake.windows > 3


def test_rows_that_the_topic_does_not_owe_are_changed_although_claim_and_object_agree(lake):
    odd = [msgspec.structs.replace(each, value=LOG[1].value) if each.offset == 12 else each for each in LOG]
    report = check(lake, topic(odd))
    assert not report.ok
    assert report.total.changed + report.total.lost > 0
    assert "not those that the topic owes" in report.changed[0]


def test_a_topic_that_was_made_again_is_told(lake):
    first = min(each.offset for each in LOG if each.partition == 1)
    other = [
        msgspec.structs.replace(each, timestamp=1) if (each.partition, each.offset) == (1, first) else each
        for each in LOG
    ]
    report = check(lake, topic(other))
    assert not report.ok
    assert "lm/1/5 is another record than the one whose rows landed (LMS-4021" in report.lake.chain[0]


def test_records_that_are_committed_and_in_no_claim_are_lost(lake):
    more = [*LOG, *records(3, start=20)]
    report = check(lake, topic(more))
    assert not report.ok
    assert report.total.lost > 0
    assert report.lost[0].startswith("lm/0/20 (")
    assert "is committed, and no claim has it" in report.lost[0]
    assert check(lake, topic(more, committed=False)).ok


def test_a_partition_that_is_committed_and_has_no_chain_is_lost(lake):
    report = check(lake, topic([*LOG, *records(2, partition=7)]))
    assert not report.ok
    assert report.partitions["lm/7"].lost > 0


def test_windows_that_the_log_no_longer_has_are_proved_by_their_claims_alone(lake):
    report = check(lake, topic(begin=6))
    assert report.ok
    assert report.lake.not_compared.keys() == {"the log begins later today"}
    gone = [each for each in LOG if each.offset != 7]
    report = check(lake, topic(gone))
    assert report.ok
    assert report.lake.not_compared == {"records of them are gone from the topic": 2}


def test_only_windows_of_the_range_are_judged(lake):
    whole = check(lake, topic())
    part = check(lake, topic(stop=4))
    assert part.ok
    assert 0 < part.lake.objects < whole.lake.objects
    assert part.lake.claims == whole.lake.claims


def test_rows_of_other_code_are_not_compared_and_that_is_told(lake):
    for path in (lake / "_lmstream/claims").rglob("*.json"):
        claim = msgspec.json.decode(path.read_bytes())
        source = lake / "_lmstream/settings" / f"{claim['layout']}.json"
        layout = msgspec.json.decode(source.read_bytes()) | {"rows": 99}
        data = msgspec.json.encode(layout)
        from hashlib import blake2b

        name = blake2b(data, digest_size=16).hexdigest()
        source.with_name(f"{name}.json").write_bytes(data)
        path.write_bytes(msgspec.json.encode(claim | {"layout": name}))
    report = check(lake, topic())
    assert report.lake.compared == 0
    assert "their rows were made by lmstream" in next(iter(report.lake.not_compared))


def test_a_record_that_is_refused_and_that_no_claim_lists_has_no_letter(lake):
    spoilt = [msgspec.structs.replace(each, value=b"junk") if each.offset == 12 else each for each in LOG]
    report = check(lake, topic(spoilt))
    assert not report.ok
    assert report.letters_missing[0] == "lm/0/12: all of it, decode.json is refused, and no claim lists it"


def test_another_cluster_in_the_same_bucket_is_judged_by_its_claims(lake):
    report = check(lake, topic(committed=False, today=Settings(org_id="one", source_id="east")))
    assert report.ok
    assert report.lake.compared == 0


def test_every_schedule_is_proved_against_its_topic(tmp_path):
    for seed in range(40, 48):
        world = play(seed)
        folder = tmp_path / str(seed)
        for key, (data, _) in world.store.objects.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(data)

        async def read(_, partition, start, end, log=world.log):
            for each in (each for some in log.values() for each in some):
                if each.partition == partition and start <= each.offset < end:
                    yield each

        bounds = {("t", tp.partition): Bounds(0, None, end) for tp, end in world.ends.items() if end}
        against = Remade(
            bounds,
            read,
            Settings(org_id="one"),
            engine=lambda settings: LaidOutEngine(SimpleNamespace(settings=settings)),
        )
        report = check(folder, against)
        assert report.ok, (seed, report.verdict, report.lost, report.letters_missing, report.lake.chain)
        assert report.lake.not_compared == {}, seed
