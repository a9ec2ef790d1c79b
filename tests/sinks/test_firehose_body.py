"""The bodies that the Firehose sink puts into the SDK's requests are those that the SDK would make."""

import base64
import json

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from lmstream.lab.firehose import FirehoseLab
from lmstream.lab.firehose_config import StreamConfig
from lmstream.model import Pack
from lmstream.settings import Settings as EngineSettings
from lmstream.sinks import _firehose_body
from lmstream.sinks.firehose import Firehose, Settings

RECORDS = st.lists(st.binary(max_size=300).map(lambda data: {"Data": data}), min_size=1, max_size=5)


def sdk_body(stream: str, records: list[dict[str, bytes]]) -> bytes:
    client = get_session().create_client(
        "firehose", region_name="us-west-2", aws_access_key_id="lab", aws_secret_access_key="lab"
    )
    shape = client.meta.service_model.operation_model("PutRecordBatch")
    request = client._serializer.serialize_to_request({"DeliveryStreamName": stream, "Records": records}, shape)
    return request["body"]


@pytest.mark.parametrize("records", [[b"x"], [b""], [b"a\n", b"\0\xff" * 1000, "é\n".encode()]])
def test_a_body_is_byte_for_byte_the_sdks(records):
    wanted = [{"Data": data} for data in records]
    assert _firehose_body.body("lm-rows_1.x", wanted) == sdk_body("lm-rows_1.x", wanted)


@given(records=RECORDS)
def test_a_body_holds_each_record_in_order(records):
    found = json.loads(_firehose_body.body("rows", records))
    assert found["DeliveryStreamName"] == "rows"
    assert [base64.b64decode(one["Data"], validate=True) for one in found["Records"]] == [r["Data"] for r in records]


@given(data=st.binary(max_size=1000))
def test_without_pybase64_msgspec_writes_the_same(data):
    assert _firehose_body.by_msgspec(data) == base64.b64encode(data)


async def test_requests_side_by_side_carry_their_own_bodies(tmp_path, monkeypatch):
    import asyncio

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    config = StreamConfig.for_settings("rows", EngineSettings(org_id="acme"))
    async with FirehoseLab(config, tmp_path) as lab:
        sink = Firehose(Settings(stream="rows", region="us-west-2", endpoint_url=lab.endpoint_url))
        lines = [
            b'{"orgKey":"acme","metricKey":"m%d","ts":"2026-11-23T01:00:00.000Z"}\n' % number for number in range(40)
        ]
        answers = await asyncio.gather(*(sink.write([Pack(line, 1, "", ((0, 1),))]) for line in lines))
        assert answers == [[None]] * 40
        await sink.close()
    import gzip

    landed = [gzip.decompress(path.read_bytes()) for path in tmp_path.rglob("*.gz")]
    assert sorted(b"".join(landed).splitlines()) == sorted(line.strip() for line in lines)


@pytest.mark.parametrize("outage", [False, True])
async def test_nothing_keeps_a_body_once_its_request_is_over(tmp_path, monkeypatch, outage):
    import gc
    import sys

    made = []
    body = _firehose_body.body
    monkeypatch.setattr(_firehose_body, "body", lambda *of: made.append(body(*of)) or made[-1])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    config = StreamConfig.for_settings("rows", EngineSettings(org_id="acme"))
    line = b'{"orgKey":"acme","metricKey":"m","ts":"2026-11-23T01:00:00.000Z"}\n'
    async with FirehoseLab(config, tmp_path) as lab:
        lab.outage = outage
        sink = Firehose(Settings(stream="rows", region="us-west-2", endpoint_url=lab.endpoint_url))
        gc.disable()  # collecting cycles comes late: a body must not wait for it
        try:
            (answer,) = await sink.write([Pack(line, 1, "", ((0, 1),))])
            assert (answer is not None) is outage
            # As many as one that is in a list and nowhere else; timers of the call are still in the loop.
            references = sys.getrefcount(made[0])
            lonely = [bytes(bytearray(9))]
            expected = sys.getrefcount(lonely[0])
            assert references == expected
        finally:
            gc.enable()
            await sink.close()
