"""`python -m benchmarks.dimensions [MINUTES]`: bytes of lines with engine.dimensions and without.

A count, not a measurement: the same on every machine.
"""

import sys
from typing import NamedTuple

from benchmarks.corpus import SIZES, corpus
from benchmarks.yardstick import settle
from lmstream import Engine, Settings

MINUTES = 10


class Bytes(NamedTuple):
    """Of a corpus, a row."""

    without: float
    rows: float
    dimensions: float
    """Dimension rows, each once an hour."""

    @property
    def share(self) -> float:
        """Of the bytes without the option."""
        return (self.rows + self.dimensions) / self.without


def measured(size: str, minutes: int = MINUTES) -> Bytes:
    """Bytes of a size's bundles over so many minutes."""
    off, on = Engine(Settings(org_id="acme")), Engine(Settings(org_id="acme", dimensions=True))
    rows = without = keyed = 0
    lines: dict[tuple[str, str], int] = {}
    for minute in range(minutes):
        for record in corpus(size, "json", minute=minute, bundles=SIZES[size].bundles).records:
            out = on.fan_out(record)
            rows += out.rows
            without += len(off.fan_out(record).ndjson())
            keyed += len(out.ndjson())
            lines.update({(each.path, each.key): len(each.line) for each in out.dimensions})
    return Bytes(without / rows, keyed / rows, sum(lines.values()) / rows)


def main() -> None:
    """Print a line for each size."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    for size in SIZES:
        of = measured(size, minutes)
        print(
            f"{size}: {of.without:.0f} bytes a row without; with dimensions {of.rows:.0f} and {of.dimensions:.1f} of "
            f"dimension rows over {minutes} minutes: {of.share:.1%}"
        )


if __name__ == "__main__":
    settle()
    main()
