"""Read answers, objects and files from outside within a bound of bytes and time: one helper, one error."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from lmstream.errors import LmstreamError
from lmstream.settings import KIB, MIB

ANSWER: Final = 16 * MIB
"""Bytes of an answer to a call. The largest there is, a page of 1,000 S3 keys of 1,024 bytes, each escaped sixfold in
XML, has 7 MiB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html."""
ROW_LINE: Final = 16 * MIB
"""Bytes of a line among landed rows; lmstream writes 900 KiB at most."""
LETTER_LINE: Final = 64 * MIB
"""Bytes of a letter as a line; lmstream writes no larger one unless engine.limits says so."""
INFLATED: Final = 16 * 1024 * MIB
"""Bytes of one object or file, inflated. They pass through and are not held: this ends what would take hours."""
PATIENCE: Final = 60.0
"""Seconds that an answer may take, beside those that its bytes have at SLOWEST."""
SLOWEST: Final = 16 * KIB
"""Bytes a second: a sender slower than this for long is as good as none."""
_STEP: Final = 256 * KIB


class BoundError(LmstreamError):
    """The operator must look: an answer, object or file is larger than it may be, or comes too slowly."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__("answer.bounds", f"{what}: {why}")


class Bound:
    """Counts what is read of one thing, and raises BoundError once it is too much or too slow."""

    def __init__(
        self,
        what: str,
        most: int,
        *,
        seconds: float | None = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most` bytes; within `seconds` and what they need at SLOWEST, without an end of time when None."""
        self._what, self._most, self._seconds, self._clock = what, most, seconds, clock
        self._began = clock()
        self.taken = 0

    def take(self, data: bytes) -> bytes:
        """Count these bytes, and answer them."""
        self.taken += len(data)
        if self.taken > self._most:
            raise BoundError(self._what, f"more than {self._most:,} bytes")
        if self._seconds is not None and self._clock() - self._began > self._seconds + self.taken / SLOWEST:
            raise BoundError(
                self._what, f"{self.taken:,} bytes in {self._clock() - self._began:.0f} s, which is too slow"
            )
        return data


def read(stream: Any, most: int, what: str, *, seconds: float | None = PATIENCE) -> bytes:
    """Everything of a stream with `read`, at most `most` bytes. Raises BoundError, and what the stream raises."""
    # read1 answers what is there; read would wait for a whole step of a sender that trickles.
    take = getattr(stream, "read1", None) or stream.read
    bound = Bound(what, most, seconds=seconds)
    # One byte more than allowed is asked for, so that what is too long is found without reading it to its end.
    return b"".join(iter(lambda: bound.take(take(min(_STEP, most - bound.taken + 1))), b""))


async def read_async(stream: Any, most: int, what: str) -> bytes:
    """The same for a stream whose `read` is awaited, as aiohttp's."""
    bound = Bound(what, most)
    pieces: list[bytes] = []
    while piece := await stream.read(min(_STEP, most - bound.taken + 1)):
        pieces.append(bound.take(piece))
    return b"".join(pieces)


def lines(stream: Any, most: int, what: str) -> Iterator[bytes]:
    """Lines of a stream without the white space around them, empty ones left out. Raises BoundError for one of more
    than `most` bytes and for more than INFLATED in all; and what the stream raises."""
    bound = Bound(what, INFLATED, seconds=None)
    number = 0
    while line := bound.take(stream.readline(most + 1)):
        number += 1
        if len(line) > most:
            raise BoundError(what, f"line {number:,} has more than {most:,} bytes")
        if line := line.strip():
            yield line
