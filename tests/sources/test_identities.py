"""Ids of what files hold: other content never hides, the same content is the same, and what landed keeps its ids."""

import asyncio
import base64
import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Record, Settings
from lmstream.dead_letters.form import decode, encode, name_of, other_name_of, same
from lmstream.delivery import dead_letter
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.engine import bundle_id
from lmstream.model import DeadLetter, Identity
from lmstream.sources._identities import Identities
from lmstream.sources.files import Files
from lmstream.sources.files import Settings as FilesSettings
from lmstream.storage.crash_journal import CrashJournal
from lmstream.verification import expectation
from support.file_records import file_record, identity_of

CORPUS = Path(__file__).parents[1] / "corpus" / "identity"
CONTENTS = st.lists(st.sampled_from([b"", b"a", b"b", b"cc", b"\xff"]), max_size=40)


def point(value):
    return (
        '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":'
        f'[{{"timeUnixNano":"1715263558360000000","asInt":{value}}}]}}}}]}}]}}]}}'
    ).encode()


def read(*paths, stdin=None, **more):
    source = Files(FilesSettings(paths=tuple(map(str, paths)), **more), stdin=stdin)

    async def all_of():
        records = []
        async with asyncio.timeout(10):
            while True:
                batch = await source.poll(1 << 20)
                records += batch.records
                if batch.end:
                    return records

    return asyncio.run(all_of())


def ids_of(records, **settings):
    engine = Engine(Settings(org_id="acme", **settings))
    return [json.loads(line)["rowId"] for each in records for line in engine.fan_out(each).ndjson().splitlines()]


@pytest.mark.parametrize("vector", json.loads((CORPUS / "vectors.json").read_bytes()))
def test_ids_of_contents_are_frozen(vector):
    value, times = base64.b64decode(vector["value"]), vector["times"]
    made = Identities(vector["topic"])
    for _ in range(min(times, 10)):
        made.of(value)
    named = made.of(value)
    assert named.stamp == vector["stamp"]
    assert (named.topic, named.partition, named.offset) == (vector["topic"], 0, min(times, 10))
    assert bundle_id(vector["source"], *named._replace(offset=times)) == vector["bundleId"]


@pytest.mark.parametrize(("name", "wanted"), json.loads((CORPUS / "row-ids.json").read_bytes()).items())
def test_a_letter_gives_the_row_ids_of_its_contract(name, wanted):
    letter = decode((CORPUS / name).read_bytes())
    assert ids_of([letter.record()]) == ids_of(read(CORPUS / name)) == [wanted]
    assert expectation(Engine(Settings(org_id="acme")), letter.record(), "").bundle_id == wanted.partition(":")[0]
    assert decode(encode(letter)) == letter
    assert (b'"identity"' in encode(letter)) == (name == "letter-of-1.1.json")


@given(CONTENTS)
def test_no_two_records_of_a_run_have_one_id_in_any_order(contents):
    made, again = Identities(), Identities()
    first = [made.of(each) for each in contents]
    assert len({*first}) == len(contents)
    assert {*first} == {again.of(each) for each in reversed(contents)}
    assert first == [identity_of(each, contents[:at].count(each)) for at, each in enumerate(contents)]


@given(CONTENTS, st.integers(1, 3))
def test_beyond_the_bound_only_what_is_the_same_has_one_id(contents, most):
    made = Identities(most=most)
    named = {}
    for each in contents:
        assert named.setdefault(made.of(each), each) == each
        assert len(made._seen) <= most
        assert len(made._older) <= most


def test_copies_within_the_bound_are_counted_and_a_forgotten_one_is_the_same():
    made = Identities(most=2)
    assert [made.of(each).offset for each in (b"a", b"b", b"a", b"c", b"a", b"d", b"e", b"b")] == [
        *(0, 0, 1, 0, 2),
        *(0, 0, 0),
    ]


def test_the_name_says_nothing_and_the_content_all(tmp_path):
    (tmp_path / "x.json").write_bytes(point(1))
    first = read(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(point(2))
    other = read(tmp_path / "x.json")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "z.jsonl").write_bytes(point(2) + b"\n" + point(1) + b"\n" + point(1))
    again = ids_of(read(tmp_path / "y"))
    assert ids_of(first) == [again[1]] == ids_of(read("-", stdin=io.BytesIO(point(1))))
    assert ids_of(other) == [again[0]]
    assert len({*again}) == 3
    # Messages and engine.org_by_topic see the name; nothing makes a time of the content.
    assert (first[0].topic, first[0].timestamp, first[0].identity) == (
        str(tmp_path / "x.json"),
        -1,
        identity_of(point(1)),
    )


def test_a_topic_of_the_settings_is_part_of_the_id(tmp_path):
    (tmp_path / "x.json").write_bytes(point(1))
    (record,) = read(tmp_path / "x.json", topic="lm")
    assert record == file_record(point(1), topic="lm")
    assert ids_of([record]) != ids_of(read(tmp_path / "x.json"))


def test_an_organization_is_found_by_the_name_of_the_file(tmp_path):
    (tmp_path / "x.json").write_bytes(point(1))
    (record,) = read(tmp_path / "x.json")
    out = Engine(Settings(org_by_topic={str(tmp_path / "x.json"): "tenant"})).fan_out(record)
    assert json.loads(out.ndjson())["orgId"] == "tenant"


def test_the_ids_of_contract_1_0_are_there_for_who_wants_them(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(point(1) + b"\n" + point(2))
    name = str(tmp_path / "x.jsonl")
    wanted = [f"{bundle_id('', name, 0, n, -1)}:0" for n in (0, 1)]
    assert ids_of(read(name, identity="name")) == wanted
    wanted = [f"{bundle_id('', 'lm', 0, n, -1)}:0" for n in (0, 1)]
    assert ids_of(read(name, identity="name", topic="lm")) == wanted


def test_a_time_is_never_made_of_the_content():
    value = point(1).replace(b'"timeUnixNano":"1715263558360000000",', b"")
    out = Engine(Settings(org_id="acme", time_fallback="record")).fan_out(file_record(value))
    assert out.rejected == ((0, "time.missing"),)


def test_a_letter_of_another_copy_is_another_letter():
    def letter(times):
        each = InFlightRecord(0, None, file_record(b"x", times=times), None, 0)
        each.why = ("decode.json", "")
        return dead_letter.letter(each, 1 << 20)

    first, second = letter(0), letter(1)
    assert first.identity == identity_of(b"x")
    assert first.identified == first.record().identified == first.identity
    assert same(encode(first), first)
    assert not same(encode(first), second)
    assert name_of(first) == name_of(second)
    assert len({name_of(first), other_name_of(first), other_name_of(second)}) == 3


def test_names_of_letters_of_kafka_stay():
    letter = DeadLetter(topic="t", partition=0, offset=7, timestamp=5, value=b"x")
    assert (name_of(letter), other_name_of(letter)) == ("7.json", "7-7584700f720479fa.json")
    assert letter.identified == letter.record().identified == Identity("t", 0, 7, 5)


@pytest.mark.parametrize("odd", [["t", -1, 0, 0], ["t", 0, -1, 0], ["t", 0, 0, 2**63], ["t", 0, 0], "t"])
def test_an_identity_that_no_id_takes_is_no_letter(odd):
    line = {"topic": "t", "partition": 0, "offset": 0, "value": "e30=", "identity": odd}
    with pytest.raises(ValueError, match="identity"):
        decode(msgspec.json.encode(line))


def test_deaths_over_a_file_say_nothing_of_what_stands_there_now(tmp_path):
    record = file_record(b"x", topic="bundles/1.json")
    for _ in range(3):
        crashes = CrashJournal(tmp_path)
        crashes.enter(record)  # and the process dies: its mark stays
        crashes._page.close()
        for each in (crashes._file, crashes._at):
            __import__("os").close(each)
    crashes = CrashJournal(tmp_path)
    try:
        assert crashes.deaths(record) == 3
        assert crashes.deaths(file_record(b"healthy", topic="bundles/1.json")) == 0
        assert crashes.deaths(Record(topic="bundles/1.json", partition=0, offset=0, value=b"x")) == 0
        crashes.forget(record)
        assert crashes.deaths(record) == 0
    finally:
        crashes.close()
