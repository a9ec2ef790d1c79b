"""Rows with keys through sinks that take packs: their dimension rows travel in front of them until they were accepted."""

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lmstream import Engine, Settings
from lmstream.delivery import process_batch
from lmstream.delivery.known_dimensions import KnownDimensions, chunks
from lmstream.engine.dimension_line import DimensionLine
from lmstream.errors import ConfigError
from lmstream.interfaces import Batch
from lmstream.lab import Fault, FirehoseLab, StreamConfig
from lmstream.model import Status
from lmstream.sinks.firehose import Firehose
from lmstream.sinks.firehose import Settings as FirehoseSettings
from lmstream.testing import DOWN, LIMITS, ScriptedLetters, ScriptedSink, now, run
from support import dimensions_reference
from support.doubles import MISSING, OBJECTS, REFUSED, THROTTLED, make, record

KEYED = Settings(org_id="acme", dimensions=True)
PLAIN = Settings(org_id="acme")
TIME = 1_715_263_558_360_000_000
LARGE = replace(LIMITS, pack_bytes=10**6, pack_rows=500, request_bytes=4 * 10**6)
SMALL = replace(LIMITS, pack_bytes=2_000, pack_rows=3, request_packs=3, request_bytes=5_000)


def bundle(host="a", metrics=("m",), hour=0, points=1):
    """Points of some metrics of one device, each with an attribute of its own."""
    made = []
    for name in metrics:
        some = [
            {
                "timeUnixNano": str(TIME + hour * 3_600_000_000_000),
                "asInt": str(at),
                "attributes": texts(instance=f"i{at}"),
            }
            for at in range(points)
        ]
        made.append({"name": name, "gauge": {"dataPoints": some}})
    scope = {"scope": {"name": "ds", "attributes": texts(epoch="1715263558360")}, "metrics": made}
    whole = {"resource": {"attributes": texts(**{"host.name": host, "site": "x" * 50})}, "scopeMetrics": [scope]}
    return json.dumps({"resourceMetrics": [whole]}).encode()


def texts(**pairs):
    return [{"key": name, "value": {"stringValue": text}} for name, text in pairs.items()]


def due(each, engine=None):
    """The lines that must be durable before a record is settled: rows, and the dimension rows that they need."""
    out = (engine or Engine(KEYED)).fan_out(each)
    return out.ndjson().splitlines(keepends=True), [needed.line for needed in out.dimensions]


def line(path="p/", key="k", size=10):
    return DimensionLine(path, "resource", key, b"x" * (size - 1) + b"\n")


# --- what is known ---


def test_what_was_accepted_need_not_travel_again():
    known = KnownDimensions()
    one, two, elsewhere = line(key="1"), line(key="2"), line("q/", "1")
    assert known.unknown([one, two]) == [one, two]
    known.accepted([one])
    assert known.unknown([one, two, elsewhere]) == [two, elsewhere]


def test_memory_is_bounded_and_the_path_in_use_forgets_nothing():
    known = KnownDimensions(20_000)
    for number in range(1000):
        known.accepted([line("old/", str(number))])
    there = 1000 - len(known.unknown(line("old/", str(number)) for number in range(1000)))
    assert 100 < there < 170
    for number in range(1000):  # another hour: the one before makes room
        known.accepted([line("new/", str(number))])
    assert known.unknown([line("old/", "0")])
    left = [number for number in range(1000) if not known.unknown([line("new/", str(number))])]
    assert left == [*range(len(left))], "keys that came first stay: they come again first"
    assert 100 < len(left) < 170


def test_chunks_keep_within_the_bounds_of_a_pack():
    lines = [line(key=str(at), size=size) for at, size in enumerate([10] * 7 + [900, 900, 900, 5])]
    made = chunks(lines, SMALL)
    assert b"".join(made) == b"".join(each.line for each in lines)
    assert all(each.count(b"\n") <= SMALL.pack_rows and len(each) <= SMALL.pack_bytes for each in made)
    assert chunks([], SMALL) == []


# --- how they travel ---


def keyed(sink, letters=None, **more):
    return make(sink, letters, engine=Engine(KEYED), **more)


def test_dimension_rows_go_in_front_of_the_rows_once():
    async def main():
        sink = ScriptedSink(limits=LARGE)
        pipeline = keyed(sink)
        first, second = record(0, bundle(metrics=("m", "n"))), record(1, bundle(metrics=("m", "n")))
        assert (await process_batch.process(pipeline, Batch([first]))).complete
        rows, needed = due(first)
        (pack,) = sink.accepted
        assert pack.data == b"".join([*needed, *rows])
        assert (pack.rows, pack.spans) == (len(needed) + len(rows), ((0, 0), (0, len(rows))))
        outcome = await process_batch.process(pipeline, Batch([second]))
        assert (outcome.statuses, outcome.rows, outcome.accepted) == ([Status.DELIVERED], 2, 2)
        assert sink.accepted[1].data == b"".join(due(second)[0]), "they are known now"

    run(main())


def test_another_hour_and_another_device_need_their_own():
    async def main():
        sink = ScriptedSink()
        pipeline = keyed(sink)
        for offset, value in enumerate([bundle(), bundle(hour=1), bundle("b")]):
            each = record(offset, value)
            await process_batch.process(pipeline, Batch([each]))
            seen = sink.lines
            assert all(seen[needed] for needed in due(each)[1])
        kinds = Counter(json.loads(text).get("dimension", "row") for text in sink.lines.elements())
        assert kinds == {"row": 3, "resource": 3, "scope": 2, "attributes": 2}

    run(main())


def test_what_another_record_in_flight_brings_is_not_relied_on():
    async def main():
        sink = ScriptedSink()
        batch = Batch([record(0, bundle()), record(1, bundle())])
        await process_batch.process(keyed(sink), batch)
        assert all(sink.lines[needed] == 2 for needed in due(batch.records[0])[1])

    run(main())


def test_a_record_is_not_settled_before_its_dimension_rows_are_accepted():
    async def main():
        def only_rows(packs):
            return [DOWN if b'"dimension"' in each.data else None for each in packs]

        sink = ScriptedSink([only_rows] * 40, limits=replace(LIMITS, pack_rows=2))
        pipeline = keyed(sink)
        outcome = await process_batch.process(pipeline, Batch([record(0, bundle(points=2))]), now() + 60)
        assert outcome.statuses == [Status.PENDING]
        assert outcome.rows_given_back == 0, "the rows themselves were taken"
        again = await process_batch.process(pipeline, Batch([record(0, bundle(points=2))]))
        assert again.statuses == [Status.DELIVERED]
        rows, needed = due(record(0, bundle(points=2)))
        assert all(sink.lines[each] for each in (*rows, *needed))

    run(main())


def test_refused_dimension_rows_put_the_whole_record_into_its_letter_and_are_not_known():
    async def main():
        def not_the_keys(packs):
            return [REFUSED if b'"dimension"' in each.data else None for each in packs]

        limits = replace(LARGE, pack_rows=3)
        sink, letters = ScriptedSink([not_the_keys], limits=limits), ScriptedLetters()
        pipeline = keyed(sink, letters)
        outcome = await process_batch.process(pipeline, Batch([record(0, bundle())]))
        assert outcome.statuses == [Status.DEAD_LETTERED]
        (letter,) = letters.letters
        assert (letter.reason, letter.rejected) == ("sink.permanent", ())
        replayed = await process_batch.process(pipeline, Batch([letter.record()]))
        assert replayed.statuses == [Status.DELIVERED]
        rows, needed = due(record(0, bundle()))
        assert [sink.lines[each] for each in (*rows, *needed)] == [2, 1, 1, 1]
        assert pipeline.balanced

    run(main())


VALUES = st.one_of(
    st.just(b"junk"),
    st.none(),
    st.builds(
        bundle,
        st.sampled_from("ab"),
        st.sampled_from([("m",), ("m", "n"), ("n", "o", "p")]),
        st.integers(0, 1),
        st.integers(1, 3),
    ),
)
STEPS = st.one_of(
    st.none(),
    st.sampled_from([DOWN, THROTTLED, "hang", "short", "lost", REFUSED, MISSING]),
    st.lists(st.sampled_from([False, True, REFUSED]), max_size=4),
)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(VALUES, max_size=5), max_size=4),
    st.lists(STEPS, max_size=12),
    st.one_of(st.none(), st.floats(0, 60)),
    st.sampled_from([LIMITS, SMALL]),
    st.sampled_from([2_000, 10**6]),
)
def test_what_is_acknowledged_is_durable_with_what_its_keys_stand_for(batches, script, deadline, limits, budget):
    async def main():
        sink, letters = ScriptedSink(script, limits=limits, latency=lambda: 0.3), ScriptedLetters()
        pipeline, engine, offset = keyed(sink, letters, budget=budget), Engine(KEYED), 0
        for values in batches:
            records = [record(offset + at, value) for at, value in enumerate(values)]
            offset += len(values)
            until = None if deadline is None else now() + deadline
            outcome = await process_batch.process(pipeline, Batch(records), until)
            assert outcome.complete or deadline is not None
            taken = sink.lines
            for each, status in zip(records, outcome.statuses, strict=True):
                if status is Status.DELIVERED:
                    rows, needed = due(each, engine)
                    assert all(taken[text] for text in (*rows, *needed))
            assert pipeline.balanced, pipeline.counts
            assert (pipeline.snapshot().in_flight, pipeline.snapshot().in_flight_bytes) == (0, 0)

    run(main())


@pytest.mark.parametrize(
    ("path", "limits", "said"),
    [
        ("{orgKey}/{yyyy}/{MM}/{dd}/{HH}/", replace(LIMITS, partitions=True), "has no {metricKey}"),
        (PLAIN.path, OBJECTS, "gathered by path"),
    ],
)
def test_sinks_that_cannot_have_them_beside_their_rows_are_refused(path, limits, said):
    async def main():
        with pytest.raises(ConfigError, match=r"engine\.dimensions") as caught:
            make(ScriptedSink(limits=limits), engine=Engine(replace(KEYED, path=path)))
        assert said in str(caught.value)

    run(main())


# --- the service ---


async def test_firehose_puts_them_beside_the_metrics_and_both_join_again(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
    async with FirehoseLab(StreamConfig.for_settings("rows", KEYED), tmp_path / "landed") as lab:
        lab.faults.extend([Fault.partial(0), Fault.accept_then_reset(), Fault.partial(0)])
        sink = Firehose(FirehoseSettings(stream="rows", region="us-west-2", endpoint_url=lab.endpoint_url))
        pipeline = keyed(sink)
        records = [record(at, bundle("ab"[at % 2], ("m", "n"), at % 3, 2)) for at in range(12)]
        for some in (records[:5], records[5:]):
            assert (await process_batch.process(pipeline, Batch(some))).complete
        await pipeline.close()
        await lab.flush()
    rows, needed = [], []
    for path in (tmp_path / "landed").rglob("*"):
        if path.is_file():
            into = needed if "_dimensions" in path.parts else rows
            into += gzip.decompress(path.read_bytes()).splitlines()
    plain = Engine(PLAIN)
    expected = {
        row["rowId"]: row for each in records for row in map(json.loads, plain.fan_out(each).ndjson().splitlines())
    }
    joined = {row["rowId"]: row for row in dimensions_reference.joined(rows, needed)}
    assert joined == expected
    assert len(needed) < len(rows)
