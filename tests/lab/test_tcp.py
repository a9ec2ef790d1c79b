"""The proxy of broken networks: each fault does what it says, can be healed, and leaves no task behind."""

import asyncio
import contextlib

import pytest

from lmstream.lab import TcpFaults


@contextlib.asynccontextmanager
async def echo():
    """An upstream that answers every byte with itself, and the proxy before it."""
    seen = []

    async def serve(reader, writer):
        seen.append(asyncio.current_task())
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with TcpFaults(server.sockets[0].getsockname()[1]) as net:
        yield net
    server.close()
    await asyncio.gather(*seen, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}  # the proxy leaves nothing behind
    assert net.live == 0


async def connect(net):
    return await asyncio.open_connection("127.0.0.1", net.port)


async def ask(streams, data=b"hello", seconds=2.0):
    reader, writer = streams
    writer.write(data)
    async with asyncio.timeout(seconds):
        return await reader.readexactly(len(data))


async def test_a_good_network_passes_everything_and_a_half_closed_connection_goes_on():
    async with echo() as net:
        streams = await connect(net)
        data = bytes(range(256)) * 4096
        assert await ask(streams, data) == data
        assert net.up.passed == net.down.passed == len(data)
        streams[1].write(b"last")
        streams[1].write_eof()
        assert await streams[0].read() == b"last"  # the answer to what came before the end, then the end
        streams[1].close()


async def test_delay_and_throttle_take_their_time_and_end_when_healed():
    async with echo() as net:
        streams = await connect(net)
        loop = asyncio.get_running_loop()
        net.up.delay = 0.2
        began = loop.time()
        await ask(streams)
        assert loop.time() - began >= 0.2
        net.heal()
        net.down.rate = 20_000
        began = loop.time()
        await ask(streams, b"x" * 10_000)
        assert 0.3 < loop.time() - began < 1.5
        net.heal()
        began = loop.time()
        await ask(streams, b"x" * 200_000)
        assert loop.time() - began < 1.0
        streams[1].close()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_blackhole_is_silence_until_it_is_healed_and_holds_for_new_connections(direction):
    async with echo() as net:
        old = await connect(net)
        await ask(old)
        getattr(net, direction).blackhole = True
        with pytest.raises(TimeoutError):
            await ask(old, b"a", 0.2)
        new = await connect(net)  # accepted, and never answered
        with pytest.raises(TimeoutError):
            await ask(new, b"b", 0.2)
        net.heal()
        for streams in (old, new):
            async with asyncio.timeout(2):
                await streams[0].readexactly(1)
            streams[1].close()


async def test_a_cut_comes_after_so_many_bytes_and_is_a_reset():
    async with echo() as net:
        net.down.cut_after = 1000
        streams = await connect(net)
        streams[1].write(b"x" * 5000)
        got = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012 - some bytes come first
            while chunk := await streams[0].read(100):
                got += chunk
        assert len(got) <= 1000
        assert net.down.passed == 1000
        streams[1].close()
        net.heal()
        again = await connect(net)
        assert await ask(again, b"x" * 5000) == b"x" * 5000
        again[1].close()


async def test_resets_and_refusals_are_seen_as_such():
    async with echo() as net:
        streams = await connect(net)
        await ask(streams)
        assert net.live == await net.reset_all() == 1
        with pytest.raises(ConnectionResetError):
            await ask(streams)
        streams[1].close()
        net.refuse = True
        refused = await connect(net)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await ask(refused)
        refused[1].close()
        net.heal()
        streams = await connect(net)
        await ask(streams)
        streams[1].close()


async def test_a_half_closed_direction_ends_in_order_while_the_other_goes_on():
    async with echo() as net:
        reader, writer = await connect(net)
        await ask((reader, writer))
        before = net.up.passed
        assert net.half_close("client") == 1
        assert await reader.read() == b""
        writer.write(b"still heard")
        async with asyncio.timeout(2):
            while net.up.passed < before + 11:  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)
        writer.close()


async def test_an_upstream_that_is_away_is_a_reset_and_may_move():
    async with echo() as net:
        home, net.upstream_port = net.upstream_port, 1
        streams = await connect(net)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await ask(streams)
        streams[1].close()
        net.upstream_port = home
        streams = await connect(net)
        await ask(streams)
        streams[1].close()
