"""The function against a strict Firehose and a bucket over HTTP: what it answers is what was delivered."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hosts.awslambda.conftest import EVENTS, Context, entry, pipe_event
from hosts.awslambda.test_events import FAULTS
from lmstream import Engine
from lmstream.dead_letters import form
from lmstream.errors import ConfigError, SinkError
from lmstream.hosts.awslambda import answers
from lmstream.hosts.awslambda.host import from_environment
from lmstream.lab.faults import Fault
from lmstream.lab.runtime_api import EVENT_BYTES
from lmstream.model import TopicPartition
from support import repoison
from support.judging import ACME, record

GOOD = repoison.GOOD
MANIFEST = json.loads((repoison.POISON / "poison.json").read_bytes())
BOTH = pytest.mark.parametrize("kind", EVENTS)


def goods(count, start=0, partitions=2):
    return [record(GOOD, offset=start + n, partition=n % partitions) for n in range(count)]


def expected(records):
    """Lines by row id, from a fresh engine."""
    lines = b"".join(Engine(ACME).fan_out(each).ndjson() for each in records).splitlines(keepends=True)
    return {json.loads(line)["rowId"]: line for line in lines}


def check_success(kind, answer):
    assert answer == ({"batchItemFailures": []} if kind == "mapping" else {"records": answer["records"]})


@BOTH
def test_rows_land_byte_for_byte_cold_and_warm(world, kind):
    host = world.host()
    for start in (0, 10, 20):
        records = goods(10, start)
        check_success(kind, host.handle(EVENTS[kind](map(entry, records)), Context()))
    assert world.rows() == expected(goods(10) + goods(10, 10) + goods(10, 20))
    assert world.letters() == {}


@BOTH
def test_dimension_rows_land_once_while_the_function_is_warm(world, kind):
    host = world.host(engine__dimensions="true")
    for start in (0, 10, 20):
        check_success(kind, host.handle(EVENTS[kind](map(entry, goods(10, start))), Context()))
    keyed = Engine(structs.replace(ACME, dimensions=True))
    made = [keyed.fan_out(each) for each in goods(10) + goods(10, 10) + goods(10, 20)]
    rows = [line for out in made for line in out.ndjson().splitlines(keepends=True)]
    needed = {each.line for out in made for each in out.dimensions}
    landed = world.lines()
    assert {*landed} == {*rows} | needed
    assert len(needed) < sum(line in needed for line in landed) <= 10 * len(needed), "with the first event alone"


@BOTH
def test_every_poison_first_in_the_middle_and_last_is_dead_lettered_and_the_rest_delivered(world, kind, tmp_path):
    # A folder of letters, because there are hundreds: the bucket's are in the other tests.
    env = {name: text for name, text in world.env().items() if "DEAD_LETTERS" not in name}
    letters = {"LMSTREAM_DEAD_LETTERS__TYPE": "letters", "LMSTREAM_DEAD_LETTERS__ROOT": str(tmp_path / "dead")}
    host = from_environment(env | letters)
    world.hosts.append(host)
    good, wanted = [], {}
    for start, name in enumerate(MANIFEST):
        poison = (repoison.POISON / name).read_bytes()
        batch = [record(poison if n % 2 == 0 else GOOD, offset=10 * start + n, topic="poison") for n in range(5)]
        wanted |= {each.offset: MANIFEST[name] for each in batch[::2]}
        good += batch[1::2]
        check_success(kind, host.handle(EVENTS[kind](map(entry, batch)), Context()))
    assert len(MANIFEST) > 100
    assert world.rows() == expected(good)
    found = [form.decode(path.read_bytes()) for path in (tmp_path / "dead").rglob("*.json")]
    assert {each.offset: each.reason for each in found} == wanted


@BOTH
@pytest.mark.parametrize("at", [0, 1, 2])
def test_envelope_faults_at_any_place_are_dead_lettered_and_acknowledged(world, kind, at):
    host = world.host()
    good = []
    for n, changes in enumerate(FAULTS.values()):
        entries = [record(GOOD, offset=10 * n + i) for i in range(3)]
        good += [each for i, each in enumerate(entries) if i != at]
        written = [entry(each, **(changes if i == at else {})) for i, each in enumerate(entries)]
        event = pipe_event(written)
        if kind == "mapping":  # it says the partition once more, above
            event = {"eventSource": "aws:kafka", "records": {"lm.metrics.otlp-0": written}}
        check_success(kind, host.handle(event, Context()))
    assert world.rows() == expected(good)
    letters = world.s3.letters().values()
    assert {each.reason for each in letters} == {"record.envelope"}
    assert len(letters) == len(FAULTS)


@BOTH
def test_tombstones_and_empty_batches_are_acknowledged(world, kind):
    host = world.host()
    check_success(
        kind, host.handle(EVENTS[kind]([entry(record(None)), entry(record(None, offset=8), value=...)]), Context())
    )
    assert host.handle([], Context()) == {"records": 0}
    assert world.rows() == {}


@BOTH
def test_partial_failures_and_doubt_are_retried_inside_the_invocation(world, kind):
    world.firehose.faults.extend(
        [
            Fault.partial(0),
            Fault(cut="after"),
            Fault(status=503, code="ServiceUnavailableException"),
            Fault(body=b"<html>"),
        ]
    )
    records = goods(6)
    check_success(kind, world.host().handle(EVENTS[kind](map(entry, records)), Context()))
    assert world.rows() == expected(records)
    assert world.letters() == {}


@BOTH
def test_a_sink_that_is_down_leaves_everything_and_dead_letters_only_poison(world, kind):
    world.firehose.outage = True
    records = goods(4)
    poison = record(b"junk", offset=99)
    host = world.host(lambda__patience=6.5)
    with pytest.raises(SinkError, match=r"LMS-4009 4 of 5 records are undelivered, the first is .*ServiceUnavailable"):
        host.handle(EVENTS[kind](map(entry, [*records, poison])), Context())
    assert list(world.letters()) == [("lm.metrics.otlp", 0, 99)]
    world.firehose.outage = False
    check_success(kind, host.handle(EVENTS[kind](map(entry, [*records, poison])), Context()))
    assert world.rows() == expected(records)
    assert list(world.letters()) == [("lm.metrics.otlp", 0, 99)]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "InvalidKMSResourceException"])
@BOTH
def test_a_refusal_by_configuration_raises_at_once_and_dead_letters_nothing(world, kind, code):
    world.firehose.faults.extend([Fault(status=400, code=code, message="no")] * 50)
    started = time.monotonic()
    with pytest.raises(SinkError, match=code):
        world.host().handle(EVENTS[kind](map(entry, goods(3))), Context())
    assert time.monotonic() - started < 20, "an operator must act: waiting for the deadline helps nobody"
    assert world.letters() == {}
    assert world.rows() == {}


@BOTH
def test_a_stream_that_kinesis_feeds_costs_no_record_its_place_in_the_topic(world, kind):
    what = "This operation is not permitted on KinesisStreamAsSource delivery stream type."
    fault = Fault(status=400, code="InvalidArgumentException", message=what)
    host = world.host()
    for start in (0, 100, 0):  # invocations come again, and with other records
        world.firehose.faults.extend([fault] * 50)
        with pytest.raises(SinkError, match=rf"LMS-4009 30 of 30 records .*{what}"):
            host.handle(EVENTS[kind](map(entry, goods(30, start))), Context())
        world.firehose.faults.clear()
    assert world.letters() == {}
    assert world.rows() == {}
    check_success(kind, host.handle(EVENTS[kind](map(entry, goods(30))), Context()))
    assert world.rows() == expected(goods(30))


def test_a_mapping_that_reports_them_answers_every_failed_offset(world):
    world.firehose.outage = True
    records = goods(6, start=40)
    host = world.host(lambda__partial_failures="true", lambda__patience=6)
    answer = host.handle(EVENTS["mapping"](map(entry, [record(b"junk", offset=39, partition=0), *records])), Context())
    assert answer["batchItemFailures"] == [
        {"itemIdentifier": {"partition": f"lm.metrics.otlp-{offset % 2}", "offset": offset}}
        for offset in (40, 42, 44, 41, 43, 45)
    ]
    with pytest.raises(SinkError):  # a Pipe has no partial answer, whatever the setting says
        host.handle(EVENTS["pipe"](map(entry, records)), Context())


@given(
    st.lists(
        st.tuples(st.sampled_from(["t", "t-1", "t-1-0"]), st.integers(0, 3), st.integers(0, 2**63 - 1)), max_size=50
    )
)
def test_a_partial_answer_names_every_place_once_and_nothing_else(places):
    named = answers.partial((TopicPartition(topic, partition), offset) for topic, partition, offset in places)
    found = [tuple(each["itemIdentifier"].values()) for each in named["batchItemFailures"]]
    assert len(found) == len(set(places))
    assert set(found) == {(f"{topic}-{partition}", offset) for topic, partition, offset in places}
    assert answers.partial([(TopicPartition("t", 0), 1), (None, 2)]) is None
    assert answers.partial([(TopicPartition("t", 0), 1), (TopicPartition("t", 0), None)]) is None


def test_the_largest_partial_answer_fits_into_the_largest_answer():
    named = answers.partial((TopicPartition("t" * 249, 10**6), 2**63 - 1 - n) for n in range(10_000))
    assert len(json.dumps(named)) < 3_300_000 < EVENT_BYTES


def test_partial_answers_name_only_partitions_with_something_left(world):
    host = world.host(lambda__partial_failures="true", lambda__patience=6)
    first, second = [record(GOOD, offset=1)], [record(b"junk", offset=5, partition=1)]
    world.s3.stop()
    answer = host.handle(EVENTS["mapping"](map(entry, first + second)), Context())
    world.s3.start()
    assert answer == {"batchItemFailures": [{"itemIdentifier": {"partition": "lm.metrics.otlp-1", "offset": 5}}]}
    assert world.rows() == expected(first)


@BOTH
def test_dead_letters_that_cannot_be_written_are_not_acknowledged(world, kind):
    host = world.host(lambda__patience=6)
    world.s3.stop()
    broken = [entry(record(GOOD)), entry(record(b"junk", offset=8)), entry(record(GOOD, offset=9), value="###")]
    with pytest.raises(SinkError, match="2 of 3 records are undelivered"):
        host.handle(EVENTS[kind](broken), Context())
    world.s3.start()
    check_success(kind, host.handle(EVENTS[kind](broken), Context()))
    assert len(world.letters()) == 2


def test_without_time_for_one_request_nothing_is_tried_and_the_error_says_so(world):
    host = world.host()
    with pytest.raises(
        SinkError, match=r"no_time: 2\.0 s were left after the margin of 1 s, and one request may take 5 s"
    ):
        host.handle(pipe_event(map(entry, goods(2))), Context(seconds=3))
    assert world.firehose.counters.calls == 0


def test_a_hanging_sink_ends_before_the_functions_deadline(world):
    world.firehose.faults.extend([Fault(latency=60)] * 20)
    host = world.host(delivery__timeout=1.0, sink__read_timeout=0.9)
    started = time.monotonic()
    with pytest.raises(SinkError, match="LMS-4009"):
        host.handle(pipe_event(map(entry, goods(2))), Context(seconds=4))
    assert time.monotonic() - started < 4
    assert world.rows() == {} or world.rows() == expected(goods(2))  # accept-then-hang: taken after all, harmless


def test_a_handler_for_one_kind_refuses_the_other(world):
    host = world.host()
    with pytest.raises(ConfigError, match="the event is from a pipe, and this handler is for a mapping"):
        host.handle(pipe_event(map(entry, goods(1))), Context(), "mapping")


def test_settings_that_cannot_work_say_what_to_set(world):
    with pytest.raises(ConfigError, match=r"sink\.stream"):
        world.host(sink__stream="")
    with pytest.raises(ConfigError, match="LMSTREAM_DEAD_LETTERS__TYPE is not set"):
        from_environment({"LMSTREAM_ENGINE__ORG_ID": "acme", "LMSTREAM_SINK__STREAM": "rows"})


def test_records_without_a_row_are_counted_beside_rows_that_are_told_when_there_are_none(world, capsys):
    host = world.host()
    empty = record(b'{"resourceMetrics": []}', offset=5)
    host.handle(pipe_event(map(entry, [empty, *goods(1)])), Context())
    host.handle(pipe_event([entry(empty)]), Context())
    host.handle(pipe_event([entry(record(None, offset=6))]), Context())
    both, alone, tombstone = (line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line)
    assert (both["RecordsWithoutRow"], both["RowsDecoded"]) == ([1.0], [float(len(expected(goods(1))))])
    assert (alone["RecordsWithoutRow"], alone["RowsDecoded"]) == ([1.0], [0.0])
    assert "RecordsWithoutRow" not in tombstone
    assert tombstone["RowsDecoded"] == [0.0]


def test_unknown_members_are_told_of_once_an_environment(world, capsys, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "with-unknown-members")  # loggers are kept by service
    host = world.host()
    host._pipeline.snapshot().unknown[f"$.{'x' * 900}"] = "lm/0/7"
    for offset in range(2):
        host.handle(pipe_event(map(entry, goods(1, offset))), Context())
    (line,) = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("level") == "WARNING"]
    assert (line["code"], line["reason"], line["record"]) == ("LMS-1018", "decode.not_understood", "lm/0/7")
    assert line["members"] == [f"$.{'x' * 498}"]


def test_metrics_and_warnings_name_records_and_never_payloads(world, capsys, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "rows-of-acme")  # loggers are kept by service
    host = world.host()
    for _ in range(2):
        host.handle(pipe_event([*map(entry, goods(2)), entry(record(b'{"canary-payload', offset=77))]), Context())
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "canary-payload" not in json.dumps(said)
    warnings = [line for line in said if line.get("level") == "WARNING"]
    assert [(line["offset"], line["code"]) for line in warnings] == [(77, "LMS-1002")] * 2
    cold, warm = (line for line in said if "_aws" in line)
    assert cold["service"] == "rows-of-acme"
    assert cold["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "lmstream"
    assert (cold["RowsAccepted"], cold["DeadLetters"], cold["RecordsUndelivered"]) == (
        [float(len(expected(goods(2))))],
        [1.0],
        [0.0],
    )
    assert cold["ColdStarts"] == [1.0]
    assert "ColdStarts" not in warm
