"""For object sinks: lines gathered by path across batches, rolled into packs by bytes, rows or age. Decides, no I/O."""

from typing import Annotated

from msgspec import Meta, Struct

from lmstream.delivery.packing import split
from lmstream.interfaces import Limits
from lmstream.model import Pack

MIB = 1 << 20


class RollPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the lines gathered for one path become one object. The sink's own limits are never passed."""

    bytes: Annotated[int, Meta(ge=1)] = 16 * MIB
    """Bytes of lines, before compression. Fewer, larger objects are read faster; memory holds them until then.
    Costs: memory, money: smaller objects are more requests, when they are written and by each query."""
    rows: Annotated[int, Meta(ge=1)] = 1_000_000
    """Rows after which the lines of a path become one object.
    Costs: money: as `bytes`."""
    age: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds after the first line: how late a quiet path may land, and how much a crash reads again.
    Costs: delay, duplicates, money: what is gathered is not committed, so a crash reads it again. Shorter makes smaller
    objects."""
    total_bytes: Annotated[int, Meta(ge=1)] = 32 * MIB
    """Bytes gathered over all paths; past it the largest paths are rolled early. Keep it below the byte budget.
    Costs: memory."""


class _Open:
    """What is gathered for one path."""

    __slots__ = ("opened", "pieces", "rows", "size", "spans")

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self.pieces: list[bytes] = []
        self.spans: list[tuple[int, int]] = []
        self.size = 0
        self.rows = 0


class Roller:
    """Gathers lines by path; `due` hands out what is ready. Times are whatever clock the caller reads, in seconds."""

    def __init__(self, policy: RollPolicy, limits: Limits) -> None:
        self._bytes = min(policy.bytes, limits.pack_bytes)
        self._rows = min(policy.rows, limits.pack_rows)
        self._age = policy.age
        self._total = policy.total_bytes
        self._open: dict[str, _Open] = {}  # in the order they were opened, so the oldest is first
        self._ready: list[Pack] = []
        self.gathered: int = 0
        """Bytes of lines that wait to be rolled."""

    @property
    def since(self) -> float | None:
        """When the oldest path was opened that is gathered; None for none."""
        return next((gather.opened for gather in self._open.values()), None)

    def add(self, path: str, data: bytes, rows: int, number: int, now: float) -> None:
        """Gather whole lines of record `number` under a path. What became ready is handed out by `due`."""
        for piece, lines in split(data, rows, self._rows, self._bytes):
            gather = self._open.get(path)
            if gather is not None and (gather.size + len(piece) > self._bytes or gather.rows + lines > self._rows):
                self._roll(path)
                gather = None
            if gather is None:
                gather = self._open[path] = _Open(now)
            gather.pieces.append(piece)
            gather.spans.append((number, lines))
            gather.size += len(piece)
            gather.rows += lines
            self.gathered += len(piece)
            if gather.size >= self._bytes or gather.rows >= self._rows:
                self._roll(path)
        if self.gathered > self._total:
            self._shed()

    def due(self, now: float) -> list[Pack]:
        """Packs that are full, were rolled to keep the total, or whose first line is `age` seconds old."""
        while self._open:
            path, gather = next(iter(self._open.items()))
            if now - gather.opened < self._age:
                break
            self._roll(path)
        ready, self._ready = self._ready, []
        return ready

    def flush_all(self) -> list[Pack]:
        """Everything, whatever its size: the oldest path first."""
        for path in list(self._open):
            self._roll(path)
        ready, self._ready = self._ready, []
        return ready

    def _roll(self, path: str) -> None:
        gather = self._open.pop(path)
        self.gathered -= gather.size
        self._ready.append(Pack(b"".join(gather.pieces), gather.rows, path, tuple(gather.spans)))

    def _shed(self) -> None:
        # Down to half at once: sorting the paths then costs little per line, however many paths there are.
        for path in sorted(self._open, key=lambda path: self._open[path].size, reverse=True):
            if self.gathered <= self._total // 2:
                break
            self._roll(path)
