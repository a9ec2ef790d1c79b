"""Two hosts and one port: the run goes on and keeps trying, every answer says whose it is, and `lmstream health` never
takes another process for the one that it was asked about."""

import asyncio
import errno
import os
import socket
import time

import aiohttp
import pytest

from lmstream import __version__
from lmstream.cli import main
from lmstream.errors import ConfigError
from lmstream.observability import endpoints, serving
from lmstream.observability.endpoints import Endpoints
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime
from lmstream.testing import ScriptedSink, ScriptedSource
from support.doubles import make
from support.wait import until


def readings(group="lm"):
    return Readings(Runtime(ScriptedSource([]), make(ScriptedSink()), clock=time.monotonic), group=group)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(endpoints, "_FIRST", 0.02)
    monkeypatch.setattr(endpoints, "_LONGEST", 0.2)


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "lmstream.endpoints"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("needed", [True, False])
async def test_a_port_that_is_taken_is_had_as_soon_as_it_is_free_and_each_change_is_said(caplog, needed, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    first = Endpoints(readings("first"), address)
    await first.__aenter__()
    async with Endpoints(readings("second"), address, needed=needed) as second:
        await until(lambda: said(caplog), 10, "it is said")
        who = f"lmstream {__version__}, pid {os.getpid()}, group first"
        assert said(caplog) == [
            f"endpoints are off, {address}: it is taken by {who}; it is retried; or set endpoints.address to another port"
        ]
        await asyncio.sleep(0.7)
        assert len(said(caplog)) == 1, "once, however often it tries"
        assert second.url == ""

        async def taken():
            raise OSError(errno.EADDRINUSE, "Address already in use")

        with monkeypatch.context() as patch:
            patch.setattr(second, "_open", taken)  # it would be as quick as the next one
            await first.__aexit__()
            other = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
        with other:  # and now it is no lmstream
            await until(lambda: len(said(caplog)) == 2, 10, "that is said too")
            assert "it is taken by another process" in said(caplog)[1]
        await until(lambda: second.url, 10, "it has the port")
        assert said(caplog)[2:] == [f"endpoints are at http://{address} now"]
        async with aiohttp.ClientSession() as session, session.get(f"{second.url}/healthz") as answer:
            assert (await answer.text()).endswith(f"pid {os.getpid()}, group second\n")
        async with aiohttp.ClientSession() as session, session.get(f"{second.url}/statusz") as answer:
            told = await answer.json()
            assert (told["pid"], told["group"], told["version"]) == (os.getpid(), "second", __version__)


async def test_an_address_that_is_not_of_this_machine_is_a_wrong_setting():
    with pytest.raises(ConfigError, match=r"endpoints\.address 192\.0\.2\.1:9464: "):
        async with Endpoints(readings(), "192.0.2.1:9464"):
            pass


@pytest.mark.usefixtures("quick")
async def test_who_holds_the_port_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(endpoints, "_HEARD", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        async with Endpoints(readings(), address):
            assert time.monotonic() - began < 1
            await until(lambda: said(caplog), 10, "it is said")
    assert "it is taken by another process" in said(caplog)[0]


async def test_a_connection_that_comes_while_the_port_is_given_up_is_not_lost():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003 - it takes no name
        accepting = asyncio.create_task(serving.accepted(listening))
        await asyncio.sleep(0)
        with socket.create_connection(listening.getsockname()):
            await asyncio.sleep(0)
            accepting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await accepting
            connection, _ = listening.accept()
            connection.close()


@pytest.fixture
async def host():
    async with Endpoints(readings("lm"), "127.0.0.1:0") as found:
        yield found.url.removeprefix("http://")


async def health(*arguments):
    return await asyncio.to_thread(main, ["health", *arguments])


async def test_health_says_who_answered(host, capsys):
    assert await health("--address", host) == 0
    assert capsys.readouterr().out == f"ok: starting\nlmstream {__version__}, pid {os.getpid()}, group lm\n"


async def test_health_does_not_take_another_group_or_process_for_the_one_it_was_asked_about(
    host, capsys, monkeypatch, tmp_path
):
    who = f"lmstream {__version__}, pid {os.getpid()}, group lm"
    for flags, expected in ((["--group", "other"], "group other"), (["--pid", "1"], "pid 1")):
        assert await health("--address", host, *flags) == 1
        caught = capsys.readouterr()
        assert caught.out == ""
        assert f"another process answers at http://{host}/healthz: {who}; expected {expected}" in caught.err
    assert await health("--address", host, "--group", "lm", "--pid", str(os.getpid())) == 0
    config = tmp_path / "lmstream.toml"
    config.write_text(f'[source]\ngroup = "other"\n[endpoints]\naddress = "{host}"\n')
    assert await health("--config", str(config)) == 1
    assert "expected group other" in capsys.readouterr().err
    monkeypatch.setenv("LMSTREAM_SOURCE__GROUP", "lm")
    assert await health("--config", str(config)) == 0
    config.write_text("[source\n")  # broken since the host was started
    assert await health("--config", str(config), "--address", host) == 0
    assert "which group is expected is not known" in capsys.readouterr().err


async def test_health_is_not_content_with_any_server_that_answers(capsys):
    async def anybody(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(anybody, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await health("--address", f"127.0.0.1:{port}") == 1
    assert "it does not say that it is lmstream" in capsys.readouterr().err
