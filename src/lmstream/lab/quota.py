"""The throughput quota of a delivery stream, as a token bucket: what is past it is told to slow down."""

import time
from collections.abc import Callable, Sequence

from lmstream.settings import MIB


class Quota:
    """Bytes and calls a second, as one second of each saved up. Set it as `FirehoseLab.quota`.

    The defaults are those of a direct put stream in us-east-1, us-west-2 and eu-west-1; elsewhere a stream begins with
    1 MiB and 1,000 calls a second (docs.aws.amazon.com/firehose/latest/dev/limits.html).
    """

    def __init__(
        self, bytes_: float = 5 * MIB, calls: float = 2_000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes: float = bytes_
        self.calls: float = calls
        self._clock = clock
        self._at = clock()
        self._left = [bytes_, calls]
        self.allowed = 0
        """Bytes of records that were let through."""

    def over(self, sizes: Sequence[int]) -> frozenset[int]:
        """Take a call with records of these sizes; answer which of them are past the quota."""
        now = self._clock()
        passed, self._at = now - self._at, now
        bytes_left = min(self.bytes, self._left[0] + passed * self.bytes)
        calls_left = min(self.calls, self._left[1] + passed * self.calls)
        refused = set(range(len(sizes)))
        if calls_left >= 1:
            calls_left -= 1
            for number, size in enumerate(sizes):
                # A record may be larger than what is saved up: it is taken on credit, or it would never pass.
                if bytes_left > 0:
                    bytes_left -= size
                    self.allowed += size
                    refused.discard(number)
        self._left = [bytes_left, calls_left]
        return frozenset(refused)
