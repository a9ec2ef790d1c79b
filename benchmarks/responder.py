"""A Firehose that says yes at once, in a process of its own: what the sink costs is then all that is measured."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

HOST = "127.0.0.1"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body = await reader.readexactly(int(fields[b"content-length"]))
            if fields[b"x-amz-target"].endswith(b"describedeliverystream"):  # the head was lowered
                said = b'{"DeliveryStreamDescription":{"DeliveryStreamStatus":"ACTIVE","DeliveryStreamName":"rows"}}'
            else:
                records = b'{"RecordId":"%b"}' % (b"0" * 56)
                answers = b",".join([records] * body.count(b'"Data"'))
                said = b'{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[%b]}' % answers
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: 0\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(said), said)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve(told: Connection) -> None:
    server = await asyncio.start_server(_answer, HOST, 0, limit=8 << 20)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _main(told: Connection) -> None:
    asyncio.run(_serve(told))


@contextmanager
def responder() -> Iterator[str]:
    """Run one on a free port; gives its URL."""
    mine, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(its,), daemon=True)
    process.start()
    try:
        yield f"http://{HOST}:{mine.recv()}"
    finally:
        process.kill()
        process.join()
