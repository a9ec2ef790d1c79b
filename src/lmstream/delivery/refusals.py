"""Whether a refusal is a verdict on one pack or on the stream: a pack is at fault only if another was taken since."""

from hashlib import blake2b
from typing import Final

from msgspec import structs

from lmstream.model import Failure, Kind, Pack

MOST: Final = 4_096
"""Refused packs that are remembered, at most; the oldest go first, and are then judged anew."""


class Refusals:
    """Remembers which packs were refused by words that may be about the stream, and how many were taken until then.

    Packs are known by their bytes: in a host that is called, the same pack comes again with the next invocation.
    """

    def __init__(self) -> None:
        self._refused: dict[bytes, int] = {}  # digest of a pack to the number of packs taken before it was refused

    @property
    def pending(self) -> int:
        """Packs that wait for another one to be taken."""
        return len(self._refused)

    def judge(self, pack: Pack, answer: Failure | None, taken: int, *, beside: bool) -> Failure | None:
        """What an answer means. `taken` packs were taken until now; `beside` is whether one was in the same answer."""
        if answer is None or answer.kind is not Kind.PERMANENT or not answer.unsure:
            if self._refused and (answer is None or answer.kind is Kind.PERMANENT):
                self._refused.pop(_digest(pack), None)
            return answer
        key = _digest(pack)
        before = self._refused.get(key, taken)
        if beside or taken > before:
            self._refused.pop(key, None)
            return structs.replace(answer, unsure=False)
        if key not in self._refused and len(self._refused) >= MOST:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = before
        return structs.replace(answer, kind=Kind.FATAL_CONFIG)

    def due(self, pack: Pack, taken: int) -> bool:
        """Whether another pack was taken since this one was refused: asked again, the service now judges the pack."""
        return taken > self._refused.get(_digest(pack), taken)


def _digest(pack: Pack) -> bytes:
    return blake2b(pack.data, digest_size=16).digest()
