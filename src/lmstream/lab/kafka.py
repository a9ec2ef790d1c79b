"""Broker, certificates and mTLS proxy in one piece: the Kafka side of a test or of the demo."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from lmstream.lab.broker import Broker
from lmstream.lab.mtls import Certificates, MtlsProxy
from lmstream.lab.part import Part


class KafkaLab(Part):
    """`async with KafkaLab(folder, mtls=True) as kafka`: connect to `kafka.bootstrap`.

    `folder` takes the PEM files; it is needed with `mtls` only. `keep` takes those that lie there, `port` is that of
    the proxy, and `broker` has options of `Broker`.
    """

    def __init__(
        self, folder: Path | str | None = None, *, mtls: bool = False, keep: bool = False, port: int = 0, **broker: Any
    ) -> None:
        if mtls and folder is None:
            raise ValueError("KafkaLab with mtls=True needs a folder for the PEM files")
        self.certificates: Certificates | None = None
        """CA and client certificate; None in plaintext."""
        self.proxy: MtlsProxy | None = None
        """The mTLS proxy, to count and cut connections; None in plaintext."""
        self.broker: Broker = Broker(**broker)
        self._folder = folder if mtls else None
        self._keep, self._port, self._options = keep, port, broker

    async def start(self) -> None:
        """Start all parts; on an error none is left running."""
        try:
            if self._folder is not None:
                self.certificates = await asyncio.to_thread(Certificates, self._folder, keep=self._keep)
                self.proxy = MtlsProxy(self.certificates)
                self.proxy.port = self._port
                await self.proxy.start()
                # Clients go where the broker's metadata sends them: without this they would leave the proxy.
                self.broker = Broker(advertised_port=self.proxy.port, **self._options)
            await self.broker.start()
            if self.proxy is not None:
                self.proxy.upstream_port = self.broker.port
        except BaseException:
            await self.close()
            raise

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients: of the proxy with mTLS, else of the broker."""
        return self.proxy.address if self.proxy is not None else self.broker.bootstrap

    @property
    def plain_bootstrap(self) -> str | None:
        """`host:port` for plaintext clients; None with mTLS, because the broker advertises one address only."""
        return None if self.proxy is not None else self.broker.bootstrap

    def client_context(self) -> ssl.SSLContext | None:
        """TLS for a client of `bootstrap`; None in plaintext."""
        return self.certificates.client_context() if self.certificates is not None else None

    async def create_topic(self, name: str, partitions: int = 1, *, there_or_not: bool = False) -> None:
        """Create a topic; with `there_or_not` it may exist."""
        await self.broker.create_topic(
            name,
            partitions,
            bootstrap=self.bootstrap,
            ssl_context=self.client_context(),
            there_or_not=there_or_not,
        )

    async def close(self) -> None:
        """Stop all parts. Safe to call twice."""
        try:
            if self.proxy is not None:
                await self.proxy.close()
        finally:
            await self.broker.close()
