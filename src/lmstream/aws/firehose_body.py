"""Bodies of PutRecordBatch of our own making, for the SDK to sign and send.

botocore writes the JSON of a request with Python's encoder, base64 and all: two thirds of what a request costs. One of
its events lets us put in the body that it would have made (tests compare the two byte for byte).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from lmstream.codecs.fragments import encode
from lmstream.settings import KIB

Records = Sequence[Mapping[str, bytes]]


def by_msgspec(data: bytes) -> bytes:
    """base64 without pybase64: as msgspec writes bytes, twice as quick as binascii, a fifth of pybase64."""
    return encode(data)[1:-1]


try:
    from pybase64 import b64encode as _base64
except ImportError:
    _base64 = by_msgspec  # type: ignore[assignment]  # fewer parameters, none of which we pass

STEP: Final = 3 * 32 * KIB
"""Bytes encoded at a time. Measured against a half, the double and the whole record: this one stays in the caches."""

_BETWEEN: Final = b'"}, {"Data": "'
_END: Final = b'"}]}'

_BODY: Final = ContextVar[list[Any] | None]("lmstream_firehose_body", default=None)
"""In a list that gives it away once: the timers of a call, cancelled or not, keep its context until they are due, and
would keep four megabytes with it."""


def pieces(stream: str, records: Records) -> Iterator[bytes]:
    """The JSON body of a PutRecordBatch, a little at a time: whoever takes it so needs room for one piece only."""
    between = b'{"DeliveryStreamName": ' + encode(stream) + b', "Records": [{"Data": "'
    for record in records:
        yield between
        data = memoryview(record["Data"])
        for start in range(0, len(data), STEP):
            yield _base64(data[start : start + STEP])
        between = _BETWEEN
    yield _END


def size(stream: str, records: Records) -> int:
    """Bytes of the whole body."""
    frame = sum(map(len, pieces(stream, [{"Data": b""}]))) + len(_BETWEEN) * (len(records) - 1)
    return frame + sum((len(record["Data"]) + 2) // 3 * 4 for record in records)


def body(stream: str, records: Records) -> bytes:
    """The whole of it."""
    return b"".join(pieces(stream, records))


def register(client: Any) -> bool:
    """Let a client of botocore or aiobotocore send the bodies of `using`. False: it has to make them itself.

    So it is when the SDK speaks another protocol with Firehose than JSON: Lambda's runtime has an SDK that AWS renews,
    and another protocol would refuse our bodies, or find no records in what it makes of none.
    """
    model = client.meta.service_model
    if getattr(model, "resolved_protocol", model.metadata.get("protocol")) != "json":
        return False
    client.meta.events.register("before-call.firehose.PutRecordBatch", _put_in)
    return True


@contextmanager
def using(ours: Any) -> Iterator[None]:
    """The call in this context, to a registered client and with no records of its own, sends this body."""
    once = [ours]
    del ours
    before = _BODY.set(once)
    try:
        yield
    finally:
        once.clear()
        _BODY.reset(before)


def _put_in(params: dict[str, Any], **_: Any) -> None:
    ours = _BODY.get()
    if ours:
        params["body"] = ours.pop()
