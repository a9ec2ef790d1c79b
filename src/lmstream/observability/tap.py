"""A tap on a running host: some of its rows as they are made, for a person who looks. It never slows the run: it
looks at rows for 2 % of the time at most, holds a few of them, and counts what it leaves out."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from lmstream.engine import Engine, FanOut
from lmstream.errors import coded
from lmstream.model import Record
from lmstream.settings import MIB, Settings

log: Final = logging.getLogger("lmstream.tap")

LISTENERS: Final = 4
"""Who may listen at a time."""
SHARE: Final = 0.02
"""Part of the run's time in which rows are looked at."""
BURST: Final = 0.02
"""Seconds of it that are saved up at most."""
HELD_ROWS: Final = 1_000
HELD_BYTES: Final = 4 * MIB
"""Rows that wait for one listener, who may be slow."""
LOOKED: Final = 200
"""Rows of one record that are looked at: some 2 ms."""
HIDDEN: Final = "***"
"""In the place of a value that is masked."""


class Filter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a listener wants to see. Empty is everything."""

    org: str = ""
    """orgId of the rows."""
    metric: str = ""
    """Name of the metric, with * and ? for any characters."""
    device: str = ""
    """deviceId or deviceName, with * and ?."""
    row: str = ""
    """rowId, or its part before the colon, for the rows of one record."""
    rate: Annotated[float, Meta(gt=0, le=1_000)] = 10.0
    """Rows a second; more are left out."""
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    """Rows after which it ends."""
    mask: tuple[str, ...] = ()
    """Attributes and fields whose values are replaced by ***."""


class _Seen(Struct):
    """What of a row a filter looks at."""

    org: str = msgspec.field(name="orgId", default="")
    metric: str = ""
    device: str = msgspec.field(name="deviceId", default="")
    device_name: str = msgspec.field(name="deviceName", default="")
    row: str = msgspec.field(name="rowId", default="")


_SEEN: Final = msgspec.json.Decoder(_Seen)


class Listener:
    """One who listens: what waits for him, and how much he does not see."""

    def __init__(self, wanted: Filter, masked: frozenset[str], now: float) -> None:
        self.left_out = 0
        """Rows that matched and were too many, or that nobody had the time to look at."""
        self.sent = 0
        self.changed = asyncio.Event()
        self._wanted, self._masked = wanted, masked
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._room, self._at = max(1.0, wanted.rate), now

    def wants(self, row: _Seen) -> bool:
        """Whether a row passes the filter."""
        wanted = self._wanted
        return (
            (not wanted.org or row.org == wanted.org)
            and (not wanted.metric or fnmatchcase(row.metric, wanted.metric))
            and (not wanted.device or any(fnmatchcase(one, wanted.device) for one in (row.device, row.device_name)))
            and (not wanted.row or wanted.row in (row.row, row.row.partition(":")[0]))
        )

    def offer(self, line: bytes, now: float) -> None:
        """Take a row that passes the filter, or count it."""
        rate = self._wanted.rate
        self._room = min(max(1.0, rate), self._room + (now - self._at) * rate)
        self._at = now
        full = len(self._waiting) >= HELD_ROWS or self._bytes + len(line) > HELD_BYTES
        if self._room < 1 or full or self.sent + len(self._waiting) >= self._wanted.count:
            self.left_out += 1
            return
        self._room -= 1
        shown = masked(line, self._masked) if self._masked else line
        self._waiting.append(shown)
        self._bytes += len(shown)
        self.changed.set()

    def take(self) -> Iterator[bytes]:
        """What waits, each row once."""
        while self._waiting:
            line = self._waiting.popleft()
            self._bytes -= len(line)
            self.sent += 1
            yield line

    @property
    def done(self) -> bool:
        """Whether all rows that were wanted are sent."""
        return self.sent >= self._wanted.count


class Tap:
    """Gives rows to those who listen. Without anybody it costs one comparison a record."""

    def __init__(self, masks: tuple[str, ...] = (), clock: Callable[[], float] = time.perf_counter) -> None:
        """`masks` are hidden from everybody. `clock` measures what looking costs."""
        self.listeners: list[Listener] = []
        self._masks, self._clock = frozenset(masks), clock
        self._spare, self._at = BURST, clock()

    def listen(self, wanted: Filter) -> Listener | None:
        """One more who listens; None when there are enough."""
        if len(self.listeners) >= LISTENERS:
            return None
        made = Listener(wanted, self._masks | frozenset(wanted.mask), self._clock())
        self.listeners.append(made)
        return made

    def offer(self, out: FanOut) -> None:
        """Show the rows of one record, as far as the time allows. Raises nothing: a fault here ends the tap alone."""
        began = self._clock()
        self._spare = min(BURST, self._spare + (began - self._at) * SHARE)
        self._at = began
        looked = 0
        if self._spare > 0:
            try:
                for line in out.first(LOOKED).splitlines(keepends=True):
                    row = _SEEN.decode(line)
                    for each in self.listeners:
                        if each.wants(row):
                            each.offer(line, began)
                    looked += 1
            except Exception:
                log.exception(
                    "the tap is closed by an error of its own; the run continues", extra=coded("bug.unexpected")
                )
                self.listeners.clear()
            self._spare -= self._clock() - began
        if looked < out.rows:
            for each in self.listeners:
                each.left_out += out.rows - looked


class TappedEngine(Engine):
    """An engine whose rows can be looked at."""

    def __init__(self, settings: Settings, tap: Tap) -> None:
        super().__init__(settings)
        self._tap = tap

    def fan_out(self, record: Record) -> FanOut:
        out = super().fan_out(record)
        if self._tap.listeners and out.rows:
            self._tap.offer(out)
        return out


def masked(line: bytes, names: frozenset[str]) -> bytes:
    """A row with the values of these attributes and fields hidden, wherever they are in it."""
    return msgspec.json.encode(_hidden(msgspec.json.decode(line), names)) + b"\n"


def _hidden(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if name in names else _hidden(each, names) for name, each in value.items()}
    return [_hidden(each, names) for each in value] if isinstance(value, list) else value
