"""Bound the answers that an AWS client reads: the SDK itself reads whatever a server sends into memory."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from lmstream import bounded
from lmstream.bounded import ANSWER, PATIENCE, SLOWEST, BoundError

_ERRORS: Final = 300  # from this status on the SDK reads the body as the error, also of calls that stream
C = TypeVar("C")


def bound(client: C) -> C:
    """Let a client of boto3 read answers of at most ANSWER bytes. Streamed bodies (of get_object) are its caller's."""
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - the SDK has no other way in
    inner = session.send

    def send(request: Any) -> Any:
        streams, request.stream_output = request.stream_output, True
        answer = _within(_seconds(request), lambda: inner(request), _of(request))
        if not streams or answer.status_code >= _ERRORS:
            answer._content = _read(answer.raw, _of(request))  # noqa: SLF001 - where the SDK keeps what it read
        return answer

    session.send = send
    return client


def bound_async(client: C) -> C:
    """The same for a client of aiobotocore."""
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - as in bound()
    inner = session.send

    async def send(request: Any) -> Any:
        streams, request.stream_output = request.stream_output, True
        seconds = _seconds(request)
        try:
            async with asyncio.timeout(seconds) as patience:
                answer = await inner(request)
        except TimeoutError:
            if patience.expired():
                raise BoundError(_of(request), f"nothing within {seconds:.0f} s") from None
            raise
        if not streams or answer.status_code >= _ERRORS:
            try:
                answer._content = await bounded.read_async(answer.raw.content, ANSWER, _of(request))  # noqa: SLF001
            except BaseException:
                answer.raw.close()
                raise
        return answer

    session.send = send
    return client


def body(answer: Mapping[str, Any], most: int, what: str) -> bytes:
    """The whole body of an answer to get_object of boto3. Raises BoundError, and BotoCoreError for a broken one."""
    from botocore.exceptions import HTTPClientError  # noqa: PLC0415 - not every host has the SDK

    stream = answer["Body"]
    raw = getattr(stream, "_raw_stream", stream)
    data = _read(raw, what, most)
    told = answer.get("ContentLength")
    if isinstance(told, int) and told != len(data):
        raise HTTPClientError(error=f"{len(data):,} bytes came of {told:,}")
    return data


def _read(raw: Any, what: str, most: int = ANSWER) -> bytes:
    from botocore.exceptions import HTTPClientError  # noqa: PLC0415 - not every host has the SDK
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - as above

    try:
        return bounded.read(raw, most, what)
    except BoundError:
        raw.close()
        raise
    except (HTTPError, OSError) as e:
        raw.close()
        raise HTTPClientError(error=e) from e


def _seconds(request: Any) -> float:
    """How long an answer may take to begin: it has to be sent something first."""
    size = str(request.headers.get("Content-Length") or 0)
    return PATIENCE + (int(size) if size.isdecimal() else 0) / SLOWEST


def _within(seconds: float, call: Callable[[], C], what: str) -> C:
    """Make a call that cannot be interrupted. One that takes too long is left to its thread, which ends with us: a
    server that sends its headers byte by byte stays below the timeouts of the SDK."""
    done: Future[C] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as e:  # noqa: BLE001 - it is the caller's
            done.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise BoundError(what, f"nothing within {seconds:.0f} s") from None


def _of(request: Any) -> str:
    return f"the response of {str(request.url).partition('?')[0]}"
