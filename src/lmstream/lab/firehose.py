"""A strict Amazon Data Firehose on 127.0.0.1: the service's protocol, limits and errors, and faults on demand.

Speaks AWS JSON 1.1 to any AWS SDK: PutRecordBatch, PutRecord, DescribeDeliveryStream. Limits are those of the API
reference (docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html).
"""

import asyncio
import contextlib
import itertools
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from lmstream.delivery.tasks import end
from lmstream.errors import ConfigError, SinkError
from lmstream.lab.faults import Fault
from lmstream.lab.firehose_config import StreamConfig
from lmstream.lab.firehose_stream import Counters, DeliveryStream
from lmstream.lab.firehose_wire import ACCOUNT, REGION, RefusedError, batch, constraint, data_of, describe, parse, reply
from lmstream.lab.part import HOST, Part, reset
from lmstream.lab.quota import Quota
from lmstream.lab.stores import FolderStore, ObjectStore
from lmstream.settings import MIB

BODY_BYTES = 8 * MIB
"""Bytes of an HTTP body that are read at all."""
MEMORY_BYTES = 256 * MIB

_TARGET = "Firehose_20150804."
_SIGNATURE = "AWS4-HMAC-SHA256 "
_OPERATIONS = {"PutRecordBatch", "PutRecord", "DescribeDeliveryStream"}


class FirehoseLab(Part):
    """`async with FirehoseLab(StreamConfig.for_settings("rows", settings), folder) as lab`: use `lab.endpoint_url`.

    `store` is a folder or an ObjectStore; leaving the context writes what still waits. Memory is bounded by
    `memory_bytes` per stream: past it calls wait for the store, and are told to slow down if that does not help.
    """

    def __init__(
        self,
        streams: StreamConfig | Sequence[StreamConfig],
        store: ObjectStore | Path | str,
        *,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        configs = [streams] if isinstance(streams, StreamConfig) else list(streams)
        self.counters: Counters = Counters()
        self.faults: deque[Fault] = deque()
        """The plan: each PutRecordBatch call uses up the first entry; with none left the service is well."""
        self.describe_faults: deque[Fault] = deque()
        """The same for DescribeDeliveryStream: refusals only."""
        self.outage = False
        """While True every call is answered with 503."""
        self.quota: Quota | None = None
        """What a stream takes a second; None takes everything. Past it records fail inside a 200, or the whole call."""
        self.valid_key: Callable[[str], bool] | None = None
        """Asked about the access key id of each call's signature; without True the call is ExpiredTokenException. None
        takes every key."""
        self.port: int = 0
        """Where it listens; set before the start for a certain one."""
        self._store = FolderStore(store) if isinstance(store, Path | str) else store
        self._streams = {c.name: DeliveryStream(c, self._store, self.counters) for c in configs}
        if len(self._streams) < len(configs):
            raise ConfigError("config.invalid", "two delivery streams of the lab have the same name")
        self._memory = memory_bytes
        self._ids = (f"{uuid.uuid4().hex}{n:012d}" for n in itertools.count())
        self._runner: web.AppRunner | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def endpoint_url(self) -> str:
        """For the SDK's endpoint_url."""
        return f"http://{HOST}:{self.port}"

    @property
    def client_options(self) -> dict[str, str]:
        """Keyword arguments for client("firehose", ...) of boto3 or aioboto3: endpoint, region, made-up keys."""
        made_up = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab"}
        return {"endpoint_url": self.endpoint_url, "region_name": REGION, **made_up}

    def active_partitions(self, stream: str) -> int:
        """Partitions of a stream with rows that wait."""
        return self._streams[stream].active_partitions

    async def start(self) -> None:
        """Listen on a free port, or on `port` where it is set."""
        application = web.Application(client_max_size=BODY_BYTES)
        application.router.add_post("/", self._answer)
        runner = self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        try:
            await runner.setup()
            await web.TCPSite(runner, HOST, self.port).start()
        except OSError as e:
            await self.close()
            raise SinkError("sink.unreachable", f"the lab's Firehose cannot listen: {e}") from e
        self.port = runner.addresses[0][1]
        self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        pause = min([0.5, *(s.config.flush_seconds / 4 for s in self._streams.values())])
        while True:
            await asyncio.sleep(max(pause, 0.01))
            for stream in self._streams.values():
                stream.start_due()

    async def flush(self) -> None:
        """Write all that waits, now. SinkError when the store does not take it; it then waits on."""
        for stream in self._streams.values():
            await stream.flush()

    async def close(self) -> None:
        """Stop answering, write what waits, close the store. Safe to call twice."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            await end(ticker, 1)
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        try:
            await self.flush()
        finally:
            await self._store.close()

    async def _answer(self, request: web.Request) -> web.Response:
        """Answer one HTTP request."""
        try:
            return await self._dispatch(request)
        except RefusedError as e:
            self.counters.refused_calls += 1
            return reply({"__type": e.code, "message": e.message}, e.status)

    async def _dispatch(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as e:
            raise RefusedError(413, "RequestEntityTooLargeException", f"body over {BODY_BYTES} bytes") from e
        target = request.headers.get("X-Amz-Target", "")
        operation = target.removeprefix(_TARGET)
        if not target.startswith(_TARGET) or operation not in _OPERATIONS:
            raise RefusedError(400, "UnknownOperationException", f"the lab does not know {target!r}")
        if operation in {"PutRecordBatch", "PutRecord"}:
            self.counters.calls += 1
        if self.outage:
            raise RefusedError(503, "ServiceUnavailableException", "Slow down.")
        signature = request.headers.get("Authorization", "")
        if not signature.startswith(_SIGNATURE):
            raise RefusedError(400, "MissingAuthenticationTokenException", "Missing Authentication Token")
        key = signature.removeprefix(_SIGNATURE).removeprefix("Credential=").partition("/")[0]
        if self.valid_key is not None and not self.valid_key(key):
            raise RefusedError(400, (expired := Fault.expired()).code, expired.message)
        if operation == "PutRecordBatch":
            return await self._put_batch(request, body)
        put = parse(body)
        stream = self._stream(put.delivery_stream_name)
        if operation == "PutRecord":
            _direct(stream)
            data = data_of(put.record, "record")
            await self._make_room(stream)
            stream.take(data)
            return reply({"RecordId": next(self._ids), "Encrypted": False})
        if self.describe_faults and (fault := self.describe_faults.popleft()).status:
            raise RefusedError(fault.status, fault.code, fault.message)
        return reply({"DeliveryStreamDescription": describe(stream)})

    async def _put_batch(self, request: web.Request, body: bytes) -> web.Response:
        fault = self.faults.popleft() if self.faults else Fault()
        if fault.latency:
            await asyncio.sleep(fault.latency)
        if fault.cut == "before":
            return self._cut(request)
        if fault.body is not None:
            self.counters.refused_calls += 1
            return web.Response(body=fault.body, content_type="text/html")
        if fault.status:
            raise RefusedError(fault.status, fault.code, fault.message)
        put = parse(body)
        stream = self._stream(put.delivery_stream_name)
        records = batch(put)
        _direct(stream)
        await self._make_room(stream)
        refused = fault.failing(len(records))
        if self.quota is not None:
            refused |= self.quota.over([0 if n in refused else len(data) for n, data in enumerate(records)])
            if len(refused) == len(records):
                raise RefusedError(503, "ServiceUnavailableException", "Slow down.")
        answers: list[dict[str, str]] = []
        for n, data in enumerate(records[: max(0, len(records) - fault.drop)]):
            if n in refused:
                said = "Slow down." if fault.fail_code == "ServiceUnavailableException" else "Internal service failure."
                answers.append({"ErrorCode": fault.fail_code, "ErrorMessage": said})
            else:
                stream.take(data)
                answers.append({"RecordId": next(self._ids)})
        failed = sum("ErrorCode" in a for a in answers)
        self.counters.failed_records += failed
        if fault.cut == "after":
            return self._cut(request, taken=True)
        return reply({"FailedPutCount": failed, "Encrypted": False, "RequestResponses": answers})

    def _cut(self, request: web.Request, *, taken: bool = False) -> web.Response:
        """Reset the connection. The response is for aiohttp, which finds nobody to send it to."""
        self.counters.refused_calls += not taken
        if request.transport is not None:
            reset(request.transport)
        return web.Response(status=500)

    async def _make_room(self, stream: DeliveryStream) -> None:
        if stream.held > self._memory:
            with contextlib.suppress(SinkError):
                await stream.flush()
            if stream.held > self._memory:
                raise RefusedError(503, "ServiceUnavailableException", "Slow down.")

    def _stream(self, name: str | None) -> DeliveryStream:
        if not name:
            raise RefusedError(400, "ValidationException", constraint("deliveryStreamName", "Member must not be null"))
        if name not in self._streams:
            what = f"Firehose {name} under account {ACCOUNT} not found."
            raise RefusedError(400, "ResourceNotFoundException", what)
        return self._streams[name]


def _direct(stream: DeliveryStream) -> None:
    """Refuse what is put into a stream that has a source of its own."""
    if stream.config.type != "DirectPut":
        what = f"This operation is not permitted on {stream.config.type} delivery stream type."
        raise RefusedError(400, "InvalidArgumentException", what)
