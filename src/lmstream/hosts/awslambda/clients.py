"""The Lambda runtime's own boto3 behind the seams of the sinks: its calls in threads, each with limits of its own.

boto3 and not aioboto3, because the runtime brings the one and the other would make the zip eight times as large.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from lmstream.aws import firehose_body
from lmstream.aws.answers import body, bound
from lmstream.bounded import LETTER_LINE
from lmstream.dead_letters import letters_s3
from lmstream.sinks import firehose


class _Threads:
    """A client and its threads, made at the first call: a cold start that meets no bad record never loads S3."""

    def __init__(self, make: Callable[[], Any], threads: int) -> None:
        self._make = make
        self._client: Any = None
        self._making = asyncio.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lmstream-aws")

    async def made(self) -> Any:
        """The client, made at the first call."""
        async with self._making:
            if self._client is None:
                self._client = await self._thread(self._make)
        return self._client

    async def call(self, name: str, after: Callable[[Any], Any] | None = None, /, **request: Any) -> Any:
        """Make a call in a thread. A caller that gives up leaves the thread to the client's own timeouts."""
        call = partial(getattr(await self.made(), name), **request)
        return await self._thread(call if after is None else lambda: after(call()))

    async def _thread(self, call: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()  # the body of a request is handed over in it
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(context.run, call))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()


def _client(service: str, settings: firehose.Settings | letters_s3.Settings, **config: Any) -> Any:
    import boto3  # noqa: PLC0415 - 130 ms: only when a call is to be made, and the runtime's own
    from botocore.config import Config  # noqa: PLC0415 - as above

    return bound(
        boto3.client(
            service,
            region_name=settings.region or None,
            endpoint_url=settings.endpoint_url or None,
            config=Config(
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.read_timeout,
                max_pool_connections=settings.concurrency + 2,
                retries={"total_max_attempts": 1},  # who retries is delivery.py, and nobody else
                tcp_keepalive=True,
                **config,
            ),
        )
    )


class FirehoseClient:
    """The two calls that the Firehose sink makes."""

    def __init__(self, settings: firehose.Settings) -> None:
        self._ours = True

        def make() -> Any:
            client = _client("firehose", settings, parameter_validation=False)
            self._ours = firehose_body.register(client)
            return client

        self._threads = _Threads(make, settings.concurrency)

    async def put_record_batch(self, **request: Any) -> Any:
        await self._threads.made()
        if not self._ours:
            return await self._threads.call("put_record_batch", **request)
        with firehose_body.using(firehose_body.body(request["DeliveryStreamName"], request["Records"])):
            return await self._threads.call("put_record_batch", **{**request, "Records": []})

    async def describe_delivery_stream(self, **request: Any) -> Any:
        return await self._threads.call("describe_delivery_stream", **request)

    def close(self) -> None:
        """Close the client; a call that hangs is left to its time-out."""
        self._threads.close()


class S3Client:
    """The three calls that dead letters in S3 make."""

    def __init__(self, settings: letters_s3.Settings) -> None:
        config = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"addressing_style": "path"} if settings.endpoint_url else None,
        }
        self._threads = _Threads(partial(_client, "s3", settings, **config), settings.concurrency)

    async def put_object(self, **request: Any) -> Any:
        return await self._threads.call("put_object", **request)

    async def delete_object(self, **request: Any) -> Any:
        return await self._threads.call("delete_object", **request)

    async def get_object(self, **request: Any) -> Any:
        def read(answer: Any) -> Any:
            return {**answer, "Body": body(answer, LETTER_LINE, request["Key"])}

        return await self._threads.call("get_object", read, **request)

    def close(self) -> None:
        """Close the client; a call that hangs is left to its time-out."""
        self._threads.close()
