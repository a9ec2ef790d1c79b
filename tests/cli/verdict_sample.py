"""Write docs/verdict.html anew: the page of `verify --html` for a run in which some rows went astray.

PYTHONPATH=tests .venv/bin/python tests/cli/verdict_sample.py
"""

from itertools import islice
from pathlib import Path

from lmstream import Engine, Record, Settings
from lmstream.lab.generator import Generator
from lmstream.verification import Checker, expectation
from lmstream.verification.report_html import page

SAMPLE = Path(__file__).parents[2] / "docs" / "verdict.html"
START = 1_764_000_000_000


def sample():
    """The page: three partitions, five lost rows, forty copies, a stranger, and dead letters that are there or not."""
    engine, checker = Engine(Settings(org_id="acme")), Checker()
    rows = []
    bundles = Generator(instances=4, seed=7, poison=0.02, start_ms=START).bundles()
    for n, bundle in enumerate(islice(bundles, 240)):
        record = Record(
            topic="lm.metrics.otlp", partition=n % 3, offset=1200 + n // 3, timestamp=START, value=bundle.payload
        )
        expected = expectation(engine, record, "")
        checker.expect(expected)
        if not expected.poison:
            rows += engine.fan_out(record).ndjson().splitlines()
    for line in [*rows[:-5], *rows[:40], b'{"rowId":"00000000000000000000000000000000:0"}']:
        checker.found(line)
    what = {
        "expected": "topic lm.metrics.otlp --from 0=1200 --to 0=1280",
        "landed": "s3://lake/",
        "dead letters": "s3://lake-dead-letters/",
    }
    return page(checker.report(), what, at="2026-11-25 03:12:00 UTC")


if __name__ == "__main__":
    SAMPLE.write_text(sample(), encoding="utf-8")
