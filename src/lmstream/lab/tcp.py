"""A TCP proxy that misbehaves on demand: delay, throttle, cut, reset, blackhole and half-closed connections."""

import asyncio
import socket
import ssl
from typing import Final, Literal

from lmstream.delivery.tasks import end
from lmstream.errors import SourceError
from lmstream.lab.part import HOST, Part, reset
from lmstream.observability.serving import accepted

BUFFER: Final = 64 * 1024
"""Bytes read at a time, and most that waits in each direction of a connection (asyncio holds up to twice that)."""
LINGER_SECONDS: Final = 5.0
"""How long bytes already taken from one side may need to reach the other after an orderly end."""
HANDSHAKE_SECONDS: Final = 5.0
SLICES: Final = 20
"""Pieces a second when throttled, so that a new rate is felt at once."""


class Flow:
    """One direction of all connections. Change it at any time; it holds for the next bytes."""

    def __init__(self) -> None:
        self.delay: float = 0.0
        """Seconds each read of up to 64 KiB waits before it continues; the next read waits for it."""
        self.rate: float = 0.0
        """Bytes a second of each connection; 0 is as fast as the other side takes them."""
        self.cut_after: int | None = None
        """Reset a connection when it has passed this many bytes in this direction, exactly."""
        self.passed = 0
        """Bytes passed since the start."""
        self._open = asyncio.Event()
        self._open.set()

    @property
    def blackhole(self) -> bool:
        """Whether nothing is passed on and nobody is told: a dead peer, a dropped route. Bytes taken continue later."""
        return not self._open.is_set()

    @blackhole.setter
    def blackhole(self, on: bool) -> None:
        if on:
            self._open.clear()
        else:
            self._open.set()

    def heal(self) -> None:
        """Pass everything, at once, for ever."""
        self.delay = self.rate = 0.0
        self.cut_after = None
        self.blackhole = False

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: set[asyncio.StreamWriter]
    ) -> None:
        """Pass bytes on until the reader's end; never faster than the writer's side takes them."""
        seen = 0
        while chunk := await reader.read(BUFFER):
            if self.delay:
                await asyncio.sleep(self.delay)
            while chunk and writer not in ended:
                await self._open.wait()
                # In pieces, so that a new rate, a heal and a blackhole are felt at once.
                size = max(1, int(self.rate / SLICES)) if self.rate else BUFFER
                left = None if self.cut_after is None else max(0, self.cut_after - seen)
                piece = chunk[: size if left is None else min(size, left)]
                chunk = chunk[len(piece) :]
                writer.write(piece)
                await writer.drain()
                seen += len(piece)
                self.passed += len(piece)
                if left is not None and len(piece) == left:
                    raise ConnectionAbortedError("cut by the plan")
                if self.rate:
                    await asyncio.sleep(len(piece) / self.rate)
        await self._open.wait()
        # Not the end of the connection: a half-closed one may continue in the other direction. But TLS knows none.
        if writer not in ended and writer.can_write_eof():
            writer.write_eof()


class _Connection:
    """The two sides of one connection."""

    def __init__(self) -> None:
        self.client: asyncio.StreamWriter | None = None
        self.server: asyncio.StreamWriter | None = None
        self.ended: set[asyncio.StreamWriter] = set()  # by `half_close`: what comes for them is thrown away

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                reset(writer.transport)


class TcpFaults(Part):
    """Passes TCP connections from a free port to 127.0.0.1:`upstream_port`, well or badly.

        async with TcpFaults() as net, Broker(advertised_port=net.port) as broker:
            net.upstream_port = broker.port
            net.down.blackhole = True        # the broker's answers no longer arrive

    `up` is the direction from client to server, `down` the other. `upstream_port` may change at any time.
    """

    def __init__(self, upstream_port: int = 0) -> None:
        self.upstream_port = upstream_port
        self.port: int = 0
        """Where it listens; set before the start for a certain one."""
        self.up: Flow = Flow()
        self.down: Flow = Flow()
        self.refuse: bool = False
        """Reset new connections at once, as if nobody listened."""
        self.connections = 0
        """Connections taken since the start, refused ones included."""
        self._tls: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._live: dict[asyncio.Task[None], _Connection] = {}

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    @property
    def live(self) -> int:
        """Connections open now, handshakes included."""
        return len(self._live)

    async def start(self) -> None:
        """Listen on a free port, or on `port` where it is set."""
        listener = socket.socket()
        try:
            listener.setblocking(False)  # noqa: FBT003 - the library's own signature
            # Connections that have ended keep their port for a minute otherwise: no restart on the same one.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
            listener.listen(128)
        except OSError as e:
            listener.close()
            raise SourceError("source.unreachable", f"the lab's proxy cannot listen: {e}") from e
        self._listener, self.port = listener, listener.getsockname()[1]
        self._acceptor = asyncio.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = await accepted(listener)
            except OSError:  # out of file descriptors, or the client is gone already
                await asyncio.sleep(0.05)
                continue
            connection = _Connection()
            task = asyncio.create_task(self._serve(client, connection))
            self._live[task] = connection
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._live.pop(task).reset()  # nothing, when both sides have ended in order
        if not task.cancelled():
            task.exception()  # seen, so that the loop does not report it

    async def _taken(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams of a client. Not by asyncio.start_server: nobody hears of its failed handshakes."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=BUFFER)
        protocol = asyncio.StreamReaderProtocol(reader)
        seconds = None if self._tls is None else HANDSHAKE_SECONDS
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except BaseException:
            client.close()
            raise
        self.connections += 1
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _serve(self, client: socket.socket, connection: _Connection) -> None:
        """Handle one connection until both directions have ended, or one was broken: then both are reset."""
        reader, writer = await self._taken(client)
        connection.client = writer
        if self.refuse:
            return
        answers, server = await asyncio.open_connection(HOST, self.upstream_port, limit=BUFFER)
        connection.server = server
        halves = [
            asyncio.create_task(self.up._pass(reader, server, connection.ended)),  # noqa: SLF001 - one thing in two classes
            asyncio.create_task(self.down._pass(answers, writer, connection.ended)),  # noqa: SLF001 - as above
        ]
        try:
            # Once a side of a TLS connection has ended nothing can be said to it, so both directions end.
            until = asyncio.FIRST_EXCEPTION if self._tls is None else asyncio.FIRST_COMPLETED
            await asyncio.wait(halves, return_when=until)
        finally:
            for half in halves:
                half.cancel()
            ends = await asyncio.gather(*halves, return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):
                raise error
        for side in (server, writer):
            side.close()  # what was written still goes out
        async with asyncio.timeout(LINGER_SECONDS):
            await asyncio.gather(server.wait_closed(), writer.wait_closed())

    async def reset_all(self) -> int:
        """Reset every live connection; return how many. New ones are still taken."""
        live = list(self._live.items())
        for task, connection in live:
            connection.reset()
            task.cancel()
        await asyncio.gather(*(task for task, _ in live), return_exceptions=True)
        return len(live)

    def half_close(self, side: Literal["client", "server"]) -> int:
        """Say FIN to one side of every live connection, and throw away what comes for it; return how many.

        The other direction continues, as when a peer ended its half and forgot the rest. TLS knows no such thing: its
        connections stay as they are.
        """
        for connection in self._live.values():
            writer: asyncio.StreamWriter | None = getattr(connection, side)
            if writer is not None and writer not in connection.ended and writer.can_write_eof():
                connection.ended.add(writer)
                writer.write_eof()
        return len(self._live)

    def heal(self) -> None:
        """Be a good network again. What was cut stays cut."""
        self.up.heal()
        self.down.heal()
        self.refuse = False

    async def close(self) -> None:
        """Stop listening and reset what is open. Safe to call twice; no task is left."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            await end(acceptor, LINGER_SECONDS)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.reset_all()
