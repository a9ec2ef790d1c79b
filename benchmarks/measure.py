"""Verify that all variants make the same rows, then time them side by side on CPU time.

The machine may be shared and changes pace, so variants alternate slice by slice of the corpus in shuffled order, and
what counts are ratios: the median over rounds of each round's ratio. CPU time alone; garbage collection stays on, and
is settled before every slice, so that nobody pays for another's garbage.
"""

import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks import baselines, floor
from benchmarks.corpus import SIZES, Corpus, Encoding, corpus
from benchmarks.yardstick import switched
from lmstream import Engine, Record, Settings

SLICES = 10
CODEC = "otlp_json"
PLAIN = ", plain"
"""How names of variants end that leave the native part out."""
ENCODINGS: tuple[Encoding, ...] = ("json", "proto")

Run = Callable[[Sequence[Record]], float]


class MismatchError(Exception):
    """A variant makes other rows than the engine: its figure would mean nothing."""


class Variant(NamedTuple):
    """One way to do the work. `run` answers the seconds of CPU that it took for some records."""

    name: str
    run: Run
    encoding: Encoding = "json"
    engine: Engine | None = None
    """Emptied and warmed on the minute before at the start of every round."""


class Timing(NamedTuple):
    """What one size took: seconds of CPU per round and variant."""

    size: str
    rows: int
    bundles: int
    payload_bytes: int
    seconds: dict[str, list[float]]

    def best(self, variant: str) -> float:
        """Nanoseconds a row in the quickest round."""
        return min(self.seconds[variant]) / self.rows * 1e9

    def ratio(self, of: str, to: str) -> float:
        """Median over rounds of what `of` takes, in units of what `to` takes."""
        return median(a / b for a, b in zip(self.seconds[of], self.seconds[to], strict=True))

    def shares(self, engine: str) -> dict[str, float]:
        """What decode, fan-out and encode take of that engine's time; together 1. Timed from outside: the codec alone;
        `fan_out` without joining, less that; the whole, less that.
        """
        decode, without_lines = (self.ratio(engine.replace("engine", part), engine) for part in ("decode", "fan_out"))
        return {"decode": decode, "fan_out": without_lines - decode, "encode": 1 - without_lines}


def engine(*, plain: bool = False) -> Engine:
    """The engine as measured everywhere here: with the native part where it is installed, unless `plain`. Its codecs
    are loaded, for the switch is read when they are."""
    with switched("plain" if plain else "native"):
        made = Engine(Settings(org_id=baselines.ORG))
        for encoding in ENCODINGS:
            made.fan_out(corpus("small", encoding, bundles=1).records[0])
    made.clear_caches()
    return made


def _each(call: Callable[[Record], object]) -> Run:
    def run(records: Sequence[Record]) -> float:
        start = time.process_time()
        for record in records:
            call(record)
        return time.process_time() - start

    return run


def _each_cold(of: Engine) -> Run:
    def run(records: Sequence[Record]) -> float:
        spent = 0.0
        for record in records:
            of.clear_caches()  # not timed: nobody does that in earnest
            start = time.process_time()
            of.fan_out(record).ndjson()
            spent += time.process_time() - start
        return spent

    return run


def variants(names: Sequence[str]) -> list[Variant]:
    """The named variants. Each has an engine of its own, so that none warms the caches of another."""

    def lines(mine: Engine, record: Record) -> object:
        return mine.fan_out(record).ndjson()

    def warm(call: Callable[[Engine, Record], object], encoding: Encoding = "json") -> Callable[[str], Variant]:
        def made(name: str) -> Variant:
            mine = engine(plain=name.endswith(PLAIN))
            return Variant(name, _each(lambda record: call(mine, record)), encoding, mine)

        return made

    def other(call: Callable[[Record], object], encoding: Encoding = "json") -> Callable[[str], Variant]:
        return lambda name: Variant(name, _each(call), encoding)

    made: dict[str, Callable[[str], Variant]] = {
        "engine": warm(lines),
        "decode": warm(lambda mine, record: mine.codecs[CODEC].decode(record.value or b"")),
        "fan_out": warm(lambda mine, record: mine.fan_out(record)),
        "engine cold": lambda name: Variant(name, _each_cold(engine(plain=name.endswith(PLAIN)))),
        "engine protobuf": warm(lines, "proto"),
        "orjson": other(baselines.orjson_lines),
        "json toy": other(baselines.json_lines),
        "upb": other(baselines.upb_lines, "proto"),
        "typed decode": other(floor.typed_decode),
    }
    return [made[name.removesuffix(PLAIN)](name) for name in names]


def verify(size: str, bundles: int) -> int:
    """Compare the engine's rows with those of every baseline, parsed; answers how many rows were compared."""
    plain, proto = corpus(size, bundles=bundles), corpus(size, "proto", bundles=bundles)
    mine, plain_one = engine(), engine(plain=True)
    for number, (of_json, of_proto, rows) in enumerate(zip(plain.records, proto.records, plain.rows, strict=True)):
        data = mine.fan_out(of_json).ndjson()
        if mine.fan_out(of_proto).ndjson() != data:
            raise MismatchError(f"{size} bundle {number}: the engine's lines from protobuf are not those from JSON")
        if not data == plain_one.fan_out(of_json).ndjson() == plain_one.fan_out(of_proto).ndjson():
            raise MismatchError(f"{size} bundle {number}: the plain engine's lines are not those of the native part")
        expected = _parsed(data)
        if len(expected) != rows:
            raise MismatchError(f"{size} bundle {number}: {rows} data points, but {len(expected)} rows of the engine")
        for name, baseline, record in (
            *((name, baseline, of_json) for name, baseline in baselines.JSON_BASELINES.items()),
            *((name, baseline, of_proto) for name, baseline in baselines.PROTO_BASELINES.items()),
        ):
            found = _parsed(baseline(record))
            if found != expected:
                differ = next((pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]), "count")
                raise MismatchError(f"{size} bundle {number}: {name} differs from the engine: {differ}")
    return sum(plain.rows)


def _parsed(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def measure(size: str, names: Sequence[str], *, rounds: int, share: int = 1, seconds: float = 0) -> Timing:
    """Time the named variants on one size: `rounds` rounds, or more until `seconds` have passed. A `share` of 4 takes a
    quarter of the bundles.
    """
    bundles = max(SIZES[size].bundles // share, 2)
    todo = variants(names)
    encodings = sorted({variant.encoding for variant in todo})
    before = {encoding: corpus(size, encoding, minute=0, bundles=bundles) for encoding in encodings}
    now = {encoding: corpus(size, encoding, minute=1, bundles=bundles) for encoding in encodings}
    order = random.Random(0)
    spent: dict[str, list[float]] = {variant.name: [] for variant in todo}
    until = time.monotonic() + seconds
    _warm(todo, before)
    gc.collect()
    gc.freeze()  # else the collector walks the corpus and all modules again and again
    try:
        done = 0
        while done < rounds or time.monotonic() < until:
            _warm(todo, before)
            totals = _round(todo, now, order)
            for name, total in totals.items():
                spent[name].append(total)
            done += 1
    finally:
        gc.unfreeze()
    of_json = now["json"]
    size_bytes = sum(len(record.value or b"") for record in of_json.records)
    return Timing(size, sum(of_json.rows), bundles, size_bytes, spent)


def _warm(todo: Sequence[Variant], before: dict[Encoding, Corpus]) -> None:
    """Let every engine begin a round like a steady consumer: it has seen the same fleet a minute ago, but none of this
    minute's times, scopes (they carry an epoch) and one-off attributes.
    """
    for variant in todo:
        if variant.engine is not None:
            variant.engine.clear_caches()
            for record in before[variant.encoding].records:
                variant.engine.fan_out(record)


def _round(todo: Sequence[Variant], now: dict[Encoding, Corpus], order: random.Random) -> dict[str, float]:
    """One pass over the corpus, all variants on a slice before the next slice; seconds of CPU by variant."""
    totals = dict.fromkeys((variant.name for variant in todo), 0.0)
    turns = list(todo)
    count = min(SLICES, len(next(iter(now.values())).records))
    for part in range(count):
        order.shuffle(turns)
        for variant in turns:
            records = now[variant.encoding].records[part::count]
            gc.collect()
            totals[variant.name] += variant.run(records)
    return totals
