"""Bound what a broker may answer: aiokafka buffers whatever length an answer says that it has, up to 2 GiB."""

import asyncio
import logging
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection

from lmstream.errors import coded
from lmstream.settings import MIB

LEAST: Final = 8 * MIB
"""Bytes of an answer that is no fetch: the metadata of some ten thousand partitions."""
log: Final = logging.getLogger("lmstream.sources.kafka")


class ResponseBound:
    """The bound, for all connections of the process: the largest that any settings asked for."""

    most = LEAST

    @classmethod
    def allow(cls, fetch_bytes: int, batch_bytes: int) -> None:
        """Let answers be as long as a fetch may be: brokers send the first batch whole, however long it is."""
        cls.most = max(cls.most, fetch_bytes + batch_bytes)


class _Reader:
    """A stream of one connection that is read in lengths which the broker names."""

    def __init__(self, reader: asyncio.StreamReader, where: str) -> None:
        self._reader, self._where = reader, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def readexactly(self, n: int) -> bytes:
        """As the stream's own. Raises ConnectionError, which closes the connection, for more than may be."""
        if not 0 <= n <= ResponseBound.most:
            what = (
                f"{self._where}: an answer of {n:,} bytes is not read, {ResponseBound.most:,} may be "
                "(source.fetch_bytes + source.batch_bytes)"
            )
            log.error("%s", what, extra=coded("source.unreachable"))
            raise ConnectionError(what)
        return await self._reader.readexactly(n)


_begin: Final = AIOKafkaConnection._create_reader_task  # noqa: SLF001 - the one place that all connections go through


def _bounded(connection: Any) -> Any:
    connection._reader = _Reader(connection._reader, f"{connection.host}:{connection.port}")  # noqa: SLF001 - as above
    return _begin(connection)


AIOKafkaConnection._create_reader_task = _bounded  # noqa: SLF001 - as above
