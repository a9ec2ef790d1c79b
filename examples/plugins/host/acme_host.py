"""A host: bundles come by HTTP, and are answered once their rows are durable. Put whatever calls you in its place."""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lmstream.config import Config, build_letters, build_sink, load
from lmstream.delivery import Pipeline, process
from lmstream.engine import Engine
from lmstream.interfaces import Batch
from lmstream.model import Record, Status

PATIENCE = 20.0  # seconds until a caller has to come again


class Host:
    """Takes bundles that are pushed; one batch at a time."""

    def __init__(self, config: Config) -> None:
        # The core reads no clock and draws no numbers: a host hands them in, a test hands in others.
        self.pipeline = Pipeline(
            Engine(config.engine),
            build_sink(config),
            build_letters(config),
            clock=time.monotonic,
            sleep=asyncio.sleep,
            random=random.random,
            policy=config.delivery,
        )
        # A record's name is in its row ids: here a number that never comes again, because the time is in it.
        self.numbers = itertools.count(time.time_ns())
        self.turn = asyncio.Lock()

    async def take(self, bodies: Sequence[bytes]) -> list[Status]:
        """A status for each body. PENDING must not be acknowledged: whoever sent it sends it again."""
        async with self.turn:
            records = [Record(topic="http", partition=0, offset=next(self.numbers), value=body) for body in bodies]
            outcome = await process(self.pipeline, Batch(records), time.monotonic() + PATIENCE)
        return outcome.statuses

    async def close(self) -> None:
        """Close sink and dead letters."""
        await self.pipeline.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of HTTP: 200 when all of it is durable, 503 when it has to be sent again."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        (status,) = await self.take([await reader.readexactly(length)])
        said = "503 Service Unavailable" if status is Status.PENDING else "200 OK"
        writer.write(f"HTTP/1.1 {said}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


async def main(path: Path, port: int) -> None:
    """Serve the configuration at `path` until the process is stopped."""
    host = Host(load(path))
    try:
        async with await asyncio.start_server(host.answer, "127.0.0.1", port) as server:
            await server.serve_forever()
    finally:
        await host.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
