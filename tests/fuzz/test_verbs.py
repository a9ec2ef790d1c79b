"""No file, answer or setting that a verb reads ends in "an error of lmstream itself": each is a plain error, or data.

`make fuzz` looks longer, and elsewhere each time. What it finds becomes an @example here.
"""

import asyncio
import contextlib
import gzip
import io
import json
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmstream.cli import main
from lmstream.engine import Engine
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter, Pack, Record
from lmstream.settings import Settings
from lmstream.sinks import firehose
from lmstream.verification import expectation
from support.evil import LISTING, Evil, send
from support.mutants import WEIRD, broken, mutants, text_of

LONG = bool(os.environ.get("LMSTREAM_FUZZ"))
EXAMPLES = int(os.environ.get("LMSTREAM_FUZZ") or 10)
pytestmark = pytest.mark.slow  # a verb for each example

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
CODES = {0, 1, 2, 3, 4}

PAYLOAD = next(Generator(instances=1).bundles()).payload
RECORD = Record(topic="t", partition=0, offset=0, value=PAYLOAD)
ENGINE = Engine(Settings(org_id="acme"))
LINES = ENGINE.fan_out(RECORD).ndjson()
ROW = json.loads(LINES.splitlines()[0])
ENTRY = json.loads(msgspec.json.encode(expectation(ENGINE, RECORD, "")))
ENTRY |= {"absent": [0], "rejected": [0], "parts": ["$.resourceMetrics[0]"]}
LETTER = json.loads(
    msgspec.json.encode(
        DeadLetter(
            topic="t",
            partition=0,
            offset=0,
            timestamp=5,
            value=PAYLOAD,
            key=b"k",
            headers=(("h", b"v"),),
            reason="value.two",
            code="LMS-1101",
            detail="somewhere",
            rejected=((0, "value.two"),),
            parts=(("$.resourceMetrics[0]", "decode.json"),),
            sha256="0" * 64,
        )
    )
)
FAILED = {"rawData": "eyJyb3dJZCI6ImEifQ==", "errorCode": "DynamicPartitioning"}
DOCUMENT = {
    "requestContext": {"requestId": "r", "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3},
    "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
    "version": "1.0",
    "KafkaBatchInfo": {"recordsInfo": {"t-0": {"firstRecordOffset": "1", "lastRecordOffset": "2", "batchSize": 2}}},
    "payload": {
        "eventSource": "aws:kafka",
        "records": {
            "t-0": [{"topic": "t", "partition": 0, "offset": 1, "timestamp": 5, "value": "e30=", "headers": []}]
        },
    },
}


@pytest.fixture
def run(monkeypatch):
    """Run a verb in this process, with its own folder and no setting of the machine; it must not be a bug."""
    for name in [name for name in os.environ if name.startswith(("LMSTREAM_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "LMSTREAM_ENDPOINTS__ADDRESS": "off",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)

    # The SDK waits up to 20 s between ten attempts: here it need not.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None, time=time.time))

    def call(*args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(arg) for arg in args])
        said = out.getvalue() + err.getvalue()
        assert code in CODES, (args, code, said)
        assert "LMS-9001" not in said, (args, said)
        assert "Traceback" not in said, (args, said)
        assert not {"\x1b", "\0"} & set(said), (args, said)
        return code, out.getvalue(), err.getvalue()

    return call


@pytest.fixture
def folder(tmp_path):
    """A new folder inside that of the test, for each example."""

    def made(**files):
        root = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, data in files.items():
            (root / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
            (root / name.replace("__", "/")).write_bytes(data)
        return root

    return made


def zipped(lines):
    """Plain, as gzip, as broken gzip."""
    return st.one_of(lines, lines.map(gzip.compress), lines.map(gzip.compress).flatmap(broken))


@FUZZ
@given(rows=zipped(mutants(ROW)))
@example(rows=text_of({**ROW, "rowId": f"{'0' * 32}:{'9' * 5000}"}))
@example(rows=text_of({**ROW, "rowId": f"{ENTRY['bundleId']}:{'9' * 5000}"}))
@example(rows=b"[" * 1_000_000)
@example(rows=b'{"orgId":' + b"[" * 1_000_000)
def test_landed_rows(run, folder, rows):
    root = folder(landed__part_1=rows, log=text_of(ENTRY))
    run("verify", "--landed", root / "landed", "--expected", root / "log")
    run("query", "--landed", root / "landed")
    for flag in ("--json", "--csv"):
        run("query", "select * from rows", "--landed", root / "landed", flag)


@FUZZ
@given(log=zipped(mutants(ENTRY)))
@example(log=text_of({**ENTRY, "absent": [10**6]}))
@example(log=text_of({**ENTRY, "rejected": [-1]}))
@example(log=text_of({**ENTRY, "points": -1}))
@example(log=text_of({**ENTRY, "points": 4 * 10**9}))
@example(log=text_of({**ENTRY, "points": 10**11}))
@example(log=text_of({**ENTRY, "offset": 10**20}))
@example(log=text_of({**ENTRY, "partition": 2**40}))
@example(log=text_of({**ENTRY, "offset": -1}))
def test_the_log_of_what_was_published(run, folder, log):
    root = folder(landed__part_1=LINES, log=log)
    run("verify", "--landed", root / "landed", "--expected", root / "log")
    run("verify", "--landed", root / "landed", "--expected", root / "log", "--json", "--html", root / "page.html")


@FUZZ
@given(
    letter=zipped(st.one_of(mutants(LETTER), mutants(DOCUMENT), mutants({**DOCUMENT, "payload": json.dumps(DOCUMENT)})))
)
@example(letter=text_of({**LETTER, "rejected": [[-1, "x"], [10**30, "y"]]}))
@example(letter=text_of({**LETTER, "timestamp": 2**62}))
@example(letter=text_of({**LETTER, "reason": "no.such", "code": "\x1b[2J"}))
def test_dead_letters(run, folder, letter):
    root = folder(**{"dead__t__0__0.json": letter, "landed__part_1": LINES, "log": text_of(ENTRY)})
    dead = root / "dead"
    for verb in ("ls", "show", "stats"):
        run("dlq", verb, dead)
        run("dlq", verb, dead, "--json")
    run("dlq", "replay", dead, "--org", "acme", "--landed", root / "out")
    run("dlq", "replay", dead, "--org", "acme", "--landed", root / "out", "--yes", "--dead-letters", root / "again")
    run("dlq", "purge", dead, "--reason", "*")
    run("verify", "--landed", root / "landed", "--expected", root / "log", "--dead-letters", dead)
    run("inspect", dead / "t/0/0.json", "--org", "acme")


@FUZZ
@given(entry=zipped(mutants(FAILED)))
@example(entry=text_of({"rawData": "é"}))
def test_the_error_prefix(run, folder, entry):
    root = folder(landed__part_1=LINES, landed__errors__x=entry, log=text_of(ENTRY))
    run("verify", "--landed", root / "landed", "--expected", root / "log")


@FUZZ
@given(data=st.one_of(mutants(json.loads(PAYLOAD)), zipped(broken(PAYLOAD))))
def test_bundles(run, folder, data):
    root = folder(**{"in.json": data})
    run("inspect", root / "in.json", "--org", "acme")
    run("inspect", root / "in.json", "--org", "acme", "--rows")
    where = ("--landed", root / "out", "--dead-letters", root / "dead")
    run("run", "--files", root / "in.json", "--topic", "t", "--org", "acme", *where)
    run("dlq", "ls", root / "dead") if (root / "dead").is_dir() else None


CONFIGURATION = b"""
[engine]
org_id = "acme"
path = "{orgKey}/{yyyy}/"
[engine.limits]
points = 100
[source]
type = "kafka"
bootstrap = "127.0.0.1:9"
topics = ["a"]
ca = ""
client = { debug = "x" }
[sink]
type = "firehose"
stream = "s"
region = "us-west-2"
[dead_letters]
root = "dead"
[run]
workers = 2
[endpoints]
address = "127.0.0.1:0"
"""


@FUZZ
@given(text=st.one_of(broken(CONFIGURATION), st.binary(max_size=100)))
@example(text=CONFIGURATION.replace(b'"kafka"', b'".foo"'))
@example(text=CONFIGURATION.replace(b'"kafka"', b'"a..b"'))
@example(text=CONFIGURATION.replace(b'"kafka"', b'"os.path"'))
@example(text=CONFIGURATION.replace(b'ca = ""', b'security = "ssl"\nca = "\\u0000"'))
@example(text=CONFIGURATION.replace(b'root = "dead"', b'root = "\\u0000"'))
@example(text=CONFIGURATION.replace(b'"acme"', b"1" * 5000))
def test_configuration_files(run, folder, text):
    root = folder(**{"lmstream.toml": text})
    run("validate", "--config", root / "lmstream.toml")
    run("config", "show", "--config", root / "lmstream.toml", "--origin")
    run("schema", "sql", "--config", root / "lmstream.toml")


KEYS = [
    *(
        "engine.org_id",
        "engine.path",
        "engine.format",
        "engine.limits.points",
        "engine.org_by_topic",
        "engine.metric_allow",
    ),
    *(
        "source.type",
        "source.topics",
        "source.bootstrap",
        "source.ca",
        "source.cert",
        "source.key_password",
        "source.client",
    ),
    *("sink.type", "sink.stream", "sink.endpoint_url", "dead_letters.type", "dead_letters.root", "run.state_dir"),
    *(
        "run.workers",
        "endpoints.address",
        "rolling.age",
        "delivery.timeout",
        "runtime.grace",
        "breaker.records",
        "no.such",
    ),
]


@FUZZ
@given(key=st.sampled_from(KEYS), value=WEIRD)
@example(key="sink.type", value=".foo")
def test_single_settings(run, folder, key, value):
    root = folder(**{"lmstream.toml": CONFIGURATION})
    text = value if isinstance(value, str) else json.dumps(value)
    run("validate", "--config", root / "lmstream.toml", f"--set={key}={text}")
    if "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        name = f"LMSTREAM_{key.replace('.', '__').upper()}"
        os.environ[name] = text
        try:
            run("validate", "--config", root / "lmstream.toml")
        finally:
            del os.environ[name]


@FUZZ
@given(
    sql=st.one_of(broken(b"select orgId, count(*) from rows group by all order by 2 limit 3"), st.binary(max_size=60))
)
@example(
    sql=b"select map {[1]: 2} as a, {'x': map {1: 2}} as b, 'nan'::float as c, interval 1 day as d, '\\xff'::blob as e"
)
@example(sql=b"select " + b"(" * 2000 + b"1" + b")" * 2000)
@example(
    sql=b"select 1e400::double, -0.0, 170141183460469231731687303715884105727::hugeint, uuid(), [1,null], current_date"
)
@example(sql=b"select 'infinity'::timestamp, '290000-01-01'::timestamp, '-infinity'::date, '24:00:00'::time")
def test_statements(run, folder, sql):
    root = folder(landed__part_1=LINES)
    text = " " + sql.decode("utf-8", "replace")
    for more in ((), ("--json",), ("--csv",)):
        run("query", text, "--landed", root / "landed", *more)


# Answers


S3 = ("--s3-region", "us-east-1", "--s3-endpoint-url")
PAGE = LISTING % (b"part-1", 100)


@settings(FUZZ, max_examples=EXAMPLES if LONG else 5)
@given(
    listing=st.one_of(st.just(PAGE), broken(PAGE), st.binary(max_size=100)),
    status=st.sampled_from([200, 200, 200, 204, 206, 301, 307, 400, 403, 404, 500]),
    data=zipped(st.one_of(mutants(ROW), mutants(LETTER))),
    names=st.dictionaries(
        st.sampled_from(["ETag", "Content_Range", "Location", "Content_Type", "x_amz_bucket_region"]),
        st.sampled_from(["", '"e"', "bytes 0-9/10", "bytes 0-9/*", "x", "9" * 50, "/"]),
    ),
)
@example(listing=LISTING % (b"part-1", 20 << 20), status=200, data=b"abc", names={})
@example(listing=LISTING % (b"part-1", 5), status=307, data=b"", names={"Location": "/"})
def test_answers_of_s3(run, folder, listing, status, data, names):
    root = folder(log=text_of(ENTRY))

    def answer(request):
        if "list-type" in request.path:
            send(request, listing.replace(b"part-1", b"part-1.json"), Content_Type="application/xml")
        else:
            send(request, data, status, **names)

    with Evil(answer) as evil:
        run("dlq", "ls", "s3://b/", "--s3-region", "us-east-1", "--s3-endpoint-url", evil.url)
        run("verify", "--landed", "s3://b/", "--expected", root / "log", *S3, evil.url)
        run("query", "--landed", "s3://b/", *S3, evil.url)


@settings(FUZZ, max_examples=EXAMPLES if LONG else 5)
@given(
    body=mutants({"FailedPutCount": 0, "Encrypted": True, "RequestResponses": [{"RecordId": "r"}] * 2}),
    status=st.sampled_from([200, 200, 200, 204, 302, 400, 403, 413, 500, 503]),
    kind=st.sampled_from(["application/x-amz-json-1.1", "text/html", ""]),
)
def test_answers_of_firehose(run, body, status, kind):
    """Each is a verdict for every pack, and a pack that was not taken for sure is not delivered."""
    del run  # for its environment
    with Evil(lambda request: send(request, body, status, Content_Type=kind)) as evil:
        sink = firehose.Firehose(firehose.Settings(stream="s", region="us-east-1", endpoint_url=evil.url))

        async def write():
            try:
                return await sink.write([Pack(data=b"{}\n", rows=1)] * 2)
            finally:
                await sink.close()

        verdicts = asyncio.run(write())
    assert len(verdicts) == 2
    if None in verdicts:
        said = json.loads(body)
        assert status == 200
        assert [verdict is None for verdict in verdicts] == [
            bool(each.get("RecordId")) for each in said["RequestResponses"]
        ]


@settings(FUZZ, max_examples=EXAMPLES if LONG else 5)
@given(
    body=st.one_of(st.binary(max_size=200), st.just(b"ok: \x1b[2J\nforged")),
    status=st.sampled_from([200, 204, 301, 404, 500, 503]),
)
def test_answers_of_a_host_to_its_health_check(run, body, status):
    with Evil(lambda request: send(request, body, status)) as evil:
        run("health", "--address", evil.url.removeprefix("http://"))


def test_a_letter_with_ordinals_that_are_none_hides_no_lost_row(run, folder):
    """An ordinal below 0 would have meant a row of the record before."""
    log = text_of(ENTRY | {"absent": [], "rejected": [], "parts": []})
    other = text_of(ENTRY | {"bundleId": "f" * 32, "offset": 1, "points": 1, "absent": [], "rejected": [], "parts": []})
    letter = {**LETTER, "rejected": [[-1, "value.two"]], "parts": []}
    root = folder(**{"log": log + b"\n" + other, "landed__part_1": b"", "dead__0.json": text_of(letter)})
    args = ("verify", "--landed", root / "landed", "--expected", root / "log")
    without = json.loads(run(*args, "--json")[1])["total"]["lost"]
    code, out, _ = run(*args, "--dead-letters", root / "dead", "--json")
    assert code == 3
    assert json.loads(out)["total"]["lost"] == without
