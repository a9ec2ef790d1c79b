"""Rows that Firehose took and could not place come back from its error prefix, byte for byte, by `dlq` and `run`."""

import asyncio
import base64
import contextlib
import gzip
import json
from itertools import islice

import pytest

from lmstream import Engine, Record
from lmstream import Settings as EngineSettings
from lmstream.dead_letters import firehose_failures
from lmstream.errors import DecodeError
from lmstream.lab import FirehoseLab, StreamConfig
from lmstream.lab.generator import Generator
from lmstream.model import Pack
from lmstream.sinks.firehose import Firehose, Settings
from support.buckets import S3

ACME = EngineSettings(org_id="acme")


def made(count=5):
    records = [
        Record(topic="lm", partition=0, offset=n, timestamp=5, value=bundle.payload)
        for n, bundle in enumerate(islice(Generator(instances=2).bundles(), count))
    ]
    return sorted(line for each in records for line in Engine(ACME).fan_out(each).ndjson().splitlines(keepends=True))


def rows_below(folder):
    found = []
    for path in folder.rglob("*.gz"):
        if "errors" not in path.relative_to(folder).parts:
            found += gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    return sorted(found)


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")


@pytest.fixture
def passed(tmp_path, aws):  # noqa: ARG001 - keys for the client
    """A landing folder of a strict Firehose with room for one partition: most rows are in its error prefix."""
    rows = made()

    async def put():
        config = StreamConfig.for_settings("rows", ACME, active_partitions=1)
        async with FirehoseLab(config, tmp_path / "landed") as lab:
            sink = Firehose(Settings(stream="rows", region="us-east-1", endpoint_url=lab.endpoint_url))
            assert await sink.write([Pack(line, 1) for line in rows]) == [None] * len(rows)
            await sink.close()
        assert lab.counters.error_rows > len(rows) // 2

    asyncio.run(put())
    return tmp_path / "landed", rows


def test_dlq_lists_them_and_sends_them_again_as_they_were(cli, passed, tmp_path):
    landed, rows = passed
    errors, before = landed / "errors", rows_below(landed)
    listed = [json.loads(line) for line in cli("dlq", "ls", errors, "--json").out.splitlines()]
    assert len(listed) == len(rows) - len(before)
    assert {each["reason"] for each in listed} == {"record.returned"}
    assert "ActivePartitionsLimitExceeded" in cli("dlq", "show", errors, "--limit", 1).out
    told = cli("dlq", "replay", errors, "--org", "acme", "--landed", tmp_path / "again")
    assert f"{len(listed):,} letters would give {len(listed):,} rows" in told.err
    said = cli(
        *("dlq", "replay", errors, "--org", "acme", "--landed", tmp_path / "again"),
        *("--dead-letters", tmp_path / "dead", "--yes"),
    )
    assert said.code == 0, said.err
    assert sorted(before + rows_below(tmp_path / "again")) == rows
    assert all("acme/" in str(path) for path in (tmp_path / "again").rglob("*.gz"))


def test_run_reads_a_copy_of_an_error_prefix_and_firehose_takes_them_again(cli, passed, tmp_path, monkeypatch):
    landed, rows = passed
    before = rows_below(landed)

    async def again():
        async with FirehoseLab(StreamConfig.for_settings("rows", ACME), tmp_path / "again") as lab:
            words = ("run", "--org", "acme", "--files", landed / "errors", "--stream", "rows", "--region", "us-east-1")
            words += ("--endpoint-url", lab.endpoint_url, "--dead-letters", tmp_path / "dead")
            return await asyncio.to_thread(cli, *words)

    monkeypatch.setattr(
        "lmstream.hosts.container.service.heard", lambda *_: contextlib.nullcontext()
    )  # signals: the main thread's
    said = asyncio.run(again())
    assert said.code == 0, said.err
    assert sorted(before + rows_below(tmp_path / "again")) == rows
    assert not (tmp_path / "dead").exists() or not list((tmp_path / "dead").rglob("*.json"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bucket_is_read_object_by_object_and_each_goes_when_all_of_it_was_delivered(cli, passed, tmp_path, zipped):
    landed, rows = passed
    store = S3()
    try:
        objects = [path for path in (landed / "errors").rglob("*") if path.is_file()]
        assert objects
        for number, path in enumerate(objects):
            data = path.read_bytes()
            data = data if data.startswith(b"\x1f\x8b") else gzip.compress(data)
            name = f"errors/activePartitionExceeded/2026/11/28/rows-1-{number}" + (".json.gz" if zipped else "")
            store.put(name, data if zipped else gzip.decompress(data))
        store.put("rows/acme/CpuUsage/part.json.gz", gzip.compress(b"".join(rows)))
        at = ["--s3-endpoint-url", store.url, "--s3-region", "us-east-1"]
        assert len(cli("dlq", "ls", "s3://dlq", *at, "--json").out.splitlines()) == len(rows) - len(rows_below(landed))
        said = cli(
            *("dlq", "replay", "s3://dlq/errors", *at, "--org", "acme", "--landed", tmp_path / "again"),
            *("--dead-letters", tmp_path / "dead", "--yes", "--purge-delivered"),
        )
        assert said.code == 0, said.err
        assert sorted(rows_below(landed) + rows_below(tmp_path / "again")) == rows
        assert list(store.objects) == ["rows/acme/CpuUsage/part.json.gz"]
    finally:
        store.close()


FORMS = [
    {"attemptsMade": "1", "arrivalTimestamp": "1700000000000", "errorCode": "c", "errorMessage": "m"},
    {
        "attemptsMade": 1,
        "arrivalTimestamp": 1700000000000,
        "ErrorCode": "c",
        "ErrorMessage": "m",
        "sequenceNumber": "1",
    },
    {"attemptsMade": 1, "arrivalTimestamp": 1700000000000, "lastErrorCode": "c", "lastErrorMessage": "m"},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_documented_form_is_read(form):
    rows = b"".join(made(1))
    line = json.dumps(form | {"attemptEndingTimestamp": 1, "rawData": base64.b64encode(rows).decode()}).encode()
    found = firehose_failures.read(line)
    assert found.rows == rows
    assert found.why == "Firehose could not deliver it: c: m"
    assert found.arrived_ms == 1_700_000_000_000
    assert Engine(ACME).fan_out(found.record("t", 0, 0)).ndjson() == rows
    assert found.letter("place", 3).record().rows


ROW = json.loads(made(1)[0])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "record.no_row"),
        (b"\n\n", "record.no_row"),
        (b"not json", "record.no_row"),
        (b'{"resourceMetrics":[]}', "record.no_row"),
        (b"\xff", "record.no_row"),
        (b"[" * 100_000, "record.no_row"),
        (json.dumps(ROW | {"orgKey": "../evil"}).encode(), "record.no_row"),
        (json.dumps(ROW | {"metricKey": "a/b"}).encode(), "record.no_row"),
        (json.dumps(ROW | {"more": 1}).encode(), "record.no_row"),
        (json.dumps(ROW | {"ts": "2024-99-09T14:05:58.360Z"}).encode(), "record.no_row"),
        (json.dumps(ROW | {"tsUnixMs": 10**18}).encode(), "record.no_row"),
        (json.dumps(ROW | {"attributes": {"a": "x" * 10**6}}).encode(), "limits.size"),
    ],
)
def test_what_is_no_row_of_ours_is_refused_and_kept(value, reason):
    with pytest.raises(DecodeError) as refused:
        Engine(ACME).fan_out(Record(topic="t", partition=0, offset=0, value=value, rows=True))
    assert refused.value.reason == reason


def test_a_message_of_a_topic_is_never_taken_for_rows():
    row = made(1)[0]
    with pytest.raises(DecodeError):
        Engine(ACME).fan_out(Record(topic="t", partition=0, offset=0, value=row))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"rawData":"!!","attemptsMade":1}',
        b'{"rawData":1,"attemptsMade":1}',
        b'{"rawData":"eA=="}',
        b'[{"rawData":"eA==","attemptsMade":1}]',
        b'{"attemptsMade":' + b"9" * 5000 + b',"rawData":"eA=="}',
        b'{"attemptsMade":' + b"[" * 100_000 + b',"rawData":"eA=="}',
    ],
)
def test_other_lines_are_none(line):
    assert firehose_failures.read(line) is None
