"""The function against a strict Firehose and a bucket over HTTP: what it answers is what was delivered."""

import json
import time

import pytest

import repoison
from awslambda.conftest import EVENTS, Context, entry, pipe_event
from judging import ACME, record
from lmstream import Engine
from lmstream.errors import ConfigError, SinkError
from lmstream.lab.faults import Fault

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
def test_every_poison_at_any_place_is_dead_lettered_and_the_rest_delivered(world, kind):
    host = world.host(engine__limits__record_bytes=8 * 2**20)
    names = list(MANIFEST)
    small = [name for name in names if (repoison.POISON / name).stat().st_size < 2**20]
    assert len(small) > 100
    good, offset = [], 0
    for start in range(0, len(small), 20):
        batch = []
        for at, name in enumerate(small[start : start + 20]):
            batch.append(record((repoison.POISON / name).read_bytes(), offset=offset, topic="poison"))
            offset += 1
            if at % 3 != 1:  # poison first, last, beside other poison, between good ones
                good.append(record(GOOD, offset=offset, topic="poison"))
                batch.append(good[-1])
                offset += 1
        check_success(kind, host.handle(EVENTS[kind](map(entry, batch)), Context()))
    assert world.rows() == expected(good)
    found = world.letters()
    assert sorted(each.reason for each in found.values()) == sorted(MANIFEST[name] for name in small)
    assert not {(each.topic, each.partition, each.offset) for each in good} & found.keys()


@BOTH
def test_envelope_faults_are_dead_lettered_and_acknowledged(world, kind):
    records = goods(4)
    entries = [entry(each) for each in records]
    entries[1]["value"] = "###"
    entries[2]["offset"] = "later"
    check_success(kind, world.host().handle(EVENTS[kind](entries), Context()))
    assert world.rows() == expected([records[0], records[3]])
    assert {each.reason for each in world.letters().values()} == {"record.envelope"}
    assert len(world.letters()) == 2


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
    with pytest.raises(
        SinkError, match=r"LMS-4009 4 of 5 records are not delivered, the first is .*ServiceUnavailable"
    ):
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


def test_a_mapping_that_reports_them_answers_the_first_failed_offset_of_each_partition(world):
    world.firehose.outage = True
    records = goods(6, start=40)
    host = world.host(lambda__partial_failures="true", lambda__patience=6)
    answer = host.handle(EVENTS["mapping"](map(entry, [record(b"junk", offset=39, partition=0), *records])), Context())
    failures = sorted(answer["batchItemFailures"], key=str)
    assert failures == [
        {"itemIdentifier": {"partition": "lm.metrics.otlp-0", "offset": 40}},
        {"itemIdentifier": {"partition": "lm.metrics.otlp-1", "offset": 41}},
    ]
    with pytest.raises(SinkError):  # a Pipe has no partial answer, whatever the setting says
        host.handle(EVENTS["pipe"](map(entry, records)), Context())


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
    with pytest.raises(SinkError, match="2 of 3 records are not delivered"):
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
    with pytest.raises(ConfigError, match="the event is of a pipe, and this handler is for a mapping"):
        host.handle(pipe_event(map(entry, goods(1))), Context(), "mapping")


def test_settings_that_cannot_work_say_what_to_set(world):
    with pytest.raises(ConfigError, match=r"sink\.stream"):
        world.host(sink__stream="")
    from lmstream.awslambda.host import from_environment

    with pytest.raises(ConfigError, match="LMSTREAM_DEAD_LETTERS__TYPE is not set"):
        from_environment({"LMSTREAM_ENGINE__ORG_ID": "acme", "LMSTREAM_SINK__STREAM": "rows"})


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
