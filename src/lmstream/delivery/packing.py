"""Lines into packs, packs into requests, under a sink's limits. Nothing is lost, cut inside a line or reordered."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from lmstream.interfaces import Limits
from lmstream.model import Pack

Chunk = tuple[int, bytes, int]
"""(number of the record, whole lines, how many rows), already within the bounds of one pack. No rows: its dimension
rows."""

FRAME_BYTES: Final = 16
"""What JSON adds to a pack sent in base64: `{"Data":""},` is 12 bytes."""


def split(data: bytes, rows: int, max_rows: int, max_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Cut whole lines into pieces of at most `max_rows` lines and `max_bytes` bytes, in order.

    A single line over `max_bytes` is a piece of its own: what takes it must judge it, not this module.
    """
    if rows <= max_rows and len(data) <= max_bytes:
        if rows:
            yield data, rows
        return
    start = end = count = 0
    for line in _lines(data):
        if count and (count == max_rows or end + len(line) - start > max_bytes):
            yield data[start:end], count
            start, count = end, 0
        end += len(line)
        count += 1
    if count:
        yield data[start:end], count


def _lines(data: bytes) -> Iterator[bytes]:
    """Lines with their newline. Not bytes.splitlines, which also cuts at a carriage return."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def pack(chunks: Iterable[Chunk], limits: Limits) -> list[Pack]:
    """Merge consecutive small chunks into packs, greedily: fewer packs cost less and travel faster."""
    packs: list[Pack] = []
    pieces: list[bytes] = []
    spans: list[tuple[int, int]] = []
    size = rows = 0
    for number, data, of_record in chunks:
        lines = of_record or data.count(b"\n")
        if pieces and (size + len(data) > limits.pack_bytes or rows + lines > limits.pack_rows):
            packs.append(Pack(b"".join(pieces), rows, "", tuple(spans)))
            pieces, spans, size, rows = [], [], 0, 0
        pieces.append(data)
        if of_record and spans and spans[-1][0] == number and spans[-1][1]:
            spans[-1] = (number, spans[-1][1] + of_record)
        else:  # each chunk of dimension rows has its verdict
            spans.append((number, of_record))
        size += len(data)
        rows += lines
    if pieces:
        packs.append(Pack(b"".join(pieces), rows, "", tuple(spans)))
    return packs


def request_size(pack: Pack, limits: Limits) -> int:
    """Bytes that a pack takes in a request, as the service counts them."""
    size = len(pack.data)
    return (size + 2) // 3 * 4 + FRAME_BYTES if limits.base64 else size


def requests(packs: Sequence[Pack], limits: Limits) -> list[Sequence[Pack]]:
    """Cut packs into consecutive requests. A pack over the limit by itself travels alone, for the service to judge."""
    cuts: list[Sequence[Pack]] = []
    start = size = 0
    for at, each in enumerate(packs):
        more = request_size(each, limits)
        if at > start and (at - start == limits.request_packs or size + more > limits.request_bytes):
            cuts.append(packs[start:at])
            start, size = at, 0
        size += more
    if start < len(packs):
        cuts.append(packs[start:])
    return cuts
