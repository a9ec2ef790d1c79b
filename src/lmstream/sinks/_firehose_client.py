"""aioboto3's Firehose client with bodies of our own making: credentials, signing, sending and errors stay the SDK's."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp import payload

from lmstream.aws import firehose_body
from lmstream.aws.answers import bound_async
from lmstream.aws.descriptions import loader
from lmstream.aws.firehose_body import Records


class Body(payload.Payload):
    """The body of a request, never there as a whole: encoded once to be signed, and once more to be sent.

    A file for botocore, which signs it; a payload for aiohttp, which sends it. Encoding twice costs less than what is
    saved: up to three copies of 4 MB (ours, aiohttp's, the transport's), each into memory that the system has to clear.
    """

    _autoclose = True

    def __init__(self, stream: str, records: Records) -> None:
        super().__init__(records)
        self._stream, self._records = stream, records
        self._size = self._length = firehose_body.size(stream, records)
        self._unread = self._pieces()

    def __len__(self) -> int:
        return self._length

    def tell(self) -> int:
        """Where reading begins: it is signed from there, and rewound to there."""
        return 0

    def seek(self, offset: int) -> int:
        """Begin anew."""
        self._unread = self._pieces()
        return offset

    def read(self, _size: int = -1) -> bytes:
        """The next piece, b"" at the end."""
        return next(self._unread, b"")

    async def write(self, writer: Any) -> None:
        for piece in self._pieces():
            await writer.write(piece)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        if content_length not in (None, self._length):
            raise ValueError(f"a body of {self._length} bytes cannot be sent as {content_length}")
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return firehose_body.body(self._stream, self._records).decode(encoding, errors)

    def _pieces(self) -> Iterator[bytes]:
        return firehose_body.pieces(self._stream, self._records)


class _Client:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._ours = firehose_body.register(client)

    async def put_record_batch(self, **request: Any) -> Any:
        if not self._ours:
            return await self._client.put_record_batch(**request)
        with firehose_body.using(Body(request["DeliveryStreamName"], request["Records"])):
            return await self._client.put_record_batch(**{**request, "Records": []})

    async def describe_delivery_stream(self, **request: Any) -> Any:
        return await self._client.describe_delivery_stream(**request)


@contextlib.asynccontextmanager
async def opened(*, region: str, endpoint_url: str, config: Mapping[str, Any]) -> AsyncIterator[_Client]:
    """A client of the usual AWS chain of credentials, closed at the end."""
    session = AioSession()
    session.register_component("data_loader", loader(session.get_config_variable("data_path")))
    async with aioboto3.Session(botocore_session=session).client(
        "firehose", region_name=region or None, endpoint_url=endpoint_url or None, config=AioConfig(**config)
    ) as client:
        yield _Client(bound_async(client))
