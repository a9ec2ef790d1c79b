"""The Lambda runtime's own boto3 behind the seams of the sinks: its calls in threads, each with limits of its own.

boto3 and not aioboto3, because the runtime brings the one and the other would make the zip eight times as large.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from lmstream.abilities import OnAws
from lmstream.aws import firehose_body
from lmstream.aws.answers import body, bound
from lmstream.bounded import LETTER_LINE


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


class Client:
    """Every call of one service, to be awaited: `await client.put_object(...)`."""

    def __init__(self, service: str, settings: OnAws, **config: Any) -> None:
        """`config` is botocore's, beside what the settings say."""
        self._threads = _Threads(partial(self._made, service, settings, config), settings.concurrency)

    def _made(self, service: str, settings: OnAws, config: Mapping[str, Any]) -> Any:
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
                    retries={"total_max_attempts": 1},  # who retries is delivery, and nobody else
                    tcp_keepalive=True,
                    **config,
                ),
            )
        )

    def __getattr__(self, name: str) -> Any:
        """A call of the service by boto3's name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._threads.call, name, None)

    def close(self) -> None:
        """Close the client; a call that hangs is left to its timeout."""
        self._threads.close()


class FirehoseClient(Client):
    """Firehose, with bodies of requests of our own making."""

    def __init__(self, settings: OnAws) -> None:
        self._ours = True
        super().__init__("firehose", settings, parameter_validation=False)

    def _made(self, service: str, settings: OnAws, config: Mapping[str, Any]) -> Any:
        client = super()._made(service, settings, config)
        self._ours = firehose_body.register(client)
        return client

    async def put_record_batch(self, **request: Any) -> Any:
        await self._threads.made()
        if not self._ours:
            return await self._threads.call("put_record_batch", **request)
        with firehose_body.using(firehose_body.body(request["DeliveryStreamName"], request["Records"])):
            return await self._threads.call("put_record_batch", **{**request, "Records": []})


class S3Client(Client):
    """S3, whose objects are read within bounds."""

    def __init__(self, settings: OnAws) -> None:
        config = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"addressing_style": "path"} if settings.endpoint_url else None,
        }
        super().__init__("s3", settings, **config)

    async def get_object(self, **request: Any) -> Any:
        def read(answer: Any) -> Any:
            return {**answer, "Body": body(answer, LETTER_LINE, request["Key"])}

        return await self._threads.call("get_object", read, **request)


_OWN: Final[Mapping[str, Callable[[OnAws], Client]]] = {"firehose": FirehoseClient, "s3": S3Client}


def client_of(service: str, settings: OnAws) -> Client:
    """A client of the service for a part with these settings. Nothing connects yet."""
    return _OWN[service](settings) if service in _OWN else Client(service, settings)
