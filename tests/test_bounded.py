"""Answers, objects and letters without end: each verb and sink stops at its bound, says so, and holds little."""

import asyncio
import gzip
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmstream import bounded
from lmstream.aws import answers
from lmstream.bounded import Bound, BoundError
from lmstream.cli import main
from lmstream.dead_letters import letters_s3
from lmstream.dead_letters.form import encode
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter, Kind, Pack
from lmstream.sinks import firehose
from lmstream.storage.bucket import Bucket
from support.evil import LISTING, PAGE, Evil, endless, send, trickle

MOST_KIB = 420 * 1024
"""Of a verb's process; without bounds each of these takes gigabytes."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "AWS_EC2_METADATA_DISABLED": "true"}

# Not ru_maxrss: that is kept over exec, and begins at what the tests themselves take.
RUN = """
import re, sys
from lmstream.cli import main
code = main(sys.argv[1:])
print("PEAK", re.search("VmHWM:\\\\s+(\\\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def lmstream(*args, cwd):
    """Run a verb in a process of its own, which may take 2 GB; answer code, stdout, stderr and peak in KiB."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | CREDENTIALS
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 4000000; exec "$@"', "bash", sys.executable, "-c", RUN, *map(str, args)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    *said, last = done.stderr.rstrip().rsplit("\n", 1)
    assert last.startswith("PEAK"), done.stderr[-2000:]
    return done.returncode, done.stdout, "".join(said), int(last.split()[1])


@pytest.fixture
def here(capsys, monkeypatch, tmp_path):
    """Run a verb in this process, in an empty folder; answer code, stdout and stderr."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in [each for each in os.environ if each.startswith("LMSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        return main([*map(str, args)]), *capsys.readouterr()

    return run


# The helper


def test_a_bound_counts_bytes_and_time():
    now = [0.0]
    bound = Bound("x", 10_000_000, seconds=5, clock=lambda: now[0])
    now[0] = 5.0
    assert bound.take(b"ab") == b"ab"
    now[0] = 5.1
    with pytest.raises(BoundError, match=r"x: 3 bytes in 5 s, which is too slow"):
        bound.take(b"c")
    with pytest.raises(BoundError, match="LMS-3015 x: more than 3 bytes"):
        Bound("x", 3).take(b"abcd")


def test_what_fits_is_read_and_one_byte_more_is_found_without_reading_on():
    assert bounded.read(io.BytesIO(b"abc"), 3, "x") == b"abc"

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size):
            Endless.given += size
            return b"a" * size

    with pytest.raises(BoundError, match="more than 1,000,000 bytes"):
        bounded.read(Endless(), 1_000_000, "x")
    assert Endless.given == 1_000_001


def test_lines_are_bounded_each_and_in_all(monkeypatch):
    assert list(bounded.lines(io.BytesIO(b" a\n\n\r\nbb"), 3, "x")) == [b"a", b"bb"]
    with pytest.raises(BoundError, match="line 2 has more than 3 bytes"):
        list(bounded.lines(io.BytesIO(b"a\nabcd\n"), 3, "x"))
    monkeypatch.setattr(bounded, "INFLATED", 100)
    with pytest.raises(BoundError, match="more than 100 bytes"):
        list(bounded.lines(io.BytesIO(b"a\n" * 51), 3, "x"))


LOG = b'{"topic":"t","partition":0,"offset":0,"timestamp":0,"bundleId":"b","points":0,"tombstone":true}\n'
"""A log of one record, from which nothing must land: an empty one is refused."""

# Files


@pytest.fixture
def bombs(tmp_path):
    """A landing folder and a folder of letters with a bomb among what is good."""
    bomb = gzip.compress(b"a" * (64 << 20), 1) * 24  # 1.5 GB of one line
    letter = DeadLetter(topic="t", partition=0, offset=1, value=b"no bundle", reason="decode.json", code="LMS-1001")
    for name in ("landed", "dead/t/0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dead/t/0/1.json").write_bytes(encode(letter))
    (tmp_path / "dead/t/0/2.json").write_bytes(bomb)
    (tmp_path / "landed/part-1.gz").write_bytes(bomb)
    (tmp_path / "expected.log").write_bytes(LOG)
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("dlq", "ls", "dead"), 0),
        (("dlq", "stats", "dead"), 0),
        (("dlq", "show", "dead"), 0),
        (("dlq", "replay", "dead", "--org", "acme", "--landed", "out"), 0),
        (("verify", "--landed", "landed", "--expected", "expected.log"), 1),
        (("verify", "--landed", "empty", "--expected", "expected.log", "--dead-letters", "dead"), 1),
        (("query", "--landed", "landed"), 2),
        (("inspect", "dead/t/0/2.json"), 1),
    ],
)
def test_a_bomb_among_letters_or_rows_is_named_and_takes_little(bombs, args, code):
    found, out, err, peak = lmstream(*args, cwd=bombs)
    assert found == code, err
    assert "LMS-9001" not in err
    assert peak < MOST_KIB
    if args[0] == "dlq":
        assert "dead/t/0/2.json: line 1 has more than 67,108,864 bytes: not a dead letter, skipped" in err
    if args[1] in ("ls", "stats", "show"):
        assert "decode.json" in out  # the good one is there
    if args[0] == "verify":
        assert "LMS-3015" in err


def test_a_pipe_among_landed_files_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "part-1.gz")
    (tmp_path / "expected.log").write_bytes(LOG)
    code, _, err, _ = lmstream("verify", "--landed", ".", "--expected", "expected.log", cwd=tmp_path)
    assert (code, err) in {(0, err), (3, err)}  # it ends; the log lies in the folder too, and is no row


# S3


def s3_answers(objects, listed=10, key=b"part-1.gz"):
    def answer(request):
        if "list-type" in request.path:
            send(request, LISTING % (key, listed), Content_Type="application/xml")
        else:
            objects(request)

    return answer


VERBS = [
    ("dlq", "ls", "s3://b/", "--s3-region", "us-east-1", "--s3-endpoint-url"),
    ("verify", "--landed", "s3://b/", "--expected", "expected.log", "--s3-region", "us-east-1", "--s3-endpoint-url"),
    ("query", "--landed", "s3://b/", "--s3-region", "us-east-1", "--s3-endpoint-url"),
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_an_object_without_end_that_is_listed_as_ten_bytes(tmp_path, verb):
    (tmp_path / "expected.log").write_bytes(LOG)
    key = b"1.json" if verb[0] == "dlq" else b"part-1.gz"
    with Evil(s3_answers(lambda request: endless(request, ETag='"e"'), key=key)) as evil:
        code, _, err, peak = lmstream(*verb, evil.url, cwd=tmp_path)
    assert "LMS-9001" not in err
    assert peak < MOST_KIB
    if verb[0] == "dlq":  # one object among letters: it is named and left out
        assert (code, "1.json: more than 10 bytes: not a dead letter, skipped" in err) == (0, True), err
    else:
        assert code == 1
        assert "LMS-3015" in err or "LMS-5010" in err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_listing_without_end(tmp_path, verb):
    (tmp_path / "expected.log").write_bytes(LOG)
    with Evil(endless) as evil:
        code, _, err, peak = lmstream(*verb, evil.url, cwd=tmp_path)
    assert (code, peak < MOST_KIB) == (1, True), (err, peak)
    assert "more than 16,777,216 bytes" in err


@pytest.mark.parametrize("verb", [*VERBS, ("dlq", "stats", "s3://b/", "--json", *VERBS[0][3:])], ids=str)
def test_a_page_of_somebody_else_is_no_empty_bucket(here, tmp_path, verb):
    (tmp_path / "expected.log").write_bytes(LOG)
    with Evil(lambda request: send(request, PAGE, Content_Type="text/html")) as evil:
        code, out, err = here(*verb, evil.url)
    assert (code, out) == (1, "")
    assert "LMS-4008" in err or "LMS-5010" in err


@pytest.mark.parametrize(
    "objects",
    [
        lambda request: send(request, b"x" * 100, ETag='"e"'),  # the Range is ignored
        lambda request: send(request, b"x" * 100, 206, ETag='"e"', Content_Range="bytes 0-99/*"),
        lambda request: send(request, b"x" * 100, 206, Content_Range="bytes 0-99/100"),
        lambda request: send(request, b"x" * 100, 206, ETag='"e"', Content_Range="bytes 5-99/100"),
        lambda request: send(request, b"", 206, ETag='"e"', Content_Range="bytes 0-0/100"),
        lambda request: send(request, b"", 307, Location=request.path),
        lambda request: send(request, b"", 301, x_amz_bucket_region="us-east-1"),
    ],
)
def test_a_store_that_does_not_know_ranges_or_redirects_is_a_plain_error(here, tmp_path, objects):
    (tmp_path / "expected.log").write_bytes(LOG)
    for verb in VERBS[1:]:
        with Evil(s3_answers(objects, listed=20 << 20)) as evil:
            code, _, err = here(*verb, evil.url)
        assert (code, "LMS-50" in err, "LMS-9001" in err) == (1, True, False), err


def test_headers_that_trickle_end_within_the_bound(monkeypatch):
    import boto3
    from botocore.config import Config

    monkeypatch.setattr(answers, "PATIENCE", 0.5)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    config = Config(retries={"total_max_attempts": 1}, read_timeout=30)
    with Evil(trickle) as evil:
        made = boto3.session.Session().client("s3", endpoint_url=evil.url, region_name="us-east-1", config=config)
        client = answers.bound(made)
        began = time.monotonic()
        with pytest.raises(BoundError, match="nothing within 0 s"):
            client.list_objects_v2(Bucket="b")
        assert time.monotonic() - began < 5


async def test_letters_in_s3_are_neither_held_up_nor_swollen_by_their_store(monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings = {"bucket": "b", "region": "us-east-1"}
    with Evil(endless) as evil:
        bucket = Bucket(letters_s3.Settings(endpoint_url=evil.url, **settings))
        with pytest.raises(BoundError, match=r"s3://b/k: more than 10 bytes"):
            await bucket.get("k", 10)
        bucket.close()
    monkeypatch.setattr(answers, "PATIENCE", 0.5)
    with Evil(trickle) as evil:
        bucket = Bucket(letters_s3.Settings(endpoint_url=evil.url, **settings))
        with pytest.raises(BoundError, match="nothing within"):
            await bucket.get("k", 10)
        bucket.close()


# Firehose


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_an_answer_of_firehose_without_end_is_an_unknown_outcome_and_little_memory(monkeypatch, status):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    sent = []

    def answer(request):
        try:
            endless(request, status)
        finally:
            sent.append(1)

    with Evil(answer) as evil:
        sink = firehose.Firehose(firehose.Settings(stream="s", region="us-east-1", endpoint_url=evil.url))
        before = peak()
        async with asyncio.timeout(30):
            [verdict] = await sink.write([Pack(data=b"{}\n", rows=1)])
        await sink.close()
    assert (verdict.kind, verdict.code) == (Kind.RETRYABLE, "unknown_outcome")
    assert "more than 16,777,216 bytes" in verdict.message
    assert peak() - before < 150 * 1024


async def test_lambdas_client_of_firehose_is_bounded_too(monkeypatch):
    from lmstream.hosts.awslambda.clients import FirehoseClient

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with Evil(endless) as evil:
        settings = firehose.Settings(stream="s", region="us-east-1", endpoint_url=evil.url)
        client = FirehoseClient(settings)
        sink = firehose.Firehose(settings, client=client)
        [verdict] = await sink.write([Pack(data=b"{}\n", rows=1)])
        client.close()
    assert (verdict.kind, verdict.code) == (Kind.RETRYABLE, "unknown_outcome")
    assert "more than 16,777,216 bytes" in verdict.message


def peak():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def test_what_is_good_is_read_as_before(bombs):
    """The bound is no obstacle: a letter with a value at the default record_bytes is listed and replayed."""
    bundle = next(Generator(instances=2).bundles()).payload
    padded = bundle + b" " * (8 * 1024 * 1024 - len(bundle))
    letter = DeadLetter(topic="t", partition=0, offset=3, value=padded, reason="org.unresolved", code="LMS-1105")
    (bombs / "dead/t/0/2.json").write_bytes(encode(letter))
    code, out, err, _ = lmstream("dlq", "ls", "dead", "--json", cwd=bombs)
    assert (code, err) == (0, "")
    assert '"bytes": 8388608' in out
