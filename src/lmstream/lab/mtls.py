"""mTLS before a plaintext server: throw-away certificates, and a proxy that lets only their owners through."""

import asyncio
import contextlib
import datetime as dt
import os
import socket
import ssl
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from lmstream.errors import SourceError

HOST = "127.0.0.1"
BUFFER = 64 * 1024
"""Bytes read at a time, and most that waits in each direction of a connection (asyncio holds up to twice that)."""
HANDSHAKE_SECONDS = 5.0
LINGER_SECONDS = 5.0
"""How long bytes already taken from one side may need to reach the other after an orderly end."""


class Certificates:
    """A CA, a server certificate for localhost and a client certificate, as PEM files of mode 0600 in `folder`.

    A second object over the same folder replaces the files (each atomically): a renewal, under a new CA.
    """

    def __init__(self, folder: Path | str, *, client_name: str = "lmstream-client") -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self._authority = authority
        self._server = authority.issue_cert("localhost", HOST)
        self.ca = self._write("ca.pem", authority.cert_pem.bytes())
        """Path of the CA, for clients and servers alike."""
        self.client_cert = self.folder / "client.pem"
        """Path of the client's certificate chain."""
        self.client_key = self.folder / "client.key"
        """Path of the client's private key, not encrypted."""
        self.renew_client(client_name)

    def issue_client(self, name: str = "lmstream-client", not_after: dt.datetime | None = None) -> tuple[bytes, bytes]:
        """Answer the PEM texts of a new certificate chain and its key, of the same CA. Files stay as they are."""
        client = self._authority.issue_cert("client@lmstream.test", common_name=name, not_after=not_after)
        return b"".join(c.bytes() for c in client.cert_chain_pems), client.private_key_pem.bytes()

    def renew_client(self, name: str = "lmstream-client", not_after: dt.datetime | None = None) -> None:
        """Replace the client's files by a new certificate of the same CA, each atomically, the key first."""
        chain, key = self.issue_client(name, not_after)
        self._write("client.key", key)
        self._write("client.pem", chain)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        waiting = self.folder / f".{name}.{os.getpid()}"
        # Opened with its mode, not changed afterwards: a key must not be readable for a moment either.
        with os.fdopen(os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(data)
        waiting.replace(path)
        return path

    def server_context(self) -> ssl.SSLContext:
        """For a server that requires a client certificate of this CA, TLS 1.2 or newer."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        self._authority.configure_trust(context)
        self._server.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client with the right certificate; reads the PEM files, as real clients do."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client_cert, self.client_key)
        return context


class MtlsProxy:
    """Takes TLS connections of known clients on a free port and passes their bytes to 127.0.0.1:`upstream_port`.

    `upstream_port` may be set after the start: a broker that advertises this proxy needs its port first.
    """

    def __init__(self, certificates: Certificates, upstream_port: int = 0) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self.connections = 0
        """Connections whose handshake succeeded, since the start."""
        self.refused = 0
        """Connections whose handshake failed."""
        self.last_refusal = ""
        """Why the last handshake failed."""
        self.peers: set[str] = set()
        """Common names of the client certificates seen."""
        self._context = certificates.server_context()
        self._listener: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    @property
    def live(self) -> int:
        """Connections open now, handshakes included."""
        return len(self._tasks)

    async def start(self) -> None:
        """Listen."""
        listener = socket.socket()
        try:
            listener.setblocking(False)  # noqa: FBT003 - the library's own signature
            listener.bind((HOST, 0))
            listener.listen(128)
        except OSError as e:
            listener.close()
            raise SourceError("source.unreachable", f"the lab's mTLS proxy cannot listen: {e}") from e
        self._listener, self.port = listener, listener.getsockname()[1]
        self._acceptor = asyncio.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # out of file descriptors, or the client is gone already
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Handle one connection. Not by asyncio.start_server: nobody hears of its failed handshakes."""
        loop = asyncio.get_running_loop()
        down = asyncio.StreamReader(limit=BUFFER)
        protocol = asyncio.StreamReaderProtocol(down)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as e:  # ssl.SSLError and TimeoutError are OSErrors
            client.close()
            self.refused += 1
            self.last_refusal = str(e) or type(e).__name__
            return
        except BaseException:
            client.close()
            raise
        to_client = asyncio.StreamWriter(transport, protocol, down, loop)
        writers = [to_client]
        try:
            self.connections += 1
            self.peers.add(_common_name(to_client))
            up, to_server = await asyncio.open_connection(HOST, self.upstream_port, limit=BUFFER)
            writers.append(to_server)
            await _first(_pass(down, to_server), _pass(up, to_client))
            for writer in writers:
                writer.close()  # what was written still goes out
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
        except (OSError, TimeoutError):
            pass  # the upstream is away, or a side stopped reading: cutting the other is all a proxy can say
        finally:
            for writer in writers:
                with contextlib.suppress(AttributeError):  # Python 3.11.2 cannot abort what was closed twice
                    writer.transport.abort()

    async def kill_all(self) -> int:
        """Cut every live connection, as a failing network would; return how many. New ones are still taken."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def close(self) -> None:
        """Stop listening and cut what is open. Safe to call twice."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.cancel()
            await asyncio.gather(acceptor, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.kill_all()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _first(*halves: Coroutine[Any, Any, None]) -> None:
    """Run until the first ends, then cancel the rest.

    TLS knows no half-closed connection: once a side has ended nothing can be said to it, so both directions end.
    """
    tasks = [asyncio.create_task(half) for half in halves]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the reader's end; never faster than the writer's side takes them."""
    while chunk := await reader.read(BUFFER):
        writer.write(chunk)
        await writer.drain()


def _common_name(writer: asyncio.StreamWriter) -> str:
    certificate: dict[str, Any] = writer.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else ""
