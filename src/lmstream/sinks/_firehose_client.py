"""aioboto3's Firehose client with bodies of our own making: credentials, signing, sending and errors stay the SDK's."""

import contextlib
import functools
import warnings
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.loaders import Loader, create_loader

from lmstream.sinks import _firehose_body


@functools.cache
def _loader() -> Loader:
    """The SDK's descriptions of services and endpoints, 8 MiB of them: once a process, not once a client."""
    return create_loader()


class _Client:
    def __init__(self, client: Any) -> None:
        self._client = client
        _firehose_body.register(client)

    async def put_record_batch(self, **request: Any) -> Any:
        with _firehose_body.using(request["DeliveryStreamName"], request["Records"]):
            return await self._client.put_record_batch(**{**request, "Records": []})

    async def describe_delivery_stream(self, **request: Any) -> Any:
        return await self._client.describe_delivery_stream(**request)


@contextlib.asynccontextmanager
async def opened(*, region: str, endpoint_url: str, config: Mapping[str, Any]) -> AsyncIterator[_Client]:
    """A client of the usual AWS chain of credentials, closed at the end."""
    # aiohttp warns of bodies over a MiB. A request has at most four, and goes out in one piece without a wait.
    warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
    session = AioSession()
    session.register_component("data_loader", _loader())
    async with aioboto3.Session(botocore_session=session).client(
        "firehose", region_name=region or None, endpoint_url=endpoint_url or None, config=AioConfig(**config)
    ) as client:
        yield _Client(client)
