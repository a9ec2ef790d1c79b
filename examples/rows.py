"""Rows of one bundle on standard input: `python examples/rows.py < bundle.json`."""

import sys

from lmstream import Engine, Record, Settings
from lmstream.errors import DecodeError


def main() -> int:
    """Print the rows, and say what became no row."""
    engine = Engine(Settings(org_id="acme"))
    record = Record(topic="example", partition=0, offset=0, timestamp=0, value=sys.stdin.buffer.read())
    try:
        out = engine.fan_out(record)
    except DecodeError as error:
        print(f"no bundle: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(out.ndjson())
    for ordinal, reason in out.rejected:
        print(f"no row ({reason}): {out.why(ordinal)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
