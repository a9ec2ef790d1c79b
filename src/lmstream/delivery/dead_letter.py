"""The dead letter of a record: why nothing, or not all, of it became rows, with the place and the cause in words."""

from typing import Final

from lmstream import __version__
from lmstream.delivery.in_flight import InFlightRecord, refused_bytes
from lmstream.engine import FanOut
from lmstream.engine.held_value import digest, held_as
from lmstream.errors import reason_of
from lmstream.interfaces import LostPart
from lmstream.model import KILLS, DeadLetter
from lmstream.settings import KIB, MIB, Limits

Headers = tuple[tuple[str, bytes | None], ...]
LARGEST: Final = 64 * MIB
"""Bytes of a letter, as long as engine.limits allow no larger record.

Brokers take batches of 1 MiB unless told otherwise
(https://kafka.apache.org/documentation/#brokerconfigs_message.max.bytes): what is larger than this even as gzip came in
a batch of some 48 MiB. Its letter leaves the value out and says where it is: written it would take three times its size
of memory, and no reader of letters takes it."""
DETAIL: Final = 4_000
"""Characters of the words in a letter; some are a service's own."""
_POINT: Final = 96  # of one rejected point, as tracking counts it
_FRAME: Final = 16 * KIB  # of a letter, beside what came with the record: coordinates, reason, detail


def letter(each: InFlightRecord, largest: int) -> DeadLetter:
    """The one letter of a record: why the whole of it was refused, else which of its points and parts were.

    A value over PLAIN bytes is held as its gzip where that is less than half of it: 400 MB of zeros came in 300 KB and
    go as 400 KB. It has no value when even so it would be larger than `largest` bytes, nor key and headers when they
    would make it so: its coordinates say where they are, and the sha256 which they are.
    """
    record = each.record
    value, held = (record.value, record.held) if record.held else held_as(record.value)
    beside = _in_base64(record.size - len(record.value or b"")) + refused_bytes(each.rejected, each.parts) + _FRAME
    if beside + _in_base64(len(value or b"")) > largest:
        value = None
    reason, detail = cause(each)
    if each.why is None:
        rejected, parts = each.rejected, each.parts
    else:
        # A replayed letter of points and parts stays one of those; a whole record is replayed as a whole.
        rejected = tuple((n, reason) for n in record.only or ())
        parts = tuple((path, reason) for path in record.below)
    headers, header_keys = readable(record.headers if beside <= largest else ())
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        value=None if reason == KILLS else value,  # nobody should have to take those bytes up again
        held=held if value is not None and reason != KILLS else 0,
        key=record.key if beside <= largest else None,
        headers=headers,
        header_keys=header_keys,
        reason=reason,
        code=reason_of(reason).code,
        detail=cut(detail, DETAIL),
        points=each.points,
        rejected=rejected,
        parts=parts,
        names=record.names if record.only else each.names,
        rows=record.rows,
        identity=record.identity,
        position=record.claimed or record.position,
        sha256=digest(record.value or b"", record.held),
        version=__version__,
    )


def bound(limits: Limits) -> int:
    """Bytes of the largest letter: LARGEST, or what the largest record takes that the engine would read."""
    return max(LARGEST, _in_base64(limits.record_bytes) + _POINT * limits.points + 4 * _FRAME)


def readable(headers: Headers) -> tuple[Headers, tuple[tuple[int, bytes], ...]]:
    """Headers as text that can be written, and by index the bytes of the keys that are no UTF-8."""
    odd = {at: name for at, (name, _) in enumerate(headers) if not name.isascii() and _is_odd(name)}
    if not odd:
        return headers, ()
    keys = tuple((at, _bytes(name)) for at, name in odd.items())
    texts = {at: key.decode(errors="replace") for at, key in keys}
    return tuple((texts.get(at, name), text) for at, (name, text) in enumerate(headers)), keys


def _bytes(name: str) -> bytes:
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte: from no source of lmstream
        return name.encode(errors="surrogatepass")


def _is_odd(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def cause(each: InFlightRecord) -> tuple[str, str]:
    """Why a record gets a letter: a key of errors.REASONS, and the rest in words."""
    if each.why is not None:
        return each.why
    return (each.rejected[0] if each.rejected else each.parts[0])[1], each.detail


def what_failed(out: FanOut) -> str:
    """How many points and parts of a record made no row, and of the first the number, the place and the cause."""
    said = []
    if out.rejected:
        first = out.rejected[0][0]
        what = "data point" if len(out.rejected) == 1 else "data points"
        said.append(f"{len(out.rejected):,} {what} produced no row, the first is number {first}{_why(out, first)}")
    if out.parts:
        what = "part in which no points" if len(out.parts) == 1 else "parts in which no points"
        said.append(f"{len(out.parts):,} {what} can be counted, the first is {described(out.parts[0])}")
    return "; ".join(said)


def described(part: LostPart) -> str:
    """Where a part is, and what was seen there; the detail may begin with the path itself."""
    return cut(part.detail if part.detail.startswith(part.path) else f"{part.path}: {part.detail}")


def cut(text: str, limit: int = 1_000) -> str:
    """Text of senders, no longer than a message should be."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _why(out: FanOut, ordinal: int) -> str:
    return f": {cut(text)}" if (text := place(out, ordinal)) else ""


def place(out: FanOut, ordinal: int) -> str:
    """Where a rejected point is and what is wrong with it; costs about as much as the record did."""
    try:
        return out.why(ordinal)
    except Exception as e:  # noqa: BLE001 - the point is refused and kept whatever can be said of it: words stop no run
        return f"its place is unknown ({type(e).__name__})"


def _in_base64(size: int) -> int:
    return -(-size // 3) * 4
