"""Latency of one bundle, wall clock: percentiles over bundles, by size, format and state of the caches."""

import gc
import time
from statistics import quantiles
from typing import Any

from benchmarks.corpus import SIZES, Encoding, corpus
from benchmarks.measure import engine

BUNDLES = {"small": 1000, "medium": 100, "large": 10}
PASSES = 5
"""Polls of the corpus; all of their bundles count."""
PERCENTILES = (50, 90, 99)


def measured(passes: int = PASSES) -> list[dict[str, Any]]:
    """Microseconds, a mapping for each size, format and state of the caches."""
    encodings: tuple[Encoding, ...] = ("json", "proto")
    return [
        _one(size, encoding, passes, cold=cold) for size in SIZES for encoding in encodings for cold in (False, True)
    ]


def _one(size: str, encoding: Encoding, passes: int, *, cold: bool) -> dict[str, Any]:
    mine, took = engine(), []
    rows = 0
    for minute in range(passes + 1):
        polled = corpus(size, encoding, minute=minute, bundles=BUNDLES[size])
        gc.collect()
        for record in polled.records:
            if cold:
                mine.clear_caches()
            start = time.perf_counter()
            mine.fan_out(record).ndjson()
            took.append(1e6 * (time.perf_counter() - start))
        if minute == 0:
            took.clear()  # the first poll fills the caches
        rows = sum(polled.rows)
    cut = quantiles(took, n=100, method="inclusive")
    return {
        "size": size,
        "format": encoding,
        "caches": "cold" if cold else "warm",
        "rows_a_bundle": rows / BUNDLES[size],
        **{f"p{p}_us": cut[p - 1] for p in PERCENTILES},
        "most_us": max(took),
    }


def table(found: list[dict[str, Any]]) -> list[list[str]]:
    """The same as text: a head and a row for each."""
    head = ["bundle", "rows", "format", "caches", *(f"p{p} us" for p in PERCENTILES), "most us"]
    keys = (*(f"p{p}_us" for p in PERCENTILES), "most_us")
    rows = [
        [of["size"], f"{of['rows_a_bundle']:,.0f}", of["format"], of["caches"], *(f"{of[key]:,.0f}" for key in keys)]
        for of in found
    ]
    return [head, *rows]
