"""`run --offsets`: chosen offsets land again, nothing is committed, and what is not there is named."""

import json

import pytest

from lmstream.kafka.chosen_offsets import ChosenOffsets, Span, merged, settings_of
from lmstream.model import Record, TopicPartition
from lmstream.sources.kafka import Settings
from support.mock_kafka import MockKafka
from support.places import produce
from support.verdict_scene import Scene


@pytest.mark.parametrize(("sink", "source"), [("local", "kafka"), ("firehose", "kafka"), ("local", "confluent")])
async def test_just_these_offsets_are_delivered_and_nothing_is_committed(tmp_path, sink, source):
    async with Scene(tmp_path, sink=sink, source=source, partitions=2, bad=(5,)) as scene:
        await scene.commit(p0=1, p1=6)
        said = await scene.call(
            "run", "--offsets", "lm/0=1..3", "--offsets", "1=2..4", "--offsets", "lm/0=2..3", "--json"
        )
        assert said.code == 0, said
        await scene.flush()
        wanted = [each for each in scene.records if each.offset in {0: {1, 2}, 1: {2, 3}}[each.partition]]
        scene.records, scene.bad = wanted, [n for n, each in enumerate(wanted) if each.value == b"junk"]
        assert sorted(scene.there) == sorted(scene.rows.values()), "each row once"
        assert said.json["records"] == 4
        assert said.json["dead_letters"] == 1
        assert said.json["missing"]["empty"]["ranges"] == 0
        assert [path.name for path in scene.dead.rglob("2.json")] == ["2.json"]
        assert (await scene.committed(0), await scene.committed(1)) == (1, 6)


async def test_what_the_topic_has_not_is_named_with_exit_4(tmp_path):
    async with Scene(tmp_path, count=3) as scene:
        said = await scene.call("run", "--offsets", "lm/0=2..9", code=4)
        assert "lm/0=3..9: 6 offsets are not there: nothing is written at these offsets yet" in said.err
        assert "1 records" in said.err
        said = await scene.call("run", "--offsets", "lm/0=7..9", code=4)
        assert "lm/0=7..9: 2 offsets are not there" in said.err
        said = await scene.call("run", "--offsets", "lm/3=7..9", code=1)
        assert "LMS-3003" in said.err
        assert "lm has no partition 3" in said.err


async def test_rows_go_to_standard_output_for_a_look(tmp_path):
    async with Scene(tmp_path, count=3) as scene:
        said = await scene.call("run", "--offsets", "0=1..2", "--sink", "stdout", code=0)
        ids = {json.loads(line)["rowId"] for line in said.out.splitlines()}
        scene.records = scene.records[1:2]
        assert ids == scene.rows.keys()
        assert not scene.landed.exists()


def test_all_wrong_ranges_are_told_at_once(cli, tmp_path):
    command = ["run", "--bootstrap", "127.0.0.1:1", "--org", "a", "--landed", tmp_path / "x", "--topic", "lm"]
    said = cli(*command, "--offsets", "0=3..2", "--offsets", "other/0=1..2", "--offsets", "lm/0")
    assert said.code == 2
    assert "--offsets 0=3..2: no offset is in this range" in said.err
    assert "--offsets other/0=1..2: the configuration reads lm, and not other" in said.err
    assert "--offsets lm/0: expected TOPIC/PARTITION=FROM..TO" in said.err
    said = cli(*command, "--topic", "lm2", "--offsets", "0=1..2")
    assert "--offsets 0=1..2: say of which topic (lm, lm2)" in said.err
    for more in (("--files", "x"), ("--from", "latest"), ("--workers", 2)):
        assert cli(*command, "--offsets", "0=1..2", *more).code == 2
    said = cli(
        "run", "--source", "files", "--set", "source.paths=[]", "--org", "a", "--landed", "x", "--offsets", "a/0=1..2"
    )
    assert said.code == 2
    assert "--offsets reads Kafka; source.type is 'files'" in said.err, said.err


@pytest.mark.slow
async def test_offsets_that_a_lake_has_claimed_are_repaired_and_never_claimed_again(tmp_path):
    async with Scene(tmp_path, sink="lake", bad=(3,)) as scene:
        await scene.deliver()
        whole = dict(scene.bucket)
        gone = scene.lake_objects[0]
        del scene.bucket[gone]
        said = await scene.call("run", "--offsets", "lm/0=0..12", "--json", code=0)
        assert scene.bucket.keys() == whole.keys()
        assert scene.bucket[gone].meta == whole[gone].meta
        assert sum(json.loads(line)["made"] for line in said.out.splitlines()) == 1
        assert "these offsets landed by" in said.err
        assert not scene.dead.exists(), "the claim has the letter"

        before = dict(scene.bucket)
        said = await scene.call("run", "--offsets", "lm/0=3..13", code=2)
        assert "--offsets lm/0=3..13: no claim of this lake has offset 12" in said.err
        assert scene.bucket == before
        said = await scene.call("run", "--offsets", "lm/1=0..1", code=2)
        assert "no claim of this lake has offset 0" in said.err


async def test_what_retention_took_is_named_and_the_rest_is_read():
    async with MockKafka() as mock:
        mock.create_topic("t", 2)
        for partition in range(2):
            await produce(mock, 10, partition, "t")
        mock.delete_records("t", 0, 4)
        tps = [TopicPartition("t", n) for n in range(2)]
        spans = [Span(tps[0], 0, 6), Span(tps[1], 8, 9), Span(tps[0], 9, 12)]
        kafka = Settings(bootstrap=mock.bootstrap, topics=("t",), group="g")
        source = ChosenOffsets(settings_of(kafka, spans, client=True))
        records, end = [], False
        while not end:
            batch = await source.poll(1 << 20)
            records, end = records + list(batch.records), batch.end
        await source.close()
        assert sorted((each.partition, each.offset) for each in records) == [(0, 4), (0, 5), (0, 9), (1, 8)]
        assert source.missing.lost
        assert [str(each) for each in (source.missing.gone.named, source.missing.unwritten.named)] == [
            "['t/0=0..4']",
            "['t/0=10..12']",
        ]
        assert not source.missing.empty.ranges


def test_offsets_between_records_are_empty_unless_a_closed_batch_stands_for_them():
    from lmstream.kafka.chosen_offsets import Missing, _Watch

    tp = TopicPartition("t", 0)
    record = Record(topic="t", partition=0, offset=0, value=b"")
    at = lambda offset, **more: type(record)(topic="t", partition=0, offset=offset, value=b"", **more)  # noqa: E731
    missing = Missing()
    watch = _Watch([Span(tp, 2, 5), Span(tp, 8, 20), Span(tp, 30, 40)], missing)
    said = [watch.saw(at(n)) for n in (1, 3, 6, 8)] + [watch.saw(at(12, closed="too large"))]
    watch.end()
    assert said == [False, True, False, True, True]
    assert missing.empty.named == ["t/0=2..3", "t/0=4..5", "t/0=13..20", "t/0=30..40"]
    assert not missing.lost


def test_ranges_are_read_once_and_in_order():
    tp = TopicPartition("t", 0)
    assert merged([Span(tp, 5, 9), Span(tp, 1, 3), Span(tp, 2, 6)]) == [Span(tp, 1, 9)]
    assert merged([Span(tp, 1, 3), Span(tp, 5, 6)]) == [Span(tp, 1, 3), Span(tp, 5, 6)]
    assert merged([Span(tp, 1, 3), Span(tp, 5, 6)], 2) == [Span(tp, 1, 6)]
