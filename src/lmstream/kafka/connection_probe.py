"""Probe a broker before a client starts, and say exactly why it does not let us in: clients only say "reset"."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from lmstream.errors import SourceError

_PROBE: Final = 3.0  # seconds for one broker to answer at a start
LOOKUP: Final = 10.0
"""Seconds for the name service, unless a setting says otherwise."""
_SECOND: Final = 1.0  # seconds for each further question, asked only to explain a refusal
_TLS_ALERT: Final = b"\x15\x03"
# ApiVersions 0 with no client id: the one request that every broker answers to anybody.
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 0, -1)

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/: 20 and 21 have no issuer here, 18 and 19 are self-signed
# and not trusted, 62 and 64 are names and addresses.
_SERVER: Final = {
    9: ("source.tls_expired", "is not valid yet"),
    10: ("source.tls_expired", "has expired"),
    18: ("source.tls_issuer", "is self-signed"),
    19: ("source.tls_issuer", "is signed by an unknown authority"),
    20: ("source.tls_issuer", "is signed by an unknown authority"),
    21: ("source.tls_issuer", "is signed by an unknown authority"),
    62: ("source.tls_host", "is for another host name"),
    64: ("source.tls_host", "is for another address"),
}
# What a broker's alert about our certificate means, by a part of OpenSSL's name for it.
_ALERTS: Final = (
    ("CERTIFICATE_EXPIRED", "source.tls_expired", "it has expired"),
    ("UNKNOWN_CA", "source.tls_client", "the broker does not trust the authority that signed it"),
    ("CERTIFICATE_REVOKED", "source.tls_client", "it is revoked"),
)
_ABOUT_US: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT", "HANDSHAKE_FAILURE")

Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Broker(NamedTuple):
    """One broker: how it is named, and where that is."""

    host: str
    port: int
    at: Sequence[str]
    """Addresses of the name, in the order of the name service."""

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    async def open(self, context: ssl.SSLContext | None) -> Way:
        """Connect to the first address that takes us. Raises what the last one does."""
        name = self.host if context else None
        for address in self.at[:-1]:
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                return await asyncio.open_connection(address, self.port, ssl=context, server_hostname=name)
        return await asyncio.open_connection(self.at[-1], self.port, ssl=context, server_hostname=name)


async def any_of(brokers: Iterable[tuple[str, int]], ask: Callable[[str, int], Awaitable[None]]) -> None:
    """Ask brokers (host, port) until one lets us in. Raises the SourceError that says best why none does."""
    refusals: list[SourceError] = []
    for host, port in brokers:
        try:
            return await ask(host, port)
        except SourceError as error:
            refusals.append(error)
    told = [error for error in refusals if error.reason.startswith(("source.tls", "source.sasl"))] or refusals
    raise SourceError(told[0].reason, "; ".join(error.detail for error in told)) from told[0]


async def probe(
    host: str, port: int, context: ssl.SSLContext | None, *, client_cert: bool, lookup: float = LOOKUP
) -> None:
    """Connect, shake hands and ask one question, so that a refusal is named. Raises SourceError.

    `lookup` is how many seconds the name service may take, which is slow where it has to ask others.
    """
    broker = Broker(host, port, await _addresses(host, port, lookup))
    place = broker.place
    reader, writer = await _open(broker, context, client_cert=client_cert)
    try:
        async with asyncio.timeout(_PROBE):
            answer = await _ask(reader, writer)
    except ssl.SSLError as error:
        raise _refusal(place, error, client_cert=client_cert) from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        if context is not None:
            raise await _unsaid(broker, context, client_cert=client_cert) from error
        if await _speaks_tls(broker):
            raise SourceError("source.tls_port", f"{place} speaks TLS, and security is plaintext") from error
        detail = f"{place}: closed the connection; if it speaks TLS, set security to ssl"
        raise SourceError("source.unreachable", detail) from error
    except TimeoutError as error:
        if context is None and await _speaks_tls(broker):
            raise SourceError("source.tls_port", f"{place} speaks TLS, and security is plaintext") from error
        raise SourceError("source.unreachable", f"{place}: does not respond like a Kafka broker") from error
    finally:
        await _hang_up(writer)
    if answer.startswith(_TLS_ALERT):
        raise SourceError("source.tls_port", f"{place} speaks TLS, and security is plaintext")


async def _addresses(host: str, port: int, seconds: float) -> Sequence[str]:
    """Ask the name service. Raises SourceError."""
    place = f"{host}:{port}"
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        what = f"name resolution timed out after {seconds:g} s (source.startup_timeout_ms)"
        raise SourceError("source.unreachable", f"{place}: {what}") from error
    except (OSError, UnicodeError) as error:
        raise SourceError("source.unreachable", f"{place}: the name does not resolve") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _open(broker: Broker, context: ssl.SSLContext | None, *, client_cert: bool) -> Way:
    place = broker.place
    try:
        async with asyncio.timeout(_PROBE):
            return await broker.open(context)
    except ssl.SSLCertVerificationError as error:
        reason, what = _SERVER.get(error.verify_code, ("source.tls", "was refused"))
        detail = f"{place}: its certificate was rejected: it {what} ({error.verify_message})"
        raise SourceError(reason, detail) from error
    except TimeoutError as error:
        if context is not None and await _speaks_plaintext(broker):
            raise SourceError("source.tls_port", f"{place} speaks plaintext, and security is ssl") from error
        raise SourceError("source.unreachable", f"{place}: no answer in {_PROBE:.0f} s") from error
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
        if context is None:
            raise SourceError("source.unreachable", f"{place}: the connection was reset") from error
        if await _speaks_plaintext(broker):
            raise SourceError("source.tls_port", f"{place} speaks plaintext, and security is ssl") from error
        if isinstance(error, ssl.SSLError):
            raise _refusal(place, error, client_cert=client_cert) from error
        detail = f"{place}: closed in the handshake: it speaks plaintext, or {_likely(client_cert=client_cert)}"
        raise SourceError("source.tls", detail) from error
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text says the address again
        raise SourceError("source.unreachable", f"{place}: {what}") from error


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_API_VERSIONS)
    await writer.drain()
    return await reader.readexactly(4)


async def _unsaid(broker: Broker, context: ssl.SSLContext, *, client_cert: bool) -> SourceError:
    """Find why a broker closed a connection whose handshake was over for us.

    In TLS 1.3 the broker judges our certificate after that. Its alert is lost when it resets the connection over a
    question that it did not read: so connect again, ask nothing and listen.
    """
    place = broker.place
    try:
        reader, writer = await _open(broker, context, client_cert=client_cert)
        try:
            async with asyncio.timeout(_SECOND):
                await reader.readexactly(1)
        finally:
            await _hang_up(writer)
    except ssl.SSLError as error:
        return _refusal(place, error, client_cert=client_cert)
    except SourceError as error:
        return error
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass
    detail = f"{place}: closed after the handshake: most likely {_likely(client_cert=client_cert)}"
    return SourceError("source.tls_client", detail)


def _refusal(place: str, error: ssl.SSLError, *, client_cert: bool) -> SourceError:
    """What the alert of a broker says."""
    alert = str(error.reason or error)
    if not any(part in alert for part in _ABOUT_US):
        return SourceError("source.tls", f"{place}: {alert}")  # no common version or cipher, a broken record
    for part, reason, what in _ALERTS if client_cert else ():
        if part in alert:
            return SourceError(reason, f"{place}: it rejected the client certificate: {what} ({alert})")
    return SourceError("source.tls_client", f"{place}: {_likely(client_cert=client_cert)} ({alert})")


def _likely(*, client_cert: bool) -> str:
    return "it rejected the client certificate" if client_cert else "it requires a client certificate; set cert and key"


async def _speaks_plaintext(broker: Broker) -> bool:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_SECOND):
            reader, writer = await broker.open(None)
            try:
                return not (await _ask(reader, writer)).startswith(_TLS_ALERT)
            finally:
                await _hang_up(writer)
    return False


async def _speaks_tls(broker: Broker) -> bool:
    """Whether a handshake gets as far as a certificate. Nothing is said over the connection."""
    try:
        async with asyncio.timeout(_SECOND):
            _, writer = await broker.open(ssl.create_default_context())
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, TimeoutError):
        return False
    await _hang_up(writer)
    return True


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
