"""Latency of one bundle, by size, format and state of the caches: `.venv/bin/pytest benchmarks`. No targets, a look."""

import pytest

from benchmarks.corpus import SIZES, corpus
from benchmarks.measure import engine
from lmstream import Record

ROUNDS = {"small": 300, "medium": 60, "large": 10}  # bundles of each size; each is fanned out once


@pytest.mark.parametrize("caches", ["warm", "cold"])
@pytest.mark.parametrize("encoding", ["json", "proto"])
@pytest.mark.parametrize("size", SIZES)
def test_latency_of_one_bundle(benchmark, size, encoding, caches):
    mine = engine()
    seen, coming = (corpus(size, encoding, minute=minute, bundles=ROUNDS[size]) for minute in (0, 1))
    for record in seen.records:
        mine.fan_out(record)
    records = iter(coming.records)

    def next_bundle():
        if caches == "cold":
            mine.clear_caches()
        return (next(records),), {}

    def transform(record: Record) -> bytes:
        return mine.fan_out(record).ndjson()

    benchmark.group = f"{size}, {encoding}"
    benchmark.extra_info["rows per bundle"] = sum(coming.rows) / len(coming.rows)
    data = benchmark.pedantic(transform, setup=next_bundle, rounds=ROUNDS[size], iterations=1)
    assert data.count(b"\n") == coming.rows[-1]
