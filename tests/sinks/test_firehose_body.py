"""The bodies that the Firehose sink puts into the SDK's requests are those that the SDK would make."""

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from lmstream.aws import firehose_body
from lmstream.hosts.awslambda.clients import FirehoseClient
from lmstream.lab.firehose import FirehoseLab
from lmstream.lab.firehose_config import StreamConfig
from lmstream.model import Pack
from lmstream.settings import Settings as EngineSettings
from lmstream.sinks import _firehose_client
from lmstream.sinks._firehose_client import Body
from lmstream.sinks.firehose import Firehose, Settings

RECORDS = st.lists(st.binary(max_size=300).map(lambda data: {"Data": data}), min_size=1, max_size=5)


@functools.cache
def sdk():
    return get_session().create_client(
        "firehose", region_name="us-west-2", aws_access_key_id="lab", aws_secret_access_key="lab"
    )


def sdk_body(stream: str, records: list[dict[str, bytes]]) -> bytes:
    shape = sdk().meta.service_model.operation_model("PutRecordBatch")
    request = sdk()._serializer.serialize_to_request({"DeliveryStreamName": stream, "Records": records}, shape)
    return request["body"]


@pytest.mark.parametrize("records", [[b"x"], [b""], [b"a\n", b"\0\xff" * 1000, "é\n".encode()]])
def test_a_body_is_byte_for_byte_the_sdks(records):
    wanted = [{"Data": data} for data in records]
    assert firehose_body.body("lm-rows_1.x", wanted) == sdk_body("lm-rows_1.x", wanted)


@given(st.lists(st.integers(0, 3 * firehose_body.STEP), min_size=1, max_size=3))
def test_a_body_comes_in_small_pieces_that_make_the_whole(sizes):
    records = [{"Data": bytes(size)} for size in sizes]
    pieces = list(firehose_body.pieces("rows", records))
    assert b"".join(pieces) == sdk_body("rows", records) == firehose_body.body("rows", records)
    assert max(map(len, pieces)) <= firehose_body.STEP * 4 // 3
    assert sum(map(len, pieces)) == firehose_body.size("rows", records)


def test_what_is_signed_is_what_is_sent():
    records = [{"Data": bytes(range(256)) * 1000}, {"Data": b"x"}]
    body, whole = Body("rows", records), firehose_body.body("rows", records)
    request = AWSRequest("POST", "http://127.0.0.1/", data=body)
    signer = SigV4Auth(Credentials("lab", "lab"), "firehose", "us-west-2")
    for _ in range(2):  # it is signed anew when it is sent again
        assert signer.payload(request) == hashlib.sha256(whole).hexdigest()
    assert request.prepare().headers["Content-Length"] == str(len(whole)) == str(body.size)
    sent = []

    class Writer:
        async def write(self, piece):
            sent.append(bytes(piece))

    asyncio.run(body.write_with_length(Writer(), None))
    assert b"".join(sent) == whole
    with pytest.raises(ValueError, match="cannot be sent as 7"):
        asyncio.run(body.write_with_length(Writer(), 7))


@given(records=RECORDS)
def test_a_body_holds_each_record_in_order(records):
    found = json.loads(firehose_body.body("rows", records))
    assert found["DeliveryStreamName"] == "rows"
    assert [base64.b64decode(one["Data"], validate=True) for one in found["Records"]] == [r["Data"] for r in records]


@given(data=st.binary(max_size=1000))
def test_without_pybase64_msgspec_writes_the_same(data):
    assert firehose_body.by_msgspec(data) == base64.b64encode(data)


async def test_requests_side_by_side_carry_their_own_bodies(tmp_path, monkeypatch):
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
    import weakref

    made = []

    class Seen(Body):
        def __init__(self, *of):
            super().__init__(*of)
            made.append(weakref.ref(self))

    monkeypatch.setattr(_firehose_client, "Body", Seen)
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
            assert [body() for body in made] == [None]  # timers of the call are still in the loop
        finally:
            gc.enable()
            await sink.close()


@pytest.fixture
def received():
    """A server that takes anything, and what it got."""
    bodies = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            bodies.append((self.headers["Content-Type"], data))
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("protocol", ["json", "smithy-rpc-v2-cbor"])
@pytest.mark.parametrize("host", ["function", "container"])
async def test_an_sdk_of_another_protocol_makes_its_own_bodies(received, tmp_path, monkeypatch, protocol, host):
    """Lambda's runtime has an SDK that AWS renews: here its model of Firehose knows another protocol only."""
    model = get_session().get_component("data_loader").load_service_model("firehose", "service-2")
    changed = {**model, "metadata": {**model["metadata"], "protocol": protocol, "protocols": [protocol]}}
    folder = tmp_path / "firehose/2015-08-04"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps(changed))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    url, bodies = received
    request = {"DeliveryStreamName": "rows", "Records": [{"Data": b"one row\n"}]}
    settings = Settings(stream="rows", region="us-west-2", endpoint_url=url)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep the model of a client before
    if host == "function":
        client = FirehoseClient(settings)
        with contextlib.closing(client), pytest.raises(ClientError):
            await client.put_record_batch(**request)
    else:
        config = {"retries": {"total_max_attempts": 1}, "parameter_validation": False}
        async with _firehose_client.opened(region="us-west-2", endpoint_url=url, config=config) as client:
            with pytest.raises(ClientError):
                await client.put_record_batch(**request)
    ((content, data),) = bodies
    if protocol == "json":
        assert content == "application/x-amz-json-1.1"
        assert data == firehose_body.body("rows", request["Records"])
    else:
        assert content == "application/cbor"
        assert b"one row\n" in data  # as bytes, not base64
        assert b"rows" in data
