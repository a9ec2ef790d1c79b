"""A lake that the real outlet landed is proved from its claims alone; broken in any way, the verdict says how."""

import gzip
import logging
import os
from random import Random

import msgspec
import pytest

from lmstream.errors import ConfigError
from lmstream.lake.claims import Claim
from lmstream.model import DeadLetter
from lmstream.settings import Settings
from lmstream.storage.by_key import keyed
from lmstream.storage.objects import Folder
from lmstream.verification import verify_lake
from support import lake_tools_world
from support.lake_world import play
from support.lakes import Landed, records

CLAIMS = "_lmstream/claims/_/lm/0"


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def landed():
    """Records of one partition in several windows, one of them junk."""
    return Landed().land(records(24, bad=[3]))


@pytest.fixture
def lake(landed, tmp_path):
    return landed.write(tmp_path / "lake")


def check(folder, claims="_lmstream", rows="", **more):
    return verify_lake(keyed(Folder(folder / rows)), keyed(Folder(folder / claims)), **more)


def objects(folder):
    return sorted(path for path in folder.rglob("*.gz") if path.is_file())


def claims(folder):
    """The claims of the lane, the oldest first."""
    return sorted((folder / CLAIMS).iterdir(), reverse=True)


def read(path):
    return msgspec.json.decode(path.read_bytes(), type=Claim)


def of(folder, sequence):
    """The objects of one window."""
    return [path for path in objects(folder) if f"-0-{sequence:012d}-" in path.name]


def balanced(report):
    """Each row that is expected is in exactly one of these."""
    t = report.total
    return t.expected == t.landed + t.lost + t.changed + t.misplaced + t.buffered


@pytest.mark.parametrize("form", ["gzip", "zstd", "parquet"])
def test_what_the_outlet_landed_is_proved_from_the_bucket_alone(tmp_path, form):
    log = records(9, bad=[3]) + records(6, partition=1, start=5)
    lake = Landed().land(log, Settings(org_id="acme", path="{orgKey}/{yyyy}/{MM}/{dd}/"), form=form, object_bytes=4_000)
    report = check(lake.write(tmp_path))
    assert report.ok
    assert report.settled
    assert "verified (proved from the bucket alone): lost=0" in report.verdict
    rows = sum(Claim.rows for Claim in map(read_claim, lake.objects.items()) if Claim)
    assert report.total.landed == report.total.expected == rows > 50
    assert report.lake.objects == sum("_lmstream" not in key for key in lake.objects)
    assert report.lake.letters == {"decode.json": 1}
    assert report.lake.jumped == {"the first claim of this lane": 2}
    assert report.total.bundles == 15
    assert any("-001." in key for key in lake.objects), "some path has more than one piece"


def read_claim(item):
    key, data = item
    return msgspec.json.decode(data, type=Claim) if "/claims/" in key else None


def test_an_object_that_was_deleted_is_lost(lake):
    gone = of(lake, 1)[2]
    gone.unlink()
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.lake.objects_lost == 1
    assert report.total.lost > 0
    assert gone.name in report.lost[0]
    assert "is not there" in report.lost[0]


def test_two_objects_that_were_swapped_are_misplaced(lake):
    one, other = of(lake, 1)[0], of(lake, 2)[-1]
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.lake.objects_misplaced == 2
    assert not report.total.lost
    assert not report.total.changed
    assert any(one.name in text and other.name in text.partition("lie in")[2] for text in report.misplaced)


def test_one_value_that_was_changed_makes_an_object_changed(lake):
    path = objects(lake)[0]
    lines = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(lines.replace(b'"type":"', b'"type":"x', 1)))
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.lake.objects_changed == 1
    assert path.name in report.changed[0]
    assert "their digest is" in report.changed[0]


def test_an_object_under_another_path_is_misplaced_and_neither_lost_nor_unexpected(lake):
    path = objects(lake)[0]
    to = lake / "elsewhere" / path.name
    to.parent.mkdir()
    path.rename(to)
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.lake.objects_misplaced == 1
    assert report.total.misplaced > 0
    assert not report.total.lost
    assert not report.total.phantom
    assert "lie in elsewhere/" in report.misplaced[0]


def test_a_claim_that_was_deleted_in_the_middle_is_a_gap_with_its_offsets(lake):
    claim = read(claims(lake)[1])
    claims(lake)[1].unlink()
    report = check(lake)
    assert not report.ok
    span = claim.spans[0]
    where = f"offsets {span.start} to {span.end - 1} of partition 0"
    assert f"lm/0: claim 1 is missing in the middle of the chain, with the {where}" in report.lake.chain[0]
    assert report.total.phantom == claim.rows, "nothing says any more that these rows belong here"


def test_an_object_that_no_claim_names_is_unexpected_and_its_rows_are_told(lake):
    (lake / "acme").mkdir(exist_ok=True)
    (lake / "acme" / "theirs.json").write_text('{"rowId":"somebody:0"}\n{"no":"id"}\n')
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert (report.lake.objects_unexpected, report.total.phantom) == (1, 2)
    assert report.lake.unexpected == [
        "acme/theirs.json: 2 rows, 0 of records that landed; 1 of its lines have no row id"
    ]


def test_a_copy_of_an_object_is_a_duplicate_and_fails_a_lake(lake):
    path = objects(lake)[0]
    path.with_name("copy.ndjson.gz").write_bytes(path.read_bytes())
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.total.duplicate > 0
    assert not report.total.phantom
    assert "of records that landed" in report.lake.unexpected[0]


def test_an_object_with_the_rows_of_another_in_it_has_them_twice(lake):
    one, other = of(lake, 1)[:2]
    one.write_bytes(one.read_bytes() + other.read_bytes())
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.total.duplicate == len(gzip.decompress(other.read_bytes()).splitlines())
    assert report.lake.objects_changed == 1


@pytest.mark.parametrize("left", [1, 40, -9])
def test_a_file_of_parquet_that_was_cut_is_changed_and_says_why(tmp_path, left):
    lake = Landed().land(records(5), form="parquet").write(tmp_path)
    path = min(lake.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:left])
    report = check(lake)
    assert report.total.changed > 0
    assert balanced(report)
    assert path.name in report.changed[0]


@pytest.mark.parametrize("left", [0, 1, 40, -4])
def test_an_object_that_was_cut_is_changed_and_says_why(lake, left):
    path = objects(lake)[0]
    path.write_bytes(path.read_bytes()[:left])
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.lake.objects_changed == 1
    assert path.name in report.changed[0]


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08junk", b"\x28\xb5\x2f\xfdjunk", b"\xff" * 1000, b"{}\n[]\n7\n\n"])
def test_whatever_lies_in_the_place_of_an_object_is_told(lake, data):
    objects(lake)[0].write_bytes(data)
    report = check(lake)
    assert not report.ok
    assert balanced(report)
    assert report.total.changed > 0


def test_a_window_at_the_head_that_is_half_there_is_open_and_not_lost(lake):
    last = read(claims(lake)[-1])
    some = of(lake, last.sequence)
    some[0].unlink()
    report = check(lake)
    assert report.ok
    assert not report.settled
    assert balanced(report)
    assert "not settled (proved from the bucket alone)" in report.verdict
    assert report.total.buffered == last.rows
    assert report.lake.open == 1
    assert not report.total.phantom


def test_what_is_missing_at_the_head_after_the_wait_is_lost(lake):
    of(lake, read(claims(lake)[-1]).sequence)[0].unlink()
    waits = []
    report = check(lake, settle=12.0, wait=waits.append)
    assert waits == [5.0, 5.0, 2.0]
    assert not report.ok
    assert report.settled
    assert report.lake.objects_lost == 1


def test_what_comes_while_we_wait_has_landed(lake):
    path = of(lake, read(claims(lake)[-1]).sequence)[0]
    data = path.read_bytes()
    path.unlink()
    report = check(lake, settle=12.0, wait=lambda _: path.write_bytes(data))
    assert report.ok
    assert report.settled
    assert balanced(report)
    assert not report.total.buffered


def test_a_window_that_is_done_is_lost_where_it_is_half_there(lake):
    claim = read(claims(lake)[1])
    assert claim.sequence < read(claims(lake)[-1]).done
    for path in of(lake, 1)[::2]:
        path.unlink()
    report = check(lake)
    assert not report.ok
    assert report.settled
    assert balanced(report)
    assert 0 < report.total.lost < claim.rows


def rewritten(path, **change):
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(read(path), **change)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda some: some[2].write_bytes(b"{}"), "claim 2 cannot be read"),
        (lambda some: some[2].write_bytes(b"\xff"), "claim 2 cannot be read"),
        (lambda some: some[2].write_bytes(some[1].read_bytes()), "claim 2 says that it is lm/0/1"),
        (lambda some: rewritten(some[2], done=9), "claim 2 says that claims up to 9 are done"),
        (lambda some: rewritten(some[1], done=1), ""),
        (lambda some: rewritten(some[0], kind="window"), "claim 0 is a window, not the start of a chain"),
        (lambda some: rewritten(some[2], spans={}), "claim 2 says nothing of partitions [0]"),
        (lambda some: some[2].with_name("notes.txt").write_text("x"), "notes.txt: not the name of a claim"),
    ],
)
def test_a_claim_that_cannot_be_believed_is_a_fault_of_the_chain(lake, spoil, said):
    spoil(claims(lake))
    report = check(lake)
    assert bool(said) is not report.ok
    assert said in "".join(report.lake.chain)


def test_done_never_goes_back(lake):
    rewritten(claims(lake)[-1], done=0)
    assert any("0 is done, and an older one says" in text for text in check(lake).lake.chain)


def test_a_span_that_does_not_begin_where_the_one_before_ends_is_a_fault(lake):
    path = claims(lake)[2]
    span = read(path).spans[0]
    rewritten(path, spans={0: msgspec.structs.replace(span, start=span.start + 1)})
    assert f"claim 2 begins at {span.start + 1} of partition 0, not at {span.start}" in check(lake).lake.chain[0]


@pytest.mark.parametrize("data", [None, b"{}", b'{"settings":{}}'])
def test_settings_that_are_gone_or_others_are_a_fault(lake, data):
    (path,) = (lake / "_lmstream/settings").iterdir()
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    report = check(lake)
    assert not report.ok
    assert report.lake.chain_faults == 1
    assert path.name in report.lake.chain[0]


def test_a_claim_that_names_something_outside_of_the_place_reads_nothing_there(lake, tmp_path):
    (tmp_path / "secret-lm-0-000000000001-000.ndjson.gz").write_bytes(b"x")
    path = claims(lake)[1]
    claim = read(path)
    odd = msgspec.structs.replace(claim.objects[0], path="../secret")
    rewritten(path, objects=(odd, *claim.objects[1:]))
    report = check(lake)
    assert not report.ok
    assert "secret" in "".join(report.misplaced)
    assert report.total.landed < report.total.expected


def test_the_same_offsets_in_two_lanes_are_a_fault(lake):
    for path in claims(lake):
        claim = read(path)
        to = lake / "_lmstream/claims/_/lm/all" / path.name
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(msgspec.json.encode(msgspec.structs.replace(claim, lane="all", objects=())))
    report = check(lake)
    assert not report.ok
    assert "are in the chains of lm/0 and of lm/all" in report.lake.chain[0]


def test_windows_whose_claims_have_expired_are_not_judged_and_their_objects_counted(lake):
    for path in claims(lake)[:2]:
        path.unlink()
    before = len(of(lake, 1))
    report = check(lake)
    assert report.ok
    assert report.lake.objects_outside == before > 0
    of(lake, 1)[0].unlink()
    assert check(lake).ok


def test_since_limits_the_claims_that_are_read(lake):
    for path in claims(lake)[:2]:
        os.utime(path, (1_000, 1_000))
    of(lake, 1)[0].unlink()
    report = check(lake, since=5_000.0)
    assert report.ok
    assert report.lake.claims == len(claims(lake)) - 2
    assert report.lake.objects_outside == len(of(lake, 1))
    assert not check(lake).ok


def test_windows_that_were_claimed_while_we_looked_are_no_foreign_ones(lake):
    """The listing of claims comes first: whatever is claimed after it has objects that it does not know."""
    rows, there = keyed(Folder(lake)), keyed(Folder(lake / "_lmstream"))
    head = claims(lake)[-1]
    hidden = head.read_bytes()
    head.unlink()
    before = there.keys

    def keys(prefix=""):
        found = list(before(prefix))
        head.write_bytes(hidden)
        return iter(found)

    there.keys = keys
    report = verify_lake(rows, there)
    assert report.ok
    assert report.lake.objects_newer == len(of(lake, read(head).sequence)) > 0


def test_rows_and_claims_may_lie_at_two_prefixes(tmp_path):
    lake = Landed(prefix="rows/", claims="elsewhere/claims-of-us/").land(records(4)).write(tmp_path)
    assert check(lake, rows="rows", claims="elsewhere/claims-of-us").ok
    with pytest.raises(ConfigError, match="no claims lie there"):
        check(lake, rows="rows")


def test_what_lies_at_places_that_are_named_is_no_row(lake):
    (lake / "letters").mkdir()
    (lake / "letters/1.json").write_text("{}")
    (lake / ".hidden").write_text("x")
    assert not check(lake).ok
    assert check(lake, without=["letters/"]).ok


def test_letters_that_claims_list_must_be_there(landed, lake):
    letters = [each.record() for each in landed.letters.written]
    assert [each.offset for each in letters] == [3]
    there = DeadLetter(topic="lm", partition=0, offset=3, reason="decode.json")
    report = check(lake, letters=[there])
    assert report.ok
    assert report.total.letters == report.total.dead_letters == 1
    report = check(lake, letters=[msgspec.structs.replace(there, offset=4)])
    assert not report.ok
    assert report.letters_missing == ["lm/0/3: whole"]


def test_every_schedule_of_members_that_die_and_sleep_makes_a_lake_that_is_proved(tmp_path):
    draw = Random(1)
    for seed in range(1, 9):
        world = play(seed)
        folder = tmp_path / str(seed)
        for key, (data, _) in world.store.objects.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(data)
        report = check(folder)
        assert report.ok, (seed, report.verdict, report.lake.chain)
        assert report.settled, seed
        assert balanced(report), seed
        assert report.total.landed == sum(world.rows().values())
        if objects(folder):
            draw.choice(objects(folder)).unlink()
            broken = check(folder)
            assert broken.total.lost + broken.total.buffered > 0, seed
            assert balanced(broken), seed


def test_every_schedule_with_repair_compaction_and_replay_is_proved(tmp_path):
    made = {"replays": 0, "compactions": 0}
    for seed in range(1, 13):
        world = lake_tools_world.play(seed)
        folder = tmp_path / str(seed)
        for key, (data, _) in world.store.objects.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(data)
        report = check(folder)
        assert report.ok, (seed, report.verdict, report.lake.chain, report.lake.copies, report.lake.unexpected)
        assert report.settled, seed
        assert balanced(report), seed
        assert report.total.landed == sum(world.rows().values())
        made["replays"] += report.lake.replays
        made["compactions"] += report.lake.compactions
        for larger in folder.rglob("compacted-*"):
            if larger.stat().st_size:
                larger.unlink()
                broken = check(folder)
                assert not broken.ok, seed
                assert balanced(broken), seed
                break
    assert all(made.values())
