"""verify and query on a bucket: the same verdicts as on a folder, through any endpoint, and as a page."""

import base64
import gzip
import io
import json
from html.parser import HTMLParser
from itertools import islice

import boto3
import msgspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from lmstream import Engine, Record, Settings
from lmstream.errors import SourceError
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter
from lmstream.storage.objects import Prefix, S3Access, place
from lmstream.verification import expectation
from lmstream.verification.landed import failed_lines
from support.buckets import S3


@pytest.fixture
def bucket(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    made = S3("lake")
    yield made
    made.close()


@pytest.fixture
def landed(cli, bucket, tmp_path):
    """What a run made of some bundles, in the bucket below data/, and its dead letters below letters/."""
    out, log, script = (tmp_path / name for name in ("landed", "expected.jsonl", "script.jsonl"))
    engine = Engine(Settings(org_id="acme"))
    with log.open("wb") as expected, script.open("wb") as given:
        for n, bundle in enumerate(islice(Generator(instances=2, poison=0.4, seed=3).bundles(), 12)):
            record = Record(topic="t", partition=n % 2, offset=n, timestamp=5, value=bundle.payload)
            expected.write(msgspec.json.encode(expectation(engine, record, "")) + b"\n")
            letter = DeadLetter(topic="t", partition=n % 2, offset=n, timestamp=5, value=bundle.payload)
            given.write(msgspec.json.encode(letter) + b"\n")
    ran = cli("run", "--files", script, "--org", "acme", "--landed", out, "--dead-letters", tmp_path / "dead")
    assert ran.code == 0, ran.err
    s3 = boto3.client("s3", endpoint_url=bucket.url, region_name="us-east-1")
    for prefix, root in (("data", out), ("letters", tmp_path / "dead")):
        for path in root.rglob("*"):
            if path.is_file() and "/." not in str(path):
                s3.upload_file(str(path), "lake", f"{prefix}/{path.relative_to(root).as_posix()}")
    access = ["--s3-endpoint-url", bucket.url, "--s3-region", "us-east-1"]
    return s3, log, out, access


def test_a_bucket_gets_the_verdict_of_the_folder(cli, landed, tmp_path):
    _, log, out, access = landed
    base = ["verify", "--expected", log, "--json"]
    here = cli(*base, "--landed", out, "--dead-letters", tmp_path / "dead")
    there = cli(*base, "--landed", "s3://lake/data", "--dead-letters", "s3://lake/letters/", *access)
    assert (here.code, there.code) == (0, 0), there.err
    assert json.loads(there.out) == json.loads(here.out)
    assert json.loads(there.out)["total"]["letters"] >= 1


def test_an_object_that_is_gone_is_found_out_and_the_page_says_so(cli, landed, tmp_path):
    s3, log, _, access = landed
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="lake", Prefix="data/acme/")["Contents"]]
    s3.delete_object(Bucket="lake", Key=keys[0])
    page = tmp_path / "verdict.html"
    done = cli("verify", "--expected", log, "--landed", "s3://lake/data", *access, "--html", page)
    assert done.code == 3
    text = page.read_text()
    assert "Not verified" in text
    assert "LMS-5001" in text
    assert "Dead letters were not looked at" in text
    assert "s3://lake/data/" in text
    assert "<script" not in text
    assert "http://" not in text.replace(access[1], "")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, _attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_good_page_says_that_nothing_is_lost(cli, landed, tmp_path):
    _, log, _, access = landed
    page = tmp_path / "verdict.html"
    done = cli(
        *("verify", "--expected", log, "--landed", "s3://lake/data", "--dead-letters", "s3://lake/letters", *access),
        *("--html", page),
    )
    assert done.code == 0, done.err
    assert "Nothing is lost" in page.read_text()


def test_rows_in_the_error_prefix_of_a_bucket_are_counted_apart(cli, landed):
    s3, log, _, access = landed
    key = next(each["Key"] for each in s3.list_objects_v2(Bucket="lake", Prefix="data/acme/")["Contents"])
    lines = s3.get_object(Bucket="lake", Key=key)["Body"].read()
    lines = gzip.decompress(lines) if lines.startswith(b"\x1f") else lines
    s3.delete_object(Bucket="lake", Key=key)
    entry = json.dumps({"rawData": base64.b64encode(lines).decode(), "errorCode": "DynamicPartitioning"}).encode()
    s3.put_object(Bucket="lake", Key="data/errors/metadata-extraction-failed/x", Body=entry + b"\n")
    done = cli("verify", "--expected", log, "--landed", "s3://lake/data", *access, "--json")
    assert done.code == 3
    total = json.loads(done.out)["total"]
    assert total["lost"] == 0
    assert total["in_error_prefix"] == lines.count(b"\n")


def test_query_reads_a_bucket(cli, landed):
    _, _, out, access = landed
    sql = "select count(*) as n from rows"
    here = json.loads(cli("query", sql, "--landed", out, "--json").out)
    there = cli("query", sql, "--landed", "s3://lake/data", *access, "--json")
    assert there.code == 0, there.err
    assert json.loads(there.out) == here
    assert here["n"] > 10


@pytest.mark.parametrize(
    ("landed_at", "code", "message"),
    [
        ("s3://", 2, "expected s3://BUCKET/PREFIX"),
        ("s3://no-such-bucket/x", 1, "NoSuchBucket"),
        ("nowhere", 2, "no such folder"),
    ],
)
def test_a_place_that_is_none_is_one_message(cli, bucket, tmp_path, landed_at, code, message):
    log = tmp_path / "log.jsonl"
    log.write_bytes(
        b'{"topic":"t","partition":0,"offset":0,"timestamp":0,"bundleId":"b","points":0,"tombstone":true}\n'
    )
    done = cli(
        "verify", "--expected", log, "--landed", landed_at, "--s3-endpoint-url", bucket.url, "--s3-region", "us-east-1"
    )
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_empty_prefix_is_an_empty_place(bucket):
    empty = place("s3://lake/nothing", S3Access(endpoint_url=bucket.url, region="us-east-1"))
    assert empty.exists()
    assert list(empty.objects()) == []
    assert list(failed_lines(empty.below("errors"))) == []


def test_large_objects_are_read_in_pieces_and_empty_ones_at_all(bucket, monkeypatch):
    monkeypatch.setattr("lmstream.storage.objects._PIECE", 1000)
    s3 = boto3.client("s3", endpoint_url=bucket.url, region_name="us-east-1")
    lines = [b'{"n":%d}' % n for n in range(1500)]
    body = b"\n".join(lines)
    for key, data in {"a/plain": body, "a/zipped": gzip.compress(body), "a/empty": b"", "a/_hidden": b"x"}.items():
        s3.put_object(Bucket="lake", Key=key, Body=data)
    at = place("s3://lake/a", S3Access(endpoint_url=bucket.url, region="us-east-1"))
    found = {name.rpartition("/")[2]: list(them) for name, them in at.objects()}
    assert found == {"plain": lines, "zipped": lines, "empty": []}
    assert at.opened("a/empty").read() == b""
    assert at.opened("a/plain").read() == body


def test_an_object_that_changes_while_it_is_read_is_said(bucket, monkeypatch):
    monkeypatch.setattr("lmstream.storage.objects._PIECE", 1000)
    s3 = boto3.client("s3", endpoint_url=bucket.url, region_name="us-east-1")
    s3.put_object(Bucket="lake", Key="a", Body=b"x\n" * 1000)
    body = place("s3://lake", S3Access(endpoint_url=bucket.url, region="us-east-1")).opened("a")
    body.read(10)
    s3.put_object(Bucket="lake", Key="a", Body=b"y\n" * 1000)
    with pytest.raises(SourceError) as caught:
        body.read()
    assert caught.value.reason == "place.missing"


class Store:
    """Lists very many objects, and counts what is held."""

    def __init__(self, count):
        self.count, self.asked, self.given, self.most = count, 0, 0, 0
        self.pages = 0

    def get_paginator(self, _name):
        return self

    def paginate(self, **_given):
        for start in range(0, self.count, 1000):
            self.pages += 1
            listed = [{"Key": f"k{n:06d}", "Size": 4} for n in range(start, min(start + 1000, self.count))]
            yield {"IsTruncated": False, "Contents": listed}

    def get_object(self, **_given):
        self.asked += 1
        self.most = max(self.most, self.asked - self.given)
        return {"Body": io.BytesIO(b"line")}


def test_very_many_objects_are_never_held_at_once():
    store = Store(20_000)
    for _, lines in Prefix("lake", "", S3Access(), store).objects():
        assert list(lines) == [b"line"]
        store.given += 1
    assert store.given == 20_000
    assert store.most <= 17
    assert store.pages == 20


def test_whoever_stops_reading_stops_fetching():
    store = Store(100_000)
    objects = Prefix("lake", "", S3Access(), store).objects()
    next(objects)
    objects.close()
    assert store.asked <= 17


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListObjectsV2"),
            "place.denied",
            "LMS-5011",
        ),
        (
            ClientError({"Error": {"Code": "SlowDown", "Message": "reduce"}}, "GetObject"),
            "place.unreachable",
            "LMS-5010",
        ),
        (
            ClientError({"Error": {"Code": "ExpiredToken", "Message": "old"}}, "GetObject"),
            "place.credentials",
            "LMS-5013",
        ),
        (NoCredentialsError(), "place.credentials", "LMS-5013"),
        (ClientError({"Error": {"Code": "RequestTimeTooSkewed"}}, "GetObject"), "sink.clock", "LMS-4011"),
        (EndpointConnectionError(endpoint_url="http://x"), "place.unreachable", "LMS-5010"),
    ],
)
def test_each_fault_of_a_bucket_says_who_must_act(error, reason, code):
    class Broken(Store):
        def paginate(self, **_given):
            raise error

    with pytest.raises(SourceError) as caught:
        Prefix("lake", "data", S3Access(), Broken(1)).exists()
    assert (caught.value.reason, caught.value.code) == (reason, code)
    assert "s3://lake/data/" in str(caught.value)


def test_without_credentials_that_is_what_is_said(cli, bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    access = ("--s3-endpoint-url", bucket.url, "--s3-region", "us-east-1")
    said = cli("query", "--landed", "s3://lake/data", *access)
    assert said.code == 2
    assert "LMS-5013" in said.err
    assert "AWS_PROFILE" in said.err


def test_the_sample_page_of_the_docs_is_what_verify_writes_today():
    from cli.verdict_sample import SAMPLE, sample

    assert SAMPLE.read_text("utf-8") == sample()


def test_what_senders_named_is_no_markup_on_the_page():
    from lmstream.verification import Checker
    from lmstream.verification.report_html import page

    evil = '<script>alert("x")</script>'
    checker = Checker()
    engine = Engine(Settings(org_id="acme"))
    payload = next(Generator(instances=1).bundles()).payload
    checker.expect(expectation(engine, Record(topic=evil, partition=0, offset=0, timestamp=1, value=payload), ""))
    text = page(checker.report(), {"landed": evil})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
