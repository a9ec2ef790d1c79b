"""Find rows that landed twice: within a window row by row, across windows and objects record by record."""

from array import array
from typing import Final

from lmstream.verification.lake.object_rows import Id

_ORDINALS: Final = 10_000_000
"""Of one record: more than any has; lmstream wrote no row that says more."""
_MOST: Final = 32_000_000
"""Records that are told apart across windows: 512 MiB, and some days of a million rows a minute."""


class Numbers:
    """A set of 64-bit numbers in 16 bytes each: Python's own takes 70 or more."""

    def __init__(self, most: int) -> None:
        """It takes `most` of them; from then on none is added."""
        self.count = 0
        self._most = most
        self._slots = array("Q", bytes(8 << 10))

    def __contains__(self, number: int) -> bool:
        return self._slots[self._at(number)] != 0

    @property
    def full(self) -> bool:
        """Whether no more are added."""
        return self.count >= self._most

    def add(self, number: int) -> None:
        """Add a number, if there is room."""
        at = self._at(number)
        if self._slots[at] or self.full:
            return
        self._slots[at] = _proper(number)
        self.count += 1
        if self.count * 2 > len(self._slots):
            before = self._slots
            self._slots = array("Q", bytes(8)) * (len(before) * 2)
            for each in before:
                if each:
                    self._slots[self._at(each)] = each

    def _at(self, number: int) -> int:
        """Where a number is, or belongs."""
        wanted, slots = _proper(number), self._slots
        mask = len(slots) - 1
        at = wanted & mask
        while slots[at] not in (0, wanted):
            at = (at + 1) & mask
        return at


def _proper(number: int) -> int:
    """0 marks a free slot."""
    return (number & 0xFFFF_FFFF_FFFF_FFFF) or 1


class Copies:
    """Row ids of the window that is read, and records of all windows before it."""

    def __init__(self) -> None:
        self.records = Numbers(_MOST)
        self._window: dict[bytes, bytearray] = {}
        self._rows: dict[bytes, int] = {}
        self._twice = 0
        self._odd: list[str] = []

    def note(self, ids: list[Id]) -> None:
        """Take rows of an object of the window."""
        window = self._window
        for bundle, ordinal in ids:
            bits = window.get(bundle)
            if bits is None:
                bits = window[bundle] = bytearray(8)
                self._rows[bundle] = 0
            self._rows[bundle] += 1
            at, bit = ordinal >> 3, 1 << (ordinal & 7)
            if at >= len(bits):
                if ordinal > _ORDINALS:
                    continue
                bits.extend(bytes(at + 1 - len(bits)))
            if bits[at] & bit:
                self._twice += 1
                if len(self._odd) < 3:  # noqa: PLR2004 - names enough to look at
                    self._odd.append(f"{bundle.decode('utf-8', 'replace')}:{ordinal}")
            bits[at] |= bit

    def end(self, *, across: bool = True) -> tuple[int, list[str]]:
        """End the window: how many of its rows are copies of others, and some of their names. Rows of one record lie in
        one window; unless this is `across` windows, they may lie in others too."""
        twice, names = self._twice, self._odd
        for bundle in self._window if across else ():
            number = hash(bundle)
            if number in self.records:
                twice += self._rows[bundle]
                names.append(f"{bundle.decode('utf-8', 'replace')} (has rows in an earlier window too)")
            self.records.add(number)
        self.forget()
        return twice, names

    def forget(self) -> None:
        """Forget the window: it is read once more later."""
        self._window, self._rows, self._twice, self._odd = {}, {}, 0, []
