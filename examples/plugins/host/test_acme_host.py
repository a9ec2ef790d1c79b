"""The host answers when rows are durable, and says what has to come again."""

import asyncio
import gzip
import json
from pathlib import Path

from lmstream.config import load
from lmstream.model import Failure, Kind, Status
from lmstream.testing import Memory
from lmstream.testing.samples import bundle

import acme_host


def config(folder: Path) -> Path:
    path = folder / "lmstream.toml"
    path.write_text(f"""
        [engine]
        org_id = "acme"
        [sink]
        type = "local"
        root = "{folder}/rows"
        [dead_letters]
        root = "{folder}/letters"
        [delivery]
        timeout = 0.2
    """)
    return path


def test_a_bundle_over_http_is_a_file_of_rows_and_200(tmp_path: Path) -> None:
    async def post() -> bytes:
        host = acme_host.Host(load(config(tmp_path), env={}))
        async with await asyncio.start_server(host.answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            body = bundle(3)
            writer.write(b"POST /v1/metrics HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            said = await reader.read()
            writer.close()
        await host.close()
        return said

    assert asyncio.run(post()).startswith(b"HTTP/1.1 200 OK")
    (file,) = (tmp_path / "rows").rglob("*.gz")
    assert [json.loads(line)["value"] for line in gzip.decompress(file.read_bytes()).splitlines()] == [0.5, 1.5, 2.5]


def test_each_body_has_its_status(tmp_path: Path) -> None:
    async def take() -> list[Status]:
        host = acme_host.Host(load(config(tmp_path), env={}))
        try:
            return await host.take([bundle(1), b"junk"])
        finally:
            await host.close()

    assert asyncio.run(take()) == [Status.DELIVERED, Status.DEAD_LETTERED]


def test_what_the_sink_does_not_take_is_pending(tmp_path: Path, monkeypatch) -> None:
    down = Memory(judge=lambda _: Failure(Kind.RETRYABLE, "down"))
    monkeypatch.setattr(acme_host, "build_sink", lambda _: down)
    monkeypatch.setattr(acme_host, "PATIENCE", 0.5)

    async def take() -> list[Status]:
        return await acme_host.Host(load(config(tmp_path), env={})).take([bundle(1)])

    assert asyncio.run(take()) == [Status.PENDING]
