"""`lmstream verify` of a lake: from the bucket alone and against the topic, in a folder and in S3."""

import asyncio
import json
import logging

import pytest
from aiokafka import AIOKafkaProducer

from lmstream.cli import main
from lmstream.cli.verify import NOT_SETTLED, NOT_VERIFIED
from lmstream.lab import KafkaLab
from lmstream.settings import Settings
from support.buckets import S3
from support.lakes import Landed, records

LOG = records(14, bad=[3])


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def landed():
    return Landed().land(LOG)


@pytest.fixture
def lake(landed, tmp_path):
    return landed.write(tmp_path / "lake")


@pytest.fixture
def s3(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = S3("lake")
    yield server
    server.close()


def objects(folder):
    return sorted(folder.rglob("*.gz"))


def test_a_folder_is_proved_by_its_claims(lake, tmp_path, capsys):
    page = tmp_path / "verdict.html"
    assert main(["verify", "--landed", str(lake), "--html", str(page)]) == 0
    said = capsys.readouterr()
    assert "verified (proved from the bucket alone): lost=0 phantom=0" in said.out
    assert "moved: lm/0 claim 0: partition 0 at 0: the first claim of this lane" in said.out
    assert "records in dead letters: decode.json 1" in said.out
    assert "records:" not in said.out.partition("records in dead")[0]
    text = page.read_text()
    assert "Nothing is lost, proved from the bucket alone" in text
    assert "Where lanes moved without rows" in text
    assert "_lmstream" in text


def test_what_is_wrong_is_named_with_exit_3(lake, tmp_path, capsys):
    page = tmp_path / "verdict.html"
    gone = objects(lake)[0]
    gone.unlink()
    sorted((lake / "_lmstream/claims/_/lm/0").iterdir())[1].unlink()
    assert main(["verify", "--landed", str(lake), "--html", str(page)]) == NOT_VERIFIED
    said = capsys.readouterr()
    assert "NOT VERIFIED (LMS-5001 verify.failed)" in said.out
    assert "missing in the middle of the chain" in said.out
    assert "unexpected object: acme/" in said.out
    assert "by its name of claim 2 of lm/0: " in said.out
    assert "LMS-5001" in said.err
    text = page.read_text()
    assert "Faults of the chains of claims" in text
    assert "1 faults of the chains of claims, 0 rows twice" in text
    assert "Objects that no claim names" in text


def test_the_newest_windows_are_not_settled_with_exit_5(landed, lake, capsys):
    last = max(key for key in landed.objects if key.endswith(".gz") and f"-{2:012d}-" in key)
    (lake / last).unlink()
    assert main(["verify", "--landed", str(lake)]) == NOT_SETTLED
    said = capsys.readouterr()
    assert "not settled (proved from the bucket alone)" in said.out
    assert "1 of the newest windows are claimed" in said.err
    assert main(["verify", "--landed", str(lake), "--settle", "0.1"]) == NOT_VERIFIED
    assert "the newest windows are not complete: looking again" in capsys.readouterr().err
    assert main(["verify", "--landed", str(lake), "--settle", "0.1", "--no-wait"]) == NOT_SETTLED


def test_the_report_as_json_has_the_walk_in_it(lake, capsys):
    assert main(["verify", "--landed", str(lake), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lake"]["alone"] is True
    assert report["lake"]["claims"] == 1 + report["lake"]["windows"]
    assert report["lake"]["objects"] == len(objects(lake))
    assert report["lake"]["dollars"] is None
    assert (
        report["total"]["landed"]
        == report["total"]["expected"]
        == sum(each["landed"] for each in report["partitions"].values())
    )


def test_a_place_without_claims_is_told_what_verify_needs(tmp_path, capsys):
    assert main(["verify", "--landed", str(tmp_path)]) == 2
    assert "verify needs --expected LOG, or --topic TOPIC" in capsys.readouterr().err
    assert main(["verify", "--landed", str(tmp_path), "--claims", str(tmp_path)]) == 2
    assert "no claims lie there" in capsys.readouterr().err


def test_ranges_need_a_topic(lake, capsys):
    assert main(["verify", "--landed", str(lake), "--from", "0=1"]) == 2
    assert "--topic" in capsys.readouterr().err


def test_a_log_is_compared_with_a_lake_without_taking_claims_for_rows(lake, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    log.write_text("")
    assert main(["verify", "--landed", str(lake), "--expected", str(log), "--json"]) in {2, NOT_VERIFIED}
    said = capsys.readouterr().out
    assert not said or json.loads(said)["malformed"] == 0


def put(s3, objects):
    for key, data in objects.items():
        s3.put(key, data)


@pytest.mark.parametrize(
    ("prefix", "claims"), [("", "_lmstream/"), ("rows/", "_lmstream/"), ("rows/", "rows/_lmstream/")]
)
def test_a_bucket_is_proved_alone_wherever_its_claims_lie(s3, capsys, prefix, claims):
    put(s3, Landed(prefix=prefix, claims=claims).land(LOG).objects)
    s3.put("letters/lm/0/3.json", b"{}")
    command = ["verify", "--landed", f"s3://lake/{prefix}", "--s3-endpoint-url", s3.url, "--json"]
    command += ["--dead-letters", "s3://lake/letters"]
    assert main(command) == NOT_VERIFIED, "the letter is no letter"
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["letters_missing"] == 1
    assert {name for name, count in report["total"].items() if count} == {
        "bundles", "expected", "landed", "dead_letters", "letters_missing"
    }  # fmt: skip
    walk = report["lake"]
    assert walk["get_requests"] >= walk["objects"] + walk["claims"]
    assert walk["dollars"] == pytest.approx((walk["get_requests"] * 0.0004 + walk["list_requests"] * 0.005) / 1000)
    assert walk["bytes"] > 1_000


def test_rows_that_retention_took_before_they_landed_are_lost_by_name(s3, landed, capsys):
    """What a member writes when records of a window are gone: fewer rows, and beside them the digest of those."""
    import boto3

    from lmstream.lake.digests import add, hexadecimal
    from lmstream.storage.compression import gzip

    key, data = next((k, d) for k, d in landed.objects.items() if k.endswith(".gz") and f"-{1:012d}-" in k)
    import gzip as plain

    rows = plain.decompress(data).splitlines(keepends=True)
    assert len(rows) > 1
    left = b"".join(rows[:-1])
    put(s3, {k: d for k, d in landed.objects.items() if k != key})
    client = boto3.client("s3", endpoint_url=s3.url)
    meta = {"digest": hexadecimal(add(0, left)), "rows": str(len(rows) - 1)}
    client.put_object(Bucket="lake", Key=key, Body=gzip(left, 1), Metadata=meta)
    assert main(["verify", "--landed", "s3://lake", "--s3-endpoint-url", s3.url, "--json"]) == NOT_VERIFIED
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["lost"] == 1
    assert "LMS-4025" in report["lost"][0]
    client.put_object(Bucket="lake", Key=key, Body=gzip(left, 1))
    assert main(["verify", "--landed", "s3://lake", "--s3-endpoint-url", s3.url, "--json"]) == NOT_VERIFIED
    report = json.loads(capsys.readouterr().out)
    assert (report["total"]["lost"], report["total"]["changed"]) == (0, len(rows))


def test_claims_at_two_places_are_not_guessed(s3, landed, capsys):
    put(s3, landed.objects | {f"rows/{key}": data for key, data in landed.objects.items()})
    assert main(["verify", "--landed", "s3://lake/rows", "--s3-endpoint-url", s3.url]) == 2
    assert "say with --claims" in capsys.readouterr().err
    flags = ["--claims", "s3://lake/rows/_lmstream", "--s3-endpoint-url", s3.url]
    assert main(["verify", "--landed", "s3://lake/rows", *flags]) == 0


async def test_a_lake_is_compared_with_its_topic_by_the_settings_of_its_claims(tmp_path, capsys):
    old, new = Settings(org_id="old"), Settings(org_id="new")
    landed = await asyncio.to_thread(lambda: Landed().land(LOG[:8], old).land(LOG, new))
    lake = landed.write(tmp_path / "lake")
    async with KafkaLab() as lab:
        await lab.create_topic("lm", 1)
        producer = AIOKafkaProducer(bootstrap_servers=lab.bootstrap)
        await producer.start()
        for each in LOG:
            await producer.send_and_wait("lm", each.value, partition=0, timestamp_ms=each.timestamp)
        await producer.stop()
        command = ["verify", "--landed", str(lake), "--topic", "lm", "--bootstrap", lab.bootstrap, "--group", "g"]
        command += ["--org", "new"]
        assert await asyncio.to_thread(main, [*command, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["lake"]["alone"] is False
        assert report["lake"]["compared"] == report["lake"]["windows"] > 2
        assert report["sums"]["undecodable"] == 1
        assert report["sums"]["records"] == 14
        assert await asyncio.to_thread(main, [*command, "--to", "0=3"]) == 0
        said = capsys.readouterr().out
        assert "against the topic: 1 windows compared" in said
        assert "alone" not in said
        assert await asyncio.to_thread(main, [*command, "--from", "7=3"]) == 2
