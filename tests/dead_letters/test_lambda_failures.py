"""Documents of what a mapping gave up: read as AWS describes them, and told from anything else."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts.awslambda.conftest import entry, mapping_event
from lmstream.dead_letters import form, lambda_failures
from lmstream.errors import REASONS
from lmstream.lab import given_up
from lmstream.model import DeadLetter
from support.judging import record
from support.repoison import GOOD

CORPUS = Path(__file__).parents[1] / "corpus" / "lambda"
RECORDS = [
    record(GOOD, offset=7, partition=0, key=b"k"),
    record(b"junk", offset=2**62, partition=1),
    record(None, offset=9, partition=0),
]


def event_of(records):
    written = [
        entry(each, key=base64.b64encode(each.key).decode()) if each.key is not None else entry(each)
        for each in records
    ]
    return {"eventSourceArn": "arn:aws:kafka:us-west-2:0:cluster/lab/0", **mapping_event(written)}


def document(records=RECORDS, **changes):
    made = json.loads(given_up.document(event_of(records), 11, "E: no")) | changes
    return json.dumps({name: found for name, found in made.items() if found is not ...}).encode()


@pytest.mark.parametrize("name", ["s3.json", "s3-indented.json", "kafka.json"])
def test_the_documents_of_awss_pages_give_their_records(name):
    found = lambda_failures.read((CORPUS / name).read_bytes())
    assert found.problem == ""
    assert [(each.topic, each.partition, each.offset, each.value, each.key) for each in found.records] == [
        ("my-topic", 0, 100, b"test-value", b"test-key")
    ]
    assert "condition 'Retr" in found.why


def test_a_document_without_records_says_where_they_are():
    found = lambda_failures.read((CORPUS / "sqs.json").read_bytes())
    assert found.letters == []
    assert found.problem.startswith("has no records: read them from the topic, Topic-0 offsets 4960")
    assert "Topic-1 offsets" in found.problem


def test_a_record_keeps_everything_in_its_letter_which_is_one_of_ours():
    found = lambda_failures.read(document())
    assert sorted(found.records, key=str) == sorted(RECORDS, key=str)
    for letter in found.letters:
        assert form.decode(form.encode(letter)) == letter
        assert (letter.reason, letter.code) == ("record.given_up", REASONS["record.given_up"].code)
        assert letter.detail.startswith("Lambda used up its retries: after about 11 invocations, condition 'RetryAtt")
    assert sorted((each.record() for each in found.letters), key=str) == sorted(RECORDS, key=str)


def test_entries_that_are_no_records_are_letters_of_their_own():
    event = mapping_event([entry(RECORDS[0]), entry(RECORDS[1], value="###")])
    found = lambda_failures.read(document(payload=json.dumps(event)))
    assert [each.offset for each in found.records] == [7]
    assert [each.reason for each in found.letters] == ["record.given_up", "record.envelope"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"payload": ...}, "has no records: read them from the topic, lm.metrics.otlp-0 offsets 7 to 9, "),
        ({"payload": json.dumps(event_of(RECORDS))[:-9]}, "has an event that cannot be read"),
        ({"payload": "[" * 100_000}, "has an event that cannot be read"),
        ({"payload": {"eventSource": "aws:sqs", "records": {}}}, "eventSource 'aws:sqs'"),
        ({"payload": 7}, "has an event that cannot be read"),
        ({"payload": json.dumps(event_of(RECORDS) | {"records": {}})}, "has an event without records"),
        ({"payload": None, "KafkaBatchInfo": {}}, "without offsets in the document"),
        ({"payload": None, "KafkaBatchInfo": {"recordsInfo": {"t-0": 7, "t-1": {}}}}, "t-1 offsets None to None and 1"),
    ],
)
def test_a_damaged_document_is_named_with_its_offsets_and_gives_nothing(changes, problem):
    found = lambda_failures.read(document(**changes))
    assert problem in found.problem
    assert found.letters == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD,
        form.encode(DeadLetter(topic="t", partition=0, offset=1, value=document())),
        document()[:-1],
        document(KafkaBatchInfo=7),
        document(requestContext=[]),
        document(KafkaBatchInfo=...),
        b"[" + document() + b"]",
        b'{"KafkaBatchInfo":{},"requestContext":{},"n":' + b"9" * 5000 + b"}",
        b"\xff\xfe" + document(),
    ],
)
def test_anything_else_is_no_document(data):
    assert lambda_failures.read(data) is None


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4))
def test_whatever_a_document_holds_it_is_read_or_refused(found):
    if isinstance(found, bytes):
        assert lambda_failures.read(found) is None
        return
    data = json.dumps({"requestContext": found, "KafkaBatchInfo": {"recordsInfo": found}, "payload": found}).encode()
    assert lambda_failures.read(data).problem


def test_the_head_of_a_file_tells_documents_from_bundles_and_letters():
    heads = [path.read_bytes()[: lambda_failures.HEAD] for path in CORPUS.iterdir()]
    assert len(heads) == 4
    assert all(map(lambda_failures.begins, heads))
    assert lambda_failures.begins(document()[: lambda_failures.HEAD])
    assert not lambda_failures.begins(GOOD)
    assert not lambda_failures.begins(b"")


def test_the_largest_event_fits_into_the_largest_document_that_is_read():
    event = {"eventSource": "aws:kafka", "records": {"t-0": [entry(RECORDS[0], value="") for _ in range(43_000)]}}
    text = json.dumps(event)
    assert len(text) > 5_900_000
    assert len(document(payload=text)) < lambda_failures.LARGEST / 2  # nothing but empty records
