"""Name a record of a file in its row ids by what it holds, whatever the file is called."""

from hashlib import blake2b
from typing import Final

from lmstream.model import Identity

TOPIC: Final = "files"
"""In row ids, unless source.topic names another."""
MOST: Final = 250_000
"""Contents after which the older ones begin to be forgotten: some 90 bytes each, and twice as many are kept."""


class Identities:
    """Counts how often the same content came before in this run.

    Two records of one run that hold the same have two ids, in whatever order they are read, and the same two in the
    next run. Content that came before the last 250,000 others (500,000 at most) may be forgotten: a copy of it then has
    the id of the first, and counts as a duplicate. Different contents never have one id, but for two that have the
    same 64 bits of blake2b (one pair in 2**64), and of these only where one was forgotten or came in another run.
    """

    def __init__(self, topic: str = "", most: int = MOST) -> None:
        self._topic, self._most = topic or TOPIC, most
        self._seen: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def of(self, value: bytes) -> Identity:
        """Name the next record, which holds this."""
        stamp = int.from_bytes(blake2b(value).digest()[:8], "big", signed=True)
        if len(self._seen) >= self._most:
            self._seen, self._older = {}, self._seen
        times = self._seen.get(stamp) or self._older.get(stamp, 0)
        self._seen[stamp] = times + 1
        return Identity(self._topic, 0, times, stamp)
