"""The lab's Firehose through a real aioboto3 client with retries off."""

import asyncio
import base64
import contextlib
import gzip
import json

import aioboto3
import aiohttp
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from lmstream import Settings
from lmstream.errors import ConfigError, SinkError
from lmstream.lab import Fault, FirehoseLab, FolderStore, S3Store, StreamConfig
from lmstream.settings import MIB
from support.wait import until

# aiohttp warns of bodies over 1 MiB that are given as bytes, which is how aiobotocore gives them.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

STREAM = StreamConfig.for_settings("rows", Settings(org_id="acme"))
SESSION = aioboto3.Session()  # one: it reads the service models once
HOUR = "2024/05/09/14"


def row(n=0, metric="CpuUsage", **fields):
    made = {"rowId": f"a:{n}", "orgKey": "acme", "metricKey": metric, "ts": "2024-05-09T14:05:58.360Z", "value": n}
    return json.dumps(made | fields).encode()


@contextlib.asynccontextmanager
async def firehose(store, config=STREAM, **options):
    aws = Config(retries={"total_max_attempts": 1}, read_timeout=5, parameter_validation=False)
    async with (
        FirehoseLab(config, store, **options) as lab,
        SESSION.client("firehose", config=aws, **lab.client_options) as client,
    ):

        async def put(*records, stream="rows"):
            entries = [{"Data": record} for record in records]
            return await client.put_record_batch(DeliveryStreamName=stream, Records=entries)

        lab.put, lab.client = put, client
        yield lab


async def error_of(call):
    with pytest.raises(ClientError) as caught:
        await call
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def objects(root, pattern="acme/**/*.json.gz"):
    return {p.relative_to(root).as_posix(): gzip.decompress(p.read_bytes()) for p in sorted(root.glob(pattern))}


def landed(root):
    return [json.loads(line)["rowId"] for data in objects(root).values() for line in data.splitlines()]


def errors(root, kind="*"):
    paths = [p for p in sorted(root.glob(f"errors/{kind}/**/*")) if p.is_file()]
    return [json.loads(line) for p in paths for line in p.read_bytes().splitlines()]


async def test_rows_land_by_partition_named_as_the_service_names(tmp_path):
    async with firehose(tmp_path) as lab:
        answer = await lab.put(row(0) + b"\n" + row(1) + b"\n", row(2, metric="MemUsage"))
        assert answer["FailedPutCount"] == 0
        assert len({r["RecordId"] for r in answer["RequestResponses"]}) == 2
        assert objects(tmp_path) == {}
        assert lab.active_partitions("rows") == 2
        await lab.flush()
        assert lab.active_partitions("rows") == 0
        found = objects(tmp_path)
        assert list(found.values()) == [row(0) + b"\n" + row(1) + b"\n", row(2, metric="MemUsage") + b"\n"]
        folder, _, name = next(iter(found)).rpartition("/")
        assert folder == f"acme/CpuUsage/{HOUR}"
        stream, version, *stamp = name.removesuffix(".json.gz").split("-")
        assert (stream, version) == ("rows", "1")
        assert [len(part) for part in stamp] == [4, 2, 2, 2, 2, 2, 8, 4, 4, 4, 12]
    counters = lab.counters
    assert (counters.calls, counters.records, counters.rows, counters.objects) == (1, 2, 3, 2)
    assert errors(tmp_path) == []


async def test_the_other_calls(tmp_path):
    async with firehose(tmp_path) as lab:
        said = (await lab.client.describe_delivery_stream(DeliveryStreamName="rows"))["DeliveryStreamDescription"]
        assert said["DeliveryStreamStatus"] == "ACTIVE"
        destination = said["Destinations"][0]["ExtendedS3DestinationDescription"]
        assert destination["BufferingHints"] == {"SizeInMBs": 64, "IntervalInSeconds": 60}
        assert (await lab.client.put_record(DeliveryStreamName="rows", Record={"Data": row(7)}))["RecordId"]
        too_large = lab.client.put_record(DeliveryStreamName="rows", Record={"Data": b"x" * 1_024_001})
        assert await error_of(too_large) == (400, "ValidationException")
        assert await error_of(lab.client.list_delivery_streams()) == (400, "UnknownOperationException")
    assert landed(tmp_path) == ["a:7"]


async def test_limits_at_their_edges(tmp_path):
    edge = StreamConfig(name="rows", prefix="raw/", deaggregate=False, delimiter=False, gzip=False, buffer_bytes=MIB)
    async with firehose(tmp_path, edge) as lab:
        assert len((await lab.put(*[b"x"] * 500))["RequestResponses"]) == 500
        assert await error_of(lab.put(*[b"x"] * 501)) == (400, "ValidationException")
        assert await error_of(lab.put()) == (400, "ValidationException")

        assert (await lab.put(b"x" * 1_024_000))["FailedPutCount"] == 0
        assert await error_of(lab.put(b"x" * 1_024_001)) == (400, "ValidationException")

        # 4 MiB of base64 are 3 MiB of bytes.
        full = [b"x" * 786_432] * 4
        assert sum(len(base64.b64encode(r)) for r in full) == 4 * MIB
        assert (await lab.put(*full))["FailedPutCount"] == 0
        assert await error_of(lab.put(*full, b"x")) == (400, "InvalidArgumentException")
        assert await error_of(lab.put(*[b"x" * 1_000_000] * 7)) == (413, "RequestEntityTooLargeException")

        assert await error_of(lab.put(b"x", stream="other")) == (400, "ResourceNotFoundException")
        assert lab.counters.records == 500 + 1 + 4
        assert lab.counters.refused_calls == 6
    taken = sum(p.stat().st_size for p in tmp_path.glob("raw/**/rows-1-*"))
    assert taken == 500 + 1_024_000 + 4 * 786_432


async def test_malformed_requests_have_the_codes_of_the_service(tmp_path):
    cases = [
        (b"{", "SerializationException"),
        (b'{"DeliveryStreamName":"rows","Records":[{"Data":"not base64!"}]}', "SerializationException"),
        (b'{"DeliveryStreamName":"rows","Records":{"Data":""}}', "SerializationException"),
        (b'{"Records":[{"Data":""}]}', "ValidationException"),
        (b'{"DeliveryStreamName":"rows"}', "ValidationException"),
        (b'{"DeliveryStreamName":"rows","Records":[{}]}', "ValidationException"),
        (b'{"DeliveryStreamName":"rows","Records":[null]}', "ValidationException"),
    ]
    async with firehose(tmp_path) as lab, aiohttp.ClientSession() as http:
        headers = {"X-Amz-Target": "Firehose_20150804.PutRecordBatch", "Authorization": "AWS4-HMAC-SHA256 x"}
        for body, code in cases:
            async with http.post(lab.endpoint_url, data=body, headers=headers) as answer:
                assert (answer.status, (await answer.json(content_type=None))["__type"]) == (400, code), body
        async with http.post(lab.endpoint_url, data=b"{}", headers={"X-Amz-Target": headers["X-Amz-Target"]}) as answer:
            assert (await answer.json(content_type=None))["__type"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.unavailable(), 503, "ServiceUnavailableException"),
        (Fault.throttled(), 400, "ThrottlingException"),
        (Fault.server_error(), 500, "InternalFailure"),
        (Fault.denied(), 400, "AccessDeniedException"),
        (Fault.missing(), 400, "ResourceNotFoundException"),
        (Fault.expired(), 400, "ExpiredTokenException"),
        (Fault.kms(), 400, "InvalidKMSResourceException"),
    ],
)
async def test_a_refused_call_takes_nothing_and_uses_up_one_fault(tmp_path, fault, status, code):
    async with firehose(tmp_path) as lab:
        lab.faults.append(fault)
        assert await error_of(lab.put(row())) == (status, code)
        assert (lab.counters.calls, lab.counters.refused_calls, lab.counters.records) == (1, 1, 0)
        assert (await lab.put(row()))["FailedPutCount"] == 0
    assert landed(tmp_path) == ["a:0"]


async def test_some_records_fail_inside_a_200(tmp_path):
    async with firehose(tmp_path) as lab:
        lab.faults += [Fault.partial(1, 3, 99), Fault.partial(0, code="InternalFailure"), Fault.some(0.5, seed=4)]
        answer = await lab.put(*[row(n) for n in range(5)])
        assert answer["FailedPutCount"] == 2
        assert [r.get("ErrorCode", "") for r in answer["RequestResponses"]] == [
            *("", "ServiceUnavailableException"),
            *("", "ServiceUnavailableException", ""),
        ]
        assert (await lab.put(row(5)))["RequestResponses"][0]["ErrorCode"] == "InternalFailure"
        answer = await lab.put(*[row(n) for n in range(100, 300)])
        failing = [n for n, r in enumerate(answer["RequestResponses"]) if "ErrorCode" in r]
        assert 70 < len(failing) == answer["FailedPutCount"] < 130
        assert set(failing) == Fault.some(0.5, seed=4).failing(200)
        assert lab.counters.failed_records == 3 + len(failing)
    expected = [f"a:{n}" for n in (0, 2, 4)] + [f"a:{n + 100}" for n in range(200) if n not in failing]
    assert landed(tmp_path) == expected


async def test_resets_before_and_after_the_records_are_taken(tmp_path):
    async with firehose(tmp_path) as lab:
        lab.faults += [Fault.reset(), Fault.accept_then_reset()]
        for n in range(2):
            with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
                await lab.put(row(n))
        assert lab.counters.records == 1
        assert lab.counters.refused_calls == 1
    assert landed(tmp_path) == ["a:1"]


async def test_a_late_answer_may_find_nobody_and_the_records_are_taken(tmp_path):
    async with firehose(tmp_path) as lab:
        aws = Config(retries={"total_max_attempts": 1}, read_timeout=0.05)
        async with SESSION.client("firehose", config=aws, **lab.client_options) as hasty:
            lab.faults.append(Fault.slow(0.3))
            with pytest.raises(ReadTimeoutError):
                await hasty.put_record_batch(DeliveryStreamName="rows", Records=[{"Data": row()}])
            assert lab.counters.records == 0
            await until(lambda: lab.counters.records == 1)


async def test_a_200_may_be_no_answer_or_too_short(tmp_path):
    async with firehose(tmp_path) as lab:
        lab.faults += [Fault.html(), Fault.short_answer()]
        # botocore takes the page for success: this is what a careful sink has to see through.
        assert "FailedPutCount" not in await lab.put(row(0))
        answer = await lab.put(row(1), row(2))
        assert answer["FailedPutCount"] == 0
        assert len(answer["RequestResponses"]) == 1
    assert landed(tmp_path) == ["a:1"]


async def test_an_outage_lasts_until_it_is_lifted_and_keeps_the_plan(tmp_path):
    async with firehose(tmp_path) as lab:
        lab.faults.append(Fault.throttled())
        lab.outage = True
        for _ in range(2):
            assert await error_of(lab.put(row())) == (503, "ServiceUnavailableException")
        lab.outage = False
        assert await error_of(lab.put(row())) == (400, "ThrottlingException")
        await lab.put(row())
    assert landed(tmp_path) == ["a:0"]


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        (row(1) + row(2), 2),
        (row(1) + b"\n" + row(2), 2),
        (b"\r\n " + row(1) + b" \n\n" + row(2) + b"\r\n", 2),
        (row(1, note="}{") + b" " + row(2, note="a\\\n}\n{"), 2),
        (json.dumps(json.loads(row(1)), indent=2).encode() + row(2), 2),
        (b"\n".join(row(n) for n in range(500)), 500),
    ],
)
async def test_deaggregation_finds_every_object(tmp_path, record, rows):
    async with firehose(tmp_path) as lab:
        await lab.put(record)
    assert lab.counters.rows == rows == len(landed(tmp_path))
    assert errors(tmp_path) == []


@pytest.mark.parametrize(
    "record",
    [
        *(b"[" + row(1) + b"," + row(2) + b"]", b"", b"\n", b"7", b'"x"', b"null", row(1)[:-1], row(1) + b"x"),
        *(row(1) + b"\n7", b"\xff" + row(1), b'{"a":"\xff"}', b'{"a":NaN}', b'{"a":' * 100_000),
    ],
)
async def test_what_is_not_a_row_of_objects_goes_to_the_error_prefix_whole(tmp_path, record):
    async with firehose(tmp_path) as lab:
        assert (await lab.put(record, row(9)))["FailedPutCount"] == 0
    (letter,) = errors(tmp_path, "metadata-extraction-failed")
    assert base64.b64decode(letter["rawData"]) == record
    assert letter["errorCode"] == "DynamicPartitioning.MetadataExtractionFailed"
    assert landed(tmp_path) == ["a:9"]
    assert (lab.counters.error_rows, lab.counters.error_objects) == (1, 1)


async def test_more_than_500_objects_in_a_record_misbehave_visibly(tmp_path):
    async with firehose(tmp_path) as lab:
        record = b"\n".join(row(n) for n in range(501))
        await lab.put(record, record.replace(b"\n", b""))
    letters = errors(tmp_path, "processing-failed")
    assert [letter["errorCode"] for letter in letters] == ["Lab.DeaggregationLimit"] * 2
    assert landed(tmp_path) == []


async def test_rows_without_their_partition_keys_go_to_the_error_prefix_alone(tmp_path):
    bad = [row(1, orgKey=None), row(2, metricKey=""), row(3, ts=5), row(4, orgKey={"a": 1}), b"{}"]
    async with firehose(tmp_path) as lab:
        await lab.put(b"\n".join([row(0), *bad, row(9, orgKey="acme")]))
    letters = errors(tmp_path, "metadata-extraction-failed")
    assert [base64.b64decode(letter["rawData"]) for letter in letters] == bad
    assert "orgKey" in letters[0]["errorMessage"]
    assert landed(tmp_path) == ["a:0", "a:9"]


@pytest.mark.parametrize("query", ["{k:.k,n:(.n+1)}", "{k:.k,n:(.n|.)}"])
async def test_any_jq_query_is_run_by_jq(tmp_path, query):
    config = StreamConfig(
        name="rows",
        prefix="q/k=!{partitionKeyFromQuery:k}/n=!{partitionKeyFromQuery:n}/",
        query=query,
        gzip=False,
        extension=".json",
    )
    async with firehose(tmp_path, config) as lab:
        await lab.put(b'{"k":"a/b","n":1}{"k":true,"n":1}{"k":"\\u0061","n":1}{"n":1}')
    n = 2 if "+" in query else 1
    folders = sorted(p.relative_to(tmp_path).parent.as_posix() for p in tmp_path.glob("q/**/*.json"))
    assert folders == [f"q/k=a/b/n={n}", f"q/k=a/n={n}", f"q/k=true/n={n}"]
    assert len(errors(tmp_path)) == 1


async def test_without_a_delimiter_rows_run_into_each_other(tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), delimiter=False)
    async with firehose(tmp_path, config) as lab:
        await lab.put(row(1) + b"\n" + row(2) + b"\n", row(3))
    assert list(objects(tmp_path).values()) == [row(1) + row(2) + row(3)]


async def test_without_deaggregation_a_record_is_a_row(tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), deaggregate=False, gzip=False)
    async with firehose(tmp_path, config) as lab:
        await lab.put(row(1), row(2) + row(3))
    assert [p.read_bytes() for p in tmp_path.glob("acme/**/*.json")] == [row(1) + b"\n"]
    assert len(errors(tmp_path)) == 1


async def test_without_partitions_the_hour_of_arrival_is_the_path(tmp_path):
    config = StreamConfig(name="rows", prefix="raw/", deaggregate=False)
    async with firehose(tmp_path, config) as lab:
        await lab.put(b"anything", b"\xff")
    (path,) = tmp_path.glob("raw/*/*/*/*/rows-1-*.gz")
    assert gzip.decompress(path.read_bytes()) == b"anything\n\xff\n"


async def test_one_partition_too_many_overflows_to_the_error_prefix(tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), active_partitions=2)
    async with firehose(tmp_path, config) as lab:
        await lab.put(*[row(n, metric=f"m{n % 3}") for n in range(6)])
        assert lab.active_partitions("rows") == 2
        await lab.flush()
        await lab.put(row(6, metric="m2"))
    assert sorted(landed(tmp_path)) == ["a:0", "a:1", "a:3", "a:4", "a:6"]
    letters = errors(tmp_path, "activePartitionExceeded")
    assert [json.loads(base64.b64decode(letter["rawData"]))["value"] for letter in letters] == [2, 5]


async def test_a_full_partition_is_written_at_once_and_the_others_wait(tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=64 * 1024, buffer_seconds=900)
    assert config.flush_bytes == 1024
    async with firehose(tmp_path, config) as lab:
        lab._ticker.cancel()  # the clock is sped up as well: only the size shall count here
        await lab.put(*[row(n) for n in range(12)], row(99, metric="Lonely"))
        await until(lambda: lab.counters.objects == 1)
        assert len(landed(tmp_path)) == lab.counters.rows < 12
        assert lab.active_partitions("rows") == 2
    assert sorted(landed(tmp_path)) == sorted([f"a:{n}" for n in range(12)] + ["a:99"])


async def test_an_old_partition_is_written_by_the_clock(tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=600)
    assert config.flush_seconds == 0.1
    async with firehose(tmp_path, config) as lab:
        await lab.put(row(1), b"no row")
        await until(lambda: lab.counters.rows == 1 and lab.counters.error_rows == 1)
        assert landed(tmp_path) == ["a:1"]


class Full(FolderStore):
    """A disk that is full until somebody frees space."""

    full = True

    async def put(self, key, body, *, gzip):
        if self.full:
            raise OSError(28, "No space left on device")
        await super().put(key, body, gzip=gzip)


async def test_a_store_that_fails_loses_nothing_and_slows_the_callers_down(tmp_path):
    store = Full(tmp_path)
    async with firehose(store, memory_bytes=1000) as lab:
        await lab.put(*[row(n) for n in range(20)])
        assert await error_of(lab.put(row(20))) == (503, "ServiceUnavailableException")
        with pytest.raises(SinkError, match="No space left"):
            await lab.flush()
        assert lab.counters.store_failures >= 2
        store.full = False
        await lab.put(row(20))
    assert sorted(landed(tmp_path)) == sorted(f"a:{n}" for n in range(21))


async def test_a_folder_store_stays_inside_its_root(tmp_path):
    root = tmp_path / "root"
    store = FolderStore(root)
    for key in ("../../out", "/abs", "a/../../b", "nul\0/x", "x" * 1000, "./y", "a//c"):
        await store.put(key, b"1", gzip=False)
    assert [p.name for p in tmp_path.iterdir()] == ["root"]
    assert len([p for p in root.rglob("*") if p.is_file()]) == 7


async def test_objects_go_to_any_s3_endpoint():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        s3 = {"endpoint_url": f"http://{host}:{port}", "aws_access_key_id": "t", "aws_secret_access_key": "t"}
        async with SESSION.client("s3", region_name="us-east-1", **s3) as client:
            await client.create_bucket(Bucket="landing")
            store = S3Store("landing", endpoint_url=s3["endpoint_url"], credentials=("t", "t"))
            async with firehose(store) as lab:
                await lab.put(row(1), row(2, metric="MemUsage"), b"no row")
            assert lab.counters.store_failures == 0
            listing = (await client.list_objects_v2(Bucket="landing"))["Contents"]
            keys = sorted(o["Key"] for o in listing)
            assert [k.split("/rows-1-")[0] for k in keys[:2]] == [f"acme/{m}/{HOUR}" for m in ("CpuUsage", "MemUsage")]
            assert keys[2].startswith("errors/metadata-extraction-failed/")
            found = await client.get_object(Bucket="landing", Key=keys[0])
            assert found["ContentEncoding"] == "gzip"
            assert gzip.decompress(await found["Body"].read()) == row(1) + b"\n"
            await store.put("large", b"x" * 2 * MIB, gzip=False)
            assert (await client.head_object(Bucket="landing", Key="large"))["ContentLength"] == 2 * MIB
            await store.close()
            nowhere = S3Store("nowhere", endpoint_url=s3["endpoint_url"], credentials=("t", "t"))
            with pytest.raises(SinkError, match="NoSuchBucket"):
                async with firehose(nowhere) as lab:
                    await lab.put(row(1))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": "{a:.a,b:.b}"}, "query may not have keys that the prefix does not use: b"),
        ({"query": "{c:.c}"}, "does not use: c"),
        ({"prefix": "!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:z}/"}, "the query does not give: z"),
        ({"query": "", "deaggregate": False}, "the query does not give: a"),
        ({"query": ".a"}, "must be one object"),
        ({"query": "{a:.a}|{a:.b}"}, "must be one object"),
        ({"error_prefix": ""}, "error_prefix must be set"),
        ({"error_prefix": "errors/"}, "error_prefix must be set"),
        ({"error_prefix": "e/!{firehose:error-output-type}/!{partitionKeyFromQuery:a}/"}, "may not use partition keys"),
        ({"prefix": "!{partitionKeyFromQuery:a}/!{firehose:error-output-type}/"}, "prefix may not use"),
        ({"prefix": "!{partitionKeyFromQuery:a}/!{what:x}/"}, r"expression !\{what:x\}"),
        ({"prefix": "!{partitionKeyFromQuery:a}/!{timestamp:EEE}/"}, "in timestamps, not EEE"),
        ({"prefix": "!{partitionKeyFromQuery:a}/!{broken"}, "does not end"),
        ({"prefix": "!{partitionKeyFromQuery:a}" + "x" * 1024}, "Firehose takes 1024"),
        ({"buffer_bytes": 64 * MIB - 1}, "buffer_bytes must be 67108864"),
        ({"buffer_bytes": 128 * MIB + 1}, "buffer_bytes must be"),
        ({"buffer_seconds": 59}, "buffer_seconds must be 60 to 900"),
        ({"buffer_seconds": 901}, "buffer_seconds must be 60 to 900"),
        ({"name": "a b"}, "name must match"),
        ({"extension": "json"}, "extension must match"),
        ({"speed_up": 0}, "speed_up"),
    ],
)
def test_a_stream_that_the_service_would_refuse_is_refused(changes, said):
    given = {"name": "s", "prefix": "!{partitionKeyFromQuery:a}/", "query": "{a:.a}"}
    StreamConfig(**given)
    with pytest.raises(ConfigError, match=said):
        StreamConfig(**(given | changes))


def test_a_query_that_jq_refuses_and_a_name_given_twice_are_refused(tmp_path):
    broken = StreamConfig(name="s", prefix="!{partitionKeyFromQuery:a}/", query="{a:.a.}")
    with pytest.raises(ConfigError, match="jq refuses"):
        FirehoseLab(broken, tmp_path)
    with pytest.raises(ConfigError, match="same name"):
        FirehoseLab([STREAM, STREAM], tmp_path)


def test_prefixes_know_java_dates_and_random_strings():
    from datetime import UTC, datetime

    from lmstream.lab.firehose_prefix import parse_prefix, query_fields, query_keys

    when = datetime(2024, 5, 9, 7, 3, 2, tzinfo=UTC)
    text = "x%d/!{timestamp:yyyy-MM-dd'T'HH:mm:ss}/!{firehose:random-string}/"
    assert parse_prefix("p", text).render(when)[:24] == "x%d/2024-05-09T07:03:02/"
    assert len(parse_prefix("p", text).render(when)) == 24 + 11 + 1
    assert query_keys('{a, "b.c": (.x|{d:1,e:2}), c:.y["p,q"]}') == ("a", "b.c", "c")
    assert query_fields("{a:.x[0:4],b:.x[5:7], c : .y ,d}") == ("x", "y", "d")
    assert query_fields("{a:.x.y}") is None


class Picky(FolderStore):
    """Takes the objects of some partitions only."""

    async def put(self, key, body, *, gzip):
        if "MemUsage" in key:
            raise OSError(13, "Permission denied")
        await super().put(key, body, gzip=gzip)


async def test_one_object_refused_among_others_is_not_overlooked(tmp_path):
    with pytest.raises(SinkError, match="Permission denied"):
        async with firehose(Picky(tmp_path)) as lab:
            await lab.put(*[row(n, metric=m) for n, m in enumerate(["CpuUsage", "MemUsage", "Status", "ThreadCnt"])])
    assert lab.counters.rows == 3
    assert lab.counters.store_failures == 1


async def test_everything_that_was_accepted_lands_under_load_and_failing_writes(tmp_path):
    class Flaky(FolderStore):
        calls = 0

        async def put(self, key, body, *, gzip):
            Flaky.calls += 1
            if Flaky.calls % 3 == 0:
                raise OSError(5, "Input/output error")
            await super().put(key, body, gzip=gzip)

    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=6000)
    async with firehose(Flaky(tmp_path), config) as lab:
        packs = [b"\n".join(row(n, metric=f"m{n % 7}") for n in range(at, at + 100)) for at in range(0, 5000, 100)]
        await asyncio.gather(*(lab.put(*packs[n : n + 5]) for n in range(0, 50, 5)))
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(SinkError):
                    await lab.flush()
                    break
    assert sorted(landed(tmp_path)) == sorted(f"a:{n}" for n in range(5000))
    assert lab.counters.store_failures > 0
    assert list(tmp_path.rglob("*.part")) == []
