"""The host answers when rows are durable, and says what has to come again."""

import asyncio
import json
from pathlib import Path

import pytest

from lmstream.config import load
from lmstream.errors import ConfigError
from lmstream.model import Failure, Kind, Status
from lmstream.testing import Memory
from lmstream.testing.samples import bundle

import acme_host


def config(folder: Path, sink: str = 'type = "firehose"\nstream = "rows"\nregion = "us-east-1"') -> Path:
    path = folder / "lmstream.toml"
    letters = f'[dead_letters]\nroot = "{folder}/letters"\n'
    path.write_text(f'[engine]\norg_id = "acme"\n[sink]\n{sink}\n{letters}[delivery]\ntimeout = 0.2\n')
    return path


@pytest.fixture
def sink(monkeypatch) -> Memory:
    """In the place of the stream: it keeps what it takes."""
    made = Memory()
    monkeypatch.setattr(acme_host, "build_sink", lambda _: made)
    return made


def test_a_bundle_over_http_is_rows_and_200(tmp_path: Path, sink: Memory) -> None:
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
    assert [json.loads(line)["value"] for line in sink.lines] == [0.5, 1.5, 2.5]


@pytest.mark.usefixtures("sink")
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


def test_a_sink_that_lands_by_claims_is_refused(tmp_path: Path) -> None:
    local = load(config(tmp_path, f'type = "local"\nroot = "{tmp_path}/rows"'), env={})
    with pytest.raises(ConfigError, match="land by claims"):
        acme_host.Host(local)
