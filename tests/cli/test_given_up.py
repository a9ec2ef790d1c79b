"""What a mapping gave up, as Lambda writes it into a bucket: listed, replayed, removed, and read by `run --files`."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from cli.test_dlq import ls, rows_below
from hosts.awslambda.test_host import expected
from lmstream.lab.invokers import Mapping, Policy
from lmstream.lab.runtime_api import Answer
from support.buckets import S3
from support.judging import record
from support.repoison import GOOD

BATCH = [
    *(record(GOOD, topic="lm.metrics.otlp", partition=n % 2, offset=n) for n in range(5)),
    record(b"junk", topic="lm.metrics.otlp", partition=0, offset=8),
    record(None, topic="lm.metrics.otlp", partition=0, offset=9),
]
PLACES = {f"lm.metrics.otlp/{each.partition}/{each.offset}" for each in BATCH}


def given_up(*batches):
    """Key and bytes of what a mapping writes when the function always raises."""

    async def invoke(_):
        return Answer(None, "E: no", cold=False, seconds=0)

    mapping = Mapping(invoke, "lm.metrics.otlp", Policy(on_failure_destination=True, backoff=0))
    for batch in batches:
        asyncio.run(mapping.settle(batch))
    assert len(mapping.documents) == len(batches)
    assert mapping.counts.invocations == 11 * len(batches)
    return list(mapping.documents)


def good_ids():
    return sorted(expected([each for each in BATCH if each.value == GOOD]))


@pytest.fixture
def folder(tmp_path):
    """As `aws s3 cp --recursive` leaves it, and files that are none of Lambda's beside it."""
    root = tmp_path / "given-up"
    for key, data in given_up(BATCH):
        (root / key).parent.mkdir(parents=True)
        (root / key).write_bytes(data)
    (root / "notes").write_text("of somebody")
    os.mkfifo(root / "pipe")
    return root


def test_the_files_source_reads_them_by_what_they_hold(cli, folder, tmp_path):
    args = ["run", "--files", folder, "--org", "acme", "--landed", tmp_path / "landed", "--dead-letters"]
    said = cli(*args, tmp_path / "dead")
    assert said.code == 0, said.err
    assert rows_below(tmp_path / "landed") == good_ids()
    assert [path.name for path in (tmp_path / "dead").rglob("*.json")] == ["8.json"]


def test_one_without_records_is_named_after_the_others_were_read(cli, folder, tmp_path):
    (document,) = (path for path in folder.rglob("*") if path.stat().st_size > 100 and path.is_file())
    cut = json.loads(document.read_bytes())
    del cut["payload"]
    (folder / "cut.json").write_text(json.dumps(cut, indent=2))
    said = cli(
        "run", "--files", folder, "--org", "acme", "--landed", tmp_path / "landed", "--dead-letters", tmp_path / "x"
    )
    assert said.code == 1
    assert "cut.json: has no records: read them from the topic, lm.metrics.otlp-0 offsets 0 to 9" in said.err
    assert rows_below(tmp_path / "landed") == good_ids()


def test_in_a_folder_they_are_listed_beside_letters(cli, folder):
    (folder / "pipe").unlink()
    found = ls(cli, folder)
    assert {each["record"] for each in found} == PLACES
    assert {(each["reason"], each["code"]) for each in found} == {("record.given_up", "LMS-1022")}
    assert all("RetryAttemptsExhausted" in each["detail"] for each in found)
    (path,) = {each["place"] for each in found}
    whole = json.dumps(json.loads(Path(path).read_bytes()), indent=4)
    (folder / "indented").write_text(whole)
    assert len(ls(cli, folder)) == 2 * len(BATCH)


@pytest.fixture
def store(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    made = S3()
    yield made
    made.close()


@pytest.mark.slow
def test_in_a_bucket_they_are_listed_replayed_and_removed_only_as_a_whole(cli, store, tmp_path):
    for key, data in given_up(BATCH[:5], BATCH[5:]):
        store.put(key, data)
    store.put("aws/lambda/landed.gz", b"not ours")
    store.put("aws/lambda/other", b"not ours")
    at = ["s3://dlq/aws", "--s3-endpoint-url", store.url, "--s3-region", "us-east-1"]
    assert {each["record"] for each in ls(cli, *at)} == PLACES
    assert "other: not a dead letter, skipped" in cli("dlq", "ls", *at).err
    assert json.loads(cli("dlq", "stats", *at, "--json").out)["letters"] == len(BATCH)

    replay = [
        "dlq",
        "replay",
        *at,
        "--org",
        "acme",
        "--landed",
        tmp_path / "landed",
        "--dead-letters",
        tmp_path / "dead",
    ]
    said = cli(*replay)
    assert f"7 letters would give {len(good_ids())} rows; give --yes" in said.err
    assert "1 would be refused again: decode.json" in said.err

    # One of its records does not fit: the document stays, whatever became of the others.
    said = cli(*replay, "--yes", "--purge-delivered", "--offset", "0-3")
    assert "1 of its records stay, so it is not deleted" in said.err
    assert "0 letters removed" in said.err
    assert len(ls(cli, *at)) == len(BATCH)

    said = cli(*replay, "--yes", "--purge-delivered")
    assert said.code == 0, said.err
    assert set(rows_below(tmp_path / "landed")) == set(good_ids())  # four of them twice
    assert "5 letters removed" in said.err
    assert [each["record"] for each in ls(cli, *at)] == ["lm.metrics.otlp/0/8", "lm.metrics.otlp/0/9"]

    # The other holds a record that was dead-lettered again: only who says so removes it.
    assert "0 letters removed" in cli("dlq", "purge", *at, "--offset", "8", "--yes").err
    assert "2 letters would be deleted" in cli("dlq", "purge", *at, "--offset", "8-9").err
    assert "2 letters removed" in cli("dlq", "purge", *at, "--all", "--yes").err
    assert store.objects.keys() == {"aws/lambda/landed.gz", "aws/lambda/other"}


def test_an_object_that_is_too_large_is_named_and_not_fetched(cli, store, monkeypatch):
    monkeypatch.setattr("lmstream.dead_letters.lambda_failures.LARGEST", 100)
    for key, data in given_up(BATCH):
        store.put(key, data)
    at = ["s3://dlq/aws", "--s3-endpoint-url", store.url, "--s3-region", "us-east-1"]
    assert ls(cli, *at) == []
    assert "bytes are not a dead letter, skipped" in cli("dlq", "ls", *at).err
