"""verify and query on a bucket: the same verdicts as on a folder, through any endpoint, and as a page."""

import base64
import gzip
import json
from html.parser import HTMLParser
from itertools import islice

import boto3
import msgspec
import pytest

from buckets import S3
from lmstream import Engine, Record, Settings
from lmstream.cli.places import S3Access, place
from lmstream.cli.verify import expectation, failed_lines
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter


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
    access = ["--endpoint-url", bucket.url, "--region", "us-east-1"]
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
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="lake", Prefix="data/")["Contents"]]
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
    key = next(each["Key"] for each in s3.list_objects_v2(Bucket="lake", Prefix="data/")["Contents"])
    lines = s3.get_object(Bucket="lake", Key=key)["Body"].read()
    lines = gzip.decompress(lines) if lines.startswith(b"\x1f") else lines
    s3.delete_object(Bucket="lake", Key=key)
    entry = json.dumps({"rawData": base64.b64encode(lines).decode(), "errorCode": "DynamicPartitioning"}).encode()
    s3.put_object(Bucket="lake", Key="data/errors/metadata-extraction-failed/x", Body=entry + b"\n")
    done = cli("verify", "--expected", log, "--landed", "s3://lake/data", *access, "--json")
    assert done.code == 3
    total = json.loads(done.out)["total"]
    assert total["lost"] == 0
    assert total["inErrorPrefix"] == lines.count(b"\n")


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
    log.write_text("")
    done = cli(
        "verify", "--expected", log, "--landed", landed_at, "--endpoint-url", bucket.url, "--region", "us-east-1"
    )
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_empty_prefix_is_an_empty_place(bucket):
    empty = place("s3://lake/nothing", S3Access(endpoint_url=bucket.url, region="us-east-1"))
    assert empty.exists()
    assert list(empty.objects()) == []
    assert list(failed_lines(empty.below("errors"))) == []
