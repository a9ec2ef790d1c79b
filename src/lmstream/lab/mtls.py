"""mTLS before a plaintext server: throw-away certificates, and a proxy that lets only their owners through."""

import asyncio
import datetime as dt
import os
import socket
import ssl
from pathlib import Path
from typing import Any, Final

import trustme

from lmstream.lab.part import HOST
from lmstream.lab.tcp import TcpFaults

_KEPT: Final = ("ca.pem", "ca.key", "client.pem", "client.key")


class Certificates:
    """A CA, a server certificate for localhost and a client certificate, as PEM files of mode 0600 in `folder`.

    A second object over the same folder replaces the files (each atomically): a renewal, under a new CA. With `keep`
    it takes the CA and the client's files that lie there; the CA's own key is then a file too, ca.key.
    """

    def __init__(self, folder: Path | str, *, client_name: str = "lmstream-client", keep: bool = False) -> None:
        self.folder: Path = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = keep and all((self.folder / name).is_file() for name in _KEPT)
        authority = trustme.CA.from_pem(*(self._read(name) for name in _KEPT[:2])) if kept else trustme.CA()
        self._authority = authority
        self._server = authority.issue_cert("localhost", HOST)
        self.ca: Path = self._write("ca.pem", authority.cert_pem.bytes())
        """Path of the CA, for clients and servers alike."""
        self.client_cert: Path = self.folder / "client.pem"
        """Path of the client's certificate chain."""
        self.client_key: Path = self.folder / "client.key"
        """Path of the client's private key, not encrypted."""
        if not kept:
            self.renew_client(client_name)
        if keep and not kept:
            self._write("ca.key", authority.private_key_pem.bytes())

    def issue_client(self, name: str = "lmstream-client", not_after: dt.datetime | None = None) -> tuple[bytes, bytes]:
        """Answer the PEM texts of a new certificate chain and its key, of the same CA. Files stay as they are."""
        client = self._authority.issue_cert("client@lmstream.test", common_name=name, not_after=not_after)
        return b"".join(c.bytes() for c in client.cert_chain_pems), client.private_key_pem.bytes()

    def renew_client(self, name: str = "lmstream-client", not_after: dt.datetime | None = None) -> None:
        """Replace the client's files by a new certificate of the same CA, each atomically, the key first."""
        chain, key = self.issue_client(name, not_after)
        self._write("client.key", key)
        self._write("client.pem", chain)

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

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


class MtlsProxy(TcpFaults):
    """Takes TLS connections of known clients on a free port and passes their bytes to 127.0.0.1:`upstream_port`, well
    or badly, as `TcpFaults` does.

    `upstream_port` may be set after the start: a broker that advertises this proxy needs its port first. `connections`
    are those whose handshake succeeded.
    """

    def __init__(self, certificates: Certificates, upstream_port: int = 0) -> None:
        super().__init__(upstream_port)
        self.refused = 0
        """Connections whose handshake failed."""
        self.last_refusal: str = ""
        """Why the last handshake failed."""
        self.peers: set[str] = set()
        """Common names of the client certificates seen."""
        self._tls = certificates.server_context()

    async def _taken(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            reader, writer = await super()._taken(client)
        except OSError as e:  # ssl.SSLError and TimeoutError are OSErrors
            self.refused += 1
            self.last_refusal = str(e) or type(e).__name__
            raise
        self.peers.add(_common_name(writer))
        return reader, writer

    async def kill_all(self) -> int:
        """Cut every live connection, as a failing network would; return how many. New ones are still taken."""
        return await self.reset_all()


def _common_name(writer: asyncio.StreamWriter) -> str:
    certificate: dict[str, Any] = writer.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else ""
