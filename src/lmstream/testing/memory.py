"""Keep packs in memory: a sink for tests, with verdicts to order. No run takes it, for what it keeps ends with it."""

from collections.abc import Callable, Sequence
from typing import Final

from lmstream.interfaces import Limits
from lmstream.model import NOT_TRIED, Failure, Pack
from lmstream.settings import MIB

LIMITS: Final = Limits(pack_bytes=1 * MIB, pack_rows=10_000, request_packs=500, request_bytes=4 * MIB)
"""Nobody's limits: small enough that tests of packing see more than one pack."""

Judge = Callable[[Pack], Failure | None]


class Memory:
    """Sink that keeps what it delivered in `packs`, and every request, refused packs too, in `requests`.

    `judge` is asked for each pack and may raise: `Memory(judge=lambda pack: Failure(Kind.RETRYABLE, "throttled"))`.
    """

    def __init__(self, *, judge: Judge | None = None, limits: Limits = LIMITS) -> None:
        """`limits` may be those of another sink, to test against them."""
        self.limits: Limits = limits
        self.packs: list[Pack] = []
        self.requests: list[list[Pack]] = []
        self.closed: bool = False
        self._judge = judge

    @property
    def lines(self) -> list[bytes]:
        """The delivered lines, in order, each with its newline."""
        return [line for pack in self.packs for line in pack.data.splitlines(keepends=True)]

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Keep the packs that the judge lets pass."""
        self.requests.append(list(packs))
        verdicts: list[Failure | None] = [NOT_TRIED] * len(packs)
        for index, pack in enumerate(packs):
            verdicts[index] = self._judge(pack) if self._judge else None
            if verdicts[index] is None:
                self.packs.append(pack)
        return verdicts

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
