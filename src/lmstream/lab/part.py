"""What the stand-ins of the lab have in common: where they listen, how they start and stop, how they hang up."""

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from typing import Final, Self

HOST: Final = "127.0.0.1"


class Part(ABC):
    """One stand-in: `async with` starts it, and closes it at the end."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def close(self) -> None:
        """Safe to call twice."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def reset(transport: asyncio.WriteTransport) -> None:
    """Say RST, not FIN, which the other side could take for an orderly end: without lingering the kernel does not take
    the time for one. A TLS connection is cut without a word.
    """
    with contextlib.suppress(AttributeError, OSError):  # it is closed already, which asyncio says in several ways
        if transport.get_extra_info("ssl_object") is None:
            no_lingering = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
    with contextlib.suppress(AttributeError):  # Python 3.11.2 cannot abort what was closed twice
        transport.abort()
