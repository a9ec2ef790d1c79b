"""The Firehose sink against the strict Firehose of the lab: what counts as delivered, and what each error means."""

import asyncio
import builtins

import botocore.exceptions
import botocore.parsers
import pytest

from lmstream.aws.asking import PASSING
from lmstream.errors import ConfigError, SinkError
from lmstream.lab import Fault, FirehoseLab, StreamConfig
from lmstream.model import Kind, Pack
from lmstream.settings import Settings as EngineSettings
from lmstream.sinks._firehose_errors import ERRORS, classify, failure_of
from lmstream.sinks.firehose import LIMITS, Firehose, Settings, judge

LINE = (
    b'{"rowId":"%032d:%d","orgId":"acme","orgKey":"acme","metricKey":"CpuUsage","deviceId":"1","datasource":"d",'
    b'"metric":"CpuUsage","type":"gauge","ts":"2024-05-09T14:05:58.360Z","tsUnixMs":1715263558360,"value":1}\n'
)
OK = {"RecordId": "1"}


def packs(count, start=0):
    return [Pack(LINE % (n, n), 1) for n in range(start, start + count)]


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
async def lab(tmp_path):
    async with FirehoseLab(
        StreamConfig.for_settings("rows", EngineSettings(org_id="acme")), tmp_path / "landed"
    ) as made:
        yield made


@pytest.fixture
async def sink(lab):
    made = Firehose(settings(lab))
    yield made
    await made.close()
    await made.close()


def settings(lab, **more):
    return Settings(
        **{"stream": "rows", "region": "us-west-2", "endpoint_url": lab.endpoint_url, "read_timeout": 2, **more}
    )


async def test_delivered_is_what_has_an_id(lab, sink):
    assert await sink.write(packs(500)) == [None] * 500
    assert await sink.write([]) == []
    lab.faults.append(Fault.partial(1, 3))
    verdicts = await sink.write(packs(4))
    assert [v and (v.kind, v.code) for v in verdicts] == [None, (Kind.RETRYABLE, "ServiceUnavailableException")] * 2
    assert lab.counters.calls == 2
    assert (await sink.describe())["DeliveryStreamName"] == "rows"


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Fault.unavailable(), Kind.RETRYABLE, "ServiceUnavailableException"),
        (Fault.throttled(), Kind.RETRYABLE, "ThrottlingException"),
        (Fault.server_error(), Kind.RETRYABLE, "InternalFailure"),
        (Fault.reset(), Kind.RETRYABLE, "unknown_outcome"),
        (Fault.accept_then_reset(), Kind.RETRYABLE, "unknown_outcome"),
        (Fault.slow(1), Kind.RETRYABLE, "unknown_outcome"),
        (Fault.html(), Kind.RETRYABLE, "unknown_outcome"),
        (Fault.short_answer(), Kind.RETRYABLE, "unknown_outcome"),
        (Fault(status=502, code=""), Kind.RETRYABLE, None),
        (Fault.expired(), Kind.RETRYABLE, "ExpiredTokenException"),
        (Fault.denied(), Kind.FATAL_CONFIG, "AccessDeniedException"),
        (Fault.missing(), Kind.FATAL_CONFIG, "ResourceNotFoundException"),
        (Fault.kms(), Kind.FATAL_CONFIG, "InvalidKMSResourceException"),
        (Fault(status=400, code="InvalidArgumentException"), Kind.RETRYABLE, "InvalidArgumentException"),
    ],
)
async def test_each_fault_is_one_call_and_one_verdict_for_all(lab, fault, kind, code):
    sink = Firehose(settings(lab, read_timeout=0.3))
    lab.faults.append(fault)
    verdicts = await sink.write(packs(3))
    assert lab.counters.calls == 1  # the SDK's own retries are off
    assert {v.kind for v in verdicts} == {kind}
    assert code in (None, verdicts[0].code)
    assert await sink.write(packs(1)) == [None]  # the same client goes on
    await sink.close()


async def test_a_request_of_one_refused_pack_is_permanent(sink):
    [verdict] = await sink.write([Pack(b"x" * (LIMITS.pack_bytes + 1), 1)])
    assert verdict.kind is Kind.PERMANENT
    several = await sink.write([Pack(b"x" * (LIMITS.pack_bytes + 1), 1), *packs(1)])
    assert [v.kind for v in several] == [Kind.RETRYABLE] * 2
    assert {v.code for v in several} == {verdict.code}


@pytest.mark.parametrize("kind", ["KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"])
async def test_a_stream_with_a_source_of_its_own_is_named_before_a_start_and_its_refusals_are_no_verdict(
    tmp_path, kind
):
    config = StreamConfig.for_settings("rows", EngineSettings(org_id="acme"), type=kind)
    async with FirehoseLab(config, tmp_path / "landed") as fed:
        sink = Firehose(settings(fed))
        with pytest.raises(SinkError, match=f"is of type {kind}") as refused:
            await sink.describe()
        assert (refused.value.reason, refused.value.code) == ("sink.refused", "LMS-4010")
        [verdict] = await sink.write(packs(1))
        assert (verdict.kind, verdict.code, verdict.unsure) == (Kind.PERMANENT, "InvalidArgumentException", True)
        await sink.close()


@pytest.mark.parametrize(
    ("message", "unsure"),
    [
        ("This operation is not permitted on MSKAsSource delivery stream type.", True),
        ("", True),
        ("The request was rejected", True),
        (
            "1 validation error detected: Value 'x y' at 'deliveryStreamName' failed to satisfy constraint: pattern",
            True,
        ),
        ("1 validation error detected: Value at 'records' failed to satisfy constraint: Member must not be null", True),
        (
            (
                "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1045710 cap=1045710]' at "
                "'records.1.member.data' failed to satisfy constraint: Member must have length less than or equal to 1024000"
            ),
            False,
        ),
        ("Records size exceeds 4 MB limit", False),
    ],
)
async def test_only_words_about_the_data_make_a_refusal_a_verdict(lab, sink, message, unsure):
    lab.faults.append(Fault(status=400, code="InvalidArgumentException", message=message))
    [verdict] = await sink.write(packs(1))
    assert (verdict.kind, verdict.unsure) == (Kind.PERMANENT, unsure)
    [inside] = judge(
        {
            "FailedPutCount": 1,
            "RequestResponses": [{"ErrorCode": "InvalidArgumentException", "ErrorMessage": message}],
        },
        1,
    )
    assert (inside.kind, inside.unsure) == (Kind.PERMANENT, unsure)


BUSY = [
    Fault.throttled(),
    Fault.unavailable(),
    Fault.server_error(),
    Fault(status=400, code="LimitExceededException", message="Rate exceeded"),
    Fault(status=502, code="", message=""),
]


@pytest.mark.parametrize("fault", BUSY, ids=lambda f: f.code or str(f.status))
async def test_a_service_that_is_busy_before_a_start_is_asked_again_and_has_answered(lab, sink, fault, monkeypatch):
    monkeypatch.setattr("lmstream.aws.asking.WAITS", (0.01, 0.01, 0.01))
    lab.describe_faults.extend([fault] * 3)
    assert (await sink.describe())["DeliveryStreamName"] == "rows"
    lab.describe_faults.extend([fault] * 4)
    with pytest.raises(SinkError) as busy:
        await sink.describe()
    assert (busy.value.reason, busy.value.code) == ("sink.busy", "LMS-4012")
    assert not lab.describe_faults


async def test_the_limits_are_those_the_service_enforces(sink):
    assert await sink.write([Pack(b"{" + b" " * (LIMITS.pack_bytes - 3) + b"}\n", 1)]) == [None]
    assert (await sink.write(packs(LIMITS.request_packs + 1)))[0].code != "unknown_outcome"


CLOCK = [
    ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z"),
    ("InvalidSignatureException", "Signature not yet current: 20260101T001000Z is still later than 20260101T000500Z"),
    (
        "SignatureDoesNotMatch",
        "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z (... - 5 min.)",
    ),
    ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ("RequestExpired", "Request has expired."),
]


@pytest.mark.parametrize(("code", "message"), CLOCK)
async def test_a_signature_whose_time_is_off_is_sent_again_at_once_and_told_as_a_clock(lab, sink, code, message):
    lab.faults.append(Fault(status=400, code=code, message=message))
    [failure] = await sink.write(packs(1))
    assert (failure.kind, failure.code) == (Kind.RETRYABLE, "sink.clock")
    assert message in failure.message
    assert await sink.write(packs(1)) == [None]


async def test_a_start_asks_again_after_an_expired_signature_and_then_says_clock(lab, sink, monkeypatch):
    monkeypatch.setattr("lmstream.aws.asking.WAITS", (0.01, 0.01))
    old = Fault(status=400, code="InvalidSignatureException", message="Signature expired: it is now earlier than then")
    lab.describe_faults.append(old)
    assert (await sink.describe())["DeliveryStreamStatus"] == "ACTIVE"
    lab.describe_faults += [old] * 3
    with pytest.raises(SinkError) as told:
        await sink.describe()
    assert (told.value.reason, told.value.code) == ("sink.clock", "LMS-4011")
    assert told.value.reason in PASSING  # a run under way would wait, and so a start goes on


async def test_a_wrong_key_is_still_a_matter_of_the_operator(lab, sink):
    message = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Key"
    lab.faults.append(Fault(status=400, code="InvalidSignatureException", message=message))
    [failure] = await sink.write(packs(1))
    assert (failure.kind, failure.code) == (Kind.FATAL_CONFIG, "InvalidSignatureException")


async def test_nobody_there_wrong_stream_and_no_credentials(lab, unused_tcp_port, monkeypatch):
    nobody = Firehose(settings(lab, endpoint_url=f"http://127.0.0.1:{unused_tcp_port}"))
    [refused] = await nobody.write(packs(1))
    assert (refused.kind, refused.code) == (Kind.RETRYABLE, "EndpointConnectionError")  # known not to be taken
    with pytest.raises(SinkError) as unreachable:
        await nobody.describe()
    missing = Firehose(settings(lab, stream="other"))
    assert (await missing.write(packs(1)))[0].kind is Kind.FATAL_CONFIG
    with pytest.raises(SinkError) as gone:
        await missing.describe()
    odd = Firehose(settings(lab, endpoint_url="not an address"))
    assert (await odd.write(packs(1)))[0].kind is Kind.FATAL_CONFIG
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    nameless = Firehose(settings(lab))
    assert (await nameless.write(packs(1)))[0].code == "NoCredentialsError"
    with pytest.raises(ConfigError) as denied:
        await nameless.describe()
    assert [e.value.reason for e in (unreachable, gone, denied)] == [
        "sink.unreachable",
        "sink.missing",
        "place.credentials",
    ]
    for each in (nobody, missing, odd, nameless):
        await each.close()


async def test_a_stream_without_a_region_is_a_wrong_configuration(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    sink = Firehose(Settings(stream="rows"))
    with pytest.raises(ConfigError, match=r"sink\.region '': You must specify a region"):
        await sink.describe()
    await sink.close()


async def test_a_call_that_never_ends_is_ended():
    class Hanging:
        async def put_record_batch(self, **_request):
            await asyncio.Event().wait()

        async def describe_delivery_stream(self, **_request):
            return {"DeliveryStreamDescription": {"DeliveryStreamStatus": "DELETING"}}

    sink = Firehose(Settings(stream="rows", call_timeout=0.05), client=Hanging())
    [verdict] = await sink.write(packs(1))
    assert (verdict.kind, verdict.code) == (Kind.RETRYABLE, "unknown_outcome")
    with pytest.raises(SinkError, match="DELETING"):
        await sink.describe()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"ResponseMetadata": {"HTTPStatusCode": 200}},
        {"FailedPutCount": "0", "RequestResponses": [OK, OK]},
        {"FailedPutCount": False, "RequestResponses": [OK, OK]},
        {"FailedPutCount": 0},
        {"FailedPutCount": 0, "RequestResponses": None},
        {"FailedPutCount": 0, "RequestResponses": [OK]},
        {"FailedPutCount": 0, "RequestResponses": [OK, OK, OK]},
        {"FailedPutCount": 0, "RequestResponses": [{}, {"RecordId": ""}]},
        {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1", "ErrorCode": "X"}, None]},
        {"FailedPutCount": 1, "RequestResponses": [OK, OK]},
    ],
)
def test_an_answer_that_is_not_the_services_delivers_nothing(answer):
    assert {(v.kind, v.code) for v in judge(answer, 2)} == {(Kind.RETRYABLE, "unknown_outcome")}


def test_a_part_that_is_odd_costs_only_itself():
    verdicts = judge({"FailedPutCount": 1, "RequestResponses": [OK, {"ErrorCode": "InternalFailure"}, {}]}, 3)
    assert [v and v.code for v in verdicts] == [None, "InternalFailure", "unknown_outcome"]


def test_codes_without_a_line_of_their_own_are_judged_by_status():
    assert classify("ThrottledException") is Kind.RETRYABLE
    assert classify("AccessDenied") is Kind.FATAL_CONFIG
    assert classify("UnrecognizedClientException", 400) is Kind.FATAL_CONFIG
    assert classify("SomethingNew", 400) is Kind.RETRYABLE  # says nothing about the rows
    assert classify("SomethingNew", 403) is Kind.FATAL_CONFIG
    assert classify("SomethingNew", 429) is Kind.RETRYABLE
    assert classify("SomethingNew", 503) is Kind.RETRYABLE
    assert classify("SomethingNew") is Kind.RETRYABLE


def test_every_exception_in_the_table_exists():
    raised = [
        name
        for name in ERRORS
        if name.endswith("Error") and name not in {"InternalError", "InternalServerError", "ValidationError"}
    ]
    known = vars(botocore.exceptions) | vars(botocore.parsers) | vars(builtins)
    assert [name for name in raised if name not in known] == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), Kind.RETRYABLE),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), Kind.RETRYABLE),
        (botocore.exceptions.CredentialRetrievalError(provider="x", error_msg="500"), Kind.RETRYABLE),
        (botocore.exceptions.NoRegionError(), Kind.FATAL_CONFIG),
        (botocore.exceptions.ProfileNotFound(profile="x"), Kind.FATAL_CONFIG),
        (ValueError("Invalid endpoint: x"), Kind.FATAL_CONFIG),
        (ValueError("Expecting value: line 1"), Kind.RETRYABLE),
        (ConnectionResetError(), Kind.RETRYABLE),
        (RuntimeError("whatever"), Kind.RETRYABLE),
        (botocore.exceptions.ClientError({"Error": {"Code": "500"}}, "Put"), Kind.RETRYABLE),
        (
            botocore.exceptions.ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "Put"),
            Kind.RETRYABLE,
        ),
    ],
)
def test_what_a_call_may_raise(error, kind):
    assert failure_of(error).kind is kind
