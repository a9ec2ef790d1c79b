"""Look at fetched batches before the client opens them: what it must not open, or could not, is carried past it whole.

A carrier is a batch of one record, at the last offset of the batch it stands for, which is its value. The client keeps
its place by it and drops it with an aborted transaction; whoever reads from the client opens it (`record_reader`).
"""

import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from lmstream.kafka._batch_guard import HEADER, TRANSACTIONAL, Raw, batches
from lmstream.settings import KIB, MIB

SMALL: Final = 1 * MIB
"""Bytes that a batch may hold inflated and still be opened by the client itself, whatever room there is."""
_MARK: Final = f"lmstream-carrier-{secrets.token_hex(16)}"
"""Name of the header of a carrier: of this process, so that no producer can write it."""
_WHOLE: Final = b"whole"
_DAMAGED: Final = b"damaged"


def carried(headers: Sequence[tuple[str, bytes | None]]) -> bool | None:
    """Whether the batch in this carrier is whole, or damaged; None when a record with these headers is no carrier."""
    return headers[0][1] == _WHOLE if headers and headers[0][0] == _MARK else None


class Guard:
    """Stands where the fetcher of one consumer has its client, and looks at what fetches bring."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.careful: set[tuple[str, int]] = set()
        """Partitions of which the client opens no batch itself, because it could not open one."""
        self.throttled: Callable[[float], None] | None = None
        """Told for how many seconds brokers hold us back."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: Any, request: Any, **more: Any) -> Any:
        """As the client's."""
        response = await self._client.send(node, request, **more)
        if type(response).__name__.startswith("FetchResponse"):
            if self.throttled is not None and (held := getattr(response, "throttle_time_ms", 0)):
                self.throttled(held / 1000)
            asked = {(topic, part[0]): part[1] for topic, parts in request.topics for part in parts}
            response.topics = [
                (topic, [(*part[:-1], self._guarded(topic, part, asked)) for part in parts])
                for topic, parts in response.topics
            ]
        return response

    def _guarded(self, topic: str, part: tuple[Any, ...], asked: dict[tuple[str, int], int]) -> bytes:
        where = topic, part[0]
        return guarded(bytes(part[-1] or b""), asked.get(where, 0), careful=where in self.careful)


def guarded(data: bytes, asked: int, *, careful: bool = False) -> bytes:
    """The batches of one partition, fetched from the offset `asked` on, with carriers for those the client must not
    open: damaged ones, those that may be large once inflated, and all when `careful`."""
    parts = []
    done = 0
    places = list(batches(data))
    if data and not places:  # brokers cut off the last batch of a fetch, never the first
        return _carrier(Raw(data), asked, _DAMAGED)
    for n, (at, end) in enumerate(places):
        raw = Raw(data[at:end])
        if not raw.intact:
            following = Raw(data[slice(*places[n + 1])]) if n + 1 < len(places) else None
            carrier = _damaged(raw, asked, following)
        elif not raw.control and (careful or (raw.codec and raw.bound > SMALL)):
            carrier = _carrier(raw, raw.last, _WHOLE)
        else:
            continue
        parts += [data[done:at], carrier]
        done = end
    # What was cut off is fetched again in any case; and it may be no end, but a length that is wrong.
    stop = places[-1][1] if places else 0
    return b"".join((*parts, data[done:stop])) if parts or stop < len(data) else data


def _damaged(raw: Raw, asked: int, following: Raw | None) -> bytes:
    """Where a damaged batch ends is what the next one says, if that is whole, because its own word may be the damage.

    Never before what was asked for: the client skips what lies there.
    """
    last = following.begin - 1 if following is not None and following.intact else raw.last
    return _carrier(raw, max(last, asked, raw.begin), _DAMAGED)


def _carrier(raw: Raw, offset: int, kind: bytes) -> bytes:
    _, _, _, _, _, attributes, _, _, last, producer, epoch, sequence, _ = (
        HEADER.unpack_from(raw) if kind == _WHOLE and raw.new else (0,) * 8 + (-1, -1, -1, -1, 0)
    )
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=bool(attributes & TRANSACTIONAL),
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=len(raw) + 4 * KIB,
    )
    builder.append(offset=0, timestamp=last, key=None, value=bytes(raw), headers=[(_MARK, kind)])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, offset)  # the CRC does not cover it
    return bytes(built)
