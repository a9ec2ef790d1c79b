"""Events to records: both shapes and their variants, envelope faults told apart, other events refused with a message."""

import contextlib
import json
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts.awslambda.conftest import entry, mapping_event, pipe_event
from lmstream import Engine
from lmstream.dead_letters import form
from lmstream.errors import ConfigError
from lmstream.kafka.lambda_events import FAULT, parse
from lmstream.model import DeadLetter, TopicPartition
from support.judging import ACME, record
from support.repoison import GOOD

ONE = record(b"{}")


def test_a_pipe_writes_the_partition_as_text_or_as_a_number():
    for partition in (3, "3"):
        event = parse([{"eventSource": "aws:kafka", **entry(ONE, partition=partition)}])
        assert event.kind == "pipe"
        assert event.records == [record(b"{}", partition=3)]
        assert event.faulty == []


def test_a_mapping_may_mix_topics_and_partitions():
    records = [record(b"a", partition=n % 3, offset=n, topic=f"t-{n % 2}") for n in range(9)]
    event = parse(mapping_event(map(entry, records)))
    assert event.kind == "mapping"
    assert sorted(event.records, key=lambda each: each.offset) == records


@pytest.mark.parametrize("source", ["aws:kafka", "SelfManagedKafka"])
def test_self_managed_clusters_and_schema_registries_make_no_difference(source):
    metadata = {"valueSchemaMetadata": {"dataFormat": "JSON", "schemaId": "1"}, "keySchemaMetadata": {}}
    pipe = [{"eventSource": source, "bootstrapServers": "b:9094", "eventSourceKey": "t-0", **entry(ONE), **metadata}]
    mapping = {"eventSource": source, "records": {"lm.metrics.otlp-0": [{**entry(ONE), **metadata}]}}
    assert parse(pipe).records == parse(mapping).records == [ONE]


def test_keys_and_headers_come_as_they_were_sent():
    headers = [{"name": [108, 109, -61, -85]}, {"empty": []}, {"none": None}]
    (found,) = parse([{**entry(ONE, headers=headers, key="AP8="), "eventSource": "aws:kafka"}]).records
    assert found.key == b"\x00\xff"
    assert found.headers == (("name", "lmë".encode()), ("empty", b""), ("none", None))


@pytest.mark.parametrize(
    "more", [{"key": ...}, {"headers": ...}, {"timestampType": ...}, {"key": None, "headers": None}]
)
def test_key_and_headers_may_be_missing(more):
    assert parse(pipe_event([entry(ONE, **more)])).records == [ONE]


def test_odd_keys_and_headers_cost_no_row():
    (found,) = parse([entry(ONE, key="no base64!", headers=[{"h": "text"}, 7, {"g": [300]}, {"f": [1]}])]).records
    assert (found.key, found.headers) == (b"no base64!", (("f", b"\x01"),))


def test_a_null_or_missing_value_is_a_tombstone():
    for value in (None, ...):
        assert parse([entry(ONE, value=value)]).records == [record(None)]


def test_a_missing_timestamp_is_unknown():
    for timestamp in (None, ...):
        assert parse([entry(ONE, timestamp=timestamp)]).records == [record(b"{}", timestamp=-1)]


FAULTS = {
    "no base64": {"value": "###"},
    "base64 cut short": {"value": "e30"},
    "base64 with a line feed": {"value": "e30=\n"},
    "value of a wrong type": {"value": {"metric": 1}},
    "no topic": {"topic": ...},
    "empty topic": {"topic": ""},
    "no partition": {"partition": ...},
    "partition of no digits": {"partition": "zero"},
    "partition below nought": {"partition": -1},
    "partition true": {"partition": True},
    "partition of 5,000 digits": {"partition": "1" * 5000},
    "partition with two signs": {"partition": "--5"},
    "partition of superscripts": {"partition": "\N{SUPERSCRIPT TWO}"},
    "half a character in the value": {"value": "\ud800"},
    "half a character in the topic": {"topic": "lm\udfff"},
    "half a character in another field": {"offset": None, "x": "\ud800", "\udfff": 1},
    "a number of 400 digits": {"offset": 10**400},
    "no number": {"offset": float("inf")},
    "offset null": {"offset": None},
    "offset of a wrong type": {"offset": 1.5},
    "offset above int64": {"offset": 2**63},
    "timestamp of a wrong type": {"timestamp": "today"},
}


@pytest.mark.parametrize("changes", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("event_of", [pipe_event, mapping_event])
def test_an_entry_that_is_no_record_becomes_a_letter_and_its_neighbours_records(event_of, changes):
    bad = entry(record(b"{}", offset=8), **changes)
    event = event_of([entry(ONE), bad])
    if event_of is mapping_event:  # it says the partition once more, above
        event["records"] = {"lm.metrics.otlp-0": [entry(ONE), bad]}
    parsed = parse(event)
    assert parsed.records == [ONE]
    ((letter, tp, offset),) = parsed.faulty
    assert (letter.reason, letter.code) == (FAULT, "LMS-1016")
    assert json.loads(letter.value).items() >= {k: v for k, v in bad.items() if k != "partition"}.items()
    assert next(iter(changes)) in letter.detail
    assert form.decode(form.encode(letter)) == letter
    if event_of is mapping_event and "offset" not in changes:
        assert (tp, offset) == (TopicPartition("lm.metrics.otlp", 0), 8)
    if not changes.keys() & {"topic", "partition", "offset"}:
        assert (letter.topic, letter.partition, letter.offset) == ("lm.metrics.otlp", 0, 8)


@pytest.mark.parametrize("where", ["lm-\N{SUPERSCRIPT TWO}", "lm-" + "9" * 5000, "lm-\ud800", "\ud800-0", "-", ""])
def test_a_list_of_a_mapping_may_have_any_name(where):
    ((letter, tp, _),) = parse({"records": {where: [{"value": "e30="}]}}).faulty
    assert tp is None
    assert form.decode(form.encode(letter)).topic in ("lm", "unknown")


def test_an_entry_as_deep_as_the_runtime_reads_is_a_letter():
    """The runtime reads an event higher up on the stack than we write it again."""
    for depth in range(sys.getrecursionlimit(), 100, -1):
        text = f'[{{"topic": "t", "partition": 0, "offset": "x", "value": "e30=", "deep": {"[" * depth}{"]" * depth}}}]'
        with contextlib.suppress(RecursionError):
            ((letter, _, _),) = parse(json.loads(text)).faulty
            assert json.loads(letter.value)["value"] == "e30="
            break
    else:
        pytest.fail("nothing was read")


OTHERS = {
    "console": {"key1": "value1", "key2": "value2"},
    "sqs": {"Records": [{"eventSource": "aws:sqs", "body": "{}"}]},
    "kinesis pipe": [{"eventSource": "aws:kinesis", "data": "e30=", "partitionKey": "1"}],
    "input template": ["one", "two"],
    "input template of objects": [{"value": "e30="}],
    "other source": {"eventSource": "aws:mq", "records": {}},
    "source of a wrong type": {"eventSource": ["aws:kafka"], "records": {}},
    "source of a wrong type in a list": [{"eventSource": {}, "value": "e30="}],
    "list of records": {"eventSource": "aws:kafka", "records": []},
    "no list": {"eventSource": "aws:kafka", "records": {"t-0": {}}},
    "nothing": None,
    "text": "hello",
    "number": 7,
}


@pytest.mark.parametrize("event", OTHERS.values(), ids=OTHERS)
def test_another_event_is_refused_with_what_was_seen_and_what_is_expected(event):
    with pytest.raises(ConfigError, match=r"LMS-2020 the event is .*; expected a Pipe's list") as refused:
        parse(event)
    assert len(str(refused.value)) < 900


TEXT = st.text(st.characters(exclude_categories=()), max_size=6)  # half characters too: JSON can escape them
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["records", "eventSource", "topic", "partition", "offset", "value", "t-0", "headers", "timestamp"]
            )
            | TEXT,
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(event=JSON)
def test_whatever_comes_is_records_and_letters_or_refused(event):
    with contextlib.suppress(ConfigError):
        parsed = parse(event)
        size = len(event) if parsed.kind == "pipe" else sum(map(len, event["records"].values()))
        assert len(parsed.records) + len(parsed.faulty) == size
        for each in parsed.faulty:
            assert form.decode(form.encode(each.letter)) == each.letter
        for each in parsed.records:  # whatever becomes of one can be written
            Engine(ACME).fan_out(msgspec.structs.replace(each, value=GOOD))
            letter = DeadLetter(topic=each.topic, partition=each.partition, offset=each.offset, headers=each.headers)
            assert form.decode(form.encode(letter)) == letter
