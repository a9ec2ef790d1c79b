"""Answer HTTP requests of scrapers and probes, bounded so that no client can hold up the event loop.

Written by hand, because every bound has to hold at once and no HTTP server of the shelf has them all: connections, what
is read of each, how long each lives, and what is parsed. One request a connection: nothing can be pipelined.
"""

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from lmstream.errors import coded

log: Final = logging.getLogger("lmstream.endpoints")

CONNECTIONS: Final = 64
"""Connections at a time. One more ends the oldest, so that a probe is answered however many clients sit there."""
LIFE: Final = 10.0
"""Seconds from accept to the end of a connection, whatever the client does; Prometheus gives up after as long:
https://prometheus.io/docs/prometheus/latest/configuration/configuration/ (scrape_timeout)."""
PAUSE: Final = 0.01
"""Seconds between two accepts: with CONNECTIONS, each has 0.64 s at least, and accepting takes 2 % of a core at most.
The others wait in the kernel's queue, where they cost nothing."""
QUEUE: Final = 128
HEAD: Final = 8 * 1024
"""Bytes of a request line and headers."""
DISCARDED: Final = 1024 * 1024
"""Bytes that are read and thrown away after the answer: a client that is still sending a body would otherwise see a
reset instead of the answer."""
_NO_DESCRIPTORS: Final = 1.0  # seconds to the next accept when the process has no file descriptor left

_BEGIN: Final = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (?:http://([^/\s?#]*))?(/[^\s?#]*)(?:\?[^\s#]*)? HTTP/1\.([01])")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Answering = Callable[[str], Answer | None]
"""The answer for a path; None when there is no such path. Called in the event loop: it must not block."""


class Server:
    """`open` listens, `close` ends every connection."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._tasks: list[asyncio.Task[None]] = []
        self._open: deque[tuple[asyncio.Transport, asyncio.TimerHandle]] = deque()

    async def open(self, host: str, port: int) -> int:
        """Listen at every address of the host; answer the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening: list[socket.socket] = []
        try:
            for family, *_, address in dict.fromkeys(found):
                listening.append(socket.create_server(address[:2], family=family, backlog=QUEUE))
                listening[-1].setblocking(False)  # noqa: FBT003 - the standard library's
        except OSError:
            for each in listening:
                each.close()
            raise
        self._tasks = [asyncio.create_task(self._accept(each)) for each in listening]
        bound: int = listening[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening, and end the connections there are. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._open:
            self._end_oldest()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        private = is_loopback(listening.getsockname()[0])
        with listening:
            while True:
                try:
                    connection = await accepted(listening)
                except OSError as error:
                    log.debug("a connection could not be accepted: %s", error)
                    await asyncio.sleep(_NO_DESCRIPTORS)
                    continue
                self._forget_closed()
                if len(self._open) >= CONNECTIONS:
                    self._end_oldest()
                try:
                    transport, _ = await loop.connect_accepted_socket(
                        lambda: _Exchange(self._answering, private=private), connection
                    )
                except OSError:
                    connection.close()
                    continue
                self._open.append((transport, loop.call_later(LIFE, transport.abort)))
                await asyncio.sleep(PAUSE)

    def _forget_closed(self) -> None:
        kept = deque[tuple[asyncio.Transport, asyncio.TimerHandle]]()
        for transport, timer in self._open:
            # A transport that is closing holds its socket until the client has read: only a closed one has no number.
            if transport.get_extra_info("socket").fileno() == -1:
                timer.cancel()
            else:
                kept.append((transport, timer))
        self._open = kept

    def _end_oldest(self) -> None:
        transport, timer = self._open.popleft()
        timer.cancel()
        transport.abort()


async def accepted(listening: socket.socket) -> socket.socket:
    """The next connection. Of the loop's own `sock_accept` one is lost, and stays open, that comes while its task is
    cancelled. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError):
            ready = asyncio.Event()
            loop.add_reader(listening, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(listening)
        else:
            connection.setblocking(False)  # noqa: FBT003 - it takes no name
            return connection


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    _transport: asyncio.Transport

    def __init__(self, answering: Answering, *, private: bool) -> None:
        self._answering, self._private = answering, private
        self._head = b""
        self._answered = False
        self._discarded = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answered:
            self._discarded += len(data)
            if self._discarded > DISCARDED:
                self._transport.abort()
            return
        self._head += data[: HEAD + 4 - len(self._head)]
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if end:
            self._send(*self._judged(head.decode("latin-1")))
        elif not _BEGIN.match(self._head):
            self._send(_plain(HTTPStatus.BAD_REQUEST, "not an HTTP request"))
        elif len(self._head) >= HEAD:
            self._send(_plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {HEAD} bytes of headers"))

    def _judged(self, head: str) -> tuple[Answer, bool]:
        """The answer, and whether it is sent without its body."""
        line, *fields = head.split("\r\n")
        found = _REQUEST.fullmatch(line)
        if found is None:
            return _plain(HTTPStatus.BAD_REQUEST, "not an HTTP/1.0 or 1.1 request"), False
        method, authority, path, minor = found.groups()
        hosts = [value.strip() for name, _, value in (each.partition(":") for each in fields) if name.lower() == "host"]
        if len(hosts) > 1 or (minor == "1" and not hosts):
            return _plain(HTTPStatus.BAD_REQUEST, "expected one Host header"), False
        asked = [authority] if authority is not None else hosts
        if self._private and not all(map(is_loopback_host, asked)):
            # A page in a browser can point its own name at 127.0.0.1, and would then read what is served here.
            why = "these endpoints listen on loopback and answer to localhost, 127.0.0.1 and [::1] only"
            return _plain(HTTPStatus.MISDIRECTED_REQUEST, why), False
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are supported"), False
        return self._asked(path), method == "HEAD"

    def _asked(self, path: str) -> Answer:
        try:
            answer = self._answering(path)
        except Exception:  # a bug there is an answer too, and none of the run's business
            log.exception("%s could not be answered", path, extra=coded("bug.unexpected"))
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error of lmstream, see its log")
        return answer or _plain(HTTPStatus.NOT_FOUND, "there are /healthz /readyz /metrics /statusz")

    def _send(self, answer: Answer, without_body: bool = False) -> None:  # noqa: FBT001, FBT002 - of _judged
        self._answered, self._head = True, b""
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
            + ("Allow: GET, HEAD\r\n" if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else "")
            + "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + (b"" if without_body else answer.body))
        # Half closed: the client sees the end of the answer, we see the end of what it sends, or its time is up.
        with contextlib.suppress(OSError):
            self._transport.write_eof()


def _plain(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())


def is_loopback(address: str) -> bool:
    """Whether an address, without its port, is one of this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_loopback_host(text: str) -> bool:
    """Whether the value of a Host header names this machine."""
    found = _HOST.fullmatch(text)
    if found is None:
        return False
    name = found[1].strip("[]").lower().removesuffix(".")
    return name == "localhost" or is_loopback(name)
