"""A Firehose that says yes at once, in a process of its own: what the sink costs is then all that is measured."""

import asyncio
import multiprocessing
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import trustme

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


async def _serve(told: Connection, certificate: str) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(_answer, HOST, 0, limit=8 << 20, ssl=context)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _main(told: Connection, certificate: str) -> None:
    asyncio.run(_serve(told, certificate))


@contextmanager
def _running(certificate: str = "") -> Iterator[int]:
    mine, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(its, certificate), daemon=True)
    process.start()
    try:
        yield mine.recv()
    finally:
        process.kill()
        process.join()


@contextmanager
def responder() -> Iterator[str]:
    """Run one on a free port; gives its URL."""
    with _running() as port:
        yield f"http://{HOST}:{port}"


@contextmanager
def tls_responder() -> Iterator[str]:
    """The same behind TLS, as AWS is. Clients of the SDK trust its CA meanwhile, by AWS_CA_BUNDLE."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        bundle, chain = Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.cert_pem.write_to_path(bundle)
        authority.issue_cert("localhost", HOST).private_key_and_cert_chain_pem.write_to_path(chain)
        before = os.environ.get("AWS_CA_BUNDLE")
        os.environ["AWS_CA_BUNDLE"] = str(bundle)
        try:
            with _running(str(chain)) as port:
                yield f"https://{HOST}:{port}"
        finally:
            if before is None:
                del os.environ["AWS_CA_BUNDLE"]
            else:
                os.environ["AWS_CA_BUNDLE"] = before
