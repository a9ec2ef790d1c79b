"""The dimension rows of one window or replay: each once, whatever the order of records, in objects of their own."""

from collections.abc import Iterable
from typing import Final

from lmstream.engine.dimension_line import DimensionLine
from lmstream.lake.claims import Put
from lmstream.lake.digests import add, hexadecimal
from lmstream.lake.formats import Format, Gather

_ENTRY: Final = 200  # of a key, its text and its slot


class DimensionRows:
    """Dimension rows, by path and key."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, bytes]] = {}

    @property
    def paths(self) -> int:
        """Paths with any: each becomes an object."""
        return len(self._of)

    def add(self, lines: Iterable[DimensionLine]) -> tuple[int, int]:
        """Take those that a record needs; answers bytes of those that are new, and what they take in memory."""
        grown = new = 0
        for path, _, key, line in lines:
            known = self._of.get(path)
            if known is None:
                known = self._of[path] = {}
            if key not in known:
                known[key] = line
                grown += len(line)
                new += 1
        return grown, grown + _ENTRY * new

    def entries(self) -> list[Put]:
        """What a claim says of their objects, paths in order."""
        made = []
        for path, known in sorted(self._of.items()):
            digest = 0
            for line in known.values():
                digest = add(digest, line)
            made.append(Put(path=path, piece=0, rows=len(known), digest=hexadecimal(digest)))
        return made

    def put(self, form: Format) -> list[tuple[Put, Gather]]:
        """Their objects, paths and keys in order."""
        made = []
        for entry in self.entries():
            known, gather = self._of[entry.path], form.gather()
            gather.add((entry.path, b"".join([known[key] for key in sorted(known)]), entry.rows), None)
            made.append((entry, gather))
        return made
